//! Dialogs: what two sides have to remember to go on talking (RFC 3261 §12).

mod id;
mod route_set;

use serde::{Deserialize, Serialize};

pub use id::DialogId;

use super::draft::Draft;
use super::header::{CSeq, split_name_addr};
use super::message::Message;
use super::method::Method;
use super::name::Name;
use super::uri::Uri;
use crate::net::Flow;

/// The value requests begin with (RFC 3261 §8.1.1.6).
pub const MAX_FORWARDS: u8 = 70;

/// One dialog as seen from our side: enough to send the next request in it, also from another host after this one died.
///
/// Which of the states early, confirmed and terminated it is in is the business of whoever holds it: an INVITE usage
/// and a subscription can share one dialog and end at different times (RFC 5057).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: String,
    /// Our tag.
    pub local_tag: String,
    /// Their tag; empty for a peer that knows no tags (RFC 2543).
    pub remote_tag: String,
    /// Our address, as it stands in From or To, without tag.
    pub local: String,
    /// Their address, as it stands in From or To, without tag.
    pub remote: String,
    /// The URI of their Contact: where requests go.
    pub remote_target: String,
    /// What stands in Route, first hop first.
    pub route_set: Vec<String>,
    /// CSeq of our last request.
    pub local_cseq: u32,
    /// CSeq of their last request, once there was one.
    pub remote_cseq: Option<u32>,
    /// Where their last message came from, and ours go unless the route set says otherwise.
    pub flow: Flow,
}

/// A request with a CSeq not above the last one: to be answered 500 (RFC 3261 §12.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("CSeq {received} came after {last}")]
pub struct OutOfOrder {
    /// The number that came.
    pub received: u32,
    /// The number it had to be above.
    pub last: u32,
}

