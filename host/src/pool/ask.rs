//! What an administrator may ask for, why it may be refused (RES-26), and what it will do.

use serde::{Deserialize, Serialize};

use super::pools::{Pools, Proposal, counted, lives};
use super::procedure::names;
use super::record::{Journal, Phase, PoolRecord, Procedure, StepName, StepState};
use crate::cluster::Seats;
use crate::directory::Directory;
use crate::near::did_you_mean;
use crate::net::HostName;
use crate::time::Now;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The backup is to serve the pool's users.
    Failover,
    /// The pool's users are to come home.
    Failback {
        /// Also when the backup is dead (RES-28).
        disaster: bool,
    },
}

impl Ask {
    /// Which procedure it begins.
    pub const fn procedure(self) -> Procedure {
        match self {
            Ask::Failover => Procedure::Failover,
            Ask::Failback { .. } => Procedure::Failback,
        }
    }
}

/// Why it is not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Objection {
    /// No such pool.
    #[error("there is no pool {pool:?}{near}")]
    Unknown {
        /// As it was named.
        pool: String,
        /// A near match.
        near: String,
    },
    /// Nobody could serve its users.
    #[error("{0} has no backup pool")]
    NoBackup(String),
    /// Something else is under way.
    #[error("the {procedure} of {pool} that {by} asked for is at the step {step}, done by {runner}")]
    Running {
        /// Of which pool.
        pool: String,
        /// What.
        procedure: &'static str,
        /// Since whose word.
        by: String,
        /// How far.
        step: &'static str,
        /// Who does it.
        runner: String,
    },
    /// It is so already.
    #[error("{pool} is {phase} already: {who} serves its users")]
    Already {
        /// The pool.
        pool: String,
        /// Its phase.
        phase: Phase,
        /// Who has them.
        who: String,
    },
    /// A pool that was never failed over comes home by itself.
    #[error(
        "{pool} is {phase}: there is nothing to fail back{}",
        if *.phase == Phase::Active { "" } else { "; when its hosts are heard again its users go home by themselves" }
    )]
    NotFailedOver {
        /// The pool.
        pool: String,
        /// Its phase.
        phase: Phase,
    },
    /// The backup's own users are not at home (RES-26).
    #[error("{backup} is {phase}: {remedy}, only then can {pool} fail over to it")]
    BackupAway {
        /// The pool.
        pool: String,
        /// Its backup.
        backup: String,
        /// The backup's phase.
        phase: Phase,
        /// What is to be done first.
        remedy: String,
    },
    /// No host would serve them.
    #[error("no host of {0} is alive")]
    NobodyThere(String),
    /// The backup is dead, and nobody has said that this is known (RES-28).
    #[error("no host of {backup} is alive; --disaster brings the users of {pool} home without it")]
    BackupDead {
        /// The pool.
        pool: String,
        /// Its backup.
        backup: String,
    },
    /// Whoever has them could pass nothing on to who is to have them.
    #[error(
        "no host of {pool} could take over from {from} (out of reach from {from}: {why}): put that right first{otherwise}"
    )]
    OutOfReach {
        /// Whose hosts are to have the users.
        pool: String,
        /// Who has them.
        from: HostName,
        /// Which hosts, and why each cannot be reached.
        why: String,
        /// What else there is to do.
        otherwise: String,
    },
    /// Nothing is put in its own place.
    #[error("{0} cannot take its own place")]
    Itself(String),
    /// Another pool has its name's place.
    #[error("{pool} was replaced by {by}")]
    Replaced {
        /// The pool.
        pool: String,
        /// By which.
        by: String,
    },
    /// A pool would be left without a backup, and its backup would be its own.
    #[error("{to} is the backup of {pool} and serves its users as that; a third pool takes its place")]
    IsBackup {
        /// The pool that is gone.
        pool: String,
        /// Its backup.
        to: String,
    },
    /// A pair is one to one (RES-02).
    #[error("{pool} is paired with {with}")]
    Paired {
        /// The pool that was to take another's place.
        pool: String,
        /// Its backup.
        with: String,
    },
    /// Who takes another's place has to be at home.
    #[error("{pool} is {phase}: only an active pool takes the place of another")]
    TargetAway {
        /// The pool that was to take another's place.
        pool: String,
        /// Its phase.
        phase: Phase,
    },
    /// Its users are to be served while they are moved, and what waits in its orbits is to be dealt with.
    #[error("{pool} is {phase}: fail it over to {backup} first")]
    NotAway {
        /// The pool that was to be replaced.
        pool: String,
        /// Its phase.
        phase: Phase,
        /// Its backup, which lives.
        backup: String,
    },
    /// It is not gone.
    #[error("{host} of {pool} is alive and serves its users: stop the hosts of {pool} first")]
    Serves {
        /// The pool that was to be replaced.
        pool: String,
        /// A host of it.
        host: String,
    },
    /// It still has others' users, and nobody else could have them.
    #[error("users of {backup} were failed over to {pool}: fail {backup} back first")]
    Guests {
        /// The pool that was to be replaced.
        pool: String,
        /// Its backup.
        backup: String,
    },
    /// Nobody would serve them any more.
    #[error("{pool} has {count} users: --users takes them along")]
    UsersLeft {
        /// The pool that was to be replaced.
        pool: String,
        /// How many.
        count: usize,
    },
    /// Their numbers cannot change hands under them.
    #[error(
        "{count} calls wait in orbits of {pool}: they are fetched or rung back within minutes, ask again then"
    )]
    CallsWait {
        /// The pool that was to be replaced.
        pool: String,
        /// How many.
        count: usize,
    },
    /// This host may not write.
    #[error("this host is fenced: the store does not count it as alive")]
    Fenced,
}

