//! The INVITE server transaction (RFC 3261 §17.2.1, RFC 6026 §8.5).

use smallvec::SmallVec;

use super::timer::{Backoff, Timings, earliest};
use crate::sip::status::{Class, Status};
use crate::time::Instant;

/// INVITE server timers (RFC 3261 Appendix A, RFC 6026).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// When to repeat a failure; doubles from T1 to T2, unreliable transports only.
    G,
    /// When to stop waiting for the ACK of a failure: 64*T1.
    H,
    /// When to stop absorbing repeated ACKs: T4, unreliable transports only.
    I,
    /// When to stop absorbing repeated INVITEs after a 2xx: 64*T1.
    L,
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send the response at hand, and remember it.
    Send,
    /// Send the response remembered, if there is one.
    Repeat,
    /// Hand the ACK at hand to the transaction user.
    DeliverAck,
}

/// The states of RFC 3261 Figure 7 as changed by RFC 6026.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// No final response yet.
    Proceeding,
    /// A 2xx was sent; the transaction user repeats it.
    Accepted,
    /// A failure was sent; it is repeated until its ACK comes.
    Completed,
    /// The ACK came.
    Confirmed,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug)]
pub struct InviteServer {
    state: State,
    reliable: bool,
    timings: Timings,
    repeat: Option<Backoff>,
    /// H, I or L: never two at a time.
    deadline: Option<(Instant, Timer)>,
    outputs: SmallVec<[Output; 2]>,
}

