//! `drill failover`: a pair of pools through all its phases, and what its users can do in each (the two matrices).

mod probes;
mod steps;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::block_in_place;
use tokio::time::sleep;

use self::probes::{Cast, Talk, not_parked, not_picked};
pub use self::steps::{STEPS, Step};
use super::Options;
use super::office::{GROUPS, Office, Person, addresses};
use super::park::{Waiting, holds, registers};
use super::report::{Seen, Verdict};
use crate::cli::Failure;
use crate::cli::client::segment;
use crate::pool::matrix::{Column, Row};
use crate::time::Instant;

/// How often it is looked which phase it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const PARK: &str = Row::Parked.matrix();
const PICKUP: &str = Row::Ringing.matrix();
const NATIVES: &str = "Users of the backup pool";

const NOT_PARKED: &str = Row::NotParked.word();
const PARKED: &str = Row::Parked.word();
const RETRIEVED: &str = Row::Retrieved.word();
const NEW: &str = Row::New.word();
const RINGING: &str = Row::Ringing.word();
const PICKED: &str = Row::PickedUp.word();

const BEFORE: &str = Column::Before.word();
const OUTAGE: &str = Column::Outage.word();
const OVER: &str = Column::Failover.word();
const AFTER: &str = Column::FailedOver.word();
const BACK: &str = Column::Failback.word();
const HOME: &str = Column::Home.word();

const GOES_ON: &str = "stays connected";

/// A pair of pools, and what happens to the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The pool that is lost.
    pub pool: String,
    /// How it is lost; none: it is failed over as planned.
    pub outage: Option<Outage>,
    /// Whether its policy rescues parked calls.
    pub rescue: bool,
    /// How long a phase may last that ends by itself.
    pub patience: Duration,
}

/// How a pool is lost and comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outage {
    /// A shell command that kills its hosts.
    pub lose: String,
    /// One that starts them again.
    pub restore: String,
}

/// The script. Whoever is hired is in `people` at the end, also if it ends early.
pub async fn failover(
    office: &mut Office<'_>,
    people: &mut Vec<Person>,
    pair: &Pair,
    options: &Options,
) -> Result<(), Failure> {
    let sites = Sites::find(office, pair, options)?;
    office.add_groups(Some(&pair.pool))?;
    Cast::hire(office, people, pair, &sites).await?;
    let Some(cast) = Cast::of(people) else { return Ok(()) };
    let mut walk = Walk { office, pair, sites: &sites, cast };
    walk.walk().await
}

/// Where the hosts of both pools are.
struct Sites {
    home: Vec<SocketAddr>,
    backup_name: String,
    backup: Vec<SocketAddr>,
    /// What those hear whom users of the pool park at home, and with the backup.
    home_waits: Waiting,
    backup_waits: Waiting,
}

impl Sites {
    /// What those hear who wait in an orbit of that pool.
    fn waiting(&self, pool: &str) -> Waiting {
        if pool == self.backup_name { self.backup_waits } else { self.home_waits }
    }

    fn find(office: &Office<'_>, pair: &Pair, options: &Options) -> Result<Self, Failure> {
        let own = office.get("status")?["host"].as_str().unwrap_or_default().to_owned();
        let pools = office.get("pools")?;
        let find = |name: &str| pools.as_array().into_iter().flatten().find(|pool| pool["name"] == name);
        let home = find(&pair.pool).ok_or_else(|| Failure(format!("there is no pool {}", pair.pool)))?;
        let name = home["backup"].as_str();
        let name = name.ok_or_else(|| Failure(format!("{} has no backup pool", pair.pool)))?;
        let backup = find(name).ok_or_else(|| Failure(format!("there is no pool {name}")))?;
        for pool in [home, backup] {
            if pool["phase"] != "active" {
                let text =
                    format!("pool {} is {}: a drill begins with both active", pool["name"], pool["phase"]);
                return Err(Failure(text));
            }
        }
        let lists = |pool: &Value| {
            pool["hosts"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|host| (host["name"] == *own, addresses(&host["listeners"])))
                .collect::<Vec<_>>()
        };
        if !lists(backup).iter().any(|(is_own, _)| *is_own) {
            return Err(Failure(format!(
                "--admin names {own}, which is no host of {name}: the drill asks a host that lives on when {} is lost",
                pair.pool
            )));
        }
        let told = |pool: &Value| {
            let all: Result<Vec<_>, _> = lists(pool).into_iter().map(|(_, told)| told).collect();
            all.map(|all| all.into_iter().filter_map(|told| told.first().copied()).collect::<Vec<_>>())
        };
        // Named addresses are of the backup: those must live on.
        let (home, backup) = match &options.sip[..] {
            [] => (told(home)?, told(backup)?),
            named => (named.to_vec(), named.to_vec()),
        };
        if home.is_empty() {
            return Err(Failure(format!("no host of {} is alive", pair.pool)));
        }
        let (home_waits, backup_waits) = (office.waiting(&pair.pool)?, office.waiting(name)?);
        Ok(Self { home, backup_name: name.to_owned(), backup, home_waits, backup_waits })
    }
}