impl Objection {
    pub(super) fn running(pool: &str, journal: &Journal) -> Self {
        Objection::Running {
            pool: pool.to_owned(),
            procedure: journal.procedure.word(),
            by: journal.asked_by.clone(),
            step: journal.current().map_or("open", |step| step.name.word()),
            runner: journal.runner.clone(),
        }
    }
}

/// If this host reaches none of these: which they are, and why not.
pub fn unreached(seats: &Seats, hosts: impl IntoIterator<Item = HostName>) -> Option<String> {
    let why = |host| {
        let trouble = seats.trouble(host).filter(|trouble| trouble.lasts)?;
        Some(format!("{host}: {}", trouble.why))
    };
    let all: Option<Vec<String>> = hosts.into_iter().map(why).collect();
    all.filter(|all| !all.is_empty()).map(|all| all.join("; "))
}

impl Pools {
    /// The pool of that name.
    pub fn expect(&self, pool: &str) -> Result<&PoolRecord, Objection> {
        self.record(pool).ok_or_else(|| Objection::Unknown {
            pool: pool.to_owned(),
            near: did_you_mean(pool, self.names()),
        })
    }

    /// Whether something may be asked for now.
    pub fn check(&self, seats: &Seats, pool: &str, ask: Ask) -> Result<(), Objection> {
        let record = self.expect(pool)?;
        let name = || pool.to_owned();
        if let Some(by) = &record.replaced_by {
            return Err(Objection::Replaced { pool: name(), by: by.clone() });
        }
        let Some(backup) = &record.backup else { return Err(Objection::NoBackup(name())) };
        if let Some(journal) = record.running() {
            return Err(Objection::running(pool, journal));
        }
        match (ask, record.phase) {
            (Ask::Failover, Phase::FailedOver | Phase::FailingOver | Phase::FailingBack) => {
                let who = seats.holder(pool).map_or_else(|| "nobody".to_owned(), |host| host.to_string());
                return Err(Objection::Already { pool: name(), phase: record.phase, who });
            }
            (Ask::Failover, Phase::Active | Phase::Outage | Phase::Resilient) => {
                let phase = self.phase(backup);
                if phase != Phase::Active {
                    let remedy = match phase {
                        Phase::FailedOver => format!("fail {backup} back first"),
                        Phase::FailingOver | Phase::FailingBack => "wait until that is over".to_owned(),
                        Phase::Outage | Phase::Resilient => format!("{backup} has to be back first"),
                        Phase::Active => String::new(),
                    };
                    let backup = backup.clone();
                    return Err(Objection::BackupAway { pool: name(), backup, phase, remedy });
                }
                if !lives(seats, backup) {
                    return Err(Objection::NobodyThere(backup.clone()));
                }
                let otherwise = format!(", or stop the hosts of {pool}");
                self.check_reach(seats, pool, backup, self.of_backup(seats, backup), otherwise)?;
            }
            (Ask::Failback { disaster }, Phase::FailedOver) => {
                if !lives(seats, pool) {
                    return Err(Objection::NobodyThere(name()));
                }
                if !disaster && !lives(seats, backup) {
                    return Err(Objection::BackupDead { pool: name(), backup: backup.clone() });
                }
                if !disaster {
                    let otherwise = "; --disaster brings them home all the same".to_owned();
                    self.check_reach(seats, pool, pool, self.willing(seats, pool), otherwise)?;
                }
            }
            (
                Ask::Failback { .. },
                Phase::Active | Phase::Outage | Phase::Resilient | Phase::FailingOver | Phase::FailingBack,
            ) => {
                return Err(Objection::NotFailedOver { pool: name(), phase: record.phase });
            }
        }
        Ok(())
    }

