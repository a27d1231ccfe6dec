//! The stored form of a pool: `pool/NAME`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::time::Utc;

/// Where a pool stands in its life cycle (design.md §8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its own hosts serve its users.
    #[default]
    Active,
    /// All its hosts are silent: calls that are up go on, nothing new begins.
    Outage,
    /// The backup serves its users, in resiliency mode.
    Resilient,
    /// Its users are on their way to the backup, in resiliency mode.
    FailingOver,
    /// The backup serves its users in full, by the backup's own settings and orbits.
    FailedOver,
    /// Its users are on their way home, or to the pool that replaces theirs, in resiliency mode.
    FailingBack,
}

impl Phase {
    /// All of them, in the order of a disaster.
    pub const ALL: [Phase; 6] = [
        Phase::Active,
        Phase::Outage,
        Phase::Resilient,
        Phase::FailingOver,
        Phase::FailedOver,
        Phase::FailingBack,
    ];

    /// As policies, tables and metrics call it.
    pub const fn word(self) -> &'static str {
        match self {
            Phase::Active => "active",
            Phase::Outage => "outage",
            Phase::Resilient => "resilient",
            Phase::FailingOver => "failing_over",
            Phase::FailedOver => "failed_over",
            Phase::FailingBack => "failing_back",
        }
    }

    /// Whether the pool's users are in resiliency mode (RES-10, RES-11).
    pub const fn is_resiliency(self) -> bool {
        match self {
            Phase::Active | Phase::FailedOver => false,
            Phase::Outage | Phase::Resilient | Phase::FailingOver | Phase::FailingBack => true,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which way a pool's users are moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Procedure {
    /// To the backup.
    Failover,
    /// Home.
    Failback,
    /// To another pool, which replaces theirs for good (RES-23, RES-24).
    Reassign,
}

impl Procedure {
    /// `failover`, `failback`, `reassign`.
    pub const fn word(self) -> &'static str {
        match self {
            Procedure::Failover => "failover",
            Procedure::Failback => "failback",
            Procedure::Reassign => "reassign",
        }
    }

    /// Its steps, in order.
    pub const fn steps(self) -> &'static [StepName] {
        match self {
            Procedure::Failover => {
                &[StepName::Fence, StepName::Parked, StepName::Seat, StepName::Ranges, StepName::Open]
            }
            Procedure::Failback => &[StepName::Fence, StepName::Ranges, StepName::Seat, StepName::Open],
            // Nothing is renamed before one host serves both names, and nothing that a call waits in.
            Procedure::Reassign => &[
                StepName::Fence,
                StepName::Seat,
                StepName::Parked,
                StepName::Ranges,
                StepName::Users,
                StepName::Open,
            ],
        }
    }
}

/// What a step is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The pool's users are in resiliency mode from here on.
    Fence,
    /// Parked calls end by themselves, or are ended, or are left to be rescued.
    Parked,
    /// The pool's seat changes hands, and its epoch is raised with it: what was meant before cannot be written any more.
    Seat,
    /// Pickup ranges change pools (RES-22); those of a pool that is replaced all do (RES-23).
    Ranges,
    /// Users get another home.
    Users,
    /// Full service again.
    Open,
}

impl StepName {
    /// `fence`, `parked`, `seat`, `ranges`, `users`, `open`.
    pub const fn word(self) -> &'static str {
        match self {
            StepName::Fence => "fence",
            StepName::Parked => "parked",
            StepName::Seat => "seat",
            StepName::Ranges => "ranges",
            StepName::Users => "users",
            StepName::Open => "open",
        }
    }
}

/// How far a step is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun.
    Running,
    /// Over.
    Done,
}

/// One step of a procedure.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub name: StepName,
    /// How far.
    pub state: StepState,
    /// Since when.
    pub at: Utc,
    /// What it waits for, or what it did, in words.
    #[serde(default)]
    pub note: String,
    /// How many parked calls it ends, or users it has moved.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The procedure that runs, or the last one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Journal {
    /// Which.
    pub procedure: Procedure,
    /// Whether the pool's hosts lived when it began, so that nothing need be lost.
    pub planned: bool,
    /// The pool that replaces this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who wanted it: an administrator's name, or `policy`.
    pub asked_by: String,
    /// The host that did the latest step.
    pub runner: String,
    /// When it began.
    pub began: Utc,
    /// When it was over.
    #[serde(default)]
    pub ended: Option<Utc>,
    /// What it does.
    pub steps: Vec<Step>,
}

impl Journal {
    /// A procedure of which nothing is done.
    pub fn new(procedure: Procedure, planned: bool, asked_by: &str, runner: &str, now: Utc) -> Self {
        let pending = |name: &StepName| Step {
            name: *name,
            state: StepState::Pending,
            at: now,
            note: String::new(),
            count: 0,
        };
        Journal {
            procedure,
            planned,
            to: None,
            asked_by: asked_by.to_owned(),
            runner: runner.to_owned(),
            began: now,
            ended: None,
            steps: procedure.steps().iter().map(pending).collect(),
        }
    }

    /// The step of that name.
    pub fn step(&self, name: StepName) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The first step that is not done.
    pub fn current(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.state != StepState::Done)
    }

    /// Whether a step has begun.
    pub fn has_begun(&self, name: StepName) -> bool {
        self.step(name).is_some_and(|step| step.state != StepState::Pending)
    }

    /// Notes how far a step is.
    pub fn set(&mut self, name: StepName, state: StepState, now: Utc, note: impl Into<String>) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            *step = Step { name, state, at: now, note: note.into(), count: step.count };
        }
    }

    /// Notes how many calls or users a step is about.
    pub fn count(&mut self, name: StepName, count: usize) {
        if let Some(step) = self.steps.iter_mut().find(|step| step.name == name) {
            step.count = count;
        }
    }
}

/// A pool, as `pool/NAME` holds it. The configuration of the host that fills an empty store writes the first three.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PoolRecord {
    /// Its name.
    pub name: String,
    /// The name its hosts are found by.
    #[serde(default)]
    pub fqdn: Option<String>,
    /// The pool that serves its users when it is lost (RES-02).
    #[serde(default)]
    pub backup: Option<String>,
    /// Where it stands.
    #[serde(default)]
    pub phase: Phase,
    /// Since when.
    #[serde(default)]
    pub since: Utc,
    /// What is being done about it, or was done last.
    #[serde(default)]
    pub journal: Option<Journal>,
    /// Pickup ranges that were moved to the backup with the failover, to come home with the failback.
    #[serde(default)]
    pub moved: Vec<String>,
    /// The pool that has taken its place for good (RES-23). Its name stays known: what was begun under it goes on with
    /// that pool, and no configuration file brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<String>,
}

impl PoolRecord {
    /// The procedure that runs.
    pub fn running(&self) -> Option<&Journal> {
        self.journal.as_ref().filter(|journal| journal.ended.is_none())
    }

    /// The pool that is taking its place, or has taken it.
    pub fn heir(&self) -> Option<&str> {
        let coming = self.running().and_then(|journal| journal.to.as_deref());
        coming.or(self.replaced_by.as_deref())
    }

    /// The record's JSON.
    pub fn to_bytes(&self) -> bytes::Bytes {
        // Plain data always has a JSON form.
        serde_json::to_vec(self).unwrap_or_default().into()
    }
}
