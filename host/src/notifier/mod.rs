//! Lamps: who watches whom, and what each watcher was told (RFC 6665, RFC 4235).
//!
//! The notifier owns subscriptions and knows nothing of calls. When something watched may have changed it is
//! [touched](Notifier::touch); the engine then asks which subscriptions are [due](Notifier::next_due) and
//! [tells](Notifier::tell) each the truth as its watcher may see it. What goes out is the difference to what that
//! watcher knows already, so a lamp can be late by one notification, but never stuck: the [check](Notifier::check)
//! that runs all the time compares what was told with the truth once more, and heals by a full state.
//!
//! Per subscription one NOTIFY is under way at a time, and one a second is sent (RFC 4235 §3.10), the first at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::core::{Core, Owner};
use crate::engine::timers::Timer;
use crate::net::Flow;
use crate::sip::{Dialog, DialogId, Draft, Message, Method, Name, ServerId, Status, SubscriptionState};
use crate::store::{Operation, Snapshot, keys};
use crate::time::{Instant, Utc};

mod asked;
pub mod dialog_info;
mod numbers;
mod reach;

use asked::{EXPIRES_MAX, accepts_documents, event_of, expires_of};
pub use asked::{Refusal, is_about_dialogs};
use dialog_info::{CONTENT_TYPE, Entry, State};
use numbers::above_all_used;

/// The event package.
pub const PACKAGE: &str = "dialog";

/// Subscriptions of one user: a desk phone with several key modules, twice.
const PER_WATCHER_MAX: usize = 300;
/// Subscriptions of the host: some kilobytes each.
const SUBSCRIPTIONS_MAX: usize = 20_000;

/// The pause between two notifications of one subscription (RFC 4235 §3.10).
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after one that was refused, but not for good.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// How often what was told is compared with the truth.
const CHECK_EVERY: Duration = Duration::from_secs(30);
/// Between the first notifications of two subscriptions after a restart, so that thousands do not go out at once.
const SPREAD: Duration = Duration::from_millis(2);

/// Names a subscription.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LampId(pub u64);

/// What can be watched.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// The calls of a user, by name.
    User(String),
    /// The call in an orbit.
    Orbit(String),
    /// The ringing calls of a pickup group, by its number.
    Group(String),
    /// All parked calls.
    Lot,
}

/// What a watcher is told of a resource: its dialogs by their id.
pub type Dialogs = BTreeMap<String, Entry>;

/// What outlives the process: the value of the store's `lamp/WATCHER/ID`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    resource: Resource,
    /// The URI that was subscribed to.
    entity: String,
    watcher: String,
    dialog: Dialog,
    contact: String,
    event: String,
    expires: Utc,
    version: u32,
}

#[derive(Debug)]
struct Subscription {
    record: Record,
    /// What the notifications that were taken have said together.
    told: Dialogs,
    /// The same with the one under way.
    telling: Dialogs,
    /// Whether the last one was taken.
    acknowledged: bool,
    in_flight: bool,
    /// The resource was touched since the last notification.
    pending: bool,
    /// The next notification names everything.
    full: bool,
    not_before: Instant,
    /// It ends with the next notification, for this reason.
    ending: Option<&'static str>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Notifier {
    subscriptions: BTreeMap<LampId, Subscription>,
    by_resource: BTreeMap<Resource, BTreeSet<LampId>>,
    by_dialog: BTreeMap<DialogId, LampId>,
    due: BTreeSet<LampId>,
    /// Those whose watcher can be reached on no connection, until it comes back or the subscription runs out.
    cut_off: BTreeSet<LampId>,
    wrong: usize,
    healed: u64,
}

/// Whether an error says that the watcher knows nothing of the subscription, or never will (RFC 6665 §4.2.2).
fn ends_subscription(status: Option<Status>) -> bool {
    // No answer at all ends it as well.
    status.is_none_or(|status| matches!(status.0, 404 | 405 | 410 | 416 | 480..=485 | 489 | 501 | 604))
}