struct Walk<'w, 'c> {
    office: &'w mut Office<'c>,
    pair: &'w Pair,
    sites: &'w Sites,
    cast: Cast<'w>,
}

impl Walk<'_, '_> {
    async fn walk(&mut self) -> Result<(), Failure> {
        let cast = self.cast;
        // Before: one call for each row.
        let registered = registers(cast.all).await;
        if registered.verdict != Verdict::AsExpected {
            return Err(Failure(registered.text));
        }
        let mut talk = self.talk(cast.anna, cast.bert).await?;
        self.office.observe((PARK, NOT_PARKED, BEFORE), "connected; hold works", talk.holds()).await;
        let (parked, number) = self.park_one((PARK, PARKED, BEFORE), &self.pair.pool.clone()).await?;
        let retrieved = self.retrieve_one().await?;
        let picked = self.pick((PICKUP, NEW, BEFORE), cast.ida).await?;
        self.natives(BEFORE).await?;
        let lasting = [retrieved, picked];

        // Gone.
        match &self.pair.outage {
            Some(outage) => self.lose(outage, talk, lasting, parked).await?,
            None => self.not_tried(),
        }
        let (mut talk_lost, planned) = (false, self.pair.outage.is_none());

        // Users are in resiliency mode: a planned failover stays there while a call is parked, a lost pool until it is failed over.
        let queued = if planned {
            let queued = self.ring((PICKUP, RINGING, OVER)).await;
            self.begin("failover")?;
            queued
        } else {
            None
        };
        let begun = self.office.now();
        self.resiliency(OVER, talk, lasting).await?;
        let queued = if planned {
            self.drained(parked, &number).await;
            queued
        } else {
            let rescued = self.pair.rescue;
            self.none_parked(parked, &number, rescued).await;
            self.ring((PICKUP, NEW, OVER)).await
        };
        for picker in [cast.ida, cast.olga] {
            let row = if planned { RINGING } else { NEW };
            let look = not_picked(picker, GROUPS.1);
            self.office.observe((PICKUP, row, OVER), "cannot be picked up", look).await;
        }
        let begun = if planned { begun } else { self.begin("failover")? };
        if !planned {
            let asked = self.race(OVER, talk).await?;
            talk_lost |= asked.is_none();
            talk = asked.unwrap_or(talk);
        }
        let ended = self.until(&["failed_over"], "the failover").await?;
        self.office.report.time("failover: asked for to full service", ended - begun);

        // Full service by the backup.
        self.office.give_groups(&self.sites.backup_name)?;
        self.settle().await;
        let backup = self.sites.backup_name.clone();
        talk = self.park_and_fetch((PARK, NOT_PARKED, AFTER), talk, &backup).await?;
        let (parked, number) = self.park_one((PARK, PARKED, AFTER), &backup).await?;
        self.go_on(AFTER, lasting).await;
        let look = not_picked(cast.olga, GROUPS.1);
        self.office.observe((PICKUP, RINGING, AFTER), "no call of before can be picked up", look).await;
        self.give_up(queued).await;
        self.pick_and_hang_up(AFTER).await?;
        self.natives(AFTER).await?;

        // And home again.
        if let Some(outage) = &self.pair.outage {
            self.restore(outage).await?;
        }
        let queued = self.ring((PICKUP, RINGING, BACK)).await;
        let begun = self.begin("failback")?;
        let asked = self.race(BACK, talk).await?;
        talk_lost |= asked.is_none();
        talk = asked.unwrap_or(talk);
        let ended = self.until(&["active"], "the failback").await?;
        self.office.report.time("failback: asked for to full service", ended - begun);
        let stays = self.stays_parked(parked).await;
        self.office.note((PARK, PARKED, BACK), "stays parked", stays, Duration::ZERO);
        self.up(BACK, lasting);
        for person in cast.of_the_pool() {
            person.phone.act(|core| core.talk_to(self.sites.home_of(person)));
        }
        self.register_all("registered at home").await?;
        self.office.give_groups(&self.pair.pool)?;
        self.settle().await;

        let pool = self.pair.pool.clone();
        talk = self.park_and_fetch((PARK, NOT_PARKED, HOME), talk, &pool).await?;
        self.fetch_parked((PARK, PARKED, HOME), parked, &number).await;
        self.go_on(HOME, lasting).await;
        let look = not_picked(cast.olga, GROUPS.1);
        self.office.observe((PICKUP, RINGING, HOME), "still cannot be picked up", look).await;
        self.answered_at_home(queued).await;
        self.pick_and_hang_up(HOME).await?;
        self.natives(HOME).await?;

        let calls = [talk, retrieved, picked];
        let lost = calls.iter().filter(|call| !call.is_up()).count();
        self.office.report.calls = 3;
        self.office.report.calls_lost = u64::try_from(lost).unwrap_or(3).max(u64::from(talk_lost));
        Ok(())
    }

