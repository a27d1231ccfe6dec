//! The program itself, with real sockets: SIPp as a phone that follows a script, baresip as a phone that talks and
//! hears. Nothing here asserts a duration; what is waited for may take ten times as long as ever seen. A test that
//! fails prints what the host logged and what the phones said.

#![cfg_attr(not(feature = "etcd"), allow(dead_code, reason = "clusters need more of it"))]

mod administration;
mod audio;
mod baresip;
mod dns;
#[cfg(feature = "etcd")]
mod etcd;
mod host;
mod linphone;
mod ports;
mod program;
mod sipp;

mod bad_input;
mod calls;
#[cfg(feature = "etcd")]
mod cluster;
mod command_line;
mod drain;
mod drill;
mod lamps;
mod logging;
#[cfg(feature = "etcd")]
mod panel;
mod parks;
mod pickups;
mod policies;
#[cfg(feature = "etcd")]
mod pools;
#[cfg(feature = "etcd")]
mod replaced;
mod restarts;
mod softphones;
mod storm;
#[cfg(feature = "etcd")]
mod survival;
mod trunks;
