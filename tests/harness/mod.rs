//! A world in one test: the real engine, the real plugin libraries, phones that act, simulated time and network.
//!
//! Nothing here waits or reads a clock. One seed decides everything; the same seed gives the same ladder.

mod ladder;
mod network;
mod phone;
mod plugins;
mod watch;
mod world;

pub use network::Weather;
pub use phone::{Call, CallId, OnRing, Phone};
pub use watch::Asking;
pub use world::{Clock, Moment, StoreDoes, Strike, World, WorldOptions};
