//! Whole policies: files in, settings and decisions out.

mod hooks;
mod layers;
mod mistakes;
mod reload;
mod shipped;

use std::path::PathBuf;

use serde_json::json;
use switchyard_sdk::manifest::{Hook, Kind, Setting};

use super::*;
use crate::time::{Instant, Utc};

/// As the call-park plugin declares it.
fn call_park() -> Section {
    let duration = |min: u64, max: u64| Kind::Duration { min_ms: min * 1000, max_ms: max * 1000 };
    let setting = |name: &str, kind: Kind, default: Json| Setting {
        name: name.into(),
        kind,
        default,
        doc: String::new(),
    };
    let hook = |name: &str| Hook { name: name.into(), doc: String::new() };
    let words = ["random", "lowest", "least_recent"].map(str::to_owned).to_vec();
    Section {
        name: "call_park".into(),
        doc: String::new(),
        settings: vec![
            setting("pickup_timeout", duration(10, 600), json!("90s")),
            setting("max_recall_attempts", Kind::Integer { min: 1, max: 10 }, json!(1)),
            setting("on_timeout_uri", Kind::Uri, Json::Null),
            setting("music_on_hold", Kind::Music, json!(true)),
            setting("recall_ring_time", duration(5, 120), json!("30s")),
            setting("orbit_choice", Kind::Word { words }, json!("random")),
            setting("reuse_cooldown", duration(0, 3600), json!("30s")),
            setting("say_orbit", Kind::Boolean, json!(true)),
        ],
        hooks: vec![hook("allow"), hook("allow_retrieve"), hook("orbit_choice")],
    }
}

/// Numbers of facts.md: SET-01, SET-02, SET-03, SET-04, CP-02, §6.6, §6.10.
fn park_defaults() -> Json {
    json!({
        "pickup_timeout": 90_000, "max_recall_attempts": 1, "on_timeout_uri": null, "music_on_hold": "default",
        "recall_ring_time": 30_000, "orbit_choice": "random", "reuse_cooldown": 30_000, "say_orbit": true,
    })
}

fn bundle(files: &[(&str, &str)]) -> Arc<Bundle> {
    Arc::new(Bundle::of(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))))
}

fn policies(files: &[(&str, &str)]) -> Policies {
    Policies::new(&[call_park()], bundle(files), &["west".into()], 7).unwrap()
}

/// Everything wrong with `pools/west.lua`, which extends an empty default.
fn errors(west: &str) -> Vec<String> {
    let files = bundle(&[("default.lua", "return {}"), ("pools/west.lua", west)]);
    let errors = Policies::new(&[call_park()], files, &[], 7).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn park(policies: &Policies, pool: &str) -> Json {
    serde_json::from_str(policies.settings(pool, "call_park").unwrap()).unwrap()
}

fn now() -> Now {
    Now { instant: Instant::ZERO, utc: Utc(1_767_600_000_000) }
}

fn shipped() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"))
}

/// A hook of `call_park` in the policy of the west.
fn west_with(hook: &str) -> Policies {
    policies(&[("pools/west.lua", &format!("return {{ call_park = {{\n{hook}\n}} }}"))])
}
