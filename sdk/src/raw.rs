//! The host's tables behind safe functions. The only place of the SDK that calls the host.
#![expect(unsafe_code, reason = "calls C functions of the host through its tables")]

use std::ffi::c_void;

use crate::abi::{
    ABI_VERSION, CallV1, HostTable, LogV1, MetricsV1, OrbitV1, PolicyV1, RingingV1, Sink, Str, TimerV1,
    status,
};

/// The host, as one instance sees it. Valid until the instance is destroyed, and never outlives it: the
/// executor that owns it is dropped by `destroy`.
pub(crate) struct Host {
    table: *const HostTable,
    context: *mut c_void,
    pub(crate) call: Option<Table<CallV1>>,
    pub(crate) orbit: Option<Table<OrbitV1>>,
    pub(crate) ringing: Option<Table<RingingV1>>,
    pub(crate) policy: Option<Table<PolicyV1>>,
    pub(crate) timer: Option<Table<TimerV1>>,
    log: Option<Table<LogV1>>,
    metrics: Option<Table<MetricsV1>>,
}

/// An extension's table, fetched once and known to hold every function this SDK calls.
pub(crate) struct Table<T>(*const T);

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Table<T> {}

impl<T> Table<T> {
    /// Calls one function of the table.
    fn get(&self) -> &T {
        // SAFETY: the host keeps a table valid until `destroy` returns, and its size was checked when fetched.
        unsafe { &*self.0 }
    }
}

impl Host {
    /// Reads the host's table; none if it is older than this SDK.
    ///
    /// # Safety
    /// `table` and `context` must be what the host gave to `create`.
    pub(crate) unsafe fn new(table: *const HostTable, context: *mut c_void) -> Option<Self> {
        if table.is_null() {
            return None;
        }
        // SAFETY: the host's table is readable at least as far as its first two fields.
        let (size, abi_version) = unsafe { ((*table).size, (*table).abi_version) };
        if abi_version != ABI_VERSION || (size as usize) < size_of::<HostTable>() {
            return None;
        }
        // SAFETY: large enough, and valid until `destroy` returns.
        let extension = unsafe { (*table).extension };
        let find = |id: &str| {
            // SAFETY: `id` is borrowed for the call only.
            unsafe { extension(context, Str::of(id)) }
        };
        Some(Self {
            table,
            context,
            call: checked(find(CallV1::ID)),
            orbit: checked(find(OrbitV1::ID)),
            ringing: checked(find(RingingV1::ID)),
            policy: checked(find(PolicyV1::ID)),
            timer: checked(find(TimerV1::ID)),
            log: checked(find(LogV1::ID)),
            metrics: checked(find(MetricsV1::ID)),
        })
    }

    fn table(&self) -> &HostTable {
        // SAFETY: checked in `new`, valid until `destroy` returns.
        unsafe { &*self.table }
    }

    pub(crate) fn withdraw(&self, token: u64) {
        // SAFETY: plain numbers; the context is the one that came with the table.
        unsafe { (self.table().withdraw)(self.context, token) }
    }

    pub(crate) fn flow_end(&self, flow: u64, how: u32, message: &str) {
        // SAFETY: `message` is borrowed for the call only.
        unsafe { (self.table().flow_end)(self.context, flow, how, Str::of(message)) }
    }

    /// What another thread needs to ask for a `WAKE` event.
    pub(crate) fn waker(&self) -> WakeHost {
        WakeHost { wake: self.table().wake, context: self.context }
    }

    pub(crate) fn log(&self, flow: u64, level: u32, text: &str) {
        if let Some(log) = &self.log {
            // SAFETY: `text` is borrowed for the call only.
            unsafe { (log.get().log)(self.context, flow, level, Str::of(text)) }
        }
    }

    pub(crate) fn count(&self, name: &str, by: u64) {
        if let Some(metrics) = &self.metrics {
            // SAFETY: `name` is borrowed for the call only.
            unsafe { (metrics.get().count)(self.context, Str::of(name), by) }
        }
    }

