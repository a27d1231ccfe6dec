//! A small model of calls and orbits, obviously right, beside the real host on the same script: behaviour, not only the
//! absence of contradictions. The network is fair and one thing happens at a time; what races do is `run`'s business.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use switchyard_host::sip::Status;

use super::invariants::nothing_left;
use crate::harness::{CallId, OnRing, World, WorldOptions};

/// One phone each; dave may not park.
const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const DAVE: usize = 3;

/// The policy of this world, and the two numbers of it the model knows.
const POLICY: &str = "return require('default'):extend { call_park = \
    { pickup_timeout = '20s', max_recall_attempts = 2, recall_ring_time = '5s' } }";
const PICKUP_TIMEOUT: u64 = 20_000;
const ATTEMPTS: u32 = 2;

/// What everything but a ring-back is over within.
const SETTLES: u64 = 4_000;

/// A ring-back is decided so long after its time at the latest: the phone says busy or answers.
const RINGS: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
enum Op {
    Call {
        from: usize,
        to: usize,
    },
    HangUp {
        who: usize,
    },
    Park {
        who: usize,
        orbit: u8,
    },
    /// Hold, dial the orbit, listen, hang up twice.
    ParkByDialling {
        who: usize,
        orbit: u8,
    },
    Retrieve {
        who: usize,
        orbit: u8,
    },
    /// Two dial the same orbit at the same moment.
    Race {
        one: usize,
        other: usize,
        orbit: u8,
    },
    Transfer {
        who: usize,
        to: usize,
    },
    HoldAndResume {
        who: usize,
    },
    Wait {
        seconds: u64,
    },
    /// `kill -9`, and a new start.
    Restart {
        down: u64,
    },
}

/// Where a phone is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Idle,
    With(usize),
    In(u8),
}

/// A parked call.
#[derive(Clone, Copy, Debug)]
struct Parked {
    who: usize,
    parker: usize,
    /// When the parker is rung.
    due: u64,
    attempts: u32,
}

/// All there is to know, in milliseconds.
#[derive(Default)]
struct Model {
    now: u64,
    with: BTreeMap<usize, usize>,
    orbits: BTreeMap<u8, Parked>,
}

impl Model {
    fn place(&self, who: usize) -> Place {
        let parked = self.orbits.iter().find(|(_, parked)| parked.who == who);
        match (self.with.get(&who), parked) {
            (Some(other), _) => Place::With(*other),
            (None, Some((orbit, _))) => Place::In(*orbit),
            (None, None) => Place::Idle,
        }
    }

    fn idle(&self, who: usize) -> bool {
        self.place(who) == Place::Idle
    }

    fn join(&mut self, a: usize, b: usize) {
        self.with.extend([(a, b), (b, a)]);
    }

    fn part(&mut self, who: usize) -> Option<usize> {
        let other = self.with.remove(&who)?;
        self.with.remove(&other)
    }

    fn park(&mut self, parker: usize, orbit: u8) {
        if let Some(&who) = self.with.get(&parker)
            && parker != DAVE
            && !self.orbits.contains_key(&orbit)
        {
            self.part(parker);
            self.orbits.insert(orbit, Parked { who, parker, due: self.now + PICKUP_TIMEOUT, attempts: 0 });
        }
    }

    fn retrieve(&mut self, who: usize, orbit: u8) {
        if let Some(parked) = self.orbits.remove(&orbit) {
            self.join(parked.who, who);
        }
    }

    /// The next ring-back.
    fn due(&self) -> Option<u64> {
        self.orbits.values().map(|parked| parked.due).min()
    }

    /// Time passes, with the ring-backs that fall into it (CP-07).
    fn pass(&mut self, until: u64) {
        while let Some((orbit, parked)) = self
            .orbits
            .iter()
            .map(|(orbit, parked)| (*orbit, *parked))
            .filter(|(_, p)| p.due + RINGS <= until)
            .min_by_key(|(_, p)| p.due)
        {
            if self.idle(parked.parker) {
                self.retrieve(parked.parker, orbit);
            } else if parked.attempts + 1 >= ATTEMPTS {
                self.orbits.remove(&orbit);
            } else {
                let again =
                    Parked { attempts: parked.attempts + 1, due: parked.due + PICKUP_TIMEOUT, ..parked };
                self.orbits.insert(orbit, again);
            }
        }
        self.now = until;
    }
}

/// The real host, and its phones.
struct Real {
    world: World,
}

impl Real {
    fn live(&self, who: usize) -> Option<CallId> {
        self.world.phones[who].live().next()
    }

    fn act(&mut self, who: usize, what: impl FnOnce(&mut crate::harness::Phone, CallId)) {
        if let Some(id) = self.live(who) {
            self.world.act(who, |phone| what(phone, id));
        }
    }

    fn dial(&mut self, who: usize, orbit: u8) -> CallId {
        self.world.act(who, |phone| phone.invite(&format!("sip:700{orbit}@example.test"), &[], true))
    }

