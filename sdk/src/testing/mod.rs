//! A host for tests: it has no phones, its clock is moved by hand, and it answers what the test says.
//!
//! [`FakeHost`] drives a plugin through its real entry, linked statically, so a test sees what the host would
//! see. A test reads like the ladder of the feature: offer a call, expect a command, answer it, let time pass.
//! Failed expectations say what the plugin did instead, and what it logged.
//!
//! Commands with an effect are expected one by one, in order. What a flow merely waits for is answered by what
//! the test lets happen: [`hang_up`](FakeHost::hang_up), [`claimed`](FakeHost::claimed),
//! [`settled`](FakeHost::settled), [`advance`](FakeHost::advance). These are level-triggered, as in a real host:
//! a flow that asks later is told at once.

mod command;
mod expect;
mod settings;
mod state;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

pub use command::{Asked, Recorded, Request};
use state::{Ear, State};

use crate::Plugin;
use crate::abi::{Event, PluginEntry, Str, event};
use crate::ext::call::Ended;
use crate::ext::orbit::{Claimed, ClaimedBy, Reserved, Resume, Settled};
use crate::ext::policy::Decision;
use crate::ext::ringing::Over;
use crate::host::{self, Instance};
pub use crate::host::{Command, FlowEnd, Joining, Playing};
use crate::manifest::Manifest;
use crate::types::{Code, FlowId, LegId, Offer, Party, Token, Utc};

/// Where the fake host's wall clock starts: 15 January 2027, 08:00 UTC.
pub const START: Utc = Utc(1_800_000_000_000);

/// A host for tests. See the [module](self).
pub struct FakeHost {
    instance: Instance<Ear>,
    state: Rc<State>,
    wakes: Arc<AtomicUsize>,
    utc: Utc,
    next_flow: u64,
    ended: BTreeMap<LegId, Ended>,
    orbits: BTreeMap<String, Place>,
    /// Calls that have stopped ringing.
    over: BTreeMap<LegId, Over>,
}

/// What the fake host knows of an orbit.
#[derive(Default)]
struct Place {
    /// Who claims, and in which flow if it is one of this plugin's.
    claim: Option<(Option<FlowId>, Party)>,
    freed: bool,
    /// Whose claim the call left with, for a flow that asks only afterwards.
    taken_by: Option<Party>,
    /// When the next stage of a call that is parked again is due; 0: as it was.
    deadline_ms: u64,
}

impl Place {
    fn claimed(flow: Option<FlowId>, claimant: Party) -> Self {
        Place { claim: Some((flow, claimant)), ..Place::default() }
    }

    /// The call leaves, with the claim that is under way if one is.
    fn leave(&mut self) {
        let claimant = self.claim.take().map(|(_, claimant)| claimant);
        *self = Place { freed: true, taken_by: claimant, ..Place::default() };
    }
}

impl FakeHost {
    /// A host with an instance of the plugin.
    ///
    /// # Panics
    /// If the manifest cannot be read, or the plugin's `Default` panics.
    pub fn new<P: Plugin>() -> Self {
        Self::of_entry(crate::entry::<P>())
    }

