//! The plugins of one engine: loaded libraries, their instances, and the way of events and commands.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use serde_json::{Value, json};
use switchyard_sdk::abi::{Event, PluginEntry, Str, event, status};
use switchyard_sdk::ext::orbit::Resume;
use switchyard_sdk::host::{Extension, Instance};
use switchyard_sdk::manifest::{Manifest, Section};
use switchyard_sdk::types::{FlowId, Offer, Refusal, Token};

use super::command::{Command, FlowEnd, InstanceId, Waiter};
use super::entry::{self, Description};
use super::error::LoadError;
use super::library::{self, Opened};
use super::receiver::{Ear, PolicySource, Shared};
use super::watchdog::{Watch, Watchdog, event_name};
use crate::near::did_you_mean;
use crate::time::Now;

/// Called, from any thread, when a plugin asks to be woken: see [`Plugins::on_wake`].
pub type OnWake = Arc<dyn Fn(InstanceId) + Send + Sync>;

/// The plugins of one engine, on its thread.
///
/// Loaded first, then started. Events go in through `offer`, `resume`, `answer`, `cancel_flow`, `wake`; what
/// flows ask for comes out of [`Plugins::poll_command`], to be applied when no plugin runs. Each flow ends with
/// exactly one `FlowEnd`, also when its plugin breaks.
pub struct Plugins {
    copies: Vec<Copy>,
    /// What was found and not taken.
    refused: Vec<LoadError>,
    next_instance: u32,
    /// Where the copies of libraries go; none if the plugins are linked.
    copies_dir: Option<PathBuf>,
    on_wake: OnWake,
    watch: Arc<Watch>,
    shared: Option<Rc<Shared>>,
}

/// A loaded copy of a plugin. A reload makes a second one of the same name.
struct Copy {
    id: InstanceId,
    entry: &'static PluginEntry,
    description: Arc<Description>,
    path: Option<PathBuf>,
    generation: u32,
    /// None before the start, and after the last flow of a retired copy.
    instance: Option<Instance<Ear>>,
    /// A newer copy has taken over; this one only finishes what it has.
    retired: bool,
    wake_pending: Arc<AtomicBool>,
}

impl Plugins {
    /// Loads every library of `dir`, or those whose plugins are `enabled`. What cannot be taken is kept for
    /// [`Plugins::list`] and the log, and never stops the host.
    pub fn load(dir: &Path, enabled: Option<&[String]>, data_dir: &Path) -> Plugins {
        let mut plugins = Plugins::empty();
        let copies = data_dir.join("plugins");
        library::clear_copies(&copies);
        let mut there = Vec::new();
        match library::libraries_in(dir) {
            Ok(libraries) => {
                for path in libraries {
                    let taken = library::open(&path, &copies).and_then(|opened| {
                        there.push(opened.description.name.clone());
                        let wanted = enabled.is_none_or(|names| names.contains(&opened.description.name));
                        if wanted { plugins.take(opened, Some(path)).map(drop) } else { Ok(()) }
                    });
                    if let Err(error) = taken {
                        plugins.refuse(error);
                    }
                }
            }
            Err(error) => plugins.refuse(error),
        }
        for name in enabled.unwrap_or_default() {
            if plugins.copies.iter().all(|copy| copy.description.name != *name) {
                let near = did_you_mean(name, there.iter().map(String::as_str));
                plugins.refuse(LoadError::Missing { name: name.clone(), dir: dir.to_owned(), near });
            }
        }
        plugins.copies_dir = Some(copies);
        plugins
    }

    /// Plugins that are linked, for tests and simulation.
    pub fn from_entries(entries: &[&'static PluginEntry]) -> Plugins {
        let mut plugins = Plugins::empty();
        for entry in entries {
            let taken = entry::describe(entry, "(linked)")
                .and_then(|description| plugins.take(Opened { entry, description, generation: 0 }, None));
            if let Err(error) = taken {
                plugins.refuse(error);
            }
        }
        plugins
    }

    /// The entries of what was taken: more hosts in one process can be made from them.
    pub fn entries(&self) -> impl Iterator<Item = &'static PluginEntry> {
        self.copies.iter().map(|copy| copy.entry)
    }

