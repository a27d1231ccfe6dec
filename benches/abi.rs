//! One plugin call through the C ABI, against a plugin that is linked: the boundary is the same as for a loaded
//! library, a function pointer and a panic barrier. Aim: under 50 ns for the boundary itself.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use switchyard_host::plugin::{Plugins, PolicySource, Verb, Waiter};
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_sdk::abi::{Event, Str, event, status};
use switchyard_sdk::entry;
use switchyard_sdk::ext::policy::Decision;
use switchyard_sdk::host::{Command, Extension, Instance, Receiver};
use switchyard_sdk::prelude::{CommandError, Context, LegId, Offer, OneOf, Plugin, first};
use switchyard_sdk::types::{FlowId, Token};

/// Waits for a hang-up, a claim or the next tick, as a parked call does; each tick begins anew.
#[derive(Default)]
struct Waiting;

impl Plugin for Waiting {
    const NAME: &'static str = "waiting";
    const VERSION: &'static str = "0.1.0";
    const MANIFEST: &'static str = r#"{ "kinds": ["bench"],
        "extensions": ["switchyard.call/1", "switchyard.orbit/1", "switchyard.timer/1"] }"#;
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, _offer: Offer) -> Result<(), CommandError> {
        let mut gone = cx.calls().watch(LegId(1));
        let mut claimed = cx.orbits().claimed("7001");
        loop {
            let tick = cx.timer().after(Duration::from_secs(90));
            match first((&mut gone, &mut claimed, tick)).await {
                OneOf::A(ended) => return ended.map(drop),
                OneOf::B(claimed) => return claimed.map(drop),
                OneOf::C(tick) => tick?,
            }
        }
    }
}

/// Takes everything and remembers the last timer.
#[derive(Default)]
struct Ear(Rc<Cell<u64>>);

impl Receiver for Ear {
    fn granted(&self, _: Extension) -> bool {
        true
    }
    fn command(&self, _: FlowId, token: Option<Token>, command: Command) -> i32 {
        if let (Command::At(_), Some(Token(token))) = (command, token) {
            self.0.set(token);
        }
        status::TAKEN
    }
    fn settings(&self, _: &str, _: &str, _: &mut dyn FnMut(&str)) -> i32 {
        status::INVALID
    }
    fn decide(&self, _: &str, _: &str, _: &str, _: &mut dyn FnMut(&str)) -> i32 {
        status::INVALID
    }
    fn log(&self, _: FlowId, _: u32, _: &str) {}
    fn count(&self, _: &str, _: u64) {}
}

fn happening(kind: u32, token: u64, flow: u64, payload: &str) -> Event {
    Event {
        size: size_of::<Event>() as u32,
        kind,
        token,
        flow,
        code: 0,
        sip_status: 0,
        now_ns: 1,
        now_utc_ms: 1,
        payload: Str::of(payload),
    }
}

/// The boundary and the executor, with a host that does nothing.
fn boundary(c: &mut Criterion) {
    let timer = Rc::new(Cell::new(0));
    #[expect(unsafe_code, reason = "calls the functions of an entry")]
    // SAFETY: an entry of the SDK's.
    let instance = unsafe { Instance::create(entry::<Waiting>(), Ear(Rc::clone(&timer)), Arc::new(|| {})) };
    let Some(mut instance) = instance else { return };
    let offer = serde_json::to_string(&Offer::dialled("")).unwrap_or_default();
    instance.deliver(&happening(event::OFFER, 0, 1, &offer));

    c.bench_function("abi/event nobody waits for", |b| {
        let event = happening(event::ANSWER, u64::MAX, 0, "");
        b.iter(|| instance.deliver(black_box(&event)));
    });
    c.bench_function("abi/answer resumes a flow, which sets a timer", |b| {
        b.iter(|| instance.deliver(black_box(&happening(event::ANSWER, timer.get(), 0, ""))));
    });
}

struct NoPolicy;

impl PolicySource for NoPolicy {
    fn settings(&self, _: &str, _: &str) -> Option<&str> {
        None
    }
    fn decide(&mut self, _: Now, _: &str, _: &str, _: &serde_json::Value) -> Decision {
        Decision::default()
    }
}

/// The same with the host's books.
fn plugins(c: &mut Criterion) {
    let now = Now { instant: Instant::ZERO, utc: Utc(1) };
    let mut plugins = Plugins::from_entries(&[entry::<Waiting>()]);
    plugins.start(now, Rc::new(RefCell::new(NoPolicy)));
    let Some(instance) = plugins.for_kind("bench") else { return };
    let mut timer = None;
    let mut drain = |plugins: &mut Plugins| {
        while let Some(command) = plugins.poll_command() {
            if let Verb::At(token, _) = command.verb {
                timer = Some(Waiter { instance, token });
            }
        }
        timer
    };
    plugins.offer(now, instance, &Offer::dialled(""));
    let mut waiter = drain(&mut plugins);
    c.bench_function("plugins/answer resumes a flow, which sets a timer", |b| {
        b.iter(|| {
            if let Some(waiter) = waiter {
                plugins.answer(now, waiter, Ok(&()));
            }
            waiter = drain(&mut plugins);
        });
    });
    c.bench_function("plugins/offer and end a flow", |b| {
        let offer = Offer::dialled("");
        b.iter(|| {
            let flow = plugins.offer(now, instance, &offer);
            plugins.cancel_flow(now, flow);
            while plugins.poll_command().is_some() {}
        });
    });
}

criterion_group!(benches, boundary, plugins);
criterion_main!(benches);
