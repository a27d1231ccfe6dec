//! The way into the engine's thread for all who live on other threads.

use tokio::sync::mpsc;

use crate::engine::Input;

/// Inputs that wait for the engine. It handles some hundred thousand a second, so a full inbox is some ten
/// milliseconds of work; beyond that TCP readers wait, and their peers with them, instead of memory growing.
pub const INBOX_MAX: usize = 4_096;

/// Inputs of those who must not wait: media events (a few per stream, digits at the speed of fingers) and the
/// wake-ups of plugins (one per instance). Reached only if the engine stands still.
pub const PROMPT_MAX: usize = 65_536;

/// The senders' side. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    /// For whoever can wait until there is room.
    pub waiting: mpsc::Sender<Input>,
    prompt: mpsc::Sender<Input>,
}

/// The engine's side.
#[derive(Debug)]
pub struct Arrivals {
    pub(super) waiting: mpsc::Receiver<Input>,
    pub(super) prompt: mpsc::Receiver<Input>,
}

/// Both sides of a new inbox.
pub fn inbox() -> (Inbox, Arrivals) {
    let (waiting, waiting_out) = mpsc::channel(INBOX_MAX);
    let (prompt, prompt_out) = mpsc::channel(PROMPT_MAX);
    (Inbox { waiting, prompt }, Arrivals { waiting: waiting_out, prompt: prompt_out })
}

impl Inbox {
    /// Hands `input` over at once, from any thread. It is lost, with an error in the log, only when the engine has
    /// stood still for long.
    pub fn push(&self, input: Input) {
        if let Err(mpsc::error::TrySendError::Full(input)) = self.prompt.try_send(input) {
            tracing::error!(?input, "the engine stands still: {PROMPT_MAX} inputs wait, this one is lost");
            metrics::counter!("switchyard_inbox_lost_total").increment(1);
        }
    }
}
