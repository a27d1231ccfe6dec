//! A pool that is gone for good, and another under a new name in its place (RES-23, RES-24): why it may be refused, how it
//! begins, and how it ends.
//!
//! The seat goes first. From then on one host serves both names, so that ranges and users change theirs without any call,
//! registration or lamp noticing. What was begun under the old name goes on with the new pool: see [`Pools::heir`].

use super::ask::Objection;
use super::pools::{Pools, Proposal, lives, within};
use super::record::{Journal, Phase, PoolRecord, Procedure, StepName, StepState};
use crate::admin::RangeSpec;
use crate::cluster::Seats;
use crate::directory::{Directory, User};
use crate::store::Transaction;
use crate::time::Now;

/// Which pool is to take the place of which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Replacement<'a> {
    /// The one that is gone.
    pub pool: &'a str,
    /// The one in its place.
    pub to: &'a str,
    /// Whether its users go along.
    pub users: bool,
}

impl Pools {
    /// Whether a pool may be replaced now.
    pub fn check_reassign(
        &self,
        seats: &Seats,
        users: &Directory,
        wish: Replacement<'_>,
    ) -> Result<(), Objection> {
        let Replacement { pool, to, .. } = wish;
        let (record, target) = (self.expect(pool)?, self.expect(to)?);
        let name = |name: &str| name.to_owned();
        if pool == to {
            return Err(Objection::Itself(name(pool)));
        }
        if let Some(by) = &record.replaced_by {
            return Err(Objection::Replaced { pool: name(pool), by: by.clone() });
        }
        // One procedure at a time, with any of the pools that it is about. One whose runners are all dead is given up.
        let backup = record.backup.as_deref();
        let stuck = !lives(seats, pool) && !backup.is_some_and(|backup| lives(seats, backup));
        let about = |other: &PoolRecord| {
            [Some(pool), Some(to), backup].contains(&Some(&*other.name)) || other.heir() == Some(to)
        };
        for other in self.known.values().map(|known| &known.record).filter(|other| about(other)) {
            match other.running() {
                Some(journal) if !(stuck && other.name == pool && journal.to.is_none()) => {
                    return Err(Objection::running(&other.name, journal));
                }
                _ => {}
            }
        }
        if Some(to) == backup {
            return Err(Objection::IsBackup { pool: name(pool), to: name(to) });
        }
        // The other way round undoes it: the old name stands again.
        if let Some(by) = target.replaced_by.as_ref().filter(|by| *by != pool) {
            return Err(Objection::Replaced { pool: name(to), by: by.clone() });
        }
        if let Some(with) = target.backup.as_ref().filter(|with| Some(with.as_str()) != backup) {
            return Err(Objection::Paired { pool: name(to), with: with.clone() });
        }
        if target.phase != Phase::Active {
            return Err(Objection::TargetAway { pool: name(to), phase: target.phase });
        }
        if !lives(seats, to) {
            return Err(Objection::NobodyThere(name(to)));
        }
        if record.phase != Phase::FailedOver {
            if let Some(backup) = backup.filter(|backup| lives(seats, backup)) {
                let (phase, backup) = (record.phase, name(backup));
                return Err(Objection::NotAway { pool: name(pool), phase, backup });
            }
            if let Some(host) = seats.of_pool(pool).next() {
                return Err(Objection::Serves { pool: name(pool), host: host.to_string() });
            }
        }
        if let Some(backup) = backup
            && self.phase(backup) == Phase::FailedOver
        {
            return Err(Objection::Guests { pool: name(pool), backup: name(backup) });
        }
        let left = users.iter().filter(|user| user.pool == pool).count();
        if left > 0 && !wish.users {
            return Err(Objection::UsersLeft { pool: name(pool), count: left });
        }
        // Whoever serves them brings them to an end; if nobody does, the new pool does.
        let parked = self.parked(pool);
        if parked > 0 && seats.holder(pool).is_some() {
            return Err(Objection::CallsWait { pool: name(pool), count: parked });
        }
        self.check_reach(seats, pool, to, self.in_place(seats, to), String::new())
    }

    /// The write that begins it.
    pub fn reassign(
        &self,
        now: Now,
        seats: &Seats,
        users: &Directory,
        wish: Replacement<'_>,
        by: &str,
    ) -> Result<Proposal, Objection> {
        self.check_reassign(seats, users, wish)?;
        let Replacement { pool, to, .. } = wish;
        let (record, target) = (self.expect(pool)?, self.expect(to)?);
        let mut journal = Journal::new(Procedure::Reassign, false, by, self.own.as_str(), now.utc);
        journal.to = Some(to.to_owned());
        let note = format!("users of {pool} are in resiliency mode");
        journal.set(StepName::Fence, StepState::Done, now.utc, note);
        let record = PoolRecord {
            phase: Phase::FailingBack,
            since: now.utc,
            journal: Some(journal),
            ..record.clone()
        };
        let write = || {
            let mut transaction = self.write(seats, &record)?;
            self.write_with(&mut transaction, &standing(now, target))?;
            if let Some(backup) = &record.backup {
                self.expect_known(&mut transaction, backup)?;
            }
            Some(transaction)
        };
        let transaction = write().ok_or(Objection::Fenced)?;
        Ok(Proposal { pool: pool.to_owned(), transaction })
    }

