//! The C ABI between the host and a plugin library: `#[repr(C)]` types and one entry point.
//!
//! A library exports one symbol, `switchyard_plugin`, a static [`PluginEntry`]. No Rust type, panic or
//! allocator crosses: text is borrowed for the length of one call ([`Str`]), whoever allocates frees. Tables
//! only grow at their end; `size` says how much of one is there. Unless marked otherwise a function is called
//! on the engine's thread only, never re-entered while another function of the same instance runs, and must
//! not block. Plugin authors in Rust never meet this module: they implement [`crate::Plugin`].

use std::ffi::c_void;

/// First field of every entry: `SWYARD01` in ASCII, read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"SWYARD01");

/// The version of this ABI. A host refuses a plugin of another version.
pub const ABI_VERSION: u32 = 1;

/// The name of the exported entry.
pub const ENTRY_SYMBOL: &str = "switchyard_plugin";

/// Borrowed UTF-8 text, valid for the length of the call that carries it. Not NUL-terminated.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    /// First byte; may be null if `len` is 0.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

#[expect(unsafe_code, reason = "text from the other side is a pointer and a length")]
impl Str {
    /// Lends `text` to the other side.
    pub const fn of(text: &str) -> Self {
        Self { ptr: text.as_ptr(), len: text.len() }
    }

    /// Reads what the other side lent; none if it is not UTF-8.
    ///
    /// # Safety
    /// `ptr` must point to `len` readable bytes that stay unchanged for `'a`, unless `len` is 0.
    pub unsafe fn read<'a>(self) -> Option<&'a str> {
        if self.len == 0 {
            return Some("");
        }
        if self.ptr.is_null() || self.len > isize::MAX as usize {
            return None;
        }
        // SAFETY: not null, and the caller vouches for the bytes.
        std::str::from_utf8(unsafe { std::slice::from_raw_parts(self.ptr, self.len) }).ok()
    }
}

