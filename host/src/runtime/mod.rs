//! The only clock, tasks, file watching and signals: turns the engine's outputs into I/O and the world into inputs.
//!
//! [`run`] is a host from start to end. Its threads:
//!
//! * *engine*: the engine and its loop ([`Drive`]), which reads and writes the UDP sockets itself. It waits for nobody.
//! * *io*, two of them: a task per TCP connection, name look-ups, HTTP, policy files, signals. All they have to say goes
//!   through the [`Inbox`], so the engine sees one order of things.
//! * the store's and the media service's own.

mod clock;
mod descriptors;
mod drain;
mod drive;
mod engine_thread;
mod greeting;
mod health;
mod heartbeat;
mod inbox;
mod linking;
mod lost_lines;
mod naming;
mod policies;
mod reload;
mod run;
mod seed;
mod signals;
mod standing;
mod storing;

pub use clock::Clock;
pub use drive::{Drive, Hands, Machine, Sources};
pub use heartbeat::Heartbeat;
pub use inbox::{Arrivals, Inbox, inbox};
pub use run::{Greet, RunError, run};
