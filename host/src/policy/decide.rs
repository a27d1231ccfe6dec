//! Asking a hook, and reading its answer.

use mlua::{Table, Value};
use serde_json::Value as Json;
use switchyard_sdk::ext::policy::Decision;

use super::fault::{self, Fault};
use super::layer::given;
use super::load::{Hook, Prepared};
use super::schema::{Field, Fields, Schema, Shape};
use crate::time::Now;

/// Why a hook's answer does not count.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whether a limit was hit, as against an error of the script.
    pub(crate) overrun: bool,
    /// `pools/west.lua:7: …`
    pub(crate) text: String,
}

/// What a hook said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Mistakes in the replacements; the settings they were meant for stay.
    pub(crate) mistakes: Vec<String>,
}

impl Prepared {
    /// Asks a hook and writes its answer into `decision`, which holds the default.
    pub(crate) fn ask(
        &self,
        schema: &Schema,
        now: Now,
        hook: &Hook,
        args: &Json,
        decision: &mut Decision,
    ) -> Result<Said, Failure> {
        let Some((function, origin)) = &hook.function else { return Ok(Said::default()) };
        let sandbox = &self.sandbox;
        sandbox.moment.begin(Some(now.utc.0 / 1000));
        let answer = self.trampolines.call(&sandbox.lua, function, args);
        let hit = sandbox.budget.end(&sandbox.lua);
        let here = || format!("{}:{}", origin.file, origin.line);
        match (answer, hit) {
            // Also when a pcall ate the error in its last instruction: what ran out did not finish.
            (_, Some((limit, place))) => {
                let place = place.map_or_else(here, |(file, line)| format!("{file}:{line}"));
                Err(Failure { overrun: true, text: format!("{place}: stopped: {}", limit.words()) })
            }
            (Err(error), None) => {
                let overrun = fault::is_memory(&error);
                let fault = Fault::of(&error);
                let place = fault.place.map_or_else(here, |(file, line)| format!("{file}:{line}"));
                Err(Failure { overrun, text: format!("{place}: {}", fault.message) })
            }
            (Ok(value), None) => {
                let mut said = Said::default();
                read(schema, hook, &value, decision, &mut said.mistakes)
                    .map_err(|text| Failure { overrun: false, text: format!("{}: {text}", here()) })?;
                if !decision.allowed {
                    decision.reason = sandbox.moment.denied.take();
                }
                for mistake in &mut said.mistakes {
                    *mistake = format!("{}: {mistake}", here());
                }
                Ok(said)
            }
        }
    }
}

fn read(
    schema: &Schema,
    hook: &Hook,
    value: &Value,
    decision: &mut Decision,
    mistakes: &mut Vec<String>,
) -> Result<(), String> {
    let section = schema.at([hook.terms.name.as_str()]);
    let fields = match section.and_then(|field| field.shape.as_ref()) {
        Some(Shape::Table(fields)) => fields,
        _ => return Ok(()),
    };
    let setting = hook.setting.as_deref().and_then(|name| Some((name, fields.0.get(name)?)));
    match (value, setting) {
        (Value::Nil, _) => {}
        // A setting that may be a function, and whose value this is.
        (value, Some((name, field))) if !matches!(field.shape, Some(Shape::Boolean)) && !value.is_table() => {
            replace(name, field, value, &mut decision.settings[name], mistakes);
        }
        (Value::Boolean(allowed), _) => decision.allowed = *allowed,
        (Value::Table(table), _) => replace_all("", fields, table, &mut decision.settings, mistakes),
        (other, _) => {
            let found = given(other, &mut None).words();
            return Err(format!(
                "expected true, false, deny(\"why\"), a table of settings or nothing, found {found}"
            ));
        }
    }
    Ok(())
}

fn replace_all(
    prefix: &str,
    fields: &Fields,
    table: &Table,
    settings: &mut Json,
    mistakes: &mut Vec<String>,
) {
    let mut wrong = |message: String| mistakes.push(message);
    let mut pairs: Vec<(String, Value)> = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        match pair {
            Ok((Value::String(key), value)) => pairs.push((key.to_string_lossy(), value)),
            _ => wrong(format!("{prefix}expected name = value, found an item without a name")),
        }
    }
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in pairs {
        let path = format!("{prefix}{name}");
        match (fields.0.get(&name), &value) {
            (Some(Field { shape: Some(Shape::Table(inner)), .. }), Value::Table(table)) => {
                replace_all(&format!("{path}."), inner, table, &mut settings[&name], mistakes);
            }
            (Some(field), value) if field.shape.is_some() => {
                replace(&path, field, value, &mut settings[&name], mistakes);
            }
            _ => mistakes.push(fields.unknown(&path, &name, "setting")),
        }
    }
}

fn replace(path: &str, field: &Field, value: &Value, setting: &mut Json, mistakes: &mut Vec<String>) {
    let mut text = None;
    match field.convert(&given(value, &mut text)) {
        Ok(converted) => *setting = converted,
        Err(message) => mistakes.push(format!("{path}: {message}; the setting stays")),
    }
}
