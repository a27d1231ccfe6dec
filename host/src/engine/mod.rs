//! The engine: a value driven by [`Input`]s and time, which answers with [`Output`]s. No sockets, no clock.

mod input;
mod output;

pub use input::{AdminId, Input, QueryId, StoreId};
pub use output::{Event, Output};
