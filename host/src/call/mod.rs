//! Legs joined into calls.

pub mod negotiation;
