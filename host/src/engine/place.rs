//! Where a call rings: the callee's phones and those that ring along, and where it goes when they don't answer.
//!
//! A forwarded call tells whom it goes to who was called before: History-Info (RFC 7044), or Diversion (RFC 5806) where
//! a trunk expects that.

use switchyard_sdk::types::{LegId, Party};

use super::Engine;
use super::routing::{Destination, Errand, Purpose};
use super::timers::Timer;
use crate::call::{Candidate, Headers, Rejection};
use crate::config::Redirection;
use crate::directory::{Cause, User, target};
use crate::orbit::Fate;
use crate::sip::{Message, Name, Status, Uri};

/// How often a call is forwarded before it is given up: more is a circle, or a riddle for the caller.
const FORWARDS_MAX: usize = 5;

/// Who was called before.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// The Request-URI of the caller.
    dialled: String,
    /// The index of the last History-Info entry the caller brought along.
    index: Option<String>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
struct Step {
    by: Party,
    cause: Cause,
    to: String,
}

/// A call that rings at a user who has a rule for when nobody answers.
#[derive(Debug)]
pub(super) struct Placed {
    callee: String,
    caller: Party,
    headers: Headers,
    past: Past,
}

impl Past {
    fn of(request: &Message) -> Self {
        let entries = request.list(Name::HistoryInfo).filter_map(|entry| {
            let index = entry.rsplit(';').find_map(|param| param.trim().strip_prefix("index="))?;
            Some(index.trim().to_owned())
        });
        Self { dialled: request.uri().to_owned(), index: entries.last(), steps: Vec::new() }
    }

    fn knows(&self, user: &str) -> bool {
        self.steps.iter().any(|step| step.by.user.as_deref() == Some(user))
    }

    /// The headers that tell of it; none for a call that was not forwarded.
    fn headers(&self, redirection: Redirection) -> Vec<(Name, String)> {
        match redirection {
            Redirection::HistoryInfo => self.history(),
            Redirection::Diversion => {
                let line = |step: &Step| {
                    let reason = step.cause.word();
                    (Name::Diversion, format!("<{}>;reason={reason};counter=1;privacy=off", step.by.uri))
                };
                self.steps.iter().rev().map(line).collect()
            }
        }
    }

    fn history(&self) -> Vec<(Name, String)> {
        let mut entries = Vec::new();
        let mut index = self.index.clone().unwrap_or_else(|| "1".to_owned());
        let mut uri = format!("<{}", self.dialled);
        for (at, step) in self.steps.iter().enumerate() {
            // What the one called before said belongs to their entry (RFC 7044 §10.2).
            let said = match step.cause {
                Cause::Busy | Cause::NoAnswer => format!("?Reason=SIP%3Bcause%3D{}", step.cause.code()),
                Cause::Always | Cause::Unregistered => String::new(),
            };
            if at > 0 || self.index.is_none() {
                let params = if at > 0 { mapped(&index) } else { String::new() };
                entries.push((Name::HistoryInfo, format!("{uri}{said}>;index={index}{params}")));
            }
            index.push_str(".1");
            uri = format!("<{};cause={}", step.to, step.cause.code());
        }
        if !self.steps.is_empty() {
            entries.push((Name::HistoryInfo, format!("{uri}>;index={index}{}", mapped(&index))));
        }
        entries
    }
}

/// `;mp=1`: the entry this one was mapped from is one level up.
fn mapped(index: &str) -> String {
    index.rsplit_once('.').map(|(parent, _)| format!(";mp={parent}")).unwrap_or_default()
}

impl Engine {
    /// Rings whoever a call is for.
    pub(super) fn place_call(&mut self, leg: LegId, request: &Message, uri: &Uri, party: &Party) {
        let headers = self.headers_of(request, party);
        self.route(leg, uri, party, headers, Past::of(request));
    }

    /// What the INVITEs sent on behalf of a caller's INVITE say.
    pub(super) fn headers_of(&self, request: &Message, party: &Party) -> Headers {
        let mut headers = Headers::presenting(&self.core, party, None);
        let hops = request.get(Name::MaxForwards).and_then(|v| v.trim().parse::<u32>().ok()).unwrap_or(70);
        headers.max_forwards = Some(hops.min(70).saturating_sub(1));
        for name in [
            Name::Subject,
            Name::Priority,
            Name::AlertInfo,
            Name::CallInfo,
            Name::Privacy,
            Name::HistoryInfo,
            Name::Diversion,
        ] {
            headers.extra.extend(request.all(name).map(|value| (name, value.to_owned())));
        }
        headers
    }

