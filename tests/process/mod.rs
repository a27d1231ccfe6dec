//! The program itself, with real sockets: SIPp as a phone that follows a script, baresip as a phone that talks and
//! hears. Nothing here asserts a duration; what is waited for may take ten times as long as ever seen. A test that
//! fails prints what the host logged and what the phones said.
#![allow(dead_code, reason = "the tests of restarts, drains and the command line follow")]

mod audio;
mod baresip;
mod host;
mod program;
mod sipp;

mod calls;
mod parks;
mod softphones;
