//! Flows through the real entry: answers, alternatives, panics, hand-over, wake-ups from other threads.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use serde_json::json;
use switchyard_sdk::prelude::*;
use switchyard_sdk::testing::{Command, FakeHost, FlowEnd};

const EVERYTHING: &str = r#"{
    "extensions": ["switchyard.call/1", "switchyard.orbit/1", "switchyard.policy/1", "switchyard.timer/1",
        "switchyard.log/1", "switchyard.metrics/1"],
    "sections": [{ "name": "call_park", "hooks": [{ "name": "allow" }], "settings": [
        { "name": "pickup_timeout", "kind": { "type": "duration", "min_ms": 0, "max_ms": 600000 },
          "default": "90s", "doc": "" }] }]
}"#;

/// What a test wants done, chosen by the offered service name.
#[derive(Default)]
struct Tester {
    offers: Cell<u32>,
}

impl Plugin for Tester {
    const NAME: &'static str = "tester";
    const VERSION: &'static str = "0.1.0";
    const MANIFEST: &'static str = EVERYTHING;
    type Error = CommandError;

    fn offer(
        self: Rc<Self>,
        cx: Context,
        offer: Offer,
    ) -> impl Future<Output = Result<(), CommandError>> + 'static {
        if offer.service.as_deref() == Some("panic in offer") {
            panic!("before any future");
        }
        self.offers.set(self.offers.get() + 1);
        flow(self, cx, offer)
    }

    async fn resume(self: Rc<Self>, cx: Context, resume: Resume) -> Result<(), CommandError> {
        let record = Commit { number: resume.number, terms: resume.terms, state: resume.state };
        wait(&cx, resume.leg, &record).await
    }
}

async fn flow(plugin: Rc<Tester>, cx: Context, offer: Offer) -> Result<(), CommandError> {
    let leg = offer.leg.unwrap_or(LegId(1));
    match offer.service.as_deref().unwrap_or_default() {
        "play" => {
            let played = cx.calls().play(leg, &Play::default()).await?;
            cx.log().info(format_args!("audible: {}", played.audible));
        }
        "three" => {
            let timer = cx.timer().after(Duration::from_secs(90));
            let which = match first((cx.calls().watch(leg), cx.orbits().claimed("7001"), timer)).await {
                OneOf::A(_) => "hang-up",
                OneOf::B(_) => "claim",
                OneOf::C(_) => "timer",
            };
            cx.log().info(which);
        }
        "both at once" => {
            // The timer is due and the hang-up is there before either is polled again.
            let mut gone = cx.calls().watch(leg);
            let mut timer = cx.timer().after(Duration::from_secs(1));
            cx.calls().play(leg, &Play::default()).await?;
            match first((&mut gone, &mut timer)).await {
                OneOf::A(_) => cx.log().info("hang-up"),
                OneOf::B(_) => cx.log().info("timer"),
            }
        }
        "park" => {
            let orbit = cx.orbits().reserve(&Reserve { leg: Some(leg), ..Reserve::default() }).await?;
            let record = Commit { number: orbit.number, state: json!({ "v": 1 }), ..Commit::default() };
            cx.orbits().commit(&record).await?;
            wait(&cx, leg, &record).await?;
        }
        "retrieve" => {
            let claim = Claim { number: Some("7001".into()), claimant: offer.caller, ..Claim::default() };
            let claimed = cx.orbits().claim(&claim).await?;
            cx.calls().join(leg, claimed.leg).await?;
            cx.orbits().free(&claimed.number, Outcome::Retrieved);
        }
        "panic first" => panic!("at once"),
        "panic after await" => {
            cx.calls().play(leg, &Play::default()).await?;
            panic!("later");
        }
        "panic in drop" => {
            struct Bomb;
            impl Drop for Bomb {
                fn drop(&mut self) {
                    panic!("in drop");
                }
            }
            let _bomb = Bomb;
            cx.calls().watch(leg).await?;
            std::mem::forget(_bomb);
        }
        "panic with a bomb" => {
            struct Bomb;
            impl Drop for Bomb {
                fn drop(&mut self) {
                    panic!("a payload that panics when dropped");
                }
            }
            std::panic::panic_any(Bomb);
        }
        "policy" => {
            #[derive(serde::Deserialize)]
            struct Settings {
                pickup_timeout: u64,
            }
            let before: Settings = cx.policy().settings("east", "call_park")?;
            let decision = cx.policy().decide("east", "call_park.allow", &offer.caller)?;
            let after: Settings = decision.allowed_or(Code::NOT_ALLOWED, "no")?.settings()?;
            cx.log().info(format_args!("{} {}", before.pickup_timeout, after.pickup_timeout));
        }
        "count" => cx.metrics().count("offers", u64::from(plugin.offers.get())),
        "thread" => elsewhere().await,
        "twice" => {
            let mut answer = cx.calls().play(leg, &Play::default());
            (&mut answer).await?;
            answer.await?;
        }
        other => return Err(CommandError::new(Code::GENERAL, format!("no such test: {other}"))),
    }
    Ok(())
}

