//! A phone's INVITE: from its arrival to its final response.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use switchyard_sdk::types::{LegId, Party};

use super::branch::Headers;
use super::leg::{Abilities, AwaitAck, Incoming, Leg, State};
use super::negotiation::Negotiation;
use super::session_timer::{MINIMUM, SessionTimer};
use super::{Calls, Notice};
use crate::engine::core::{ALLOW, Core, SUPPORTED};
use crate::engine::timers::Timer;
use crate::net::Flow;
use crate::sip::{Dialog, Draft, Message, Name, ServerId, Status};

/// RFC 3261 §17.1.1.1: the estimate of the round-trip time.
pub(super) const T1: Duration = Duration::from_millis(500);
/// RFC 3261 §17.1.2.2: the longest pause between retransmissions.
pub(super) const T2: Duration = Duration::from_secs(4);

/// A response that ends an INVITE before it became a leg.
#[derive(Debug)]
pub struct Rejection {
    /// The status.
    pub status: Status,
    /// The reason phrase, if it says more than the status does.
    pub reason: Option<String>,
    /// More headers.
    pub headers: Vec<(Name, String)>,
}

impl Rejection {
    /// A bare status.
    pub fn new(status: Status) -> Self {
        Self { status, reason: None, headers: Vec::new() }
    }

    /// A status with words for the reason phrase.
    pub fn because(status: Status, reason: impl Into<String>) -> Self {
        Self { status, reason: Some(reason.into()), headers: Vec::new() }
    }
}

impl Calls {
    /// Takes an INVITE outside any dialog. The leg waits for what the engine decides: `fork`, an operation, `release`.
    ///
    /// # Errors
    /// The response that refuses it: 420 (Require), 422 (RFC 4028), 415 or 488 (its body).
    pub fn accept_invite(
        &mut self,
        cx: &mut Core,
        server: ServerId,
        request: &Message,
        flow: Flow,
        party: Party,
    ) -> Result<LegId, Rejection> {
        check_require(request)?;
        let session = SessionTimer::from_request(request).map_err(|_| Rejection {
            headers: vec![(Name::MinSe, MINIMUM.as_secs().to_string())],
            ..Rejection::new(Status::SESSION_INTERVAL_TOO_SMALL)
        })?;
        let mut negotiation = Negotiation::new(cx.fresh_id());
        let offer = offer_in(request)?;
        if let Some(offer) = &offer {
            negotiation
                .remote_offer(offer)
                .map_err(|error| Rejection::because(Status::NOT_ACCEPTABLE_HERE, error.to_string()))?;
        }
        let id = LegId(cx.fresh_id());
        let tag = cx.fresh_tag();
        let contact = cx.contact(&flow, &format!("l{}", id.0));
        let dialog = Dialog::uas(request, &tag, flow);
        let leg = Leg {
            incoming: Some(Incoming {
                server,
                request: request.clone(),
                offered: offer.is_some(),
                branches: Vec::new(),
                best: None,
                asks: false,
                rel: request.supports("100rel") || request.requires("100rel"),
                hunt: VecDeque::new(),
                headers: Headers::default(),
            }),
            abilities: Abilities::of(request),
            session,
            ..Leg::new(id, party, dialog, negotiation, contact, cx.now.utc)
        };
        self.insert(leg);
        self.invites.insert(server, id);
        Ok(id)
    }