    /// Kills the pool, and watches until it counts as lost.
    async fn lose(
        &mut self,
        outage: &Outage,
        talk: Talk<'_>,
        lasting: [Talk<'_>; 2],
        parked: Talk<'_>,
    ) -> Result<(), Failure> {
        run(&outage.lose).await?;
        let lost = self.office.now();
        let noticed = self.until(&["outage", "resilient"], "the outage").await?;
        self.office.report.time("loss to its detection", noticed - lost);
        for person in self.cast.of_the_pool() {
            person.phone.act(|core| core.talk_to(self.sites.backup_of(person)));
        }
        let bert = talk.other.0;
        let mut seen = Seen::bad("the call is gone");
        if talk.is_up() {
            seen = Seen::good("connected").and(not_parked(bert.park(talk.other.1).await));
        }
        let phase = self.pool()?["phase"].clone();
        if phase != "outage" {
            seen.text = format!("{} (by then the pool was {phase})", seen.text);
        }
        let took = self.office.now() - noticed;
        self.office.note((PARK, NOT_PARKED, OUTAGE), "stays connected, cannot be parked", seen, took);
        self.natives(OUTAGE).await?;
        self.up(OUTAGE, lasting);
        let resilient =
            self.until(&["resilient", "failing_over", "failed_over"], "the backup to take over").await?;
        self.office.report.time("loss to resiliency mode", resilient - lost);
        self.register_all("resiliency mode to all phones registered").await?;
        let (caller, call) = parked.one;
        if self.pair.rescue {
            let waiting = self.sites.home_waits;
            let seen =
                if caller.is_up(call) { waiting.look(caller).await } else { Seen::bad("disconnected") };
            let took = self.office.now() - lost;
            let expected = format!("stays parked, {} (rescue)", waiting.words());
            self.office.note((PARK, PARKED, OUTAGE), &expected, seen, took);
        } else {
            let seen = match caller.hung_up(call).await {
                Some(reason) if reason.is_empty() => Seen::good("disconnected"),
                Some(reason) => Seen::good(format!("disconnected: {reason}")),
                None => Seen::bad("the parked caller still waits"),
            };
            let took = self.office.now() - lost;
            self.office.note((PARK, PARKED, OUTAGE), "disconnected", seen, took);
        }
        Ok(())
    }

    fn not_tried(&mut self) {
        let why = || Seen::not_tried("planned: no --lose was given");
        for (matrix, row, expected) in [
            (PARK, NOT_PARKED, "stays connected, cannot be parked"),
            (PARK, PARKED, "disconnected"),
            (PARK, RETRIEVED, GOES_ON),
            (PICKUP, PICKED, GOES_ON),
        ] {
            self.office.note((matrix, row, OUTAGE), expected, why(), Duration::ZERO);
        }
    }

    async fn restore(&mut self, outage: &Outage) -> Result<(), Failure> {
        let begun = self.office.now();
        run(&outage.restore).await?;
        loop {
            let alive = self.pool()?["hosts"].as_array().map_or(0, Vec::len);
            if alive >= self.sites.home.len() || self.office.now() - begun > self.pair.patience {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
        self.office.report.time("restore to all hosts of the pool being back", self.office.now() - begun);
        Ok(())
    }

    /// Users are in resiliency mode, and will be for as long as this takes.
    async fn resiliency(
        &mut self,
        column: &'static str,
        talk: Talk<'_>,
        lasting: [Talk<'_>; 2],
    ) -> Result<(), Failure> {
        let phase = self.pool()?["phase"].as_str().unwrap_or_default().to_owned();
        let cast = self.cast;
        let look = async {
            let mut seen = talk.holds().await;
            seen.text = format!("{phase}: {}", seen.text);
            seen.and(not_parked(talk.other.0.park(talk.other.1).await))
        };
        self.office.observe((PARK, NOT_PARKED, column), "no park; hold works", look).await;
        self.office.observe((PARK, NOT_PARKED, column), "transfer works", cast.transfers()).await;
        self.go_on(column, lasting).await;
        self.natives(column).await
    }

    /// Asks for a procedure, and returns when that was.
    fn begin(&mut self, procedure: &str) -> Result<Instant, Failure> {
        let path = format!("pools/{}/{procedure}", segment(&self.pair.pool));
        let begun = self.office.now();
        let body = json!({ "by": "switchyard drill" });
        if let Err(failure) = block_in_place(|| self.office.client.post(&path, body)) {
            // A policy may have been faster.
            let journal = &self.pool()?["journal"];
            if journal["procedure"] != procedure {
                return Err(failure);
            }
        }
        Ok(begun)
    }

    /// Right after a procedure has begun, and perhaps not before it is over: what is refused for it was asked in time. The talking
    /// call afterwards; `None`: it is lost.
    async fn race<'t>(&mut self, column: &'static str, talk: Talk<'t>) -> Result<Option<Talk<'t>>, Failure> {
        let begun = self.office.now();
        let (bert, call) = talk.other;
        let (parked, picked, new) =
            futures_util::future::join3(bert.park(call), self.cast.olga.call(GROUPS.1), self.new_call())
                .await;
        let took = self.office.now() - begun;
        let is_over = self.pool()?["journal"]["ended"].is_u64();
        let late = || Seen::not_tried("not refused: the procedure was over before the phone had its answer");
        let mut talk = Some(talk);
        let seen = match &parked {
            Ok(number) => {
                talk = match bert.call(number).await {
                    Ok(fetched) => talk.map(|talk| Talk { other: (bert, fetched), ..talk }),
                    Err(_) => None,
                };
                if is_over { late() } else { not_parked(parked.clone()) }
            }
            Err(_) => not_parked(parked.clone()),
        };
        self.office.note((PARK, NOT_PARKED, column), "no park while the procedure runs", seen, took);
        let picked = picked.map(|taken| self.cast.olga.hang_up(taken));
        for (row, picked) in [(RINGING, Some(picked)), (NEW, new)] {
            let seen = match picked {
                Some(Err(why)) => Seen::good(format!("refused: {why}")),
                Some(Ok(())) if is_over => late(),
                Some(Ok(())) => Seen::bad("picked up"),
                None => Seen::bad("the callee's phone does not ring"),
            };
            self.office.note((PICKUP, row, column), "cannot be picked up", seen, took);
        }
        Ok(talk)
    }

    /// Calls that nothing is to happen to: up, and alive.
    async fn go_on(&mut self, column: &'static str, [retrieved, picked]: [Talk<'_>; 2]) {
        self.office.observe((PARK, RETRIEVED, column), GOES_ON, retrieved.holds()).await;
        self.office.observe((PICKUP, PICKED, column), GOES_ON, picked.holds()).await;
    }

    /// The same where nobody could say what hold would do.
    fn up(&mut self, column: &'static str, [retrieved, picked]: [Talk<'_>; 2]) {
        for (matrix, row, talk) in [(PARK, RETRIEVED, retrieved), (PICKUP, PICKED, picked)] {
            let seen = if talk.is_up() { Seen::good("connected") } else { Seen::bad("the call is gone") };
            self.office.note((matrix, row, column), GOES_ON, seen, Duration::ZERO);
        }
    }

    async fn register_all(&mut self, what: &str) -> Result<(), Failure> {
        let begun = self.office.now();
        for person in self.cast.of_the_pool() {
            // Whoever is told to come later does.
            while let Err(why) = person.register().await {
                if self.office.now() - begun > self.pair.patience {
                    return Err(Failure(format!("{} cannot register: {why}", person.name)));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        self.office.report.time(what, self.office.now() - begun);
        Ok(())
    }

    fn pool(&self) -> Result<Value, Failure> {
        self.office.get(&format!("pools/{}", segment(&self.pair.pool)))
    }

    /// Waits until the pool is in one of these phases; when that was.
    async fn until(&mut self, phases: &[&str], what: &str) -> Result<Instant, Failure> {
        let begun = self.office.now();
        loop {
            let pool = self.pool()?;
            if phases.iter().any(|phase| pool["phase"] == *phase) {
                return Ok(self.office.now());
            }
            if self.office.now() - begun > self.pair.patience {
                let phase = &pool["phase"];
                return Err(Failure(format!(
                    "waited {:?} in vain for {what}: pool {} is {phase}",
                    self.pair.patience, self.pair.pool
                )));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What one host has changed, the others know a moment later.
    async fn settle(&self) {
        sleep(Duration::from_millis(300)).await;
    }
}

impl Sites {
    fn home_of(&self, person: &Person) -> SocketAddr {
        pick(&self.home, person)
    }

    fn backup_of(&self, person: &Person) -> SocketAddr {
        pick(&self.backup, person)
    }
}

/// Phones are spread over the hosts of a pool.
fn pick(hosts: &[SocketAddr], person: &Person) -> SocketAddr {
    let sum: usize = person.name.bytes().map(usize::from).sum();
    hosts[sum % hosts.len()]
}

/// Runs a command of the operator's.
async fn run(command: &str) -> Result<(), Failure> {
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null());
    let status = block_in_place(|| shell.status())?;
    if status.success() { Ok(()) } else { Err(Failure(format!("{command}: {status}"))) }
}