async fn wait(cx: &Context, leg: LegId, record: &Commit) -> Result<(), CommandError> {
    let number = record.number.clone();
    loop {
        let rest = cx.rest(record);
        match first((cx.calls().watch(leg), cx.orbits().claimed(&number))).await {
            OneOf::A(_) => {
                cx.orbits().free(&number, Outcome::HungUp);
                return Ok(());
            }
            OneOf::B(claimed) => {
                drop(rest);
                cx.log().info(format_args!("claimed by {}", claimed?.claimant.label()));
                if cx.orbits().settled(&number).await?.freed {
                    return Ok(());
                }
            }
        }
    }
}

/// Waits for another thread.
#[expect(clippy::unwrap_used, reason = "part of a test")]
async fn elsewhere() {
    let shared: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let theirs = Arc::clone(&shared);
    let mut thread = None;
    poll_fn(move |task| {
        let mut here = shared.lock().unwrap();
        if here.0 {
            return Poll::Ready(());
        }
        here.1 = Some(task.waker().clone());
        thread.get_or_insert_with(|| {
            let theirs = Arc::clone(&theirs);
            std::thread::spawn(move || {
                let waker = {
                    let mut here = theirs.lock().unwrap();
                    here.0 = true;
                    here.1.take()
                };
                waker.unwrap().wake();
            })
        });
        Poll::Pending
    })
    .await;
}

fn host() -> FakeHost {
    FakeHost::new::<Tester>()
}

fn last_log(host: &FakeHost) -> String {
    host.log().last().map(|(_, text)| text.clone()).unwrap_or_default()
}

fn carol() -> Party {
    Party { user: Some("carol".into()), ..Party::default() }
}

#[test]
fn an_answer_resumes_its_flow() {
    let mut host = host();
    host.offer(Offer { leg: Some(LegId(3)), ..Offer::dialled("play") });
    let play = host.expect_play();
    assert_eq!(play.leg, LegId(3));
    host.expect_nothing();
    host.answer(&play, Default::default());
    assert_eq!(last_log(&host), "audible: false");
    host.expect_done();
    assert_eq!(host.flows(), 0);
}

#[test]
fn a_refusal_keeps_code_text_and_status() {
    let mut host = host();
    host.offer(Offer::dialled("play"));
    let play = host.expect_play();
    host.refuse_with(&play, Code::NOT_ACCEPTABLE, "no \"codec\" in common", 488);
    assert_eq!(host.expect_end(), (FlowEnd::Failed, "35106: no \"codec\" in common".into()));
}

#[test]
fn a_late_or_second_answer_is_ignored() {
    let mut host = host();
    let flow = host.offer(Offer::dialled("play"));
    let play = host.expect_play();
    host.cancel_flow(flow);
    assert_eq!(host.expect_end().0, FlowEnd::Cancelled);
    assert!(host.is_withdrawn(&play));
    // The slot is used again: an answer to the old token must not reach the new flow.
    host.offer(Offer::dialled("play"));
    let again = host.expect_play();
    assert_ne!(play.token, again.token);
    host.answer(&play, Default::default());
    host.expect_nothing();
    host.answer(&again, Default::default());
    host.expect_done();
    host.answer(&again, Default::default());
    host.expect_nothing();
}