    /// Answers the INVITE that began `leg` with 200: its dialog is confirmed. `body` is the answer, or the offer if
    /// the INVITE had none; empty if both went before.
    ///
    /// `tag` is the local tag of the early dialog that becomes the call; `None` answers under the leg's own tag, so
    /// that early media answered on another branch does not bind the caller. `identity` is who the caller talks to, if
    /// that is not whom he called.
    pub(super) fn answer_invite(
        &mut self,
        cx: &mut Core,
        id: LegId,
        tag: Option<&str>,
        body: Bytes,
        identity: Option<&Party>,
    ) {
        let asserted = identity.map(|party| super::identity::asserted(cx, party));
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(incoming) = leg.incoming.take() else { return };
        for old in leg.dialog_ids() {
            self.dialogs.remove(&old);
        }
        if let Some(at) = tag.and_then(|tag| leg.earlies.iter().position(|e| e.dialog.local_tag == tag)) {
            let early = leg.earlies.swap_remove(at);
            // The remote CSeq has gone on (PRACK, UPDATE) in the early dialog.
            leg.dialog = early.dialog;
            leg.negotiation = early.negotiation;
        }
        leg.earlies.clear();
        leg.state = State::Confirmed;
        leg.answered = Some(cx.now.utc);
        let mut draft = Draft::response(&incoming.request, Status::OK);
        draft.to_tag(&leg.dialog.local_tag);
        draft.add(Name::Contact, &leg.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        if let Some(asserted) = asserted {
            draft.add(Name::PAssertedIdentity, asserted);
        }
        leg.session.answer(&mut draft);
        let wants_answer = !incoming.offered && !body.is_empty();
        draft.body("application/sdp", body);
        leg.await_ack = Some(AwaitAck {
            server: incoming.server,
            cseq: incoming.request.cseq().number,
            pause: T1,
            until: cx.now.instant + T1 * 64,
            wants_answer,
        });
        cx.timers.cancel(Timer::Provisional(id));
        cx.after(Timer::Answer(id), T1);
        cx.tx.respond(cx.now, incoming.server, &draft);
        self.invites.remove(&incoming.server);
        self.index(id);
        self.start_session_timer(cx, id);
    }

    /// Ends the INVITE that began `leg` with a failure; the leg is over. Its branches are cancelled.
    pub fn reject_invite(&mut self, cx: &mut Core, id: LegId, rejection: &Rejection, by_party: bool) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(incoming) = leg.incoming.take() else { return };
        self.invites.remove(&incoming.server);
        for branch in &incoming.branches {
            self.cancel_branch(cx, *branch, &[]);
        }
        let Some(leg) = self.legs.get(&id) else { return };
        let mut draft = Draft::response(&incoming.request, rejection.status);
        draft.to_tag(&leg.dialog.local_tag);
        if let Some(reason) = &rejection.reason {
            draft.reason(reason);
        }
        for (name, value) in &rejection.headers {
            draft.add(*name, value);
        }
        cx.tx.respond(cx.now, incoming.server, &draft);
        let reason = rejection.reason.clone().unwrap_or_else(|| rejection.status.to_string());
        self.forget(cx, id, by_party, &reason);
    }

    /// The caller gave up (CANCEL, already answered 200).
    pub fn cancelled(&mut self, cx: &mut Core, server: ServerId) {
        let Some(id) = self.leg_of_invite(server) else { return };
        self.notify(Notice::Cancelled { leg: id });
        self.reject_invite(cx, id, &Rejection::new(Status::REQUEST_TERMINATED), true);
    }

    /// A provisional answer without any dialog of a callee behind it: the caller hears its own ringing tone.
    pub fn ringing(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        let Some(incoming) = &leg.incoming else { return };
        let mut draft = Draft::response(&incoming.request, Status::RINGING);
        draft.to_tag(&leg.dialog.local_tag).add(Name::Contact, &leg.contact);
        cx.tx.respond(cx.now, incoming.server, &draft);
    }
}

/// Extensions a request may require.
const UNDERSTOOD: [&str; 6] = ["100rel", "timer", "replaces", "norefersub", "path", "outbound"];

/// Refuses extensions we do not know (RFC 3261 §8.2.2.3).
pub fn check_require(request: &Message) -> Result<(), Rejection> {
    let unknown: Vec<&str> = request
        .list(Name::Require)
        .filter(|tag| !UNDERSTOOD.iter().any(|known| known.eq_ignore_ascii_case(tag)))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Rejection {
        headers: vec![(Name::Unsupported, unknown.join(", "))],
        ..Rejection::new(Status::BAD_EXTENSION)
    })
}

/// The offer a request carries, if it carries one.
pub(super) fn offer_in(request: &Message) -> Result<Option<Bytes>, Rejection> {
    if request.body().is_empty() {
        return Ok(None);
    }
    match request.sdp() {
        Some(body) => Ok(Some(body)),
        // A body that may be ignored is ignored; one that must be understood is refused (RFC 3261 §8.2.3).
        None if request.header("Content-Disposition").is_some_and(|v| v.contains("handling=optional")) => {
            Ok(None)
        }
        None => Err(Rejection {
            headers: vec![(Name::Accept, "application/sdp".to_owned())],
            ..Rejection::new(Status::UNSUPPORTED_MEDIA_TYPE)
        }),
    }
}
