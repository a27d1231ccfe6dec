//! Log lines: for people by default, JSON for collectors. A thread of its own writes them, so that a terminal somebody
//! has stopped, or a disk that is slow, holds up nobody else.

use std::io::IsTerminal;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::arguments::{LogFormat, Logging};

/// Lines that may wait to be written: some seconds of a busy host, one or two megabytes. Who reads slower than that
/// has lines missing, and is told how many.
const LINES_MAX: usize = 8_192;

/// How long the last lines may take at the end.
const LAST_LINES_MAX: Duration = Duration::from_secs(2);

/// The running log of this process.
pub(super) struct Log {
    writer: WorkerGuard,
    /// Lines that found no room.
    pub lost: ErrorCounter,
}

/// Sets up the log of this process, on standard error.
pub(super) fn start(logging: &Logging) -> Result<Log, Failure> {
    let filter = EnvFilter::try_new(&logging.log).map_err(|error| {
        Failure(format!(
            "--log {:?}: {error}; expected a level such as info, or switchyard_host::sip=debug",
            logging.log
        ))
    })?;
    let (lines, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name("log")
        .finish(std::io::stderr());
    let log = Log { writer, lost: lines.error_counter() };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    let started = match logging.log_format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    started.map_err(|error| Failure(format!("the log cannot be started: {error}")))?;
    Ok(log)
}

impl Log {
    /// Writes what waits, as far as somebody reads it. To be called last.
    pub(super) fn close(self) {
        let (written, all_written) = mpsc::channel();
        // Beside us: when the queue is full the guard says so on standard output, where nobody may read either.
        thread::spawn(move || {
            drop(self.writer);
            let _ = written.send(());
        });
        let _ = all_written.recv_timeout(LAST_LINES_MAX);
    }
}