#[test]
fn whichever_comes_first_withdraws_the_others() {
    for (what, expected) in [("hang up", "hang-up"), ("claim", "claim"), ("time", "timer")] {
        let mut host = host();
        host.offer(Offer { leg: Some(LegId(3)), ..Offer::dialled("three") });
        assert_eq!(host.waiting().len(), 3);
        assert_eq!(host.next_timer(), Some(host.now() + Duration::from_secs(90)));
        match what {
            "hang up" => host.hang_up(LegId(3)),
            "claim" => host.claimed("7001", carol()),
            _ => {
                host.advance(Duration::from_millis(89_999));
                host.expect_nothing();
                host.advance(Duration::from_millis(1));
            }
        }
        assert_eq!(last_log(&host), expected);
        host.expect_done();
        let withdrawn =
            host.transcript().iter().filter(|r| matches!(r.command, Command::Withdraw(_))).count();
        assert_eq!(withdrawn, 2, "{what}");
    }
}

#[test]
fn hang_up_written_first_wins_over_a_timer_due_at_once() {
    let mut host = host();
    host.offer(Offer { leg: Some(LegId(3)), ..Offer::dialled("both at once") });
    let play = host.expect_play();
    host.advance(Duration::from_secs(2));
    host.hang_up(LegId(3));
    host.answer(&play, Default::default());
    assert_eq!(last_log(&host), "hang-up");
    host.expect_done();
}

#[test]
fn a_claim_of_one_flow_reaches_the_flow_that_waits() {
    let mut host = host();
    host.offer(Offer { leg: Some(LegId(1)), ..Offer::dialled("park") });
    let reserve = host.expect_reserve();
    let reserved = Reserved { number: "7001".into(), token: "t".into(), range: "park".into() };
    host.answer(&reserve, reserved);
    let commit = host.expect_commit();
    host.answer(&commit, ());
    host.expect_nothing(); // resting on what was committed stores nothing again

    host.offer(Offer { leg: Some(LegId(2)), caller: carol(), ..Offer::dialled("retrieve") });
    let claim = host.expect_claim();
    let claimed = || Claimed { number: "7001".into(), leg: LegId(1), party: Party::default() };
    host.answer(&claim, claimed());
    assert_eq!(last_log(&host), "claimed by carol");
    let join = host.expect_join();
    host.refuse_with(&join, Code::NOT_ACCEPTABLE, "no codec", 488);
    assert_eq!(host.expect_end().0, FlowEnd::Failed); // its claim goes with it
    host.expect_nothing(); // the call waits again

    host.offer(Offer { leg: Some(LegId(4)), caller: carol(), ..Offer::dialled("retrieve") });
    let claim = host.expect_claim();
    host.answer(&claim, claimed());
    let join = host.expect_join();
    host.answer(&join, ());
    assert_eq!(host.expect_free(), ("7001".into(), Outcome::Retrieved));
    host.expect_done();
    host.expect_done();
    assert_eq!(host.flows(), 0);
    assert!(host.waiting().is_empty());
}

#[test]
fn a_resting_flow_is_handed_over_and_others_finish_first() {
    let mut old = host();
    old.offer(Offer { leg: Some(LegId(1)), ..Offer::dialled("park") });
    let reserve = old.expect_reserve();
    old.offer(Offer::dialled("play"));
    let play = old.expect_play();
    old.drain();
    old.expect_nothing(); // neither rests

    let reserved = Reserved { number: "7001".into(), token: "t".into(), range: "park".into() };
    old.answer(&reserve, reserved);
    let commit = old.expect_commit();
    let record = commit.request.clone();
    old.answer(&commit, ());
    assert_eq!(old.expect_end().0, FlowEnd::Rested); // it comes to rest and goes
    old.answer(&play, Default::default());
    old.expect_done();
    assert!(old.waiting().is_empty());

    let mut new = host();
    new.resume(Resume {
        number: record.number.clone(),
        pool: "east".into(),
        token: "t".into(),
        leg: LegId(1),
        parked: Party::default(),
        parker: Party::default(),
        terms: record.terms.clone(),
        state: record.state.clone(),
    });
    new.expect_nothing(); // what was handed over is stored already
    new.hang_up(LegId(1));
    assert_eq!(new.expect_free(), ("7001".into(), Outcome::HungUp));
    new.expect_done();
}

