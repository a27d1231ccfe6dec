//! Plugins that are linked: the way of events, answers and commands, and what happens when one breaks.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use switchyard_sdk::abi::{ABI_VERSION, Event, HostTable, MAGIC, PluginEntry, Str, event};
use switchyard_sdk::prelude::{
    CommandError, Context, Decision, LegId, Offer, OneOf, Plugin, Reserve, Reserved, Resume, Terms, first,
};
use switchyard_sdk::types::{Code, FlowId, Party, Refusal};
use switchyard_sdk::{entry, ext::orbit};

use super::*;
use crate::time::{Instant, Now, Utc};

/// Does what the offered service is called.
#[derive(Default)]
struct Tester {
    offers: Cell<u32>,
}

impl Plugin for Tester {
    const NAME: &'static str = "tester";
    const VERSION: &'static str = "1.2.3";
    const MANIFEST: &'static str = r#"{
        "kinds": ["test"], "services": ["one", "two"], "sections": [{ "name": "tests", "hooks": [{ "name": "allow" }] }],
        "extensions": ["switchyard.call/1", "switchyard.orbit/1", "switchyard.policy/1", "switchyard.timer/1"]
    }"#;
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, offer: Offer) -> Result<(), CommandError> {
        self.offers.set(self.offers.get() + 1);
        let leg = LegId(1);
        match offer.service.as_deref().unwrap_or_default() {
            "reserve" => {
                let orbit = cx.orbits().reserve(&Reserve::default()).await?;
                cx.calls().refuse(&Refusal::new(Code::FULL, orbit.number));
                Ok(())
            }
            "wait" => {
                first((cx.calls().watch(leg), cx.timer().after(Duration::from_secs(90)))).await;
                Ok(())
            }
            "panic" => panic!("at once"),
            "panic later" => {
                cx.calls().watch(leg).await?;
                panic!("later");
            }
            "policy" => {
                let settings: serde_json::Value = cx.policy().settings("east", "tests")?;
                let decision = cx.policy().decide("east", "tests.allow", &json!({ "a": 1 }))?;
                let foreign = cx.policy().settings::<serde_json::Value>("east", "resiliency").is_err();
                let unknown = cx.policy().decide("east", "tests.alow", &()).is_err();
                let text = format!("{settings} {:?} {foreign} {unknown}", decision.reason);
                Err(CommandError::new(Code::GENERAL, text))
            }
            "now" => Err(CommandError::new(Code::GENERAL, format!("{} {:?}", cx.now().ms(), cx.elapsed()))),
            "park" => rest(cx, leg).await,
            other => Err(CommandError::new(Code::GENERAL, format!("no such test: {other}"))),
        }
    }

    async fn resume(self: Rc<Self>, cx: Context, resume: Resume) -> Result<(), CommandError> {
        rest(cx, resume.leg).await
    }
}

async fn rest(cx: Context, leg: LegId) -> Result<(), CommandError> {
    let _rest = cx.rest(&orbit::Commit { number: "7001".into(), ..Default::default() });
    match first((cx.calls().watch(leg), cx.orbits().claimed("7001"))).await {
        OneOf::A(ended) => ended.map(drop),
        OneOf::B(claimed) => claimed.map(drop),
    }
}

struct Office;

