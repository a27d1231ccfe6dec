//! Every procedure, struck at each of its writes: whoever runs it dies before the store has the write, or after, or lives and is
//! told that the store could not. What is written is what is struck, so a step that is new is struck without being named here.

use std::collections::BTreeSet;
use std::time::Duration;

use switchyard_host::admin::Request;
use switchyard_host::pool::{Ask, Phase, Procedure};

use super::invariants;
use super::probe::{self, POOLS, Probe, record};
use crate::harness::{CallId, Moment, OnRing, Phone, Strike, World, WorldOptions};

const EAST: [&str; 2] = ["fe1", "fe2"];
const WEST: [&str; 2] = ["fw1", "fw2"];
const HOME: Ask = Ask::Failback { disaster: false };
/// Longer than a lease and a detection together.
const A_WHILE: Duration = Duration::from_secs(25);

/// A procedure, and where it is to end.
struct Case {
    name: &'static str,
    /// More keys of `resiliency` in the policy of the east.
    terms: &'static str,
    /// What comes before it.
    prepare: fn(&mut Stage),
    /// What begins it. Asked again while nothing has begun: who asked the host that died asks another.
    begin: fn(&mut Stage),
    /// The phase of the east at its end.
    ends: Phase,
    /// The pool that then serves the users of the east.
    served_by: &'static str,
    /// What becomes of the call in the orbit.
    parked: Parked,
    /// Whoever is struck is the last of his pool, and comes back: a pool that is lost is another case.
    last: bool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Parked {
    /// A user of the east fetches it when all is over.
    Waits,
    /// It has ended, with a reason.
    Ended,
}

const FAILOVERS: [Case; 5] = [
    Case {
        name: "a planned failover",
        terms: "",
        prepare: |_| {},
        begin: |stage| stage.ask(Ask::Failover),
        ends: Phase::FailedOver,
        served_by: "west",
        parked: Parked::Ended,
        last: false,
    },
    Case {
        name: "a planned failover with rescue",
        terms: "parked_on_outage = 'rescue'",
        prepare: |_| {},
        begin: |stage| stage.ask(Ask::Failover),
        ends: Phase::FailedOver,
        served_by: "west",
        parked: Parked::Waits,
        last: false,
    },
    Case {
        name: "the failover of a lost pool",
        terms: "",
        prepare: |stage| {
            stage.lose(EAST);
            stage.world.run_for(A_WHILE);
        },
        begin: |stage| stage.ask(Ask::Failover),
        ends: Phase::FailedOver,
        served_by: "west",
        parked: Parked::Ended,
        last: false,
    },
    Case {
        name: "the failover of a silent pool",
        terms: "parked_on_outage = 'rescue', failure_detection = '5m'",
        prepare: |stage| {
            stage.lose(EAST);
            stage.world.run_for(Duration::from_secs(9));
        },
        begin: |stage| stage.ask(Ask::Failover),
        ends: Phase::FailedOver,
        served_by: "west",
        parked: Parked::Waits,
        last: false,
    },
    Case {
        name: "a failover by policy",
        terms: "failover = 'automatic', failback_detection = '1h'",
        prepare: |_| {},
        begin: |stage| stage.lose(EAST),
        ends: Phase::FailedOver,
        served_by: "west",
        parked: Parked::Ended,
        last: false,
    },
];

const FAILBACKS: [Case; 3] = [
    Case {
        name: "a failback",
        terms: "",
        prepare: Stage::away,
        begin: |stage| stage.ask(HOME),
        ends: Phase::Active,
        served_by: "east",
        parked: Parked::Waits,
        last: false,
    },
    Case {
        name: "a failback by policy",
        terms: "failover = 'automatic', failback_detection = '30s'",
        prepare: |stage| {
            stage.lose(EAST);
            stage.world.run_for(A_WHILE);
            stage.start(EAST);
            stage.world.run_for(Duration::from_secs(3));
            stage.park_again();
        },
        begin: |_| {},
        ends: Phase::Active,
        served_by: "east",
        parked: Parked::Waits,
        last: false,
    },
    Case {
        name: "a failback from a dead backup",
        terms: "",
        prepare: |stage| {
            stage.away();
            stage.move_phones("fe2");
            stage.lose(WEST);
            stage.world.run_for(Duration::from_secs(9));
        },
        begin: |stage| stage.ask(Ask::Failback { disaster: true }),
        ends: Phase::Active,
        served_by: "east",
        // RES-28: what was done on the backup is lost with it, unless its own policy rescues it.
        parked: Parked::Waits,
        last: false,
    },
];

const OTHERS: [Case; 4] = [
    Case {
        name: "the loss of a pool",
        terms: "",
        prepare: |_| {},
        begin: |stage| stage.lose(EAST),
        ends: Phase::Resilient,
        served_by: "west",
        parked: Parked::Ended,
        last: false,
    },
    Case {
        name: "the return of a lost pool",
        terms: "",
        prepare: |stage| {
            stage.lose(EAST);
            stage.world.run_for(A_WHILE);
        },
        begin: |stage| stage.start(EAST),
        ends: Phase::Active,
        served_by: "east",
        parked: Parked::Ended,
        last: false,
    },
    Case {
        name: "the draining of a host",
        terms: "",
        prepare: |_| {},
        begin: |stage| stage.drain(true),
        ends: Phase::Active,
        served_by: "east",
        parked: Parked::Waits,
        last: false,
    },
    Case {
        name: "the death of a host",
        terms: "",
        prepare: |_| {},
        begin: |stage| stage.lose(["fe1"]),
        ends: Phase::Active,
        served_by: "east",
        parked: Parked::Waits,
        last: true,
    },
];

/// The world of a case: two pools of two hosts, and calls that are up before anything happens. All phones talk to one host that
/// serves nobody, and so is not struck.
struct Stage {
    world: World,
    probe: Probe,
    /// Alice and Bob talk.
    talk: [(usize, CallId); 2],
    carol: usize,
    erin: usize,
    frank: usize,
    dave: usize,
    /// Frank calls Dave, whose phone rings.
    rings: CallId,
    /// Carol waits, and where; Erin waits with the west.
    waits: (CallId, String),
    native: (CallId, String),
    /// Hosts that are to be dead.
    lost: BTreeSet<usize>,
}

impl Stage {
    fn new(case: &Case) -> Self {
        // What is said last counts.
        let policy = |more: &str| {
            format!(
                "return require('default'):extend {{ call_park = {{ pickup_timeout = '10m' }}, resiliency = {{ \
                 allow_fast_detection = true, failure_detection = '10s', failback_detection = '10s', drain_time = \
                 '10s', pickup_ranges = 'automatic', {more} }} }}"
            )
        };
        let mut world = World::with(WorldOptions {
            hosts: &[("fe1", "east"), ("fe2", "east"), ("fw1", "west"), ("fw2", "west")],
            users: vec![("dave", "pickup_group = \"*102\"")],
            policies: vec![
                ("pools/east.lua".into(), policy(case.terms)),
                ("pools/west.lua".into(), policy("parked_on_outage = 'rescue'")),
            ],
            config: probe::users(),
            ..WorldOptions::default()
        });
        let probe = Probe::new(&mut world);
        let names = ["alice", "bob", "carol", "dave", "erin", "frank"];
        let [alice, bob, carol, dave, erin, frank] = world.phones_at(names.map(|name| (name, "fw2")));
        let (c, b) = world.connect(carol, bob);
        let east = probe::park(&mut world, bob, b).unwrap();
        let (e, f) = world.connect(erin, frank);
        let west = probe::park(&mut world, frank, f).unwrap();
        let (a, b) = world.connect(alice, bob);
        let rings = world.act(frank, |phone| phone.invite("sip:dave@example.test", &[], true));
        world.run_for(Duration::from_secs(2));
        Self {
            world,
            probe,
            talk: [(alice, a), (bob, b)],
            carol,
            erin,
            frank,
            dave,
            rings,
            waits: (c, east),
            native: (e, west),
            lost: BTreeSet::new(),
        }
    }

