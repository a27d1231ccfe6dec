//! `string.find`, `match`, `gmatch` and `gsub` on the matcher that pays ([`pattern`](super::pattern)).

use std::cell::Cell;
use std::rc::Rc;

use memchr::memmem;
use mlua::{Error, Function, Lua, LuaString, MultiValue, Result, Table, Value};

use super::budget::Budget;
use super::pattern::{Capture, Match, Pattern, PatternError};

/// Longer than any header or name a policy edits.
pub(crate) const RESULT_BYTES_MAX: usize = 256 * 1024;

/// A step of the matcher is this many times cheaper than an instruction.
const STEPS_PER_INSTRUCTION: u32 = 4;

/// The functions by name.
pub(crate) fn functions(lua: &Lua, budget: &Rc<Budget>) -> Result<Table> {
    let table = lua.create_table()?;
    let paying = budget.clone();
    let find =
        move |lua: &Lua,
              (subject, pattern, from, plain): (LuaString, LuaString, Option<i64>, Option<bool>)| {
            let (subject, pattern) = (&*subject.as_bytes(), &*pattern.as_bytes());
            let Some(from) = start(from, subject.len()) else { return none(lua) };
            if plain == Some(true) || !pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte)) {
                paying.charge((subject.len() / 64) as u64)?;
                let found = memmem::find(&subject[from..], pattern).map(|at| from + at);
                return match found {
                    Some(at) => {
                        values([Value::Integer(at as i64 + 1), Value::Integer((at + pattern.len()) as i64)])
                    }
                    None => none(lua),
                };
            }
            let (pattern, anchored) = compile(pattern)?;
            match search(&paying, &pattern, subject, from, anchored)? {
                None => none(lua),
                Some(found) => {
                    let mut results =
                        values([Value::Integer(found.start as i64 + 1), Value::Integer(found.end as i64)])?;
                    for capture in &found.captures {
                        results.push_back(value(lua, subject, *capture)?);
                    }
                    Ok(results)
                }
            }
        };
    table.set("find", lua.create_function(find)?)?;

    let paying = budget.clone();
    let match_ = move |lua: &Lua, (subject, pattern, from): (LuaString, LuaString, Option<i64>)| {
        let (subject, pattern) = (&*subject.as_bytes(), &*pattern.as_bytes());
        let Some(from) = start(from, subject.len()) else { return none(lua) };
        let (pattern, anchored) = compile(pattern)?;
        match search(&paying, &pattern, subject, from, anchored)? {
            None => none(lua),
            Some(found) => held(lua, subject, &found),
        }
    };
    table.set("match", lua.create_function(match_)?)?;

    let paying = budget.clone();
    let gmatch = move |lua: &Lua, (subject, pattern, from): (LuaString, LuaString, Option<i64>)| {
        let subject = subject.as_bytes().to_vec();
        // No anchor here: a `^` would match itself (Lua 5.4 manual §6.4.1).
        let pattern = pattern.as_bytes();
        let pattern = Pattern::new(&pattern).map_err(error)?;
        let next = Cell::new(start(from, subject.len()).unwrap_or(subject.len() + 1));
        let last = Cell::new(None);
        let paying = paying.clone();
        lua.create_function(move |lua, ()| {
            // An empty match where the last one ended is the same match again.
            while let Some(found) = search(&paying, &pattern, &subject, next.get(), false)? {
                next.set(found.end);
                if last.replace(Some(found.end)) != Some(found.end) {
                    return held(lua, &subject, &found);
                }
                next.set(found.end + 1);
            }
            next.set(subject.len() + 1);
            Ok(MultiValue::new())
        })
    };
    table.set("gmatch", lua.create_function(gmatch)?)?;

    let paying = budget.clone();
    let gsub = move |lua: &Lua, (subject, pattern, by, most): (LuaString, LuaString, Value, Option<i64>)| {
        let subject = subject.as_bytes().to_vec();
        let (pattern, anchored) = compile(&pattern.as_bytes())?;
        let by = By::of(lua, by)?;
        let most = most.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(0));
        let mut result = Vec::with_capacity(subject.len());
        let (mut at, mut last, mut count) = (0, None, 0usize);
        while count < most && at <= subject.len() {
            // Position by position, as the text between matches is copied.
            let found = search(&paying, &pattern, &subject, at, anchored)?;
            let Some(found) = found else { break };
            result.extend_from_slice(&subject[at..found.start]);
            if last == Some(found.end) {
                // The empty match at the end of the last one.
                result.extend(subject.get(found.end));
                at = found.end + 1;
            } else {
                count += 1;
                by.append(lua, &paying, &subject, &found, &mut result)?;
                last = Some(found.end);
                at = found.end;
                if found.start == found.end {
                    result.extend(subject.get(found.end));
                    at += 1;
                }
            }
            if result.len() > RESULT_BYTES_MAX {
                return Err(Error::runtime(format!(
                    "gsub: the result is longer than {RESULT_BYTES_MAX} bytes"
                )));
            }
            if anchored {
                break;
            }
        }
        result.extend_from_slice(subject.get(at..).unwrap_or_default());
        paying.charge((result.len() / 64) as u64)?;
        Ok((lua.create_string(&result)?, count))
    };
    table.set("gsub", lua.create_function(gsub)?)?;
    Ok(table)
}

