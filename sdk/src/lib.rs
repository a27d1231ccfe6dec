//! What a Switchyard plugin needs.

pub mod abi;
pub mod ext;
pub mod manifest;
pub mod types;
