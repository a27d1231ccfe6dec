//! The way from HTTP to the engine and back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::request::{Refused, Request};

/// A request and where its answer goes. Dropping the sender unanswered is answered 503.
pub type Question = (Request, oneshot::Sender<Result<Value, Refused>>);

/// Questions that may wait for the engine at once. It answers thousands a second, so a full queue means it is
/// stuck, and one more would only be answered after its asker had given up.
const QUESTIONS_MAX: usize = 64;

/// How long the engine may take where it must wait for the store, which gives up after 5 s.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long it may take where phones take part: one rings for 30 s, and another may not answer its re-INVITE
/// for as long (Timer B, 32 s).
const PHONES_MAX: Duration = Duration::from_secs(70);

/// Asks the engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AdminHandle {
    questions: mpsc::Sender<Question>,
    patience: Option<Duration>,
}

impl AdminHandle {
    /// A handle, and the end from which the engine's loop takes the questions.
    pub fn channel() -> (Self, mpsc::Receiver<Question>) {
        let (questions, inbox) = mpsc::channel(QUESTIONS_MAX);
        (Self { questions, patience: None }, inbox)
    }

    /// The same handle, which gives up after `patience` whatever it asks.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Asks, and waits for the answer. An engine that is gone, or silent for too long, is a 503.
    pub async fn ask(&self, request: Request) -> Result<Value, Refused> {
        let patience = self.patience.unwrap_or(match request {
            Request::Park { .. } | Request::Retrieve { .. } | Request::Pickup { .. } => PHONES_MAX,
            _ => ANSWER_MAX,
        });
        let asked = async {
            let (reply, answer) = oneshot::channel();
            self.questions.send((request, reply)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(Refused { status: 503, code: None, text: "the host is stopping".to_owned() }),
            Err(_) => Err(Refused {
                status: 503,
                code: None,
                text: format!("the host did not answer within {} s; it may still do it", patience.as_secs()),
            }),
        }
    }
}

/// Where the host stands in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Not everything is up yet.
    Starting,
    /// Takes calls.
    Ready,
    /// Lets calls end, takes no new parks (CP-22).
    Draining,
    /// Up, but the store has not heard of it: calls and music go on, parks and claims are refused.
    Fenced,
    /// Up and heard of, but the store has no room left and writes nothing: parks are refused, and what else changes is lost with the host.
    StoreFull,
}

impl State {
    /// `starting`, `ready`, `draining`, `fenced`, `store_full`.
    pub const fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
            State::Fenced => "fenced",
            State::StoreFull => "store_full",
        }
    }
}

/// The [`State`], shared between whoever runs the host and `/readyz`. Starts as [`State::Starting`].
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: AtomicU8,
    fenced: AtomicBool,
    full: AtomicBool,
}

impl Readiness {
    /// Changes it.
    pub fn set(&self, state: State) {
        self.0.state.store(state as u8, Ordering::Release);
    }

    /// Whether the store counts this host as alive. Without it calls and music go on, parks do not.
    pub fn set_fenced(&self, fenced: bool) {
        self.0.fenced.store(fenced, Ordering::Release);
    }

    /// Whether the store refuses to write for want of room. Whether that is news.
    pub fn set_full(&self, full: bool) -> bool {
        self.0.full.swap(full, Ordering::AcqRel) != full
    }

    /// Reads it.
    pub fn get(&self) -> State {
        match self.0.state.load(Ordering::Acquire) {
            0 => State::Starting,
            1 if self.0.fenced.load(Ordering::Acquire) => State::Fenced,
            1 if self.0.full.load(Ordering::Acquire) => State::StoreFull,
            1 => State::Ready,
            _ => State::Draining,
        }
    }
}
