//! Call flows in simulated time.

mod admin;
mod calls;
mod park;
mod session;
mod transfer;
mod trunk;