impl PolicySource for Office {
    fn settings(&self, pool: &str, section: &str) -> Option<&str> {
        (pool == "east" && section == "tests").then_some(r#"{"patience_ms":5}"#)
    }
    fn decide(&mut self, now: Now, _pool: &str, hook: &str, args: &serde_json::Value) -> Decision {
        let reason = format!("{hook} {args} {}", now.utc.0);
        Decision { allowed: false, reason: Some(reason), ..Decision::default() }
    }
}

fn now() -> Now {
    Now { instant: Instant::after_start(Duration::from_secs(7)), utc: Utc(1_800_000_000_000) }
}

fn started(entries: &[&'static PluginEntry]) -> Plugins {
    let mut plugins = Plugins::from_entries(entries);
    plugins.start(now(), Rc::new(RefCell::new(Office)));
    plugins
}

fn offer(plugins: &mut Plugins, service: &str) -> FlowId {
    let instance = plugins.for_kind("test").unwrap();
    plugins.offer(now(), instance, &Offer::dialled(service))
}

fn verbs(plugins: &mut Plugins) -> Vec<Verb> {
    std::iter::from_fn(|| plugins.poll_command()).map(|command| command.verb).collect()
}

fn next(plugins: &mut Plugins) -> Command {
    plugins.poll_command().unwrap()
}

fn waiter(command: &Command) -> Waiter {
    let token = match &command.verb {
        Verb::Reserve(token, _) | Verb::Watch(token, _) | Verb::At(token, _) => *token,
        other => panic!("{other:?} is not answered"),
    };
    Waiter { instance: command.instance, token }
}

fn failures(plugins: &Plugins) -> u64 {
    plugins.list()[0]["failures"].as_u64().unwrap()
}

#[test]
fn an_offer_becomes_a_flow_and_its_commands_are_polled() {
    let mut plugins = started(&[entry::<Tester>()]);
    assert_eq!(plugins.kinds(), ["test"]);
    assert_eq!(plugins.sections()[0].name, "tests");
    assert_eq!(plugins.for_service("two"), plugins.for_kind("test"));
    assert_eq!(plugins.for_service("park"), None);

    let flow = offer(&mut plugins, "reserve");
    let reserve = next(&mut plugins);
    assert_eq!(reserve.flow, flow);
    assert_eq!(plugins.poll_command(), None);
    let reserved = Reserved { number: "7001".into(), token: "t".into(), range: "east-park".into() };
    plugins.answer(now(), waiter(&reserve), Ok(&reserved));
    let refusal = Refusal::new(Code::FULL, "7001");
    assert_eq!(verbs(&mut plugins), [Verb::Refuse(refusal), Verb::FlowEnd(FlowEnd::Done, String::new())]);
    // The answer came; another one is nobody's.
    plugins.answer(now(), waiter(&reserve), Ok(&reserved));
    assert_eq!(verbs(&mut plugins), []);
    assert_eq!(failures(&plugins), 0);
}

#[test]
fn a_refusal_arrives_with_its_words() {
    let mut plugins = started(&[entry::<Tester>()]);
    offer(&mut plugins, "reserve");
    let reserve = next(&mut plugins);
    let refusal = Refusal::new(Code::FULL, "every orbit of \"east\" is taken");
    plugins.answer::<()>(now(), waiter(&reserve), Err((&refusal, 480)));
    let message = "35002: every orbit of \"east\" is taken".to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Failed, message)]);
}

#[test]
fn what_loses_is_withdrawn() {
    let mut plugins = started(&[entry::<Tester>()]);
    offer(&mut plugins, "wait");
    let (watch, timer) = (next(&mut plugins), next(&mut plugins));
    let Verb::At(_, at) = timer.verb else { panic!("{timer:?}") };
    assert_eq!(at, now().utc + Duration::from_secs(90));
    plugins.answer(now(), waiter(&watch), Ok(&json!({ "by_party": true })));
    let Waiter { token, .. } = waiter(&timer);
    assert_eq!(verbs(&mut plugins), [Verb::Withdraw(token), Verb::FlowEnd(FlowEnd::Done, String::new())]);
    // The engine answered before it saw the withdrawal: nobody hears it.
    plugins.answer(now(), waiter(&timer), Ok(&()));
    assert_eq!(verbs(&mut plugins), []);
}

#[test]
fn a_panic_ends_its_flow_once_and_leaves_the_others() {
    let mut plugins = started(&[entry::<Tester>()]);
    let neighbour = offer(&mut plugins, "reserve");
    let reserve = next(&mut plugins);

    offer(&mut plugins, "panic");
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Panicked, "at once".into())]);
    assert_eq!(failures(&plugins), 1);
    let later = offer(&mut plugins, "panic later");
    let watch = next(&mut plugins);
    plugins.answer(now(), waiter(&watch), Ok(&json!({})));
    let end = next(&mut plugins);
    assert_eq!((end.flow, end.verb), (later, Verb::FlowEnd(FlowEnd::Panicked, "later".into())));
    plugins.cancel_flow(now(), later);
    assert_eq!(verbs(&mut plugins), []);

    plugins.cancel_flow(now(), neighbour);
    let Waiter { token, .. } = waiter(&reserve);
    let ended = Verb::FlowEnd(FlowEnd::Cancelled, String::new());
    assert_eq!(verbs(&mut plugins), [Verb::Withdraw(token), ended]);
}

#[test]
fn policies_answer_at_once_and_only_about_the_plugins_own_sections() {
    let mut plugins = started(&[entry::<Tester>()]);
    offer(&mut plugins, "policy");
    let message =
        r#"35001: {"patience_ms":5} Some("tests.allow {\"a\":1} 1800000000000") true true"#.to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Failed, message)]);
}

#[test]
fn a_flow_sees_the_time_of_its_event() {
    let mut plugins = started(&[entry::<Tester>()]);
    offer(&mut plugins, "now");
    let message = "35001: 1800000000000 7s".to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Failed, message)]);
}

