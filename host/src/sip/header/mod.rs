//! Typed header values, one per file: `parse` reads one element, `Display` prints it.
//!
//! From, To, Contact, Route, Record-Route, Path, Referred-By and P-Asserted-Identity are all [`NameAddr`]s.

mod auth;
mod cseq;
mod event;
mod name_addr;
mod rack;
mod reason;
mod refer_to;
mod replaces;
mod session_expires;
mod subscription_state;
mod via;
mod warning;

pub use auth::{AUTH_PARAMS_MAX, Auth, Authorization, Challenge};
pub use cseq::CSeq;
pub(super) use cseq::split as split_cseq;
pub use event::EventHeader;
pub use name_addr::NameAddr;
pub(super) use name_addr::split_name_addr;
pub use rack::RAck;
pub use reason::Reason;
pub use refer_to::{ReferTo, ReferredBy};
pub use replaces::Replaces;
pub use session_expires::{MinSe, Refresher, SessionExpires};
pub use subscription_state::{SubState, SubscriptionState};
pub use via::Via;
pub(super) use via::{BRANCH_COOKIE, ViaParts};
pub use warning::Warning;
