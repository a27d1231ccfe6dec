//! The fake host's C functions and what they remember.
#![expect(unsafe_code, reason = "the functions a plugin calls through the C ABI")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::abi::{
    ABI_VERSION, CallV1, HostTable, LogV1, MetricsV1, OrbitV1, PolicyV1, Sink, Str, TimerV1, flow_end, status,
};
use crate::ext::policy::Decision;
use crate::manifest::Manifest;
use crate::testing::command::{Command, FlowEnd, Joining, Playing, Recorded};
use crate::testing::settings;
use crate::types::{FlowId, LegId, Token, Utc};

/// What the fake host knows. Its address is the `context` of every function.
pub(crate) struct State {
    pub(crate) manifest: Manifest,
    /// Everything, in order.
    pub(crate) transcript: RefCell<Vec<Recorded>>,
    /// Commands the test has not looked at yet, waits left out.
    pub(crate) pending: RefCell<VecDeque<Recorded>>,
    /// What waits for an answer, in the order in which it was asked.
    pub(crate) open: RefCell<Vec<Recorded>>,
    pub(crate) withdrawn: RefCell<BTreeSet<u64>>,
    pub(crate) flows: RefCell<BTreeSet<u64>>,
    pub(crate) wakes: AtomicUsize,
    pub(crate) log: RefCell<Vec<(u32, String)>>,
    pub(crate) counters: RefCell<BTreeMap<String, u64>>,
    /// Settings by pool and section; pool `""` for all.
    pub(crate) settings: RefCell<BTreeMap<(String, String), Value>>,
    pub(crate) decisions: RefCell<BTreeMap<String, Decision>>,
    /// What the hooks were asked: hook and arguments.
    pub(crate) asked: RefCell<Vec<(String, Value)>>,
    pub(crate) utc: Cell<Utc>,
}

impl State {
    pub(crate) fn new(manifest: Manifest, utc: Utc) -> Self {
        Self {
            manifest,
            transcript: RefCell::default(),
            pending: RefCell::default(),
            open: RefCell::default(),
            withdrawn: RefCell::default(),
            flows: RefCell::default(),
            wakes: AtomicUsize::new(0),
            log: RefCell::default(),
            counters: RefCell::default(),
            settings: RefCell::default(),
            decisions: RefCell::default(),
            asked: RefCell::default(),
            utc: Cell::new(utc),
        }
    }

