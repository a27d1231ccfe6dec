//! Integration tests of the host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod plugin;
