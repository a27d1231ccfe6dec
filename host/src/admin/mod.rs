//! The administrative interface: HTTP, events, and the requests the engine answers.
//!
//! [`router`] is the whole interface as a value; [`serve`] puts it on a socket. It knows nothing of calls: each
//! route becomes a [`Request`], goes through an [`AdminHandle`] to the engine, and the answer is passed on as JSON.
//! The list of routes is [`openapi.json`](OPENAPI); a test holds the two against each other.

mod access;
mod answer;
mod events;
mod handle;
mod metrics;
mod request;
mod routes;
mod server;

pub use access::{Access, AccessError};
pub use events::Events;
pub use handle::{AdminHandle, Question, Readiness, State};
pub use request::{RangeSpec, Refused, Request};
pub use routes::{OPENAPI, Service, router};
pub use server::{CONNECTIONS_MAX, serve};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
