//! Call flows in simulated time.

mod abuse;
mod admin;
mod alone;
mod calls;
mod early;
mod forward;
mod lamps;
mod park;
mod pickup;
mod session;
mod transfer;
mod trunk;
