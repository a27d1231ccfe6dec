//! Performs a script in a world and looks whether what must hold holds.

mod acts;
mod pools;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use switchyard_host::directory::User;
use switchyard_host::store::ROOT;

use super::coverage::Coverage;
use super::invariants;
use super::probe::{self, Probe};
use super::script::{Act, Change, MEMBERS, PHONES, STREAMS, Script, Trouble, USERS, WESTERNERS};
use crate::harness::{OnRing, Phone, StoreDoes, Weather, World, WorldOptions};

/// Each phone is asked whether it knows its calls in less than that.
const PROBES: Duration = Duration::from_secs(16 * 60);

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
    /// Registrations may run out while calls are up: nobody can be rung back then.
    clock: bool,
    /// What the policy says of the loss of pools, and who tries what it comes to.
    terms: Option<usize>,
    probe: Option<Probe>,
    /// The policies are others by now.
    edited: bool,
    /// What was said by MESSAGE.
    pages: Vec<Page>,
    /// The users as they were configured.
    users: BTreeMap<String, User>,
}

/// A MESSAGE, and the user it was for.
pub struct Page {
    pub text: String,
    pub to: &'static str,
}

impl Run {
    fn new(script: &Script, record: bool) -> Self {
        // Short waits, so that most scripts see ring-backs.
        let policies = pools::policies(script.terms, 1);
        let config = script.terms.map(|_| probe::users()).unwrap_or_default();
        let users = MEMBERS.to_vec();
        let hosts = script.hosts;
        let west = if hosts.iter().any(|(_, pool)| *pool == "west") { &WESTERNERS[..] } else { &[] };
        let options = WorldOptions {
            seed: script.seed,
            policies,
            users,
            config,
            hosts,
            west,
            ..WorldOptions::default()
        };
        let mut world = World::with(options);
        world.reads_take = script.reads;
        for user in PHONES {
            let phone = world.add_phone(user);
            world.move_phone(phone, world.hosts[phone % world.hosts.len()].name);
            if script.streams && STREAMS.contains(&phone) {
                world.on_tcp(phone);
            }
            let Trouble { store, crashes, clock, partitions, .. } = script.trouble;
            // Restarts the store does not take note of, and a clock that goes back: nobody knows what numbers were used. And
            // a host that others have taken for dead, or that passes its users on, goes on telling for a while what it knows.
            world.phones[phone].forgives = store && crashes && clock || partitions || script.terms.is_some();
            let pause = Duration::from_millis(300 + 200 * phone as u64);
            world.phones[phone].on_ring = OnRing::AnswerAfter(pause);
            world.act(phone, |phone| phone.register(3600));
        }
        let probe = script.terms.map(|_| Probe::new(&mut world));
        world.run_for(Duration::from_secs(1));
        if record {
            world.start_ladder();
        }
        let calm = script.trouble.is_none();
        let mut run = Self {
            world,
            report: Report::default(),
            step: 0,
            seen: 0,
            calm,
            clock: script.trouble.clock,
            terms: script.terms,
            probe,
            edited: false,
            pages: Vec::new(),
            users: BTreeMap::new(),
        };
        let configured = PHONES[..USERS].iter().filter_map(|name| run.stored(name));
        run.users = configured.map(|user| (user.name.clone(), user)).collect();
        run
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
        self.quiet(script.trouble)
    }

    /// What must hold at any moment.
    fn look(&mut self) -> Result<(), String> {
        if let Some(broken) = self.world.broken.take() {
            return Err(broken);
        }
        let new = &self.world.events[self.seen..];
        let circumstances = invariants::Circumstances {
            calm: self.calm && !self.clock,
            between: self.world.hosts.len() > 1,
            moves: self.terms.is_some(),
            disconnects: self.terms.is_some_and(pools::disconnects),
        };
        invariants::ends(&self.world.events, self.seen, circumstances)?;
        invariants::truly_forgotten(new, &self.world)?;
        self.report.coverage.events(new);
        self.seen = self.world.events.len();
        Ok(())
    }

    /// Where nothing gets lost, host and phones agree, at the latest when what is on its way has arrived.
    fn agree(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            if !self.calm || self.compare().is_ok() {
                return Ok(());
            }
            self.world.run_for(Duration::from_secs(1));
            self.look()?;
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<(), String> {
        invariants::agreement(&mut self.world, false)?;
        // A lamp shows what its user's own pool serves. Calls that stayed with the backup are not among that.
        if self.terms.is_some() { Ok(()) } else { invariants::lamps(&mut self.world) }
    }

    /// Everybody behaves, everybody hangs up, and after that nothing is left.
    fn quiet(&mut self, trouble: Trouble) -> Result<(), String> {
        self.world.remark("the quiet");
        self.world.network.weather = Weather::FAIR;
        for phone in std::mem::take(&mut self.world.network.cut) {
            self.world.reconnect(phone);
        }
        self.world.store_does = StoreDoes::WELL;
        self.world.heal();
        self.resume_all();
        if trouble.changes {
            for user in 0..USERS {
                self.change(Change::Gone { user, gone: false });
            }
            self.change(Change::Range { first: Some(0) });
        }
        for phone in &mut self.world.phones {
            phone.on_ring = OnRing::Ring;
            phone.refuse_reinvites.clear();
            phone.ignore_reinvites = false;
            phone.bye_on_accepted = false;
        }
        self.world.run_for(Duration::from_secs(40));
        self.look()?;
        self.agree()?;
        if trouble.spares_phones() {
            // Calls of hosts that have died are asked for soon, and again by session timers.
            let mut agreed = invariants::agreement(&mut self.world, true);
            if agreed.is_err() && trouble.partitions {
                // A hang-up that had no way to its host is found out by the next probe.
                self.world.run_for(PROBES);
                self.look()?;
                agreed = invariants::agreement(&mut self.world, true);
            }
            agreed?;
        }
        self.pools_in_the_end()?;
        // A clock that is put forward ends registrations, and somebody removed has none.
        if self.calm && !trouble.changes && !trouble.clock {
            invariants::delivered(&self.world, &self.pages)?;
        }
        for _ in 0..20 {
            for phone in 0..self.world.phones.len() {
                self.world.act(phone, |phone| {
                    phone.end_all();
                    for watch in 0..phone.watches.len() {
                        if phone.watches[watch].is_live() {
                            phone.watch_again(watch, 0);
                        }
                    }
                });
            }
            self.world.run_for(Duration::from_secs(2));
        }
        self.world.run_for(Duration::from_secs(70));
        if !self.calm {
            // A leg whose phone has forgotten it, unheard, ends with its session timer; a subscription when it has run
            // out, which a clock that is set back makes two hours at most.
            self.world.run_for(Duration::from_secs(if trouble.clock { 7_300 } else { 4_000 }));
        }
        self.look()?;
        if trouble.store && !stored_calls(&self.world).is_empty() {
            // Of a subscription the store would not forget the record stays, until a host that starts finds it run out.
            self.world.kill_host();
            self.world.start_host();
            self.world.run_for(Duration::from_secs(5));
        }
        invariants::nothing_left(&mut self.world, self.calm)
    }
}

/// Records in the store that say a call is up or parked, or somebody watches.
pub fn stored_calls(world: &World) -> Vec<String> {
    let records =
        ["call/", "orbit/", "lamp/"].map(|kind| world.store.snapshot(&format!("{ROOT}{kind}")).records);
    records.into_iter().flatten().map(|(key, _)| key).collect()
}