    /// A host with an instance behind a certain entry.
    ///
    /// # Panics
    /// As [`FakeHost::new`].
    #[expect(unsafe_code, reason = "calls the functions of an entry")]
    pub fn of_entry(entry: &'static PluginEntry) -> Self {
        let (name, _, manifest) = host::texts(entry);
        let manifest: Manifest = match serde_json::from_str(manifest) {
            Ok(manifest) => manifest,
            Err(error) => panic!("the manifest of {name} cannot be read: {error}"),
        };
        let state = Rc::new(State::new(manifest));
        let wakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&wakes);
        let notify = Arc::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        // SAFETY: an entry made by the SDK, or by a test that vouches for it.
        let instance = unsafe { Instance::create(entry, Ear(Rc::clone(&state)), notify) };
        let Some(instance) = instance else { panic!("{name} could not be created") };
        Self {
            instance,
            state,
            wakes,
            utc: START,
            next_flow: 0,
            ended: BTreeMap::new(),
            orbits: BTreeMap::new(),
            over: BTreeMap::new(),
        }
    }

    /// The plugin's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.state.manifest
    }

    // ---- events -------------------------------------------------------------------------------------------

    /// Offers a call; the flow it starts.
    pub fn offer(&mut self, offer: Offer) -> FlowId {
        self.start(event::OFFER, &offer)
    }

    /// Hands over a parked call; the flow it starts.
    pub fn resume(&mut self, resume: Resume) -> FlowId {
        self.start(event::RESUME, &resume)
    }

    /// Ends a flow, as the host does when it must.
    pub fn cancel_flow(&mut self, flow: FlowId) {
        self.deliver(event::CANCEL_FLOW, 0, flow.0, 0, 0, "");
    }

    /// A newer copy of the plugin takes over: flows that rest end as [`FlowEnd::Rested`].
    pub fn drain(&mut self) {
        self.deliver(event::DRAIN, 0, 0, 0, 0, "");
    }

    /// Lets time pass. Timers fire in order, each at its own time.
    pub fn advance(&mut self, time: Duration) {
        let target = self.utc + time;
        while let Some(next) = self.next_timer().filter(|next| *next <= target) {
            self.utc = self.utc.max(next);
            self.answer_waits();
        }
        self.utc = target;
        self.answer_waits();
    }

    /// The present.
    pub fn now(&self) -> Utc {
        self.utc
    }

    /// When the next timer is due, if a flow waits for one.
    pub fn next_timer(&self) -> Option<Utc> {
        let open = self.state.open.borrow();
        let timers = open.iter().filter_map(|open| match open.command {
            Command::At(deadline) => Some(deadline),
            _ => None,
        });
        timers.min()
    }

    /// The party of a leg hangs up.
    pub fn hang_up(&mut self, leg: LegId) {
        self.leg_ended(leg, Ended { by_party: true, reason: "the party hung up".into() });
    }

    /// A leg ends.
    pub fn leg_ended(&mut self, leg: LegId, ended: Ended) {
        self.ended.insert(leg, ended);
        self.answer_waits();
    }

    /// Somebody else claims the call in an orbit (a claim of this plugin's own flows shows by itself, once the
    /// test has answered it).
    pub fn claimed(&mut self, number: &str, claimant: Party) {
        self.orbits.insert(number.into(), Place::claimed(None, claimant));
        self.answer_waits();
    }

    /// A call does not ring any more: `taken by Ana`.
    pub fn stops_ringing(&mut self, leg: LegId, text: &str) {
        self.over.insert(leg, Over { text: text.to_owned() });
        self.answer_waits();
    }

    /// A claim comes to its end: the call was taken out of the orbit, or it is parked again.
    pub fn settled(&mut self, number: &str, freed: bool) {
        let place = self.orbits.entry(number.into()).or_default();
        if freed {
            place.leave();
        } else {
            *place = Place::default();
        }
        self.answer_waits();
    }

    /// A claim fails, and the call is parked again with the time it had left: until `deadline`
    /// ([`Settled::deadline_ms`]).
    pub fn parked_again(&mut self, number: &str, deadline: Utc) {
        self.orbits.insert(number.into(), Place { deadline_ms: deadline.0, ..Place::default() });
        self.answer_waits();
    }

    /// Tells the plugin that it was woken from another thread, if it was.
    pub fn deliver_wakes(&mut self) -> bool {
        if self.wakes.swap(0, Ordering::SeqCst) == 0 {
            return false;
        }
        self.deliver(event::WAKE, 0, 0, 0, 0, "");
        true
    }

    // ---- answers ------------------------------------------------------------------------------------------

    /// A command succeeded.
    pub fn answer<R: Request>(&mut self, asked: &Asked<R>, answer: R::Answer) {
        let payload = to_json(&answer);
        self.note_orbit(asked.token, &payload);
        self.answer_token(asked.token, 0, 0, &payload);
    }

    /// A command was refused.
    pub fn refuse<R: Request>(&mut self, asked: &Asked<R>, code: Code, text: &str) {
        self.refuse_with(asked, code, text, 0);
    }

    /// A command was refused because of a SIP answer: 486 busy, 408 no answer.
    pub fn refuse_with<R: Request>(&mut self, asked: &Asked<R>, code: Code, text: &str, sip_status: u16) {
        self.answer_token(asked.token, u32::from(code.0), u32::from(sip_status), &to_json(&text));
    }

    /// Whether nobody waits for this answer any more: a phone that rang for it would stop.
    pub fn is_withdrawn<R>(&self, asked: &Asked<R>) -> bool {
        self.state.withdrawn.borrow().contains(&asked.token)
    }

    // ---- policy -------------------------------------------------------------------------------------------

    /// Changes a setting in all pools: `host.set("call_park.pickup_timeout", 30_000)`. Durations are
    /// milliseconds, music is a [`Music`](crate::ext::call::Music). What is not set has the manifest's default.
    ///
    /// # Panics
    /// If the manifest declares no such section.
    pub fn set(&mut self, path: &str, value: impl Serialize) {
        self.set_in("", path, value);
    }

    /// Changes a setting in one pool.
    ///
    /// # Panics
    /// If the manifest declares no such section.
    pub fn set_in(&mut self, pool: &str, path: &str, value: impl Serialize) {
        let (section, keys) = path.split_once('.').unwrap_or((path, ""));
        let declared = self.state.manifest.sections.iter().any(|known| known.name == section);
        assert!(declared, "the manifest declares no policy section {section}");
        let mut change = json!(value);
        for key in keys.rsplit('.').filter(|key| !key.is_empty()) {
            change = json!({ key: change });
        }
        let mut all = self.state.settings.borrow_mut();
        let entry = all.entry((pool.into(), section.into())).or_insert_with(|| json!({}));
        settings::merge(entry, &change);
    }

    /// What a hook decides from now on. Settings in it replace those of its section, key by key.
    pub fn set_decision(&mut self, hook: &str, decision: Decision) {
        self.state.decisions.borrow_mut().insert(hook.into(), decision);
    }

    /// A hook refuses from now on.
    pub fn deny(&mut self, hook: &str, reason: &str) {
        self.set_decision(
            hook,
            Decision { allowed: false, reason: Some(reason.into()), ..Decision::default() },
        );
    }

    /// What the hooks were asked so far: name and arguments.
    pub fn decisions_asked(&self) -> Vec<(String, Value)> {
        self.state.asked.borrow().clone()
    }

    // ---- inside -------------------------------------------------------------------------------------------

    fn start(&mut self, kind: u32, payload: &impl Serialize) -> FlowId {
        self.next_flow += 1;
        let flow = FlowId(self.next_flow);
        self.state.flows.borrow_mut().insert(flow);
        let payload = to_json(payload);
        self.deliver(kind, 0, flow.0, 0, 0, &payload);
        flow
    }

    fn answer_token(&mut self, token: Token, code: u32, sip_status: u32, payload: &str) {
        let was_open = {
            let mut open = self.state.open.borrow_mut();
            let before = open.len();
            open.retain(|open| open.token != Some(token));
            open.len() < before
        };
        // A host answers each command once, and none that was withdrawn or whose flow is over.
        if was_open {
            self.deliver(event::ANSWER, token.0, 0, code, sip_status, payload);
        }
    }

    fn deliver(&mut self, kind: u32, token: u64, flow: u64, code: u32, sip_status: u32, payload: &str) {
        self.enter(kind, token, flow, code, sip_status, payload);
        self.answer_waits();
    }

    fn enter(&mut self, kind: u32, token: u64, flow: u64, code: u32, sip_status: u32, payload: &str) {
        let seen = self.state.transcript.borrow().len();
        let event = Event {
            size: size_of::<Event>() as u32,
            kind,
            token,
            flow,
            code,
            sip_status,
            now_ns: (self.utc - START).as_nanos() as u64,
            now_utc_ms: self.utc.0,
            payload: Str::of(payload),
        };
        let status = self.instance.deliver(&event);
        assert_eq!(status, crate::abi::status::TAKEN, "the plugin broke{}", self.story());
        self.note_orbits(seen);
    }

    /// Answers what flows wait for and what has happened, until nothing more follows.
    fn answer_waits(&mut self) {
        loop {
            let due = {
                let open = self.state.open.borrow();
                open.iter().find_map(|open| Some((open.token?, self.wait_result(open)?)))
            };
            let Some((token, payload)) = due else { return };
            self.state.open.borrow_mut().retain(|open| open.token != Some(token));
            self.enter(event::ANSWER, token.0, 0, 0, 0, &payload);
        }
    }

    /// The answer to a wait, if what it waits for has happened.
    fn wait_result(&self, open: &Recorded) -> Option<String> {
        match &open.command {
            Command::Watch(leg) => self.ended.get(leg).map(to_json),
            Command::Over(leg) => self.over.get(leg).map(to_json),
            Command::At(deadline) => (*deadline <= self.utc).then(|| "null".to_owned()),
            Command::Claimed(number) => {
                let place = self.orbits.get(number)?;
                let claimant = match &place.claim {
                    // A flow knows of its own claim.
                    Some((flow, _)) if *flow == Some(open.flow) => return None,
                    Some((_, claimant)) => claimant,
                    None => place.taken_by.as_ref()?,
                };
                Some(to_json(&ClaimedBy { claimant: claimant.clone() }))
            }
            Command::Settled(number) => match self.orbits.get(number) {
                Some(Place { claim: Some(_), .. }) => None,
                Some(place) => Some(to_json(&Settled { freed: place.freed, deadline_ms: place.deadline_ms })),
                None => Some(to_json(&Settled::default())),
            },
            _ => None,
        }
    }

    /// A claim that the test lets succeed is seen by whoever looks after the call; a reservation begins anew.
    fn note_orbit(&mut self, token: Token, payload: &str) {
        let open = self.state.open.borrow();
        let Some(asked) = open.iter().find(|open| open.token == Some(token)) else { return };
        match &asked.command {
            Command::Claim(claim) => {
                let Ok(claimed) = serde_json::from_str::<Claimed>(payload) else { return };
                let place = Place::claimed(Some(asked.flow), claim.claimant.clone());
                self.orbits.insert(claimed.number, place);
            }
            Command::Reserve(_) => {
                let Ok(reserved) = serde_json::from_str::<Reserved>(payload) else { return };
                self.orbits.remove(&reserved.number);
            }
            _ => {}
        }
    }

    /// Follows what the plugin did to orbits since line `seen` of the transcript.
    fn note_orbits(&mut self, seen: usize) {
        let transcript = self.state.transcript.borrow();
        for recorded in transcript.iter().skip(seen) {
            match &recorded.command {
                Command::Free(number, _) => self.orbits.entry(number.clone()).or_default().leave(),
                Command::Unclaim(number) => {
                    self.orbits.insert(number.clone(), Place::default());
                }
                // A claim is booked on its flow.
                Command::End(..) => {
                    for place in self.orbits.values_mut() {
                        if place.claim.as_ref().is_some_and(|(flow, _)| *flow == Some(recorded.flow)) {
                            place.claim = None;
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn to_json(value: &impl Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => panic!("a value that cannot be written as JSON: {error}"),
    }
}
