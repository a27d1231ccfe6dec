//! Who may hold a pool's seat: its own hosts, those of its backup, or those of the pool that takes its place.

use super::pools::{Pools, lives};
use super::record::{Phase, PoolRecord, StepName};
use crate::cluster::Seats;
use crate::net::HostName;

/// Whose hosts serve a pool's users.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The pool's own.
    Home,
    /// Its backup's.
    Backup,
    /// Those that serve the pool which replaces it.
    Heir,
}

impl Pools {
    /// Whose hosts are to hold a pool's seat now.
    pub fn side(&self, seats: &Seats, pool: &str) -> Side {
        let Some(known) = self.known.get(pool) else { return Side::Home };
        let record = &known.record;
        if record.replaced_by.is_some() {
            return Side::Heir;
        }
        if let Some(to) = record.heir() {
            // As in a failback, nobody is left behind by a pool that is gone, be it the one or the other.
            let begun = record.running().is_some_and(|journal| journal.has_begun(StepName::Seat));
            let backup = record.backup.as_deref().is_some_and(|backup| lives(seats, backup));
            return if backup && !(begun && lives(seats, to)) { Side::Backup } else { Side::Heir };
        }
        let Some(backup) = &record.backup else { return Side::Home };
        let begun = record.running().is_some_and(|journal| journal.has_begun(StepName::Seat));
        match record.phase {
            Phase::Active => Side::Home,
            Phase::Outage | Phase::Resilient | Phase::FailedOver => Side::Backup,
            // Who is moved as planned is served at home until the seat's turn comes.
            Phase::FailingOver => {
                let planned = record.running().is_some_and(|journal| journal.planned);
                if planned && !begun && lives(seats, pool) { Side::Home } else { Side::Backup }
            }
            // Nobody is left behind by a backup that is gone (RES-28).
            Phase::FailingBack => {
                if begun || !lives(seats, backup) {
                    Side::Home
                } else {
                    Side::Backup
                }
            }
        }
    }

    /// Those who may take a pool's seat, in the order in which they are to.
    pub fn heirs(&self, seats: &Seats, pool: &str) -> Vec<HostName> {
        match (self.side(seats, pool), self.backup(pool)) {
            (Side::Home, _) | (Side::Backup, None) => self.willing(seats, pool),
            (Side::Heir, _) => {
                let to = self.record(pool).and_then(PoolRecord::heir).map_or(pool, |to| self.heir(to));
                self.in_place(seats, to)
            }
            (Side::Backup, Some(backup)) => self.of_backup(seats, backup),
        }
    }

    /// Those who would have the users of a pool whose place `to` takes: what was begun under a name that is gone follows the seat
    /// of the other.
    pub(super) fn in_place(&self, seats: &Seats, to: &str) -> Vec<HostName> {
        seats.holder(to).map_or_else(|| self.willing(seats, to), |holder| vec![holder])
    }

    /// Those who would have the users of a pool with that backup: whoever serves the backup's own users. After a failover both park
    /// in the same orbits.
    pub(super) fn of_backup(&self, seats: &Seats, backup: &str) -> Vec<HostName> {
        let holder = seats.holder(backup).filter(|holder| seats.of_pool(backup).any(|host| host == *holder));
        holder.map_or_else(|| self.willing(seats, backup), |holder| vec![holder])
    }

    /// Whether somebody will take a vacant seat without being asked: one whose turn it is, or will be as soon as it is noticed that the
    /// pool is out, or back.
    pub fn is_coming(&self, seats: &Seats, pool: &str) -> bool {
        let backup = || self.backup(pool).is_some_and(|backup| lives(seats, backup));
        let is_noticed = || match self.phase(pool) {
            Phase::Active => seats.last_holder(pool).is_some() && backup(),
            Phase::Outage | Phase::Resilient => lives(seats, pool),
            Phase::FailingOver | Phase::FailedOver | Phase::FailingBack => false,
        };
        !self.heirs(seats, pool).is_empty() || is_noticed()
    }

    /// To whom this host should pass a seat it holds; `None`: it keeps it.
    pub fn successor(&self, seats: &Seats, pool: &str) -> Option<HostName> {
        let heirs = self.heirs(seats, pool);
        if heirs.contains(&self.own) { None } else { heirs.first().copied() }
    }

    /// The host whose turn it is to bring a pool on: whoever holds its backup's seat; if nobody does, its own; if nobody holds that
    /// either, that of the pool which replaces it; else the first host of both.
    pub fn runner(&self, seats: &Seats, pool: &str) -> Option<HostName> {
        let backup = self.backup(pool);
        let of_backup = backup.into_iter().flat_map(|backup| seats.of_pool(backup));
        backup
            .and_then(|backup| seats.holder(backup))
            .or_else(|| seats.holder(pool))
            .or_else(|| seats.holder(self.record(pool)?.heir()?))
            .or_else(|| of_backup.chain(seats.of_pool(pool)).min())
    }
}
