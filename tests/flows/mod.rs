//! Call flows in simulated time.

mod admin;
mod calls;
mod early;
mod forward;
mod lamps;
mod park;
mod pickup;
mod session;
mod transfer;
mod trunk;