    fn route(&mut self, leg: LegId, uri: &Uri, caller: &Party, headers: Headers, past: Past) {
        if let Ok(dialled) = super::routing::dialled(uri)
            && let Some(user) = self.directory.resolve(&dialled).cloned()
        {
            if !self.serves(&user.pool) {
                // Who serves the callee knows the phones, the rules and the groups.
                let there = self.across(&user.pool, uri, self.party(&user));
                let mut headers = headers;
                headers.extra.extend(past.headers(Redirection::HistoryInfo));
                self.ring_elsewhere(leg, there, &headers);
                return;
            }
            if let Some(refusal) = self.is_out(Some(&user.pool)) {
                self.reject(leg, Rejection::of(&refusal, &self.core.identity.host));
                return;
            }
            let private = user.rules.private_number.as_deref() == Some(&*dialled);
            self.ring_user(leg, &user, private, caller, headers, past);
            return;
        }
        // Who forwards a call pays for it, and so must have the right to dial where it goes.
        let dialler = past.steps.last().map_or(caller, |step| &step.by);
        let errand = if past.steps.is_empty() { Errand::Call } else { Errand::Forward };
        match self.destination(uri, errand, dialler) {
            Ok(Destination::Phones(candidates)) => {
                self.calls.fork(&mut self.core, leg, &candidates, &headers);
            }
            Ok(Destination::Trunk { name, number }) => {
                if !past.steps.is_empty() {
                    self.orbits.ring_over(self.core.now, leg, &Fate::Forwarded(number.clone()));
                }
                if let Some(leg) = self.calls.leg_mut(leg)
                    && let Some(incoming) = leg.incoming.as_mut()
                {
                    incoming.asks = false;
                }
                self.call_trunk(leg, &name, &number, &headers, &past);
            }
            Err(rejection) => self.reject(leg, rejection),
        }
    }

    /// Sends a call to whoever serves another pool, as it came.
    pub(super) fn ring_elsewhere(&mut self, leg: LegId, there: Option<Candidate>, headers: &Headers) {
        match there {
            Some(there) => {
                self.calls.fork(&mut self.core, leg, &[there], headers);
            }
            None => self.reject(leg, Rejection::new(Status::NOT_FOUND)),
        }
    }

    fn call_trunk(&mut self, leg: LegId, name: &str, number: &str, headers: &Headers, past: &Past) {
        let mut headers = headers.clone();
        let redirection = self.config.trunk(name).map(|trunk| trunk.redirection).unwrap_or_default();
        headers.extra.extend(past.headers(redirection));
        self.resolve_trunk(name, number, Purpose::Call { leg, headers });
    }

    fn ring_user(
        &mut self,
        leg: LegId,
        user: &User,
        private: bool,
        caller: &Party,
        headers: Headers,
        past: Past,
    ) {
        if user.rules.forward_always.is_some() {
            self.forward(leg, user, Cause::Always, caller, headers, past);
            return;
        }
        let mut phones = self.phones_of(user, None);
        if phones.is_empty() && user.rules.forward_unregistered.is_some() {
            self.forward(leg, user, Cause::Unregistered, caller, headers, past);
            return;
        }
        let mut trunks = Vec::new();
        let myself = self.party(user);
        for companion in user.rules.companions() {
            // Through their own rules a call could go round in circles, or end in somebody's voice mail at once.
            let Some(uri) = self.target(companion) else { continue };
            match self.destination(&uri, Errand::Forward, &myself) {
                Ok(Destination::Phones(more)) => phones.extend(more),
                Ok(Destination::Trunk { name, number }) => trunks.push((name, number)),
                Err(_) => {}
            }
        }
        distinct(&mut phones);
        if phones.is_empty() && trunks.is_empty() {
            self.reject(leg, Rejection::because(Status::TEMPORARILY_UNAVAILABLE, "Not registered"));
            return;
        }
        let asks = user.rules.forward_busy.is_some() || user.rules.forward_no_answer.is_some();
        if let Some(incoming) = self.calls.leg_mut(leg).and_then(|leg| leg.incoming.as_mut()) {
            incoming.asks = asks;
        }
        match user.rules.no_answer_after() {
            Some(after) => self.core.after(Timer::NoAnswer(leg), after),
            None => self.core.timers.cancel(Timer::NoAnswer(leg)),
        }
        self.ring_begins(leg, user, caller, private);
        let told: Vec<_> = past.headers(Redirection::HistoryInfo);
        if told.is_empty() {
            self.calls.fork(&mut self.core, leg, &phones, &headers);
        } else {
            let mut headers = headers.clone();
            headers.extra.extend(told);
            self.calls.fork(&mut self.core, leg, &phones, &headers);
        }
        for (name, number) in trunks {
            self.call_trunk(leg, &name, &number, &headers, &past);
        }
        if asks {
            let placed = Placed { callee: user.name.clone(), caller: caller.clone(), headers, past };
            self.placed.insert(leg, placed);
        }
    }

