//! One Lua state with nothing in it that reaches outside, depends on chance, or runs without end.
//!
//! `prelude.lua` builds what policy files see; this is the host's half. No `coroutine`: a loop that is stopped only
//! every so many instructions per coroutine outlives its budget by that factor for each level of nesting.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, LuaOptions, LuaString, Result, StdLib, Table, UserData, Value};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha12Rng;

use super::budget::{Budget, Limits};
use super::layer::Layer;
use super::strings;
use crate::near::nearest;

/// How the prelude calls itself in messages; see [`Fault`](super::fault::Fault).
pub(crate) const PRELUDE: &str = "switchyard";

/// Lines one call may log; a hook that says more says it for every call.
const LOG_LINES_MAX: u32 = 10;
/// Bytes of one line.
const LOG_BYTES_MAX: usize = 1024;

/// What other Lua programs have and policies do not.
const ABSENT: [&str; 20] = [
    "_G",
    "collectgarbage",
    "coroutine",
    "debug",
    "dofile",
    "getmetatable",
    "io",
    "load",
    "loadfile",
    "loadstring",
    "module",
    "os",
    "package",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "setmetatable",
    "unpack",
    "warn",
];

/// `none` and `unset`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sentinel {
    None,
    Unset,
}

impl UserData for Sentinel {}

/// The generator behind `random()`: one per engine, going on across revisions.
pub(crate) type Dice = Rc<RefCell<ChaCha12Rng>>;

/// A generator from the engine's seed.
pub(crate) fn dice(seed: u64) -> Dice {
    Rc::new(RefCell::new(ChaCha12Rng::seed_from_u64(seed)))
}

/// What the functions of the call under way know and say.
#[derive(Default)]
pub(crate) struct Moment {
    /// UTC seconds; `None` while files are loaded.
    pub(crate) now: Cell<Option<u64>>,
    /// The reason given to `deny`.
    pub(crate) denied: RefCell<Option<String>>,
    logged: Cell<u32>,
}

impl Moment {
    /// Starts a call.
    pub(crate) fn begin(&self, now: Option<u64>) {
        self.now.set(now);
        self.logged.set(0);
        if let Ok(mut denied) = self.denied.try_borrow_mut() {
            *denied = None;
        }
    }
}

/// A state ready to load policies.
pub(crate) struct Sandbox {
    pub(crate) lua: Lua,
    pub(crate) budget: Rc<Budget>,
    pub(crate) moment: Rc<Moment>,
    environment: Function,
}

impl Sandbox {
    pub(crate) fn new(limits: Limits, dice: &Dice) -> Result<Sandbox> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let budget = Budget::new(limits);
        let moment = Rc::new(Moment::default());
        budget.begin_load(&lua)?;
        let names = Rc::new(RefCell::new(Vec::new()));
        let host = strings::functions(&lua, &budget)?;
        add_functions(&lua, &host, &budget, &moment, dice, &names)?;
        let prelude =
            lua.load(include_str!("prelude.lua")).set_name(format!("={PRELUDE}")).set_mode(ChunkMode::Text);
        let (environment, string, known): (Function, Table, Vec<String>) =
            prelude.into_function()?.call((host, lua.globals()))?;
        *names.borrow_mut() = known;
        // `("x"):rep(9)` finds its functions here, not in the globals.
        if let Some(metatable) = lua.type_metatable::<LuaString>() {
            metatable.raw_set("__index", string)?;
        }
        // What no environment leads to is not there either.
        lua.globals().clear()?;
        budget.end(&lua);
        budget.attach(&lua)?;
        Ok(Sandbox { lua, budget, moment, environment })
    }

    /// The globals for the files of one pool.
    pub(crate) fn environment(&self, require: Function) -> Result<Table> {
        self.environment.call(require)
    }
}

