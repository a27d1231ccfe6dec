//! What a user wants done with calls beside ringing their own phones: who rings along, and where calls go that nobody
//! answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config;

/// How long phones ring before `forward_no_answer`, if the user says nothing.
const NO_ANSWER_AFTER: Duration = Duration::from_secs(20);

/// The rules of a user. A target is an extension, a name, a number some route knows, or a SIP URI.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CallRules {
    /// Where every call goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_always: Option<String>,
    /// Where calls go that are refused as busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_busy: Option<String>,
    /// Where calls go that nobody answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_no_answer: Option<String>,
    /// Where calls go while no phone is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_unregistered: Option<String>,
    /// How long phones ring before `forward_no_answer`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_answer_after_ms: Option<u64>,
    /// Who rings along (simultaneous ring).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_ring: Vec<String>,
    /// The team, which rings along; its calls are not picked up (GCP-09).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub team: Vec<String>,
    /// The delegates, who ring along; their calls are not picked up (GCP-09).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegates: Vec<String>,
    /// The private line: a second number, whose calls are never picked up (GCP-09).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_number: Option<String>,
    /// Callers whose calls are not picked up (GCP-09): users, extensions or numbers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_pickable_from: Vec<String>,
}

/// Why a call goes somewhere else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Always.
    Always,
    /// The callee is busy, or declined.
    Busy,
    /// Nobody answered.
    NoAnswer,
    /// No phone is registered.
    Unregistered,
}

impl Cause {
    /// The cause of RFC 4458 §2, as History-Info carries it.
    pub const fn code(self) -> u16 {
        match self {
            Cause::Always => 302,
            Cause::Busy => 486,
            Cause::NoAnswer => 408,
            Cause::Unregistered => 404,
        }
    }

    /// The reason of RFC 5806 §9.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Always => "unconditional",
            Cause::Busy => "user-busy",
            Cause::NoAnswer => "no-answer",
            Cause::Unregistered => "unavailable",
        }
    }
}

impl CallRules {
    /// The keys under which they are configured and edited.
    pub const KEYS: [&str; 10] = [
        "forward_always",
        "forward_busy",
        "forward_no_answer",
        "forward_unregistered",
        "no_answer_after",
        "also_ring",
        "team",
        "delegates",
        "private_number",
        "not_pickable_from",
    ];

    /// Those of them that send calls somewhere.
    pub const TARGETS: [&str; 7] = [
        "forward_always",
        "forward_busy",
        "forward_no_answer",
        "forward_unregistered",
        "also_ring",
        "team",
        "delegates",
    ];

    /// Where the rule of that key, one of [`TARGETS`](Self::TARGETS), sends calls.
    pub fn targets(&self, key: &str) -> impl Iterator<Item = &str> {
        let (one, several): (&Option<String>, &[String]) = match key {
            "forward_always" => (&self.forward_always, &[]),
            "forward_busy" => (&self.forward_busy, &[]),
            "forward_no_answer" => (&self.forward_no_answer, &[]),
            "forward_unregistered" => (&self.forward_unregistered, &[]),
            "also_ring" => (&None, &self.also_ring),
            "team" => (&None, &self.team),
            "delegates" => (&None, &self.delegates),
            _ => (&None, &[]),
        };
        one.iter().chain(several).map(String::as_str)
    }

    /// Changes the rule of that key; null takes it away. None if there is no such key.
    pub fn set(&mut self, key: &str, value: &Value) -> Option<Result<(), String>> {
        let targets = |list: &mut Vec<String>| {
            let items = match value {
                Value::Null => Vec::new(),
                Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                Value::String(item) => vec![item.clone()],
                _ => return Err(format!("expected a list of texts, found {value}")),
            };
            if value.as_array().is_some_and(|given| given.len() != items.len()) {
                return Err(format!("expected a list of texts, found {value}"));
            }
            *list = items.iter().map(|item| config::check_target(item)).collect::<Result<_, _>>()?;
            Ok(())
        };
        let text = |check: fn(&str) -> Result<String, String>| match value {
            Value::Null => Ok(None),
            Value::String(text) => check(text).map(Some),
            _ => Err(format!("expected a text or null, found {value}")),
        };
        Some(match key {
            "forward_always" => text(config::check_target).map(|to| self.forward_always = to),
            "forward_busy" => text(config::check_target).map(|to| self.forward_busy = to),
            "forward_no_answer" => text(config::check_target).map(|to| self.forward_no_answer = to),
            "forward_unregistered" => text(config::check_target).map(|to| self.forward_unregistered = to),
            "no_answer_after" => text(|text| {
                let after = config::read_duration(text)?;
                if config::NO_ANSWER_AFTER.contains(&after) {
                    return Ok(after.as_millis().to_string());
                }
                let [least, most] = [config::NO_ANSWER_AFTER.start(), config::NO_ANSWER_AFTER.end()]
                    .map(|d| config::show_duration(*d));
                Err(format!("expected a time from {least} to {most}, found {text:?}"))
            })
            .map(|ms| self.no_answer_after_ms = ms.and_then(|ms| ms.parse().ok())),
            "also_ring" => targets(&mut self.also_ring),
            "team" => targets(&mut self.team),
            "delegates" => targets(&mut self.delegates),
            "private_number" => text(config::check_number).map(|number| self.private_number = number),
            "not_pickable_from" => targets(&mut self.not_pickable_from),
            _ => return None,
        })
    }

    /// The rules there are, under their keys.
    pub fn row(&self) -> Map<String, Value> {
        let mut row = match serde_json::to_value(self) {
            Ok(Value::Object(row)) => row,
            _ => Map::new(),
        };
        if let Some(ms) = row.remove("no_answer_after_ms").and_then(|ms| ms.as_u64()) {
            let after = config::show_duration(Duration::from_millis(ms));
            row.insert("no_answer_after".to_owned(), json!(after));
        }
        row
    }

    /// Where a call goes for this cause.
    pub fn forward(&self, cause: Cause) -> Option<&str> {
        let target = match cause {
            Cause::Always => &self.forward_always,
            Cause::Busy => &self.forward_busy,
            Cause::NoAnswer => &self.forward_no_answer,
            Cause::Unregistered => &self.forward_unregistered,
        };
        target.as_deref()
    }

    /// How long phones ring; none: until they or the caller give up.
    pub fn no_answer_after(&self) -> Option<Duration> {
        self.forward_no_answer.as_ref()?;
        Some(self.no_answer_after_ms.map_or(NO_ANSWER_AFTER, Duration::from_millis))
    }

    /// Everybody who rings along.
    pub fn companions(&self) -> impl Iterator<Item = &str> {
        [&self.also_ring, &self.team, &self.delegates].into_iter().flatten().map(String::as_str)
    }
}
