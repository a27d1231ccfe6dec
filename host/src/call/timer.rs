//! What happens to legs when time passes: session timers per leg (RFC 4028), probes of waiting phones.

use std::time::Duration;

use switchyard_sdk::types::LegId;

use super::leg::{Credentials, Peer, State};
use super::{Calls, SubscriptionId};
use crate::engine::core::{Core, Owner};
use crate::engine::timers::Timer;
use crate::sip::{ClientId, Failure, Message, Method, Status};

/// How often a waiting phone without session timer is asked whether it is still there (design.md §3).
const PROBE: Duration = Duration::from_secs(60);

/// The same for one that talks: two phones that have both lost power say nothing about it, ever. Half of what RFC 4028
/// recommends for a session, as a refresh would come.
const PROBE_TALKING: Duration = Duration::from_secs(900);

/// How long a phone may say 100 to a re-INVITE and nothing else: as long as one that says nothing at all (64*T1).
const REINVITE: Duration = Duration::from_secs(32);

impl Calls {
    /// A timer of ours has fired.
    pub fn on_timer(&mut self, cx: &mut Core, timer: Timer) {
        match timer {
            Timer::Answer(leg) => self.answer_timeout(cx, leg),
            Timer::Provisional(leg) => self.provisional_timeout(cx, leg),
            Timer::Ring(leg) => self.ring_timeout(cx, leg),
            Timer::Refresh(leg) => self.refresh(cx, leg),
            Timer::SessionExpiry(leg) => {
                self.end_both(cx, leg, "the session timer expired");
            }
            Timer::TellAgain(leg) => self.tell_if_in_doubt(cx, leg),
            Timer::Probe(leg) => self.probe(cx, leg),
            Timer::Reinvite(leg) => self.cancel_reinvite(cx, leg),
            Timer::Clear(leg) => self.clear(cx, leg),
            Timer::Retry(operation) => self.retry(cx, operation),
            Timer::Operation(operation) => self.operation_timeout(cx, operation),
            Timer::Subscription(id) => self.drop_subscription(cx, SubscriptionId(id)),
            Timer::HoldWait(_)
            | Timer::NoAnswer(_)
            | Timer::RingAgain(_)
            | Timer::Plugin(_)
            | Timer::Restart(_)
            | Timer::TakeUpAgain(_)
            | Timer::LampDue(_)
            | Timer::LampExpiry(_)
            | Timer::LampCheck
            | Timer::Gather(_)
            | Timer::Seats
            | Timer::RecordCalls
            | Timer::StoreAtLast
            | Timer::Pools => {}
        }
    }

    /// (Re)starts the session timer of a leg from now.
    pub(super) fn start_session_timer(&mut self, cx: &mut Core, id: LegId) {
        cx.timers.cancel(Timer::Refresh(id));
        cx.timers.cancel(Timer::SessionExpiry(id));
        match self.legs.get(&id).and_then(|leg| leg.session.next()) {
            Some((true, pause)) => cx.after(Timer::Refresh(id), pause),
            Some((false, pause)) => cx.after(Timer::SessionExpiry(id), pause),
            None => self.start_probing(cx, id),
        }
    }

    /// A re-INVITE of ours is under way.
    pub(super) fn limit_reinvite(&mut self, cx: &mut Core, id: LegId) {
        cx.after(Timer::Reinvite(id), REINVITE);
    }

    fn cancel_reinvite(&mut self, cx: &mut Core, id: LegId) {
        if let Some(client) = self.legs.get(&id).and_then(|leg| leg.client) {
            cx.tx.cancel(cx.now, client, &[]);
        }
    }

    fn refresh(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if !leg.is_idle() {
            // What is under way refreshes the session by itself, or soon makes room.
            cx.after(Timer::Refresh(id), Duration::from_secs(5));
            return;
        }
        // An UPDATE without body says nothing about media (RFC 4028 §7.4); a re-INVITE must repeat the description,
        // whose unchanged version says that nothing has changed.
        let update = leg.abilities.update;
        let mut draft = leg.refreshing(if update { Method::Update } else { Method::Invite });
        if !update {
            let Some(body) = leg.negotiation.repeat_offer() else { return };
            draft.body("application/sdp", body);
        }
        leg.client = Some(cx.request(leg.dialog.flow, draft, Owner::Refresh(id)));
        let interval = leg.session.interval;
        self.limit_reinvite(cx, id);
        if let Some(interval) = interval {
            cx.after(Timer::SessionExpiry(id), interval / 2);
        }
    }