fn add_functions(
    lua: &Lua,
    host: &Table,
    budget: &Rc<Budget>,
    moment: &Rc<Moment>,
    dice: &Dice,
    names: &Rc<RefCell<Vec<String>>>,
) -> Result<()> {
    host.set("result_bytes_max", strings::RESULT_BYTES_MAX)?;
    host.set("none", lua.create_userdata(Sentinel::None)?)?;
    host.set("unset", lua.create_userdata(Sentinel::Unset)?)?;

    let charged = budget.clone();
    host.set(
        "charge",
        lua.create_function(move |_, work: i64| charged.charge(u64::try_from(work).unwrap_or(0)))?,
    )?;

    let asked = moment.clone();
    let now = move |_: &Lua, ()| asked.now.get().ok_or_else(|| only_in_hooks("now"));
    host.set("now", lua.create_function(now)?)?;

    let (asked, thrown) = (moment.clone(), dice.clone());
    let random = move |_: &Lua, (low, high): (Option<i64>, Option<i64>)| {
        if asked.now.get().is_none() {
            return Err(only_in_hooks("random"));
        }
        let (low, high) = match (low, high) {
            (None, _) => return Ok(Value::Number(thrown.borrow_mut().random::<f64>())),
            (Some(high), None) => (1, high),
            (Some(low), Some(high)) => (low, high),
        };
        if low > high {
            return Err(Error::runtime(format!("random: nothing lies between {low} and {high}")));
        }
        Ok(Value::Integer(thrown.borrow_mut().random_range(low..=high)))
    };
    host.set("random", lua.create_function(random)?)?;

    let asked = moment.clone();
    let deny = move |_: &Lua, why: Option<LuaString>| {
        // A reason ends up in a SIP Warning header and on a phone's display.
        let why = why.map(|why| shortened(&why.to_string_lossy(), 200));
        *asked.denied.borrow_mut() = why.filter(|why| !why.is_empty());
        Ok(false)
    };
    host.set("deny", lua.create_function(deny)?)?;

    let asked = moment.clone();
    let log = move |lua: &Lua, words: LuaString| {
        asked.logged.set(asked.logged.get().saturating_add(1));
        if asked.logged.get() <= LOG_LINES_MAX {
            let at = caller(lua).map(|(file, line)| format!("{file}:{line}")).unwrap_or_default();
            tracing::info!(at, "{}", shortened(&words.to_string_lossy(), LOG_BYTES_MAX));
        }
        Ok(())
    };
    host.set("log", lua.create_function(log)?)?;

    host.set("name", lua.create_function(|_, value: Value| Ok(name(&value)))?)?;
    host.set(
        "expand",
        lua.create_function(|lua, value: Value| match &value {
            Value::UserData(data) if data.is::<Layer>() => data.borrow::<Layer>()?.as_table(lua).map(Some),
            _ => Ok(None),
        })?,
    )?;

    let known = names.clone();
    let unknown = move |_: &Lua, name: LuaString| {
        let name = name.to_string_lossy();
        if ABSENT.contains(&name.as_str()) {
            return Ok(format!("{name}: policies don't have it (README.md, Sandbox)"));
        }
        Ok(match nearest(&name, known.borrow().iter().map(String::as_str)) {
            Some(near) => format!("unknown name {name}, did you mean {near}?"),
            None => format!("unknown name {name}"),
        })
    };
    host.set("unknown_global", lua.create_function(unknown)?)
}

fn only_in_hooks(name: &str) -> Error {
    Error::runtime(format!("{name}: has an answer only when a hook is asked, not while the file is loaded"))
}

/// What `tostring` says of a userdata: never an address.
fn name(value: &Value) -> String {
    match value {
        Value::Error(error) => super::fault::text(error),
        Value::UserData(data) => match data.borrow::<Sentinel>().map(|sentinel| *sentinel) {
            Ok(Sentinel::None) => "none".into(),
            Ok(Sentinel::Unset) => "unset".into(),
            Err(_) => "policy".into(),
        },
        other => other.type_name().into(),
    }
}

