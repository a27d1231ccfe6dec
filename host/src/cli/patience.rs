//! What is said while a person who typed a verb has to wait for another who is to answer a phone.

use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// What takes no longer needs no words.
const SOON: Duration = Duration::from_millis(500);

/// Does `act`, and writes `words` to `err` if it takes its time. Not for programs (`json`), which read no words.
pub(super) fn telling<T: Send>(
    words: &str,
    json: bool,
    err: &mut dyn Write,
    act: impl FnOnce() -> T + Send,
) -> T {
    if json {
        return act();
    }
    std::thread::scope(|scope| {
        let (busy, over) = channel::<()>();
        let acting = scope.spawn(move || {
            // Dropped when it is over, however that comes about.
            let _busy = busy;
            act()
        });
        if over.recv_timeout(SOON) == Err(RecvTimeoutError::Timeout) {
            // Nobody is left to be told when the stream is closed.
            let _ = writeln!(err, "{words}").and_then(|()| err.flush());
        }
        acting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
