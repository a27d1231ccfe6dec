//! The engine's loop: waits, hands over what came, carries out what the engine says.
//!
//! It runs in one thread, inside a current-thread tokio runtime that also reads the UDP sockets, so that nothing
//! lies between a datagram and the engine but the kernel. The loop never waits for anything else: what a full
//! queue cannot take is answered as failed at once.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use metrics::{Counter, counter};
use serde_json::Value;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::heartbeat::Heartbeat;
use super::inbox::Arrivals;
use super::storing::Wanted;
use crate::admin::{Events, Question, Refused};
use crate::engine::{AdminId, Engine, Event, Input, Output, QueryId, StoreId};
use crate::media;
use crate::net::{Flow, Protocol};
use crate::pool::Phase;
use crate::repeats;
use crate::store::StoreError;
use crate::time::{Instant, Now};
use crate::transport::link::Link;
use crate::transport::locate::Query;
use crate::transport::tcp::Streams;
use crate::transport::udp::{BATCH, DATAGRAM_MAX, UdpPort};

/// What the loop drives: the engine, or a stand-in in tests.
pub trait Machine {
    /// Something happened outside.
    fn handle(&mut self, now: Now, input: Input);
    /// A timer may be due. Early or repeated calls are harmless.
    fn on_timeout(&mut self, now: Now);
    /// When [`Self::on_timeout`] is to be called next.
    fn next_timeout(&self) -> Option<Instant>;
    /// The next thing to do outside; to be drained after each of the above.
    fn poll_output(&mut self) -> Option<Output>;
}

impl Machine for Engine {
    fn handle(&mut self, now: Now, input: Input) {
        Engine::handle(self, now, input);
    }
    fn on_timeout(&mut self, now: Now) {
        Engine::on_timeout(self, now);
    }
    fn next_timeout(&self) -> Option<Instant> {
        Engine::next_timeout(self)
    }
    fn poll_output(&mut self) -> Option<Output> {
        Engine::poll_output(self)
    }
}

/// What comes in.
pub struct Sources {
    /// The UDP sockets, which send as well.
    pub udp: Vec<UdpPort>,
    /// From the other threads.
    pub arrivals: Arrivals,
    /// From the administrative interface.
    pub questions: mpsc::Receiver<Question>,
    /// Ends the loop.
    pub stop: CancellationToken,
}

/// Who carries out what the engine says.
pub struct Hands {
    /// TCP.
    pub streams: Streams,
    /// To the other hosts of the cluster, if there are any to be had.
    pub link: Option<Link>,
    /// To the store's task.
    pub store: mpsc::Sender<(StoreId, Wanted)>,
    /// To the task that looks up names.
    pub names: mpsc::Sender<(QueryId, Query)>,
    /// To the media service.
    pub media: Box<dyn Fn(media::Command) + Send>,
    /// To everybody who listens.
    pub events: Events,
}

/// The loop with all it holds.
pub struct Drive<M> {
    machine: M,
    clock: Clock,
    heartbeat: Heartbeat,
    udp: Vec<UdpPort>,
    arrivals: Arrivals,
    questions: mpsc::Receiver<Question>,
    questions_open: bool,
    stop: CancellationToken,
    hands: Hands,
    /// Whose answer the engine still owes.
    asked: BTreeMap<AdminId, oneshot::Sender<Result<Value, Refused>>>,
    last_question: u64,
    counters: Counters,
    /// What comes back while outputs are carried out, failures mostly; the engine hears of it right after.
    returned: VecDeque<Input>,
}

/// Messages by transport and direction. Looked up once: a look-up each would cost more than the counting.
struct Counters {
    received_udp: Counter,
    received_tcp: Counter,
    sent_udp: Counter,
    sent_tcp: Counter,
    failed: Counter,
}

impl Counters {
    fn new() -> Self {
        Self {
            received_udp: counter!("switchyard_messages_received_total", "transport" => "udp"),
            received_tcp: counter!("switchyard_messages_received_total", "transport" => "tcp"),
            sent_udp: counter!("switchyard_messages_sent_total", "transport" => "udp"),
            sent_tcp: counter!("switchyard_messages_sent_total", "transport" => "tcp"),
            failed: counter!("switchyard_messages_unsent_total"),
        }
    }
}

/// What ended a wait, beside readiness that is looked at anyway.
#[derive(Default)]
struct Woken {
    input: Option<Input>,
    question: Option<Question>,
    stop: bool,
}

