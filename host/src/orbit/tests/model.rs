//! Any order of events, against a model small enough to be obviously right.
//!
//! The model knows who is where and who may do what; it takes from the service only what the store or the clock
//! decides (whether a park was stored in time), and checks even that against what is possible.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const ORBITS: u32 = 3;
const FLOWS: usize = 4;
const LEGS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        flow: usize,
        leg: usize,
        number: Option<u32>,
    },
    Commit {
        flow: usize,
        number: u32,
    },
    Save {
        flow: usize,
        number: u32,
    },
    Claim {
        flow: usize,
        number: u32,
        token: Shown,
    },
    ClaimOldest {
        flow: usize,
    },
    ClaimNow {
        number: u32,
    },
    Unclaim {
        flow: usize,
        number: u32,
    },
    Free {
        flow: usize,
        number: u32,
    },
    Claimed {
        flow: usize,
        number: u32,
    },
    Settled {
        flow: usize,
        number: u32,
    },
    WithdrawClaim,
    LegEnds {
        leg: usize,
    },
    FlowEnds {
        flow: usize,
    },
    NewOwner {
        flow: usize,
        number: u32,
    },
    Pass {
        millis: u64,
    },
    /// The store answers its oldest write: as it should, not at all, or without being heard.
    Store {
        written: bool,
        heard: bool,
    },
    /// The host is killed and comes back; of each restored call either the leg is back or it is gone.
    Restart {
        back: [bool; ORBITS as usize],
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    Nothing,
    Right,
    Wrong,
}

fn step() -> impl Strategy<Value = Step> {
    let (flow, leg, number) = (0..FLOWS, 0..LEGS, 0..ORBITS);
    let shown = prop_oneof![4 => Just(Shown::Nothing), 2 => Just(Shown::Right), 1 => Just(Shown::Wrong)];
    prop_oneof![
        6 => (flow.clone(), leg.clone(), prop::option::weighted(0.3, number.clone()))
            .prop_map(|(flow, leg, number)| Step::Reserve { flow, leg, number }),
        8 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Commit { flow, number }),
        2 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Save { flow, number }),
        8 => (flow.clone(), number.clone(), shown)
            .prop_map(|(flow, number, token)| Step::Claim { flow, number, token }),
        2 => flow.clone().prop_map(|flow| Step::ClaimOldest { flow }),
        2 => number.clone().prop_map(|number| Step::ClaimNow { number }),
        2 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Unclaim { flow, number }),
        3 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Free { flow, number }),
        2 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Claimed { flow, number }),
        2 => (flow.clone(), number.clone()).prop_map(|(flow, number)| Step::Settled { flow, number }),
        1 => Just(Step::WithdrawClaim),
        2 => leg.prop_map(|leg| Step::LegEnds { leg }),
        2 => flow.clone().prop_map(|flow| Step::FlowEnds { flow }),
        1 => (flow, number).prop_map(|(flow, number)| Step::NewOwner { flow, number }),
        3 => (0u64..4000).prop_map(|millis| Step::Pass { millis }),
        10 => (prop::bool::weighted(0.85), prop::bool::weighted(0.85))
            .prop_map(|(written, heard)| Step::Store { written, heard }),
        1 => prop::array::uniform3(any::<bool>()).prop_map(|back| Step::Restart { back }),
    ]
}