    /// What each step would do, in words.
    pub fn preview_reassign(
        &self,
        seats: &Seats,
        users: &Directory,
        wish: Replacement<'_>,
    ) -> Vec<(StepName, String)> {
        let Replacement { pool, to, .. } = wish;
        let backup = self.backup(pool);
        let says = |step: &StepName| match step {
            StepName::Fence => format!("users of {pool} are in resiliency mode: no new parks and pickups"),
            StepName::Seat => {
                // Of a name that stands again the seat is still where that of the other is.
                let holder = seats.holder(to).filter(|holder| seats.of_pool(to).any(|host| host == *holder));
                let next = holder.or_else(|| self.willing(seats, to).first().copied());
                let next = next.map_or_else(|| format!("a host of {to}"), |host| host.to_string());
                match seats.holder(pool) {
                    Some(holder) => {
                        format!("{holder} passes the users of {pool} to {next}, with their calls")
                    }
                    None => format!("{next} takes the seat"),
                }
            }
            StepName::Parked => match self.parked(pool) {
                0 => format!("no call waits in an orbit of {pool}"),
                count => format!(
                    "{count} calls wait in orbits of {pool}: up to {}s to be fetched",
                    self.terms(pool).drain_time.as_secs()
                ),
            },
            StepName::Ranges => {
                let names = self.leaving(pool, to).map(|range| range.name);
                going(names.collect(), "range", "ranges", &format!("to {to}"))
            }
            StepName::Users => {
                let names = rehomed(users, pool, to).map(|user| user.name);
                going(names.collect(), "user", "users", &format!("to {to}"))
            }
            StepName::Open => {
                let pair = backup.map(|backup| format!("; {backup} and {to} are each other's backup"));
                let pair = pair.unwrap_or_default();
                format!("full service by {to}, with its settings{pair}; {pool} is no pool any more")
            }
        };
        Procedure::Reassign.steps().iter().map(|step| (*step, says(step))).collect()
    }

    /// What the procedure cannot do, for whoever has asked for it: in words, best read afterwards.
    pub fn left_to_do(&self, users: &Directory, wish: Replacement<'_>) -> Vec<String> {
        let Replacement { pool, to, .. } = wish;
        let mut left = vec![format!(
            "settings and music: policies/pools/{to}.lua and the music of the hosts of {to} count now; nothing of {pool} came along"
        )];
        // Which range was moved to the backup by hand, nobody has noted; but whose groups are in it can be seen.
        if let Some(backup) = self.backup(pool) {
            let leaving: Vec<String> = self.leaving(pool, to).map(|range| range.name).collect();
            for range in self.pickup_ranges(backup) {
                let of_range = |user: &&User| user.pickup_groups().any(|group| within(range, group));
                let mut pools = users.iter().filter(of_range).map(|user| user.pool.as_str()).peekable();
                if !leaving.contains(&range.name) && pools.peek().is_some() && pools.all(|of| of == pool) {
                    left.push(format!(
                        "pickup range {0}: it is of {backup} and its groups are those of users who go to {to}: switchyard orbit set {0} --pool {to}",
                        range.name
                    ));
                }
            }
        }
        left.push(format!(
            "[[pools]] in the files of all hosts: put {to} in the place of {pool}; until then a host that starts says that its file differs, and goes by the store"
        ));
        left.push(format!("phones and trunks that know the addresses of {pool}: give them those of {to}"));
        left
    }

    /// The ranges that go along, with their new pool: its own, and those that went to its backup with the failover.
    pub fn leaving<'a>(&'a self, pool: &'a str, to: &'a str) -> impl Iterator<Item = RangeSpec> + 'a {
        let moved = self.record(pool).into_iter().flat_map(|record| self.moved_out(record));
        self.ranges_of(pool).chain(moved).map(move |range| RangeSpec { pool: to.to_owned(), ..range.clone() })
    }

    /// The last write: the new pool stands where the old one stood, in its pair, too.
    pub(super) fn replaced(&self, seats: &Seats, mut record: PoolRecord, to: &str) -> Option<Transaction> {
        let backup = record.backup.take();
        record.replaced_by = Some(to.to_owned());
        let mut transaction = self.write(seats, &record)?;
        if let Some(backup) = &backup {
            let pair = PoolRecord { backup: Some(to.to_owned()), ..self.record(backup)?.clone() };
            self.write_with(&mut transaction, &pair)?;
            let heir = PoolRecord { backup: Some(backup.clone()), ..self.record(to)?.clone() };
            self.write_with(&mut transaction, &heir)?;
        }
        Some(transaction)
    }
}

/// The pool that takes another's place, as it is from the beginning of that on. One that was replaced itself stands again: what its
/// record says of its own replacement is over.
fn standing(now: Now, target: &PoolRecord) -> PoolRecord {
    match target.replaced_by {
        None => target.clone(),
        Some(_) => PoolRecord { replaced_by: None, journal: None, since: now.utc, ..target.clone() },
    }
}

/// A pool's users, in their new home.
pub(super) fn rehomed<'a>(
    users: &'a Directory,
    pool: &'a str,
    to: &'a str,
) -> impl Iterator<Item = User> + 'a {
    let of_pool = users.iter().filter(move |user| user.pool == pool);
    of_pool.map(move |user| User { pool: to.to_owned(), ..user.clone() })
}

/// `2 users go to north: alice, bob`, with the first few names.
fn going(names: Vec<String>, one: &str, many: &str, whither: &str) -> String {
    const SHOWN: usize = 5;
    let rest = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match (names.len(), rest) {
        (0, _) => format!("no {many} to move"),
        (1, _) => format!("1 {one} goes {whither}: {shown}"),
        (count, 0) => format!("{count} {many} go {whither}: {shown}"),
        (count, rest) => format!("{count} {many} go {whither}: {shown} and {rest} more"),
    }
}
