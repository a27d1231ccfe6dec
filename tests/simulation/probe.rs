//! What users may do now, tried by phones of our own and held against the matrices (facts.md §2).

use std::time::Duration;

use switchyard_host::admin::RangeSpec;
use switchyard_host::pool::matrix::{Cell, Column, Row, cell, serving};
use switchyard_host::pool::{Phase, PoolRecord};
use switchyard_host::store::ROOT;
use switchyard_host::store::keys::{pool_key, range_key};

use crate::harness::{CallId, OnRing, Phone, StoreDoes, Weather, World};

/// The pools, each the other's backup.
pub const POOLS: [&str; 2] = ["east", "west"];
/// Two users of each, whom nobody else calls, and their extensions.
const USERS: [[(&str, &str); 2]; 2] =
    [[("gina", "1201"), ("hugo", "1202")], [("ines", "2201"), ("jack", "2202")]];
/// The first of each two can be picked up through this group, in this range.
const GROUPS: [(&str, &str); 2] = [("*103", "east-groups"), ("*203", "west-groups")];

/// What a phone's calls say when the pool is being moved.
const RESILIENCY: &str = "35110";
const OUT: &str = "35111";

/// Phones that try things.
pub struct Probe {
    phones: [[usize; 2]; 2],
}

/// What was tried and how it went; `Err`: why not.
type Tried<T> = Result<T, String>;

/// The users of the probe, as configuration.
pub fn users() -> String {
    let user = |pool: usize, nth: usize| {
        let (name, extension) = USERS[pool][nth];
        let group = if nth == 0 { format!("pickup_group = \"{}\"\n", GROUPS[pool].0) } else { String::new() };
        format!(
            "[[users]]\nname = \"{name}\"\nextension = \"{extension}\"\npassword = \"{name}-secret\"\n\
             pool = \"{}\"\nmay_park = true\n{group}",
            POOLS[pool]
        )
    };
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(pool, nth)| user(pool, nth)).concat()
}

/// The record of a pool.
pub fn record(world: &World, pool: &str) -> PoolRecord {
    let key = pool_key(pool);
    let record = world.store.snapshot(&key).records.remove(&key);
    record.and_then(|record| serde_json::from_slice(&record.value).ok()).unwrap_or_default()
}

/// The pool that a range belongs to.
pub fn pool_of_range(world: &World, name: &str) -> String {
    let key = range_key(name);
    let record = world.store.snapshot(&key).records.remove(&key);
    let range = record.and_then(|record| serde_json::from_slice::<RangeSpec>(&record.value).ok());
    range.map(|range| range.pool).unwrap_or_default()
}

/// What must not change while something is tried: hosts, pools and ranges.
fn situation(world: &World) -> Vec<(String, u64)> {
    let all = ["host/", "pool/", "range/", "drain/"]
        .map(|kind| world.store.snapshot(&format!("{ROOT}{kind}")).records);
    all.into_iter().flatten().map(|(key, record)| (key, record.revision)).collect()
}

impl Probe {
    pub fn new(world: &mut World) -> Self {
        let phones = USERS.map(|users| users.map(|(name, _)| world.add_phone(name)));
        for phone in phones.into_iter().flatten() {
            world.act(phone, |phone| phone.register(3600));
        }
        Self { phones }
    }