    fn run(&mut self, ms: u64) {
        self.world.run_for(Duration::from_millis(ms));
    }

    /// Where a phone is, by what it hears.
    fn place(&self, who: usize, occupants: &[(String, String)]) -> Result<Place, String> {
        let phone = &self.world.phones[who];
        let live: Vec<CallId> = phone.live().collect();
        let [id] = live[..] else {
            return if live.is_empty() {
                Ok(Place::Idle)
            } else {
                Err(format!("{} calls at once", live.len()))
            };
        };
        let heard = phone.call(id).heard.as_deref().unwrap_or_default();
        for other in 0..NAMES.len() {
            if heard.contains(&format!("IN IP4 {}\r", self.world.phones[other].address.ip())) {
                return Ok(Place::With(other));
            }
        }
        let here = format!("{}{}", NAMES[who][..1].to_uppercase(), &NAMES[who][1..]);
        let orbit = occupants.iter().find(|(_, parked)| *parked == here);
        let orbit = orbit.and_then(|(number, _)| number.strip_prefix("700")?.parse().ok());
        orbit.map(Place::In).ok_or_else(|| format!("is with nobody and hears {heard}"))
    }
}

fn perform(ops: &[Op]) -> Result<(), String> {
    let policies = vec![("pools/east.lua".to_owned(), POLICY.to_owned())];
    let mut world = World::with(WorldOptions { policies, ..WorldOptions::default() });
    world.phones(NAMES);
    world.start_ladder();
    let (mut real, mut model) = (Real { world }, Model::default());
    for op in ops {
        // Nothing is asked for while a ring-back is about to come: one thing at a time.
        while let Some(due) = model.due().filter(|due| *due <= model.now + 2 * SETTLES) {
            let ms = due + SETTLES - model.now;
            pass(&mut real, &mut model, ms);
        }
        real.world.remark(&format!("{op:?}"));
        apply(*op, &mut real, &mut model)?;
        compare(&mut real, &model).map_err(|what| format!("{op:?}: {what}\n{}", real.world.ladder()))?;
    }
    for who in 0..NAMES.len() {
        while real.live(who).is_some() {
            real.act(who, |phone, id| phone.hang_up(id));
        }
    }
    real.run(70_000);
    nothing_left(&mut real.world, true).map_err(|what| format!("{what}\n{}", real.world.ladder()))
}

/// Time passes on both sides. Whoever is in a call says that he is busy.
fn pass(real: &mut Real, model: &mut Model, ms: u64) {
    let mut end = model.now + ms;
    while model.now < end {
        // Nobody looks while it rings.
        end = model
            .due()
            .filter(|due| (due.saturating_sub(RINGS)..due + RINGS).contains(&end))
            .map_or(end, |due| due + RINGS);
        for who in 0..NAMES.len() {
            let idle = OnRing::AnswerAfter(Duration::from_millis(100));
            real.world.phones[who].on_ring =
                if model.idle(who) { idle } else { OnRing::Refuse(Status::BUSY_HERE) };
        }
        // From one ring-back to the next: one may change who is busy at the next.
        let next = model.due().map_or(end, |due| (due + RINGS).clamp(model.now + 1, end));
        real.run(next - model.now);
        model.pass(next);
    }
}

