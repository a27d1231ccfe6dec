//! A world in one test: the real engine, the real plugin libraries, phones that act, simulated time and network.
//!
//! Nothing here waits or reads a clock. One seed decides everything; the same seed gives the same ladder.

mod ladder;
mod phone;
mod watch;
mod world;

pub use phone::{CallId, OnRing};
pub use world::{World, WorldOptions};