    /// Sends a call where its callee wishes, for this cause.
    fn forward(
        &mut self,
        leg: LegId,
        user: &User,
        cause: Cause,
        caller: &Party,
        headers: Headers,
        mut past: Past,
    ) {
        let target = user.rules.forward(cause).and_then(|target| self.target(target));
        let by = self.party(user);
        let known = |uri: &Uri| {
            let dialled = super::routing::dialled(uri).unwrap_or_default();
            let next = self.directory.resolve(&dialled);
            next.is_some_and(|next| next.name == user.name || past.knows(&next.name))
        };
        let Some(uri) = target.filter(|uri| past.steps.len() < FORWARDS_MAX && !known(uri)) else {
            let why = Rejection::because(Status::TEMPORARILY_UNAVAILABLE, "Forwarded in a circle");
            self.reject(leg, why);
            return;
        };
        let call_id = self.calls.leg(leg).map(|leg| leg.dialog.call_id.clone());
        let detail = serde_json::json!({ "by": user.name, "because": cause.word(), "to": uri.to_string() });
        self.core.event("call.forwarded", None, call_id.as_deref(), detail);
        past.steps.push(Step { by, cause, to: uri.to_string() });
        self.route(leg, &uri, caller, headers, past);
    }

    /// A target of a rule as a URI.
    fn target(&self, target: &str) -> Option<Uri> {
        target::uri(target, &self.core.identity.domain).filter(|uri| self.core.is_ours(uri))
    }

    /// Where a URI leads at once: through users who always forward, or have no phone. Who they were comes as headers.
    pub(super) fn forwarded_at_once(&self, uri: &Uri) -> (Uri, Vec<(Name, String)>) {
        let mut past = Past { dialled: uri.to_string(), ..Past::default() };
        let mut uri = uri.clone();
        while past.steps.len() < FORWARDS_MAX {
            let dialled = super::routing::dialled(&uri).unwrap_or_default();
            let Some(user) = self.directory.resolve(&dialled) else { break };
            let cause = match &user.rules {
                rules if rules.forward_always.is_some() => Cause::Always,
                rules if rules.forward_unregistered.is_some() && self.phones_of(user, None).is_empty() => {
                    Cause::Unregistered
                }
                _ => break,
            };
            let Some(next) = user.rules.forward(cause).and_then(|target| self.target(target)) else { break };
            if past.knows(&user.name) {
                break;
            }
            past.steps.push(Step { by: self.party(user), cause, to: next.to_string() });
            uri = next;
        }
        (uri, past.history())
    }

    /// The phones have rung long enough for their user's rule.
    pub(super) fn nobody_answers(&mut self, leg: LegId) {
        if self.orbits.taker_of(leg).is_some() {
            return; // a picker is faster by a moment
        }
        let Some(placed) = self.placed.remove(&leg) else { return };
        let Some(user) = self.directory.user(&placed.callee).cloned() else { return };
        if user.rules.forward_no_answer.is_none() {
            return; // edited while it rang
        }
        self.calls.stop_branches(&mut self.core, leg);
        self.forward(leg, &user, Cause::NoAnswer, &placed.caller, placed.headers, placed.past);
    }

    /// Every phone has refused, or could not be reached.
    pub(super) fn unanswered(&mut self, leg: LegId, status: Status) {
        self.core.timers.cancel(Timer::NoAnswer(leg));
        let Some(placed) = self.placed.remove(&leg) else {
            self.calls.give_up(&mut self.core, leg, status);
            return;
        };
        let user = self.directory.user(&placed.callee).cloned();
        let causes: &[Cause] = match status.0 {
            486 | 600 | 603 => &[Cause::Busy],
            480 => &[Cause::NoAnswer, Cause::Busy],
            408 | 503 => &[Cause::Unregistered, Cause::NoAnswer],
            _ => &[],
        };
        let rule = user.as_ref().and_then(|user| {
            causes
                .iter()
                .copied()
                .find(|cause| user.rules.forward(*cause).is_some())
                .map(|cause| (user, cause))
        });
        match rule {
            Some((user, cause)) => {
                self.forward(leg, user, cause, &placed.caller, placed.headers, placed.past);
            }
            None => self.calls.give_up(&mut self.core, leg, status),
        }
    }
}

/// Leaves each phone once.
fn distinct(phones: &mut Vec<Candidate>) {
    let mut seen = std::collections::BTreeSet::new();
    phones.retain(|phone| seen.insert((phone.party.user.clone(), phone.party.device.clone())));
}
