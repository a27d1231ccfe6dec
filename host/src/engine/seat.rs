//! In a cluster: taking the seat of a pool, and giving it up.
//!
//! A vacant seat is taken by the first of the hosts it is for ([`Pools::heirs`]); the others wait a little longer each, in case
//! that one cannot. A holder who is not to have it any more passes it on. Who has taken it reads the whole store and takes up what is there: registrations, lamps, parked calls, calls.
//! Whoever sees that somebody else has taken its seat forgets the pool's users, without a word to their phones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use super::aftermath::{Aftermath, Changed};
use super::elsewhere::Elsewhere;
use super::record::StoreOwner;
use super::redirect::{Told, nobody_told};
use super::rings::Left;
use super::timers::Timer;
use super::waiting::Waiting;
use super::{Engine, Output, StoreId};
use crate::cluster::{Mark, Met, Seats};
use crate::config;
use crate::directory::Directory;
use crate::net::{Flow, HostName};
use crate::notifier::Resource;
use crate::orbit::{Orbits, Whose};
use crate::pool::{ParkedFate, Pools};
use crate::store::keys::Key;
use crate::store::{Change, Outcome, Snapshot, StoreError};
use crate::time::Instant;

/// How much longer each further host waits before it takes a vacant seat.
const TURN: Duration = Duration::from_secs(2);
/// The pause after an attempt that failed.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// What only a host in a cluster has.
#[derive(Debug)]
pub(super) struct Clustered {
    /// Who lives, and who serves whom.
    pub(super) seats: Seats,
    /// In which phase each pool is, and who may serve it.
    pub(super) pools: Pools,
    /// Pools of which a record is being written.
    pub(super) writing: BTreeSet<String>,
    /// What was last done with the calls in the orbits of the pools served here.
    pub(super) dealt: BTreeMap<String, ParkedFate>,
    /// The policy files that the other hosts of this one's pool have, when they are others.
    pub(super) other_policy: Option<String>,
    /// Until when no such write is tried again.
    pub(super) rest_until: Option<Instant>,
    /// Pools whose users are served here.
    pub(super) served: BTreeSet<String>,
    /// Seats that are being taken: asked for, or won and being read.
    taking: BTreeSet<String>,
    /// One of them is not being taken any more: what waited for it can be dealt with.
    settled: bool,
    /// What came in meanwhile.
    pub(super) waiting: Waiting,
    /// Until when no other attempt is made at a seat that was not to be had.
    resting: BTreeMap<String, Instant>,
    /// Seats passed to others because this host is going down.
    handed_on: BTreeSet<String>,
    /// Since when a seat has been seen vacant.
    vacant: BTreeMap<String, Instant>,
    /// Epochs that others have raised, of pools this host has not left yet, and since when that is known.
    held_back: BTreeMap<String, (Instant, Change)>,
    /// Something about hosts or seats is new.
    pub(super) changed: bool,
    /// Calls that ring where their callee was served before.
    pub(super) left: Left,
    /// Phones that were told where home is.
    pub(super) told: Told,
    /// Questions of the administrative interface between hosts.
    pub(super) elsewhere: Elsewhere,
    /// The BYEs that came while this host had lost the store.
    pub(super) goodbyes: VecDeque<(Flow, Bytes)>,
    /// By pool that is not served here yet: legs that its holder before has changed, and the store does not know of it.
    pub(super) changed_elsewhere: BTreeMap<String, Changed>,
    /// By pool whose seat this host has lost: what its next holder does not know yet.
    pub(super) aftermath: BTreeMap<String, Aftermath>,
    /// Since when this host has no lease.
    pub(super) fenced_since: Option<Instant>,
}