fn apply(op: Op, real: &mut Real, model: &mut Model) -> Result<(), String> {
    // What the op does at once; then both sides get the time it takes.
    match op {
        Op::Call { from, to } => {
            if model.idle(from) && from != to {
                let answer = if model.idle(to) {
                    OnRing::AnswerAfter(Duration::from_millis(100))
                } else {
                    OnRing::Refuse(Status::BUSY_HERE)
                };
                real.world.phones[to].on_ring = answer;
                real.world
                    .act(from, |phone| phone.invite(&format!("sip:{}@example.test", NAMES[to]), &[], true));
                real.run(1_000);
                model.now += 1_000;
                if model.idle(to) {
                    model.join(from, to);
                }
            }
        }
        Op::HangUp { who } => {
            real.act(who, |phone, id| phone.hang_up(id));
            match model.place(who) {
                Place::With(_) => drop(model.part(who)),
                Place::In(orbit) => drop(model.orbits.remove(&orbit)),
                Place::Idle => {}
            }
        }
        Op::Park { who, orbit } => {
            if let Place::With(_) = model.place(who) {
                real.act(who, |phone, id| phone.refer(id, &format!("sip:700{orbit}@example.test")));
                model.park(who, orbit);
            }
        }
        Op::ParkByDialling { who, orbit } => {
            // In an orbit where a call waits this would retrieve it.
            if let (Place::With(_), false) = (model.place(who), model.orbits.contains_key(&orbit)) {
                let held = real.live(who);
                real.act(who, |phone, id| phone.reinvite(id, "sendonly"));
                real.run(300);
                model.now += 300;
                let dialled = real.dial(who, orbit);
                model.park(who, orbit);
                real.run(700);
                model.now += 700;
                if who == DAVE {
                    real.act(who, |phone, id| phone.reinvite(id, "sendrecv"));
                } else {
                    for id in [Some(dialled), held].into_iter().flatten() {
                        real.world.act(who, |phone| phone.hang_up(id));
                    }
                }
            }
        }
        Op::Retrieve { who, orbit } => {
            if model.idle(who) {
                let call = real.dial(who, orbit);
                let waits = model.orbits.contains_key(&orbit);
                model.retrieve(who, orbit);
                real.run(1_000);
                model.now += 1_000;
                let failed = real.world.phones[who].call(call).failed;
                if !waits && failed.is_none_or(|status| ![404, 480, 486].contains(&status.0)) {
                    return Err(format!("{op:?}: nobody waits there, and the answer was {failed:?}"));
                }
            }
        }
        Op::Race { one, other, orbit } => {
            if model.idle(one) && model.idle(other) && one != other && model.orbits.contains_key(&orbit) {
                let calls = [one, other].map(|who| (who, real.dial(who, orbit)));
                real.run(1_000);
                model.now += 1_000;
                let up = calls.map(|(who, call)| real.world.phones[who].call(call).up);
                let (winner, (loser, lost)) = match up {
                    [true, false] => (one, calls[1]),
                    [false, true] => (other, calls[0]),
                    _ => return Err(format!("{op:?}: one wins, not {up:?}")),
                };
                let told = real.world.phones[loser].call(lost).warning.clone().unwrap_or_default();
                if !told.contains("35101") {
                    return Err(format!("{op:?}: {} is told {told:?}", NAMES[loser]));
                }
                model.retrieve(winner, orbit);
            }
        }
        Op::Transfer { who, to } => {
            if let Place::With(far) = model.place(who)
                && to != who
                && to != far
            {
                let answer = if model.idle(to) {
                    OnRing::AnswerAfter(Duration::from_millis(100))
                } else {
                    OnRing::Refuse(Status::BUSY_HERE)
                };
                real.world.phones[to].on_ring = answer;
                real.act(who, |phone, id| phone.refer(id, &format!("sip:{}@example.test", NAMES[to])));
                real.run(1_000);
                model.now += 1_000;
                if model.idle(to) {
                    model.part(who);
                    model.join(far, to);
                }
            }
        }
        Op::HoldAndResume { who } => {
            if let Place::With(_) = model.place(who) {
                real.act(who, |phone, id| phone.reinvite(id, "sendonly"));
                real.run(500);
                real.act(who, |phone, id| phone.reinvite(id, "sendrecv"));
                model.now += 500;
            }
        }
        Op::Restart { down } => {
            real.world.kill_host();
            real.run(down);
            model.now += down;
            real.world.start_host();
        }
        Op::Wait { seconds } => pass(real, model, seconds * 1_000),
    }
    pass(real, model, SETTLES);
    Ok(())
}

/// Both say the same of everybody.
fn compare(real: &mut Real, model: &Model) -> Result<(), String> {
    let rows = real.world.ask(switchyard_host::admin::Request::Occupants).map_err(|refused| refused.text)?;
    let occupants: Vec<(String, String)> = rows
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("number"), text("parked"))
        })
        .collect();
    let mut wrong = String::new();
    for (who, name) in NAMES.iter().enumerate() {
        let (is, should) = (real.place(who, &occupants), model.place(who));
        if is != Ok(should) {
            let _ = write!(wrong, "{name} is {is:?}, should be {should:?}; ");
        }
    }
    if occupants.len() != model.orbits.len() {
        let _ = write!(wrong, "occupied are {occupants:?}, should be {:?}", model.orbits);
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let who = || 0..NAMES.len();
    let orbit = || 0..3_u8;
    let op = prop_oneof![
        4 => (who(), who()).prop_map(|(from, to)| Op::Call { from, to }),
        1 => who().prop_map(|who| Op::HangUp { who }),
        3 => (who(), orbit()).prop_map(|(who, orbit)| Op::Park { who, orbit }),
        1 => (who(), orbit()).prop_map(|(who, orbit)| Op::ParkByDialling { who, orbit }),
        2 => (who(), orbit()).prop_map(|(who, orbit)| Op::Retrieve { who, orbit }),
        1 => (who(), who(), orbit()).prop_map(|(one, other, orbit)| Op::Race { one, other, orbit }),
        1 => (who(), who()).prop_map(|(who, to)| Op::Transfer { who, to }),
        1 => who().prop_map(|who| Op::HoldAndResume { who }),
        1 => (1..30_u64).prop_map(|seconds| Op::Wait { seconds }),
        1 => (0..2_000_u64).prop_map(|down| Op::Restart { down }),
    ];
    prop::collection::vec(op, 1..40)
}

/// Runs fresh scripts; one on which the host and the model disagree is shrunk to the few steps it takes.
#[test]
fn the_host_does_what_the_model_says() {
    let config =
        Config { cases: 100, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    let result = TestRunner::new(config).run(&ops(), |ops| perform(&ops).map_err(TestCaseError::fail));
    if let Err(error) = result {
        panic!("{error}");
    }
}
