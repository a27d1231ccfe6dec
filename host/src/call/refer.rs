//! Transfer (RFC 3515, 5589): REFER is answered 202, and the truth is in the NOTIFY (design.md §7).
//!
//! A subscription outlives the dialog it was made in: phones hang up as soon as they read the 202, and are told the
//! outcome all the same.

use std::time::Duration;

use switchyard_sdk::types::{LegId, Party};

use super::{Calls, Done, Failed, Notice};
use crate::engine::core::{ALLOW, Core, Owner, SUPPORTED};
use crate::engine::timers::Timer;
use crate::net::Flow;
use crate::sip::{
    ClientId, Dialog, Draft, Message, Method, Name, NameAddr, Replaces, Scheme, ServerId, Status, Uri,
};

/// Names the subscription of one REFER.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SubscriptionId(pub u64);

/// How long a referrer is kept informed (RFC 3515 §2.4.4): longer than any phone rings.
const LIFETIME: Duration = Duration::from_secs(300);

/// How long a phone has to hang up by itself once it knows the outcome (design.md §7).
pub(super) const CLEAR_AFTER: Duration = Duration::from_secs(2);

/// Each leg may have this many transfers under way; more is a phone that has lost its mind.
const PER_LEG_MAX: usize = 4;

/// What a REFER asks for.
#[derive(Clone, Debug)]
pub struct Referral {
    /// Its subscription.
    pub subscription: SubscriptionId,
    /// Where the other party should go.
    pub target: Uri,
    /// The dialog to be replaced there.
    pub replaces: Option<Replaces>,
    /// The referrer's leg: the one the REFER came in, or the one its Replaces names.
    pub near: Option<LegId>,
    /// Who refers.
    pub party: Party,
    /// The Call-ID of the REFER.
    pub call_id: String,
}

/// One REFER's implicit subscription.
#[derive(Debug)]
pub struct Subscription {
    leg: Option<LegId>,
    /// The dialog NOTIFYs are sent in; while the leg lives, the leg's own is used, for its CSeq.
    dialog: Dialog,
    contact: String,
    event: String,
    /// With `Refer-Sub: false` nobody is told (RFC 4488).
    silent: bool,
    /// A NOTIFY is under way: the next one waits, so that none overtakes another.
    in_flight: bool,
    next: Option<Notification>,
    over: bool,
    /// Legs of the referrer to be cleared when it has worked.
    clear: Vec<LegId>,
}

#[derive(Clone, Debug)]
struct Notification {
    sipfrag: String,
    last: bool,
}

impl Calls {
    /// A REFER within a call. It is answered here; what it asks for comes as [`Notice::Referred`].
    pub fn on_refer(&mut self, cx: &mut Core, id: LegId, server: ServerId, request: &Message) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.dialog.receive(request).is_err() {
            cx.reply(server, request, Status::SERVER_INTERNAL_ERROR, Some("CSeq out of order"));
            return;
        }
        if leg.state != super::State::Confirmed {
            cx.reply(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        }
        if self.subscriptions.values().filter(|sub| sub.leg == Some(id) && !sub.over).count() >= PER_LEG_MAX {
            cx.reply(server, request, Status::BUSY_HERE, Some("Too many transfers at once"));
            return;
        }
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.dialog.refresh_target(request);
        let (dialog, contact, party) = (leg.dialog.clone(), leg.contact.clone(), leg.party.clone());
        self.refer(cx, Some(id), dialog, contact, party, server, request);
    }

    /// A REFER outside any call, to a service (RFC 5359 §2.15).
    pub fn on_refer_outside(
        &mut self,
        cx: &mut Core,
        server: ServerId,
        request: &Message,
        flow: Flow,
        party: Party,
    ) {
        let tag = cx.fresh_tag();
        let dialog = Dialog::uas(request, &tag, flow);
        let contact = cx.contact(&flow, "refer");
        self.refer(cx, None, dialog, contact, party, server, request);
    }