    /// Whether this host, if it is the one that passes a pool's users on, reaches anybody of the pool `to` who would have them. How
    /// others reach those says nothing about it.
    pub(super) fn check_reach(
        &self,
        seats: &Seats,
        pool: &str,
        to: &str,
        hosts: Vec<HostName>,
        otherwise: String,
    ) -> Result<(), Objection> {
        let passes = seats.holder(pool) == Some(self.own);
        match passes.then(|| unreached(seats, hosts)).flatten() {
            Some(why) => Err(Objection::OutOfReach { pool: to.to_owned(), from: self.own, why, otherwise }),
            None => Ok(()),
        }
    }

    /// The write that begins what is asked for: phase and journal, and with them the first step.
    pub fn begin(
        &self,
        now: Now,
        seats: &Seats,
        pool: &str,
        ask: Ask,
        by: &str,
    ) -> Result<Proposal, Objection> {
        self.check(seats, pool, ask)?;
        let record = self.expect(pool)?;
        let planned = record.phase == Phase::Active && lives(seats, pool);
        let mut journal = Journal::new(ask.procedure(), planned, by, self.own.as_str(), now.utc);
        let note = format!("users of {pool} are in resiliency mode");
        journal.set(StepName::Fence, StepState::Done, now.utc, note);
        let phase = match ask {
            Ask::Failover => Phase::FailingOver,
            Ask::Failback { .. } => Phase::FailingBack,
        };
        let record = PoolRecord { phase, since: now.utc, journal: Some(journal), ..record.clone() };
        let transaction = self.write(seats, &record).ok_or(Objection::Fenced)?;
        Ok(Proposal { pool: pool.to_owned(), transaction })
    }

    /// What each step would do, in words.
    pub fn preview(&self, seats: &Seats, users: &Directory, pool: &str, ask: Ask) -> Vec<(StepName, String)> {
        let Some(record) = self.record(pool) else { return Vec::new() };
        let (terms, backup) = (self.terms(pool), record.backup.as_deref().unwrap_or("nobody"));
        let planned = record.phase == Phase::Active && lives(seats, pool);
        let says = |step: &StepName| match (ask, step) {
            (_, StepName::Fence) => {
                format!("users of {pool} are in resiliency mode: no new parks and pickups")
            }
            (_, StepName::Parked) => {
                let (count, wait) = (self.parked(pool), terms.drain_time.as_secs());
                let (calls, them) = (counted(count, "parked call"), if count == 1 { "it" } else { "them" });
                match (count, planned, terms.rescue) {
                    (0, ..) => "no call waits in an orbit".to_owned(),
                    (_, true, true) => {
                        format!("wait up to {wait}s for {calls}, then {backup} takes {them} up (rescue)")
                    }
                    (_, true, false) => {
                        format!("wait up to {wait}s for {calls}, then end {them} (disconnect)")
                    }
                    (_, false, true) => format!("{backup} takes {calls} up (rescue)"),
                    (_, false, false) => format!("end {calls} (disconnect)"),
                }
            }
            (Ask::Failover, StepName::Seat) => match seats.holder(pool) {
                Some(holder) if planned => format!("{holder} passes the seat to a host of {backup}"),
                _ => format!("a host of {backup} takes the seat"),
            },
            (Ask::Failback { .. }, StepName::Seat) => {
                let first = self.willing(seats, pool);
                let first = first.first().map_or_else(|| format!("a host of {pool}"), ToString::to_string);
                format!("{first} takes the seat; what is parked in orbits of {backup} stays there")
            }
            (Ask::Failover, StepName::Ranges) if terms.ranges_follow => {
                match &*names(self.own_pickup_ranges(pool)) {
                    "" => "none to move".to_owned(),
                    names => format!("to {backup}: {names}"),
                }
            }
            (Ask::Failover, StepName::Ranges) => self.by_hand(pool, backup),
            (Ask::Failback { .. }, StepName::Ranges) => self.preview_home(users, pool, record),
            (Ask::Failover, StepName::Open) => {
                format!("full service by {backup}, with its settings and orbits")
            }
            (Ask::Failback { .. }, StepName::Open) => format!("full service by {pool}"),
            // They go to and fro without another home.
            (_, StepName::Users) => String::new(),
        };
        ask.procedure().steps().iter().map(|step| (*step, says(step))).collect()
    }
}
