//! What an operator says by signal.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals a host listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes them over: from now on none of them ends the process by itself.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }

    /// The next one that asks to stop.
    pub(super) async fn stop(&mut self) {
        while self.next().await != Asked::Stop {}
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Stop,
    Reload,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test for all, because signals are the whole process's.
    #[tokio::test]
    async fn each_signal_asks_for_what_operators_expect() {
        let mut signals = Signals::new().unwrap();
        let raise = |name: &str| {
            let id = std::process::id().to_string();
            assert!(std::process::Command::new("kill").args([name, &id]).status().unwrap().success());
        };
        for (name, asked) in [("-HUP", Asked::Reload), ("-TERM", Asked::Stop), ("-INT", Asked::Stop)] {
            raise(name);
            assert_eq!(signals.next().await, asked, "{name}");
        }
        raise("-TERM");
        signals.stop().await;
    }
}
