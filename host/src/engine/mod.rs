//! The engine: a value driven by [`Input`]s and time, which answers with [`Output`]s. No sockets, no clock.
//!
//! One obvious loop: an input is handed to whoever owns that state, then [`Engine::settle`] carries what they say to
//! each other (SIP events, notices of calls, commands of plugins, answers of orbits) until nobody has anything to say.
//!
//! Where things are: `dispatch` (SIP to calls), `invite` (where a call goes), `transfer` (REFER and Replaces), `routing`
//! (names to phones), `place` (whose phones ring, and what follows), `pickup` (who else may have a ringing call), `ask` (what
//! plugins decide about), `command` (what plugins ask for), `record` (store and restart), `protect` (what the store is told
//! of calls), `adopt` (the calls made from that), `lamp` (what watchers see), `audit` (what always holds), `admin`
//! (requests of the administrative interface); in a cluster `edge` (whose a message is), `seat` (whose users are served
//! here), `phase`, `pools`, `procedure` and `lent` (pools that fail), `redirect` (phones that are told where home is), `rings` (calls that ring where their callee was served), `elsewhere` (what the administrative interface asks other hosts), `fence` (what
//! waits while others may have taken over) and `aftermath` (what is told when they have).

pub(crate) mod core;
pub(crate) mod timers;

mod admin;
mod admission;
mod adopt;
mod aftermath;
mod ask;
mod audit;
mod behind;
mod command;
mod dispatch;
mod edge;
mod elsewhere;
mod fence;
mod input;
mod invite;
mod lamp;
mod lent;
mod notice;
mod output;
mod phase;
mod pickup;
mod place;
mod plan;
mod pools;
mod procedure;
mod protect;
mod record;
mod redirect;
mod rings;
mod routing;
mod seat;
mod transfer;
mod waiting;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use switchyard_sdk::types::{FlowId, LegId};

pub use input::{AdminId, Input, QueryId, StoreId};
pub use output::{Event, Output};

use self::admission::{Admission, Admitted};
use self::ask::Ask;
use self::core::{Core, Identity};
use self::record::StoreOwner;
use self::routing::Resolving;
use self::seat::Clustered;
use self::timers::Timer;
use crate::call::Calls;
use crate::cluster::Frame;
use crate::config::Config;
use crate::directory::Directory;
use crate::net::{Flow, HostName, Listener};
use crate::notifier::Notifier;
use crate::orbit::{Orbits, RangeFault, Whose};
use crate::plugin::{InstanceId, Plugins, Waiter};
use crate::policy::{Bundle, Diagnostic, Policies};
use crate::registrar::{Authenticator, Registrar, RegistrarConfig};
use crate::sip::Transactions;
use crate::store::Snapshot;
use crate::store::keys::range_key;
use crate::time::{Instant, Now};

/// What an engine is made from.
pub struct Options {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// Everything random comes from here.
    pub seed: [u8; 32],
    /// The whole store, as it is at the start.
    pub snapshot: Snapshot,
    /// The policies.
    pub bundle: Arc<Bundle>,
    /// The plugins, loaded but not started.
    pub plugins: Plugins,
    /// Whether other hosts are to be had by a link, so that each pool is served by whoever holds its seat.
    pub clustered: bool,
}

/// Why an engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The policies are wrong.
    #[error("the policies cannot be used:\n{}", .0.iter().map(|d| format!("  {d}")).collect::<Vec<_>>().join("\n"))]
    Policies(Vec<Diagnostic>),
    /// What is stored cannot be used.
    #[error("the stored ranges cannot be used: {0}")]
    Ranges(String),
}

