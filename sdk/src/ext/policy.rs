//! `switchyard.policy/1`: the settings of a pool, and what its hooks decide.

use serde::{Deserialize, Serialize};

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