impl Notifier {
    /// Takes up the stored subscriptions that are `mine`, by resource and watcher. Each watcher is told everything, spread over some time. What to write.
    pub fn load(
        &mut self,
        cx: &mut Core,
        snapshot: &Snapshot,
        mine: impl Fn(&Resource, &str) -> bool,
    ) -> Vec<Operation> {
        let prefix = keys::lamps_prefix();
        let stored = snapshot.records.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let mut writes = Vec::new();
        let mut wait = Duration::ZERO;
        for (key, stored) in stored {
            match serde_json::from_slice::<Record>(&stored.value) {
                Ok(record) if !mine(&record.resource, &record.watcher) => {}
                Ok(mut record) if record.expires > cx.now.utc => {
                    record.dialog.local_cseq = above_all_used(record.dialog.local_cseq, cx.now.utc);
                    record.version = above_all_used(record.version, cx.now.utc);
                    // The connection died with the old process.
                    record.dialog.flow.connection = None;
                    wait += SPREAD;
                    let at = cx.now.instant + wait;
                    let id = self.insert(cx, record);
                    // Or a second restart would jump to the same numbers.
                    writes.extend(self.put(id));
                    if let Some(subscription) = self.subscriptions.get_mut(&id) {
                        subscription.not_before = at;
                    }
                    self.due.remove(&id);
                    cx.timers.set(Timer::LampDue(id), at);
                }
                Ok(_) => writes.push(Operation::Delete { key: key.clone() }),
                Err(error) => {
                    tracing::error!(key, %error, "a subscription's record cannot be read; forgotten");
                    writes.push(Operation::Delete { key: key.clone() });
                }
            }
        }
        writes
    }

    /// Somebody else tells the watchers of these subscriptions, by resource and watcher, from now on.
    pub fn put_down(&mut self, cx: &mut Core, theirs: impl Fn(&Resource, &str) -> bool) {
        let ids: BTreeSet<LampId> = (self.subscriptions.iter())
            .filter(|(_, subscription)| theirs(&subscription.record.resource, &subscription.record.watcher))
            .map(|(id, _)| *id)
            .collect();
        // What they are told by then has higher numbers: this must not come to them afterwards.
        cx.leave(|owner| matches!(owner, Owner::Lamp(id) if ids.contains(&id)));
        for id in ids {
            self.forget(cx, id);
        }
    }

    /// A SUBSCRIBE outside any dialog (RFC 6665 §4.2.1). `entity` is the URI of the resource as documents name it.
    pub fn subscribe(
        &mut self,
        cx: &mut Core,
        server: ServerId,
        request: &Message,
        flow: Flow,
        watched: (Resource, String),
        watcher: &str,
    ) -> Vec<Operation> {
        match self.accept(cx, request, flow, watched, watcher) {
            Ok((record, expires, forgotten)) => {
                let mut writes = Vec::new();
                if let Some(forgotten) = forgotten {
                    writes.extend(self.delete(forgotten));
                    self.forget(cx, forgotten);
                }
                let tag = record.dialog.local_tag.clone();
                self.agree(cx, server, request, &tag, &record.contact, expires);
                let id = self.insert(cx, record);
                if expires == 0 {
                    self.end_with_next(id, "timeout");
                    return writes;
                }
                writes.extend(self.put(id));
                writes
            }
            Err(refusal) => {
                refusal.send(cx, server, request);
                Vec::new()
            }
        }
    }

