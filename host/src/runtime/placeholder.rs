//! Stands in for the engine until there is one: refuses to be made.
#![expect(dead_code, reason = "goes away with the engine's arrival")]

use std::sync::Arc;

use super::Machine;
use crate::config::Config;
use crate::engine::{Input, Output};
use crate::net::Listener;
use crate::plugin::Plugins;
use crate::policy::Bundle;
use crate::store::Snapshot;
use crate::time::{Instant, Now};

pub struct Options {
    pub config: Arc<Config>,
    pub listeners: Vec<Listener>,
    pub seed: [u8; 32],
    pub snapshot: Snapshot,
    pub bundle: Arc<Bundle>,
    pub plugins: Plugins,
}

pub struct Engine;

impl Engine {
    pub fn new(_: Now, _: Options) -> Result<Engine, &'static str> {
        Err("this build has no engine")
    }
}

impl Machine for Engine {
    fn handle(&mut self, _: Now, _: Input) {}
    fn on_timeout(&mut self, _: Now) {}
    fn next_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<Output> {
        None
    }
}