impl<M: Machine> Drive<M> {
    /// A loop around `machine`, not yet running.
    pub fn new(machine: M, clock: Clock, heartbeat: Heartbeat, sources: Sources, hands: Hands) -> Self {
        let Sources { udp, arrivals, questions, stop } = sources;
        Self {
            machine,
            clock,
            heartbeat,
            udp,
            arrivals,
            questions,
            questions_open: true,
            stop,
            hands,
            asked: BTreeMap::new(),
            last_question: 0,
            counters: Counters::new(),
            returned: VecDeque::new(),
        }
    }

    /// Runs until told to stop. What the engine says before is still carried out.
    pub async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_MAX];
        let stop = self.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut alarm = pin!(tokio::time::sleep_until(self.clock.wake_at(Instant::ZERO)));
        let mut alarm_at = None;
        self.settle();
        loop {
            let next = self.machine.next_timeout();
            if let Some(next) = next
                && alarm_at != Some(next)
            {
                alarm.as_mut().reset(self.clock.wake_at(next));
                alarm_at = Some(next);
            }
            self.heartbeat.resting();
            let woken = self.wait(next.is_some().then_some(alarm.as_mut()), stopped.as_mut()).await;
            self.heartbeat.working(self.clock.now());
            if let Some(input) = woken.input {
                self.handle(input);
            }
            if let Some(question) = woken.question {
                self.ask(question);
            }
            self.sweep(&mut buffer);
            if woken.stop {
                self.flush();
                return;
            }
        }
    }

    /// Until there is something to do. Each source is asked, so that each will wake us.
    async fn wait(
        &mut self,
        mut alarm: Option<Pin<&mut Sleep>>,
        mut stopped: Pin<&mut impl Future<Output = ()>>,
    ) -> Woken {
        poll_fn(|cx| {
            let mut woken = Woken::default();
            let mut ready = false;
            for port in &self.udp {
                ready |= port.poll_ready(cx).is_ready();
            }
            if let Poll::Ready(Some(input)) = self.arrivals.prompt.poll_recv(cx) {
                woken.input = Some(input);
            } else if let Poll::Ready(Some(input)) = self.arrivals.waiting.poll_recv(cx) {
                woken.input = Some(input);
            }
            if self.questions_open {
                match self.questions.poll_recv(cx) {
                    Poll::Ready(Some(question)) => woken.question = Some(question),
                    Poll::Ready(None) => self.questions_open = false,
                    Poll::Pending => {}
                }
            }
            if let Some(alarm) = &mut alarm {
                ready |= alarm.as_mut().poll(cx).is_ready();
            }
            woken.stop = stopped.as_mut().poll(cx).is_ready();
            ready |= woken.stop || woken.input.is_some() || woken.question.is_some();
            if ready { Poll::Ready(woken) } else { Poll::Pending }
        })
        .await
    }

    /// Takes a bounded number from every source, so that none starves another or the timers.
    fn sweep(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            let Ok(input) = self.arrivals.prompt.try_recv() else { break };
            self.handle(input);
        }
        for port in 0..self.udp.len() {
            for _ in 0..BATCH {
                let Some((flow, bytes)) = self.udp[port].try_receive(buffer) else { break };
                self.handle(Input::Received { flow, bytes });
            }
        }
        for _ in 0..BATCH {
            let Ok(input) = self.arrivals.waiting.try_recv() else { break };
            self.handle(input);
        }
        for _ in 0..BATCH {
            let Ok(question) = self.questions.try_recv() else { break };
            self.ask(question);
        }
        self.flush();
        let now = self.clock.now();
        if self.machine.next_timeout().is_some_and(|due| due <= now.instant) {
            self.machine.on_timeout(now);
            self.settle();
        }
    }

    fn handle(&mut self, input: Input) {
        match &input {
            Input::Received { flow, .. } if flow.protocol == Protocol::Udp => {
                self.counters.received_udp.increment(1);
            }
            Input::Received { .. } => self.counters.received_tcp.increment(1),
            Input::SendFailed { .. } => self.counters.failed.increment(1),
            _ => {}
        }
        self.machine.handle(self.clock.now(), input);
        self.settle();
    }

    fn ask(&mut self, (what, reply): Question) {
        self.last_question += 1;
        let request = AdminId(self.last_question);
        // Those who gave up waiting are forgotten here, since their answer may never come.
        self.asked.retain(|_, reply| !reply.is_closed());
        self.asked.insert(request, reply);
        self.handle(Input::Admin { request, what });
    }

    /// Carries out everything the engine says, and tells it at once what cannot be done.
    fn settle(&mut self) {
        loop {
            while let Some(output) = self.machine.poll_output() {
                self.carry_out(output);
            }
            let Some(input) = self.returned.pop_front() else { return };
            self.machine.handle(self.clock.now(), input);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                if let Err(reason) = self.send(flow, bytes) {
                    self.counters.failed.increment(1);
                    if repeats::UNSENT.is_first() {
                        tracing::info!(%flow, %reason, "not sent");
                    }
                    self.returned.push_back(Input::SendFailed { flow, reason });
                }
            }
            Output::Resolve { query, host, port, protocol, secure } => {
                let question = (query, Query { host, port, protocol, secure });
                if self.hands.names.try_send(question).is_err() {
                    if repeats::NOT_LOOKED_UP.is_first() {
                        tracing::warn!("too many names are being looked up");
                    }
                    self.returned.push_back(Input::Resolved { query, targets: Vec::new() });
                }
            }
            Output::Store { request, transaction } => {
                if let Err(error) = self.ask_store(request, Wanted::Write(transaction)) {
                    self.returned.push_back(Input::Stored { request, result: Err(error) });
                }
            }
            Output::Read { request } => {
                if let Err(error) = self.ask_store(request, Wanted::Read) {
                    self.returned.push_back(Input::Read { request, result: Err(error) });
                }
            }
            Output::Link { to, at, frame } => {
                let back = match &self.hands.link {
                    Some(link) => link.send(to, at, frame),
                    None => Some(Input::Unlinked { to, frame }),
                };
                self.returned.extend(back);
            }
            Output::Media(command) => (self.hands.media)(command),
            Output::Admin { request, answer } => {
                if let Some(reply) = self.asked.remove(&request) {
                    // The asker may have given up meanwhile.
                    let _ = reply.send(answer);
                }
            }
            Output::Event(event) => {
                log(&event);
                self.hands.events.publish(&event);
            }
        }
    }

    fn ask_store(&self, request: StoreId, wanted: Wanted) -> Result<(), StoreError> {
        self.hands.store.try_send((request, wanted)).map_err(|error| {
            let reason = match error {
                TrySendError::Full(_) => "too many writes wait for it",
                TrySendError::Closed(_) => "it is closed",
            };
            StoreError::Unavailable(reason.to_owned())
        })
    }

    fn send(&mut self, flow: Flow, bytes: bytes::Bytes) -> Result<(), String> {
        match flow.protocol {
            Protocol::Udp => {
                let same_family = |port: &UdpPort| port.local().is_ipv4() == flow.remote.is_ipv4();
                let index = (self.udp.iter().position(|port| port.local() == flow.local))
                    // The flow may come from an earlier run that listened elsewhere.
                    .or_else(|| self.udp.iter().position(same_family));
                let port = index.and_then(|index| self.udp.get_mut(index));
                let port = port.ok_or("no UDP socket for that address family")?;
                self.counters.sent_udp.increment(1);
                port.send(flow.remote, bytes).map_err(|error| error.to_string())
            }
            Protocol::Tcp => {
                self.counters.sent_tcp.increment(1);
                self.hands.streams.send(flow, bytes).map_err(|error| error.to_string())
            }
            protocol => Err(format!("{protocol} is not available in this version")),
        }
    }

    /// Sends the datagrams that had to wait.
    fn flush(&mut self) {
        for port in 0..self.udp.len() {
            for (flow, error) in self.udp[port].flush() {
                self.returned.push_back(Input::SendFailed { flow, reason: error.to_string() });
            }
        }
        self.settle();
    }
}

/// One line per event, under its own target so that it can be filtered.
fn log(event: &Event) {
    let Event { what, code, call_id, detail, .. } = event;
    let call_id = call_id.as_deref();
    let detail = (!detail.is_null()).then(|| tracing::field::display(detail));
    if is_alarming(event) {
        tracing::warn!(target: "switchyard::event", code, call_id, detail, "{what}");
    } else {
        tracing::info!(target: "switchyard::event", code, call_id, detail, "{what}");
    }
}

/// What somebody should look at: a refused park is daily life, a refused policy is not, nor is a pool that is out or lost.
fn is_alarming(Event { what, detail, .. }: &Event) -> bool {
    let lost = [Phase::Outage, Phase::Resilient].iter().any(|phase| detail["to"] == phase.word());
    what.ends_with(".failed") || *what == "policy.refused" || *what == "pool.phase" && lost
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
