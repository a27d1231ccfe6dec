//! The only libloading, and the host's half of the plugin ABI.

mod command;

pub use command::{Command, FlowEnd, InstanceId, Verb, Waiter};
