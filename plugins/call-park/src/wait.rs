//! A parked call, until it is taken, hangs up, or its time is over (CP-07).

use serde_json::json;
use switchyard_sdk::prelude::*;

use crate::terms::Settings;

/// How the ring-back sounds different from any other call (RFC 7462 §4.1).
const RECALL_ALERT: &str = "<urn:alert:service:recall:hold>";

/// The version of the plugin's part of a record.
const RECORD_VERSION: u64 = 1;

/// A call in an orbit, with everything that must survive a restart.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub number: String,
    pub pool: String,
    pub leg: LegId,
    pub parked: Party,
    pub parker: Party,
    pub terms: Terms,
    /// Ring-backs that nobody answered. They never start again from zero (facts.md §6 no. 6).
    pub attempts: u32,
}

/// What a stage of waiting led to.
enum Step {
    /// The call has left the orbit.
    Over,
    /// It goes on waiting.
    Wait,
}

impl Parked {
    /// From a record, after a restart or a reload.
    pub fn resumed(resume: Resume) -> Result<Self, CommandError> {
        let version = resume.state["v"].as_u64();
        if version != Some(RECORD_VERSION) {
            let text = format!(
                "record of {} has version {version:?}, this plugin reads {RECORD_VERSION}",
                resume.number
            );
            return Err(CommandError::new(Code::GENERAL, text));
        }
        let attempts = resume.state["attempts"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let Resume { number, pool, leg, parked, parker, terms, .. } = resume;
        Ok(Self { number, pool, leg, parked, parker, terms, attempts })
    }

    /// What is stored.
    pub fn record(&self) -> Commit {
        Commit {
            number: self.number.clone(),
            terms: self.terms.clone(),
            state: json!({ "v": RECORD_VERSION, "attempts": self.attempts }),
        }
    }
}

/// Looks after a parked call to its end.
pub(crate) async fn wait(cx: &Context, mut call: Parked) -> Result<(), CommandError> {
    loop {
        let rest = cx.rest(&call.record());
        let deadline = Utc(call.terms.deadline_ms);
        let happened =
            first((cx.calls().watch(call.leg), cx.orbits().claimed(&call.number), cx.timer().at(deadline)))
                .await;
        drop(rest);
        let step = match happened {
            OneOf::A(_) => Step::Over,
            OneOf::B(_) => settle(cx, &mut call).await,
            OneOf::C(_) => recall(cx, &mut call).await?,
        };
        if let Step::Over = step {
            return Ok(());
        }
    }
}

/// Somebody has claimed the call: it is theirs, or comes back with the time it had left.
async fn settle(cx: &Context, call: &mut Parked) -> Step {
    match first((cx.calls().watch(call.leg), cx.orbits().settled(&call.number))).await {
        OneOf::A(_) => Step::Over,
        OneOf::B(Ok(settled)) if !settled.freed => {
            if settled.deadline_ms > 0 {
                call.terms.deadline_ms = settled.deadline_ms;
            }
            Step::Wait
        }
        OneOf::B(_) => Step::Over,
    }
}

/// The deadline has come: rings the parker; if he does not answer, waits again or goes to the on-timeout address.
async fn recall(cx: &Context, call: &mut Parked) -> Result<Step, CommandError> {
    let settings = Settings::now(cx, &call.pool)?;
    if call.attempts >= settings.max_recall_attempts {
        return Ok(on_timeout(cx, call, &settings).await);
    }
    cx.metrics().count("recalls", 1);
    let ring = Ring {
        leg: call.leg,
        to: Target { user: call.parker.user.clone(), device: call.parker.device.clone(), uri: None },
        display: Some(format!("Parked call {}: {}", call.number, call.parked.label())),
        alert_info: Some(RECALL_ALERT.to_owned()),
        timeout_ms: settings.recall_ring_time,
        claims: Some(call.number.clone()),
        attempt: Some(Attempt { number: call.attempts + 1, of: settings.max_recall_attempts }),
    };
    match ring_or_lose(cx, call, &ring).await {
        Rung::Answered => {
            cx.orbits().free(&call.number, Outcome::Recalled);
            return Ok(Step::Over);
        }
        Rung::Gone => return Ok(Step::Over),
        Rung::Claimed => return Ok(settle(cx, call).await),
        Rung::Nobody => {}
    }
    call.attempts += 1;
    // The terms may have been edited while it rang.
    let settings = Settings::now(cx, &call.pool)?;
    if call.attempts >= settings.max_recall_attempts {
        cx.orbits().save(&call.record());
        return Ok(on_timeout(cx, call, &settings).await);
    }
    call.terms.deadline_ms = cx.now().0 + settings.pickup_timeout;
    Ok(Step::Wait)
}

/// All ring-backs are used up: the on-timeout address, then the end (CP-07 (4) to (6)).
async fn on_timeout(cx: &Context, call: &mut Parked, settings: &Settings) -> Step {
    if let Some(uri) = &settings.on_timeout_uri {
        cx.metrics().count("on_timeouts", 1);
        let ring = Ring {
            leg: call.leg,
            to: Target { uri: Some(uri.clone()), ..Target::default() },
            display: None,
            alert_info: None,
            timeout_ms: settings.recall_ring_time,
            claims: Some(call.number.clone()),
            attempt: None,
        };
        match ring_or_lose(cx, call, &ring).await {
            Rung::Answered => {
                cx.orbits().free(&call.number, Outcome::OnTimeout);
                return Step::Over;
            }
            Rung::Gone => return Step::Over,
            Rung::Claimed => {
                // If that claim fails, the time is still over: the next round comes back here.
                return settle(cx, call).await;
            }
            Rung::Nobody => cx.log().info(format_args!("{}: {uri} did not answer", call.number)),
        }
    }
    cx.metrics().count("released", 1);
    cx.calls().release(
        call.leg,
        &Release { status: Some(480), text: Some(format!("Nobody took the call parked on {}", call.number)) },
    );
    cx.orbits().free(&call.number, Outcome::Released);
    Step::Over
}

enum Rung {
    /// Someone answered, and the claim was theirs.
    Answered,
    /// The caller hung up.
    Gone,
    /// Somebody else claimed the call while it rang.
    Claimed,
    /// Nobody answered, or they refused.
    Nobody,
}

async fn ring_or_lose(cx: &Context, call: &Parked, ring: &Ring) -> Rung {
    match first((cx.calls().watch(call.leg), cx.orbits().claimed(&call.number), cx.calls().ring(ring))).await
    {
        OneOf::A(_) => Rung::Gone,
        OneOf::B(_) => Rung::Claimed,
        OneOf::C(Ok(_)) => Rung::Answered,
        OneOf::C(Err(error)) if error.code == Code::LOST_CLAIM => Rung::Claimed,
        OneOf::C(Err(error)) if error.code == Code::LEG_GONE => Rung::Gone,
        OneOf::C(Err(error)) => {
            cx.log().info(format_args!("{}: ring-back not answered: {error}", call.number));
            Rung::Nobody
        }
    }
}
