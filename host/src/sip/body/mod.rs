//! Bodies of messages.

pub mod multipart;
pub mod sdp;