/// What `gsub` puts in the place of a match.
enum By {
    Text(Vec<u8>),
    Table(Table),
    Function(Function),
}

impl By {
    fn of(lua: &Lua, by: Value) -> Result<By> {
        let name = by.type_name();
        match by {
            Value::Table(table) => Ok(By::Table(table)),
            Value::Function(function) => Ok(By::Function(function)),
            other => match lua.coerce_string(other)? {
                Some(text) => Ok(By::Text(text.as_bytes().to_vec())),
                None => Err(Error::runtime(format!(
                    "gsub: expected a string, a table or a function, found {name}"
                ))),
            },
        }
    }

    fn append(
        &self,
        lua: &Lua,
        budget: &Budget,
        subject: &[u8],
        found: &Match,
        result: &mut Vec<u8>,
    ) -> Result<()> {
        let replacement = match self {
            By::Text(text) => return expand(text, subject, found, result),
            By::Table(table) => table.raw_get::<Value>(value(lua, subject, first(found))?)?,
            By::Function(function) => {
                let _level = budget.nest()?;
                function.call::<Value>(held(lua, subject, found)?)?
            }
        };
        let name = replacement.type_name();
        match replacement {
            Value::Nil | Value::Boolean(false) => result.extend_from_slice(&subject[found.start..found.end]),
            other => match lua.coerce_string(other)? {
                Some(text) => result.extend_from_slice(&text.as_bytes()),
                None => return Err(Error::runtime(format!("gsub: invalid replacement value (a {name})"))),
            },
        }
        Ok(())
    }
}

/// A replacement text with `%0` to `%9` and `%%`.
fn expand(text: &[u8], subject: &[u8], found: &Match, result: &mut Vec<u8>) -> Result<()> {
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'%' {
            result.push(*byte);
            continue;
        }
        let capture = match bytes.next() {
            Some(b'%') => {
                result.push(b'%');
                continue;
            }
            Some(b'0') => Capture::Text(found.start, found.end),
            Some(b'1') if found.captures.is_empty() => Capture::Text(found.start, found.end),
            Some(digit @ b'1'..=b'9') => *found.captures.get(usize::from(digit - b'1')).ok_or_else(|| {
                Error::runtime(format!("invalid capture index %{} in replacement string", char::from(*digit)))
            })?,
            _ => return Err(Error::runtime("invalid use of '%' in replacement string")),
        };
        match capture {
            Capture::Text(from, to) => result.extend_from_slice(&subject[from..to]),
            Capture::Position(at) => result.extend_from_slice((at + 1).to_string().as_bytes()),
        }
    }
    Ok(())
}

fn compile(pattern: &[u8]) -> Result<(Pattern, bool)> {
    let (pattern, anchored) = match pattern.strip_prefix(b"^") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    Ok((Pattern::new(pattern).map_err(error)?, anchored))
}

