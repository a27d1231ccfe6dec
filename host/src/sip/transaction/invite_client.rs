//! The INVITE client transaction (RFC 3261 §17.1.1, RFC 6026 §8.4).

use std::time::Duration;

use smallvec::SmallVec;

use super::Failure;
use super::timer::{Backoff, Timings, earliest};
use crate::sip::status::{Class, Status};
use crate::time::Instant;

/// INVITE client timers (RFC 3261 Appendix A, RFC 6026).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// When to retransmit the INVITE; doubles from T1, unreliable transports only.
    A,
    /// When to stop waiting for any response: 64*T1.
    B,
    /// When to stop repeating the ACK: 32 s on unreliable transports.
    D,
    /// When to stop listening for 2xx from other forks: 64*T1.
    M,
    /// When to stop waiting for the final response to an INVITE that was cancelled, 64*T1 after the CANCEL (§9.1), or that was
    /// left alone.
    Cancelled,
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send the INVITE, again perhaps.
    SendInvite,
    /// Send the ACK for the failure at hand.
    SendAck,
    /// Send the CANCEL now.
    SendCancel,
    /// Hand the response at hand to the transaction user.
    Deliver,
    /// Tell the transaction user that no final response will come.
    Fail(Failure),
}

/// The states of RFC 3261 Figure 5 as changed by RFC 6026.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Sent, nothing heard.
    Calling,
    /// A provisional response came.
    Proceeding,
    /// A 2xx came; others may.
    Accepted,
    /// A failure came and was acknowledged.
    Completed,
    /// Over.
    Terminated,
}

/// Whether the transaction user wants the INVITE cancelled (§9.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cancel {
    No,
    /// Held back: a CANCEL must not overtake its INVITE.
    OnceHeard,
    Sent,
    /// Nor does it want to hear more: what comes in 32 s from then on comes too late.
    Left,
}

/// The machine.
#[derive(Debug)]
pub struct InviteClient {
    state: State,
    cancel: Cancel,
    reliable: bool,
    timings: Timings,
    repeat: Option<Backoff>,
    /// B, D, M or Cancelled: never two at a time.
    deadline: Option<(Instant, Timer)>,
    outputs: SmallVec<[Output; 4]>,
}