#[test]
fn a_second_plugin_with_the_same_name_or_kind_is_refused() {
    #[derive(Default)]
    struct Other;
    impl Plugin for Other {
        const NAME: &'static str = "other";
        const VERSION: &'static str = "0.1.0";
        const MANIFEST: &'static str = r#"{ "services": ["two"] }"#;
        type Error = CommandError;
        async fn offer(self: Rc<Self>, _cx: Context, _offer: Offer) -> Result<(), CommandError> {
            Ok(())
        }
    }
    let plugins = started(&[entry::<Tester>(), entry::<Tester>(), entry::<Other>()]);
    let errors: Vec<_> = plugins.refused().iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "tester 1.2.3 ((linked)) declares the name tester that tester 1.2.3 ((linked)) has already: remove one \
             of them",
            "other 0.1.0 ((linked)) declares the service two that tester 1.2.3 ((linked)) has already: remove one \
             of them"
        ]
    );
    assert_eq!(plugins.list().as_array().unwrap().len(), 3);
    assert_eq!(plugins.list()[1]["state"], "refused");
}

#[test]
fn an_offer_to_nobody_fails_at_once() {
    let mut plugins = started(&[entry::<Tester>()]);
    plugins.offer(now(), InstanceId(99), &Offer::dialled("one"));
    let message = "there is no such plugin".to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Failed, message)]);
}

#[test]
fn a_parked_call_is_handed_over() {
    let mut plugins = started(&[entry::<Tester>()]);
    let instance = plugins.for_kind("test").unwrap();
    let resume = Resume {
        number: "7001".into(),
        pool: "east".into(),
        token: "t".into(),
        leg: LegId(5),
        parked: Party::default(),
        parker: Party::default(),
        terms: Terms::default(),
        state: serde_json::Value::Null,
    };
    let flow = plugins.resume(now(), instance, &resume);
    let watch = next(&mut plugins);
    assert_eq!(watch.flow, flow);
    assert!(matches!(watch.verb, Verb::Watch(_, LegId(5))));
}

// ---- a plugin in C, so to speak: it breaks the rules the SDK keeps ------------------------------------------

#[expect(unsafe_code, reason = "a plugin without the SDK")]
unsafe extern "C" fn broken_create(host: *const HostTable, context: *mut c_void) -> *mut c_void {
    Box::into_raw(Box::new((host, context))).cast()
}

#[expect(unsafe_code, reason = "a plugin without the SDK")]
unsafe extern "C" fn broken_destroy(instance: *mut c_void) {
    // SAFETY: made by `broken_create`.
    drop(unsafe { Box::from_raw(instance.cast::<(*const HostTable, *mut c_void)>()) });
}

/// Ends flow 1 twice, flow 2 never; returns nonsense for flow 3; wakes itself from a thread on flow 4.
#[expect(unsafe_code, reason = "a plugin without the SDK")]
unsafe extern "C" fn broken_event(instance: *mut c_void, event: *const Event) -> i32 {
    // SAFETY: as the host promises.
    let ((host, context), event) = unsafe { (*instance.cast::<(*const HostTable, *mut c_void)>(), *event) };
    // SAFETY: the host's table.
    let host = unsafe { &*host };
    let end = |how| {
        // SAFETY: as above.
        unsafe { (host.flow_end)(context, event.flow, how, Str::of("ended")) }
    };
    match (event.kind, event.flow) {
        (event::OFFER, 1) => {
            end(0);
            end(2);
            -3
        }
        (event::OFFER, 3) => -77,
        (event::OFFER, 4) => {
            struct Carry(*mut c_void, unsafe extern "C" fn(*mut c_void));
            // SAFETY: `wake` may be called from any thread.
            unsafe impl Send for Carry {}
            let carry = Carry(context, host.wake);
            let woken = std::thread::spawn(move || {
                let Carry(context, wake) = { carry };
                // SAFETY: as above; this function waits for the thread.
                unsafe {
                    wake(context);
                    wake(context);
                }
            });
            i32::from(woken.join().is_err())
        }
        (event::WAKE, _) => -1,
        _ => 0,
    }
}