impl InviteServer {
    /// An INVITE came that belongs to no transaction yet.
    pub fn new(timings: Timings, reliable: bool) -> Self {
        Self {
            state: State::Proceeding,
            reliable,
            timings,
            repeat: None,
            deadline: None,
            outputs: SmallVec::new(),
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The INVITE came again.
    pub fn on_invite(&mut self) {
        match self.state {
            State::Proceeding | State::Completed => self.outputs.push(Output::Repeat),
            // The transaction user repeats its 2xx by its own clock (RFC 6026 §7.1).
            State::Accepted => {}
            State::Confirmed | State::Terminated => {}
        }
    }

    /// An ACK with the INVITE's branch came.
    pub fn on_ack(&mut self, now: Instant) {
        match self.state {
            State::Completed if self.reliable => self.terminate(),
            State::Completed => {
                self.state = State::Confirmed;
                self.repeat = None;
                self.deadline = Some((now + self.timings.t4, Timer::I));
            }
            // From a peer that gives the ACK of a 2xx the branch of its INVITE (RFC 2543; RFC 6026 §7.1).
            State::Accepted => self.outputs.push(Output::DeliverAck),
            State::Proceeding | State::Confirmed | State::Terminated => {}
        }
    }

    /// The transaction user answers. `false`: too late, nothing is sent.
    pub fn respond(&mut self, now: Instant, status: Status) -> bool {
        use State::{Accepted, Completed, Confirmed, Proceeding, Terminated};
        match (self.state, status.class()) {
            (Proceeding, Class::Provisional) => {}
            (Proceeding, Class::Success) => {
                self.state = Accepted;
                self.deadline = Some((now + self.timings.give_up(), Timer::L));
            }
            (Proceeding, Class::Failure) => {
                self.state = Completed;
                self.repeat = (!self.reliable).then(|| Backoff::new(now, &self.timings, self.timings.t2));
                self.deadline = Some((now + self.timings.give_up(), Timer::H));
            }
            (Accepted, Class::Success) => {}
            (Accepted, Class::Provisional | Class::Failure) => return false,
            (Completed | Confirmed | Terminated, Class::Provisional | Class::Success | Class::Failure) => {
                return false;
            }
        }
        self.outputs.push(Output::Send);
        true
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        let over = self.deadline.is_some_and(|(at, _)| at <= now);
        match self.state {
            State::Accepted | State::Completed | State::Confirmed if over => self.terminate(),
            State::Completed => {
                if let Some(repeat) = self.repeat.as_mut().filter(|repeat| repeat.is_due(now)) {
                    repeat.again(now);
                    self.outputs.push(Output::Repeat);
                }
            }
            State::Proceeding | State::Accepted | State::Confirmed | State::Terminated => {}
        }
    }

    /// When to call [`on_timeout`](Self::on_timeout), and for which timer.
    pub fn next_timeout(&self) -> Option<(Instant, Timer)> {
        let (deadline, timer) = self.deadline.map_or((None, Timer::H), |(at, timer)| (Some(at), timer));
        earliest([(self.repeat.map(|repeat| repeat.at), Timer::G), (deadline, timer)])
    }

    /// What to do next; drain to `None` after each call above.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() { None } else { Some(self.outputs.remove(0)) }
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

    fn drain(machine: &mut InviteServer) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    fn answered(reliable: bool, status: Status) -> InviteServer {
        let mut machine = InviteServer::new(Timings::default(), reliable);
        assert!(machine.respond(ms(0), status));
        assert_eq!(drain(&mut machine), [Output::Send]);
        machine
    }

    #[test]
    fn a_repeated_invite_gets_the_last_response_again() {
        let mut machine = answered(false, Status::RINGING);
        machine.on_invite();
        assert_eq!(drain(&mut machine), [Output::Repeat]);
        assert_eq!((machine.state(), machine.next_timeout()), (State::Proceeding, None));
        assert!(machine.respond(ms(0), Status::BUSY_HERE));
        machine.on_invite();
        assert_eq!(drain(&mut machine), [Output::Send, Output::Repeat]);
    }

    #[test]
    fn a_failure_is_repeated_until_64_t1_without_an_ack() {
        let mut machine = answered(false, Status::BUSY_HERE);
        let mut sent = vec![];
        let last = loop {
            let (at, timer) = machine.next_timeout().expect("running");
            machine.on_timeout(at);
            match drain(&mut machine)[..] {
                [Output::Repeat] => sent.push(at),
                [] => break (at, timer),
                ref other => panic!("{other:?}"),
            }
        };
        assert_eq!(sent, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500].map(ms));
        assert_eq!((last, machine.state()), ((ms(32000), Timer::H), State::Terminated));
    }

    #[test]
    fn the_ack_of_a_failure_stops_the_repeats_and_goes_no_further() {
        let mut machine = answered(false, Status::BUSY_HERE);
        machine.on_ack(ms(100));
        machine.on_ack(ms(200));
        machine.on_invite();
        assert_eq!((drain(&mut machine), machine.state()), (vec![], State::Confirmed));
        assert_eq!(machine.next_timeout(), Some((ms(5100), Timer::I)));
        machine.on_timeout(ms(5100));
        assert_eq!(machine.state(), State::Terminated);
        let mut stream = answered(true, Status::BUSY_HERE);
        assert_eq!(stream.next_timeout(), Some((ms(32000), Timer::H)));
        stream.on_ack(ms(100));
        assert_eq!(stream.state(), State::Terminated);
    }

    /// RFC 6026: the transaction stays to absorb repeated INVITEs; the 2xx is the transaction user's to repeat.
    #[test]
    fn after_a_2xx_repeated_invites_are_absorbed_until_timer_l() {
        let mut machine = answered(true, Status::OK);
        machine.on_invite();
        assert_eq!(drain(&mut machine), []);
        assert!(machine.respond(ms(500), Status::OK));
        machine.on_ack(ms(600));
        assert_eq!(drain(&mut machine), [Output::Send, Output::DeliverAck]);
        assert!(!machine.respond(ms(700), Status::BUSY_HERE) && !machine.respond(ms(700), Status::RINGING));
        assert_eq!(machine.next_timeout(), Some((ms(32000), Timer::L)));
        machine.on_timeout(ms(32000));
        assert_eq!((drain(&mut machine), machine.state()), (vec![], State::Terminated));
    }

    #[test]
    fn a_second_final_response_is_refused() {
        let mut machine = answered(false, Status::REQUEST_TERMINATED);
        assert!(!machine.respond(ms(1), Status::OK));
        assert_eq!(drain(&mut machine), []);
    }

    #[test]
    fn an_ack_before_any_final_response_is_nothing() {
        let mut machine = answered(false, Status::RINGING);
        machine.on_ack(ms(1));
        assert_eq!((drain(&mut machine), machine.state()), (vec![], State::Proceeding));
    }
}
