//! Log lines that were lost because nobody read the log fast enough: counted, and told once it is read again.

use tracing_appender::non_blocking::ErrorCounter;

/// Looks after the count.
pub(super) struct LostLines {
    counter: ErrorCounter,
    /// As counted at the last look.
    seen: usize,
    /// Of these the log has told, or they were our own attempts to tell.
    settled: usize,
}

impl LostLines {
    pub(super) fn new(counter: ErrorCounter) -> Self {
        Self { counter, seen: 0, settled: 0 }
    }

    /// To be called every second or so. Tells when none were lost since the last look.
    pub(super) fn look(&mut self) {
        let lost = self.counter.dropped_lines();
        metrics::counter!("switchyard_log_lines_lost_total").absolute(lost as u64);
        let quiet = lost == self.seen;
        self.seen = lost;
        if quiet && lost > self.settled {
            let lines = lost - self.settled;
            tracing::warn!(lines, "log lines were lost: nobody read them fast enough");
            self.seen = self.counter.dropped_lines();
            if self.seen == lost {
                self.settled = lost;
            } else {
                // This one found no room either: as if it had not been tried.
                self.settled += self.seen - lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};
    use std::thread::sleep;
    use std::time::Duration;

    use tracing_appender::non_blocking::NonBlockingBuilder;

    use super::*;

    /// Writes a line when it is let through, and tells of it.
    struct Gate(Receiver<()>, Sender<String>);

    impl Write for Gate {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            let _ = self.1.send(String::from_utf8_lossy(line).into_owned());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lost_lines_are_told_with_their_count_once_the_log_is_read_again() {
        let (open, gate) = channel();
        let (lines, written) = channel();
        let written = Arc::new(Mutex::new(written));
        let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(4).finish(Gate(gate, lines));
        let mut lost = LostLines::new(writer.error_counter());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..20 {
                tracing::info!(number, "a line");
            }
            // While nobody reads, looking at it changes nothing.
            for _ in 0..10 {
                lost.look();
            }
            drop(open);
            let mut told = String::new();
            for _ in 0..500 {
                lost.look();
                sleep(Duration::from_millis(10));
                told.extend(written.lock().unwrap().try_iter());
                if told.contains("log lines were lost") {
                    break;
                }
            }
            let count = told.matches("a line").count();
            assert!(told.contains(&format!("lines={}", 20 - count)), "{told}");
            assert_eq!(told.matches("were lost").count(), 1, "{told}");
        });
        drop(guard);
    }
}