    fn lose<const N: usize>(&mut self, names: [&str; N]) {
        for name in names {
            let host = self.world.host(name);
            self.lost.insert(host);
            if self.world.hosts[host].engine.is_some() {
                self.world.kill(host);
            }
        }
    }

    fn start<const N: usize>(&mut self, names: [&str; N]) {
        for name in names {
            let host = self.world.host(name);
            self.lost.remove(&host);
            if self.world.hosts[host].engine.is_none() {
                self.world.start(host);
            }
        }
    }

    fn phase(&self) -> Phase {
        record(&self.world, "east").phase
    }

    /// Asks the first host of the west that lives, or of the east.
    fn ask(&mut self, ask: Ask) {
        let what = Request::MovePool { pool: "east".into(), ask, by: "ana".into(), dry_run: false };
        self.ask_somebody(what);
    }

    fn drain(&mut self, drained: bool) {
        self.ask_somebody(Request::DrainHost { host: "fe1".into(), drained, by: "ana".into() });
    }

    fn ask_somebody(&mut self, what: Request) {
        let first = ["fw1", "fw2", "fe1", "fe2"].map(|name| self.world.host(name));
        if let Some(host) = first.into_iter().find(|host| self.world.hosts[*host].engine.is_some()) {
            self.world.asks(host, what);
        }
    }