    pub(crate) fn record(&self, flow: u64, token: Option<u64>, command: Command) -> i32 {
        if !self.flows.borrow().contains(&flow) && !matches!(command, Command::Withdraw(_)) {
            return status::INVALID;
        }
        let recorded = Recorded { flow: FlowId(flow), token: token.map(Token), command };
        self.transcript.borrow_mut().push(recorded.clone());
        if token.is_some() {
            self.open.borrow_mut().push(recorded.clone());
        }
        if !recorded.command.is_wait() {
            self.pending.borrow_mut().push_back(recorded);
        }
        status::TAKEN
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

/// The state behind a context.
///
/// # Safety
/// `context` must be the pointer the fake host gave to the plugin.
unsafe fn state<'a>(context: *mut c_void) -> &'a State {
    // SAFETY: see above; the state lives as long as the instance.
    unsafe { &*context.cast::<State>() }
}

/// Reads JSON lent by the plugin and records the command made of it.
///
/// # Safety
/// As for [`state`] and [`Str::read`].
unsafe fn record<T: DeserializeOwned>(
    context: *mut c_void,
    flow: u64,
    token: Option<u64>,
    json: Str,
    command: impl FnOnce(T) -> Command,
) -> i32 {
    // SAFETY: passed on from the caller.
    let (state, json) = unsafe { (state(context), json.read()) };
    match json.and_then(|json| serde_json::from_str(json).ok()) {
        Some(value) => state.record(flow, token, command(value)),
        None => status::INVALID,
    }
}

/// Reads a number of an orbit lent by the plugin and records the command made of it.
///
/// # Safety
/// As for [`state`] and [`Str::read`].
unsafe fn record_text(
    context: *mut c_void,
    flow: u64,
    token: Option<u64>,
    text: Str,
    command: impl FnOnce(String) -> Command,
) -> i32 {
    // SAFETY: passed on from the caller.
    let (state, text) = unsafe { (state(context), text.read()) };
    match text {
        Some(text) => state.record(flow, token, command(text.to_owned())),
        None => status::INVALID,
    }
}

/// Defines a C function whose body is unsafe as a whole: it reads what the plugin lends for the call.
macro_rules! host_functions {
    ($( fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block )*) => {
        $(
            unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? {
                // SAFETY: the plugin passes the context it was given, and texts that live for the call.
                unsafe { $body }
            }
        )*
    };
}

host_functions! {
    fn extension(context: *mut c_void, id: Str) -> *const c_void {
        let Some(id) = id.read() else { return std::ptr::null() };
        if !state(context).manifest.extensions.iter().any(|declared| declared == id) {
            return std::ptr::null();
        }
        match id {
            CallV1::ID => (&raw const CALL).cast(),
            OrbitV1::ID => (&raw const ORBIT).cast(),
            PolicyV1::ID => (&raw const POLICY).cast(),
            TimerV1::ID => (&raw const TIMER).cast(),
            LogV1::ID => (&raw const LOG).cast(),
            MetricsV1::ID => (&raw const METRICS).cast(),
            _ => std::ptr::null(),
        }
    }

    fn withdraw(context: *mut c_void, token: u64) {
        let state = state(context);
        state.withdrawn.borrow_mut().insert(token);
        state.open.borrow_mut().retain(|open| open.token != Some(Token(token)));
        state.record(0, None, Command::Withdraw(Token(token)));
    }

    fn end_flow(context: *mut c_void, flow: u64, how: u32, message: Str) {
        let state = state(context);
        let how = match how {
            flow_end::DONE => FlowEnd::Done,
            flow_end::FAILED => FlowEnd::Failed,
            flow_end::RESTED => FlowEnd::Rested,
            flow_end::CANCELLED => FlowEnd::Cancelled,
            _ => FlowEnd::Panicked,
        };
        let message = message.read().unwrap_or("(not UTF-8)").to_owned();
        state.record(flow, None, Command::End(how, message));
        state.flows.borrow_mut().remove(&flow);
        state.open.borrow_mut().retain(|open| open.flow != FlowId(flow));
    }

    fn wake(context: *mut c_void) {
        state(context).wakes.fetch_add(1, Ordering::SeqCst);
    }

    fn play(context: *mut c_void, flow: u64, token: u64, leg: u64, json: Str) -> i32 {
        record(context, flow, Some(token), json, |play| Command::Play(Playing { leg: LegId(leg), play }))
    }
    fn join(context: *mut c_void, flow: u64, token: u64, a: u64, b: u64) -> i32 {
        let joining = Joining { a: LegId(a), b: LegId(b) };
        state(context).record(flow, Some(token), Command::Join(joining))
    }
    fn ring(context: *mut c_void, flow: u64, token: u64, json: Str) -> i32 {
        record(context, flow, Some(token), json, Command::Ring)
    }
    fn release(context: *mut c_void, flow: u64, leg: u64, json: Str) -> i32 {
        record(context, flow, None, json, |release| Command::Release(LegId(leg), release))
    }
    fn watch(context: *mut c_void, flow: u64, token: u64, leg: u64) -> i32 {
        state(context).record(flow, Some(token), Command::Watch(LegId(leg)))
    }
    fn accept(context: *mut c_void, flow: u64, json: Str) -> i32 {
        record(context, flow, None, json, Command::Accept)
    }
    fn refuse(context: *mut c_void, flow: u64, json: Str) -> i32 {
        record(context, flow, None, json, Command::Refuse)
    }

    fn reserve(context: *mut c_void, flow: u64, token: u64, json: Str) -> i32 {
        record(context, flow, Some(token), json, Command::Reserve)
    }
    fn commit(context: *mut c_void, flow: u64, token: u64, json: Str) -> i32 {
        record(context, flow, Some(token), json, Command::Commit)
    }
    fn save(context: *mut c_void, flow: u64, json: Str) -> i32 {
        record(context, flow, None, json, Command::Save)
    }
    fn claim(context: *mut c_void, flow: u64, token: u64, json: Str) -> i32 {
        record(context, flow, Some(token), json, Command::Claim)
    }
    fn claimed(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32 {
        record_text(context, flow, Some(token), number, Command::Claimed)
    }
    fn settled(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32 {
        record_text(context, flow, Some(token), number, Command::Settled)
    }
    fn free(context: *mut c_void, flow: u64, number: Str, json: Str) -> i32 {
        let Some(number) = number.read() else { return status::INVALID };
        record(context, flow, None, json, |outcome| Command::Free(number.to_owned(), outcome))
    }
    fn unclaim(context: *mut c_void, flow: u64, number: Str) -> i32 {
        record_text(context, flow, None, number, Command::Unclaim)
    }

    fn policy_settings(context: *mut c_void, pool: Str, section: Str, sink: Sink, user: *mut c_void) -> i32 {
        let (Some(pool), Some(section)) = (pool.read(), section.read()) else { return status::INVALID };
        let Some(value) = state(context).settings_of(pool, section) else { return status::INVALID };
        sink(user, Str::of(&value.to_string()));
        status::TAKEN
    }
    fn decide(context: *mut c_void, pool: Str, hook: Str, args: Str, sink: Sink, user: *mut c_void) -> i32 {
        let (Some(pool), Some(hook), Some(args)) = (pool.read(), hook.read(), args.read()) else {
            return status::INVALID;
        };
        let Ok(args) = serde_json::from_str(args) else { return status::INVALID };
        let state = state(context);
        let section = hook.split('.').next().unwrap_or_default();
        let Some(mut settings) = state.settings_of(pool, section) else { return status::INVALID };
        state.asked.borrow_mut().push((hook.to_owned(), args));
        let mut decision = state.decisions.borrow().get(hook).cloned().unwrap_or_default();
        if !decision.settings.is_null() {
            settings::merge(&mut settings, &decision.settings);
        }
        decision.settings = settings;
        let Ok(text) = serde_json::to_string(&decision) else { return status::INVALID };
        sink(user, Str::of(&text));
        status::TAKEN
    }

    fn at(context: *mut c_void, flow: u64, token: u64, utc_ms: u64) -> i32 {
        state(context).record(flow, Some(token), Command::At(Utc(utc_ms)))
    }

    fn log(context: *mut c_void, _flow: u64, level: u32, text: Str) {
        let text = text.read().unwrap_or("(not UTF-8)").to_owned();
        state(context).log.borrow_mut().push((level, text));
    }

    fn count(context: *mut c_void, name: Str, by: u64) {
        if let Some(name) = name.read() {
            *state(context).counters.borrow_mut().entry(name.to_owned()).or_default() += by;
        }
    }
}

pub(crate) static HOST: HostTable = HostTable {
    size: size_of::<HostTable>() as u32,
    abi_version: ABI_VERSION,
    extension,
    withdraw,
    flow_end: end_flow,
    wake,
};
static CALL: CallV1 = CallV1 {
    size: size_of::<CallV1>() as u32,
    reserved: 0,
    play,
    join,
    ring,
    release,
    watch,
    accept,
    refuse,
};
static ORBIT: OrbitV1 = OrbitV1 {
    size: size_of::<OrbitV1>() as u32,
    reserved: 0,
    reserve,
    commit,
    save,
    claim,
    claimed,
    settled,
    free,
    unclaim,
};
static POLICY: PolicyV1 =
    PolicyV1 { size: size_of::<PolicyV1>() as u32, reserved: 0, settings: policy_settings, decide };
static TIMER: TimerV1 = TimerV1 { size: size_of::<TimerV1>() as u32, reserved: 0, at };
static LOG: LogV1 = LogV1 { size: size_of::<LogV1>() as u32, reserved: 0, log };
static METRICS: MetricsV1 = MetricsV1 { size: size_of::<MetricsV1>() as u32, reserved: 0, count };

/// A plugin instance behind its entry's functions.
pub(crate) struct Instance {
    entry: &'static crate::abi::PluginEntry,
    pointer: *mut c_void,
}

impl Instance {
    /// Makes one. `state` must stay where it is until this is dropped.
    ///
    /// # Safety
    /// `state` must outlive the instance.
    pub(crate) unsafe fn create(
        entry: &'static crate::abi::PluginEntry,
        state: *const State,
    ) -> Option<Self> {
        // SAFETY: the table is a static, and the caller vouches for the state.
        let pointer = unsafe { (entry.create)(&raw const HOST, state.cast_mut().cast()) };
        (!pointer.is_null()).then_some(Self { entry, pointer })
    }

    pub(crate) fn deliver(&self, event: &crate::abi::Event) -> i32 {
        // SAFETY: made by the same entry, not destroyed before this is dropped.
        unsafe { (self.entry.event)(self.pointer, event) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: once, and nothing of the instance runs: its functions only run below `deliver`.
        unsafe { (self.entry.destroy)(self.pointer) }
    }
}

/// The texts of an entry: name and manifest.
pub(crate) fn texts(entry: &'static crate::abi::PluginEntry) -> (&'static str, &'static str) {
    // SAFETY: an entry's texts are static.
    unsafe { (entry.name.read().unwrap_or_default(), entry.manifest.read().unwrap_or_default()) }
}
