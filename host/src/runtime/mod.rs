//! The only clock, tasks, file watching and signals: turns the engine's outputs into I/O and the world into inputs.

mod clock;
mod descriptors;
mod drain;
mod drive;
mod engine_thread;
mod greeting;
mod heartbeat;
mod inbox;
mod naming;
mod policies;
mod reload;
mod run;
mod seed;
mod storing;

pub use clock::Clock;
pub use drive::{Drive, Hands, Machine, Sources};
pub use heartbeat::Heartbeat;
pub use inbox::{Arrivals, Inbox, inbox};
pub use run::{RunError, run};
