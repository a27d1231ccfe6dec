//! Performs a script in a world and looks whether what must hold holds.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use switchyard_host::admin::Request;
use switchyard_host::store::ROOT;

use super::coverage::{Coverage, side};
use super::invariants;
use super::script::{Act, Manner, PHONES, POLICIES, Place, Script, USERS};
use crate::harness::{CallId, OnRing, Phone, StoreDoes, Weather, World, WorldOptions};

/// What a run did.
#[derive(Default)]
pub struct Report {
    /// Calls that phones began.
    pub calls: usize,
    /// What went wrong, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    pub coverage: Coverage,
    /// A hash of all that was said, and when.
    pub trace: u64,
}

/// Something that must hold does not.
pub struct Failure {
    pub what: String,
    /// How many steps had been made.
    pub steps: usize,
    /// The end of the ladder, if it was recorded.
    pub ladder: String,
}

/// Runs a script to its end and through the quiet after it.
pub fn run(script: &Script, record: bool) -> Result<Report, Failure> {
    let mut run = Run::new(script, record);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.perform(script)))
        .unwrap_or_else(|panic| Err(format!("panic: {}", words(&*panic))));
    run.report.faults.append(&mut run.world.network.faults);
    run.report.trace = run.world.trace();
    run.report.calls = run.world.phones.iter().map(Phone::calls_begun).sum();
    match outcome.err().or(run.world.broken.take()) {
        None => Ok(run.report),
        Some(what) => Err(Failure { what, steps: run.step, ladder: run.world.ladder() }),
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

struct Run {
    world: World,
    report: Report,
    step: usize,
    /// How many events have been looked at.
    seen: usize,
    calm: bool,
}

impl Run {
    fn new(script: &Script, record: bool) -> Self {
        // Short waits, so that most scripts see ring-backs.
        let policies = vec![("pools/east.lua".to_owned(), POLICIES[1].to_owned())];
        let mut world = World::with(WorldOptions { seed: script.seed, policies, ..WorldOptions::default() });
        for user in PHONES {
            let phone = world.add_phone(user);
            let pause = Duration::from_millis(300 + 200 * phone as u64);
            world.phones[phone].on_ring = OnRing::AnswerAfter(pause);
            world.act(phone, |phone| phone.register(3600));
        }
        world.run_for(Duration::from_secs(1));
        if record {
            world.start_ladder();
        }
        Self { world, report: Report::default(), step: 0, seen: 0, calm: script.trouble.is_none() }
    }

    fn perform(&mut self, script: &Script) -> Result<(), String> {
        for step in &script.steps {
            self.world.run_for(step.after);
            self.step += 1;
            self.world.remark(&format!("{:?}", step.act));
            self.apply(step.act);
            self.look()?;
            if step.act == Act::Rest {
                self.world.run_for(Duration::from_secs(6));
                self.look()?;
                self.agree()?;
            }
        }
        self.quiet()
    }

    /// What must hold at any moment.
    fn look(&mut self) -> Result<(), String> {
        if let Some(broken) = self.world.broken.take() {
            return Err(broken);
        }
        let new = &self.world.events[self.seen..];
        invariants::ends(new, self.calm)?;
        self.report.coverage.events(new);
        self.seen = self.world.events.len();
        Ok(())
    }

    /// Where nothing gets lost, host and phones agree, at the latest when what is on its way has arrived.
    fn agree(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            if !self.calm || invariants::agreement(&mut self.world).is_ok() {
                return Ok(());
            }
            self.world.run_for(Duration::from_secs(1));
            self.look()?;
        }
        invariants::agreement(&mut self.world)
    }

    /// Everybody behaves, everybody hangs up, and after that nothing is left.
    fn quiet(&mut self) -> Result<(), String> {
        self.world.remark("the quiet");
        self.world.network.weather = Weather::FAIR;
        self.world.network.cut.clear();
        self.world.store_does = StoreDoes::WELL;
        for phone in &mut self.world.phones {
            phone.on_ring = OnRing::Ring;
            phone.refuse_reinvites.clear();
            phone.ignore_reinvites = false;
            phone.bye_on_accepted = false;
        }
        self.world.run_for(Duration::from_secs(40));
        self.look()?;
        self.agree()?;
        for _ in 0..20 {
            for phone in 0..self.world.phones.len() {
                self.world.act(phone, |phone| {
                    phone.answers.clear();
                    for id in phone.calling().collect::<Vec<_>>() {
                        phone.cancel(id);
                    }
                    for id in phone.ringing().collect::<Vec<_>>() {
                        phone.refuse(id, switchyard_host::sip::Status::BUSY_HERE);
                    }
                    for id in phone.live().collect::<Vec<_>>() {
                        phone.hang_up(id);
                    }
                });
            }
            self.world.run_for(Duration::from_secs(2));
        }
        self.world.run_for(Duration::from_secs(70));
        if !self.calm {
            // A leg whose phone has forgotten it, unheard, ends with its session timer.
            self.world.run_for(Duration::from_secs(4_000));
        }
        self.look()?;
        invariants::nothing_left(&mut self.world, self.calm)
    }

    /// The live call of a phone that a step means.
    fn live(&self, phone: usize, nth: usize) -> Option<CallId> {
        let live: Vec<CallId> = self.world.phones[phone].live().collect();
        (!live.is_empty()).then(|| live[nth % live.len()])
    }

    /// Does something with a live call.
    fn with_call(
        &mut self,
        phone: usize,
        nth: usize,
        what: &'static str,
        act: impl FnOnce(&mut Phone, CallId),
    ) {
        let Some(id) = self.live(phone, nth) else { return };
        let side = side(self.world.phones[phone].call(id));
        self.report.coverage.add(side, what);
        self.world.act(phone, |phone| act(phone, id));
    }

    /// A fault meets every call there is.
    fn fault(&mut self, what: &'static str) {
        self.world.network.count(what);
        for phone in &self.world.phones {
            for call in phone.calls.iter().filter(|call| !call.over) {
                self.report.coverage.add(side(call), what);
            }
        }
    }

    fn dial(&mut self, phone: usize, uri: &str) {
        self.report.coverage.add("idle", "dial");
        self.world.act(phone, |phone| phone.invite(uri, &[], true));
    }

    /// Number and token of a call that waits.
    fn waiting(&mut self, nth: usize) -> Option<(String, String)> {
        let rows = self.world.engine.is_some().then(|| self.world.ask(Request::Occupants))?.ok()?;
        let rows = rows.as_array()?;
        let row = rows.get(nth % rows.len().max(1))?;
        Some((row["number"].as_str()?.to_owned(), row["token"].as_str()?.to_owned()))
    }

    /// The id of a call as the administrative interface lists it, and a user in it.
    fn listed(&mut self, nth: usize) -> Option<(u64, String)> {
        let rows = self.world.engine.is_some().then(|| self.world.ask(Request::Calls))?.ok()?;
        let rows = rows.as_array()?;
        let row = rows.get(nth % rows.len().max(1))?;
        Some((row["id"].as_u64()?, row["legs"][0]["user"].as_str()?.to_owned()))
    }

    fn apply(&mut self, act: Act) {
        match act {
            Act::Call { from, to, offer } => {
                let uri = format!("sip:{}@example.test", PHONES[to % USERS]);
                self.report.coverage.add("idle", "call");
                self.world.act(from, |phone| phone.invite(&uri, &[], offer));
            }
            Act::Answer { phone } => {
                let Some(id) = self.world.phones[phone].ringing().next() else { return };
                self.report.coverage.add("ringing", "answer");
                self.world.act(phone, |phone| phone.answer(id));
            }
            Act::Refuse { phone, status } => {
                let Some(id) = self.world.phones[phone].ringing().next() else { return };
                self.report.coverage.add("ringing", "refuse");
                self.world.act(phone, |phone| phone.refuse(id, status));
            }
            Act::Cancel { phone } => {
                let Some(id) = self.world.phones[phone].calling().next() else { return };
                self.report.coverage.add("calling", "cancel");
                self.world.act(phone, |phone| phone.cancel(id));
            }
            Act::HangUp { phone, nth } => self.with_call(phone, nth, "hang up", Phone::hang_up),
            Act::Hold { phone, nth } => {
                self.with_call(phone, nth, "hold", |phone, id| phone.reinvite(id, "sendonly"));
            }
            Act::Resume { phone, nth } => {
                self.with_call(phone, nth, "resume", |phone, id| phone.reinvite(id, "sendrecv"));
            }
            Act::Transfer { phone, nth, to } => {
                let uri = format!("sip:{}@example.test", PHONES[to % USERS]);
                self.with_call(phone, nth, "transfer", |phone, id| phone.refer(id, &uri));
            }
            Act::TransferTo { phone, nth, other } => {
                let Some(other) = self.live(phone, other) else { return };
                let uri = self.world.phones[phone].replaces_uri("sip:anyone@example.test", other);
                self.with_call(phone, nth, "attended transfer", |phone, id| phone.refer(id, &uri));
            }
            Act::Park { phone, nth, place } => {
                self.with_call(phone, nth, "park", |phone, id| phone.refer(id, &uri_of(place)));
            }
            Act::Dial { phone, place } => self.dial(phone, &uri_of(place)),
            Act::HoldAndDial { phone, nth, place } => {
                self.with_call(phone, nth, "hold and dial", |phone, id| {
                    phone.reinvite(id, "sendonly");
                    phone.invite(&uri_of(place), &[], true);
                });
            }
            Act::Retrieve { phone, nth, token } => {
                let Some((number, secret)) = self.waiting(nth) else { return };
                let token = if token { format!(";token={secret}") } else { String::new() };
                self.dial(phone, &format!("sip:{number}@example.test{token}"));
            }
            Act::Unpark { phone } => self.dial(phone, "sip:unpark@example.test"),
            Act::Turn { phone, manner } => self.turn(phone, manner),
            Act::AdminHangUp { nth } => {
                if let Some((call, _)) = self.listed(nth) {
                    self.fault("admin hang up");
                    self.world.ask_later(Request::Hangup { call });
                }
            }
            Act::AdminPark { nth } => {
                if let Some((call, parker)) = self.listed(nth) {
                    self.fault("admin park");
                    self.world.ask_later(Request::Park { call, parker, number: None });
                }
            }
            Act::AdminRetrieve { nth, user } => {
                if let Some((number, _)) = self.waiting(nth) {
                    self.fault("admin retrieve");
                    let user = PHONES[user % USERS].to_owned();
                    self.world.ask_later(Request::Retrieve { number, user, token: None });
                }
            }
            Act::Rest => {}
            Act::Weather(weather) => self.world.network.weather = weather,
            Act::Cut { phone, cut: true } => {
                self.fault("cut");
                self.world.network.cut.insert(phone);
            }
            Act::Cut { phone, cut: false } => {
                self.world.network.cut.remove(&phone);
            }
            Act::Rebind { phone } => {
                self.fault("rebind");
                let port = self.world.phones[phone].seen_as.port() + 1;
                self.world.phones[phone].seen_as = ([203, 0, 113, phone as u8 + 1], port).into();
                self.world.act(phone, |phone| phone.register(3600));
            }
            Act::Reboot { phone, off } => {
                self.fault("reboot");
                self.world.reboot(phone, off);
            }
            Act::Store(does) => {
                self.fault("store");
                self.world.store_does = does;
            }
            Act::Crash { down } => {
                self.fault("crash");
                self.world.kill_host();
                self.world.run_for(down);
                self.world.start_host();
            }
            Act::Clock { ms } => {
                self.fault("clock");
                self.world.clock_ahead_ms += ms;
            }
            Act::Policy(which) => {
                self.fault("policy");
                self.world.edit_policies(&[("pools/east.lua", POLICIES[which])]);
            }
            Act::Reload { plugin } => {
                self.fault("reload");
                let name = ["call-park", "group-pickup"][plugin % 2].to_owned();
                self.world.ask_later(Request::ReloadPlugin { name });
            }
        }
    }

    fn turn(&mut self, phone: usize, manner: Manner) {
        self.world.network.count("manner");
        let phone = &mut self.world.phones[phone];
        match manner {
            Manner::Rings(on_ring) => phone.on_ring = on_ring,
            Manner::RefusesReinvites(times, status) => phone.refuse_reinvites = vec![status; times.into()],
            Manner::IgnoresReinvites(ignores) => phone.ignore_reinvites = ignores,
            Manner::HangsUpOnAccepted(does) => phone.bye_on_accepted = does,
            Manner::Codecs(codecs) => phone.codecs = codecs,
        }
    }
}

fn uri_of(place: Place) -> String {
    match place {
        Place::Service => "sip:park@example.test".to_owned(),
        Place::ServiceFor(orbit) => format!("sip:park@example.test;orbit=700{orbit}"),
        Place::Orbit(orbit) => format!("sip:700{orbit}@example.test"),
    }
}

/// Records in the store that say a call is parked.
pub fn stored_orbits(world: &World) -> Vec<String> {
    let records = world.store.snapshot(&format!("{ROOT}orbit/")).records;
    records.into_keys().collect()
}