    /// Tries for the users of a pool what their phase's column says, through any host that lives. `Ok(false)`: the situation was
    /// not one of which anything could be said, or it changed meanwhile. A cell that is not as it should be is an error.
    pub fn look(&self, world: &mut World, pool: usize, edge: usize) -> Result<bool, String> {
        let living: Vec<usize> =
            (0..world.hosts.len()).filter(|host| world.hosts[*host].engine.is_some()).collect();
        let phase = record(world, POOLS[pool]).phase;
        let others = record(world, POOLS[1 - pool]).phase;
        // Users of a pool that is well notice nothing of the other (RES-12). Of two that are not, nobody has said anything.
        let told_of = others == Phase::Active || phase == Phase::Active;
        if living.is_empty() || !world.is_whole() || !told_of {
            return Ok(false);
        }
        let before = situation(world);
        let weather = std::mem::replace(&mut world.network.weather, Weather::FAIR);
        let told = self.try_all(world, pool, [phase, others], world.hosts[living[edge % living.len()]].name);
        world.network.weather = weather;
        self.hang_up(world);
        match told {
            _ if !world.is_whole() || situation(world) != before => Ok(false),
            Ok(()) => Ok(true),
            // Whoever dials an orbit gets who waits there, also our caller (CP-05).
            Err(what) if what.contains("taken by") => Ok(false),
            Err(what) => Err(format!("users of {} ({phase}): {what}", POOLS[pool])),
        }
    }

    fn try_all(&self, world: &mut World, pool: usize, [phase, others]: [Phase; 2], edge: &str) -> Tried<()> {
        let [one, other] = self.phones[pool];
        let [near, far] = self.phones[1 - pool];
        for phone in self.phones.into_iter().flatten() {
            world.move_phone(phone, edge);
            world.phones[phone].on_ring = OnRing::Ring;
            world.act(phone, |phone| phone.register(3600));
        }
        world.run_for(Duration::from_secs(1));
        if phase == Phase::Outage {
            for (from, to) in [(one, "2201"), (near, USERS[pool][0].1)] {
                self.refused(world, from, to, OUT, "no new calls (RES-18)")?;
            }
            return Ok(());
        }
        self.try_park(world, phase, pool, [one, other])?;
        self.hang_up(world);
        // Callers and pickers are of the other pool.
        if others.is_resiliency() {
            return Ok(());
        }
        self.try_pickup(world, phase, pool, [near, one, far, other])
    }

    fn try_park(
        &self,
        world: &mut World,
        phase: Phase,
        pool: usize,
        [caller, parker]: [usize; 2],
    ) -> Tried<()> {
        world.phones[parker].on_ring = OnRing::AnswerAfter(Duration::from_millis(100));
        let call =
            dial(world, caller, USERS[pool][1].1).map_err(|why| format!("a call is answered {why}"))?;
        let theirs = world.phones[parker].last();
        world.phones[parker].on_ring = OnRing::Ring;
        let expected = cell(Row::NotParked, Column::of(phase));
        match (expected, park(world, parker, theirs)) {
            (Cell::Works, Ok(number)) => {
                let ours = serving(POOLS[pool], POOLS[1 - pool], phase);
                if number.starts_with("70") != (ours == "east") {
                    return Err(format!("parked on {number}, which is not of {ours}"));
                }
                dial(world, parker, &number).map_err(|why| format!("{number} cannot be retrieved: {why}"))?;
            }
            (Cell::Works, Err(why)) => return Err(format!("no park: {why}")),
            (_, Ok(number)) => return Err(format!("parked on {number}, and {expected:?} was expected")),
            (_, Err(why)) if !why.contains(RESILIENCY) => return Err(format!("park is answered {why}")),
            (_, Err(_)) => {
                for direction in ["sendonly", "sendrecv"] {
                    world.act(parker, |phone| phone.reinvite(theirs, direction));
                    world.run_for(Duration::from_millis(700));
                    let heard = world.phones[caller].call(call).heard.clone().unwrap_or_default();
                    if !heard.contains(direction) {
                        return Err(format!("hold does not work: {heard}"));
                    }
                }
            }
        }
        if world.phones[caller].call(call).over {
            return Err("a talking call is gone".to_owned());
        }
        Ok(())
    }