    fn empty() -> Plugins {
        Plugins {
            copies: Vec::new(),
            refused: Vec::new(),
            next_instance: 0,
            copies_dir: None,
            on_wake: Arc::new(|_| {}),
            watch: Arc::default(),
            shared: None,
        }
    }

    /// Reads what a library says about itself: `switchyard plugin info FILE`.
    pub fn inspect(path: &Path) -> Result<Description, LoadError> {
        library::inspect(path)
    }

    /// Where wake-ups go; to be set before the start. The engine then calls [`Plugins::wake`].
    pub fn on_wake(&mut self, on_wake: impl Fn(InstanceId) + Send + Sync + 'static) {
        self.on_wake = Arc::new(on_wake);
    }

    /// Makes the instances.
    pub fn start(&mut self, now: Now, policies: Rc<RefCell<impl PolicySource + 'static>>) {
        let (book, event) = Default::default();
        let shared = Rc::new(Shared { book, policies, now: Cell::new(now), event });
        self.shared = Some(Rc::clone(&shared));
        for at in 0..self.copies.len() {
            if let Err(error) = self.make_instance(at, &shared) {
                self.refuse(error);
            }
        }
        self.copies.retain(|copy| copy.instance.is_some());
    }

    /// A look at what runs, for a thread that watches over it.
    pub fn watchdog(&self) -> Watchdog {
        Watchdog::new(&self.watch)
    }

    /// The policy sections of all plugins.
    pub fn sections(&self) -> Vec<Section> {
        self.manifests().flat_map(|manifest| manifest.sections.iter().cloned()).collect()
    }

    /// The kinds of orbit ranges somebody handles.
    pub fn kinds(&self) -> Vec<String> {
        self.manifests().flat_map(|manifest| manifest.kinds.iter().cloned()).collect()
    }

    /// The kinds of orbit ranges that one instance handles.
    pub fn kinds_of(&self, instance: InstanceId) -> Vec<String> {
        let copy = self.copies.iter().find(|copy| copy.id == instance);
        copy.map(|copy| copy.description.manifest.kinds.clone()).unwrap_or_default()
    }

    /// What the plugins declare.
    pub fn manifests(&self) -> impl Iterator<Item = &Manifest> {
        self.copies.iter().filter(|copy| !copy.retired).map(|copy| &copy.description.manifest)
    }

    /// What was found and not taken.
    pub fn refused(&self) -> &[LoadError] {
        &self.refused
    }

    /// The instance that handles ranges of `kind`.
    pub fn for_kind(&self, kind: &str) -> Option<InstanceId> {
        self.serving(|manifest| manifest.kinds.iter().any(|declared| declared == kind))
    }

    /// The instance that handles requests to `user_part` of the domain.
    pub fn for_service(&self, user_part: &str) -> Option<InstanceId> {
        self.serving(|manifest| manifest.services.iter().any(|declared| declared == user_part))
    }

