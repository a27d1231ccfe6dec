//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use smallvec::SmallVec;

use super::Failure;
use super::timer::{Backoff, Timings, earliest};
use crate::sip::status::{Class, Status};
use crate::time::Instant;

/// Non-INVITE client timers (RFC 3261 Appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// When to retransmit the request; doubles from T1 to T2, unreliable transports only.
    E,
    /// When to stop waiting for a final response: 64*T1.
    F,
    /// When to stop absorbing repeated responses: T4, unreliable transports only.
    K,
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send the request, again perhaps.
    SendRequest,
    /// Hand the response at hand to the transaction user.
    Deliver,
    /// Tell the transaction user that no final response will come.
    Fail(Failure),
}

/// The states of RFC 3261 Figure 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Sent, nothing heard.
    Trying,
    /// A provisional response came.
    Proceeding,
    /// A final response came.
    Completed,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug)]
pub struct Client {
    state: State,
    reliable: bool,
    timings: Timings,
    repeat: Option<Backoff>,
    /// F or K: never both.
    deadline: Option<(Instant, Timer)>,
    outputs: SmallVec<[Output; 4]>,
}

impl Client {
    /// Starts by sending the request.
    pub fn new(now: Instant, timings: Timings, reliable: bool) -> Self {
        Self {
            state: State::Trying,
            reliable,
            timings,
            repeat: (!reliable).then(|| Backoff::new(now, &timings, timings.t2)),
            deadline: Some((now + timings.give_up(), Timer::F)),
            outputs: SmallVec::from_slice(&[Output::SendRequest]),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// A response came.
    pub fn on_response(&mut self, now: Instant, status: Status) {
        use State::{Completed, Proceeding, Terminated, Trying};
        match (self.state, status.class()) {
            (Trying | Proceeding, Class::Provisional) => {
                self.state = Proceeding;
                self.outputs.push(Output::Deliver);
            }
            (Trying | Proceeding, Class::Success | Class::Failure) => self.complete(now),
            // Repeated: already delivered.
            (Completed, Class::Provisional | Class::Success | Class::Failure) => {}
            (Terminated, Class::Provisional | Class::Success | Class::Failure) => {}
        }
    }

    /// The transaction user does not wait any more: it is not sent again, and whatever is answered is nobody's.
    pub fn on_left(&mut self) {
        self.terminate();
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        let over = self.deadline.is_some_and(|(at, _)| at <= now);
        match self.state {
            State::Trying | State::Proceeding if over => self.fail(Failure::Timeout),
            State::Trying | State::Proceeding => {
                let proceeding = self.state == State::Proceeding;
                if let Some(repeat) = self.repeat.as_mut().filter(|repeat| repeat.is_due(now)) {
                    // Who said "trying" needs no hurry (§17.1.2.2).
                    if proceeding {
                        repeat.jump_to_longest(now)
                    } else {
                        repeat.again(now)
                    }
                    self.outputs.push(Output::SendRequest);
                }
            }
            State::Completed if over => self.terminate(),
            State::Completed | State::Terminated => {}
        }
    }

    /// The transport could not send what this transaction sent.
    pub fn on_send_failed(&mut self) {
        match self.state {
            State::Trying | State::Proceeding => self.fail(Failure::Transport),
            State::Completed | State::Terminated => {}
        }
    }

    /// When to call [`on_timeout`](Self::on_timeout), and for which timer.
    pub fn next_timeout(&self) -> Option<(Instant, Timer)> {
        let (deadline, timer) = self.deadline.map_or((None, Timer::F), |(at, timer)| (Some(at), timer));
        earliest([(self.repeat.map(|repeat| repeat.at), Timer::E), (deadline, timer)])
    }

    /// What to do next; drain to `None` after each call above.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() { None } else { Some(self.outputs.remove(0)) }
    }

    fn complete(&mut self, now: Instant) {
        self.outputs.push(Output::Deliver);
        self.repeat = None;
        if self.reliable {
            self.terminate();
        } else {
            self.state = State::Completed;
            self.deadline = Some((now + self.timings.t4, Timer::K));
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
    use std::time::Duration;

    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::after_start(Duration::from_millis(ms))
    }

    fn drain(machine: &mut Client) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    fn client(reliable: bool) -> Client {
        let mut machine = Client::new(ms(0), Timings::default(), reliable);
        assert_eq!(drain(&mut machine), [Output::SendRequest]);
        machine
    }

    fn repeats(machine: &mut Client) -> Vec<Instant> {
        let mut sent = vec![];
        while let Some((at, _)) = machine.next_timeout() {
            machine.on_timeout(at);
            match drain(machine)[..] {
                [Output::SendRequest] => sent.push(at),
                [Output::Fail(Failure::Timeout)] => assert_eq!(at, ms(32000)),
                ref other => panic!("{other:?}"),
            }
        }
        sent
    }

    #[test]
    fn repeats_double_up_to_t2_and_end_at_64_t1() {
        let expected = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500].map(ms);
        assert_eq!(repeats(&mut client(false)), expected);
        assert_eq!(repeats(&mut client(true)), []);
    }

    #[test]
    fn a_provisional_response_slows_repeats_to_t2() {
        let mut machine = client(false);
        machine.on_response(ms(100), Status::TRYING);
        assert_eq!(drain(&mut machine), [Output::Deliver]);
        assert_eq!(repeats(&mut machine), [500, 4500, 8500, 12500, 16500, 20500, 24500, 28500].map(ms));
    }

    #[test]
    fn a_final_response_is_delivered_once_and_repeats_absorbed_until_timer_k() {
        let mut machine = client(false);
        machine.on_response(ms(100), Status::OK);
        machine.on_response(ms(200), Status::OK);
        assert_eq!(drain(&mut machine), [Output::Deliver]);
        assert_eq!(machine.next_timeout(), Some((ms(5100), Timer::K)));
        machine.on_timeout(ms(5100));
        assert_eq!(machine.state(), State::Terminated);
        let mut stream = client(true);
        stream.on_response(ms(100), Status::BUSY_HERE);
        assert_eq!((drain(&mut stream), stream.state()), (vec![Output::Deliver], State::Terminated));
    }

    #[test]
    fn a_transport_error_fails_it_until_it_is_answered() {
        let mut machine = client(false);
        machine.on_response(ms(100), Status::TRYING);
        machine.on_send_failed();
        assert_eq!(drain(&mut machine), [Output::Deliver, Output::Fail(Failure::Transport)]);
        let mut answered = client(false);
        answered.on_response(ms(100), Status::OK);
        answered.on_send_failed();
        assert_eq!(drain(&mut answered), [Output::Deliver]);
    }

    #[test]
    fn what_is_left_is_not_sent_again() {
        let mut machine = client(false);
        machine.on_left();
        assert_eq!(machine.next_timeout(), None);
        machine.on_timeout(ms(500));
        machine.on_response(ms(600), Status::OK);
        assert_eq!(drain(&mut machine), []);
        assert_eq!(machine.state(), State::Terminated);
    }
}
