//! The functions a plugin calls: each reads its arguments and hands them to the [`Receiver`].

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;

use super::{Command, Extension, FlowEnd, Joining, Playing, Receiver, Seat};
use crate::abi::{
    ABI_VERSION, CallV1, HostTable, LogV1, MetricsV1, OrbitV1, PolicyV1, RingingV1, Sink, Str, TimerV1,
    status,
};
use crate::types::{FlowId, LegId, Token, Utc};

/// The table an instance gets whose context is a [`Seat`] with an `R`.
pub(super) const fn host_table<R: Receiver>() -> &'static HostTable {
    Tables::<R>::HOST
}

struct Tables<R>(R);

impl<R: Receiver> Tables<R> {
    const HOST: &'static HostTable = &HostTable {
        size: size_of::<HostTable>() as u32,
        abi_version: ABI_VERSION,
        extension: extension::<R>,
        withdraw: withdraw::<R>,
        flow_end: flow_end::<R>,
        wake: wake::<R>,
    };
    const CALL: &'static CallV1 = &CallV1 {
        size: size_of::<CallV1>() as u32,
        reserved: 0,
        play: play::<R>,
        join: join::<R>,
        ring: ring::<R>,
        release: release::<R>,
        watch: watch::<R>,
        accept: accept::<R>,
        refuse: refuse::<R>,
    };
    const ORBIT: &'static OrbitV1 = &OrbitV1 {
        size: size_of::<OrbitV1>() as u32,
        reserved: 0,
        reserve: reserve::<R>,
        commit: commit::<R>,
        save: save::<R>,
        claim: claim::<R>,
        claimed: claimed::<R>,
        settled: settled::<R>,
        free: free::<R>,
        unclaim: unclaim::<R>,
    };
    const RINGING: &'static RingingV1 = &RingingV1 {
        size: size_of::<RingingV1>() as u32,
        reserved: 0,
        list: list::<R>,
        take: take_call::<R>,
        over: over::<R>,
        tell: tell::<R>,
    };
    const POLICY: &'static PolicyV1 = &PolicyV1 {
        size: size_of::<PolicyV1>() as u32,
        reserved: 0,
        settings: settings::<R>,
        decide: decide::<R>,
    };
    const TIMER: &'static TimerV1 = &TimerV1 { size: size_of::<TimerV1>() as u32, reserved: 0, at: at::<R> };
    const LOG: &'static LogV1 = &LogV1 { size: size_of::<LogV1>() as u32, reserved: 0, log: log::<R> };
    const METRICS: &'static MetricsV1 =
        &MetricsV1 { size: size_of::<MetricsV1>() as u32, reserved: 0, count: count::<R> };
}

/// Runs `body` with the receiver behind a context. A panic of the host's own must not unwind into C.
///
/// # Safety
/// `context` must be the seat this table was handed out with, on the engine's thread.
unsafe fn with<R: Receiver, T>(context: *mut c_void, otherwise: T, body: impl FnOnce(&R) -> T) -> T {
    // SAFETY: the seat outlives the instance; other threads touch its other field only.
    let receiver = unsafe { &(*context.cast::<Seat<R>>()).receiver };
    catch_unwind(AssertUnwindSafe(|| body(receiver))).unwrap_or(otherwise)
}

/// Takes a command of `extension`.
///
/// # Safety
/// As [`with`].
unsafe fn take<R: Receiver>(
    context: *mut c_void,
    extension: Extension,
    flow: u64,
    token: Option<u64>,
    command: Option<Command>,
) -> i32 {
    // SAFETY: passed on.
    unsafe {
        with::<R, _>(context, status::INVALID, |receiver| {
            if !receiver.granted(extension) {
                return status::NOT_GRANTED;
            }
            match command {
                Some(command) => receiver.command(FlowId(flow), token.map(Token), command),
                None => status::INVALID,
            }
        })
    }
}

