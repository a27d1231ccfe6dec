//! Places a call can wait in: the only owner of orbit state.
//!
//! [`Ranges`] says which numbers are orbits and whose. [`Orbits`] says what is in them: a number is free, or has
//! one [`Occupant`], which is *reserved* (asked for), *parked* (its record is in the store) or *connecting*
//! (claimed, the claimant is being joined to it), and then freed. A claim is the step from parked to connecting;
//! one claimant wins. Everything here is a value driven by calls and time: answers, writes and events come out of
//! [`Orbits::poll_output`].
//!
//! What holds at every moment (checked by [`Orbits::check`] in tests, counted by [`Orbits::leaks`] in a running
//! host): no orbit without a live leg, no leg in two orbits, no reservation or claim that outlives its flow.

mod check;
mod claims;
mod ledger;
mod lot;
mod number;
mod occupant;
mod orbits;
mod parking;
mod range;
mod ranges;
mod record;
mod restore;
mod ringing;
mod table;

#[cfg(test)]
mod tests;

pub use number::{Number, NumberError, Prefix, dialled};
pub use occupant::{Occupant, State};
pub use orbits::{Freed, OrbitOutput, Orbits};
pub use range::{POOL_SIZE_MAX, RANGE_SIZE_MAX, Range, RangeError, RangeFault, Used};
pub use ranges::{Ranges, put_operation, remove_operation};
pub use record::{Record, RestoredCall};
pub use restore::Whose;
pub use ringing::Fate;
