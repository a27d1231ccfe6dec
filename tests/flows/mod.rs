//! Call flows in simulated time.

mod calls;
mod park;
mod session;
mod transfer;
mod trunk;