/// Reads JSON that is lent for the call.
///
/// # Safety
/// As [`Str::read`].
unsafe fn json<T: DeserializeOwned>(text: Str) -> Option<T> {
    // SAFETY: passed on.
    unsafe { text.read() }.and_then(|text| serde_json::from_str(text).ok())
}

/// Reads text that is lent for the call.
///
/// # Safety
/// As [`Str::read`].
unsafe fn text(text: Str) -> Option<String> {
    // SAFETY: passed on.
    unsafe { text.read() }.map(str::to_owned)
}

/// Defines C functions whose bodies read what the plugin lends for the call.
macro_rules! host_functions {
    ($( fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block )*) => {
        $(
            unsafe extern "C" fn $name<R: Receiver>($($arg: $type),*) $(-> $result)? {
                // SAFETY: the plugin passes the context it was given, and texts that live for the call.
                unsafe { $body }
            }
        )*
    };
}

host_functions! {
    fn extension(context: *mut c_void, id: Str) -> *const c_void {
        let Some(extension) = id.read().and_then(Extension::find) else { return std::ptr::null() };
        if !with::<R, _>(context, false, |receiver| receiver.granted(extension)) {
            return std::ptr::null();
        }
        match extension {
            Extension::Call => (&raw const *Tables::<R>::CALL).cast(),
            Extension::Orbit => (&raw const *Tables::<R>::ORBIT).cast(),
            Extension::Ringing => (&raw const *Tables::<R>::RINGING).cast(),
            Extension::Policy => (&raw const *Tables::<R>::POLICY).cast(),
            Extension::Timer => (&raw const *Tables::<R>::TIMER).cast(),
            Extension::Log => (&raw const *Tables::<R>::LOG).cast(),
            Extension::Metrics => (&raw const *Tables::<R>::METRICS).cast(),
        }
    }

    fn withdraw(context: *mut c_void, token: u64) {
        with::<R, _>(context, (), |receiver| {
            receiver.command(FlowId(0), None, Command::Withdraw(Token(token)));
        });
    }

    fn flow_end(context: *mut c_void, flow: u64, how: u32, message: Str) {
        let message = text(message).unwrap_or_default();
        with::<R, _>(context, (), |receiver| {
            receiver.command(FlowId(flow), None, Command::End(FlowEnd::of(how), message));
        });
    }

    fn wake(context: *mut c_void) {
        // From any thread: touches no other field of the seat.
        let notify = &(*context.cast::<Seat<R>>()).notify;
        // A notification is a send on a channel; should it ever panic, the wake-up is lost, not the process.
        let _ = catch_unwind(AssertUnwindSafe(|| notify()));
    }

    fn play(context: *mut c_void, flow: u64, token: u64, leg: u64, play: Str) -> i32 {
        let command = json(play).map(|play| Command::Play(Playing { leg: LegId(leg), play }));
        take::<R>(context, Extension::Call, flow, Some(token), command)
    }
    fn join(context: *mut c_void, flow: u64, token: u64, a: u64, b: u64) -> i32 {
        let command = Command::Join(Joining { a: LegId(a), b: LegId(b) });
        take::<R>(context, Extension::Call, flow, Some(token), Some(command))
    }
    fn ring(context: *mut c_void, flow: u64, token: u64, ring: Str) -> i32 {
        take::<R>(context, Extension::Call, flow, Some(token), json(ring).map(Command::Ring))
    }
    fn release(context: *mut c_void, flow: u64, leg: u64, release: Str) -> i32 {
        let command = json(release).map(|release| Command::Release(LegId(leg), release));
        take::<R>(context, Extension::Call, flow, None, command)
    }
    fn watch(context: *mut c_void, flow: u64, token: u64, leg: u64) -> i32 {
        take::<R>(context, Extension::Call, flow, Some(token), Some(Command::Watch(LegId(leg))))
    }
    fn accept(context: *mut c_void, flow: u64, accept: Str) -> i32 {
        take::<R>(context, Extension::Call, flow, None, json(accept).map(Command::Accept))
    }
    fn refuse(context: *mut c_void, flow: u64, refusal: Str) -> i32 {
        take::<R>(context, Extension::Call, flow, None, json(refusal).map(Command::Refuse))
    }

    fn reserve(context: *mut c_void, flow: u64, token: u64, reserve: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, Some(token), json(reserve).map(Command::Reserve))
    }
    fn commit(context: *mut c_void, flow: u64, token: u64, commit: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, Some(token), json(commit).map(Command::Commit))
    }
    fn save(context: *mut c_void, flow: u64, commit: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, None, json(commit).map(Command::Save))
    }
    fn claim(context: *mut c_void, flow: u64, token: u64, claim: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, Some(token), json(claim).map(Command::Claim))
    }
    fn claimed(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, Some(token), text(number).map(Command::Claimed))
    }
    fn settled(context: *mut c_void, flow: u64, token: u64, number: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, Some(token), text(number).map(Command::Settled))
    }
    fn free(context: *mut c_void, flow: u64, number: Str, outcome: Str) -> i32 {
        let command = text(number).zip(json(outcome)).map(|(number, outcome)| Command::Free(number, outcome));
        take::<R>(context, Extension::Orbit, flow, None, command)
    }
    fn unclaim(context: *mut c_void, flow: u64, number: Str) -> i32 {
        take::<R>(context, Extension::Orbit, flow, None, text(number).map(Command::Unclaim))
    }

    fn list(context: *mut c_void, flow: u64, token: u64, query: Str) -> i32 {
        take::<R>(context, Extension::Ringing, flow, Some(token), json(query).map(Command::List))
    }
    fn take_call(context: *mut c_void, flow: u64, token: u64, call: Str) -> i32 {
        take::<R>(context, Extension::Ringing, flow, Some(token), json(call).map(Command::Take))
    }
    fn over(context: *mut c_void, flow: u64, token: u64, leg: u64) -> i32 {
        take::<R>(context, Extension::Ringing, flow, Some(token), Some(Command::Over(LegId(leg))))
    }
    fn tell(context: *mut c_void, flow: u64, words: Str) -> i32 {
        take::<R>(context, Extension::Ringing, flow, None, json(words).map(Command::Tell))
    }

    fn at(context: *mut c_void, flow: u64, token: u64, utc_ms: u64) -> i32 {
        take::<R>(context, Extension::Timer, flow, Some(token), Some(Command::At(Utc(utc_ms))))
    }

    fn settings(context: *mut c_void, pool: Str, section: Str, sink: Sink, user: *mut c_void) -> i32 {
        let (Some(pool), Some(section)) = (pool.read(), section.read()) else { return status::INVALID };
        with::<R, _>(context, status::INVALID, |receiver| {
            if !receiver.granted(Extension::Policy) {
                return status::NOT_GRANTED;
            }
            receiver.settings(pool, section, &mut |text| sink(user, Str::of(text)))
        })
    }
    fn decide(context: *mut c_void, pool: Str, hook: Str, args: Str, sink: Sink, user: *mut c_void) -> i32 {
        let (Some(pool), Some(hook), Some(args)) = (pool.read(), hook.read(), args.read()) else {
            return status::INVALID;
        };
        with::<R, _>(context, status::INVALID, |receiver| {
            if !receiver.granted(Extension::Policy) {
                return status::NOT_GRANTED;
            }
            receiver.decide(pool, hook, args, &mut |text| sink(user, Str::of(text)))
        })
    }

    fn log(context: *mut c_void, flow: u64, level: u32, text: Str) {
        let text = text.read().unwrap_or("(text that is not UTF-8)");
        with::<R, _>(context, (), |receiver| {
            if receiver.granted(Extension::Log) {
                receiver.log(FlowId(flow), level, text);
            }
        });
    }

    fn count(context: *mut c_void, name: Str, by: u64) {
        let Some(name) = name.read() else { return };
        with::<R, _>(context, (), |receiver| {
            if receiver.granted(Extension::Metrics) {
                receiver.count(name, by);
            }
        });
    }
}
