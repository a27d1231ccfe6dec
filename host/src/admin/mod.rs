//! The administrative interface: HTTP, events, and the requests the engine answers.

mod request;

pub use request::{RangeSpec, Refused, Request};
