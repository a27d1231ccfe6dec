//! Failover and failback, and the replacement of a pool, step by step. Each step is a condition over what is known and a write that notes it: whoever goes on
//! with a journal somebody else has begun does the same as who goes on with his own.

use super::pools::{Known, Pools, Terms, counted, within};
use super::reassign::rehomed;
use super::record::{Journal, Phase, PoolRecord, Procedure, Step, StepName, StepState};
use crate::admin::RangeSpec;
use crate::cluster::Seats;
use crate::config::KIND_GROUP_PICKUP;
use crate::directory::{Directory, User};
use crate::orbit::put_operation;
use crate::store::keys::range_key;
use crate::store::{Expect, Transaction};
use crate::time::{Instant, Now};

/// Ranges or users moved in one transaction; the pools' own records, epochs and conditions need room too.
pub(super) const MOVED_MAX: usize = 80;

/// What to note of the current step.
enum Stand {
    /// It has begun and goes on: what it waits for.
    Waits(String),
    /// It ends so many parked calls, and waits until they are.
    Ends(usize),
    /// It is over: what it did.
    Done(String),
    /// These ranges are written with it; `true`: those were the last.
    Moves(Vec<RangeSpec>, bool),
    /// So do these users; so many are left.
    Rehomes(Vec<User>, usize),
}

impl Pools {
    /// The next write of the procedure that runs; `None`: it waits.
    pub(super) fn go_on(
        &self,
        now: Now,
        seats: &Seats,
        users: &Directory,
        pool: &str,
    ) -> Option<Transaction> {
        let known = self.known.get(pool)?;
        let mut record = known.record.clone();
        let journal = record.journal.as_mut().filter(|journal| journal.ended.is_none())?;
        let step = journal.current()?.clone();
        let stand = match (journal.procedure, step.name) {
            // It was done when the journal was begun.
            (_, StepName::Fence) => Stand::Done(String::new()),
            (_, StepName::Parked) => self.deal_with_parked(now, pool, &step, journal, known.terms),
            (_, StepName::Seat) => self.move_seat(seats, pool, journal),
            (Procedure::Failover, StepName::Ranges) => self.ranges_out(pool, known),
            (Procedure::Failback, StepName::Ranges) => self.ranges_home(pool, &record),
            (Procedure::Reassign, StepName::Ranges) => {
                let (ranges, last) = some(self.leaving(pool, journal.to.as_deref()?).collect());
                Stand::Moves(ranges, last)
            }
            (_, StepName::Users) => {
                let mut moving: Vec<User> = rehomed(users, pool, journal.to.as_deref()?).collect();
                let left = moving.len().saturating_sub(MOVED_MAX);
                moving.truncate(MOVED_MAX);
                Stand::Rehomes(moving, left)
            }
            (_, StepName::Open) => Stand::Done(String::new()),
        };
        let journal = record.journal.as_mut()?;
        self.own.as_str().clone_into(&mut journal.runner);
        let (mut moved, mut rehomed, mut heir) = (Vec::new(), Vec::new(), None);
        match stand {
            // Begun is noted once, what it waits for as it changes; a step's time is when it began.
            Stand::Waits(note) if step.state == StepState::Running && step.note == note => return None,
            Stand::Ends(count) if step.count == count => return None,
            Stand::Ends(count) => {
                let began = if step.state == StepState::Running { step.at } else { now.utc };
                journal.set(step.name, StepState::Running, began, ended(count));
                journal.count(step.name, count);
            }
            Stand::Waits(note) => {
                let began = if step.state == StepState::Running { step.at } else { now.utc };
                journal.set(step.name, StepState::Running, began, note);
            }
            Stand::Moves(ranges, last) => {
                let mut note = names(ranges.iter());
                if note.is_empty() {
                    "none to move".clone_into(&mut note);
                }
                if let (Procedure::Failback, Some(backup)) = (journal.procedure, &record.backup) {
                    note.push_str(&self.left_behind(users, pool, backup, &ranges));
                }
                let state = if last { StepState::Done } else { StepState::Running };
                journal.set(step.name, state, now.utc, note);
                let names = ranges.iter().map(|range| range.name.clone());
                match journal.procedure {
                    Procedure::Failover => record.moved.extend(names),
                    Procedure::Failback | Procedure::Reassign if last => record.moved.clear(),
                    Procedure::Failback | Procedure::Reassign => {}
                }
                moved = ranges;
            }
            Stand::Rehomes(users, left) => {
                let count = step.count + users.len();
                let state = if left == 0 { StepState::Done } else { StepState::Running };
                journal.set(step.name, state, now.utc, format!("{count} users"));
                journal.count(step.name, count);
                rehomed = users;
            }
            Stand::Done(note) => {
                journal.set(step.name, StepState::Done, now.utc, note);
                if step.name == StepName::Open {
                    journal.ended = Some(now.utc);
                    record.since = now.utc;
                    record.phase = match journal.procedure {
                        Procedure::Failover => Phase::FailedOver,
                        Procedure::Failback | Procedure::Reassign => Phase::Active,
                    };
                    heir = journal.to.clone();
                }
            }
        }
        let mut transaction = match heir {
            Some(to) => self.replaced(seats, record, &to)?,
            None => self.write(seats, &record)?,
        };
        for range in moved {
            let (_, revision) = self.ranges.get(&range.name)?;
            transaction.expect.push((range_key(&range.name), Expect::Revision(*revision)));
            transaction.operations.push(put_operation(&range));
        }
        for user in rehomed {
            transaction.expect.push((User::key(&user.name), Expect::Revision(users.revision(&user.name)?)));
            transaction.operations.push(user.put());
        }
        Some(transaction)
    }

