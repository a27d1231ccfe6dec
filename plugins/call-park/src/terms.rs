//! The settings of section `call_park`, as this plugin reads them.

use serde::Deserialize;
use switchyard_sdk::prelude::*;

/// Section `call_park` of a pool's policy (SET-01 to SET-04). Durations in milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Settings {
    pub pickup_timeout: u64,
    pub max_recall_attempts: u32,
    pub recall_ring_time: u64,
    pub on_timeout_uri: Option<String>,
    pub music_on_hold: Music,
    pub orbit_choice: Choice,
    pub reuse_cooldown: u64,
    pub say_orbit: bool,
}

impl Settings {
    /// The settings as they are now: each stage of a call asks again, so that an edit reaches calls that wait.
    pub fn now(cx: &Context, pool: &str) -> Result<Self, CommandError> {
        cx.policy().settings(pool, "call_park")
    }
}