fn search(
    budget: &Budget,
    pattern: &Pattern,
    subject: &[u8],
    from: usize,
    anchored: bool,
) -> Result<Option<Match>> {
    let mut stopped = None;
    let mut pay = |steps: u32| match budget.charge(u64::from(steps / STEPS_PER_INSTRUCTION)) {
        Ok(()) => true,
        Err(error) => {
            stopped = Some(error);
            false
        }
    };
    let found = pattern.find(subject, from, anchored, &mut pay);
    match stopped {
        Some(stopped) => Err(stopped),
        None => found.map_err(error),
    }
}

fn error(error: PatternError) -> Error {
    Error::runtime(error)
}

/// Where to begin: positions count from 1, negative ones from the end. `None`: behind the end.
fn start(from: Option<i64>, length: usize) -> Option<usize> {
    let from = match from.unwrap_or(1) {
        from @ 1.. => usize::try_from(from - 1).unwrap_or(usize::MAX),
        0 => 0,
        back => length.saturating_sub(usize::try_from(back.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    (from <= length).then_some(from)
}

/// The captures as Lua values; the whole match if the pattern has none.
fn held(lua: &Lua, subject: &[u8], found: &Match) -> Result<MultiValue> {
    let mut results = MultiValue::with_capacity(found.captures.len().max(1));
    if found.captures.is_empty() {
        results.push_back(value(lua, subject, first(found))?);
    }
    for capture in &found.captures {
        results.push_back(value(lua, subject, *capture)?);
    }
    Ok(results)
}

fn first(found: &Match) -> Capture {
    found.captures.first().copied().unwrap_or(Capture::Text(found.start, found.end))
}

fn value(lua: &Lua, subject: &[u8], capture: Capture) -> Result<Value> {
    Ok(match capture {
        Capture::Text(from, to) => Value::String(lua.create_string(&subject[from..to])?),
        Capture::Position(at) => Value::Integer(at as i64 + 1),
    })
}

fn values<const N: usize>(values: [Value; N]) -> Result<MultiValue> {
    Ok(values.into_iter().collect())
}

fn none(_: &Lua) -> Result<MultiValue> {
    values([Value::Nil])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::budget::Limits;
    use proptest::prelude::*;

    /// A state with both libraries: Lua's as `string`, ours as `ours`.
    fn state() -> Lua {
        let lua = Lua::new();
        let budget = Budget::new(Limits::default());
        budget.begin_load(&lua).unwrap();
        lua.globals().set("ours", functions(&lua, &budget).unwrap()).unwrap();
        lua
    }

    /// Runs an expression with Lua's functions and with ours; both outcomes must be the same.
    fn same(lua: &Lua, expression: &str) {
        let text = |library: &str| -> String {
            let script = format!(
                "local s = {library}\n\
                 local function show(ok, ...)\n\
                   if not ok then return 'error' end\n\
                   local t = table.pack(...)\n\
                   for i = 1, t.n do t[i] = math.type(t[i]) == 'float' and error('float') or type(t[i]) .. ':' .. tostring(t[i]) end\n\
                   return table.concat(t, ' ')\n\
                 end\n\
                 return show(pcall(function() {expression} end))"
            );
            lua.load(script).eval().unwrap()
        };
        assert_eq!(text("ours"), text("string"), "{expression}");
    }

    #[test]
    fn behaves_like_the_library_of_lua() {
        let lua = state();
        for expression in [
            "return s.find('hello world', 'o w')",
            "return s.find('hello world', 'o', 6)",
            "return s.find('hello', 'l+')",
            "return s.find('a.b', '.', 1, true)",
            "return s.find('abc', '', 10)",
            "return s.find('abc', '', 4)",
            "return s.find('abc', 'b', -1)",
            "return s.find('abc', 'b', -9)",
            "return s.find('key=value', '(%w+)=(%w+)')",
            "return s.find('abc', '()b()')",
            "return s.match('sip:alice@example.test', '^sip:([^@]+)@(.+)$')",
            "return s.match('7001', '%d')",
            "return s.match('  x ', '^%s*(.-)%s*$')",
            "return s.match(7001, '00')",
            "return s.match('x', 'y')",
            "return s.match('abc', '%')",
            "return s.match('THE (quick) fox', '%((%a+)%)')",
            "return s.gsub('hello world', 'o', '0')",
            "return s.gsub('hello', '', '-')",
            "return s.gsub('abc', '%w', '%0%0', 2)",
            "return s.gsub('abc', 'b*', '-')",
            "return s.gsub('hello world', '(%w+)', '<%1>')",
            "return s.gsub('$name is $age', '%$(%w+)', { name = 'Ana', age = 42 })",
            "return s.gsub('abc', '%w', function(c) if c == 'b' then return nil end return c:upper() end)",
            "return s.gsub('abc', '^a', 'x')",
            "return s.gsub('aaa', '^a', 'x')",
            "return s.gsub('abc', 'b', '%2')",
            "return s.gsub('abc', 'b', '%')",
            "return s.gsub('abc', 'b', '100%%')",
            "return s.gsub('abc', '()', '%1')",
            "return s.gsub('abc', 'b', function() return {} end)",
            "return s.gsub('abc', 'b', true)",
            "return s.gsub('abc', 'b', 7)",
            "return s.gsub('abc def', '%f[%w]%w+', s.match)",
            "local r = {} for w in s.gmatch('one two  three', '%a+') do r[#r + 1] = w end return table.concat(r, ',')",
            "local r = {} for k, v in s.gmatch('a=1, b=2', '(%w+)=(%w+)') do r[#r + 1] = k .. v end return table.concat(r, ',')",
            "local r = {} for p in s.gmatch('abc', '()') do r[#r + 1] = p end return table.concat(r, ',')",
            "local r = {} for w in s.gmatch('abc', 'b*') do r[#r + 1] = '<' .. w .. '>' end return table.concat(r)",
            "local r = {} for w in s.gmatch('abcabc', 'b', 4) do r[#r + 1] = w end return #r",
            "local f = s.gmatch('a', 'a') return f(), f(), f()",
        ] {
            same(&lua, expression);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn replaces_and_iterates_like_lua(
            subject in "[ab ]{0,8}",
            pattern in proptest::sample::select(vec![
                "a*", "b-", "a?", "()", "%s*", "(a)(b?)", "%f[%a]", "^a*", ".", "", "b+", "(a*)%1", "$", "a-$",
            ]),
            from in -9i64..10,
        ) {
            let lua = state();
            same(&lua, &format!("return s.gsub('{subject}', '{pattern}', '<%0>')"));
            same(&lua, &format!("return s.find('{subject}', '{pattern}', {from})"));
            same(&lua, &format!("return s.match('{subject}', '{pattern}', {from})"));
            same(&lua, &format!(
                "local r = {{}} for w in s.gmatch('{subject}', '{pattern}', {from}) do r[#r + 1] = '<' .. w .. '>' end return table.concat(r)"
            ));
        }
    }

    #[test]
    fn patterns_pay_from_the_budget_of_the_call() {
        let lua = Lua::new();
        let budget = Budget::new(Limits::default());
        budget.begin_call(&lua).unwrap();
        lua.globals().set("ours", functions(&lua, &budget).unwrap()).unwrap();
        let script = "return ours.find(('a'):rep(300), ('(.-)'):rep(12) .. 'x')";
        let error = lua.load(script).eval::<Value>().unwrap_err().to_string();
        assert!(error.contains("too many instructions"), "{error}");
        assert!(budget.end(&lua).is_some());
        budget.begin_call(&lua).unwrap();
        let script = "local n = 0 for i = 1, 50 do n = n + #ours.match('sip:alice@example.test', '^sip:([^@]+)@') end return n";
        assert_eq!(lua.load(script).eval::<i64>().unwrap(), 250);
    }

    #[test]
    fn results_are_limited() {
        let lua = state();
        let script = "return ours.gsub(('a'):rep(1000), 'a', ('b'):rep(1000))";
        let error = lua.load(script).eval::<Value>().unwrap_err().to_string();
        assert!(error.contains("longer than"), "{error}");
    }
}
