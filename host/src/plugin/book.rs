//! Which flow belongs to whom, which answers are outstanding, and what was asked for: the books of all instances.

use std::collections::{BTreeMap, HashMap, VecDeque};

use smallvec::SmallVec;
use switchyard_sdk::abi::status;
use switchyard_sdk::host::Command as Asked;
use switchyard_sdk::types::{FlowId, Token};

use super::command::{Command, FlowEnd, InstanceId, Verb, Waiter};

/// Commands that wait for the engine. It takes them after each event, so only a plugin that asks in an endless
/// loop gets here; the rest of what it asks for is INVALID.
const COMMANDS_MAX: usize = 65_536;

/// The plugin's part of a record (design.md §5): it is written with each park, and read by every host.
const STATE_BYTES_MAX: usize = 1024;

#[derive(Default)]
pub(super) struct Book {
    last_flow: u64,
    /// Ordered, because ending all flows of an instance shows in the order of their commands.
    flows: BTreeMap<FlowId, Flow>,
    /// Looked up only, never walked.
    waiters: HashMap<Waiter, FlowId>,
    commands: VecDeque<Command>,
}

struct Flow {
    instance: InstanceId,
    waits: SmallVec<[Token; 4]>,
}

impl Book {
    pub(super) fn start_flow(&mut self, instance: InstanceId) -> FlowId {
        self.last_flow += 1;
        let flow = FlowId(self.last_flow);
        self.flows.insert(flow, Flow { instance, waits: SmallVec::new() });
        flow
    }

    pub(super) fn owner(&self, flow: FlowId) -> Option<InstanceId> {
        Some(self.flows.get(&flow)?.instance)
    }

    pub(super) fn count_of(&self, instance: InstanceId) -> usize {
        self.flows.values().filter(|flow| flow.instance == instance).count()
    }

    /// Takes what an instance asks for; a [`status`].
    pub(super) fn take(
        &mut self,
        instance: InstanceId,
        flow: FlowId,
        token: Option<Token>,
        asked: Asked,
    ) -> i32 {
        match asked {
            Asked::Withdraw(token) => self.withdraw(Waiter { instance, token }),
            Asked::End(how, message) => self.end_flow(instance, flow, how, message),
            asked => self.take_command(instance, flow, token, asked),
        }
    }

    fn take_command(
        &mut self,
        instance: InstanceId,
        flow: FlowId,
        token: Option<Token>,
        asked: Asked,
    ) -> i32 {
        if self.commands.len() >= COMMANDS_MAX || !is_readable(&asked) {
            return status::INVALID;
        }
        let Some(entry) = self.flows.get_mut(&flow).filter(|entry| entry.instance == instance) else {
            return status::INVALID;
        };
        if let Some(token) = token {
            let waiter = Waiter { instance, token };
            if self.waiters.contains_key(&waiter) {
                return status::INVALID;
            }
            self.waiters.insert(waiter, flow);
            entry.waits.push(token);
        }
        let Some(verb) = Verb::of(token, asked) else { return status::INVALID };
        self.commands.push_back(Command { instance, flow, verb });
        status::TAKEN
    }

    fn withdraw(&mut self, waiter: Waiter) -> i32 {
        if self.settle(waiter).is_none() {
            return status::INVALID;
        }
        let verb = Verb::Withdraw(waiter.token);
        self.commands.push_back(Command { instance: waiter.instance, flow: FlowId(0), verb });
        status::TAKEN
    }

    pub(super) fn flow_of(&self, waiter: Waiter) -> Option<FlowId> {
        self.waiters.get(&waiter).copied()
    }

    /// An answer is no longer outstanding; the flow that waited for it.
    pub(super) fn settle(&mut self, waiter: Waiter) -> Option<FlowId> {
        let flow = self.waiters.remove(&waiter)?;
        if let Some(entry) = self.flows.get_mut(&flow) {
            entry.waits.retain(|token| *token != waiter.token);
        }
        Some(flow)
    }

    /// Ends a flow of an instance, once; the engine then releases what it held.
    pub(super) fn end_flow(
        &mut self,
        instance: InstanceId,
        flow: FlowId,
        how: FlowEnd,
        message: String,
    ) -> i32 {
        if self.owner(flow) != Some(instance) {
            return status::INVALID;
        }
        let waits = self.flows.remove(&flow).map(|entry| entry.waits).unwrap_or_default();
        for token in waits {
            self.waiters.remove(&Waiter { instance, token });
        }
        self.commands.push_back(Command { instance, flow, verb: Verb::FlowEnd(how, message) });
        status::TAKEN
    }

