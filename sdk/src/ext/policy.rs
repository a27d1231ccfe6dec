//! `switchyard.policy/1`: the settings of a pool, and what its hooks decide.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::answer::CommandError;
use crate::context::Context;
use crate::encode;
use crate::types::{Code, Refusal};

/// Policies, as a flow asks them: [`Context::policy`](crate::Context::policy). Both answer at once.
#[derive(Clone, Copy)]
pub struct Policy<'a>(pub(crate) &'a Context);

impl Policy<'_> {
    /// The settings of one of the plugin's sections in the policy of `pool`. Ask again at each stage: a policy
    /// may be edited while a call waits. Durations are milliseconds.
    pub fn settings<T: DeserializeOwned>(&self, pool: &str, section: &str) -> Result<T, CommandError> {
        let text = self.0.core().host.settings(pool, section);
        read(text, || format!("settings of {section} in pool {pool}"))
    }

    /// Asks a hook of one of the plugin's sections (`call_park.allow`), declared in its manifest. A hook that is absent, fails or overruns its budget gives the
    /// documented default.
    pub fn decide(&self, pool: &str, hook: &str, args: &impl Serialize) -> Result<Decision, CommandError> {
        let text = self.0.core().host.decide(pool, hook, &encode(args));
        read(text, || format!("decision of {hook} in pool {pool}"))
    }
}

fn read<T: DeserializeOwned>(
    text: Result<String, i32>,
    what: impl FnOnce() -> String,
) -> Result<T, CommandError> {
    match text {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| CommandError::new(Code::GENERAL, format!("{}: {error}", what()))),
        Err(status) => Err(CommandError::of_status(status, &what())),
    }
}

/// What a hook decided. A hook may return `true`, `false`, nothing (the default), `deny("why")`, or a table of
/// replacements for settings of its section, which then hold for this decision only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision {
    /// Whether it is allowed; true when no hook said otherwise.
    pub allowed: bool,
    /// Why not, in the policy author's words.
    pub reason: Option<String>,
    /// The settings that hold for this decision: the section's, with the hook's replacements.
    pub settings: serde_json::Value,
    /// The policy revision that decided.
    pub revision: u64,
}

impl Default for Decision {
    fn default() -> Self {
        Self { allowed: true, reason: None, settings: serde_json::Value::Null, revision: 0 }
    }
}

impl Decision {
    /// The decision if it allows, else a refusal with `code` in the policy author's words, or in `otherwise`.
    pub fn allowed_or(self, code: Code, otherwise: &str) -> Result<Self, Refusal> {
        if self.allowed {
            return Ok(self);
        }
        Err(Refusal::new(code, self.reason.unwrap_or_else(|| otherwise.to_owned())))
    }

    /// The settings that hold for this decision, as a typed value.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, CommandError> {
        T::deserialize(&self.settings)
            .map_err(|error| CommandError::new(Code::GENERAL, format!("settings of a decision: {error}")))
    }
}
