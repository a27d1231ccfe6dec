//! A branch that is refused or never answered: what is tried instead, and what its caller is told.

use std::collections::BTreeMap;

use switchyard_sdk::types::LegId;

use super::leg::ForWhom;
use super::session_timer::SessionTimer;
use super::{Calls, Notice, Rejection};
use crate::engine::core::{Core, Owner};
use crate::registrar::{Login, answer_challenge};
use crate::sip::{ClientId, Draft, Failure, Message, Method, Name, Status};

/// What the dialog, the transaction and the body give each request afresh.
const NEW_IN_EACH_REQUEST: [Name; 8] = [
    Name::Via,
    Name::Route,
    Name::From,
    Name::To,
    Name::CallId,
    Name::CSeq,
    Name::ContentType,
    Name::ContentLength,
];

impl Calls {
    /// 3xx–6xx.
    pub(super) fn on_refusal(&mut self, cx: &mut Core, id: LegId, response: &Message) {
        let status = response.status().unwrap_or(Status::SERVER_INTERNAL_ERROR);
        if (status == Status::UNAUTHORIZED || status == Status::PROXY_AUTHENTICATION_REQUIRED)
            && self.answer_trunk(cx, id, response)
        {
            return;
        }
        if status == Status::SESSION_INTERVAL_TOO_SMALL && self.raise_interval(cx, id, response) {
            return;
        }
        let Some(for_whom) = self.legs.get(&id).and_then(|leg| leg.outgoing.as_ref()).map(|o| o.for_whom)
        else {
            return;
        };
        self.branch_failed(cx, id, for_whom, status, Some(response), false);
    }

    /// A branch's INVITE could not be sent or was never answered.
    pub fn on_invite_failed(&mut self, cx: &mut Core, client: ClientId, id: LegId, why: Failure) {
        if why == Failure::Transport
            && let Some(again) = cx.fall_back(client)
        {
            if let Some(outgoing) = self.legs.get_mut(&id).and_then(|leg| leg.outgoing.as_mut()) {
                outgoing.client = again;
            }
            return;
        }
        cx.disown(client);
        let Some(outgoing) = self.legs.get(&id).and_then(|leg| leg.outgoing.as_ref()) else { return };
        if outgoing.client != client {
            return;
        }
        let status = match why {
            Failure::Timeout => Status::REQUEST_TIMEOUT,
            Failure::Transport => Status::SERVICE_UNAVAILABLE,
        };
        self.branch_failed(cx, id, outgoing.for_whom, status, None, false);
    }