    /// The instance that handles calls to `prefix` and more, the prefix, and what follows it.
    pub fn for_prefix<'a>(&self, user_part: &'a str) -> Option<(InstanceId, &'a str, &'a str)> {
        let (prefix, rest) = user_part.split_at_checked(2).filter(|(_, rest)| !rest.is_empty())?;
        let instance =
            self.serving(|manifest| manifest.prefixes.iter().any(|declared| declared == prefix))?;
        Some((instance, prefix, rest))
    }

    /// The flow that waits for an answer.
    pub fn flow_of(&self, waiter: Waiter) -> Option<FlowId> {
        self.shared.as_ref()?.book.borrow().flow_of(waiter)
    }

    /// Whether an instance declares an extension.
    pub fn uses(&self, instance: InstanceId, extension: Extension) -> bool {
        self.copies.iter().any(|copy| {
            copy.id == instance
                && copy.description.manifest.extensions.iter().any(|declared| declared == extension.id())
        })
    }

    fn serving(&self, does: impl Fn(&Manifest) -> bool) -> Option<InstanceId> {
        let serves = |copy: &&Copy| !copy.retired && does(&copy.description.manifest);
        self.copies.iter().find(serves).map(|copy| copy.id)
    }

    /// Offers a call; the flow that handles it.
    pub fn offer(&mut self, now: Now, instance: InstanceId, offer: &Offer) -> FlowId {
        self.start_flow(now, instance, event::OFFER, &to_json(offer))
    }

    /// Hands over a parked call; the flow that looks after it.
    pub fn resume(&mut self, now: Now, instance: InstanceId, resume: &Resume) -> FlowId {
        self.start_flow(now, instance, event::RESUME, &to_json(resume))
    }

    /// Answers a command: with its value, or with a refusal and the SIP status behind it (0 for none). Answers
    /// that nobody waits for any more are dropped.
    pub fn answer<T: Serialize>(&mut self, now: Now, waiter: Waiter, result: Result<&T, (&Refusal, u16)>) {
        let Some(shared) = &self.shared else { return };
        let Some(flow) = shared.book.borrow_mut().settle(waiter) else { return };
        let (code, sip_status, payload) = match result {
            Ok(value) => (0, 0, to_json(value)),
            Err((refusal, sip_status)) => {
                (u32::from(refusal.code.0), u32::from(sip_status), to_json(&refusal.text))
            }
        };
        let Token(token) = waiter.token;
        let event = Event { token, code, sip_status, ..happening(event::ANSWER, &payload) };
        self.deliver(now, waiter.instance, event, Some(flow));
    }

    /// Ends a flow. Its `FlowEnd` is among the commands afterwards.
    pub fn cancel_flow(&mut self, now: Now, flow: FlowId) {
        let owner = self.shared.as_ref().and_then(|shared| shared.book.borrow().owner(flow));
        let Some(instance) = owner else { return };
        let event = Event { flow: flow.0, ..happening(event::CANCEL_FLOW, "") };
        self.deliver(now, instance, event, Some(flow));
    }

    /// Wakes an instance that asked for it from another thread.
    pub fn wake(&mut self, now: Now, instance: InstanceId) {
        if let Some(copy) = self.copies.iter().find(|copy| copy.id == instance) {
            // Before the event: what is asked for meanwhile needs another one.
            copy.wake_pending.store(false, Ordering::Release);
        }
        self.deliver(now, instance, happening(event::WAKE, ""), None);
    }

    /// The next thing a flow asks for.
    pub fn poll_command(&mut self) -> Option<Command> {
        let command = self.shared.as_ref()?.book.borrow_mut().pop_command();
        if command.is_none() {
            self.bury_retired();
        }
        command
    }

    /// Takes a new copy of a plugin's library beside the running one: new flows start in the new copy, flows at
    /// rest end in the old one (`FlowEnd::Rested`) and are to be resumed in the new one. If the library is not
    /// taken, everything is as before. Reads a file, for some milliseconds.
    pub fn reload(&mut self, now: Now, name: &str) -> Result<InstanceId, LoadError> {
        let old = self.copies.iter().position(|copy| !copy.retired && copy.description.name == name);
        let (Some(shared), Some(old)) = (self.shared.clone(), old) else {
            return Err(self.not_running(name));
        };
        let path = self.copies[old].path.clone();
        let opened = match (&path, &self.copies_dir) {
            (Some(path), Some(copies)) => library::open(path, copies)?,
            // What is linked has no newer file: its entry makes another instance.
            _ => {
                let Copy { entry, description, generation, .. } = &self.copies[old];
                Opened { entry, description: Description::clone(description), generation: generation + 1 }
            }
        };
        if opened.description.name != name {
            let what = format!("it is {} now, not {name}: load it instead", opened.description.title());
            return Err(LoadError::Manifest { file: opened.description.file, what });
        }
        if opened.description.manifest.sections != self.copies[old].description.manifest.sections {
            // The policies that run were checked against the old ones.
            let what = "its settings and hooks are not those of the copy that runs, which takes a restart"
                .to_owned();
            return Err(LoadError::Manifest { file: opened.description.file, what });
        }
        self.copies[old].retired = true;
        let made = self.take(opened, path).and_then(|at| self.make_instance(at, &shared).map(|()| at));
        let at = match made {
            Ok(at) => at,
            Err(error) => {
                self.copies[old].retired = false;
                self.copies.retain(|copy| copy.instance.is_some());
                return Err(error);
            }
        };
        let (old, new) = (self.copies[old].id, self.copies[at].id);
        self.deliver(now, old, happening(event::DRAIN, ""), None);
        Ok(new)
    }

    /// All plugins, taken or not, for `switchyard plugin list`.
    pub fn list(&self) -> Value {
        let copies = self.copies.iter().map(|copy| {
            let flows = self.shared.as_ref().map_or(0, |shared| shared.book.borrow().count_of(copy.id));
            let failures = copy.instance.as_ref().map_or(0, |running| running.receiver().failures.get());
            let manifest = &copy.description.manifest;
            json!({
                "name": copy.description.name,
                "version": copy.description.version,
                "state": if copy.retired { "retired" } else if copy.instance.is_some() { "running" } else { "loaded" },
                "description": manifest.description,
                "file": copy.description.file,
                "generation": copy.generation,
                "kinds": manifest.kinds,
                "services": manifest.services,
                "sections": manifest.sections.iter().map(|section| &section.name).collect::<Vec<_>>(),
                "extensions": manifest.extensions,
                "unknown_extensions": copy.description.unknown_extensions,
                "flows": flows,
                "failures": failures,
            })
        });
        let refused =
            self.refused.iter().map(|error| json!({ "state": "refused", "error": error.to_string() }));
        Value::Array(copies.chain(refused).collect())
    }

    fn not_running(&self, name: &str) -> LoadError {
        let running = self.copies.iter().filter(|copy| !copy.retired);
        let near = did_you_mean(name, running.map(|copy| copy.description.name.as_str()));
        LoadError::NotRunning { name: name.to_owned(), near }
    }

    // ---- inside -------------------------------------------------------------------------------------------

    /// Takes what was opened, unless another plugin has what it declares; its place.
    fn take(&mut self, opened: Opened, path: Option<PathBuf>) -> Result<usize, LoadError> {
        self.check_free(&opened.description)?;
        if !opened.description.unknown_extensions.is_empty() {
            let (plugin, unknown) = (opened.description.title(), &opened.description.unknown_extensions);
            tracing::warn!(plugin, ?unknown, "a plugin uses extensions this host does not have");
        }
        self.next_instance += 1;
        self.watch.name(InstanceId(self.next_instance), opened.description.title());
        self.copies.push(Copy {
            id: InstanceId(self.next_instance),
            entry: opened.entry,
            description: Arc::new(opened.description),
            path,
            generation: opened.generation,
            instance: None,
            retired: false,
            wake_pending: Arc::default(),
        });
        Ok(self.copies.len() - 1)
    }

    fn check_free(&self, new: &Description) -> Result<(), LoadError> {
        for copy in self.copies.iter().filter(|copy| !copy.retired) {
            let old = &copy.description;
            if let Some(what) = common(new, old) {
                return Err(LoadError::Taken {
                    plugin: new.title(),
                    file: new.file.clone(),
                    what,
                    other: old.title(),
                    other_file: old.file.clone(),
                });
            }
        }
        Ok(())
    }

    fn refuse(&mut self, error: LoadError) {
        tracing::error!(%error, "a plugin is not taken");
        self.refused.push(error);
    }

    #[expect(unsafe_code, reason = "calls the functions of a plugin's entry")]
    fn make_instance(&mut self, at: usize, shared: &Rc<Shared>) -> Result<(), LoadError> {
        let copy = &mut self.copies[at];
        let (id, pending, on_wake) = (copy.id, Arc::clone(&copy.wake_pending), Arc::clone(&self.on_wake));
        let notify = Arc::new(move || {
            // One is enough until it is delivered.
            if !pending.swap(true, Ordering::AcqRel) {
                on_wake(id);
            }
        });
        let ear = Ear::new(id, Arc::clone(&copy.description), Rc::clone(shared));
        // SAFETY: the entry was checked; what its library does is trusted since it was opened.
        copy.instance = unsafe { Instance::create(copy.entry, ear, notify) };
        match copy.instance {
            Some(_) => Ok(()),
            None => Err(LoadError::NotCreated { name: copy.description.title() }),
        }
    }

    fn start_flow(&mut self, now: Now, instance: InstanceId, kind: u32, payload: &str) -> FlowId {
        // Without instances there is nobody to offer to; `for_kind` and `for_service` name none then.
        let Some(shared) = self.shared.clone() else { return FlowId(0) };
        let flow = shared.book.borrow_mut().start_flow(instance);
        let event = Event { flow: flow.0, ..happening(kind, payload) };
        if !self.deliver(now, instance, event, Some(flow)) {
            let message = "there is no such plugin".to_owned();
            shared.book.borrow_mut().end_flow(instance, flow, FlowEnd::Failed, message);
        }
        flow
    }

    /// Enters an instance; false if there is none. `flow` is what the event is about: if the plugin breaks, that
    /// flow is over.
    fn deliver(&mut self, now: Now, instance: InstanceId, mut event: Event, flow: Option<FlowId>) -> bool {
        let Some(shared) = &self.shared else { return false };
        let Some(copy) = self.copies.iter_mut().find(|copy| copy.id == instance) else { return false };
        let Some(running) = &mut copy.instance else { return false };
        shared.now.set(now);
        shared.event.set(event.kind);
        event.now_ns = u64::try_from(now.instant.since_start().as_nanos()).unwrap_or(u64::MAX);
        event.now_utc_ms = now.utc.0;
        self.watch.enter(instance, event.kind, flow.unwrap_or(FlowId(0)).0);
        let status = running.deliver(&event);
        self.watch.leave();
        if status < status::TAKEN {
            let what = match status {
                status::PANICKED => "it panicked".to_owned(),
                other => format!("it returned {other}"),
            };
            if let Some(flow) = flow {
                let message = format!("on {}: {what}", event_name(event.kind));
                shared.book.borrow_mut().end_flow(instance, flow, FlowEnd::Panicked, message);
            }
            running.receiver().broke(&what);
        }
        // The one event that must not leave its flow open.
        if event.kind == event::CANCEL_FLOW
            && let Some(flow) = flow
        {
            let message = "the plugin did not end it when told to".to_owned();
            let left_open = shared.book.borrow_mut().end_flow(instance, flow, FlowEnd::Cancelled, message);
            if left_open == status::TAKEN {
                running.receiver().broke("it left the flow open");
            }
        }
        true
    }

    /// Ends copies that were replaced and have nothing left to do. Their images stay mapped.
    fn bury_retired(&mut self) {
        let Some(shared) = &self.shared else { return };
        let is_done = |copy: &Copy| copy.retired && shared.book.borrow().count_of(copy.id) == 0;
        self.copies.retain(|copy| !is_done(copy));
    }
}

/// An event without time; the rest is filled in.
fn happening(kind: u32, payload: &str) -> Event {
    Event {
        size: size_of::<Event>() as u32,
        kind,
        token: 0,
        flow: 0,
        code: 0,
        sip_status: 0,
        now_ns: 0,
        now_utc_ms: 0,
        payload: Str::of(payload),
    }
}

/// What two plugins both declare, if anything.
fn common(new: &Description, old: &Description) -> Option<String> {
    if new.name == old.name {
        return Some(format!("name {}", new.name));
    }
    let both = |what: &str, new: &[String], old: &[String]| {
        new.iter().find(|name| old.contains(name)).map(|name| format!("{what} {name}"))
    };
    let sections = |of: &Description| of.manifest.sections.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    both("kind", &new.manifest.kinds, &old.manifest.kinds)
        .or_else(|| both("service", &new.manifest.services, &old.manifest.services))
        .or_else(|| both("prefix", &new.manifest.prefixes, &old.manifest.prefixes))
        .or_else(|| both("policy section", &sections(new), &sections(old)))
}

/// Our own types always have a JSON form; null if ever one has not.
fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
