//! Whole policies: files in, settings and decisions out.

mod hooks;
mod layers;
mod mistakes;
mod reload;
mod shipped;

use std::path::PathBuf;

use serde_json::json;
use switchyard_sdk::manifest::{Hook, Manifest};

use super::*;
use crate::time::{Instant, Utc};

/// The section of the call-park plugin as it declares it, and a hook that shares the name of a setting.
fn call_park() -> Section {
    let manifest = include_str!("../../../../plugins/call-park/src/manifest.json");
    let manifest: Manifest = serde_json::from_str(manifest).unwrap();
    let mut section = manifest.sections.into_iter().find(|section| section.name == "call_park").unwrap();
    section.hooks.push(Hook { name: "orbit_choice".into(), doc: String::new() });
    section
}

/// The section of the group-pickup plugin.
fn group_pickup() -> Section {
    let manifest = include_str!("../../../../plugins/group-pickup/src/manifest.json");
    let manifest: Manifest = serde_json::from_str(manifest).unwrap();
    manifest.sections.into_iter().find(|section| section.name == "group_pickup").unwrap()
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