    /// Somebody of the other pool calls, and who is fine and who may not be try to pick it up.
    fn try_pickup(
        &self,
        world: &mut World,
        phase: Phase,
        pool: usize,
        [caller, callee, fine, mate]: [usize; 4],
    ) -> Tried<()> {
        let (group, range) = GROUPS[pool];
        let uri = format!("sip:{}@example.test", USERS[pool][0].1);
        let call = world.act(caller, |phone| phone.invite(&uri, &[], true));
        world.run_for(Duration::from_secs(1));
        if world.phones[callee].ringing().next().is_none() {
            return Err(format!("a phone does not ring: {:?}", world.phones[caller].call(call).failed));
        }
        let redirected = pool_of_range(world, range) == serving(POOLS[pool], POOLS[1 - pool], phase);
        if cell(Row::New, Column::of(phase)) == Cell::Works && redirected {
            dial(world, fine, group).map_err(|why| format!("no pickup: {why}"))?;
        } else {
            for picker in [fine, mate] {
                self.refused(world, picker, group, RESILIENCY, "no pickup")?;
            }
            let ringing =
                world.phones[callee].ringing().next().ok_or("the callee's phone has gone silent")?;
            world.act(callee, |phone| phone.answer(ringing));
            world.run_for(Duration::from_secs(1));
        }
        if world.phones[caller].call(call).up {
            Ok(())
        } else {
            Err("the caller is connected to nobody".to_owned())
        }
    }

    fn refused(&self, world: &mut World, phone: usize, number: &str, code: &str, rule: &str) -> Tried<()> {
        match dial(world, phone, number) {
            Err(why) if why.contains(code) => Ok(()),
            Err(why) => {
                Err(format!("{rule}: {} dials {number} and is answered {why}", world.phones[phone].name))
            }
            Ok(_) => Err(format!("{rule}: {} dials {number} and is connected", world.phones[phone].name)),
        }
    }

    fn hang_up(&self, world: &mut World) {
        for phone in self.phones.into_iter().flatten() {
            world.act(phone, Phone::end_all);
        }
        world.run_for(Duration::from_secs(1));
    }
}

/// Dials, and returns the call if it is answered.
pub fn dial(world: &mut World, phone: usize, number: &str) -> Tried<CallId> {
    let uri = format!("sip:{number}@example.test");
    let id = world.act(phone, |phone| phone.invite(&uri, &[], true));
    world.run_for(Duration::from_millis(2_500));
    let call = world.phones[phone].call(id);
    match call.failed {
        Some(status) => Err(format!("{} {}", status.0, call.warning.clone().unwrap_or_default())),
        None if call.up && !call.over => Ok(id),
        None => Err(format!("nothing, or a BYE: {:?}", call.bye_reason)),
    }
}

/// Parks the other end of a call; the orbit.
pub fn park(world: &mut World, phone: usize, call: CallId) -> Tried<String> {
    world.act(phone, |phone| phone.refer(call, "sip:park@example.test"));
    world.run_for(Duration::from_millis(2_500));
    let call = world.phones[phone].call(call);
    let told = call.notified.last().cloned().unwrap_or_default();
    let number: String =
        told.split("<sip:").nth(1).unwrap_or_default().chars().take_while(|c| *c != '@').collect();
    if told.starts_with("SIP/2.0 200") && !number.is_empty() {
        return Ok(number);
    }
    Err(format!("{:?} {told:?}", call.refer_status))
}

impl World {
    /// Whether every host that lives reaches the store and all others, and every pool has a host that serves it.
    pub fn is_whole(&self) -> bool {
        let alive = |host: usize| self.hosts[host].engine.is_some();
        let served = |pool: &str| {
            let held =
                |engine: &switchyard_host::engine::Engine| engine.seats_held().any(|(held, _)| held == pool);
            self.hosts.iter().filter_map(|host| host.engine.as_ref()).any(held)
        };
        self.store_does == StoreDoes::WELL
            && !self.is_storeless()
            && !self.cut_links.iter().any(|(one, other)| alive(*one) && alive(*other))
            && POOLS.iter().all(|pool| served(pool) || record(self, pool).phase == Phase::Outage)
    }
}
