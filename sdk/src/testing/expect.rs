//! What a test expects a plugin to do, one command after the other.

use super::{Asked, Command, FakeHost, FlowEnd, Joining, Playing, Recorded, Request};
use crate::ext::call::{Accept, Release, Ring};
use crate::ext::orbit::{Claim, Commit, Outcome, Reserve};
use crate::ext::ringing::{Query, Take, Tell};
use crate::types::{LegId, Refusal};

impl FakeHost {
    /// The next command must be a `play`.
    #[track_caller]
    pub fn expect_play(&mut self) -> Asked<Playing> {
        self.expect()
    }

    /// The next command must be a `join`.
    #[track_caller]
    pub fn expect_join(&mut self) -> Asked<Joining> {
        self.expect()
    }

    /// The next command must be a `ring`.
    #[track_caller]
    pub fn expect_ring(&mut self) -> Asked<Ring> {
        self.expect()
    }

    /// The next command must be a `reserve`.
    #[track_caller]
    pub fn expect_reserve(&mut self) -> Asked<Reserve> {
        self.expect()
    }

    /// The next command must be a `commit`.
    #[track_caller]
    pub fn expect_commit(&mut self) -> Asked<Commit> {
        self.expect()
    }

    /// The next command must be a `claim`.
    #[track_caller]
    pub fn expect_claim(&mut self) -> Asked<Claim> {
        self.expect()
    }

    /// The next command must be a `list`.
    #[track_caller]
    pub fn expect_list(&mut self) -> Asked<Query> {
        self.expect()
    }

    /// The next command must be a `take`.
    #[track_caller]
    pub fn expect_take(&mut self) -> Asked<Take> {
        self.expect()
    }

    /// The next command must be a `tell`.
    #[track_caller]
    pub fn expect_tell(&mut self) -> Tell {
        self.expect_told("tell", |command| match command {
            Command::Tell(tell) => Some(tell.clone()),
            _ => None,
        })
    }

    /// The next command must be a `save`.
    #[track_caller]
    pub fn expect_save(&mut self) -> Commit {
        self.expect_told("save", |command| match command {
            Command::Save(record) => Some(record.clone()),
            _ => None,
        })
    }

    /// The next command must be a `release`.
    #[track_caller]
    pub fn expect_release(&mut self) -> (LegId, Release) {
        self.expect_told("release", |command| match command {
            Command::Release(leg, release) => Some((*leg, release.clone())),
            _ => None,
        })
    }

    /// The next command must be an `accept`.
    #[track_caller]
    pub fn expect_accept(&mut self) -> Accept {
        self.expect_told("accept", |command| match command {
            Command::Accept(accept) => Some(accept.clone()),
            _ => None,
        })
    }

    /// The next command must be a `refuse`.
    #[track_caller]
    pub fn expect_refuse(&mut self) -> Refusal {
        self.expect_told("refuse", |command| match command {
            Command::Refuse(refusal) => Some(refusal.clone()),
            _ => None,
        })
    }

    /// The next command must be a `free`.
    #[track_caller]
    pub fn expect_free(&mut self) -> (String, Outcome) {
        self.expect_told("free", |command| match command {
            Command::Free(number, outcome) => Some((number.clone(), *outcome)),
            _ => None,
        })
    }

    /// The next command must be an `unclaim`.
    #[track_caller]
    pub fn expect_unclaim(&mut self) -> String {
        self.expect_told("unclaim", |command| match command {
            Command::Unclaim(number) => Some(number.clone()),
            _ => None,
        })
    }

    /// The next thing must be the end of a flow; how, and its message.
    #[track_caller]
    pub fn expect_end(&mut self) -> (FlowEnd, String) {
        self.expect_told("the end of a flow", |command| match command {
            Command::End(how, message) => Some((*how, message.clone())),
            _ => None,
        })
    }

    /// The next thing must be the end of a flow that returned.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn expect_done(&mut self) {
        let (how, message) = self.expect_end();
        assert_eq!(how, FlowEnd::Done, "the flow ended with: {message}{}", self.story());
    }

    /// No command may be left over.
    ///
    /// # Panics
    /// If one is.
    #[track_caller]
    pub fn expect_nothing(&self) {
        let pending = self.state.pending.borrow();
        if let Some(next) = pending.front() {
            panic!("expected nothing, but {next}{}", self.story());
        }
    }

    /// The next command, whatever it is.
    pub fn next_command(&mut self) -> Option<Recorded> {
        self.state.pending.borrow_mut().pop_front()
    }

    /// Everything the plugin did, waits and withdrawals included, in order.
    pub fn transcript(&self) -> Vec<Recorded> {
        self.state.transcript.borrow().clone()
    }

    /// How many flows are alive.
    pub fn flows(&self) -> usize {
        self.state.flows.borrow().len()
    }

    /// What the plugin waits for: commands without an answer, and waits.
    pub fn waiting(&self) -> Vec<Recorded> {
        self.state.open.borrow().clone()
    }

    /// The log: level (1 error … 4 debug) and text.
    pub fn log(&self) -> Vec<(u32, String)> {
        self.state.log.borrow().clone()
    }

    /// A counter's value.
    pub fn counter(&self, name: &str) -> u64 {
        self.state.counters.borrow().get(name).copied().unwrap_or(0)
    }

    #[track_caller]
    fn expect<R: Request>(&mut self) -> Asked<R> {
        let found = {
            let pending = self.state.pending.borrow();
            pending.front().and_then(|next| {
                Some(Asked { flow: next.flow, token: next.token?, request: R::of(&next.command)? })
            })
        };
        match found {
            Some(asked) => {
                self.state.pending.borrow_mut().pop_front();
                asked
            }
            None => self.unexpected(R::WORD),
        }
    }

    #[track_caller]
    fn expect_told<T>(&mut self, word: &str, pick: impl FnOnce(&Command) -> Option<T>) -> T {
        let found = self.state.pending.borrow().front().and_then(|next| pick(&next.command));
        match found {
            Some(value) => {
                self.state.pending.borrow_mut().pop_front();
                value
            }
            None => self.unexpected(word),
        }
    }

    #[track_caller]
    fn unexpected(&self, word: &str) -> ! {
        let pending = self.state.pending.borrow();
        match pending.front() {
            Some(next) => panic!("expected {word}, but {next}{}", self.story()),
            None => panic!("expected {word}, but the plugin did nothing{}", self.story()),
        }
    }

    /// What happened so far, for the message of a failed expectation.
    pub(super) fn story(&self) -> String {
        let mut story = String::from("\nso far:");
        for recorded in self.state.transcript.borrow().iter() {
            story.push_str(&format!("\n  {recorded}"));
        }
        for (level, text) in self.state.log.borrow().iter() {
            story.push_str(&format!("\n  log {level}: {text}"));
        }
        story
    }
}
