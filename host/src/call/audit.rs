//! What always holds among legs and operations between two inputs.

use super::early::EARLIES_MAX;
use super::operation::QUEUE_MAX;
use super::{Calls, Peer, State};

impl Calls {
    /// Contradictions, each in words; empty when all is well.
    pub fn audit(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (id, leg) in self.legs.iter() {
            if let Peer::Leg(peer) = leg.peer
                && self.legs.get(&peer).is_none_or(|other| other.peer != Peer::Leg(*id))
            {
                found.push(format!("leg {} takes {} for its peer, which does not know of it", id.0, peer.0));
            }
            if let Some(busy) = leg.busy
                && !self.operations.get(&busy).is_some_and(|operation| operation.is_on(*id))
            {
                found.push(format!("leg {} is busy with an operation that is over", id.0));
            }
            if leg.earlies.len() > EARLIES_MAX {
                found.push(format!("leg {} has {} early dialogs", id.0, leg.earlies.len()));
            }
            if leg.state == State::Confirmed
                && let Some(dialog) = leg.dialog_ids().into_iter().find(|d| self.dialogs.get(d) != Some(id))
            {
                found.push(format!("requests in dialog {} of leg {} are not for it", dialog.call_id, id.0));
            }
            if leg.is_idle() && leg.ack_owed.is_none() && !leg.negotiation.is_stable() {
                found.push(format!("leg {} has an offer in flight that nobody will answer", id.0));
            }
            if self.queue.iter().filter(|operation| operation.is_on(*id)).count() > QUEUE_MAX {
                found.push(format!("too many operations wait for leg {}", id.0));
            }
        }
        let gone = |leg| !self.legs.contains_key(leg);
        for leg in self.dialogs.values().chain(self.invites.values()).chain(self.streams.values()) {
            if gone(leg) {
                found.push(format!(
                    "leg {} has ended and is still known by its dialog, INVITE or stream",
                    leg.0
                ));
            }
        }
        for leg in self.by_user.values().flatten().filter(|leg| gone(leg)) {
            found.push(format!("leg {} has ended and is still known by its user", leg.0));
        }
        found
    }
}
