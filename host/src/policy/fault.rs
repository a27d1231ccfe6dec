//! From an error of Lua to a file, a line and a sentence.

use mlua::Error;

use super::Diagnostic;
use super::sandbox::PRELUDE;

/// What went wrong in Lua, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) place: Option<(String, u32)>,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn of(error: &Error) -> Fault {
        let mut traces = Vec::new();
        let whole = message(error, &mut traces);
        let (own, trace) = split(&whole);
        traces.push(trace.to_owned());
        let (place, message) = match prefix(own) {
            // Raised in a function of the prelude: whoever called it made the mistake.
            Some((file, _, rest)) if file == PRELUDE => (None, rest),
            Some((file, line, rest)) => (Some((file.to_owned(), line)), rest),
            None => (None, own),
        };
        let place = place.or_else(|| traces.iter().find_map(|trace| frame(trace)));
        Fault { place, message: message.trim().to_owned() }
    }

    /// As a diagnostic; `file` is to blame when no place is known.
    pub(crate) fn diagnostic(self, file: &str) -> Diagnostic {
        let (file, line) = self.place.unwrap_or_else(|| (file.to_owned(), 0));
        Diagnostic { file, line, column: None, message: self.message }
    }
}

/// `file:line: message`, as Lua itself would print it.
pub(crate) fn text(error: &Error) -> String {
    let fault = Fault::of(error);
    match fault.place {
        Some((file, line)) => format!("{file}:{line}: {}", fault.message),
        None => fault.message,
    }
}

/// Whether Lua ran out of memory.
pub(crate) fn is_memory(error: &Error) -> bool {
    match error {
        Error::MemoryError(_) => true,
        Error::CallbackError { cause, .. } | Error::BadArgument { cause, .. } => is_memory(cause),
        // Caught by a pcall and raised again.
        Error::RuntimeError(message) => message.contains("not enough memory"),
        _ => false,
    }
}

/// The innermost message; tracebacks met on the way go to `traces`, innermost first.
fn message(error: &Error, traces: &mut Vec<String>) -> String {
    match error {
        Error::RuntimeError(message) | Error::SyntaxError { message, .. } => message.clone(),
        Error::MemoryError(_) => "ran out of memory".into(),
        Error::CallbackError { traceback, cause } => {
            let message = message(cause, traces);
            traces.push(traceback.clone());
            message
        }
        Error::BadArgument { cause, pos, .. } => {
            let cause = message(cause, traces);
            format!("argument {pos}: {cause}")
        }
        Error::FromLuaConversionError { from, to, .. } => format!("expected {to}, found {from}"),
        other => other.to_string(),
    }
}

fn split(message: &str) -> (&str, &str) {
    match message.find("\nstack traceback:") {
        Some(at) => (&message[..at], &message[at..]),
        None => (message, ""),
    }
}

/// `west.lua:7: message`.
fn prefix(text: &str) -> Option<(&str, u32, &str)> {
    let mut from = 0;
    // A file name may hold colons; the line number is what follows the last one before `: `.
    while let Some(colon) = text[from..].find(':').map(|at| from + at) {
        let (file, after) = (&text[..colon], &text[colon + 1..]);
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0
            && after[digits..].starts_with(':')
            && (file == PRELUDE || file.ends_with(".lua"))
            && let Ok(line) = after[..digits].parse()
        {
            return Some((file, line, &after[digits + 1..]));
        }
        from = colon + 1;
    }
    None
}

/// The innermost frame of a traceback that is in a policy file.
fn frame(traceback: &str) -> Option<(String, u32)> {
    traceback.lines().find_map(|line| match prefix(line.trim_start()) {
        Some((file, number, _)) if file != PRELUDE => Some((file.to_owned(), number)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    fn fault(script: &str) -> Fault {
        let lua = Lua::new();
        let refuse = lua.create_function(|_, ()| Err::<(), _>(Error::runtime("refused"))).unwrap();
        let typed = lua.create_function(|_, _: i64| Ok(())).unwrap();
        lua.globals().set("refuse", refuse).unwrap();
        lua.globals().set("typed", typed).unwrap();
        lua.load("wrapped = function(x) return #x end").set_name("=switchyard").exec().unwrap();
        Fault::of(&lua.load(script).set_name("@pools/west.lua").exec().unwrap_err())
    }

    fn at(line: u32, message: &str) -> Fault {
        Fault { place: Some(("pools/west.lua".into(), line)), message: message.into() }
    }

    #[test]
    fn places_are_found_whoever_raises_the_error() {
        assert_eq!(fault("\n\nerror('no')"), at(3, "no"));
        assert_eq!(fault("\nrefuse()"), at(2, "refused"));
        assert_eq!(fault("local function f()\nrefuse() end\nf()"), at(2, "refused"));
        assert_eq!(fault("\nlocal x = nil + 1"), at(2, "attempt to perform arithmetic on a nil value"));
        assert_eq!(fault("return {\n a = 1\n b = 2 }").place, Some(("pools/west.lua".into(), 3)));
        assert!(fault("return {\n a = 1\n b = 2 }").message.contains("'}' expected"));
        let wrapped = fault("\n\n\nlocal n = wrapped(nil)");
        assert_eq!(wrapped.place, Some(("pools/west.lua".into(), 4)), "not the prelude");
        assert_eq!(fault("\nerror('plain', 0)"), at(2, "plain"));
        assert_eq!(
            fault("\nerror {}").place,
            Some(("pools/west.lua".into(), 2)),
            "a table tells none itself"
        );
        assert!(fault("\ntyped('x')").message.contains("argument 1"));
    }

    #[test]
    fn text_prints_as_lua_does() {
        assert_eq!(text(&Error::runtime("a.lua:3: why")), "a.lua:3: why");
        assert_eq!(text(&Error::runtime("why: 3: x")), "why: 3: x");
    }
}
