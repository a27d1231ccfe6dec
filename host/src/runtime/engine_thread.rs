//! The thread in which the engine lives, from its making to its end.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clock::Clock;
use super::drive::{Drive, Hands, Machine, Sources};
use super::heartbeat::Heartbeat;
use super::inbox::Arrivals;
use crate::admin::Question;
use crate::time::Now;
use crate::transport::udp::UdpPort;

/// The last writes of an engine that was told to stop have so long to be answered.
const WRITING_MAX: Duration = Duration::from_secs(1);

/// How the engine's thread ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// The engine could not be made: why.
    NotStarted(String),
    /// It panicked: with what. The process should end too; what is stored is taken up again by the next.
    Panicked(String),
}

/// What the thread takes over.
pub struct Parts {
    /// The host's clock.
    pub clock: Clock,
    /// Shows others that the thread gets on.
    pub heartbeat: Heartbeat,
    /// Bound sockets.
    pub udp: Vec<std::net::UdpSocket>,
    /// From the other threads.
    pub arrivals: Arrivals,
    /// From the administrative interface.
    pub questions: tokio::sync::mpsc::Receiver<Question>,
    /// Ends it.
    pub stop: tokio_util::sync::CancellationToken,
    /// Hands the engine's writes to the store. It runs on the engine's own thread, which saves two hops between
    /// threads for each write, and has time to finish when the engine has ended.
    pub writing: BoxFuture<'static, ()>,
    /// Carries out what the engine says.
    pub hands: Hands,
}

/// Starts the thread. `make` runs on it, because an engine cannot move between threads; what it returns besides the
/// engine is sent back once the engine runs.
///
/// The second receiver has its answer when the thread ends, however that happens.
pub fn start<M: Machine + 'static, T: Send + 'static>(
    parts: Parts,
    make: impl FnOnce(Now) -> Result<(M, T), String> + Send + 'static,
) -> io::Result<(oneshot::Receiver<T>, oneshot::Receiver<Ended>)> {
    let (started, has_started) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    thread::Builder::new().name("engine".to_owned()).spawn(move || {
        // Nothing of the engine is looked at after a panic.
        let outcome = catch_unwind(AssertUnwindSafe(|| live(parts, make, started)));
        let outcome = outcome.unwrap_or_else(|panic| Ended::Panicked(in_words(&*panic)));
        let _ = ended.send(outcome);
    })?;
    Ok((has_started, has_ended))
}

fn live<M: Machine, T>(
    parts: Parts,
    make: impl FnOnce(Now) -> Result<(M, T), String>,
    started: oneshot::Sender<T>,
) -> Ended {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Ended::NotStarted(error.to_string()),
    };
    let Parts { clock, heartbeat, udp, arrivals, questions, stop, writing, hands } = parts;
    // The sockets belong to this thread's runtime.
    let inside = runtime.enter();
    let udp: io::Result<Vec<UdpPort>> = udp.into_iter().map(UdpPort::new).collect();
    drop(inside);
    let udp = match udp {
        Ok(udp) => udp,
        Err(error) => return Ended::NotStarted(error.to_string()),
    };
    let (machine, made) = match make(clock.now()) {
        Ok(made) => made,
        Err(reason) => return Ended::NotStarted(reason),
    };
    let sources = Sources { udp, arrivals, questions, stop };
    let drive = Drive::new(machine, clock, heartbeat, sources, hands);
    let _ = started.send(made);
    runtime.block_on(async {
        let writing = tokio::spawn(writing);
        drive.run().await;
        // The loop's end has closed the queue; what was in it is still written.
        let _ = timeout(WRITING_MAX, writing).await;
    });
    Ended::Stopped
}

/// What a panic said.
fn in_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without words").to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::admin::{AdminHandle, Events};
    use crate::engine::{Input, Output};
    use crate::runtime::inbox::{Inbox, inbox};
    use crate::time::Instant;
    use crate::transport::tcp::{Limits, Streams};

    struct PanicsOnDrain;

    impl Machine for PanicsOnDrain {
        fn handle(&mut self, _: Now, input: Input) {
            assert!(!matches!(input, Input::Drain), "told to drain");
        }
        fn on_timeout(&mut self, _: Now) {}
        fn next_timeout(&self) -> Option<Instant> {
            None
        }
        fn poll_output(&mut self) -> Option<Output> {
            None
        }
    }

    fn parts() -> (Parts, Inbox, CancellationToken) {
        let (inbox, arrivals) = inbox();
        let (_, questions) = AdminHandle::channel();
        let stop = CancellationToken::new();
        let hands = Hands {
            link: None,
            streams: Streams::new(
                tokio::runtime::Handle::current(),
                inbox.waiting.clone(),
                Limits::default(),
            ),
            store: mpsc::channel(1).0,
            names: mpsc::channel(1).0,
            media: Box::new(|_| {}),
            events: Events::default(),
        };
        let parts = Parts {
            clock: Clock::start(),
            heartbeat: Heartbeat::default(),
            udp: Vec::new(),
            arrivals,
            questions,
            stop: stop.clone(),
            writing: Box::pin(std::future::ready(())),
            hands,
        };
        (parts, inbox, stop)
    }

    async fn end(ended: oneshot::Receiver<Ended>) -> Ended {
        timeout(Duration::from_secs(20), ended).await.expect("the thread goes on").unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_told_in_its_own_words() {
        let (parts, inbox, _stop) = parts();
        let (started, ended) = start(parts, |_| Ok((PanicsOnDrain, "made"))).unwrap();
        assert_eq!(started.await.unwrap(), "made");
        inbox.push(Input::Drain);
        assert_eq!(end(ended).await, Ended::Panicked("told to drain".to_owned()));
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_made_says_why_and_one_told_to_stop_stops() {
        let (parts, _inbox, _stop) = self::parts();
        let (started, ended) =
            start(parts, |_| Err::<(PanicsOnDrain, ()), _>("no policies".to_owned())).unwrap();
        assert!(started.await.is_err());
        assert_eq!(end(ended).await, Ended::NotStarted("no policies".to_owned()));

        let (parts, _inbox, stop) = self::parts();
        let (started, ended) = start(parts, |_| Ok((PanicsOnDrain, ()))).unwrap();
        started.await.unwrap();
        stop.cancel();
        assert_eq!(end(ended).await, Ended::Stopped);
    }
}
