//! Message bodies.

pub mod sdp;
