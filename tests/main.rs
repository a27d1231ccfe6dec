//! Integration tests of the host: flows and whole deployments in simulated time with the real plugin libraries,
//! plugins as libraries, and real processes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod flows;
mod harness;
mod plugin;
mod process;
mod simulation;
