//! Who a phone is told it talks to: From, P-Asserted-Identity (RFC 3325).

use switchyard_sdk::types::Party;

use super::branch::Headers;
use crate::engine::core::Core;
use crate::sip::{NameAddr, Uri};

/// `"Alice" <sip:alice@example.test>`.
pub(super) fn name_addr(cx: &Core, party: &Party, display: Option<&str>) -> String {
    let uri = Uri::parse(&party.uri).or_else(|_| Uri::parse(&cx.uri_of("anonymous"))).map(|uri| NameAddr {
        display: display.or(party.display.as_deref()).map(str::to_owned),
        uri,
        params: Default::default(),
    });
    match uri {
        Ok(address) => address.to_string(),
        Err(_) => format!("<sip:anonymous@{}>", cx.identity.domain),
    }
}

/// The P-Asserted-Identity of a party.
pub(super) fn asserted(cx: &Core, party: &Party) -> String {
    name_addr(cx, party, None)
}

impl Headers {
    /// The headers of an INVITE that presents `party`, under another display name if one is given.
    pub fn presenting(cx: &Core, party: &Party, display: Option<&str>) -> Self {
        Self {
            from: name_addr(cx, party, display),
            asserted: (!party.outside || !party.uri.is_empty()).then(|| asserted(cx, party)),
            served: party.user.as_ref().map(|user| format!("<{}>", cx.uri_of(user))),
            max_forwards: None,
            extra: Vec::new(),
        }
    }
}