    pub(crate) fn settings(&self, pool: &str, section: &str) -> Result<String, i32> {
        let Some(policy) = &self.policy else { return Err(status::NOT_GRANTED) };
        receive(|sink, user| {
            // SAFETY: texts are borrowed for the call only, and `sink` gets back its own `user`.
            unsafe { (policy.get().settings)(self.context, Str::of(pool), Str::of(section), sink, user) }
        })
    }

    pub(crate) fn decide(&self, pool: &str, hook: &str, args: &str) -> Result<String, i32> {
        let Some(policy) = &self.policy else { return Err(status::NOT_GRANTED) };
        receive(|sink, user| {
            let (pool, hook, args) = (Str::of(pool), Str::of(hook), Str::of(args));
            // SAFETY: as above.
            unsafe { (policy.get().decide)(self.context, pool, hook, args, sink, user) }
        })
    }
}

/// A number, an id or borrowed text as an argument of a host function.
macro_rules! argument {
    (text $value:expr) => {
        Str::of($value)
    };
    (number $value:expr) => {
        $value
    };
}

/// Safe functions named like those of the table; a missing table is [`status::NOT_GRANTED`].
macro_rules! forward {
    ($extension:ident: $( $name:ident($($arg:ident: $shape:ident),*) );* $(;)?) => {
        impl Host {
            $(
                pub(crate) fn $name(&self, flow: u64, $($arg: forward!(@type $shape)),*) -> i32 {
                    let Some(table) = &self.$extension else { return status::NOT_GRANTED };
                    // SAFETY: numbers, and texts borrowed for the call only.
                    unsafe { (table.get().$name)(self.context, flow, $(argument!($shape $arg)),*) }
                }
            )*
        }
    };
    (@type number) => { u64 };
    (@type text) => { &str };
}

forward! { call:
    play(token: number, leg: number, play: text);
    join(token: number, a: number, b: number);
    ring(token: number, ring: text);
    release(leg: number, release: text);
    watch(token: number, leg: number);
    accept(accept: text);
    refuse(refusal: text);
}
forward! { orbit:
    reserve(token: number, reserve: text);
    commit(token: number, commit: text);
    save(commit: text);
    claim(token: number, claim: text);
    claimed(token: number, number: text);
    settled(token: number, number: text);
    free(number: text, outcome: text);
    unclaim(number: text);
}
forward! { ringing:
    list(token: number, query: text);
    take(token: number, take: text);
    over(token: number, leg: number);
    tell(tell: text);
}
forward! { timer:
    at(token: number, utc_ms: number);
}

/// Asks the host for a `WAKE` event, from any thread.
#[derive(Clone, Copy)]
pub(crate) struct WakeHost {
    wake: unsafe extern "C" fn(*mut c_void),
    context: *mut c_void,
}

// SAFETY: `wake` is the one function the host allows from any thread; the executor's lock, held around each
// call and by `destroy`, keeps it from being called once the context is gone.
unsafe impl Send for WakeHost {}
// SAFETY: as above.
unsafe impl Sync for WakeHost {}

impl WakeHost {
    pub(crate) fn wake(self) {
        // SAFETY: see above.
        unsafe { (self.wake)(self.context) }
    }
}

/// A table that exists and is as large as this SDK knows it.
fn checked<T>(table: *const c_void) -> Option<Table<T>> {
    if table.is_null() {
        return None;
    }
    // SAFETY: each extension's table begins with its size.
    let size = unsafe { *table.cast::<u32>() };
    (size as usize >= size_of::<T>()).then_some(Table(table.cast()))
}

/// Calls a function that answers through a sink, and returns what it said.
fn receive(call: impl FnOnce(Sink, *mut c_void) -> i32) -> Result<String, i32> {
    unsafe extern "C" fn sink(user: *mut c_void, text: Str) {
        // SAFETY: `user` is the option below, which outlives the call; the text is borrowed for the call.
        unsafe {
            if let Some(text) = text.read() {
                *user.cast::<Option<String>>() = Some(text.to_owned());
            }
        }
    }
    let mut answer: Option<String> = None;
    let status = call(sink, (&raw mut answer).cast());
    match answer {
        Some(text) if status == status::TAKEN => Ok(text),
        None if status == status::TAKEN => Err(status::INVALID),
        _ => Err(status),
    }
}