    fn move_phones(&mut self, host: &str) {
        for phone in 0..self.world.phones.len() {
            self.world.move_phone(phone, host);
            self.world.act(phone, |phone| phone.register(3600));
        }
        self.world.run_for(Duration::from_secs(1));
    }

    /// The east was lost and failed over, and its hosts are back. Carol is parked with the west.
    fn away(&mut self) {
        self.lose(EAST);
        self.world.run_for(A_WHILE);
        self.ask(Ask::Failover);
        self.world.run_for(Duration::from_secs(2));
        self.start(EAST);
        self.world.run_for(Duration::from_secs(2));
        self.park_again();
    }

    fn park_again(&mut self) {
        assert_eq!(self.phase(), Phase::FailedOver);
        let bob = self.talk[1].0;
        let (c, b) = self.world.connect(self.carol, bob);
        let number = probe::park(&mut self.world, bob, b).unwrap();
        assert!(number.starts_with("80"), "{number}");
        self.waits = (c, number);
    }

    /// Runs the procedure, struck at a write; whether it was.
    fn run(&mut self, case: &Case, strike: Strike) -> Option<String> {
        (case.prepare)(self);
        let before = self.phase();
        self.world.strike(strike);
        for _ in 0..5 {
            if self.phase() == before && record(&self.world, "east").running().is_none() {
                (case.begin)(self);
            }
            self.world.run_for(A_WHILE);
        }
        self.world.struck().map(str::to_owned)
    }

    /// What must be at the end, whatever happened on the way.
    fn look(&mut self, case: &Case) -> Result<(), String> {
        if let Some(broken) = self.world.broken.take() {
            return Err(broken);
        }
        let record = record(&self.world, "east");
        if record.phase != case.ends || record.running().is_some() {
            return Err(format!("the east should be {}: {record:?}", case.ends));
        }
        let seat = self.world.seat("east").ok_or("nobody has the seat")?;
        let holder = self.world.host(seat.host.as_str());
        let holds = self.world.hosts[holder]
            .engine
            .as_ref()
            .is_some_and(|e| e.seats_held().any(|(p, _)| p == "east"));
        if self.world.hosts[holder].pool != case.served_by || !holds {
            return Err(format!("{} should serve the east, and {} does", case.served_by, seat.host));
        }
        let range = probe::pool_of_range(&self.world, "east-groups");
        let expected = if case.ends == Phase::FailedOver { "west" } else { "east" };
        if range != expected {
            return Err(format!("the pickup range is {range}'s, not {expected}'s"));
        }
        self.calls(case)?;
        for (index, pool) in POOLS.iter().enumerate() {
            let looked = self.probe.look(&mut self.world, index, 1)?;
            let west = probe::record(&self.world, "west").phase;
            if !looked && *pool == "east" && west == Phase::Active && self.phase() == case.ends {
                return Err("the probe had nothing to say".to_owned());
            }
        }
        self.nothing_left()
    }

    /// What has become of the calls that were up.
    fn calls(&mut self, case: &Case) -> Result<(), String> {
        let [one, other] = self.talk;
        for (holds, hears) in [(one, other), (other, one)] {
            for direction in ["sendonly", "sendrecv"] {
                self.world.act(holds.0, |phone| phone.reinvite(holds.1, direction));
                self.world.run_for(Duration::from_secs(1));
                let call = self.world.phones[hears.0].call(hears.1);
                if call.over || !call.heard.as_ref().is_some_and(|heard| heard.contains(direction)) {
                    return Err(format!("talk: {direction} is not heard, over: {}", call.over));
                }
            }
        }
        // What rang when it began, nobody may pick up: it is of the phase before (facts.md §2.2).
        let rang = !self.world.phones[self.frank].call(self.rings).over;
        if rang && case.ends != Phase::Active && probe::dial(&mut self.world, self.erin, "*102").is_ok() {
            return Err("what rang before was picked up".to_owned());
        }
        let (waits, number) = self.waits.clone();
        let call = self.world.phones[self.carol].call(waits);
        match case.parked {
            Parked::Waits if call.over => {
                return Err(format!("the parked call is gone: {:?}", call.bye_reason));
            }
            Parked::Waits => {
                let bob = self.talk[1].0;
                // In resiliency nobody of the east may; a user of the west may.
                let by = if case.ends.is_resiliency() { self.frank } else { bob };
                probe::dial(&mut self.world, by, &number)
                    .map_err(|why| format!("not fetched from {number}: {why}"))?;
            }
            Parked::Ended => {
                let why = call.bye_reason.clone().unwrap_or_default();
                if !call.over || !why.contains("Q.850;cause=41") {
                    return Err(format!("the parked call should have ended: over {}, {why:?}", call.over));
                }
            }
        }
        // Users of the west notice nothing, but for the death of the host that serves them.
        let (call, number) = self.native.clone();
        if self.world.phones[self.erin].call(call).over {
            return Err("the call parked with the west is gone".to_owned());
        }
        // Who is in resiliency mode himself may fetch nobody.
        let by = if record(&self.world, "west").phase == Phase::Active { self.frank } else { self.talk[1].0 };
        let fetched = probe::dial(&mut self.world, by, &number);
        fetched.map(drop).map_err(|why| format!("west: not fetched from {number}: {why}"))
    }