/// What a library exports as `switchyard_plugin`.
#[repr(C)]
pub struct PluginEntry {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`] the library was built for.
    pub abi_version: u32,
    /// `sizeof` this struct when the library was built.
    pub size: u32,
    /// `call-park`: lower-case letters, digits and hyphens.
    pub name: Str,
    /// Semantic version: `0.1.0`.
    pub version: Str,
    /// The manifest as JSON ([`crate::manifest::Manifest`]).
    pub manifest: Str,
    /// 1 if the library unwinds on panic (or never panics), 0 if it aborts; the host refuses the latter.
    pub unwinds: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Makes an instance. `host` and `context` stay valid until `destroy` returns. Null: could not be made.
    pub create: unsafe extern "C" fn(host: *const HostTable, context: *mut c_void) -> *mut c_void,
    /// Ends an instance. Never called while another function of it runs.
    pub destroy: unsafe extern "C" fn(instance: *mut c_void),
    /// Delivers an event; `event` is borrowed for the call. Returns [`status::TAKEN`], or a negative number
    /// when the plugin broke ([`status::PANICKED`]).
    pub event: unsafe extern "C" fn(instance: *mut c_void, event: *const Event) -> i32,
}

// SAFETY: an entry is a static of function pointers and pointers to static text; nothing in it is written.
#[expect(unsafe_code, reason = "a static entry holds raw pointers to static text")]
unsafe impl Sync for PluginEntry {}

/// What happens, from the host to the plugin.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// One of [`event`].
    pub kind: u32,
    /// For `ANSWER`: the token the plugin chose. Otherwise 0.
    pub token: u64,
    /// For `OFFER` and `RESUME`: the new flow. For `CANCEL_FLOW`: the flow. Otherwise 0.
    pub flow: u64,
    /// For `ANSWER`: 0 for success, else the reason code (350xx).
    pub code: u32,
    /// For `ANSWER` that is a refusal: the SIP status behind it, or 0.
    pub sip_status: u32,
    /// Monotonic time in nanoseconds since the host started.
    pub now_ns: u64,
    /// Wall-clock time in milliseconds since 1970 (UTC).
    pub now_utc_ms: u64,
    /// JSON: the offer, the record, the answer's value, or a refusal's text as a JSON string. May be empty.
    pub payload: Str,
}

/// Kinds of [`Event`].
pub mod event {
    /// A call is offered; starts flow `flow`. Payload: [`crate::types::Offer`].
    pub const OFFER: u32 = 1;
    /// A command came to its end. Payload: the command's answer.
    pub const ANSWER: u32 = 2;
    /// A parked call is handed over; starts flow `flow`. Payload: [`crate::ext::orbit::Resume`].
    pub const RESUME: u32 = 3;
    /// Come to rest: end every flow that rests; a newer copy of the plugin takes their records over.
    pub const DRAIN: u32 = 4;
    /// `wake` was called, from whatever thread.
    pub const WAKE: u32 = 5;
    /// End flow `flow` now; its `flow_end` must follow before this event returns.
    pub const CANCEL_FLOW: u32 = 6;
}

/// What functions return.
pub mod status {
    /// Taken: an answer will follow if the command has a token.
    pub const TAKEN: i32 = 0;
    /// The arguments cannot be read, or a handle is unknown. No answer follows.
    pub const INVALID: i32 = -1;
    /// The manifest does not declare this extension, section or hook. No answer follows.
    pub const NOT_GRANTED: i32 = -2;
    /// A plugin function panicked; the panic stayed inside.
    pub const PANICKED: i32 = -3;
}

/// Levels of [`LogV1::log`].
pub mod log_level {
    /// Something broke.
    pub const ERROR: u32 = 1;
    /// Something is odd.
    pub const WARNING: u32 = 2;
    /// Something happened.
    pub const INFO: u32 = 3;
    /// A detail.
    pub const DEBUG: u32 = 4;
}

/// How a flow ended.
pub mod flow_end {
    /// It returned.
    pub const DONE: u32 = 0;
    /// It returned an error; the message says which.
    pub const FAILED: u32 = 1;
    /// It panicked.
    pub const PANICKED: u32 = 2;
    /// It rests and was ended by `DRAIN`: a newer copy goes on from its record.
    pub const RESTED: u32 = 3;
    /// It was ended by `CANCEL_FLOW`.
    pub const CANCELLED: u32 = 4;
}

/// What the host gives each instance.
#[repr(C)]
pub struct HostTable {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// The host's [`ABI_VERSION`].
    pub abi_version: u32,
    /// Finds an extension's table by id, or null. The pointer stays valid until `destroy` returns.
    pub extension: unsafe extern "C" fn(context: *mut c_void, id: Str) -> *const c_void,
    /// Nobody waits for `token` any more. Commands with an effect run to their end all the same, except
    /// `ring`, which stops ringing. Unknown tokens are ignored.
    pub withdraw: unsafe extern "C" fn(context: *mut c_void, token: u64),
    /// The flow has ended ([`flow_end`]); what it held is released. `message` is for the log.
    pub flow_end: unsafe extern "C" fn(context: *mut c_void, flow: u64, how: u32, message: Str),
    /// Asks for a `WAKE` event. The only function that may be called from any thread.
    pub wake: unsafe extern "C" fn(context: *mut c_void),
}

/// A callback through which the host returns text; called at most once, before the function returns.
pub type Sink = unsafe extern "C" fn(user: *mut c_void, text: Str);

/// Extension `switchyard.call/1`. Arguments named `*_json` are the types of [`crate::ext::call`].
#[repr(C)]
pub struct CallV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Takes a leg's media to the host; see [`crate::ext::call::Play`]. Answered.
    pub play:
        unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, leg: u64, play_json: Str) -> i32,
    /// Joins two legs, whatever state each is in (the four cases of RFC 3264 exchange). Answered when both have
    /// confirmed; after a refusal both are as they were.
    pub join: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, a: u64, b: u64) -> i32,
    /// Rings someone for a waiting leg; see [`crate::ext::call::Ring`]. Answered.
    pub ring: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, ring_json: Str) -> i32,
    /// Ends a leg; see [`crate::ext::call::Release`]. Not answered.
    pub release: unsafe extern "C" fn(context: *mut c_void, flow: u64, leg: u64, release_json: Str) -> i32,
    /// Waits for a leg to end; see [`crate::ext::call::Ended`]. Answered.
    pub watch: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, leg: u64) -> i32,
    /// Tells whoever made the offer that it worked; see [`crate::ext::call::Accept`]. Not answered.
    pub accept: unsafe extern "C" fn(context: *mut c_void, flow: u64, accept_json: Str) -> i32,
    /// Refuses the offer; `refusal_json` is a [`crate::types::Refusal`]. The caller stays where they are.
    pub refuse: unsafe extern "C" fn(context: *mut c_void, flow: u64, refusal_json: Str) -> i32,
}

/// Extension `switchyard.orbit/1`. Arguments named `*_json` are the types of [`crate::ext::orbit`].
#[repr(C)]
pub struct OrbitV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Asks for a free orbit; see [`crate::ext::orbit::Reserve`]. Answered.
    pub reserve: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, reserve_json: Str) -> i32,
    /// Stores the park; see [`crate::ext::orbit::Commit`]. Answered.
    pub commit: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, commit_json: Str) -> i32,
    /// Replaces terms and state of a parked call (same shape as `commit`), written behind. Not answered.
    pub save: unsafe extern "C" fn(context: *mut c_void, flow: u64, commit_json: Str) -> i32,
    /// Asks for the call in an orbit; see [`crate::ext::orbit::Claim`]. Answered.
    pub claim: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, claim_json: Str) -> i32,
    /// Waits for somebody to claim `number`; see [`crate::ext::orbit::ClaimedBy`]. Answered.
    pub claimed: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32,
    /// Waits until no claim on `number` is under way; see [`crate::ext::orbit::Settled`]. Answered.
    pub settled: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32,
    /// Takes the call out of the orbit; `outcome_json` is a [`crate::ext::orbit::Outcome`]. Not answered.
    pub free: unsafe extern "C" fn(context: *mut c_void, flow: u64, number: Str, outcome_json: Str) -> i32,
    /// Gives a claim back: the call is parked again with the time it had left. Not answered.
    pub unclaim: unsafe extern "C" fn(context: *mut c_void, flow: u64, number: Str) -> i32,
}

/// Extension `switchyard.ringing/1`. Arguments named `*_json` are the types of [`crate::ext::ringing`].
#[repr(C)]
pub struct RingingV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Says which calls could be taken; see [`crate::ext::ringing::Query`]. Answered.
    pub list: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, query_json: Str) -> i32,
    /// Takes a call; see [`crate::ext::ringing::Take`]. Answered when caller and picker are joined; after a refusal
    /// the call rings on.
    pub take: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, take_json: Str) -> i32,
    /// Waits until the call of this leg does not ring any more; see [`crate::ext::ringing::Over`]. Answered.
    pub over: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, leg: u64) -> i32,
    /// Tells the members of a group something; see [`crate::ext::ringing::Tell`]. Not answered.
    pub tell: unsafe extern "C" fn(context: *mut c_void, flow: u64, tell_json: Str) -> i32,
}

/// Extension `switchyard.policy/1`. Both functions answer at once through `sink`.
#[repr(C)]
pub struct PolicyV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// The settings of one of the plugin's own sections in the policy of `pool`, as a JSON object.
    pub settings: unsafe extern "C" fn(
        context: *mut c_void,
        pool: Str,
        section: Str,
        sink: Sink,
        user: *mut c_void,
    ) -> i32,
    /// Asks a hook of the plugin's own sections (`call_park.allow`) about `args_json`; the sink gets a
    /// [`crate::ext::policy::Decision`]. A hook that is absent, fails or overruns its budget gives the documented default.
    pub decide: unsafe extern "C" fn(
        context: *mut c_void,
        pool: Str,
        hook: Str,
        args_json: Str,
        sink: Sink,
        user: *mut c_void,
    ) -> i32,
}

/// Extension `switchyard.timer/1`.
#[repr(C)]
pub struct TimerV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Answers `token` when the wall clock shows `utc_ms`, at once if it has passed.
    pub at: unsafe extern "C" fn(context: *mut c_void, flow: u64, token: u64, utc_ms: u64) -> i32,
}

/// Extension `switchyard.log/1`.
#[repr(C)]
pub struct LogV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Writes one line to the host's log. `level`: one of [`log_level`]. `flow` may be 0.
    pub log: unsafe extern "C" fn(context: *mut c_void, flow: u64, level: u32, text: Str),
}

/// Extension `switchyard.metrics/1`.
#[repr(C)]
pub struct MetricsV1 {
    /// `sizeof` this struct in the host.
    pub size: u32,
    /// Reserved, 0.
    pub reserved: u32,
    /// Adds to the counter `switchyard_plugin_NAME_total{plugin="…"}`.
    pub count: unsafe extern "C" fn(context: *mut c_void, name: Str, by: u64),
}

impl CallV1 {
    /// The id of the extension whose table is [`CallV1`].
    pub const ID: &'static str = "switchyard.call/1";
}

impl OrbitV1 {
    /// The id of the extension whose table is [`OrbitV1`].
    pub const ID: &'static str = "switchyard.orbit/1";
}

impl RingingV1 {
    /// The id of the extension whose table is [`RingingV1`].
    pub const ID: &'static str = "switchyard.ringing/1";
}

impl PolicyV1 {
    /// The id of the extension whose table is [`PolicyV1`].
    pub const ID: &'static str = "switchyard.policy/1";
}

impl TimerV1 {
    /// The id of the extension whose table is [`TimerV1`].
    pub const ID: &'static str = "switchyard.timer/1";
}

impl LogV1 {
    /// The id of the extension whose table is [`LogV1`].
    pub const ID: &'static str = "switchyard.log/1";
}

impl MetricsV1 {
    /// The id of the extension whose table is [`MetricsV1`].
    pub const ID: &'static str = "switchyard.metrics/1";
}
