//! The two matrices: what becomes of calls of a pool's users in each phase, and what those may do (facts.md §2).
//!
//! The engine does not ask here. Simulations hold what phones see against it; the rows and columns of the drill are these, too.

use super::record::Phase;

/// A state of a call. The first three are rows of the matrix of Call Park, the others of that of Group Call Pickup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    /// Talking; somebody would like to park it.
    NotParked,
    /// In an orbit.
    Parked,
    /// Fetched from one, and talking.
    Retrieved,
    /// Begins to ring in this phase.
    New,
    /// Began to ring in the phase before.
    Ringing,
    /// Picked up, and talking.
    PickedUp,
}

/// A stretch of a disaster, from before it to after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Column {
    /// Nothing has happened.
    Before,
    /// The pool is silent.
    Outage,
    /// Its users are in resiliency mode: it counts as lost, or is being failed over.
    Failover,
    /// The backup serves them in full.
    FailedOver,
    /// They are on their way home.
    Failback,
    /// They are home again.
    Home,
}

/// What is to be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cell {
    /// The call can be parked, or picked up, with the ranges of the pool that serves its user.
    Works,
    /// The call goes on; it can be neither parked nor picked up. Hold and transfer work, and its callee may answer it.
    Barred,
    /// The call goes on as if nothing had happened.
    GoesOn,
    /// The call waits on, and can be fetched by whoever is not in resiliency mode.
    Waits,
    /// The call is ended; with `parked_on_outage = "rescue"` it waits on.
    Disconnected,
    /// There is no such call.
    Nobody,
}

impl Row {
    /// As tables call it.
    pub const fn word(self) -> &'static str {
        match self {
            Row::NotParked => "not yet parked",
            Row::Parked => "parked",
            Row::Retrieved => "parked and retrieved",
            Row::New => "new calls",
            Row::Ringing => "ringing",
            Row::PickedUp => "picked up",
        }
    }

    /// Which matrix it is of.
    pub const fn matrix(self) -> &'static str {
        match self {
            Row::NotParked | Row::Parked | Row::Retrieved => "Call Park",
            Row::New | Row::Ringing | Row::PickedUp => "Group Call Pickup",
        }
    }
}

impl Column {
    /// As tables call it.
    pub const fn word(self) -> &'static str {
        match self {
            Column::Before => "before",
            Column::Outage => "outage",
            Column::Failover => "during failover",
            Column::FailedOver => "after failover",
            Column::Failback => "during failback",
            Column::Home => "after failback",
        }
    }

    /// The column of a phase. For what begins in it, before and after are the same.
    pub const fn of(phase: Phase) -> Self {
        match phase {
            Phase::Active => Column::Before,
            Phase::Outage => Column::Outage,
            Phase::Resilient | Phase::FailingOver => Column::Failover,
            Phase::FailedOver => Column::FailedOver,
            Phase::FailingBack => Column::Failback,
        }
    }
}

/// What is to be seen of a call in that state, in that stretch.
pub const fn cell(row: Row, column: Column) -> Cell {
    use Column::{Before, Failback, FailedOver, Failover, Home, Outage};
    match (row, column) {
        (Row::NotParked | Row::New, Before | FailedOver | Home) => Cell::Works,
        (Row::NotParked | Row::New, Outage | Failover | Failback) => Cell::Barred,
        (Row::Parked, Before | FailedOver | Failback | Home) => Cell::Waits,
        (Row::Parked, Outage) => Cell::Disconnected,
        // After a loss. A planned failover waits for them, and ends them when the drain time is over (facts.md §6.8).
        (Row::Parked, Failover) => Cell::Nobody,
        (Row::Ringing, Before) => Cell::Works,
        // What rang before the failover began cannot be told from what rang before it ended.
        (Row::Ringing, FailedOver) => Cell::Nobody,
        (Row::Ringing, Outage | Failover | Failback | Home) => Cell::Barred,
        (Row::Retrieved | Row::PickedUp, _) => Cell::GoesOn,
    }
}

/// Whose ranges and settings the users of a pool have in a phase, where they have any (RES-20, RES-21).
pub fn serving<'a>(pool: &'a str, backup: &'a str, phase: Phase) -> &'a str {
    if phase == Phase::FailedOver { backup } else { pool }
}