impl Clustered {
    pub(super) fn new(own: HostName, pools: &[config::Pool], snapshot: &Snapshot) -> Self {
        let mut seats = Seats::new(own);
        seats.load(snapshot);
        let mut pools = Pools::new(own, pools);
        pools.load(snapshot);
        Self {
            seats,
            pools,
            writing: BTreeSet::new(),
            dealt: BTreeMap::new(),
            other_policy: None,
            rest_until: None,
            served: BTreeSet::new(),
            taking: BTreeSet::new(),
            settled: false,
            waiting: Waiting::default(),
            resting: BTreeMap::new(),
            handed_on: BTreeSet::new(),
            vacant: BTreeMap::new(),
            held_back: BTreeMap::new(),
            changed: true,
            left: Left::default(),
            told: nobody_told(),
            elsewhere: Elsewhere::default(),
            goodbyes: VecDeque::new(),
            changed_elsewhere: BTreeMap::new(),
            aftermath: BTreeMap::new(),
            fenced_since: None,
        }
    }

    /// Whether this host is about to have a seat, or is learning what there is to take up.
    pub(super) fn is_taking(&self, pool: &str) -> bool {
        self.taking.contains(pool)
    }

    /// Whether this host has a seat, and does not know what goes with it: the store did not tell when it was asked.
    pub(super) fn is_unread(&self, pool: &str) -> bool {
        self.seats.holder(pool) == Some(self.seats.own()) && !self.served.contains(pool)
    }

    /// Either, of any seat.
    pub(super) fn is_taking_any(&self) -> bool {
        !self.taking.is_empty() || self.pools.names().any(|pool| self.is_unread(pool))
    }

    /// The seat has been taken, or was not to be had. Nobody has looked at it meanwhile: it may be another's to have by now.
    fn settle(&mut self, pool: &str) {
        self.taking.remove(pool);
        self.changed = true;
        self.settled = true;
    }

    pub(super) fn mark(&self, pool: &str) -> String {
        Mark::of(self.seats.own().as_str(), pool).text()
    }
}

