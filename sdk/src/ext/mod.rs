//! Extensions: what the host can do for a plugin, one file each, with the values that cross the boundary.
//!
//! An extension is fetched by its id (`switchyard.call/1`). Values cross as JSON; a missing field has its
//! default, an unknown field is ignored, so either side may be newer than the other.

pub mod call;
pub mod log;
pub mod metrics;
pub mod orbit;
pub mod policy;
pub mod ringing;
pub mod timer;
