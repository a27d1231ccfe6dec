//! Typed header values, one per file: `parse` reads one element, `Display` prints it.

mod cseq;
mod name_addr;
mod via;

pub use cseq::CSeq;
pub(super) use cseq::split as split_cseq;
pub use name_addr::NameAddr;
pub(super) use name_addr::split_name_addr;
pub use via::Via;
pub(super) use via::ViaParts;