    #[expect(clippy::too_many_arguments, reason = "all of one REFER")]
    fn refer(
        &mut self,
        cx: &mut Core,
        near: Option<LegId>,
        dialog: Dialog,
        contact: String,
        party: Party,
        server: ServerId,
        request: &Message,
    ) {
        let targets: Vec<&str> = request.list(Name::ReferTo).collect();
        let parsed = match targets.as_slice() {
            [one] => NameAddr::parse(one).ok(),
            _ => None,
        };
        // RFC 3515 §2.4.1: exactly one Refer-To.
        let Some(mut refer_to) = parsed else {
            cx.reply(server, request, Status::BAD_REQUEST, Some("Refer-To must be one URI"));
            return;
        };
        if matches!(refer_to.uri.scheme, Scheme::Other(_)) {
            cx.reply(server, request, Status::BAD_REQUEST, Some("Refer-To must be a sip: or tel: URI"));
            return;
        }
        if refer_to.uri.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("method"))
            || refer_to.uri.params.get("method").is_some_and(|m| !m.eq_ignore_ascii_case("INVITE"))
        {
            cx.reply(server, request, Status::BAD_REQUEST, Some("Only INVITE can be referred to"));
            return;
        }
        let replaces = match refer_to.uri.header("Replaces") {
            Some(value) => match Replaces::parse(&value) {
                Ok(replaces) => Some(replaces),
                Err(_) => {
                    cx.reply(server, request, Status::BAD_REQUEST, Some("Replaces cannot be read"));
                    return;
                }
            },
            None => None,
        };
        refer_to.uri.headers.clear();
        let silent =
            request.get(Name::ReferSub).is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
        let id = SubscriptionId(cx.fresh_id());
        let mut draft = Draft::response(request, Status::ACCEPTED);
        draft.to_tag(&dialog.local_tag).add(Name::Contact, &contact).add(Name::Allow, ALLOW);
        if silent {
            draft.add(Name::ReferSub, "false");
        }
        cx.tx.respond(cx.now, server, &draft);
        let subscription = Subscription {
            leg: near,
            dialog,
            contact,
            event: format!("refer;id={}", request.cseq().number),
            silent,
            in_flight: false,
            next: None,
            over: false,
            clear: Vec::new(),
        };
        self.subscriptions.insert(id, subscription);
        cx.after(Timer::Subscription(id.0), LIFETIME);
        self.send_notify(cx, id, Notification { sipfrag: "SIP/2.0 100 Trying\r\n".to_owned(), last: false });
        self.notify(Notice::Referred(Box::new(Referral {
            subscription: id,
            target: refer_to.uri,
            replaces,
            near,
            party,
            call_id: request.call_id().to_owned(),
        })));
    }

    /// Remembers the referrer's legs that end when the transfer has worked.
    pub fn clear_on_success(&mut self, id: SubscriptionId, legs: impl IntoIterator<Item = LegId>) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.clear = legs.into_iter().collect();
        }
    }

    /// The rung phone says something: the referrer may know.
    pub(super) fn report_progress(&mut self, cx: &mut Core, id: SubscriptionId, status: Status) {
        let sipfrag = format!("SIP/2.0 {} {}\r\n", status.0, status.default_reason());
        self.send_notify(cx, id, Notification { sipfrag, last: false });
    }

    /// The transfer is decided: tells the referrer, who is cleared two seconds later if it worked.
    ///
    /// `lines` are more header lines of the sipfrag, such as `Contact: <sip:7001@DOMAIN;token=…>`.
    pub fn refer_decided(
        &mut self,
        cx: &mut Core,
        id: SubscriptionId,
        status: Status,
        reason: Option<&str>,
        lines: &[String],
    ) {
        let reason = reason.unwrap_or_else(|| status.default_reason()).replace(['\r', '\n'], " ");
        let mut sipfrag = format!("SIP/2.0 {} {reason}\r\n", status.0);
        for line in lines {
            sipfrag.push_str(&line.replace(['\r', '\n'], " "));
            sipfrag.push_str("\r\n");
        }
        let clear = match self.subscriptions.get_mut(&id) {
            Some(subscription) if status.is_success() => std::mem::take(&mut subscription.clear),
            _ => Vec::new(),
        };
        if !status.is_success()
            && let Some(leg) = self.subscriptions.get(&id).and_then(|sub| sub.leg)
            && let Some(leg) = self.legs.get_mut(&leg)
        {
            leg.refused_at = Some(cx.now.instant);
        }
        self.send_notify(cx, id, Notification { sipfrag, last: true });
        for leg in clear {
            self.clear_later(cx, leg, CLEAR_AFTER);
        }
    }

    /// A transfer's operation came to its end.
    pub fn transfer_finished(&mut self, cx: &mut Core, id: SubscriptionId, result: &Result<Done, Failed>) {
        match result {
            Ok(_) => self.refer_decided(cx, id, Status::OK, None, &[]),
            Err(failed) => {
                let status =
                    if failed.status >= 300 { Status(failed.status) } else { Status::SERVICE_UNAVAILABLE };
                self.refer_decided(cx, id, status, None, &[]);
            }
        }
    }

    /// Whether the referrer's leg of this subscription is still up.
    pub fn referrer_is_there(&self, id: SubscriptionId) -> bool {
        self.subscriptions.get(&id).and_then(|sub| sub.leg).is_some_and(|leg| self.legs.contains_key(&leg))
    }

    fn send_notify(&mut self, cx: &mut Core, id: SubscriptionId, notification: Notification) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if subscription.over {
            return;
        }
        if subscription.silent {
            if notification.last {
                self.drop_subscription(cx, id);
            }
            return;
        }
        if subscription.in_flight {
            subscription.next = Some(notification);
            return;
        }
        subscription.in_flight = true;
        subscription.over = notification.last;
        let alive = subscription.leg.and_then(|leg| self.legs.get_mut(&leg));
        let dialog = match alive {
            Some(leg) => &mut leg.dialog,
            None => &mut subscription.dialog,
        };
        let mut draft = dialog.request(Method::Notify);
        let flow = dialog.flow;
        let state = if notification.last {
            "terminated;reason=noresource".to_owned()
        } else {
            format!("active;expires={}", LIFETIME.as_secs())
        };
        draft
            .add(Name::Contact, &subscription.contact)
            .add(Name::Event, &subscription.event)
            .add(Name::SubscriptionState, state)
            .add(Name::Allow, ALLOW)
            .add(Name::Supported, SUPPORTED)
            .body("message/sipfrag;version=2.0", notification.sipfrag);
        cx.request(flow, draft, Owner::Notify(id));
    }

    /// A NOTIFY was answered, or not.
    pub fn on_notify_response(
        &mut self,
        cx: &mut Core,
        client: ClientId,
        id: SubscriptionId,
        status: Option<Status>,
    ) {
        if status.is_some_and(Status::is_provisional) {
            return;
        }
        cx.disown(client);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.in_flight = false;
        let refused = status
            .is_none_or(|status| status == Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST || status.0 == 489);
        if subscription.over || refused {
            self.drop_subscription(cx, id);
        } else if let Some(next) = subscription.next.take() {
            self.send_notify(cx, id, next);
        }
    }

    /// A subscription's time is over, or nobody listens.
    pub(super) fn drop_subscription(&mut self, cx: &mut Core, id: SubscriptionId) {
        cx.timers.cancel(Timer::Subscription(id.0));
        if let Some(subscription) = self.subscriptions.remove(&id)
            && !subscription.over
            && !subscription.silent
            && !subscription.in_flight
        {
            cx.event("refer.forgotten", None, Some(&subscription.dialog.call_id), serde_json::Value::Null);
        }
    }

    /// The dialog of a leg that ends lives on in its subscriptions.
    pub(super) fn keep_subscriptions(&mut self, id: LegId, dialog: &Dialog) {
        for subscription in self.subscriptions.values_mut().filter(|sub| sub.leg == Some(id)) {
            subscription.leg = None;
            subscription.dialog = dialog.clone();
        }
    }

    /// The transfer whose progress is told in the dialog of a request.
    pub fn subscription_of(&self, request: &Message) -> Option<SubscriptionId> {
        let tag = request.to_tag()?;
        let mut subscriptions = self.subscriptions.iter();
        subscriptions
            .find(|(_, sub)| sub.dialog.call_id == request.call_id() && sub.dialog.local_tag == tag)
            .map(|(id, _)| *id)
    }

    /// A SUBSCRIBE with `Event: refer` in a dialog of ours: it may shorten or end the subscription (RFC 3515 §2.4.4).
    pub fn on_refer_subscribe(&mut self, cx: &mut Core, server: ServerId, request: &Message) {
        let Some(id) = self.subscription_of(request) else {
            cx.reply(server, request, Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST, None);
            return;
        };
        let seconds = request
            .get(Name::Expires)
            .and_then(|v| v.trim().parse::<u64>().ok())
            .unwrap_or(LIFETIME.as_secs());
        let seconds = seconds.min(LIFETIME.as_secs());
        let mut draft = Draft::response(request, Status::OK);
        draft.add(Name::Expires, seconds);
        if let Some(subscription) = self.subscriptions.get(&id) {
            draft.add(Name::Contact, &subscription.contact);
        }
        cx.tx.respond(cx.now, server, &draft);
        if seconds == 0 {
            self.drop_subscription(cx, id);
        } else {
            cx.after(Timer::Subscription(id.0), Duration::from_secs(seconds));
        }
    }
}