/// See the module.
pub struct Engine {
    pub(crate) core: Core,
    pub(crate) calls: Calls,
    orbits: Orbits,
    directory: Directory,
    registrar: Registrar,
    notifier: Notifier,
    auth: Authenticator,
    admission: Admission,
    plugins: Plugins,
    policies: Rc<RefCell<Policies>>,
    config: Arc<Config>,
    /// What each live flow of a plugin decides about.
    asks: BTreeMap<FlowId, Ask>,
    /// Who waits for a leg to end.
    watches: BTreeMap<LegId, Vec<Waiter>>,
    /// Orbit to the leg of the parker whose phone still holds on to it.
    parkers: BTreeMap<String, LegId>,
    /// Legs whose flow ended while something it began was under way: the parker's leg, and who parked.
    unsettled: BTreeMap<LegId, (Option<LegId>, switchyard_sdk::types::Party)>,
    /// Rings whose answer has won its claim and is being connected.
    recalls: BTreeMap<Waiter, String>,
    /// The same, asked for by the administrative interface.
    retrievals: BTreeMap<AdminId, String>,
    /// Calls that ring at users with a rule for when nobody answers.
    placed: BTreeMap<LegId, place::Placed>,
    /// Calls that are being taken by somebody else than they ring at, or wait for.
    takings: BTreeMap<Waiter, pickup::Taking>,
    /// Callers for whom a picker's phones ring as well.
    summons: BTreeMap<LegId, pickup::Summons>,
    /// How often the flow of a parked call has failed.
    restarts: BTreeMap<LegId, u8>,
    /// Legs made from records, until their phones have answered: leg to orbit.
    restoring: BTreeMap<LegId, record::Restoring>,
    /// What the store holds of calls that talk.
    protection: protect::Protection,
    resolving: BTreeMap<QueryId, Resolving>,
    stores: BTreeMap<StoreId, StoreOwner>,
    /// Keys of bindings and subscriptions of which the store has not taken the last.
    unstored: BTreeSet<String>,
    trunks: BTreeMap<String, Arc<crate::call::Trunk>>,
    /// Only where hosts work together.
    cluster: Option<Clustered>,
    draining: bool,
}

impl Engine {
    /// An engine at `now`. Parked calls in the store are taken up again at once: poll its outputs.
    ///
    /// # Errors
    /// When the policies or the stored ranges cannot be used.
    pub fn new(now: Now, options: Options) -> Result<Engine, StartError> {
        let Options { config, listeners, seed, snapshot, bundle, mut plugins, clustered } = options;
        let mut rng = ChaCha12Rng::from_seed(seed);
        let sections = plugins.sections();
        let policies = Policies::new(&sections, bundle, &config.pool_names(), rng.random())
            .map_err(StartError::Policies)?;
        let policies = Rc::new(RefCell::new(policies));
        // The configuration has seen to it that the name is short enough.
        let own = HostName::new(&config.host.name).filter(|_| clustered);
        let cluster = own.map(|own| Clustered::new(own, &config.pools, &snapshot));
        let mark = cluster.as_ref().map(|cluster| cluster.mark(&config.host.pool)).unwrap_or_default();
        let edges = own.into_iter().map(|own| (own, listeners.clone())).collect();
        let identity = Identity {
            domain: config.sip.domain.clone(),
            host: config.host.name.clone(),
            listeners,
            names: Vec::new(),
            mark: mark.clone(),
            contacts: BTreeMap::new(),
            edges,
            gone: BTreeSet::new(),
        };
        let mut secret = [0_u8; 32];
        rng.fill_bytes(&mut secret);
        let tx = Transactions::new(ChaCha12Rng::from_rng(&mut rng)).with_mark(&mark);
        let mut orbits = Orbits::new(&config.host.name, ChaCha12Rng::from_rng(&mut rng));
        orbits.set_emergency(config.sip.emergency.iter().map(String::as_str));
        // A record that cannot be read keeps no host from starting: a later version may have written it.
        let (damaged, wrong): (Vec<_>, Vec<_>) = orbits
            .load(&snapshot)
            .into_iter()
            .partition(|error| matches!(error.fault, RangeFault::Damaged { .. }));
        if let Some(error) = wrong.first() {
            return Err(StartError::Ranges(error.to_string()));
        }
        let limits = &config.sip.limits;
        let mut registrar = Registrar::new(RegistrarConfig {
            domains: Vec::new(),
            expires_min: limits.register_min,
            expires_max: limits.register_max,
            expires_default: limits.register_max,
            bindings_max: limits.bindings_per_user,
        });
        match clustered {
            true => registrar.load_users(&snapshot),
            false => registrar.load(&snapshot, now),
        }
        plugins.start(now, policies.clone());
        let mut kinds: BTreeMap<InstanceId, Vec<String>> = BTreeMap::new();
        for kind in plugins.kinds() {
            if let Some(instance) = plugins.for_kind(&kind) {
                kinds.entry(instance).or_default().push(kind);
            }
        }
        for (instance, kinds) in kinds {
            orbits.grant(instance, kinds);
        }
        let mut admission = Admission::new(limits);
        // Their phones need not prove themselves again after our restart to be heard.
        for binding in registrar.iter(now) {
            admission.vouch(now.instant, binding.flow.remote);
        }
        let auth = Authenticator::new(&config.sip.domain, secret);
        let trunks =
            config.trunks.iter().map(|trunk| (trunk.name.clone(), Arc::new(routing::trunk(trunk)))).collect();
        let mut engine = Engine {
            core: Core::new(now, tx, rng, identity),
            calls: Calls::default(),
            orbits,
            directory: Directory::load(&snapshot),
            registrar,
            notifier: Notifier::default(),
            auth,
            admission,
            plugins,
            policies,
            config,
            asks: BTreeMap::new(),
            watches: BTreeMap::new(),
            parkers: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            recalls: BTreeMap::new(),
            retrievals: BTreeMap::new(),
            placed: BTreeMap::new(),
            takings: BTreeMap::new(),
            summons: BTreeMap::new(),
            restarts: BTreeMap::new(),
            restoring: BTreeMap::new(),
            protection: protect::Protection::default(),
            resolving: BTreeMap::new(),
            stores: BTreeMap::new(),
            trunks,
            unstored: BTreeSet::new(),
            cluster,
            draining: false,
        };
        engine.learn_names();
        for error in damaged {
            engine.bad_range(&range_key(&error.range), &error);
        }
        let own = engine.config.contact_name(&engine.config.host.pool).map(str::to_owned);
        for host in [None, engine.own_name()] {
            engine.core.identity.contacts.extend(own.clone().map(|name| (host, name)));
        }
        if clustered {
            engine.borrow_policies(&snapshot);
            engine.meet_hosts();
        } else {
            let shared = engine.config.store.kind.is_shared();
            let whose = if shared { Whose::Host } else { Whose::All };
            engine.restore(&snapshot, whose);
            engine.adopt_calls(&snapshot, whose);
            let expired = engine.notifier.load(&mut engine.core, &snapshot, |_, _| true);
            engine.write_behind(expired);
        }
        engine.settle();
        Ok(engine)
    }