/// One line of at most so many bytes.
fn shortened(text: &str, bytes_max: usize) -> String {
    let mut short = String::new();
    for letter in text.chars() {
        if short.len() + letter.len_utf8() > bytes_max {
            break;
        }
        short.push(if letter.is_control() { ' ' } else { letter });
    }
    short
}

/// The policy file and line that called into the host.
pub(crate) fn caller(lua: &Lua) -> Option<(String, u32)> {
    (0..32).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let source = frame.source().source?;
            let file = source.strip_prefix('@')?.to_owned();
            Some((file, u32::try_from(frame.current_line()?).ok()?))
        })?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox() -> Sandbox {
        let sandbox = Sandbox::new(Limits::default(), &dice(7)).unwrap();
        sandbox.moment.begin(Some(1_000));
        sandbox
    }

    fn load(sandbox: &Sandbox, script: &str) -> Function {
        let require = sandbox.lua.create_function(|_, ()| Ok(())).unwrap();
        let environment = sandbox.environment(require).unwrap();
        sandbox.lua.load(script).set_name("@test.lua").set_environment(environment).into_function().unwrap()
    }

    fn run<T: mlua::FromLuaMulti>(sandbox: &Sandbox, script: &str) -> Result<T> {
        let function = load(sandbox, script);
        sandbox.budget.begin_call(&sandbox.lua)?;
        let result = function.call(());
        sandbox.budget.end(&sandbox.lua);
        result
    }

    fn text(script: &str) -> String {
        run(&sandbox(), script).unwrap()
    }

    fn error(script: &str) -> String {
        super::super::fault::text(&run::<Value>(&sandbox(), script).unwrap_err())
    }

    #[test]
    fn nothing_reaches_outside() {
        for name in ABSENT {
            assert!(error(&format!("return {name}")).contains("policies don't have it"), "{name}");
        }
        assert_eq!(text("return type(string.dump) .. type(math.randomseed)"), "nilnil");
        let everything =
            "local names = {} for name in pairs(_ENV) do names[#names + 1] = name end return #names";
        assert_eq!(
            run::<i64>(&sandbox(), everything).unwrap(),
            0,
            "the globals are not to be listed or changed"
        );
        assert!(run::<Value>(&sandbox(), "return ('').dump(function() end)").is_err());
    }

    #[test]
    fn globals_and_libraries_cannot_be_changed() {
        assert_eq!(error("x = 1"), "test.lua:1: x: globals can't be set, write `local x`");
        assert_eq!(error("string.rep = 1"), "test.lua:1: string is read-only");
        assert_eq!(error("\n_ENV.pairs = 1"), "test.lua:2: pairs: globals can't be set, write `local pairs`");
        assert_eq!(error("local y = tostrng(1)"), "test.lua:1: unknown name tostrng, did you mean tostring?");
        assert_eq!(error("return frobnicate"), "test.lua:1: unknown name frobnicate");
    }

    #[test]
    fn order_is_the_same_in_every_run() {
        let script = "local t, r = { z = 1, b = 2, [3] = 3, a = 4, 10, 20, [true] = 5, [2.5] = 6 }, {}
                      for k, v in pairs(t) do r[#r + 1] = tostring(k) .. '=' .. v end
                      return table.concat(r, ' ')";
        for _ in 0..5 {
            assert_eq!(text(script), "1=10 2=20 2.5=6 3=3 a=4 b=2 z=1 true=5");
        }
        assert_eq!(text("local k, v = next { b = 1, a = 2 } return k .. v"), "a2");
        assert_eq!(text("return tostring(next({ a = 1 }, 'a')) .. tostring(next {})"), "nilnil");
        assert!(error("for k in pairs { [{}] = 1 } do end").contains("no order"));
        assert!(error("for k in pairs(7) do end").contains("expected a table, found number"));
        let script = "local t = { a = 1, b = 2, c = 3 } local r = '' for k in pairs(t) do t[k] = nil r = r .. k end return r";
        assert_eq!(text(script), "abc", "removing while going through is allowed, as in Lua");
    }

    #[test]
    fn no_address_is_shown() {
        let script = "return tostring {} .. tostring(print) .. tostring(none) .. tostring(unset) \
                      .. string.format('%s|%s|%5.1f', {}, log, 2)";
        assert_eq!(text(script), "tablefunctionnoneunsettable|function|  2.0");
        assert!(error("return string.format('%p', {})").contains("invalid conversion"));
        assert!(error("return string.format('%%%-9p', {})").contains("invalid conversion"));
        assert_eq!(text("return string.format('%%p %s', 1)"), "%p 1");
        assert_eq!(text("return tostring(1.5) .. tostring(7) .. tostring(nil) .. tostring('x')"), "1.57nilx");
    }

    #[test]
    fn dice_and_clock_are_the_hosts() {
        let script = "local r = {} for i = 1, 6 do r[i] = random(1, 100) end return table.concat(r, ' ') .. ' ' .. math.random()";
        assert_eq!(text(script), text(script), "the same seed gives the same numbers");
        let other = Sandbox::new(Limits::default(), &dice(8)).unwrap();
        other.moment.begin(Some(0));
        assert_ne!(run::<String>(&other, script).unwrap(), text(script));
        assert_eq!(run::<i64>(&sandbox(), "return now()").unwrap(), 1_000);
        assert_eq!(text("local r = {} for i = 1, 200 do r[random(3)] = true end return tostring(#r)"), "3");
        assert!(error("random(3, 2)").contains("nothing lies between"));
        let sandbox = sandbox();
        sandbox.moment.begin(None);
        assert!(
            run::<Value>(&sandbox, "return now()").is_err()
                && run::<Value>(&sandbox, "return random()").is_err()
        );
    }

    #[test]
    fn loops_stop_wherever_they_hide() {
        for script in [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
            "xpcall(function() while true do end end, function() while true do end end) while true do end",
            "while true do xpcall(error, function() error('again') end) end",
            "local t = { 3, 1, 2 } table.sort(t, function() while true do end end)",
            "string.gsub('aaa', 'a', function() while true do end end)",
            "for w in string.gmatch(('a'):rep(1000), '.-') do while true do end end",
            "local function f() return f() end f()",
            "local t = {} while true do t.x = string.rep('x', 200000) end",
            "local t = {} for i = 1, 90000 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end",
            "local t = {} for i = 1, 50000 do t[i] = -i end while true do table.sort(t) end",
            "while true do next { a = 1, b = 2 } end",
            "repeat local s = ('a'):rep(100000):upper():lower():reverse() until false",
            "goto a ::a:: goto a",
        ] {
            let sandbox = sandbox();
            let result = run::<Value>(&sandbox, script);
            let message = super::super::fault::text(&result.unwrap_err());
            assert!(message.contains("too many instructions"), "{script}: {message}");
            assert_eq!(run::<i64>(&sandbox, "return 1 + 1").unwrap(), 2, "the state lives on after {script}");
        }
    }

    #[test]
    fn library_functions_cannot_work_without_end_in_one_instruction() {
        // Lua finds a table's length by doubling: here it takes 2^61 for it.
        let holes: String = (0..62).map(|bit| format!("[{}] = 1, ", 1u64 << bit)).collect();
        let holes = format!("local t = {{ {holes} }} assert(#t == 1 << 61)");
        for script in [
            "table.insert(t, 1, 0)",
            "table.remove(t, 1)",
            "table.concat(t)",
            "table.sort(t)",
            "table.unpack(t)",
            "table.move(t, 1, #t, 2)",
            "table.move({}, 1, 1 << 60, 2)",
            "table.concat({}, '', 1, 1 << 60)",
            "table.unpack({}, 1, 1 << 60)",
            "table.unpack({}, -1 << 62, 1 << 62)",
            "table.move({}, -1 << 62, 1 << 62, 1)",
            "return ('x'):rep(1 << 40)",
            "return ('x'):rep(1 << 62)",
            "return ('x'):rep(1e300)",
            "return ('x'):rep(9, ('y'):rep(99999))",
            "return string.format('%99999d', 1)",
            "return string.format(('x'):rep(2000))",
            "return string.find(('a'):rep(1000), ('.-'):rep(30) .. 'b')",
            "return string.gsub(('a'):rep(1000), '.', ('b'):rep(1000))",
        ] {
            assert!(run::<Value>(&sandbox(), &format!("{holes} {script}")).is_err(), "{script}");
        }
    }

    #[test]
    fn calls_nested_through_the_host_end_before_the_stack_does() {
        for script in [
            "local function f() return ('a'):gsub('a', f) end return f()",
            "local function f() return pcall(f) and select(2, pcall(f)) end return f()",
            "local function f() table.sort({ 1, 2, 3 }, f) end f()",
            "local function f() return f() .. 'x' end return f()",
            "return string.rep('(', 200):find(string.rep('(', 200))",
        ] {
            // Whatever it ends with, it ends, and the state lives on.
            let sandbox = sandbox();
            let _ = run::<Value>(&sandbox, script);
            assert_eq!(run::<i64>(&sandbox, "return 1 + 1").unwrap(), 2, "{script}");
        }
        let deep = format!("return {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(sandbox().lua.load(deep).into_function().is_err());
    }

    #[test]
    fn memory_is_limited_and_the_state_survives() {
        let sandbox = sandbox();
        for script in [
            "local s = 'x' while true do s = s .. s end",
            "local t, s = {}, ('x'):rep(10000) while true do t[#t + 1] = s .. #t end",
            "local function f(...) return f(1, ...) end f()",
        ] {
            let error = run::<Value>(&sandbox, script).unwrap_err();
            assert!(super::super::fault::text(&error).contains("memory"), "{script}: {error}");
            assert_eq!(run::<i64>(&sandbox, "return #('x'):rep(1000)").unwrap(), 1000);
        }
    }

    #[test]
    fn the_library_still_works() {
        for (script, result) in [
            ("return ('%d-%s'):format(7, 'x')", "7-x"),
            ("return ('  x '):match('^%s*(.-)%s*$')", "x"),
            ("local s = ('7001'):gsub('0', 'o') return s", "7oo1"),
            ("return table.concat({ 1, 2, 3 }, ',', 2)", "2,3"),
            (
                "local t = { 3, 1, 2 } table.sort(t) table.insert(t, 1, 0) table.remove(t) return table.concat(t, ',')",
                "0,1,2",
            ),
            ("local t = { 'b', 'a' } table.sort(t, function(x, y) return x < y end) return t[1]", "a"),
            ("return tostring(select('#', table.unpack({ 1, nil, 3 }, 1, 3)))", "3"),
            ("return table.concat(table.move({ 1, 2, 3 }, 2, 3, 1), ',')", "2,3,3"),
            ("return tostring(pcall(error, 'x'))", "false"),
            (
                "local ok, why = xpcall(error, function(e) return 'handled ' .. e end, 'x', 0) return why",
                "handled x",
            ),
            ("return tostring(xpcall(function(a) return a end, print, 5))", "true"),
            ("return tostring(tonumber('0x10')) .. tostring(tonumber('z', 36))", "1635"),
            ("return tostring(utf8.len('grün')) .. ('abc'):upper():reverse():sub(1, 2)", "4CB"),
            ("return tostring(math.max(1, 2)) .. math.type(1)", "2integer"),
            ("return ('x'):rep(3, '-') .. ('x'):rep(0) .. ('x'):rep(-1)", "x-x-x"),
        ] {
            assert_eq!(text(script), result, "{script}");
        }
    }

    #[test]
    fn bytecode_is_refused() {
        let lua = Lua::new();
        let bytes = lua.load("return 1").into_function().unwrap().dump(true);
        let sandbox = sandbox();
        assert!(sandbox.lua.load(bytes).set_mode(ChunkMode::Text).into_function().is_err());
    }
}
