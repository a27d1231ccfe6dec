//! The host's half of the ABI: a plugin instance as a value, and what it asks for as typed commands.
//!
//! Shared by the real host and by [`FakeHost`](crate::testing::FakeHost), so that both read a plugin's words
//! alike. Plugin authors don't need it.
#![expect(unsafe_code, reason = "calls a plugin's C functions, and owns what they point to")]

mod command;
mod tables;

use std::ffi::c_void;
use std::sync::Arc;

pub use command::{Command, FlowEnd, Joining, Playing};

use crate::abi::{CallV1, Event, LogV1, MetricsV1, OrbitV1, PluginEntry, PolicyV1, RingingV1, TimerV1};
use crate::types::{FlowId, Token};

/// An extension this ABI knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extension {
    /// [`CallV1`].
    Call,
    /// [`OrbitV1`].
    Orbit,
    /// [`RingingV1`].
    Ringing,
    /// [`PolicyV1`].
    Policy,
    /// [`TimerV1`].
    Timer,
    /// [`LogV1`].
    Log,
    /// [`MetricsV1`].
    Metrics,
}

impl Extension {
    /// All of them.
    pub const ALL: [Extension; 7] =
        [Self::Call, Self::Orbit, Self::Ringing, Self::Policy, Self::Timer, Self::Log, Self::Metrics];

    /// `switchyard.call/1`.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Call => CallV1::ID,
            Self::Orbit => OrbitV1::ID,
            Self::Ringing => RingingV1::ID,
            Self::Policy => PolicyV1::ID,
            Self::Timer => TimerV1::ID,
            Self::Log => LogV1::ID,
            Self::Metrics => MetricsV1::ID,
        }
    }

    /// The extension with this id, if the host offers it.
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|extension| extension.id() == id)
    }
}

/// What a host does with an instance's words. Called from within [`Instance::deliver`], on the same thread.
///
/// Return values are those of [`crate::abi::status`]. A panic is answered as `INVALID`.
pub trait Receiver: 'static {
    /// Whether the instance may use an extension: its manifest declares it.
    fn granted(&self, extension: Extension) -> bool;
    /// A flow asks for something. `flow` is 0 for [`Command::Withdraw`].
    fn command(&self, flow: FlowId, token: Option<Token>, command: Command) -> i32;
    /// The settings of a section, to be said through `answer`, once.
    fn settings(&self, pool: &str, section: &str, answer: &mut dyn FnMut(&str)) -> i32;
    /// A hook's decision about `args` (JSON), to be said through `answer`, once.
    fn decide(&self, pool: &str, hook: &str, args: &str, answer: &mut dyn FnMut(&str)) -> i32;
    /// A line for the log; `level` is one of [`crate::abi::log_level`], `flow` may be 0.
    fn log(&self, flow: FlowId, level: u32, text: &str);
    /// A counter rises.
    fn count(&self, name: &str, by: u64);
}

/// Tells the host that an instance wants a `WAKE`; called from any thread.
pub type Notify = Arc<dyn Fn() + Send + Sync>;

/// What the `context` of an instance points to.
struct Seat<R> {
    /// The only field other threads touch.
    notify: Notify,
    receiver: R,
}

/// An instance of a plugin. Destroyed when dropped.
pub struct Instance<R: Receiver> {
    entry: &'static PluginEntry,
    pointer: *mut c_void,
    /// From `Box::into_raw`: the plugin holds this pointer too, so no `Box` may claim it as its own meanwhile.
    seat: *mut Seat<R>,
}

impl<R: Receiver> Instance<R> {
    /// Makes an instance; none if the plugin could not.
    ///
    /// # Safety
    /// The entry's functions must keep the ABI's promises, as the SDK's do: a C plugin is trusted as the host's
    /// own code is.
    pub unsafe fn create(entry: &'static PluginEntry, receiver: R, notify: Notify) -> Option<Self> {
        let seat = Box::into_raw(Box::new(Seat { notify, receiver }));
        // SAFETY: the tables are static, and the seat lives until after `destroy`.
        let pointer = unsafe { (entry.create)(tables::host_table::<R>(), seat.cast()) };
        let instance = Self { entry, pointer, seat };
        (!pointer.is_null()).then_some(instance)
    }

    /// Delivers an event; what the plugin asks for meanwhile goes to the receiver.
    ///
    /// Takes `&mut self`: no function of an instance is entered while another runs.
    pub fn deliver(&mut self, event: &Event) -> i32 {
        // SAFETY: made by the same entry and not destroyed; the event is lent for the call.
        unsafe { (self.entry.event)(self.pointer, event) }
    }

    /// What receives the plugin's words.
    pub fn receiver(&self) -> &R {
        // SAFETY: freed only by `drop`; other threads touch another field.
        unsafe { &(*self.seat).receiver }
    }
}

impl<R: Receiver> Drop for Instance<R> {
    fn drop(&mut self) {
        // SAFETY: once, while no function of the instance runs; the seat is freed after the plugin let go of it.
        unsafe {
            if !self.pointer.is_null() {
                (self.entry.destroy)(self.pointer);
            }
            drop(Box::from_raw(self.seat));
        }
    }
}

/// The texts of an entry: name, version, manifest; empty where they are not UTF-8.
///
/// The entry must have been found to be one: right magic, ABI version and size.
pub fn texts(entry: &'static PluginEntry) -> (&'static str, &'static str, &'static str) {
    // SAFETY: the ABI says that an entry's texts are static.
    unsafe {
        (
            entry.name.read().unwrap_or_default(),
            entry.version.read().unwrap_or_default(),
            entry.manifest.read().unwrap_or_default(),
        )
    }
}
