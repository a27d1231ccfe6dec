//! Going down gently (CP-22): no new calls and parks, and those that live go on to their end.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, interval, timeout_at};

use crate::admin::{AdminHandle, Request};

/// How often the engine is asked what is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often the log says so while nothing changes.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Given once everything has ended, so that a lost 200 to the last BYE can be repeated once (T1 twice over).
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drained {
    /// Nothing lived any more.
    Empty,
    /// It was told again to stop.
    Impatient,
    /// The time was over.
    TimeOver,
    /// The engine answers no more.
    EngineGone,
}

impl Drained {
    /// In words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Empty => "nothing is left",
            Self::Impatient => "told to stop at once",
            Self::TimeOver => "host.drain_max is over",
            Self::EngineGone => "the engine has ended",
        }
    }
}

/// What is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Left {
    /// Of calls that ring, talk or wait.
    legs: u64,
    parked: u64,
}

impl Left {
    fn read(status: &Value) -> Self {
        let count = |path: &str| status.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        Self { legs: count("/counts/legs"), parked: count("/occupants") }
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} legs of calls, {} in orbits", self.legs, self.parked)
    }
}

/// Waits until nothing lives, `again` completes, or `limit` is over. The engine must have been told to drain.
pub async fn drain(engine: &AdminHandle, again: impl Future<Output = ()>, limit: Duration) -> Drained {
    let deadline = Instant::now() + limit;
    let emptied = async {
        let mut ticks = interval(LOOK_EVERY);
        let mut told: Option<(Left, Instant)> = None;
        loop {
            ticks.tick().await;
            let Ok(status) = engine.ask(Request::Status).await else { return Drained::EngineGone };
            let left = Left::read(&status);
            if left.is_nothing() {
                if told.is_some() {
                    tracing::info!("draining: everything has ended");
                    tokio::time::sleep(LAST_WORDS).await;
                }
                return Drained::Empty;
            }
            let due = told.is_none_or(|(before, at)| before != left || at.elapsed() >= TELL_EVERY);
            if due {
                tracing::info!("draining: {left} left; a second signal stops at once");
                told = Some((left, Instant::now()));
            }
        }
    };
    tokio::select! {
        outcome = timeout_at(deadline, emptied) => outcome.unwrap_or(Drained::TimeOver),
        () = again => Drained::Impatient,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use serde_json::json;
    use tokio::time::timeout;

    use super::*;

    /// An engine whose status is each of these in turn, and then the last for ever.
    fn engine(statuses: Vec<Value>) -> AdminHandle {
        let (handle, mut questions) = AdminHandle::channel();
        tokio::spawn(async move {
            let mut statuses = statuses.into_iter().peekable();
            while let Some((request, reply)) = questions.recv().await {
                assert_eq!(request, Request::Status);
                let Some(last) = statuses.peek().cloned() else { return };
                let _ = reply.send(Ok(last));
                if statuses.len() > 1 {
                    statuses.next();
                }
            }
        });
        handle
    }

    fn left(legs: u64, occupants: u64) -> Value {
        json!({ "counts": { "legs": legs }, "occupants": occupants })
    }

    #[tokio::test]
    async fn an_empty_host_stops_at_once_and_a_busy_one_when_the_last_call_has_ended() {
        let idle = engine(vec![left(0, 0)]);
        let quick = drain(&idle, pending(), Duration::from_secs(60));
        assert_eq!(timeout(LAST_WORDS, quick).await, Ok(Drained::Empty));
        let busy = engine(vec![left(1, 1), left(0, 1), left(0, 0)]);
        assert_eq!(drain(&busy, pending(), Duration::from_secs(60)).await, Drained::Empty);
    }

    #[tokio::test]
    async fn a_second_signal_or_the_limit_ends_the_wait() {
        let busy = engine(vec![left(1, 0)]);
        let again = tokio::time::sleep(Duration::from_millis(20));
        assert_eq!(drain(&busy, again, Duration::from_secs(60)).await, Drained::Impatient);
        assert_eq!(drain(&busy, pending(), Duration::from_millis(20)).await, Drained::TimeOver);
        assert_eq!(drain(&engine(vec![]), pending(), Duration::from_secs(60)).await, Drained::EngineGone);
    }
}
