//! What a user wants done with calls beside ringing their own phones: who rings along, and where calls go that nobody
//! answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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