impl InviteClient {
    /// Starts by sending the INVITE.
    pub fn new(now: Instant, timings: Timings, reliable: bool) -> Self {
        Self {
            state: State::Calling,
            cancel: Cancel::No,
            reliable,
            timings,
            repeat: (!reliable).then(|| Backoff::new(now, &timings, Duration::MAX)),
            deadline: Some((now + timings.give_up(), Timer::B)),
            outputs: SmallVec::from_slice(&[Output::SendInvite]),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// A response came.
    pub fn on_response(&mut self, now: Instant, status: Status) {
        use State::{Accepted, Calling, Completed, Proceeding, Terminated};
        match (self.state, status.class()) {
            (Calling | Proceeding, Class::Provisional) => self.proceed(now),
            // A 2xx from another fork still belongs to this INVITE. Dropping it would leave an
            // answered phone talking to nobody, so stay reachable until Timer M (RFC 6026).
            (Calling | Proceeding, Class::Success) => self.accept(now),
            (Accepted, Class::Success) => self.outputs.push(Output::Deliver),
            (Calling | Proceeding, Class::Failure) => self.complete(now),
            (Completed, Class::Failure) => self.outputs.push(Output::SendAck),
            // Late or duplicate: already answered.
            (Accepted, Class::Provisional | Class::Failure) => {}
            (Completed, Class::Provisional | Class::Success) => {}
            (Terminated, Class::Provisional | Class::Success | Class::Failure) => {}
        }
    }

    /// The transaction user no longer wants the call.
    pub fn on_cancel(&mut self, now: Instant) {
        match (self.state, self.cancel) {
            (State::Calling, Cancel::No) => self.cancel = Cancel::OnceHeard,
            (State::Proceeding, Cancel::No) => self.send_cancel(now),
            (State::Calling | State::Proceeding, Cancel::OnceHeard | Cancel::Sent | Cancel::Left) => {}
            // Answered: the response that crossed the wish to cancel counts.
            (
                State::Accepted | State::Completed | State::Terminated,
                Cancel::No | Cancel::OnceHeard | Cancel::Sent | Cancel::Left,
            ) => {}
        }
    }

    /// The transaction user does not wait any more, and says nothing: a phone that answers 100 for ever must not keep the transaction.
    pub fn on_left(&mut self, now: Instant) {
        match self.state {
            State::Calling | State::Proceeding => {
                if self.cancel == Cancel::No {
                    self.cancel = Cancel::Left;
                }
                self.deadline.get_or_insert((now + self.timings.give_up(), Timer::Cancelled));
            }
            // These end by themselves.
            State::Accepted | State::Completed | State::Terminated => {}
        }
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        let over = self.deadline.is_some_and(|(at, _)| at <= now);
        match self.state {
            State::Calling | State::Proceeding if over => self.fail(Failure::Timeout),
            State::Calling => {
                if let Some(repeat) = self.repeat.as_mut().filter(|repeat| repeat.is_due(now)) {
                    repeat.again(now);
                    self.outputs.push(Output::SendInvite);
                }
            }
            State::Accepted | State::Completed if over => self.terminate(),
            State::Proceeding | State::Accepted | State::Completed | State::Terminated => {}
        }
    }

    /// The transport could not send what this transaction sent.
    pub fn on_send_failed(&mut self) {
        match self.state {
            State::Calling => self.fail(Failure::Transport),
            // The other side has heard us; it was the CANCEL or the ACK of some other message that got lost.
            State::Proceeding | State::Accepted => {}
            State::Completed => self.terminate(),
            State::Terminated => {}
        }
    }

    /// When to call [`on_timeout`](Self::on_timeout), and for which timer.
    pub fn next_timeout(&self) -> Option<(Instant, Timer)> {
        let (deadline, timer) = self.deadline.map_or((None, Timer::B), |(at, timer)| (Some(at), timer));
        earliest([(self.repeat.map(|repeat| repeat.at), Timer::A), (deadline, timer)])
    }

    /// What to do next; drain to `None` after each call above.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() { None } else { Some(self.outputs.remove(0)) }
    }

    fn proceed(&mut self, now: Instant) {
        if self.state == State::Calling {
            self.state = State::Proceeding;
            self.repeat = None;
            if self.cancel != Cancel::Left {
                self.deadline = None;
            }
        }
        self.outputs.push(Output::Deliver);
        if self.cancel == Cancel::OnceHeard {
            self.send_cancel(now);
        }
    }

    fn send_cancel(&mut self, now: Instant) {
        self.cancel = Cancel::Sent;
        self.deadline = Some((now + self.timings.give_up(), Timer::Cancelled));
        self.outputs.push(Output::SendCancel);
    }

    fn accept(&mut self, now: Instant) {
        self.state = State::Accepted;
        self.repeat = None;
        self.deadline = Some((now + self.timings.give_up(), Timer::M));
        self.outputs.push(Output::Deliver);
    }

    fn complete(&mut self, now: Instant) {
        self.outputs.extend([Output::SendAck, Output::Deliver]);
        self.repeat = None;
        if self.reliable {
            self.terminate();
        } else {
            self.state = State::Completed;
            self.deadline = Some((now + self.timings.give_up(), Timer::D));
        }
    }

    fn fail(&mut self, why: Failure) {
        self.outputs.push(Output::Fail(why));
        self.terminate();
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
        self.repeat = None;
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::after_start(Duration::from_millis(ms))
    }

    fn drain(machine: &mut InviteClient) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    fn udp() -> InviteClient {
        let mut machine = InviteClient::new(ms(0), Timings::default(), false);
        assert_eq!(drain(&mut machine), [Output::SendInvite]);
        machine
    }

    fn respond(machine: &mut InviteClient, at: u64, status: u16) -> Vec<Output> {
        machine.on_response(ms(at), Status(status));
        drain(machine)
    }

    #[test]
    fn an_unanswered_invite_is_repeated_and_given_up_after_64_t1() {
        let mut machine = udp();
        let mut sent = vec![];
        let failed = loop {
            let (at, timer) = machine.next_timeout().expect("running");
            machine.on_timeout(at);
            match drain(&mut machine)[..] {
                [Output::SendInvite] => sent.push((timer, at)),
                [Output::Fail(why)] => break (timer, at, why),
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(sent, [500, 1500, 3500, 7500, 15500, 31500].map(|at| (Timer::A, ms(at))));
        assert_eq!(failed, (Timer::B, ms(32000), Failure::Timeout));
        assert_eq!((machine.state(), machine.next_timeout()), (State::Terminated, None));
    }

    #[test]
    fn a_stream_repeats_nothing() {
        let machine = InviteClient::new(ms(0), Timings::default(), true);
        assert_eq!(machine.next_timeout(), Some((ms(32000), Timer::B)));
    }

    #[test]
    fn ringing_stops_all_timers() {
        let mut machine = udp();
        assert_eq!(respond(&mut machine, 100, 180), [Output::Deliver]);
        assert_eq!((machine.state(), machine.next_timeout()), (State::Proceeding, None));
        assert_eq!(respond(&mut machine, 200, 183), [Output::Deliver]);
        machine.on_timeout(ms(1_000_000));
        assert_eq!(drain(&mut machine), []);
    }

    /// RFC 6026: every 2xx goes up until Timer M, nothing else does.
    #[test]
    fn each_2xx_is_delivered_until_timer_m() {
        let mut machine = udp();
        respond(&mut machine, 100, 180);
        assert_eq!(respond(&mut machine, 1000, 200), [Output::Deliver]);
        assert_eq!(respond(&mut machine, 1500, 200), [Output::Deliver]);
        assert_eq!(respond(&mut machine, 1600, 180), []);
        assert_eq!(respond(&mut machine, 1700, 486), []);
        assert_eq!(machine.next_timeout(), Some((ms(33000), Timer::M)));
        machine.on_timeout(ms(32999));
        assert_eq!(machine.state(), State::Accepted);
        machine.on_timeout(ms(33000));
        assert_eq!(machine.state(), State::Terminated);
        assert_eq!(respond(&mut machine, 33001, 200), []);
    }

    #[test]
    fn a_failure_is_acknowledged_each_time_and_delivered_once() {
        let mut machine = udp();
        assert_eq!(respond(&mut machine, 100, 486), [Output::SendAck, Output::Deliver]);
        assert_eq!(respond(&mut machine, 600, 486), [Output::SendAck]);
        assert_eq!(respond(&mut machine, 700, 200), []);
        assert_eq!(machine.next_timeout(), Some((ms(32100), Timer::D)));
        machine.on_timeout(ms(32100));
        assert_eq!(machine.state(), State::Terminated);
        let mut stream = InviteClient::new(ms(0), Timings::default(), true);
        drain(&mut stream);
        assert_eq!(respond(&mut stream, 100, 486), [Output::SendAck, Output::Deliver]);
        assert_eq!(stream.state(), State::Terminated);
    }

    #[test]
    fn cancel_waits_for_a_provisional_response() {
        let mut machine = udp();
        machine.on_cancel(ms(10));
        assert_eq!(drain(&mut machine), []);
        assert_eq!(respond(&mut machine, 100, 100), [Output::Deliver, Output::SendCancel]);
        machine.on_cancel(ms(150));
        assert_eq!(respond(&mut machine, 200, 180), [Output::Deliver]);
        assert_eq!(machine.next_timeout(), Some((ms(32100), Timer::Cancelled)));
        assert_eq!(respond(&mut machine, 300, 487), [Output::SendAck, Output::Deliver]);
    }

    #[test]
    fn a_cancelled_invite_without_final_response_is_given_up() {
        let mut machine = udp();
        respond(&mut machine, 100, 180);
        machine.on_cancel(ms(5000));
        assert_eq!(drain(&mut machine), [Output::SendCancel]);
        machine.on_timeout(ms(37000));
        assert_eq!(drain(&mut machine), [Output::Fail(Failure::Timeout)]);
    }

    #[test]
    fn an_answer_that_crosses_the_cancel_counts() {
        let mut machine = udp();
        machine.on_cancel(ms(10));
        assert_eq!(respond(&mut machine, 100, 200), [Output::Deliver]);
        machine.on_cancel(ms(110));
        assert_eq!(drain(&mut machine), []);
    }

    #[test]
    fn a_transport_error_matters_only_before_the_peer_was_heard() {
        let mut machine = udp();
        machine.on_send_failed();
        assert_eq!(drain(&mut machine), [Output::Fail(Failure::Transport)]);
        machine.on_send_failed();
        assert_eq!(drain(&mut machine), []);
        let mut ringing = udp();
        respond(&mut ringing, 100, 180);
        ringing.on_send_failed();
        assert_eq!((drain(&mut ringing), ringing.state()), (vec![], State::Proceeding));
    }
}
