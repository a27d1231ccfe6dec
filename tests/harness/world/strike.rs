//! Hosts that are struck while they write. Whatever a procedure does it does by writing, so every write is a place where its
//! runner can die.

use switchyard_host::pool::{PoolRecord, StepState};
use switchyard_host::store::keys::Key;

use super::*;

/// When a host is struck, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// It dies before the store has the write.
    Before,
    /// It dies before it learns that the store has written.
    After,
    /// It lives, and is told that the store could not: the answer was lost on the way.
    Unanswered,
}

impl Moment {
    pub const ALL: [Self; 3] = [Self::Before, Self::After, Self::Unanswered];
}

/// Strikes one host, at one of the writes that are about pools, seats, ranges of pools and drained hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strike {
    /// How many such writes are let through first.
    pub skip: usize,
    pub moment: Moment,
    /// After how long the dead host starts again; none: not by itself.
    pub down: Option<Duration>,
}

impl World {
    /// From now on, the strike waits for its write.
    pub fn strike(&mut self, strike: Strike) {
        self.strike = Some(strike);
        self.struck = None;
    }

    /// What the struck host was writing, if it was struck.
    pub fn struck(&self) -> Option<&str> {
        self.struck.as_deref()
    }

    /// Strikes the host if this is the write. `true`: there is no more to do about it.
    pub(super) fn is_struck(&mut self, host: usize, request: StoreId, transaction: &Transaction) -> bool {
        let Some(strike) = &mut self.strike else { return false };
        let Some(what) = what_it_does(&self.store, transaction) else { return false };
        if strike.skip > 0 {
            strike.skip -= 1;
            return false;
        }
        let Strike { moment, down, .. } = *strike;
        self.strike = None;
        let name = self.hosts[host].name;
        self.remark(&format!("{name} is struck, {moment:?}: {what}"));
        self.network.count("struck");
        self.struck = Some(what);
        if moment != Moment::Before {
            let _ = self.commit(Some(host), transaction);
        }
        if moment == Moment::Unanswered {
            let result = Err(StoreError::Unavailable("the answer was lost".to_owned()));
            self.for_host(StoreDoes::SOON, host, Input::Stored { request, result });
            return true;
        }
        self.kill(host);
        if let Some(down) = down {
            self.start_later(host, down);
        }
        true
    }
}

/// What a write does to pools, in words: the steps that it notes, or the kind of record.
fn what_it_does(store: &MemoryStore, transaction: &Transaction) -> Option<String> {
    let mut found = None;
    for operation in &transaction.operations {
        let (key, value) = match operation {
            Operation::Put { key, value } => (key, Some(value)),
            Operation::Delete { key } => (key, None),
        };
        match Key::parse(key)? {
            Key::Pool(_) => {
                let before = store.snapshot(key).records.remove(key);
                let read = |bytes: &Bytes| serde_json::from_slice::<PoolRecord>(bytes).ok();
                let before = before.and_then(|record| read(&record.value));
                return Some(progress(before.as_ref(), &read(value?)?));
            }
            Key::Seat(_) => found = Some("seat".to_owned()),
            Key::Drain(_) => found = Some("drain".to_owned()),
            Key::Range(_) => found = Some("range".to_owned()),
            _ => {}
        }
    }
    found
}

/// The steps of a procedure that a record notes and the one before it did not; or the phase.
fn progress(before: Option<&PoolRecord>, after: &PoolRecord) -> String {
    let before = before.and_then(|record| record.journal.as_ref());
    let Some(journal) = &after.journal else { return after.phase.word().to_owned() };
    let same = before.filter(|before| before.began == journal.began);
    let new = journal.steps.iter().filter(|step| {
        step.state != StepState::Pending && same.is_none_or(|before| !before.steps.contains(step))
    });
    let new: Vec<&str> = new.map(|step| step.name.word()).collect();
    if new.is_empty() {
        return after.phase.word().to_owned();
    }
    format!("{} {}", journal.procedure.word(), new.join(" "))
}