/// What the model knows of a call in an orbit.
#[derive(Clone, PartialEq, Debug)]
struct Stay {
    leg: u64,
    owner: Option<u64>,
    state: Known,
    token: String,
    /// Moment of parking and order of reservation.
    place: (u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    Reserved,
    Storing,
    Parked,
    /// By a flow; `None` for the host's own claim.
    Connecting(Option<u64>),
}

/// What a token waits for.
#[derive(Clone, Debug)]
enum Asked {
    Commit { number: String },
    Claim,
    Wait,
}

struct Model {
    world: World,
    stays: BTreeMap<String, Stay>,
    flows: [u64; FLOWS],
    legs: [u64; LEGS],
    last_id: u64,
    reservations: u64,
    /// Tokens that must be answered some time, and whose flow asked.
    open: BTreeMap<u64, (u64, Asked)>,
    heard: usize,
}

fn name(number: u32) -> String {
    format!("{}", 7000 + number)
}

impl Model {
    fn new() -> Model {
        let mut world = World::new(ORBITS);
        world.store_answers = false;
        Model {
            world,
            stays: BTreeMap::new(),
            flows: [1, 2, 3, 4],
            legs: [5, 6, 7, 8],
            last_id: 8,
            reservations: 0,
            open: BTreeMap::new(),
            heard: 0,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Reserve { flow, leg, number } => self.reserve(self.flows[flow], self.legs[leg], number),
            Step::Commit { flow, number } => self.commit(self.flows[flow], &name(number)),
            Step::Save { flow, number } => {
                let saved = commit(self.world.now, &name(number));
                self.world.orbits.save(self.world.now, FlowId(self.flows[flow]), saved, None);
            }
            Step::Claim { flow, number, token } => self.claim(self.flows[flow], &name(number), token),
            Step::ClaimOldest { flow } => self.claim_oldest(self.flows[flow]),
            Step::ClaimNow { number } => self.claim_now(&name(number)),
            Step::Unclaim { flow, number } => {
                let flow = self.flows[flow];
                self.world.unclaim(flow, &name(number));
                if let Some(stay) = self.stays.get_mut(&name(number))
                    && stay.state == Known::Connecting(Some(flow))
                {
                    stay.state = Known::Parked;
                }
            }
            Step::Free { flow, number } => {
                let flow = self.flows[flow];
                self.world.free(flow, &name(number), Outcome::Released);
                let may = self.stays.get(&name(number)).is_some_and(|stay| match stay.state {
                    Known::Connecting(Some(by)) => by == flow,
                    Known::Connecting(None) | Known::Reserved | Known::Storing | Known::Parked => {
                        stay.owner == Some(flow)
                    }
                });
                if may {
                    self.stays.remove(&name(number));
                }
            }
            Step::Claimed { flow, number } => {
                let token = self.world.claimed(self.flows[flow], &name(number));
                self.open.insert(token, (self.flows[flow], Asked::Wait));
            }
            Step::Settled { flow, number } => {
                let token = self.world.settled(self.flows[flow], &name(number));
                self.open.insert(token, (self.flows[flow], Asked::Wait));
            }
            Step::WithdrawClaim => {
                let waiting = self.open.iter().find(|(_, (_, asked))| matches!(asked, Asked::Claim));
                if let Some(token) = waiting.map(|(token, _)| *token) {
                    self.world.orbits.withdraw(Waiter { instance: INSTANCE, token: Token(token) });
                    self.open.remove(&token);
                }
            }
            Step::LegEnds { leg } => {
                let gone = self.legs[leg];
                self.legs[leg] = self.fresh();
                self.stays.retain(|_, stay| stay.leg != gone);
                self.world.leg_ends(gone);
            }
            Step::FlowEnds { flow } => {
                let gone = self.flows[flow];
                self.flows[flow] = self.fresh();
                self.flow_gone(gone);
                self.world.flow_ends(gone, FlowEnd::Failed);
            }
            Step::NewOwner { flow, number } => {
                let parked = |stay: &&mut Stay| matches!(stay.state, Known::Parked | Known::Connecting(_));
                if let Some(stay) = self.stays.get_mut(&name(number)).filter(parked) {
                    stay.owner = Some(self.flows[flow]);
                    self.world.orbits.set_owner(&name(number), FlowId(self.flows[flow]));
                }
            }
            Step::Pass { millis } => self.world.pass(Duration::from_millis(millis)),
            Step::Store { written, heard } => {
                if !self.world.writes.is_empty() {
                    self.world.answer_write(written, (!written || !heard).then(away));
                }
            }
            Step::Restart { back } => self.restart(back),
        }
        self.world.drain();
        self.hear();
        self.compare();
    }

    fn flow_gone(&mut self, flow: u64) {
        self.open.retain(|_, (asker, _)| *asker != flow);
        self.stays.retain(|_, stay| {
            if stay.state == Known::Connecting(Some(flow)) {
                stay.state = Known::Parked;
            }
            let owned = stay.owner == Some(flow);
            if owned && matches!(stay.state, Known::Reserved | Known::Storing) {
                return false;
            }
            if owned {
                stay.owner = None;
            }
            true
        });
    }

    fn reserve(&mut self, flow: u64, leg: u64, number: Option<u32>) {
        let asked = Reserve { number: number.map(name), choice: Choice::Random, ..reserve(leg) };
        let result = self.world.reserve_with(flow, asked);
        let expected = if self.stays.values().any(|stay| stay.leg == leg) {
            Err(35006)
        } else if number.is_some_and(|number| self.stays.contains_key(&name(number))) {
            Err(35102)
        } else if self.stays.len() == ORBITS as usize {
            Err(35002)
        } else {
            Ok(())
        };
        match (result, expected) {
            (Ok(reserved), Ok(())) => {
                assert!(number.is_none_or(|number| name(number) == reserved.number));
                self.reservations += 1;
                let stay = Stay {
                    leg,
                    owner: Some(flow),
                    state: Known::Reserved,
                    token: reserved.token,
                    place: (0, self.reservations),
                };
                assert_eq!(self.stays.insert(reserved.number, stay), None, "an orbit with two calls");
            }
            (Err(refusal), Err(code)) => assert_eq!(refusal.code.0, code),
            (result, expected) => panic!("{result:?}, expected {expected:?}"),
        }
    }