    fn deal_with_parked(&self, now: Now, pool: &str, step: &Step, journal: &Journal, terms: Terms) -> Stand {
        let left = self.parked(pool);
        let running = step.state == StepState::Running;
        if left == 0 {
            return Stand::Done(match step.count {
                0 => "no call waits in an orbit".to_owned(),
                count => ended(count),
            });
        }
        let calls = counted(left, "parked call");
        let replaced = journal.procedure == Procedure::Reassign;
        let waits = (journal.planned || replaced) && (!running || now.utc < step.at + terms.drain_time);
        if waits && running {
            return Stand::Waits(step.note.clone());
        }
        if waits {
            let (limit, fate) =
                (terms.drain_time.as_secs(), if terms.rescue { "goes along" } else { "is ended" });
            return Stand::Waits(format!("{calls} may be fetched for {limit}s; what waits then {fate}"));
        }
        if terms.rescue && replaced {
            return Stand::Waits("until nobody waits in an orbit that changes hands".to_owned());
        }
        if terms.rescue {
            return Stand::Done(format!("{calls}: taken up by whoever takes the seat"));
        }
        Stand::Ends(if step.count > 0 { step.count } else { left })
    }

    /// When a planned failover stops waiting for parked calls to end by themselves.
    pub(super) fn drained_at(&self, now: Now, pool: &str) -> Option<Instant> {
        let known = self.known.get(pool)?;
        let step = known.record.running()?.step(StepName::Parked)?;
        (step.state == StepState::Running).then(|| now.instant_of(step.at + known.terms.drain_time))
    }

    /// What is to be done with the calls in a lost pool's orbits, by whoever holds its seat.
    pub fn parked_fate(&self, now: Now, pool: &str) -> ParkedFate {
        let Some(known) = self.known.get(pool) else { return ParkedFate::Keep };
        match known.record.phase {
            Phase::Active | Phase::FailedOver => ParkedFate::Keep,
            _ if known.terms.rescue => ParkedFate::Keep,
            // Calls that wait in orbits which go to another pool have the drain time.
            Phase::FailingBack => {
                let journal = known.record.running().filter(|journal| journal.to.is_some());
                let step = journal.and_then(|journal| journal.step(StepName::Parked));
                match step.filter(|step| step.state == StepState::Running) {
                    Some(step) if now.utc >= step.at + known.terms.drain_time => ParkedFate::End,
                    _ => ParkedFate::Keep,
                }
            }
            // Its hosts may be back in a minute: nobody is disconnected before the pool counts as lost, and nobody is
            // taken up who would be disconnected then.
            Phase::Outage => ParkedFate::Leave,
            Phase::Resilient => ParkedFate::End,
            Phase::FailingOver => {
                let running = known.record.running();
                let step = running.and_then(|journal| journal.step(StepName::Parked));
                match (running, step) {
                    (Some(journal), Some(step)) if step.state == StepState::Running => {
                        let over = now.utc >= step.at + known.terms.drain_time;
                        if journal.planned && !over { ParkedFate::Keep } else { ParkedFate::End }
                    }
                    (Some(journal), _) if journal.planned => ParkedFate::Keep,
                    _ => ParkedFate::Leave,
                }
            }
        }
    }

    fn move_seat(&self, seats: &Seats, pool: &str, journal: &Journal) -> Stand {
        let wanted = match journal.procedure {
            Procedure::Failover => self.backup(pool),
            Procedure::Failback => Some(pool),
            Procedure::Reassign => journal.to.as_deref(),
        };
        let holder = seats.holder(pool);
        let there = holder.filter(|holder| {
            seats.hosts().any(|(name, host)| name == *holder && Some(&*host.identity.pool) == wanted)
        });
        match there {
            Some(holder) => Stand::Done(format!("{holder} serves the users of {pool}")),
            None => Stand::Waits(format!("a host of {} takes the seat", wanted.unwrap_or(pool))),
        }
    }

