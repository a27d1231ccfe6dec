//! Call flows in simulated time.

mod calls;
mod park;
mod transfer;
