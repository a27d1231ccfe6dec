//! SIP on the wire: sans-IO, knows RFCs and bytes, nothing of calls or plugins.

pub mod body;
