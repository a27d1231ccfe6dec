//! What a plugin declares about itself. What is not declared is not granted.

use serde::{Deserialize, Serialize};

/// A plugin's declaration, carried as JSON in its entry.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// One sentence for `switchyard plugin list`.
    pub description: String,
    /// Kinds of orbit ranges this plugin handles: `call-park`. A dialled or transferred-to number inside such a
    /// range is offered to it before the dial plan.
    pub kinds: Vec<String>,
    /// Service names (user parts of the domain) this plugin handles: `park`, `unpark`.
    pub services: Vec<String>,
    /// Prefixes this plugin handles: with `**`, a call to `**1010` is offered to it as service `**`, number `1010`.
    /// Two of `*` and `#`.
    pub prefixes: Vec<String>,
    /// Extensions it uses: `switchyard.call/1`.
    pub extensions: Vec<String>,
    /// Its sections of a policy file.
    pub sections: Vec<Section>,
}

/// A section of a policy file: `call_park = { … }`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Section {
    /// `call_park`.
    pub name: String,
    /// One sentence for the reference.
    pub doc: String,
    /// Its settings.
    pub settings: Vec<Setting>,
    /// Its hooks.
    pub hooks: Vec<Hook>,
}

/// One setting: plain data in the policy file, converted once per reload.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// `pickup_timeout`.
    pub name: String,
    /// Which values it takes.
    pub kind: Kind,
    /// What holds when the file says nothing, as it would be written in JSON: `"90s"`, `1`, `null` for none.
    pub default: serde_json::Value,
    /// What it does, for the reference.
    pub doc: String,
}

/// Which values a setting takes. Converted values cross as JSON: a duration as milliseconds, the rest as they are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Kind {
    /// `"90s"`, `"2m"`, `"1m30s"`, `"500ms"`; crosses as milliseconds.
    Duration {
        /// Least, in milliseconds.
        min_ms: u64,
        /// Most, in milliseconds.
        max_ms: u64,
    },
    /// A whole number.
    Integer {
        /// Least.
        min: i64,
        /// Most.
        max: i64,
    },
    /// `true` or `false`.
    Boolean,
    /// Any text.
    Text,
    /// A SIP URI, or `none`.
    Uri,
    /// One of a list of words.
    Word {
        /// The words.
        words: Vec<String>,
    },
    /// A list of texts: `{ "bob", "*101" }`. `{}` is a list of nothing.
    Texts,
    /// `true`, `false`, or the name of a file below the music folder.
    Music,
    /// A table of more settings.
    Table {
        /// Its settings.
        settings: Vec<Setting>,
    },
}

/// A function in the policy file that is asked for a decision.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Hook {
    /// `allow`.
    pub name: String,
    /// What it is asked and what it may return, for the reference.
    pub doc: String,
}
