//! What a panic said, and where: for the log, while the panic itself stays inside the plugin.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

/// The message of a panic. The payload is forgotten, not dropped: its own `Drop` might panic again.
pub(crate) fn message_of(payload: Box<dyn Any + Send>) -> String {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panicked without a message".to_owned()
    };
    std::mem::forget(payload);
    text
}

/// What the library's panic hook saw while one instance was running.
///
/// A library has its own copy of the standard library and so its own hook; the host's is not touched. The hook
/// only takes notes, the barrier that catches the panic passes them on to the host.
pub(crate) struct Note {
    thread: ThreadId,
    entered: AtomicBool,
    text: Mutex<Option<String>>,
}

impl Note {
    /// Puts a hook before the library's present one. Only for instances of a loaded library: linked statically,
    /// the hook would be the host's own.
    pub(crate) fn install() -> Arc<Self> {
        let note = Arc::new(Self {
            thread: std::thread::current().id(),
            entered: AtomicBool::new(false),
            text: Mutex::default(),
        });
        let hook = Arc::downgrade(&note);
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match hook.upgrade() {
            Some(note) if note.is_running_here() => note.set(info.to_string().replace('\n', " ")),
            _ => previous(info),
        }));
        note
    }

    pub(crate) fn enter(&self) {
        self.entered.store(true, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.entered.store(false, Ordering::Relaxed);
    }

    fn is_running_here(&self) -> bool {
        self.entered.load(Ordering::Relaxed) && std::thread::current().id() == self.thread
    }

    fn set(&self, text: String) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }

    pub(crate) fn take(&self) -> Option<String> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
