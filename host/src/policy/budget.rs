//! How much one call into Lua may cost: instructions, bytes and, where a clock is given, time.
//!
//! A count hook charges the instructions. Once the budget is gone the hook re-arms itself to every single
//! instruction, so that a `pcall` around an endless loop catches one error and meets the next at once. Functions of
//! ours whose cost grows with their input charge themselves. In simulation there is no clock: the same script then
//! stops at the same instruction in every run.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mlua::debug::Debug;
use mlua::{HookTriggers, Lua, VmState};

/// Reads a monotonic clock; only differences count.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What one decision, and the loading of one pool's files, may cost.
#[derive(Clone)]
pub struct Limits {
    /// Lua instructions of one decision. A hook of a dozen lines takes some hundred.
    pub instructions: u32,
    /// Bytes one decision may allocate beyond what the state holds already.
    pub bytes: usize,
    /// Lua instructions of loading one pool's policy, its tests included.
    pub load_instructions: u32,
    /// Bytes of the whole state. A state that fills up (hooks that remember without end) is made afresh.
    pub state_bytes: usize,
    /// Clock and longest time of one decision, generous because a busy machine may stop the thread meanwhile;
    /// loading gets twenty times as much. None in simulation.
    pub time: Option<(Clock, Duration)>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Some two milliseconds of the engine's thread: longer than any sensible hook, shorter than a
            // retransmission.
            instructions: 100_000,
            bytes: 1024 * 1024,
            load_instructions: 5_000_000,
            state_bytes: 64 * 1024 * 1024,
            time: None,
        }
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("instructions", &self.instructions)
            .field("bytes", &self.bytes)
            .field("time", &self.time.as_ref().map(|(_, limit)| *limit))
            .finish_non_exhaustive()
    }
}

/// Which limit was hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    Instructions,
    Time,
}

impl Limit {
    /// For a message: `stopped: too many instructions`.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Limit::Instructions => "too many instructions",
            Limit::Time => "took too long",
        }
    }
}

/// The limit that was hit and, if the script itself was at work, its file and line.
pub(crate) type Hit = (Limit, Option<(String, u32)>);

/// Instructions between two looks at the budget. Also how far a script overshoots its time: an instruction can
/// copy a string of [`Limits::bytes`], a tenth of a millisecond.
const STEP: u32 = 200;

/// The budget of the call that runs now.
pub(crate) struct Budget {
    limits: RefCell<Limits>,
    left: Cell<i64>,
    /// Set at the first look at the clock, so that short calls never look.
    deadline: Cell<Option<Duration>>,
    time: Cell<Option<Duration>>,
    hit: Cell<Option<Limit>>,
    /// Where the script was when it was stopped.
    place: RefCell<Option<(String, u32)>>,
    depth: Cell<u32>,
}

/// How deep Lua may call the host that calls Lua. Lua itself would go on to 200, which takes more stack than a
/// thread has; no file that people can follow comes near this.
const DEPTH_MAX: u32 = 16;

