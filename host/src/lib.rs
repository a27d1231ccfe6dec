//! Switchyard: a plugin-based SIP feature host.

pub mod admin;
pub mod call;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod directory;
pub mod drill;
pub mod engine;
pub mod media;
pub mod near;
pub mod net;
pub mod notifier;
pub mod orbit;
pub mod plugin;
pub mod policy;
pub mod pool;
pub mod recent;
pub mod registrar;
pub mod repeats;
pub mod runtime;
pub mod sip;
pub mod store;
pub mod time;
mod tracked;
pub mod transport;