    fn commit(&mut self, flow: u64, number: &str) {
        let token = self.world.commit(flow, number);
        let now = self.world.now.utc.0;
        match self.stays.get_mut(number) {
            Some(stay) if stay.owner == Some(flow) && stay.state == Known::Reserved => {
                stay.state = Known::Storing;
                stay.place.0 = now;
                self.open.insert(token, (flow, Asked::Commit { number: number.to_string() }));
            }
            Some(stay) if stay.owner == Some(flow) => assert_eq!(self.code(token), Some(35006)),
            _ => assert_eq!(self.code(token), Some(35107)),
        }
    }

    fn claim(&mut self, flow: u64, number: &str, shown: Shown) {
        let right = self.stays.get(number).map_or("nobody", |stay| &stay.token);
        let shown_token = match shown {
            Shown::Nothing => None,
            Shown::Right => Some(right.to_string()),
            Shown::Wrong => Some("wrong".to_string()),
        };
        let asked = Claim { token: shown_token, ..claim(number, "Carol") };
        let token = self.world.start_claim(flow, asked);
        match self.stays.get(number).map(|stay| (stay.state, shown)) {
            None => assert!(matches!(self.code(token), Some(35000 | 35101))),
            Some((_, Shown::Wrong)) => assert_eq!(self.code(token), Some(35010)),
            Some((Known::Parked, _)) => assert!(self.won(token, flow, number)),
            Some((Known::Connecting(_), _)) => assert_eq!(self.code(token), Some(35101)),
            Some((Known::Reserved | Known::Storing, _)) => {
                self.open.insert(token, (flow, Asked::Claim));
            }
        }
    }

    fn claim_oldest(&mut self, flow: u64) {
        let token = self.world.start_claim(flow, oldest("Carol"));
        let parked = self.stays.iter().filter(|(_, stay)| stay.state == Known::Parked);
        match parked.min_by_key(|(_, stay)| stay.place).map(|(number, _)| number.clone()) {
            None => assert_eq!(self.code(token), Some(35000)),
            Some(number) => assert!(self.won(token, flow, &number)),
        }
    }

    fn claim_now(&mut self, number: &str) {
        let result = self.world.orbits.claim_now(self.world.now, number, party("Bob"));
        match self.stays.get_mut(number) {
            Some(stay) if stay.state == Known::Parked => {
                assert_eq!(result, Ok(()));
                stay.state = Known::Connecting(stay.owner);
            }
            Some(stay) if matches!(stay.state, Known::Connecting(_)) => assert_eq!(refused(result).0, 35101),
            _ => assert!(matches!(refused(result).0, 35000 | 35101)),
        }
    }

    /// A claim that was answered won `number`: one step from parked, once.
    fn won(&mut self, token: u64, flow: u64, number: &str) -> bool {
        let claimed = self.world.answer::<Claimed>(token).expect("an answer").expect("a win");
        let stay = self.stays.get_mut(&claimed.number).expect("a known call");
        assert_eq!(stay.state, Known::Parked, "a second winner");
        assert_eq!(claimed.leg, LegId(stay.leg));
        stay.state = Known::Connecting(Some(flow));
        claimed.number == number
    }

    fn code(&self, token: u64) -> Option<u16> {
        self.world.answers.get(&token)?.as_ref().err().map(|refusal| refusal.code.0)
    }

    /// Takes in what was answered since the last step, in the order of the answers.
    fn hear(&mut self) {
        let answered = self.world.answered[self.heard..].to_vec();
        self.heard = self.world.answered.len();
        for token in answered {
            let Some((flow, asked)) = self.open.remove(&token) else { continue };
            match (asked, self.code(token)) {
                (Asked::Commit { number }, None) => {
                    let stay = self.stays.get_mut(&number).expect("a call to park");
                    assert_eq!(stay.state, Known::Storing);
                    stay.state = Known::Parked;
                }
                (Asked::Commit { number }, Some(code)) => {
                    if code == 35105 {
                        let stay = self.stays.remove(&number).expect("a call that was not stored");
                        assert_eq!(stay.state, Known::Storing);
                    } else {
                        // Its leg ended, or its flow gave it up: the model knows already.
                        assert!(matches!(code, 35107 | 35000), "{code}");
                        assert!(self.stays.get(&number).is_none_or(|stay| stay.state != Known::Storing));
                    }
                }
                (Asked::Claim, None) => {
                    let claimed = self.world.answer::<Claimed>(token).expect("an answer").expect("a win");
                    assert!(self.won(token, flow, &claimed.number));
                }
                (Asked::Claim, Some(code)) => assert!(matches!(code, 35000 | 35101 | 35105), "{code}"),
                (Asked::Wait, _) => {}
            }
        }
    }