    pub(super) fn pop_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// Whether a command keeps the limits its type cannot say.
fn is_readable(asked: &Asked) -> bool {
    match asked {
        Asked::Commit(commit) | Asked::Save(commit) => {
            serde_json::to_string(&commit.state).is_ok_and(|state| state.len() <= STATE_BYTES_MAX)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use switchyard_sdk::ext::orbit::Commit;
    use switchyard_sdk::types::{LegId, Utc};

    use super::*;

    const A: InstanceId = InstanceId(1);
    const B: InstanceId = InstanceId(2);

    fn at(token: u64) -> (Option<Token>, Asked) {
        (Some(Token(token)), Asked::At(Utc(1)))
    }

    fn take(book: &mut Book, instance: InstanceId, flow: FlowId, token: u64) -> i32 {
        let (token, asked) = at(token);
        book.take(instance, flow, token, asked)
    }

    #[test]
    fn only_its_own_living_flows_may_ask() {
        let mut book = Book::default();
        let flow = book.start_flow(A);
        assert_eq!(take(&mut book, A, flow, 1), status::TAKEN);
        assert_eq!(take(&mut book, A, flow, 1), status::INVALID, "the token is in use");
        assert_eq!(take(&mut book, B, flow, 1), status::INVALID, "not its flow");
        assert_eq!(take(&mut book, A, FlowId(99), 2), status::INVALID, "no such flow");
        assert_eq!(book.take(A, flow, None, Asked::End(FlowEnd::Done, String::new())), status::TAKEN);
        assert_eq!(take(&mut book, A, flow, 3), status::INVALID, "it is over");
        let verbs: Vec<_> = std::iter::from_fn(|| book.pop_command()).map(|command| command.verb).collect();
        let expected = [Verb::At(Token(1), crate::time::Utc(1)), Verb::FlowEnd(FlowEnd::Done, String::new())];
        assert_eq!(verbs, expected);
    }

    #[test]
    fn a_flow_ends_once_and_takes_its_waits_along() {
        let mut book = Book::default();
        let flow = book.start_flow(A);
        take(&mut book, A, flow, 1);
        assert_eq!(book.end_flow(B, flow, FlowEnd::Done, String::new()), status::INVALID);
        assert_eq!(book.end_flow(A, flow, FlowEnd::Done, String::new()), status::TAKEN);
        assert_eq!(book.end_flow(A, flow, FlowEnd::Panicked, String::new()), status::INVALID);
        assert_eq!(book.settle(Waiter { instance: A, token: Token(1) }), None);
        let ends = std::iter::from_fn(|| book.pop_command())
            .filter(|command| matches!(command.verb, Verb::FlowEnd(..)));
        assert_eq!(ends.count(), 1);
    }

    #[test]
    fn tokens_are_known_per_instance() {
        let mut book = Book::default();
        let (mine, theirs) = (book.start_flow(A), book.start_flow(B));
        assert_eq!(take(&mut book, A, mine, 1), status::TAKEN);
        assert_eq!(take(&mut book, B, theirs, 1), status::TAKEN);
        assert_eq!(book.settle(Waiter { instance: B, token: Token(1) }), Some(theirs));
        assert_eq!(book.settle(Waiter { instance: B, token: Token(1) }), None, "answered once");
        assert_eq!(book.settle(Waiter { instance: A, token: Token(1) }), Some(mine));
    }

    #[test]
    fn what_is_withdrawn_is_not_outstanding() {
        let mut book = Book::default();
        let flow = book.start_flow(A);
        take(&mut book, A, flow, 1);
        assert_eq!(book.take(A, FlowId(0), None, Asked::Withdraw(Token(1))), status::TAKEN);
        assert_eq!(book.take(A, FlowId(0), None, Asked::Withdraw(Token(1))), status::INVALID);
        assert_eq!(book.settle(Waiter { instance: A, token: Token(1) }), None);
        // The token may be used again: nothing can answer the old one any more.
        assert_eq!(take(&mut book, A, flow, 1), status::TAKEN);
    }

    #[test]
    fn a_record_has_a_limit() {
        let mut book = Book::default();
        let flow = book.start_flow(A);
        let save =
            |bytes: usize| Asked::Save(Commit { state: "x".repeat(bytes).into(), ..Commit::default() });
        assert_eq!(book.take(A, flow, None, save(1000)), status::TAKEN);
        assert_eq!(book.take(A, flow, None, save(1100)), status::INVALID);
    }

    #[test]
    fn asking_without_end_is_refused_in_the_end_but_flows_still_end() {
        let mut book = Book::default();
        let flow = book.start_flow(A);
        let release = || Asked::Release(LegId(1), Default::default());
        while book.take(A, flow, None, release()) == status::TAKEN {}
        assert_eq!(book.commands.len(), COMMANDS_MAX);
        assert_eq!(book.end_flow(A, flow, FlowEnd::Done, String::new()), status::TAKEN);
    }
}