impl Engine {
    /// Whether the users of a pool are served here. A host alone serves all.
    pub(super) fn serves(&self, pool: &str) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| cluster.served.contains(pool))
    }

    /// This host's name among the others; none on a host alone.
    pub(super) fn own_name(&self) -> Option<HostName> {
        self.cluster.as_ref().map(|cluster| cluster.seats.own())
    }

    /// A flow at one of our sockets, as everything in a cluster knows it, stored records too.
    pub(super) fn at_own_socket(&self, flow: Flow) -> Flow {
        Flow { edge: self.own_name(), ..flow }
    }

    /// Learns the names that phones know the pools by.
    pub(super) fn learn_names(&mut self) {
        let names: Vec<String> = match &self.cluster {
            Some(cluster) => cluster.pools.fqdns().map(str::to_owned).collect(),
            None => self.config.pools.iter().filter_map(|pool| pool.fqdn.clone()).collect(),
        };
        let domain = self.config.sip.domain.clone();
        self.registrar.set_domains(std::iter::once(domain).chain(names.iter().cloned()).collect());
        self.core.identity.names = names;
    }

    /// The names of the pools that users and ranges may belong to.
    pub(super) fn pool_names(&self) -> Vec<String> {
        match &self.cluster {
            Some(cluster) => cluster.pools.standing().map(str::to_owned).collect(),
            None => self.config.pool_names(),
        }
    }

    /// Learns where the hosts that live listen.
    pub(super) fn meet_hosts(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let identity = &mut self.core.identity;
        let own = cluster.seats.own();
        identity.gone = cluster.seats.gone().filter(|host| *host != own).collect();
        for (name, host) in cluster.seats.hosts() {
            if name != own {
                identity.edges.insert(name, host.identity.listeners.clone());
                if let Some(contact) = self.config.contact_name(&host.identity.pool) {
                    identity.contacts.insert(Some(name), contact.to_owned());
                }
            }
        }
    }

    /// Whether a change is another host's that has raised the epoch of a pool served here: it has taken the seat. Nothing is
    /// written under that epoch, so nobody here learns of it before the seat is left.
    pub(super) fn is_epoch_of_served(&mut self, change: &Change) -> bool {
        let Some(Key::Epoch(pool)) = Key::parse(&change.key) else { return false };
        let now = self.core.now.instant;
        // Whoever takes a seat writes an epoch: one that is removed was removed by hand.
        let raised = self.cluster.is_some() && self.serves(&pool) && change.record.is_some();
        if let Some(cluster) = self.cluster.as_mut().filter(|_| raised) {
            let since = cluster.held_back.get(&pool).map_or(now, |(since, _)| *since);
            cluster.held_back.insert(pool, (since, change.clone()));
        }
        raised
    }

    /// Takes over epochs that were raised without a seat that went with them: by hand. A seat comes in the same moment.
    fn own_up(&mut self) {
        let now = self.core.now.instant;
        let Some(cluster) = &mut self.cluster else { return };
        let by_hand = |pool: &String, since: Instant| {
            let holder = cluster.seats.last_holder(pool);
            now >= since + AGAIN && holder.is_none_or(|holder| holder == cluster.seats.own())
        };
        let pools: Vec<String> = (cluster.held_back.iter())
            .filter(|(pool, (since, _))| by_hand(pool, *since))
            .map(|(pool, _)| pool.clone())
            .collect();
        for pool in pools {
            if let Some((_, change)) =
                self.cluster.as_mut().and_then(|cluster| cluster.held_back.remove(&pool))
            {
                self.orbits_changed(&change);
            }
        }
    }

    /// A record has changed: perhaps one that says who lives or who serves whom.
    pub(super) fn cluster_changed(&mut self, change: &Change) {
        let Some(cluster) = &mut self.cluster else { return };
        let met = cluster.seats.apply(change).filter(|met| met.host != cluster.seats.own());
        let moved = cluster.pools.apply(change);
        cluster.changed = true;
        self.policy_changed(change);
        if let Some(met) = met {
            self.meet(met);
        }
        if let Some(moved) = moved {
            self.pool_changed(&moved);
        }
    }

    /// Another host has come, or gone, or both at once.
    fn meet(&mut self, Met { host, was_there, is_there }: Met) {
        self.meet_hosts();
        let detail = serde_json::json!({ "host": host });
        if was_there {
            self.registrar.edge_gone(host);
            self.call_stranded_phones(host);
            self.answers_no_more(host);
            self.core.event("host.gone", None, None, detail.clone());
        }
        if is_there {
            self.core.event("host.joined", None, None, detail);
        }
    }

    /// A connection to another host was tried for.
    pub(super) fn tried_to_reach(&mut self, host: HostName, failed: Option<String>) {
        let now = self.core.now.instant;
        let is_there = failed.is_none();
        if let Some(cluster) = &mut self.cluster {
            // What was refused because of it may be done now.
            cluster.changed |= cluster.seats.tried(now, host, failed);
        }
        if is_there {
            self.tell_aftermath();
            self.tell_again_of_ringing(host);
        }
    }

    pub(super) fn look_at_cluster_if_changed(&mut self) {
        if let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.changed) {
            cluster.changed = false;
            self.look_at_pools();
            self.look_at_seats();
            self.tell_aftermath();
        }
        if self.cluster.as_mut().is_some_and(|cluster| std::mem::take(&mut cluster.settled)) {
            self.deal_with_waiting();
        }
    }

    /// Takes the seats that are vacant and this host's to take, and gives up what others have taken.
    pub(super) fn look_at_seats(&mut self) {
        self.own_up();
        let now = self.core.now.instant;
        let Some(cluster) = &mut self.cluster else { return };
        let own = cluster.seats.own();
        let lost: Vec<String> = (cluster.served.iter())
            .filter(|pool| cluster.seats.last_holder(pool).is_some_and(|holder| holder != own))
            .cloned()
            .collect();
        let mut wake = cluster.held_back.values().map(|(since, _)| *since + AGAIN).min();
        let (mut take, mut pass, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for pool in cluster.pools.names().map(str::to_owned).collect::<Vec<_>>() {
            let pool = &pool;
            if cluster.taking.contains(pool) {
                continue;
            }
            // What stood in the way may be there still, whatever the store has told about it meanwhile.
            if let Some(until) = cluster.resting.get(pool).copied().filter(|until| *until > now) {
                wake = Some(wake.map_or(until, |wake: Instant| wake.min(until)));
                continue;
            }
            if let Some(holder) = cluster.seats.holder(pool) {
                cluster.vacant.remove(pool);
                if holder != own {
                    continue;
                }
                let to = if self.draining {
                    // Once: two hosts that both go would pass it to and fro.
                    let other =
                        cluster.pools.heirs(&cluster.seats, pool).into_iter().find(|host| *host != own);
                    other.filter(|_| cluster.handed_on.insert(pool.clone()))
                } else {
                    cluster.pools.successor(&cluster.seats, pool)
                };
                match to {
                    Some(to) => pass.push((pool.clone(), to)),
                    None if !cluster.served.contains(pool) => read.push(pool.clone()),
                    None => {}
                }
                continue;
            }
            let heirs = cluster.pools.heirs(&cluster.seats, pool);
            let Some(turn) = heirs.iter().position(|host| *host == own) else { continue };
            let since = *cluster.vacant.entry(pool.clone()).or_insert(now);
            let due = since + TURN * u32::try_from(turn).unwrap_or(u32::MAX);
            if due <= now && !self.draining {
                take.push(pool.clone());
            } else {
                wake = Some(wake.map_or(due, |wake: Instant| wake.min(due)));
            }
        }
        if let Some(due) = wake.filter(|due| *due > now) {
            self.core.timers.set(Timer::Seats, due);
        }
        for pool in lost {
            self.leave_seat(&pool);
        }
        for pool in take {
            self.pass_seat(pool, own);
        }
        for (pool, to) in pass {
            self.pass_seat(pool, to);
        }
        for pool in read {
            self.read_up(pool);
        }
    }

    /// Makes `to` the holder of a seat that is vacant, or this host's.
    fn pass_seat(&mut self, pool: String, to: HostName) {
        if !self.orbits.is_live() {
            return;
        }
        let epoch = self.orbits.epoch_record(&pool);
        let Some(cluster) = &mut self.cluster else { return };
        let Some(pass) = cluster.seats.pass(&pool, to, epoch) else { return };
        cluster.taking.insert(pool.clone());
        self.write(pass.clone(), StoreOwner::Seat { pool, pass });
    }

    /// What became of taking a seat.
    pub(super) fn seat_answered(
        &mut self,
        pool: String,
        pass: &crate::store::Transaction,
        result: Result<Outcome, StoreError>,
    ) {
        match result {
            Ok(Outcome::Committed { revision }) => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.settle(&pool);
                }
                for change in pass.changes(revision) {
                    self.store_changed(&change);
                    self.orbits_changed(&change);
                }
            }
            Ok(Outcome::Conflict { current }) => {
                self.no_seat(&pool);
                for (key, record) in current {
                    self.store_changed(&Change { key, record });
                }
            }
            Err(error) => {
                let detail = serde_json::json!({ "pool": pool, "error": error.to_string() });
                self.core.event("seat.failed", Some(35105), None, detail);
                self.no_seat(&pool);
            }
        }
    }

    /// The seat is this host's: what there is to take up?
    fn read_up(&mut self, pool: String) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.taking.insert(pool.clone());
        let request = StoreId(self.core.fresh_id());
        self.stores.insert(request, StoreOwner::Taken { pool });
        self.core.emit(Output::Read { request });
    }

    fn no_seat(&mut self, pool: &str) {
        let again = self.core.now.instant + AGAIN;
        if let Some(cluster) = &mut self.cluster {
            cluster.settle(pool);
            cluster.resting.insert(pool.to_owned(), again);
        }
    }

    /// The store has been read for the seats that were taken.
    pub(super) fn read_done(&mut self, request: StoreId, result: Result<Snapshot, StoreError>) {
        let pool = match self.stores.remove(&request) {
            Some(StoreOwner::Taken { pool }) => pool,
            Some(StoreOwner::Parked { pool }) => return self.parked_read(&pool, result),
            _ => return,
        };
        match result {
            Ok(snapshot) => self.sit_down(&pool, &snapshot),
            Err(error) => {
                tracing::warn!(pool, %error, "the seat is won, and the store cannot be read");
                self.no_seat(&pool);
            }
        }
    }

    /// From now on the pool's users are served here.
    fn sit_down(&mut self, pool: &str, snapshot: &Snapshot) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.settle(pool);
        if cluster.seats.holder(pool) != Some(cluster.seats.own()) {
            return; // somebody was faster meanwhile
        }
        cluster.served.insert(pool.to_owned());
        self.take_up_pool(pool, snapshot);
        let detail = serde_json::json!({ "pool": pool, "epoch": self.orbits.epoch_record(pool).0 });
        self.core.event("seat.taken", None, None, detail);
    }

    /// From now on somebody else serves the pool's users.
    fn leave_seat(&mut self, pool: &str) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.served.remove(pool);
        cluster.dealt.remove(pool);
        // Who is at the backup when the pool comes home is told anew (RES-08).
        cluster.told = nobody_told();
        let by = cluster.seats.last_holder(pool);
        let epoch = cluster.held_back.remove(pool);
        let changed = self.changed_legs(pool);
        self.put_down_pool(pool);
        self.leave_aftermath(pool, changed);
        self.leave_ringing(pool);
        if let Some((_, epoch)) = epoch {
            self.orbits_changed(&epoch);
        }
        let detail = serde_json::json!({ "pool": pool, "to": by });
        self.core.event("seat.left", None, None, detail);
    }

    /// Takes up what the store has of a pool's users: where their phones are, who watches them, who waits in orbits.
    fn take_up_pool(&mut self, pool: &str, snapshot: &Snapshot) {
        let now = self.core.now;
        let of_pool =
            |directory: &Directory, user: &str| directory.user(user).is_some_and(|user| user.pool == pool);
        self.registrar.take_up(snapshot, now, |user| of_pool(&self.directory, user));
        for binding in self.registrar.iter(now) {
            self.admission.vouch(now.instant, binding.flow.remote);
        }
        self.deal_with_parked(pool, snapshot);
        self.adopt_calls(snapshot, Whose::Pool(pool));
        self.protect_all();
        let (directory, orbits) = (&self.directory, &self.orbits);
        let mine = |resource: &Resource, watcher: &str| {
            whose_lamp(directory, orbits, resource, watcher) == Some(pool)
        };
        let expired = self.notifier.load(&mut self.core, snapshot, mine);
        self.write_behind(expired);
    }

    /// Forgets the same, without a word to anybody: it is somebody else's from now on.
    fn put_down_pool(&mut self, pool: &str) {
        let directory = &self.directory;
        self.registrar.put_down(|user| directory.user(user).is_some_and(|user| user.pool == pool));
        let orbits = &self.orbits;
        let theirs = |resource: &Resource, watcher: &str| {
            whose_lamp(directory, orbits, resource, watcher) == Some(pool)
        };
        self.notifier.put_down(&mut self.core, theirs);
        self.leave_unstored(pool);
        let mut legs = self.recorded_legs(pool);
        legs.extend(self.orbits.put_down(self.core.now, pool));
        legs.extend(self.put_down_restoring(pool));
        self.calls.put_down(&mut self.core, &legs);
        self.record_elsewhere(pool);
    }
}

/// The pool whose server tells the watcher of a resource: that of what is watched.
pub(super) fn whose_lamp<'a>(
    directory: &'a Directory,
    orbits: &'a Orbits,
    resource: &Resource,
    watcher: &str,
) -> Option<&'a str> {
    match resource {
        Resource::User(name) => directory.user(name).map(|user| user.pool.as_str()),
        Resource::Orbit(number) | Resource::Group(number) => {
            orbits.ranges().find(number).map(|range| range.pool())
        }
        Resource::Lot => directory.user(watcher).map(|user| user.pool.as_str()),
    }
}