impl Dialog {
    /// The dialog our response to `request` makes, with `local_tag` in its To (§12.1.1).
    pub fn uas(request: &Message, local_tag: &str, flow: Flow) -> Dialog {
        Dialog {
            call_id: request.call_id().to_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: request.from_tag().to_owned(),
            local: without_tag(request.to()),
            remote: without_tag(request.from()),
            remote_target: target(request).unwrap_or_else(|| address(request.from()).to_owned()),
            route_set: request.list(Name::RecordRoute).map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq().number),
            flow,
        }
    }

    /// The dialog `response` to our `request` makes (§12.1.2).
    pub fn uac(request: &Message, response: &Message, flow: Flow) -> Dialog {
        let mut dialog = Dialog {
            call_id: request.call_id().to_owned(),
            local_tag: request.from_tag().to_owned(),
            remote_tag: response.to_tag().unwrap_or("").to_owned(),
            local: without_tag(request.from()),
            remote: without_tag(response.to()),
            remote_target: request.uri().to_owned(),
            route_set: Vec::new(),
            local_cseq: request.cseq().number,
            remote_cseq: None,
            flow,
        };
        dialog.confirm(response);
        dialog
    }

    /// Takes route set and remote target from the 2xx that confirms an early dialog of ours: they count, not those of
    /// the provisional response (§13.2.2.4).
    pub fn confirm(&mut self, response: &Message) {
        self.route_set = response.list(Name::RecordRoute).map(str::to_owned).collect();
        self.route_set.reverse();
        self.refresh_target(response);
    }

    /// What tells this dialog from all others.
    pub fn id(&self) -> DialogId {
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            remote_tag: self.remote_tag.clone(),
        }
    }

    /// The next request in the dialog (§12.2.1.1): Request-URI, Route, From, To, Call-ID, the next CSeq, Max-Forwards.
    /// Via is the transaction's; Contact is the caller's. An ACK is made by [`ack`](Self::ack).
    pub fn request(&mut self, method: Method) -> Draft {
        self.local_cseq += 1;
        self.draft(CSeq { number: self.local_cseq, method })
    }

    /// The ACK for a 2xx to our INVITE with this CSeq number (§13.2.2.4). If the INVITE carried credentials the caller
    /// adds them.
    pub fn ack(&self, cseq: u32) -> Draft {
        self.draft(CSeq { number: cseq, method: Method::Ack })
    }

    fn draft(&self, cseq: CSeq) -> Draft {
        let (uri, routes) = route_set::address(&self.route_set, &self.remote_target);
        let mut draft = Draft::request(cseq.method.clone(), &uri);
        for route in routes {
            draft.add(Name::Route, route);
        }
        let tagged = |address: &str, tag: &str| match tag {
            "" => address.to_owned(),
            tag => format!("{address};tag={tag}"),
        };
        draft
            .add(Name::From, tagged(&self.local, &self.local_tag))
            .add(Name::To, tagged(&self.remote, &self.remote_tag))
            .add(Name::CallId, &self.call_id)
            .add(Name::CSeq, cseq)
            .add(Name::MaxForwards, MAX_FORWARDS);
        draft
    }

    /// The URI of the next hop: where the next request is sent to if not on [`flow`](Self::flow) (§8.1.2).
    pub fn next_hop(&self) -> &str {
        self.route_set.first().map_or(&self.remote_target, |route| address(route))
    }

    /// Where the next request goes. That is where their last message came from, for behind a NAT there is no other
    /// way; but a peer that names the very address we see and another port is not behind one: it listens there.
    pub fn listening(&self) -> Flow {
        if self.route_set.is_empty() { listening(self.flow, &self.remote_target) } else { self.flow }
    }

    /// Notes a request of theirs (§12.2.2). An ACK or CANCEL repeats the CSeq of its INVITE and always passes.
    pub fn receive(&mut self, request: &Message) -> Result<(), OutOfOrder> {
        if request.is_method(&Method::Ack) || request.is_method(&Method::Cancel) {
            return Ok(());
        }
        let received = request.cseq().number;
        match self.remote_cseq {
            // An equal number is a late copy whose transaction is gone: repeats while it lives never get here.
            Some(last) if received <= last => Err(OutOfOrder { received, last }),
            Some(_) | None => {
                self.remote_cseq = Some(received);
                Ok(())
            }
        }
    }

    /// Takes the Contact of a target refresh (INVITE, UPDATE, SUBSCRIBE, NOTIFY, REFER) or of a 2xx to one.
    pub fn refresh_target(&mut self, message: &Message) {
        if let Some(target) = target(message) {
            self.remote_target = target;
        }
    }
}

/// Where a peer listens that was last heard on `flow` and names `contact`. A connection that is there is used.
pub fn listening(mut flow: Flow, contact: &str) -> Flow {
    if flow.connection.is_none()
        && let Ok(contact) = Uri::parse(contact)
        && contact.host_ip() == Some(flow.remote.ip())
    {
        flow.remote.set_port(contact.port.unwrap_or(flow.protocol.default_port()));
    }
    flow
}

/// The URI of the first Contact.
fn target(message: &Message) -> Option<String> {
    let contact = message.list(Name::Contact).next()?;
    split_name_addr(contact).ok().filter(|parts| parts.uri.contains(':')).map(|parts| parts.uri.to_owned())
}

/// The URI of an address.
fn address(value: &str) -> &str {
    split_name_addr(value).map_or(value, |parts| parts.uri)
}

/// A From or To value as it stands, but for its tag.
fn without_tag(value: &str) -> String {
    let Ok(parts) = split_name_addr(value) else { return value.to_owned() };
    let mut out = value[..value.len() - parts.params.len()].trim_end().to_owned();
    for (name, param) in super::grammar::params(parts.params).filter_map(Result::ok) {
        if !name.eq_ignore_ascii_case("tag") {
            out.push(';');
            out.push_str(name);
            out.extend(param.into_iter().flat_map(|value| ["=", value]));
        }
    }
    out
}

#[cfg(test)]
mod tests;