    /// The answer to a refresh of ours.
    pub fn on_refresh_response(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        id: LegId,
        answer: Result<&Message, Failure>,
    ) {
        if answer.as_ref().is_ok_and(|response| response.status().is_some_and(Status::is_provisional)) {
            return;
        }
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.client != Some(client) {
            return;
        }
        if matches!(answer, Err(Failure::Transport))
            && let Some(again) = cx.fall_back(client)
        {
            leg.client = Some(again);
            return;
        }
        leg.client = None;
        cx.timers.cancel(Timer::Reinvite(id));
        leg.unheard &= answer.is_err();
        leg.stranded &= answer.is_err();
        // Whoever answers anything but 481 and 408 knows the call; only one whose session we keep alive must take it.
        let must_accept = leg.session.ours && leg.session.interval.is_some();
        match answer {
            Ok(response) if response.status().is_some_and(Status::is_success) => {
                if response.method() == Method::Invite {
                    leg.credentials = cx.tx.request_of(client).map(Credentials::of).unwrap_or_default();
                    if let Some(body) = response.sdp() {
                        let _ = leg.negotiation.remote_answer(&body);
                    }
                    self.send_ack(cx, id, response.cseq().number, None);
                }
                if let Some(leg) = self.legs.get_mut(&id) {
                    leg.session = leg.session.refreshed(response);
                }
                self.start_session_timer(cx, id);
                if self.legs.get_mut(&id).is_some_and(|leg| std::mem::take(&mut leg.in_doubt)) {
                    self.mend(cx, id);
                }
            }
            Ok(response) => {
                cx.disown(client);
                leg.negotiation.rollback();
                let status = response.status().unwrap_or(Status::OK);
                // RFC 4028 §7.4 leaves other failures to the session's own expiry.
                if status == Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST || status == Status::REQUEST_TIMEOUT {
                    self.end_both(cx, id, "the phone does not know the call");
                } else if must_accept {
                    cx.after(Timer::Refresh(id), Duration::from_secs(10));
                } else {
                    self.start_session_timer(cx, id);
                }
            }
            // Its connection ended with the process that knew it, or nobody else has a way to it. The phone has another one
            // when it registers, and meanwhile talks on.
            Err(failure) if leg.stranded || (leg.unheard && failure == Failure::Transport) => {
                cx.disown(client);
                leg.negotiation.rollback();
                self.start_session_timer(cx, id);
            }
            Err(_) => {
                cx.disown(client);
                leg.negotiation.rollback();
                self.end_both(cx, id, "the refresh was not answered");
            }
        }
        self.advance_queue(cx);
    }

    fn end_both(&mut self, cx: &mut Core, id: LegId, why: &str) {
        let rejection = super::Rejection::because(Status::REQUEST_TIMEOUT, why);
        self.release(cx, id, &rejection);
    }

    /// Asks a phone without session timer from time to time whether it is still there.
    pub(super) fn start_probing(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get(&id).filter(|leg| leg.session.interval.is_none()) else { return };
        cx.after(Timer::Probe(id), if leg.peer == Peer::Host { PROBE } else { PROBE_TALKING });
    }

    fn probe(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.session.interval.is_some() || leg.state != State::Confirmed {
            return;
        }
        let draft = leg.dialog.request(Method::Options);
        cx.request(leg.dialog.flow, draft, Owner::Probe(id));
    }

    /// The answer to a probe. Only 481, or silence twice, says that the phone has forgotten the call.
    pub fn on_probe_response(&mut self, cx: &mut Core, client: ClientId, id: LegId, status: Option<Status>) {
        if status.is_some_and(Status::is_provisional) {
            return;
        }
        cx.disown(client);
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let silent = status.is_none_or(|status| status == Status::REQUEST_TIMEOUT);
        leg.unheard &= silent;
        leg.stranded &= silent;
        // Who cannot be reached is waited for as long as the orbit lasts.
        let silent = silent && !(leg.stranded && leg.peer == Peer::Host);
        leg.silent_probes = if silent { leg.silent_probes + 1 } else { 0 };
        if status == Some(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST) || leg.silent_probes >= 2 {
            self.hang_up(cx, id, None, "the phone does not know the call any more");
        } else {
            self.start_probing(cx, id);
        }
    }
}
