//! What the fake host knows of its plugin, and what it says to it at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use serde_json::Value;

use crate::abi::status;
use crate::ext::policy::Decision;
use crate::host::{Command, Extension, Receiver};
use crate::manifest::Manifest;
use crate::testing::command::Recorded;
use crate::testing::settings;
use crate::types::{FlowId, Token};

pub(crate) struct State {
    pub(crate) manifest: Manifest,
    /// Everything, in order.
    pub(crate) transcript: RefCell<Vec<Recorded>>,
    /// Commands the test has not looked at yet, waits left out.
    pub(crate) pending: RefCell<VecDeque<Recorded>>,
    /// What waits for an answer, in the order in which it was asked.
    pub(crate) open: RefCell<Vec<Recorded>>,
    pub(crate) withdrawn: RefCell<BTreeSet<Token>>,
    pub(crate) flows: RefCell<BTreeSet<FlowId>>,
    pub(crate) log: RefCell<Vec<(u32, String)>>,
    pub(crate) counters: RefCell<BTreeMap<String, u64>>,
    /// Settings by pool and section; pool `""` for all.
    pub(crate) settings: RefCell<BTreeMap<(String, String), Value>>,
    pub(crate) decisions: RefCell<BTreeMap<String, Decision>>,
    /// What the hooks were asked: hook and arguments.
    pub(crate) asked: RefCell<Vec<(String, Value)>>,
}

impl State {
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self {
            manifest,
            transcript: RefCell::default(),
            pending: RefCell::default(),
            open: RefCell::default(),
            withdrawn: RefCell::default(),
            flows: RefCell::default(),
            log: RefCell::default(),
            counters: RefCell::default(),
            settings: RefCell::default(),
            decisions: RefCell::default(),
            asked: RefCell::default(),
        }
    }

    fn settings_of(&self, pool: &str, section: &str) -> Option<Value> {
        let declared = self.manifest.sections.iter().find(|known| known.name == section)?;
        let set = self.settings.borrow();
        let mut value = settings::defaults(&declared.settings);
        for pool in ["", pool] {
            if let Some(changes) = set.get(&(pool.to_owned(), section.to_owned())) {
                settings::merge(&mut value, changes);
            }
        }
        Some(value)
    }
}

/// The receiver of the plugin's words; the test holds the other half.
pub(crate) struct Ear(pub(crate) Rc<State>);

impl Receiver for Ear {
    fn granted(&self, extension: Extension) -> bool {
        self.0.manifest.extensions.iter().any(|declared| declared == extension.id())
    }

    fn command(&self, flow: FlowId, token: Option<Token>, command: Command) -> i32 {
        let state = &self.0;
        if let Command::Withdraw(token) = command {
            state.withdrawn.borrow_mut().insert(token);
            state.open.borrow_mut().retain(|open| open.token != Some(token));
        } else if !state.flows.borrow().contains(&flow) {
            return status::INVALID;
        }
        let recorded = Recorded { flow, token, command };
        state.transcript.borrow_mut().push(recorded.clone());
        if token.is_some() {
            state.open.borrow_mut().push(recorded.clone());
        }
        if let Command::End(..) = recorded.command {
            state.flows.borrow_mut().remove(&flow);
            state.open.borrow_mut().retain(|open| open.flow != flow);
        }
        if !recorded.is_wait() {
            state.pending.borrow_mut().push_back(recorded);
        }
        status::TAKEN
    }

    fn settings(&self, pool: &str, section: &str, answer: &mut dyn FnMut(&str)) -> i32 {
        let Some(value) = self.0.settings_of(pool, section) else { return status::NOT_GRANTED };
        answer(&value.to_string());
        status::TAKEN
    }

    fn decide(&self, pool: &str, hook: &str, args: &str, answer: &mut dyn FnMut(&str)) -> i32 {
        let Some((section, name)) = hook.split_once('.') else { return status::NOT_GRANTED };
        let declared = self.0.manifest.sections.iter().find(|declared| declared.name == section);
        let has_hook = declared.is_some_and(|section| section.hooks.iter().any(|hook| hook.name == name));
        let Some(mut settings) = self.0.settings_of(pool, section).filter(|_| has_hook) else {
            return status::NOT_GRANTED;
        };
        let Ok(args) = serde_json::from_str(args) else { return status::INVALID };
        self.0.asked.borrow_mut().push((hook.to_owned(), args));
        let mut decision = self.0.decisions.borrow().get(hook).cloned().unwrap_or_default();
        if !decision.settings.is_null() {
            settings::merge(&mut settings, &decision.settings);
        }
        decision.settings = settings;
        match serde_json::to_string(&decision) {
            Ok(text) => answer(&text),
            Err(_) => return status::INVALID,
        }
        status::TAKEN
    }

    fn log(&self, _flow: FlowId, level: u32, text: &str) {
        self.0.log.borrow_mut().push((level, text.to_owned()));
    }

    fn count(&self, name: &str, by: u64) {
        *self.0.counters.borrow_mut().entry(name.to_owned()).or_default() += by;
    }
}
