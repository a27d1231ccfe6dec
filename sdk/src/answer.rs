//! Awaiting what the host answers to a command.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as Task, Poll, Waker};

use serde::de::DeserializeOwned;

use crate::abi::status;
use crate::executor::Core;
use crate::types::{Code, Refusal};

/// Why a command did not succeed: a refusal as the host gave it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {text}", code = code.0)]
pub struct CommandError {
    /// The reason code.
    pub code: Code,
    /// One sentence for a person, without the code.
    pub text: String,
    /// The SIP status behind it (486 busy, 408 no answer …), or 0 where no phone was asked.
    pub sip_status: u16,
}

impl CommandError {
    /// An error without a SIP status.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), sip_status: 0 }
    }

    /// What a host function's return value means when it is not [`status::TAKEN`].
    pub(crate) fn of_status(status: i32, what: &str) -> Self {
        let text = match status {
            status::NOT_GRANTED => format!("{what}: not declared in the manifest"),
            status::INVALID => format!("{what}: the host cannot read the arguments"),
            other => format!("{what}: the host returned {other}"),
        };
        Self::new(Code::GENERAL, text)
    }
}

impl From<Refusal> for CommandError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, refusal.text)
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Refusal::new(error.code, error.text)
    }
}

/// The answer to a command that is under way. Resolves to the command's value, or to why it was refused.
///
/// The command was given when this value was made. Dropping it tells the host that nobody waits any more: a
/// timer or a watch is forgotten, a phone that rings stops ringing; other commands run to their end all the
/// same. Await `&mut answer` to go on waiting for it later.
#[must_use = "the command is withdrawn when its answer is dropped"]
pub struct Answer<T> {
    core: Rc<Core>,
    state: State,
    value: PhantomData<fn() -> T>,
}

enum State {
    Waiting(u64),
    Declined(CommandError),
    Taken,
}

/// What the executor knows about an answer that is awaited.
pub(crate) enum Wait {
    Pending(Option<Waker>),
    Ready(Result<Box<str>, CommandError>),
}

impl<T> Answer<T> {
    pub(crate) fn waiting(core: Rc<Core>, token: u64) -> Self {
        Self { core, state: State::Waiting(token), value: PhantomData }
    }

    pub(crate) fn declined(core: Rc<Core>, error: CommandError) -> Self {
        Self { core, state: State::Declined(error), value: PhantomData }
    }
}

impl<T: DeserializeOwned> Future for Answer<T> {
    type Output = Result<T, CommandError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Self::Output> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Waiting(token) => match self.core.poll_wait(token, task.waker()) {
                Poll::Pending => {
                    self.state = State::Waiting(token);
                    Poll::Pending
                }
                Poll::Ready(result) => Poll::Ready(result.and_then(|payload| decode(&payload))),
            },
            State::Declined(error) => Poll::Ready(Err(error)),
            State::Taken => {
                Poll::Ready(Err(CommandError::new(Code::GENERAL, "this answer was taken before")))
            }
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if let State::Waiting(token) = self.state {
            self.core.withdraw(token);
        }
    }
}

/// Reads a value of the host. No payload is as good as `null`.
fn decode<T: DeserializeOwned>(payload: &str) -> Result<T, CommandError> {
    let payload = if payload.is_empty() { "null" } else { payload };
    serde_json::from_str(payload)
        .map_err(|error| CommandError::new(Code::GENERAL, format!("cannot read the host's answer: {error}")))
}