    fn accept(
        &self,
        cx: &mut Core,
        request: &Message,
        flow: Flow,
        (resource, entity): (Resource, String),
        watcher: &str,
    ) -> Result<(Record, u32, Option<LampId>), Refusal> {
        let event = event_of(request).ok_or_else(|| Refusal::new(Status::BAD_EVENT))?;
        if !accepts_documents(request) {
            return Err(Refusal::new(Status::NOT_ACCEPTABLE).with(Name::Accept, CONTENT_TYPE));
        }
        let expires = expires_of(request)?;
        let of_watcher = self.subscriptions.values().filter(|sub| sub.record.watcher == watcher).count();
        let full = of_watcher >= PER_WATCHER_MAX || self.subscriptions.len() >= SUBSCRIPTIONS_MAX;
        // A phone that starts anew knows nothing of what it had subscribed to before: that makes room.
        let same = |sub: &Subscription| {
            sub.record.watcher == watcher
                && sub.record.resource == resource
                && sub.record.dialog.flow.remote == flow.remote
        };
        let forgotten = || self.subscriptions.iter().find(|(_, sub)| same(sub)).map(|(id, _)| *id);
        let forgotten = if full { forgotten() } else { None };
        if full && forgotten.is_none() {
            let refusal = Refusal::new(Status::SERVICE_UNAVAILABLE).because("Too many subscriptions");
            return Err(refusal.with(Name::RetryAfter, 60));
        }
        let tag = cx.fresh_tag();
        let record = Record {
            resource,
            entity,
            watcher: watcher.to_owned(),
            dialog: Dialog::uas(request, &tag, flow),
            contact: cx.contact(&flow, "lamps"),
            event: event.to_string(),
            expires: cx.now.utc + Duration::from_secs(expires.into()),
            version: 0,
        };
        Ok((record, expires, forgotten))
    }

    /// Who watches in the dialog of this request; `None`: nobody, it is no subscription of ours.
    pub fn watcher_of(&self, request: &Message) -> Option<&str> {
        Some(&self.subscriptions.get(&self.named_by(request)?)?.record.watcher)
    }