    fn compare(&self) {
        let seen: BTreeMap<_, _> = self
            .world
            .orbits
            .occupants()
            .map(|occupant| {
                let state =
                    (occupant.state.word(), occupant.leg.map(|leg| leg.0), occupant.owner.map(|f| f.0));
                (occupant.number.to_string(), state)
            })
            .collect();
        let known: BTreeMap<_, _> = self
            .stays
            .iter()
            .map(|(number, stay)| {
                let word = match stay.state {
                    Known::Reserved | Known::Storing => "reserved",
                    Known::Parked => "parked",
                    Known::Connecting(_) => "connecting",
                };
                (number.clone(), (word, Some(stay.leg), stay.owner))
            })
            .collect();
        assert_eq!(seen, known);
        assert_eq!(self.world.orbits.leaks(|leg| self.legs.contains(&leg.0)), 0);
    }

    fn restart(&mut self, back: [bool; ORBITS as usize]) {
        // Writes under way are lost, or were done and their answers are lost; either way what they were for is
        // allowed to differ.
        let unsure: BTreeSet<_> = self.world.writes.drain(..).map(|(_, t)| t.expect[0].0.clone()).collect();
        let owed = !self.world.orbits.is_settled();
        let before = std::mem::take(&mut self.stays);
        let now = Now { instant: Instant::ZERO, utc: self.world.now.utc + seconds(5) };
        let mut world = World::with(self.world.store.clone(), ORBITS);
        world.now = now;
        world.store_answers = false;
        world.last_token = self.world.last_token;
        let calls = world.orbits.restore(now, &world.store.snapshot(""), Whose::All);
        let restored: BTreeSet<_> = calls.iter().map(|call| call.number().to_string()).collect();
        for (number, stay) in &before {
            let parked = matches!(stay.state, Known::Parked | Known::Connecting(_));
            assert!(!parked || restored.contains(number), "the call in {number} is forgotten");
        }
        for number in &restored {
            let parked = before.get(number).is_some_and(|stay| stay.state != Known::Reserved);
            let doubtful = owed || unsure.contains(&orbit_key(number));
            assert!(parked || doubtful, "a phantom in {number}");
        }
        self.world = world;
        (self.heard, self.open) = (0, BTreeMap::new());
        self.flows = std::array::from_fn(|_| self.fresh());
        self.legs = std::array::from_fn(|_| self.fresh());
        for (slot, call) in calls.into_iter().enumerate() {
            if !back[slot] {
                self.world.orbits.forget(now, call.number());
                continue;
            }
            let (leg, flow) = (self.legs[slot], self.flows[slot]);
            self.world.orbits.adopted(now, call.number(), LegId(leg), FlowId(flow));
            self.reservations += 1;
            let stay = Stay {
                leg,
                owner: Some(flow),
                state: Known::Parked,
                token: call.record.token.clone(),
                place: (call.record.terms.parked_at_ms, self.reservations),
            };
            self.stays.insert(call.number().to_string(), stay);
        }
    }

    /// Everybody hangs up: nothing may be left, here or in the store.
    fn end(mut self) {
        for leg in 0..LEGS {
            self.take(Step::LegEnds { leg });
        }
        let unanswered: Vec<_> = self.open.keys().collect();
        assert!(unanswered.is_empty(), "nobody answered {unanswered:?}");
        for flow in 0..FLOWS {
            self.take(Step::FlowEnds { flow });
        }
        self.world.store_answers = true;
        while !self.world.writes.is_empty() {
            self.world.answer_write(true, None);
        }
        self.world.pass(seconds(60));
        assert_eq!(self.world.orbits.occupants().count(), 0);
        assert_eq!(self.world.orbits.records(), 0);
        assert_eq!(self.world.orbits.next_timeout(), None);
        assert_eq!(self.world.orbits.free_numbers("east", "call-park").count(), ORBITS as usize);
        assert_eq!(self.world.store.snapshot(&orbit_key("")).records.len(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn one_winner_one_call_per_orbit_and_nothing_leaks(steps in prop::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for step in steps {
            model.take(step);
        }
        model.end();
    }
}
