//! Pools that fail: in which phase each pool is, who may serve its users, and what is done about it (design.md §8).
//!
//! [`Pools`] is a value, a mirror of the store like [`Seats`](crate::cluster::Seats): it is told what changes, and asked what
//! there is to do. Every step it proposes is one transaction that expects the pool's record as it is known and the own
//! life: of two hosts that both think it is theirs to do, one does it. A step is a condition and what brings it about, so
//! that whoever goes on after a runner has died needs nothing but the record.
//!
//! | phase | left by | then |
//! |---|---|---|
//! | active | all hosts silent | outage |
//! | outage | heard again; `failure_detection` over | active; resilient |
//! | resilient | heard for `failback_detection`, or the backup is gone too | active |
//! | active, outage, resilient | failover: an administrator, or the policy | failing_over, failed_over |
//! | failed_over | failback: an administrator, or the policy | failing_back, active |
//! | failed_over, or lost with its backup | another pool takes its place: an administrator | failing_back, active |

mod ask;
mod detect;
pub mod matrix;
mod pools;
mod procedure;
mod reassign;
mod record;
mod seat;
#[cfg(test)]
mod tests;

pub use ask::{Ask, Objection, unreached};
pub use detect::Upcoming;
pub use pools::{Changed, Pools, Proposal, Terms};
pub use procedure::ParkedFate;
pub use reassign::Replacement;
pub use record::{Journal, Phase, PoolRecord, Procedure, Step, StepName, StepState};
pub use seat::Side;