    /// A SUBSCRIBE in a subscription's dialog: refreshes or ends it. Its watcher is known to be who sent it.
    pub fn refresh(
        &mut self,
        cx: &mut Core,
        server: ServerId,
        request: &Message,
        flow: Flow,
    ) -> Vec<Operation> {
        // One that has run out, and whose watcher is being told so, is no more.
        let living = |id: &LampId| {
            self.subscriptions.get(id).is_some_and(|subscription| subscription.ending.is_none())
        };
        let Some(id) = self.named_by(request).filter(living) else {
            Refusal::new(Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST).send(cx, server, request);
            return Vec::new();
        };
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Vec::new() };
        let record = &mut subscription.record;
        let expires = match expires_of(request) {
            Err(refusal) => Err(refusal),
            Ok(_) if record.dialog.receive(request).is_err() => {
                Err(Refusal::new(Status::SERVER_INTERNAL_ERROR).because("CSeq out of order"))
            }
            Ok(expires) => Ok(expires),
        };
        let expires = match expires {
            Ok(expires) => expires,
            Err(refusal) => {
                refusal.send(cx, server, request);
                return Vec::new();
            }
        };
        record.dialog.refresh_target(request);
        record.dialog.flow = flow;
        self.cut_off.remove(&id);
        record.expires = cx.now.utc + Duration::from_secs(expires.into());
        let (tag, contact) = (record.dialog.local_tag.clone(), record.contact.clone());
        // A refresh is answered with everything (RFC 6665 §4.2.1.2), and at once: the phone may have restarted.
        subscription.full = true;
        subscription.not_before = cx.now.instant;
        self.agree(cx, server, request, &tag, &contact, expires);
        if expires == 0 {
            self.end_with_next(id, "timeout");
        } else {
            cx.timers.set(Timer::LampExpiry(id), cx.now.instant + Duration::from_secs(expires.into()));
        }
        self.remind(cx, id);
        if expires == 0 { self.delete(id) } else { self.put(id) }.into_iter().collect()
    }

    fn agree(
        &self,
        cx: &mut Core,
        server: ServerId,
        request: &Message,
        tag: &str,
        contact: &str,
        expires: u32,
    ) {
        let mut draft = Draft::response(request, Status::OK);
        draft.to_tag(tag).add(Name::Contact, contact).add(Name::Expires, expires);
        cx.tx.respond(cx.now, server, &draft);
    }

    fn named_by(&self, request: &Message) -> Option<LampId> {
        let id = DialogId {
            call_id: request.call_id().to_owned(),
            local_tag: request.to_tag()?.to_owned(),
            remote_tag: request.from_tag().to_owned(),
        };
        self.by_dialog.get(&id).copied()
    }

    fn insert(&mut self, cx: &mut Core, record: Record) -> LampId {
        let id = LampId(cx.fresh_id());
        // However far the clock was set back since: none lives longer than it may be asked for.
        let left = Duration::from_millis(record.expires.0.saturating_sub(cx.now.utc.0));
        let left = left.min(Duration::from_secs(EXPIRES_MAX.into()));
        cx.timers.set(Timer::LampExpiry(id), cx.now.instant + left);
        if cx.timers.when(Timer::LampCheck).is_none() {
            cx.after(Timer::LampCheck, CHECK_EVERY);
        }
        self.by_resource.entry(record.resource.clone()).or_default().insert(id);
        self.by_dialog.insert(record.dialog.id(), id);
        let subscription = Subscription {
            record,
            told: Dialogs::new(),
            telling: Dialogs::new(),
            acknowledged: true,
            in_flight: false,
            pending: true,
            full: true,
            not_before: cx.now.instant,
            ending: None,
        };
        self.subscriptions.insert(id, subscription);
        self.due.insert(id);
        id
    }

    fn end_with_next(&mut self, id: LampId, reason: &'static str) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.ending = Some(reason);
            subscription.full = true;
        }
    }

    /// Whether anybody watches this.
    pub fn is_watched(&self, resource: &Resource) -> bool {
        self.by_resource.contains_key(resource)
    }

    /// Whether anybody watches anything.
    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    /// Subscriptions the last check found telling something else than the truth, and how many that were since the
    /// start. Both stay 0 unless there is a mistake in here, or a watcher refuses what it asked for.
    pub fn divergence(&self) -> (usize, u64) {
        (self.wrong, self.healed)
    }

    /// The resource may have changed.
    pub fn touch(&mut self, cx: &mut Core, resource: &Resource) {
        for id in self.by_resource.get(resource).cloned().unwrap_or_default() {
            self.remind(cx, id);
        }
    }

    /// What this user may see may have changed.
    pub fn touch_watcher(&mut self, cx: &mut Core, watcher: &str) {
        let of_watcher = self.subscriptions.iter().filter(|(_, sub)| sub.record.watcher == watcher);
        for id in of_watcher.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.remind(cx, id);
        }
    }

    /// Anything may have changed: the policy that says who sees what.
    pub fn touch_all(&mut self, cx: &mut Core) {
        for id in self.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.remind(cx, id);
        }
    }

    /// The resource is no more: its subscriptions end.
    pub fn resource_gone(&mut self, cx: &mut Core, resource: &Resource) -> Vec<Operation> {
        let ids = self.by_resource.get(resource).cloned().unwrap_or_default();
        self.end_all(cx, ids, "noresource")
    }

    /// The user may not watch any more.
    pub fn watcher_gone(&mut self, cx: &mut Core, watcher: &str) -> Vec<Operation> {
        let of_watcher = self.subscriptions.iter().filter(|(_, sub)| sub.record.watcher == watcher);
        let ids = of_watcher.map(|(id, _)| *id).collect();
        self.end_all(cx, ids, "rejected")
    }

    fn end_all(&mut self, cx: &mut Core, ids: BTreeSet<LampId>, reason: &'static str) -> Vec<Operation> {
        let mut operations = Vec::new();
        for id in ids {
            // A user may watch himself; a transaction names each key once.
            if self.subscriptions.get(&id).is_some_and(|subscription| subscription.ending.is_none()) {
                operations.extend(self.delete(id));
            }
            self.end_with_next(id, reason);
            if self.cut_off.contains(&id) {
                self.forget(cx, id);
            } else {
                self.remind(cx, id);
            }
        }
        operations
    }

    /// Has it told as soon as it may be.
    fn remind(&mut self, cx: &mut Core, id: LampId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.pending = true;
        if subscription.in_flight || self.cut_off.contains(&id) {
            return;
        }
        if subscription.not_before <= cx.now.instant {
            self.due.insert(id);
        } else {
            cx.timers.set(Timer::LampDue(id), subscription.not_before);
        }
    }

    /// The next subscription whose watcher is to be told: what it watches, and who it is.
    pub fn next_due(&mut self) -> Option<(LampId, Resource, String)> {
        loop {
            let id = self.due.pop_first()?;
            if let Some(subscription) = self.subscriptions.get(&id)
                && !subscription.in_flight
            {
                let record = &subscription.record;
                return Some((id, record.resource.clone(), record.watcher.clone()));
            }
        }
    }

    /// Tells the watcher what has changed since it was told last; nothing if nothing has.
    pub fn tell(&mut self, cx: &mut Core, id: LampId, truth: Dialogs) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.pending = false;
        let full = std::mem::take(&mut subscription.full);
        let mut named = changes(&subscription.told, &truth);
        if full {
            named.extend(truth.clone());
        }
        if named.is_empty() && !full {
            return;
        }
        let record = &mut subscription.record;
        let dialogs = named.iter().map(|(id, entry)| (id.as_str(), entry));
        let body = dialog_info::document(&record.entity, record.version, full, dialogs);
        let left = record.expires.0.saturating_sub(cx.now.utc.0).div_ceil(1000);
        let state = match subscription.ending {
            Some(reason) => SubscriptionState::terminated(reason),
            None => SubscriptionState::active(u32::try_from(left).unwrap_or(EXPIRES_MAX)),
        };
        record.version = record.version.saturating_add(1);
        let mut draft = record.dialog.request(Method::Notify);
        draft
            .add(Name::Contact, &record.contact)
            .add(Name::Event, &record.event)
            .add(Name::SubscriptionState, state)
            .body(CONTENT_TYPE, body);
        let flow = record.dialog.listening();
        subscription.telling = truth;
        subscription.in_flight = true;
        subscription.not_before = cx.now.instant + PAUSE;
        let over = subscription.ending.is_some();
        cx.request(flow, draft, if over { Owner::Nobody } else { Owner::Lamp(id) });
        if over {
            self.forget(cx, id);
        }
    }

    /// A NOTIFY was answered (`None`: it was not).
    pub fn on_response(&mut self, cx: &mut Core, id: LampId, status: Option<Status>) -> Vec<Operation> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Vec::new() };
        subscription.in_flight = false;
        subscription.acknowledged = status.is_some_and(Status::is_success);
        if subscription.acknowledged {
            subscription.told = std::mem::take(&mut subscription.telling);
            if subscription.pending {
                self.remind(cx, id);
            }
            return Vec::new();
        }
        if ends_subscription(status) {
            let operations = self.delete(id);
            self.forget(cx, id);
            return operations.into_iter().collect();
        }
        // It does not know what we told it: everything again, a little later.
        subscription.full = true;
        subscription.not_before = cx.now.instant + PAUSE_AFTER_REFUSAL;
        self.remind(cx, id);
        Vec::new()
    }

    /// [`Timer::LampDue`] went off.
    pub fn on_due(&mut self, id: LampId) {
        if self.subscriptions.contains_key(&id) {
            self.due.insert(id);
        }
    }

    /// [`Timer::LampExpiry`] went off: nobody refreshed it.
    pub fn on_expiry(&mut self, cx: &mut Core, id: LampId) -> Vec<Operation> {
        self.end_all(cx, BTreeSet::from([id]), "timeout")
    }

    /// The subscriptions that ought to be telling the truth now, for [`check`](Self::check).
    pub fn at_rest(&mut self, cx: &mut Core) -> Vec<(LampId, Resource, String)> {
        self.wrong = 0;
        if !self.subscriptions.is_empty() {
            cx.after(Timer::LampCheck, CHECK_EVERY);
        }
        let at_rest = self.subscriptions.iter().filter(|(_, sub)| !sub.in_flight && !sub.pending);
        at_rest.map(|(id, sub)| (*id, sub.record.resource.clone(), sub.record.watcher.clone())).collect()
    }

    /// Compares what the watcher acknowledged with the truth. If they differ it is told everything. Whether they were
    /// the same.
    pub fn check(&mut self, cx: &mut Core, id: LampId, truth: &Dialogs) -> bool {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return true };
        if subscription.acknowledged && subscription.told == *truth {
            return true;
        }
        subscription.full = true;
        self.wrong += 1;
        self.healed += 1;
        self.remind(cx, id);
        false
    }

    /// What each watcher was told, for whoever wants to compare: resource, watcher, dialogs, and whether that stands.
    pub fn told(&self) -> impl Iterator<Item = (&Resource, &str, &Dialogs, bool)> {
        self.subscriptions.values().map(|sub| {
            (&sub.record.resource, &*sub.record.watcher, &sub.told, !sub.in_flight && !sub.pending)
        })
    }

    fn forget(&mut self, cx: &mut Core, id: LampId) {
        cx.timers.cancel(Timer::LampExpiry(id));
        cx.timers.cancel(Timer::LampDue(id));
        self.due.remove(&id);
        self.cut_off.remove(&id);
        let Some(subscription) = self.subscriptions.remove(&id) else { return };
        let record = subscription.record;
        self.by_dialog.remove(&record.dialog.id());
        if let Some(ids) = self.by_resource.get_mut(&record.resource) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_resource.remove(&record.resource);
            }
        }
        if self.subscriptions.is_empty() {
            cx.timers.cancel(Timer::LampCheck);
        }
    }

    /// What the store is to hold under these keys, of which subscriptions: what is watched, who watches, what to write.
    pub fn records(&self, keys: &BTreeSet<String>) -> BTreeMap<String, (Resource, String, Operation)> {
        let wanted =
            self.subscriptions.iter().filter(|(_, subscription)| keys.contains(&key(&subscription.record)));
        let entries = wanted.filter_map(|(id, subscription)| {
            let record = &subscription.record;
            Some((key(record), (record.resource.clone(), record.watcher.clone(), self.put(*id)?)))
        });
        entries.collect()
    }

    fn put(&self, id: LampId) -> Option<Operation> {
        let record = &self.subscriptions.get(&id)?.record;
        // Every map in it has text keys, so it always has a JSON form.
        let value = serde_json::to_vec(record).ok()?.into();
        Some(Operation::Put { key: key(record), value })
    }

    fn delete(&self, id: LampId) -> Option<Operation> {
        Some(Operation::Delete { key: key(&self.subscriptions.get(&id)?.record) })
    }
}

fn key(record: &Record) -> String {
    keys::lamp_key(&record.watcher, &record.dialog.local_tag)
}

/// What is new, different or over.
fn changes(told: &Dialogs, truth: &Dialogs) -> Dialogs {
    let changed = truth.iter().filter(|(id, entry)| told.get(*id) != Some(entry));
    let mut changes: Dialogs = changed.map(|(id, entry)| (id.clone(), entry.clone())).collect();
    for (id, entry) in told.iter().filter(|(id, _)| !truth.contains_key(*id)) {
        changes.insert(id.clone(), Entry { state: State::Terminated, ..entry.clone() });
    }
    changes
}