/// One call from the host into Lua, inside one from Lua into the host.
pub(crate) struct Nested<'a>(&'a Cell<u32>);

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Rc<Budget> {
        Rc::new(Budget {
            limits: RefCell::new(limits),
            left: Cell::new(0),
            deadline: Cell::new(None),
            time: Cell::new(None),
            hit: Cell::new(None),
            place: RefCell::new(None),
            depth: Cell::new(0),
        })
    }

    /// Other limits, from the next call on.
    pub(crate) fn set_limits(&self, limits: Limits) {
        *self.limits.borrow_mut() = limits;
    }

    /// Installs the hook. Once per state; there are no coroutines, so the main thread is all there is.
    pub(crate) fn attach(self: &Rc<Self>, lua: &Lua) -> mlua::Result<()> {
        self.arm(lua, STEP)
    }

    /// Starts the budget of a decision. Called from inside Lua when the arguments are on its stack: until then
    /// the state has no limit, because a limited state guards every string it is given, at fifty nanoseconds each.
    pub(crate) fn begin_call(&self, lua: &Lua) -> mlua::Result<()> {
        let Limits { instructions, bytes, state_bytes, time, .. } = &*self.limits.borrow();
        self.start(*instructions, time.as_ref().map(|(_, limit)| *limit));
        lua.set_memory_limit((lua.used_memory() + bytes).min(*state_bytes))?;
        Ok(())
    }

    /// Starts the budget of loading.
    pub(crate) fn begin_load(&self, lua: &Lua) -> mlua::Result<()> {
        let Limits { load_instructions, state_bytes, time, .. } = &*self.limits.borrow();
        self.start(*load_instructions, time.as_ref().map(|(_, limit)| *limit * 20));
        lua.set_memory_limit(*state_bytes)?;
        Ok(())
    }

    fn start(&self, instructions: u32, time: Option<Duration>) {
        self.left.set(i64::from(instructions));
        self.time.set(time);
        self.deadline.set(None);
        self.hit.set(None);
    }

    /// Ends the budget.
    pub(crate) fn end(self: &Rc<Self>, lua: &Lua) -> Option<Hit> {
        // Both fail only in states that others manage.
        let _ = lua.set_memory_limit(0);
        let hit = self.hit.take()?;
        let _ = self.arm(lua, STEP);
        Some((hit, self.place.take()))
    }

    /// Charges work done outside of Lua's instructions.
    pub(crate) fn charge(&self, instructions: u64) -> mlua::Result<()> {
        self.left.set(self.left.get().saturating_sub_unsigned(instructions));
        if self.hit.get().is_some() || self.left.get() < 0 || self.late() { Err(self.stop()) } else { Ok(()) }
    }

    /// Allows one more level of calls, for as long as the result lives.
    pub(crate) fn nest(&self) -> mlua::Result<Nested<'_>> {
        if self.depth.get() >= DEPTH_MAX {
            return Err(mlua::Error::runtime(format!("functions nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(Nested(&self.depth))
    }

    fn arm(self: &Rc<Self>, lua: &Lua, step: u32) -> mlua::Result<()> {
        let budget = self.clone();
        let triggers = HookTriggers::new().every_nth_instruction(step);
        lua.set_global_hook(triggers, move |lua, debug| budget.tick(lua, debug, step))
    }

    fn tick(self: &Rc<Self>, lua: &Lua, debug: &Debug, step: u32) -> mlua::Result<VmState> {
        self.left.set(self.left.get() - i64::from(step));
        if self.hit.get().is_none() && self.left.get() >= 0 && !self.late() {
            return Ok(VmState::Continue);
        }
        if step != 1 {
            let source = debug.source().source.map(|source| source.trim_start_matches(['@', '=']).to_owned());
            let line = debug.current_line().and_then(|line| u32::try_from(line).ok());
            *self.place.borrow_mut() = source.zip(line);
            self.arm(lua, 1)?;
        }
        Err(self.stop())
    }

    fn late(&self) -> bool {
        let limits = self.limits.borrow();
        let (Some((clock, _)), Some(time)) = (&limits.time, self.time.get()) else { return false };
        let now = clock();
        match self.deadline.get() {
            None => {
                self.deadline.set(Some(now + time));
                false
            }
            Some(deadline) => now >= deadline,
        }
    }

    fn stop(&self) -> mlua::Error {
        let limit =
            self.hit.get().unwrap_or(if self.left.get() < 0 { Limit::Instructions } else { Limit::Time });
        self.hit.set(Some(limit));
        mlua::Error::runtime(format!("stopped: {}", limit.words()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    fn run(limits: Limits, script: &str) -> (mlua::Result<()>, Option<Hit>) {
        let lua = Lua::new();
        let budget = Budget::new(limits);
        budget.attach(&lua).unwrap();
        let chunk = lua.load(script).set_name("@test.lua").into_function().unwrap();
        budget.begin_call(&lua).unwrap();
        let result = chunk.call(());
        (result, budget.end(&lua))
    }

    #[test]
    fn endless_loops_stop_and_say_where() {
        let (result, hit) = run(Limits::default(), "local x = 1\nwhile true do\n  x = x + 1\nend");
        assert!(result.unwrap_err().to_string().contains("too many instructions"));
        let (limit, place) = hit.unwrap();
        assert_eq!(limit, Limit::Instructions);
        let (file, line) = place.unwrap();
        assert_eq!(file, "test.lua");
        assert!((2..=3).contains(&line));
    }

    #[test]
    fn pcall_around_a_loop_does_not_help() {
        for script in [
            "while true do pcall(function() while true do end end) end",
            "local function f() pcall(f) end while true do pcall(f) end",
            "local function f() return pcall(pcall, pcall, pcall, f) end while true do f() end",
            "while true do pcall(error) end",
        ] {
            let (result, hit) = run(Limits::default(), script);
            assert!(result.is_err() && hit.is_some(), "{script}");
        }
    }

    #[test]
    fn the_next_call_starts_anew_after_an_overrun() {
        let lua = Lua::new();
        let budget = Budget::new(Limits::default());
        budget.attach(&lua).unwrap();
        for _ in 0..3 {
            budget.begin_call(&lua).unwrap();
            assert!(lua.load("while true do pcall(function() while true do end end) end").exec().is_err());
            assert!(budget.end(&lua).is_some());
            budget.begin_call(&lua).unwrap();
            let sum: i64 = lua.load("local n = 0 for i = 1, 1000 do n = n + i end return n").eval().unwrap();
            assert_eq!((sum, budget.end(&lua)), (500_500, None));
        }
    }

    #[test]
    fn time_counts_where_there_is_a_clock() {
        let reads = Arc::new(AtomicU64::new(0));
        let seen = reads.clone();
        let clock: Clock = Arc::new(move || Duration::from_millis(seen.fetch_add(1, Relaxed)));
        let limits = Limits { time: Some((clock, Duration::from_millis(5))), ..Limits::default() };
        let (result, hit) = run(limits.clone(), "while true do end");
        assert!(result.unwrap_err().to_string().contains("too long"));
        assert_eq!(hit.unwrap().0, Limit::Time);
        assert_eq!(reads.load(Relaxed), 6, "once to set the deadline, then until it has passed");
        reads.store(0, Relaxed);
        assert!(run(limits, "return 1").0.is_ok());
        assert_eq!(reads.load(Relaxed), 0, "a short call never reads the clock");
    }

    #[test]
    fn memory_is_limited_per_call() {
        let (result, _) =
            run(Limits::default(), "local t = {} for i = 1, 50 do t[i] = ('x'):rep(100000) .. i end");
        assert!(matches!(result, Err(mlua::Error::MemoryError(_))), "{result:?}");
        assert!(
            run(Limits::default(), "local t = {} for i = 1, 5 do t[i] = ('x'):rep(100000) .. i end")
                .0
                .is_ok()
        );
    }
}