    fn nothing_left(&mut self) -> Result<(), String> {
        self.world.heal();
        for _ in 0..3 {
            for phone in 0..self.world.phones.len() {
                self.world.act(phone, Phone::end_all);
            }
            self.world.run_for(Duration::from_secs(5));
        }
        self.world.phones[self.dave].on_ring = OnRing::Ring;
        self.world.run_for(Duration::from_secs(120));
        invariants::nothing_left(&mut self.world, false)?;
        self.world.broken.take().map_or(Ok(()), Err)
    }
}

/// Strikes a case at each of its writes. The words for what was struck.
fn strike_all(case: &Case, how: impl Fn(usize) -> Vec<(Moment, bool)>) -> BTreeSet<String> {
    let mut struck = BTreeSet::new();
    for skip in 0..40 {
        for (moment, comes_back) in how(skip) {
            let down = (comes_back || case.last).then_some(Duration::from_secs(3));
            let strike = Strike { skip, moment, down };
            let mut stage = Stage::new(case);
            let what = stage.run(case, strike);
            if let Err(wrong) = stage.look(case) {
                panic!("{}, {strike:?} at {what:?}: {wrong}", case.name);
            }
            match what {
                Some(what) => drop(struck.insert(what)),
                None => return struck,
            }
        }
    }
    panic!("{} never ends: {struck:?}", case.name);
}

/// One way for each write, another for the next: every write is struck, and in long runs in every way.
pub fn in_turn(skip: usize) -> Vec<(Moment, bool)> {
    vec![(Moment::ALL[skip % 3], skip.is_multiple_of(2))]
}

pub fn in_every_way(_: usize) -> Vec<(Moment, bool)> {
    Moment::ALL.into_iter().flat_map(|moment| [(moment, true), (moment, false)]).collect()
}

pub fn assert_all_steps(struck: &BTreeSet<String>, procedure: Procedure) {
    for step in procedure.steps() {
        let (procedure, step) = (procedure.word(), step.word());
        let named = |what: &String| what.starts_with(procedure) && what.contains(step);
        assert!(struck.iter().any(named), "{procedure} was never struck at {step}: {struck:?}");
    }
}

fn failovers(how: impl Fn(usize) -> Vec<(Moment, bool)>) {
    for case in &FAILOVERS {
        assert_all_steps(&strike_all(case, &how), Procedure::Failover);
    }
}

fn failbacks(how: impl Fn(usize) -> Vec<(Moment, bool)>) {
    for case in &FAILBACKS {
        assert_all_steps(&strike_all(case, &how), Procedure::Failback);
    }
}

fn others(how: impl Fn(usize) -> Vec<(Moment, bool)>) {
    for case in &OTHERS {
        assert!(!strike_all(case, &how).is_empty(), "{}", case.name);
    }
}

#[test]
fn failovers_survive_whoever_runs_them_at_every_write() {
    failovers(in_turn);
}

#[test]
fn failbacks_survive_whoever_runs_them_at_every_write() {
    failbacks(|skip| in_turn(skip + 1));
}

#[test]
fn phases_and_seats_that_change_by_themselves_survive_whoever_changes_them_at_every_write() {
    others(|skip| in_turn(skip + 2));
}

#[test]
#[ignore = "minutes: make simulate TOGETHER=1"]
fn every_write_in_every_way() {
    failovers(in_every_way);
    failbacks(in_every_way);
    others(in_every_way);
}
