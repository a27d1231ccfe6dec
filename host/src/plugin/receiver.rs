//! What an instance says, and what the host answers at once. Nothing here acts on a call: commands are queued.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use switchyard_sdk::abi::{log_level, status};
use switchyard_sdk::ext::policy::Decision;
use switchyard_sdk::host::{Command as Asked, Extension, Receiver};
use switchyard_sdk::manifest::Section;
use switchyard_sdk::types::{FlowId, Token};

use super::book::Book;
use super::command::{FlowEnd, InstanceId};
use super::entry::Description;
use super::watchdog::event_name;
use crate::policy::Policies;
use crate::time::Now;

/// How many counters a plugin may have: each is a time series in whatever collects them.
const COUNTERS_MAX: usize = 64;

/// Where plugins get settings and decisions from.
pub trait PolicySource {
    /// The settings of a section in the policy of a pool, as a JSON object.
    fn settings(&self, pool: &str, section: &str) -> Option<&str>;
    /// Asks a hook. Never fails.
    fn decide(&mut self, now: Now, pool: &str, hook: &str, args: &Value) -> Decision;
}

impl PolicySource for Policies {
    fn settings(&self, pool: &str, section: &str) -> Option<&str> {
        Policies::settings(self, pool, section)
    }

    fn decide(&mut self, now: Now, pool: &str, hook: &str, args: &Value) -> Decision {
        Policies::decide(self, now, pool, hook, args)
    }
}

/// What the instances of one engine share.
pub(super) struct Shared {
    pub(super) book: RefCell<Book>,
    pub(super) policies: Rc<RefCell<dyn PolicySource>>,
    pub(super) now: Cell<Now>,
    /// The kind of the event that is being handled.
    pub(super) event: Cell<u32>,
}

/// The host's ear for one instance.
pub(super) struct Ear {
    pub(super) instance: InstanceId,
    pub(super) description: Arc<Description>,
    pub(super) shared: Rc<Shared>,
    /// How often it panicked or returned nonsense.
    pub(super) failures: Cell<u64>,
    granted: [bool; Extension::ALL.len()],
    counters: RefCell<BTreeSet<String>>,
}

impl Ear {
    pub(super) fn new(instance: InstanceId, description: Arc<Description>, shared: Rc<Shared>) -> Self {
        let declares = |id: &str| description.manifest.extensions.iter().any(|declared| declared == id);
        let granted = Extension::ALL.map(|extension| declares(extension.id()));
        let (failures, counters) = Default::default();
        Self { instance, description, shared, failures, granted, counters }
    }

    /// The plugin broke: logged and counted.
    pub(super) fn broke(&self, what: &str) {
        self.failures.set(self.failures.get() + 1);
        let (plugin, event) = (self.description.title(), event_name(self.shared.event.get()));
        tracing::error!(plugin, event, "a plugin broke: {what}");
        let name = self.description.name.clone();
        metrics::counter!("switchyard_plugin_failures_total", "plugin" => name).increment(1);
    }

    fn section(&self, name: &str) -> Option<&Section> {
        self.description.manifest.sections.iter().find(|declared| declared.name == name)
    }

    fn has_hook(&self, hook: &str) -> bool {
        let Some((section, hook)) = hook.split_once('.') else { return false };
        self.section(section)
            .is_some_and(|section| section.hooks.iter().any(|declared| declared.name == hook))
    }
}

impl Receiver for Ear {
    fn granted(&self, extension: Extension) -> bool {
        self.granted[extension as usize]
    }

    fn command(&self, flow: FlowId, token: Option<Token>, command: Asked) -> i32 {
        let panicked = match &command {
            Asked::End(FlowEnd::Panicked, message) => Some(format!("flow {} panicked: {message}", flow.0)),
            _ => None,
        };
        let status = self.shared.book.borrow_mut().take(self.instance, flow, token, command);
        if let Some(panicked) = panicked.filter(|_| status == status::TAKEN) {
            self.broke(&panicked);
        }
        status
    }

    fn settings(&self, pool: &str, section: &str, answer: &mut dyn FnMut(&str)) -> i32 {
        if self.section(section).is_none() {
            return status::NOT_GRANTED;
        }
        let policies = self.shared.policies.borrow();
        let Some(settings) = policies.settings(pool, section) else { return status::INVALID };
        answer(settings);
        status::TAKEN
    }

    fn decide(&self, pool: &str, hook: &str, args: &str, answer: &mut dyn FnMut(&str)) -> i32 {
        if !self.has_hook(hook) {
            return status::NOT_GRANTED;
        }
        let Ok(args) = serde_json::from_str(args) else { return status::INVALID };
        let decision = self.shared.policies.borrow_mut().decide(self.shared.now.get(), pool, hook, &args);
        let Ok(text) = serde_json::to_string(&decision) else { return status::INVALID };
        answer(&text);
        status::TAKEN
    }

    fn log(&self, flow: FlowId, level: u32, text: &str) {
        let (plugin, flow) = (self.description.name.as_str(), flow.0);
        match level {
            log_level::ERROR => tracing::error!(target: "plugin", plugin, flow, "{text}"),
            log_level::WARNING => tracing::warn!(target: "plugin", plugin, flow, "{text}"),
            log_level::INFO => tracing::info!(target: "plugin", plugin, flow, "{text}"),
            _ => tracing::debug!(target: "plugin", plugin, flow, "{text}"),
        }
    }

    fn count(&self, name: &str, by: u64) {
        let mut counters = self.counters.borrow_mut();
        if !counters.contains(name) {
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            let is_name = (1..=64).contains(&name.len()) && name.chars().all(legal);
            if !is_name || counters.len() >= COUNTERS_MAX {
                let plugin = self.description.name.as_str();
                tracing::warn!(target: "plugin", plugin, "counter {name:?} is left out: not a name, or too many");
                return;
            }
            counters.insert(name.to_owned());
        }
        let name = format!("switchyard_plugin_{name}_total");
        metrics::counter!(name, "plugin" => self.description.name.clone()).increment(by);
    }
}