    pub(super) fn branch_failed(
        &mut self,
        cx: &mut Core,
        id: LegId,
        for_whom: ForWhom,
        status: Status,
        response: Option<&Message>,
        answered: bool,
    ) {
        let who = self.legs.get(&id).and_then(|leg| leg.party.user.clone());
        if answered {
            self.hang_up(
                cx,
                id,
                Some("SIP;cause=488;text=\"No usable session description\""),
                "no usable answer",
            );
        } else {
            self.forget(cx, id, false, &format!("refused: {status}"));
        }
        match for_whom {
            ForWhom::Operation(operation) => self.candidate_failed(cx, operation, id, status),
            ForWhom::Caller(caller) => {
                let Some(incoming) = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut()) else {
                    return;
                };
                incoming.branches.retain(|branch| *branch != id);
                let better = match (&incoming.best, response) {
                    (_, None) => false,
                    (None, Some(_)) => true,
                    (Some(best), Some(_)) => rank(status) < rank(best.status().unwrap_or(status)),
                };
                if better {
                    incoming.best = response.cloned();
                }
                let branches = std::mem::take(&mut incoming.branches);
                let best = incoming.best.clone();
                // A 6xx speaks for the user, not for one phone (RFC 3261 §16.7 step 5); but not for others who ring along.
                let (rest, left): (Vec<LegId>, Vec<LegId>) = branches.into_iter().partition(|branch| {
                    let same = self.legs.get(branch).is_some_and(|leg| leg.party.user == who);
                    status.0 >= 600 && same
                });
                let over = left.is_empty();
                if let Some(incoming) = self.legs.get_mut(&caller).and_then(|leg| leg.incoming.as_mut()) {
                    incoming.branches = left;
                }
                for branch in rest {
                    self.cancel_branch(cx, branch, &[]);
                }
                // A place that cannot be reached or has no room says nothing about the next one (RFC 3263 §4.3).
                let unreachable = status == Status::SERVICE_UNAVAILABLE || status == Status::REQUEST_TIMEOUT;
                if over && !(unreachable && self.hunt_on(cx, caller)) {
                    let asks = self
                        .legs
                        .get(&caller)
                        .and_then(|leg| leg.incoming.as_ref())
                        .is_some_and(|incoming| incoming.asks);
                    if asks {
                        let status = best.as_ref().and_then(Message::status).unwrap_or(status);
                        self.notify(Notice::Unanswered { leg: caller, status });
                    } else {
                        self.reject_with_best(cx, caller, best.as_ref(), status);
                    }
                }
            }
        }
    }

    /// Refuses a caller whom nobody answered, with the most telling of their answers, or with `last`.
    pub fn give_up(&mut self, cx: &mut Core, caller: LegId, last: Status) {
        let incoming = self.legs.get(&caller).and_then(|leg| leg.incoming.as_ref());
        let Some(best) = incoming.map(|incoming| incoming.best.clone()) else { return };
        self.reject_with_best(cx, caller, best.as_ref(), last);
    }

    fn reject_with_best(&mut self, cx: &mut Core, caller: LegId, best: Option<&Message>, last: Status) {
        let status = best.and_then(|best| best.status()).unwrap_or(last);
        // The peer's own trouble is not ours (RFC 3261 §16.7 step 6), and a challenge to us is not one to the caller.
        let status = match status {
            Status::SERVICE_UNAVAILABLE => Status::TEMPORARILY_UNAVAILABLE,
            Status::UNAUTHORIZED | Status::PROXY_AUTHENTICATION_REQUIRED => Status::FORBIDDEN,
            other => other,
        };
        let mut rejection = Rejection::new(status);
        if let Some(best) = best {
            if best.status() == Some(status) {
                rejection.reason = Some(best.reason().to_owned()).filter(|reason| !reason.is_empty());
            }
            for name in [Name::RetryAfter, Name::Warning, Name::Reason, Name::ErrorInfo] {
                rejection.headers.extend(best.all(name).map(|value| (name, value.to_owned())));
            }
            if (300..400).contains(&status.0) {
                rejection
                    .headers
                    .extend(best.all(Name::Contact).map(|value| (Name::Contact, value.to_owned())));
            }
        }
        self.reject_invite(cx, caller, &rejection, false);
    }

    /// Nobody answered for [`RING_MAX`].
    pub(super) fn ring_timeout(&mut self, cx: &mut Core, id: LegId) {
        let Some(outgoing) = self.legs.get(&id).and_then(|leg| leg.outgoing.as_ref()) else { return };
        let for_whom = outgoing.for_whom;
        let client = outgoing.client;
        cx.tx.cancel(cx.now, client, &[]);
        self.branch_failed(cx, id, for_whom, Status::REQUEST_TIMEOUT, None, false);
    }

    /// Repeats the INVITE with credentials, once, if the trunk has some (RFC 3261 §22.2).
    fn answer_trunk(&mut self, cx: &mut Core, id: LegId, response: &Message) -> bool {
        let Some(leg) = self.legs.get(&id) else { return false };
        let Some((user, password)) = leg.trunk.as_ref().and_then(|trunk| trunk.credentials.clone()) else {
            return false;
        };
        if leg.outgoing.as_ref().is_none_or(|outgoing| outgoing.challenged) {
            return false;
        }
        let uri = leg.dialog.remote_target.clone();
        let cnonce = cx.fresh_tag();
        let login = Login { user: &user, password: &password };
        let answer = answer_challenge(response, login, &Method::Invite, &uri, 1, &cnonce);
        let Some((name, value)) = answer else { return false };
        self.invite_again(cx, id, move |draft| {
            draft.set(name, value);
        });
        if let Some(outgoing) = self.legs.get_mut(&id).and_then(|leg| leg.outgoing.as_mut()) {
            outgoing.challenged = true;
        }
        true
    }

    /// Repeats the INVITE with the interval the peer insists on, once (RFC 4028 §7.3).
    fn raise_interval(&mut self, cx: &mut Core, id: LegId, response: &Message) -> bool {
        let Some(minimum) =
            response.get(Name::MinSe).and_then(|v| v.split(';').next()?.trim().parse::<u32>().ok())
        else {
            return false;
        };
        let Some(outgoing) = self.legs.get_mut(&id).and_then(|leg| leg.outgoing.as_mut()) else {
            return false;
        };
        if std::mem::replace(&mut outgoing.interval_raised, true) {
            return false;
        }
        self.invite_again(cx, id, |draft| {
            draft.remove(Name::SessionExpires).remove(Name::MinSe);
            SessionTimer::default().ask(draft, Some(minimum));
        });
        true
    }

    fn invite_again(&mut self, cx: &mut Core, id: LegId, change: impl FnOnce(&mut Draft)) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        let Some(outgoing) = leg.outgoing.as_mut() else { return };
        let Some(sent) = cx.tx.request_of(outgoing.client).cloned() else { return };
        let mut draft = leg.dialog.request(Method::Invite);
        draft.remove(Name::MaxForwards);
        // Everything it said counts again, what it asked to keep private first of all (RFC 3325 §9.3).
        for (name, value) in sent.fields() {
            if Name::parse(name).is_none_or(|name| !NEW_IN_EACH_REQUEST.contains(&name)) {
                draft.add_raw(name, String::from_utf8_lossy(value));
            }
        }
        if let Some(content_type) = sent.content_type() {
            draft.body(content_type, sent.body());
        }
        change(&mut draft);
        outgoing.client = cx.request(leg.dialog.flow, draft, Owner::Invite(id));
    }
}

/// The order in which failures say something (RFC 3261 §16.7 step 6): a 6xx, then what a person decided, then the rest
/// by class.
fn rank(status: Status) -> (u8, u16) {
    let ranks: BTreeMap<u16, u8> = [(486, 1), (603, 0), (480, 3), (408, 4), (404, 4)].into();
    let class = match status.0 {
        600.. => 0,
        500..600 => 6,
        _ => ranks.get(&status.0).copied().unwrap_or(2),
    };
    (class, status.0)
}
