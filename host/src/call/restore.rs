//! A parked call across a restart: what the record must hold, and how the leg is made again from it.

use serde::{Deserialize, Serialize};
use switchyard_sdk::types::{LegId, Party};

use super::leg::{Abilities, Leg, Peer, State};
use super::negotiation::Negotiation;
use super::session_timer::SessionTimer;
use super::{Calls, OpId, Origin};
use crate::engine::core::Core;
use crate::media::Playlist;
use crate::sip::{Dialog, DialogId};
use crate::time::Utc;

/// How far the CSeq jumps when a leg is taken up again: a late request of the process that died, which may have used
/// numbers that were not stored, is then refused by the phone itself (design.md §8).
const CSEQ_JUMP: u32 = 1 << 16;

/// Everything about a leg that a phone would miss if it changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LegFacts {
    /// Call-ID, tags, targets, route set, CSeq numbers, flow.
    pub dialog: Dialog,
    /// Its side of offer/answer.
    pub negotiation: Negotiation,
    /// Our Contact.
    pub contact: String,
    /// Who is there.
    pub party: Party,
    /// What it can do.
    pub abilities: Abilities,
    /// Its session timer.
    pub session: SessionTimer,
    /// When it began.
    pub since: Utc,
    /// Whether the host has called this phone.
    #[serde(default)]
    pub rung: bool,
}

impl LegFacts {
    /// Which dialog it is.
    pub fn dialog(&self) -> DialogId {
        self.dialog.id()
    }
}

impl Calls {
    /// The facts of a confirmed leg.
    pub fn facts(&self, id: LegId) -> Option<LegFacts> {
        let leg = self.legs.get(&id).filter(|leg| leg.state == State::Confirmed)?;
        Some(LegFacts {
            dialog: leg.dialog.clone(),
            negotiation: leg.negotiation.clone(),
            contact: leg.contact.clone(),
            party: leg.party.clone(),
            abilities: leg.abilities,
            session: leg.session,
            since: leg.since,
            rung: leg.rung,
        })
    }

    /// Makes a leg from its facts and takes its media to the host again: the re-INVITE that follows tells whether
    /// the phone still knows the call. Ends in a [`Notice::Finished`](super::Notice) of [`Origin::Restore`].
    pub fn restore(&mut self, cx: &mut Core, facts: LegFacts, playlist: Playlist) -> (LegId, OpId) {
        let id = LegId(cx.fresh_id());
        let mut dialog = facts.dialog;
        dialog.local_cseq = dialog.local_cseq.saturating_add(CSEQ_JUMP);
        // The connection died with the old process; a new one is opened, or the phone's own next one is used.
        dialog.flow.connection = None;
        let mut negotiation = facts.negotiation;
        negotiation.rollback();
        let leg = Leg {
            rung: facts.rung,
            state: State::Confirmed,
            peer: Peer::Host,
            abilities: facts.abilities,
            session: facts.session,
            answered: Some(facts.since),
            ..Leg::new(id, facts.party, dialog, negotiation, facts.contact, facts.since)
        };
        self.insert(leg);
        self.index(id);
        let operation = self.play(cx, Origin::Restore, id, playlist);
        (id, operation)
    }
}