    /// Limits the time of each policy decision by a clock. Without it, as in simulation, instructions and memory are
    /// the limits: an engine reads no clock of its own.
    pub fn limit_policy_time(&mut self, clock: crate::policy::Clock, longest: Duration) {
        self.policies.borrow_mut().limit_time(clock, longest);
    }

    /// Something happened outside.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.core.now = now;
        match input {
            Input::Received { flow, bytes } => self.received(self.at_own_socket(flow), bytes),
            Input::SendFailed { flow, reason } => {
                tracing::debug!(%flow, reason, "could not send");
                self.core.tx.send_failed(now, self.at_own_socket(flow));
                self.tell_servers(&Frame::Unsent { flow, reason });
            }
            Input::ConnectionClosed { connection } => {
                self.registrar.connection_closed(self.own_name(), connection);
                self.tell_servers(&Frame::Closed { connection });
            }
            Input::Link { from, frame } => self.linked(from, frame),
            Input::Unlinked { to, frame } => self.unlinked(to, frame),
            Input::Tried { host, failed } => self.tried_to_reach(host, failed),
            Input::Read { request, result } => self.read_done(request, result),
            Input::Resolved { query, targets } => self.resolved(query, &targets),
            Input::Stored { request, result } => self.stored(request, result),
            Input::StoreChanged(change) => self.store_changed(&change),
            Input::Standing(standing) => self.stands(standing),
            Input::Media(event) => self.calls.on_media(&mut self.core, &event),
            Input::Policy(bundle) => self.replace_policies(bundle),
            Input::PluginWake(instance) => self.plugins.wake(now, instance),
            Input::Admin { request, what } => self.administer(request, what),
            Input::Drain => self.drain(),
        }
        self.settle();
    }

    /// Does what is due. Early or repeated calls are harmless.
    pub fn on_timeout(&mut self, now: Now) {
        self.core.now = now;
        self.core.tx.on_timeout(now);
        let expired = self.registrar.on_timeout(now);
        self.write_behind(expired);
        self.orbits.on_timeout(now);
        while let Some(timer) = self.core.timers.pop(now.instant) {
            if self.put_off(timer) {
                continue;
            }
            match timer {
                Timer::Plugin(waiter) => self.answer(waiter, Ok(&serde_json::Value::Null)),
                Timer::HoldWait(leg) => self.hold_wait_over(leg),
                Timer::Restart(leg) => self.take_up(leg),
                Timer::TakeUpAgain(leg) => self.take_up_again(leg),
                Timer::NoAnswer(leg) => self.nobody_answers(leg),
                Timer::RingAgain(leg) => self.ring_again(leg),
                Timer::LampDue(id) => self.notifier.on_due(id),
                Timer::LampExpiry(id) => {
                    let writes = self.notifier.on_expiry(&mut self.core, id);
                    self.write_behind(writes);
                }
                Timer::LampCheck => self.check_lamps(),
                Timer::Gather(request) => self.gathered(request, true),
                Timer::Seats => self.look_at_seats(),
                // It is done whenever all else has been.
                Timer::StoreAtLast => self.store_at_last(),
                Timer::RecordCalls => {}
                Timer::Pools => self.look_at_pools(),
                other => self.calls.on_timer(&mut self.core, other),
            }
            self.settle();
        }
        self.settle();
    }

    /// When [`Engine::on_timeout`] wants to be called next.
    pub fn next_timeout(&self) -> Option<Instant> {
        [
            self.core.tx.next_timeout(),
            self.core.timers.next(),
            self.registrar.next_timeout(),
            self.orbits.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// The next thing the world outside should do; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            match self.core.poll_output()? {
                Output::Send { flow, bytes } => {
                    if let Some(output) = self.on_its_way(flow, bytes) {
                        return Some(output);
                    }
                }
                Output::Admin { request, answer } => {
                    if let Some(output) = self.answer_for_other(request, answer) {
                        return Some(output);
                    }
                }
                output => return Some(output),
            }
        }
    }

    /// What lives: legs, operations, subscriptions, streams, flows, client and server transactions, timers. When the
    /// world has gone quiet all but registrations' own timers are back to zero.
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let [legs, operations, subscriptions, streams] = self.calls.counts();
        let (clients, servers) = self.core.tx.len();
        // When to look at pools again: that comes from hosts, and stays when all calls are over.
        let of_pools =
            [Timer::Pools, Timer::Seats].iter().filter(|timer| self.core.timers.when(**timer).is_some());
        BTreeMap::from([
            ("legs", legs),
            ("operations", operations),
            ("subscriptions", subscriptions),
            ("streams", streams),
            ("flows", self.asks.len()),
            ("watches", self.watches.len()),
            ("clients", clients),
            ("servers", servers),
            ("timers", self.core.timers.len() - of_pools.count()),
            ("occupants", self.orbits.occupants().count()),
            ("ringing", self.orbits.ringing().count()),
            ("placed", self.placed.len()),
            ("waiting", self.cluster.as_ref().map_or(0, |cluster| cluster.waiting.len())),
            ("takings", self.takings.len() + self.summons.len()),
            ("lamps", self.notifier.len()),
            ("lamps_wrong", self.notifier.divergence().0),
        ])
    }

    /// A message came in. Requests of those who send too much end here, before anything of them is read.
    fn received(&mut self, flow: Flow, bytes: Bytes) {
        let now = self.core.now;
        let from = flow.remote;
        let limited = !bytes.starts_with(b"SIP/2.0 ") && self.config.trunk_of(from.ip()).is_none();
        let admitted = if limited { self.admission.admit(now.instant, from) } else { Admitted::Yes };
        match admitted {
            Admitted::Yes => self.deal(flow, Vec::new(), bytes),
            Admitted::No { answer, news } => {
                self.core.tx.limited(flow, &bytes, answer);
                if news {
                    let detail = serde_json::json!({ "source": from.to_string() });
                    self.core.event("source.limited", None, None, detail);
                }
            }
        }
    }

    fn settle(&mut self) {
        self.look_at_cluster_if_changed();
        loop {
            if let Some(event) = self.core.tx.poll_event() {
                self.on_sip(event);
            } else if let Some(notice) = self.calls.poll_notice() {
                self.on_notice(notice);
            } else if let Some(output) = self.orbits.poll_output() {
                self.on_orbit(output);
            } else if let Some(command) = self.plugins.poll_command() {
                self.apply(command);
            } else {
                break;
            }
        }
        let touched = self.calls.take_touched();
        let numbers = self.orbits.take_touched();
        self.protect(&touched.legs, &numbers);
        self.tell_watchers(touched.users, numbers);
        self.tell_of_ringing();
    }

    fn replace_policies(&mut self, bundle: Arc<Bundle>) {
        let result = self.policies.borrow_mut().replace(bundle);
        match result {
            Ok(revision) => {
                self.notifier.touch_all(&mut self.core);
                self.lend_policy();
                self.core.event("policy.loaded", None, None, serde_json::json!({ "revision": revision }));
            }
            Err(diagnostics) => {
                let errors: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
                self.core.event("policy.refused", None, None, serde_json::json!({ "errors": errors }));
            }
        }
    }

    fn drain(&mut self) {
        if !self.draining {
            self.draining = true;
            self.orbits.set_draining(true);
            self.look_at_seats();
            self.core.event("host.draining", None, None, serde_json::Value::Null);
        }
    }
}
