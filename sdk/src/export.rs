//! The exported functions: from C to a [`Plugin`], each behind a panic barrier.
#![expect(unsafe_code, reason = "these functions are called from C")]

use std::ffi::c_void;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::Plugin;
use crate::abi::{
    ABI_VERSION, Event, HostTable, MAGIC, PluginEntry, Str, event, flow_end, log_level, status,
};
use crate::answer::CommandError;
use crate::executor::Core;
use crate::ext::orbit::Resume;
use crate::panic::Note;
use crate::raw::Host;
use crate::types::Code;

/// The entry of a plugin that is linked, not loaded: for tests and simulation. Exports nothing, and leaves the
/// panic hook alone.
pub const fn entry<P: Plugin>() -> &'static PluginEntry {
    Linked::<P>::ENTRY
}

/// The entry that [`declare_plugin!`](crate::declare_plugin) exports. `unwinds` is the library's panic strategy.
#[doc(hidden)]
pub const fn library_entry<P: Plugin>(unwinds: bool) -> PluginEntry {
    build::<P>(create::<P, true>, unwinds)
}

struct Linked<P>(P);

impl<P: Plugin> Linked<P> {
    const ENTRY: &'static PluginEntry = &build::<P>(create::<P, false>, cfg!(panic = "unwind"));
}

const fn build<P: Plugin>(
    create: unsafe extern "C" fn(*const HostTable, *mut c_void) -> *mut c_void,
    unwinds: bool,
) -> PluginEntry {
    PluginEntry {
        magic: MAGIC,
        abi_version: ABI_VERSION,
        size: size_of::<PluginEntry>() as u32,
        name: Str::of(P::NAME),
        version: Str::of(P::VERSION),
        manifest: Str::of(P::MANIFEST),
        unwinds: unwinds as u32,
        reserved: 0,
        create,
        destroy: destroy::<P>,
        event: deliver::<P>,
    }
}

/// Exports a plugin: its library then has the one symbol the host looks for.
///
/// `declare_plugin!(CallPark);` for a type that implements [`Plugin`]. Use it once per crate, with `crate-type = ["cdylib", "rlib"]`. Nothing is exported in the crate's own unit
/// tests, which use [`FakeHost`](crate::testing::FakeHost).
#[macro_export]
macro_rules! declare_plugin {
    ($plugin:ty) => {
        #[cfg(not(test))]
        const _: () = {
            #[allow(unsafe_code, reason = "the symbol the host looks for")]
            #[unsafe(export_name = "switchyard_plugin")]
            static ENTRY: $crate::abi::PluginEntry =
                $crate::export::library_entry::<$plugin>(cfg!(panic = "unwind"));
        };
    };
}

struct Instance<P> {
    core: Rc<Core>,
    plugin: Rc<P>,
    note: Option<Arc<Note>>,
}

/// Runs `body` behind a barrier, with the library's panic hook listening; a panic is logged here.
fn guarded<T>(core: &Core, note: Option<&Note>, body: impl FnOnce() -> T) -> Option<T> {
    if let Some(note) = note {
        note.enter();
    }
    let result = catch_unwind(AssertUnwindSafe(body));
    if let Some(note) = note {
        note.leave();
    }
    result.map_err(|payload| core.host.log(0, log_level::ERROR, &core.panic_text(payload))).ok()
}

unsafe extern "C" fn create<P: Plugin, const LIBRARY: bool>(
    table: *const HostTable,
    context: *mut c_void,
) -> *mut c_void {
    let made = catch_unwind(|| {
        // SAFETY: the host hands its own table and context.
        let host = unsafe { Host::new(table, context) }?;
        let note = LIBRARY.then(Note::install);
        let core = Core::new(host, note.clone());
        let plugin = guarded(&core, note.as_deref(), P::default)?;
        Some(Box::new(Instance { core, plugin: Rc::new(plugin), note }))
    });
    match made {
        Ok(Some(instance)) => Box::into_raw(instance).cast(),
        Ok(None) => std::ptr::null_mut(),
        Err(payload) => {
            forget(payload);
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    // SAFETY: made by `create`, and the host destroys once.
    let instance = unsafe { Box::from_raw(instance.cast::<Instance<P>>()) };
    let _ = guarded(&instance.core, instance.note.as_deref(), || instance.core.close());
    if let Err(payload) = catch_unwind(AssertUnwindSafe(move || drop(instance))) {
        forget(payload);
    }
}

unsafe extern "C" fn deliver<P: Plugin>(instance: *mut c_void, event: *const Event) -> i32 {
    if instance.is_null() || event.is_null() {
        return status::INVALID;
    }
    // SAFETY: made by `create`, not destroyed yet; the host enters no instance twice at once.
    let instance = unsafe { &*instance.cast::<Instance<P>>() };
    // SAFETY: the host lends the event for this call; its first field says how much of it there is.
    let event = unsafe {
        if ((*event).size as usize) < size_of::<Event>() {
            return status::INVALID;
        }
        *event
    };
    guarded(&instance.core, instance.note.as_deref(), || instance.handle(&event)).unwrap_or(status::PANICKED)
}

impl<P: Plugin> Instance<P> {
    fn handle(&self, event: &Event) -> i32 {
        // SAFETY: the payload is lent for this call, in which the text does not leave this function.
        let Some(payload) = (unsafe { event.payload.read() }) else { return status::INVALID };
        let core = &self.core;
        core.set_now(event.now_ns, event.now_utc_ms);
        core.enter();
        match event.kind {
            event::ANSWER => {
                let result = match event.code {
                    0 => Ok(payload),
                    code => Err(refused(code, event.sip_status, payload)),
                };
                core.answer(event.token, result);
            }
            event::OFFER => {
                let plugin = Rc::clone(&self.plugin);
                self.start(event.flow, payload, |cx, offer| P::offer(plugin, cx, offer));
            }
            event::RESUME => {
                let plugin = Rc::clone(&self.plugin);
                self.start(event.flow, payload, |cx, resume: Resume| {
                    cx.remember_stored(&resume);
                    P::resume(plugin, cx, resume)
                });
            }
            event::DRAIN => core.drain(),
            event::CANCEL_FLOW => core.cancel(event.flow),
            // WAKE, and whatever a newer host may say: see what can go on.
            _ => {}
        }
        core.run();
        status::TAKEN
    }

    fn start<T, F>(&self, flow: u64, payload: &str, make: impl FnOnce(crate::Context, T) -> F)
    where
        T: DeserializeOwned,
        F: Future<Output = Result<(), P::Error>> + 'static,
    {
        match serde_json::from_str(payload) {
            Ok(value) => self.core.start(flow, |cx| make(cx, value)),
            Err(error) => {
                let text = format!("cannot read what the host offers: {error}");
                self.core.host.flow_end(flow, flow_end::FAILED, &text);
            }
        }
    }
}

/// A refusal as it crosses: code, SIP status, and the text as a JSON string.
fn refused(code: u32, sip_status: u32, payload: &str) -> CommandError {
    CommandError {
        code: Code(u16::try_from(code).unwrap_or(Code::GENERAL.0)),
        text: serde_json::from_str(payload).unwrap_or_else(|_| payload.to_owned()),
        sip_status: u16::try_from(sip_status).unwrap_or(0),
    }
}