    fn ranges_out(&self, pool: &str, known: &Known) -> Stand {
        let Some(backup) = known.record.backup.clone() else { return Stand::Done(String::new()) };
        if !known.terms.ranges_follow {
            return Stand::Done(self.by_hand(pool, &backup));
        }
        let ranges = self.own_pickup_ranges(pool);
        let (ranges, last) =
            some(ranges.map(|range| RangeSpec { pool: backup.clone(), ..range.clone() }).collect());
        Stand::Moves(ranges, last)
    }

    /// The ranges of a pool whose numbers are those of pickup groups.
    pub(super) fn pickup_ranges<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a RangeSpec> {
        self.ranges_of(pool).filter(|range| range.kind == KIND_GROUP_PICKUP)
    }

    /// Those of them that are its own. Where two pools are each other's backup, what came with the failover of one is not taken back by
    /// that of the other: it goes home with its own pool, from where that has put it.
    pub(super) fn own_pickup_ranges<'a>(&'a self, pool: &'a str) -> impl Iterator<Item = &'a RangeSpec> {
        let is_guest = move |range: &RangeSpec| {
            let mut records = self.known.values().map(|known| &known.record);
            records.any(|record| record.backup.as_deref() == Some(pool) && record.moved.contains(&range.name))
        };
        self.pickup_ranges(pool).filter(move |range| !is_guest(range))
    }

    /// What an administrator has to do about pickup ranges that do not follow.
    pub(super) fn by_hand(&self, pool: &str, backup: &str) -> String {
        match &*names(self.own_pickup_ranges(pool)) {
            "" => "none to move".to_owned(),
            names => left_with(pool, names, backup),
        }
    }

    /// The pickup ranges with which users who come home would have no groups there: somebody has moved them by hand, and has
    /// to move them back.
    fn left_behind(&self, users: &Directory, pool: &str, backup: &str, going: &[RangeSpec]) -> String {
        let of_home = |range: &&RangeSpec| {
            let mut groups = users.iter().filter(|user| user.pool == pool).flat_map(User::pickup_groups);
            groups.any(|group| within(range, group))
        };
        let left =
            self.pickup_ranges(backup).filter(|range| going.iter().all(|other| other.name != range.name));
        match &*names(left.filter(of_home)) {
            "" => String::new(),
            names => format!("; {}", left_with(backup, names, pool)),
        }
    }

    /// The ranges that go home. What somebody has put elsewhere meanwhile stays there.
    fn going_home(&self, pool: &str, record: &PoolRecord) -> Vec<RangeSpec> {
        let home = |range: &RangeSpec| RangeSpec { pool: pool.to_owned(), ..range.clone() };
        self.moved_out(record).map(home).collect()
    }

    fn ranges_home(&self, pool: &str, record: &PoolRecord) -> Stand {
        let (ranges, last) = some(self.going_home(pool, record));
        Stand::Moves(ranges, last)
    }

    /// What becomes of pickup ranges in a failback: which go home, and which somebody has to move.
    pub(super) fn preview_home(&self, users: &Directory, pool: &str, record: &PoolRecord) -> String {
        let going = self.going_home(pool, record);
        let home = match &*names(going.iter()) {
            "" => "none to move".to_owned(),
            names => format!("home: {names}"),
        };
        let left = record.backup.as_deref().map(|backup| self.left_behind(users, pool, backup, &going));
        home + &left.unwrap_or_default()
    }

    /// The ranges that went with a failover, and are still where it has put them.
    pub(super) fn moved_out<'a>(&'a self, record: &'a PoolRecord) -> impl Iterator<Item = &'a RangeSpec> {
        let ranges = record.moved.iter().filter_map(|name| self.ranges.get(name)).map(|(range, _)| range);
        ranges.filter(|range| Some(&range.pool) == record.backup.as_ref())
    }
}

/// What became of so many parked calls.
fn ended(count: usize) -> String {
    format!("ended with BYE: {}", counted(count, "parked call"))
}

/// Pickup ranges that do not move by themselves, and how they do.
fn left_with(from: &str, names: &str, to: &str) -> String {
    format!("left with {from} ({names}); by hand: switchyard orbit set NAME --pool {to}")
}

/// What ranges are called.
pub(super) fn names<'a>(ranges: impl Iterator<Item = &'a RangeSpec>) -> String {
    ranges.map(|range| range.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// As many as one transaction holds, and whether these are all.
fn some(mut ranges: Vec<RangeSpec>) -> (Vec<RangeSpec>, bool) {
    let last = ranges.len() <= MOVED_MAX;
    ranges.truncate(MOVED_MAX);
    (ranges, last)
}

/// What is to be done with the calls in a pool's orbits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParkedFate {
    /// They are looked after, and taken up from their records by who takes the seat.
    Keep,
    /// Their records are left alone for now.
    Leave,
    /// They are ended (`parked_on_outage = "disconnect"`).
    End,
}
