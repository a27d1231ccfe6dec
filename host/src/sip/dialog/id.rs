//! What identifies a dialog.

use serde::{Deserialize, Serialize};

use crate::sip::header::Replaces;
use crate::sip::message::Message;

/// Identifies a dialog as seen from this side (RFC 3261 §12).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct DialogId {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Their tag.
    pub remote_tag: String,
}

impl DialogId {
    /// The dialog a request sent to us belongs to; `None` outside of any.
    pub fn of_request(request: &Message) -> Option<Self> {
        Some(Self {
            call_id: request.call_id().to_owned(),
            local_tag: request.to_tag()?.to_owned(),
            remote_tag: request.from_tag().to_owned(),
        })
    }

    /// The dialog a response to our request belongs to; `None` without a To tag.
    pub fn of_response(response: &Message) -> Option<Self> {
        Some(Self {
            call_id: response.call_id().to_owned(),
            local_tag: response.from_tag().to_owned(),
            remote_tag: response.to_tag()?.to_owned(),
        })
    }

    /// The same dialog seen from the other side.
    pub fn swapped(self) -> Self {
        Self { call_id: self.call_id, local_tag: self.remote_tag, remote_tag: self.local_tag }
    }
}

impl From<Replaces> for DialogId {
    fn from(Replaces { call_id, to_tag, from_tag, .. }: Replaces) -> Self {
        // The sender names tags from our side: its to-tag is our local tag (RFC 3891 §3).
        Self { call_id, local_tag: to_tag, remote_tag: from_tag }
    }
}
