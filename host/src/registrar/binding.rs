//! One phone of one user.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::digest::hex;
use crate::net::{ConnectionId, Flow, HostName};
use crate::sip::grammar::quote;
use crate::store::keys::binding_key;
use crate::store::{Operation, ROOT};
use crate::time::Utc;

/// Where a user can be reached, as the store's `binding/USER/ID` holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// Whose phone it is.
    pub user: String,
    /// Names the phone among the user's, the same for as long as it keeps registering, over restarts of the host too.
    pub id: String,
    /// The Contact URI, without angle brackets.
    pub contact: String,
    /// The display name of the Contact, if it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// The proxies between us and the phone (RFC 3327), each a Route value, the first to visit first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<String>,
    /// The instance-id, without quotes: `<urn:uuid:…>` (RFC 5626 §4.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Which of the phone's flows this is; only where the phone speaks outbound (RFC 5626).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reg_id: Option<u32>,
    /// Preference among the user's phones in thousandths, 1000 unless the phone says less.
    pub q: u16,
    /// Where the REGISTER came from: the way back through any NAT, or to the last proxy of the path.
    pub flow: Flow,
    /// When it ends unless refreshed.
    pub expires: Utc,
    /// When it was last refreshed.
    pub refreshed: Utc,
    /// The Call-ID of the last REGISTER.
    pub call_id: String,
    /// The CSeq number of the last REGISTER.
    pub cseq: u32,
    /// The methods the phone takes, from Allow or the Contact's `methods`; empty if it does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// What the phone calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

impl Binding {
    /// Whether the phone has said that it takes requests of this method.
    pub fn allows(&self, method: &str) -> bool {
        self.methods.iter().any(|allowed| allowed == method)
    }

    /// Whether it ends with its flow, since the phone keeps the flow alive and replaces it (RFC 5626).
    pub fn is_outbound(&self) -> bool {
        self.instance.is_some() && self.reg_id.is_some()
    }

    /// Whether a message that came on `flow` was sent by this phone, or by the proxy next to us.
    pub fn is_on(&self, flow: &Flow) -> bool {
        let same_connection = match (self.flow.connection, flow.connection) {
            (Some(ours), Some(theirs)) => ours == theirs,
            (None, _) | (_, None) => self.flow.remote == flow.remote,
        };
        self.flow.edge == flow.edge && self.flow.protocol == flow.protocol && same_connection
    }

    pub(super) fn uses(&self, edge: Option<HostName>, connection: ConnectionId) -> bool {
        self.flow.edge == edge && self.flow.connection == Some(connection)
    }

    /// The value of a Contact field that tells a registering phone of this binding (RFC 3261 §10.3 item 8).
    pub(super) fn contact_value(&self, now: Utc) -> String {
        // Rounded up: a binding that lives is never shown as one that doesn't.
        let left_s = self.expires.saturating_since(now).as_millis().div_ceil(1000);
        let mut value = format!("<{}>;expires={left_s}", self.contact);
        if self.q < 1000 {
            value.push_str(&format!(";q=0.{:03}", self.q));
        }
        if let Some(instance) = &self.instance {
            value.push_str(&format!(";+sip.instance={}", quote(instance)));
        }
        if let Some(reg_id) = self.reg_id {
            value.push_str(&format!(";reg-id={reg_id}"));
        }
        value
    }

    /// Where the store keeps it.
    pub fn key(&self) -> String {
        binding_key(&self.user, &self.id)
    }

    /// The write that stores it.
    pub fn put(&self) -> Operation {
        // Plain data always has a JSON form.
        Operation::Put { key: self.key(), value: serde_json::to_vec(self).unwrap_or_default().into() }
    }

    /// The write that removes it from the store.
    pub fn delete(&self) -> Operation {
        Operation::Delete { key: self.key() }
    }
}

/// Keys of all bindings begin with this.
pub(super) fn prefix() -> String {
    format!("{ROOT}binding/")
}

/// A binding's id: from the instance if the phone has one, as its address may change, else from the address.
pub(super) fn id_of(instance: Option<&str>, reg_id: Option<u32>, contact: &str) -> String {
    let name = match instance {
        Some(instance) => format!("{instance} {}", reg_id.unwrap_or(0)),
        None => contact.to_owned(),
    };
    hex(&Sha256::digest(name)[..8])
}