#[test]
fn a_panic_ends_its_flow_only() {
    let mut host = host();
    host.offer(Offer::dialled("play"));
    let neighbour = host.expect_play();

    for (service, message) in [
        ("panic in offer", "before any future"),
        ("panic first", "at once"),
        ("panic with a bomb", "panicked without a message"),
    ] {
        host.offer(Offer::dialled(service));
        assert_eq!(host.expect_end(), (FlowEnd::Panicked, message.into()));
    }
    host.offer(Offer::dialled("panic after await"));
    let play = host.expect_play();
    host.answer(&play, Default::default());
    assert_eq!(host.expect_end(), (FlowEnd::Panicked, "later".into()));

    let flow = host.offer(Offer::dialled("panic in drop"));
    host.cancel_flow(flow);
    assert_eq!(host.expect_end(), (FlowEnd::Panicked, "in drop".into()));

    host.answer(&neighbour, Default::default());
    host.expect_done();
    assert_eq!(host.flows(), 0);
    assert!(host.waiting().is_empty());
}

#[test]
fn destroying_the_plugin_with_a_bomb_inside_is_survived() {
    let mut host = host();
    host.offer(Offer::dialled("panic in drop"));
    drop(host);
}

#[test]
fn settings_have_the_manifests_defaults_until_they_are_set() {
    let mut host = host();
    host.offer(Offer::dialled("policy"));
    assert_eq!(last_log(&host), "90000 90000");
    host.set("call_park.pickup_timeout", 30_000);
    host.set_in("west", "call_park.pickup_timeout", 1);
    let settings = json!({ "pickup_timeout": 10_000 });
    host.set_decision("call_park.allow", Decision { settings, ..Decision::default() });
    host.offer(Offer::dialled("policy"));
    assert_eq!(last_log(&host), "30000 10000");
    assert_eq!(host.decisions_asked().len(), 2);
    host.expect_done();
    host.expect_done();

    host.deny("call_park.allow", "not on Sundays");
    host.offer(Offer::dialled("policy"));
    assert_eq!(host.expect_end(), (FlowEnd::Failed, "35103: not on Sundays".into()));
}

#[test]
fn flows_share_their_plugin() {
    let mut host = host();
    host.offer(Offer::dialled("count"));
    host.offer(Offer::dialled("count"));
    assert_eq!(host.counter("offers"), 1 + 2);
}

#[test]
fn another_thread_may_wake_a_flow() {
    let mut host = host();
    host.offer(Offer::dialled("thread"));
    while !host.deliver_wakes() {
        std::thread::yield_now();
    }
    host.expect_done();
}

#[test]
fn an_answer_taken_before_is_an_error_not_a_hang() {
    let mut host = host();
    host.offer(Offer::dialled("twice"));
    let play = host.expect_play();
    host.answer(&play, Default::default());
    assert_eq!(host.expect_end(), (FlowEnd::Failed, "35001: this answer was taken before".into()));
}

/// Declares nothing.
#[derive(Default)]
struct Undeclared;

impl Plugin for Undeclared {
    const NAME: &'static str = "undeclared";
    const VERSION: &'static str = "0.1.0";
    const MANIFEST: &'static str = "{}";
    type Error = CommandError;

    async fn offer(self: Rc<Self>, cx: Context, _offer: Offer) -> Result<(), CommandError> {
        cx.log().info("nobody hears this");
        cx.timer().after(Duration::from_secs(1)).await
    }
}

#[test]
fn what_is_not_declared_is_not_granted() {
    let mut host = FakeHost::new::<Undeclared>();
    host.offer(Offer::dialled("anything"));
    let (how, message) = host.expect_end();
    assert_eq!(how, FlowEnd::Failed);
    assert_eq!(message, "35001: timer: not declared in the manifest");
    assert!(host.log().is_empty());
}
