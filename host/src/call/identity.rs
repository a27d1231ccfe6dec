//! Who a phone is told it talks to: From, P-Asserted-Identity (RFC 3325); and who is on a leg to the server of another pool.

use switchyard_sdk::types::{LegId, Party};

use super::Calls;
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

impl Calls {
    /// Another pool's server says in a request, or in the answer to one of ours, whom it has on this leg now (RFC 4916, by the
    /// header of RFC 3325). That counts when the request, or the answer, is accepted. A request that is answered just now is not
    /// touched by the next one.
    pub fn assert(&mut self, id: LegId, party: Option<Party>) {
        if let Some(leg) = self.legs.get_mut(&id).filter(|leg| leg.request.is_none()) {
            leg.asserted = party.map(Box::new);
        }
    }

    /// Who is on a leg from now on, if that is somebody else than before.
    pub(super) fn take_up_asserted(&mut self, id: LegId) -> Option<Party> {
        let leg = self.legs.get_mut(&id)?;
        let party = *leg.asserted.take()?;
        let before = std::mem::replace(&mut leg.party, party.clone());
        self.list_under(id, before.user.as_deref());
        (before.uri != party.uri).then_some(party)
    }
}
