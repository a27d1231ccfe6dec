//! SIP without IO: messages, transactions, dialogs. Knows RFCs, bytes and time; nothing of calls or plugins.

pub mod body;
pub mod dialog;
mod draft;
pub mod grammar;
pub mod header;
mod message;
#[cfg(test)]
mod message_tests;
mod method;
mod name;
mod params;
mod parse;
mod status;
#[cfg(test)]
mod torture;
pub mod transaction;
pub mod uri;
pub mod vocabulary;

pub use dialog::{Dialog, DialogId, MAX_FORWARDS, OutOfOrder, listening};
pub use draft::Draft;
pub use grammar::Malformed;
pub use header::{
    Auth, Authorization, CSeq, Challenge, EventHeader, MinSe, NameAddr, RAck, Reason, ReferTo, ReferredBy,
    Refresher, Replaces, SessionExpires, SubState, SubscriptionState, Via, Warning,
};
pub use message::Message;
pub use method::Method;
pub use name::Name;
pub use params::{PARAMS_MAX, Params};
pub use parse::{FIELDS_MAX, LINE_BYTES_MAX, LIST_ELEMENTS_MAX, MESSAGE_BYTES_MAX, ParseError};
pub use status::{Class, Status};
pub use transaction::{
    ClientId, Counters, Event, Failure, Limits, ServerId, Timings, Transactions, refuse, too_big_for_udp,
};
pub use uri::{Scheme, Uri};
pub use vocabulary::NotRepresentable;
