//! The host's half of the plugin ABI, and the only libloading (design.md §5).
//!
//! A plugin function only enqueues a [`Command`]; the engine applies it when no plugin runs. What breaks in a
//! plugin ends the flow it broke in, once; the rest goes on.

mod book;
mod command;
mod entry;
mod error;
mod library;
mod plugins;
mod receiver;
#[cfg(test)]
mod tests;
mod watchdog;

pub use command::{Command, FlowEnd, InstanceId, Verb, Waiter};
pub use entry::Description;
pub use error::LoadError;
pub use plugins::{OnWake, Plugins};
pub use receiver::PolicySource;
pub use watchdog::{Stuck, Watchdog};