static BROKEN: PluginEntry = PluginEntry {
    magic: MAGIC,
    abi_version: ABI_VERSION,
    size: size_of::<PluginEntry>() as u32,
    name: Str::of("broken"),
    version: Str::of("0.1.0"),
    manifest: Str::of(r#"{ "kinds": ["test"] }"#),
    unwinds: 1,
    reserved: 0,
    create: broken_create,
    destroy: broken_destroy,
    event: broken_event,
};

#[test]
fn every_flow_of_a_broken_plugin_ends_exactly_once() {
    let mut plugins = started(&[&BROKEN]);
    offer(&mut plugins, "ends twice and claims to have panicked");
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Done, "ended".into())]);
    assert_eq!(failures(&plugins), 1);

    let open = offer(&mut plugins, "never ends");
    assert_eq!(verbs(&mut plugins), []);
    plugins.cancel_flow(now(), open);
    let message = "the plugin did not end it when told to".to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Cancelled, message)]);
    assert_eq!(failures(&plugins), 2);

    offer(&mut plugins, "returns nonsense");
    let message = "on OFFER: it returned -77".to_owned();
    assert_eq!(verbs(&mut plugins), [Verb::FlowEnd(FlowEnd::Panicked, message)]);
    assert_eq!(failures(&plugins), 3);
}

#[test]
fn a_wake_up_comes_through_a_channel_once_until_it_is_delivered() {
    let mut plugins = Plugins::from_entries(&[&BROKEN]);
    let (sender, woken) = std::sync::mpsc::channel();
    plugins.on_wake(move |instance| sender.send(instance).unwrap());
    plugins.start(now(), Rc::new(RefCell::new(Office)));
    for _ in 0..4 {
        offer(&mut plugins, "the fourth wakes itself twice");
    }
    let instance = woken.recv().unwrap();
    assert_eq!(Some(instance), plugins.for_kind("test"));
    assert!(woken.try_recv().is_err(), "two wake-ups are one");
    let before = failures(&plugins);
    plugins.wake(now(), instance);
    assert_eq!(failures(&plugins), before + 1, "the event arrived; this plugin answers it with -1");
}

#[test]
fn a_plugin_that_panics_while_it_is_made_is_refused() {
    struct Stillborn;
    impl Default for Stillborn {
        fn default() -> Self {
            panic!("not today");
        }
    }
    impl Plugin for Stillborn {
        const NAME: &'static str = "stillborn";
        const VERSION: &'static str = "0.1.0";
        const MANIFEST: &'static str = r#"{ "kinds": ["test"] }"#;
        type Error = CommandError;
        async fn offer(self: Rc<Self>, _cx: Context, _offer: Offer) -> Result<(), CommandError> {
            Ok(())
        }
    }
    let plugins = started(&[entry::<Stillborn>()]);
    assert_eq!(plugins.refused(), [LoadError::NotCreated { name: "stillborn 0.1.0".into() }]);
    assert_eq!(plugins.for_kind("test"), None);
}

#[test]
fn an_entry_that_aborts_is_refused() {
    static ABORTS: PluginEntry = PluginEntry { unwinds: 0, name: Str::of("aborts"), ..BROKEN };
    let plugins = Plugins::from_entries(&[&ABORTS]);
    assert!(plugins.refused()[0].to_string().contains("panic = \"abort\""), "{:?}", plugins.refused());
    assert_eq!(plugins.kinds(), Vec::<String>::new());
}

/// Blocks in its first offer until the test lets go of the lock.
#[derive(Default)]
struct Sleeper;

static GATE: Mutex<()> = Mutex::new(());

impl Plugin for Sleeper {
    const NAME: &'static str = "sleeper";
    const VERSION: &'static str = "0.1.0";
    const MANIFEST: &'static str = r#"{ "kinds": ["test"] }"#;
    type Error = CommandError;
    async fn offer(self: Rc<Self>, _cx: Context, _offer: Offer) -> Result<(), CommandError> {
        drop(GATE.lock());
        Ok(())
    }
}

#[test]
fn the_watchdog_names_what_does_not_return() {
    let gate = GATE.lock().unwrap();
    let (sender, watchdog) = std::sync::mpsc::channel();
    let engine = std::thread::spawn(move || {
        let mut plugins = started(&[entry::<Sleeper>()]);
        sender.send(plugins.watchdog()).unwrap();
        offer(&mut plugins, "sleep").0
    });
    let mut dog = watchdog.recv().unwrap();
    let stuck = loop {
        match dog.look().unwrap() {
            Some(stuck) => break stuck,
            None => std::thread::yield_now(),
        }
    };
    drop(gate);
    let flow = engine.join().unwrap();
    assert_eq!((stuck.plugin.as_str(), stuck.event, stuck.flow), ("sleeper 0.1.0", "OFFER", flow));
    while dog.look().is_some() {
        std::thread::yield_now();
    }
}
