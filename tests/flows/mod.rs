//! Call flows in simulated time.

mod abuse;
mod admin;
mod alone;
mod calls;
mod cluster;
mod early;
mod forward;
mod lamps;
mod notifier;
mod park;
mod phones;
mod pickup;
mod pools;
mod restart;
mod session;
mod torture;
mod transfer;
mod trunk;
