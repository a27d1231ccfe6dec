//! The non-INVITE server transaction (RFC 3261 §17.2.2).

use smallvec::SmallVec;

use super::timer::Timings;
use crate::sip::status::{Class, Status};
use crate::time::Instant;

/// Non-INVITE server timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// When to stop absorbing repeated requests: 64*T1, unreliable transports only (RFC 3261 Appendix A).
    J,
    /// When to forget a request nobody answered: its sender gave up at its Timer F, and a late answer is forbidden
    /// (RFC 4320 §4.2).
    Unanswered,
}

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Send the response at hand, and remember it.
    Send,
    /// Send the response remembered, if there is one.
    Repeat,
}

/// The states of RFC 3261 Figure 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing answered.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// A final response was sent.
    Completed,
    /// Over.
    Terminated,
}

/// The machine.
#[derive(Debug)]
pub struct Server {
    state: State,
    reliable: bool,
    timings: Timings,
    deadline: Option<(Instant, Timer)>,
    outputs: SmallVec<[Output; 2]>,
}

impl Server {
    /// A request came that belongs to no transaction yet.
    pub fn new(now: Instant, timings: Timings, reliable: bool) -> Self {
        let deadline = Some((now + timings.give_up(), Timer::Unanswered));
        Self { state: State::Trying, reliable, timings, deadline, outputs: SmallVec::new() }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The request came again.
    pub fn on_request(&mut self) {
        match self.state {
            State::Proceeding | State::Completed => self.outputs.push(Output::Repeat),
            State::Trying | State::Terminated => {}
        }
    }

    /// The transaction user answers. `false`: too late, nothing is sent.
    pub fn respond(&mut self, now: Instant, status: Status) -> bool {
        use State::{Completed, Proceeding, Terminated, Trying};
        match (self.state, status.class()) {
            (Trying | Proceeding, Class::Provisional) => self.state = Proceeding,
            (Trying | Proceeding, Class::Success | Class::Failure) if self.reliable => self.terminate(),
            (Trying | Proceeding, Class::Success | Class::Failure) => {
                self.state = Completed;
                self.deadline = Some((now + self.timings.give_up(), Timer::J));
            }
            (Completed | Terminated, Class::Provisional | Class::Success | Class::Failure) => return false,
        }
        self.outputs.push(Output::Send);
        true
    }

    /// Time has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        let over = self.deadline.is_some_and(|(at, _)| at <= now);
        match self.state {
            State::Trying | State::Proceeding | State::Completed if over => self.terminate(),
            State::Trying | State::Proceeding | State::Completed | State::Terminated => {}
        }
    }

    /// When to call [`on_timeout`](Self::on_timeout), and for which timer.
    pub fn next_timeout(&self) -> Option<(Instant, Timer)> {
        self.deadline
    }

    /// What to do next; drain to `None` after each call above.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() { None } else { Some(self.outputs.remove(0)) }
    }

    fn terminate(&mut self) {
        self.state = State::Terminated;
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

    fn drain(machine: &mut Server) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    #[test]
    fn repeats_get_the_last_response_once_there_is_one() {
        let mut machine = Server::new(ms(0), Timings::default(), false);
        machine.on_request();
        assert_eq!(drain(&mut machine), []);
        assert!(machine.respond(ms(10), Status::TRYING));
        machine.on_request();
        assert_eq!(drain(&mut machine), [Output::Send, Output::Repeat]);
        assert!(machine.respond(ms(20), Status::OK));
        machine.on_request();
        assert_eq!(drain(&mut machine), [Output::Send, Output::Repeat]);
        assert!(!machine.respond(ms(30), Status::BUSY_HERE));
        assert_eq!(drain(&mut machine), []);
    }

    #[test]
    fn it_lives_64_t1_on_datagrams_and_ends_at_once_on_streams() {
        let mut machine = Server::new(ms(0), Timings::default(), false);
        machine.respond(ms(100), Status::OK);
        assert_eq!(machine.next_timeout(), Some((ms(32100), Timer::J)));
        machine.on_timeout(ms(32100));
        assert_eq!(machine.state(), State::Terminated);
        let mut stream = Server::new(ms(0), Timings::default(), true);
        stream.respond(ms(100), Status::OK);
        assert_eq!((drain(&mut stream), stream.state()), (vec![Output::Send], State::Terminated));
    }

    #[test]
    fn a_request_nobody_answers_is_forgotten() {
        let mut machine = Server::new(ms(0), Timings::default(), true);
        assert_eq!(machine.next_timeout(), Some((ms(32000), Timer::Unanswered)));
        machine.on_timeout(ms(32000));
        assert!(!machine.respond(ms(32001), Status::OK));
        assert_eq!((drain(&mut machine), machine.state()), (vec![], State::Terminated));
    }
}
