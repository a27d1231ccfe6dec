//! What the steps of a script do to the world.

use switchyard_host::admin::{RangeSpec, Request};
use switchyard_host::directory::User;
use switchyard_host::orbit::{put_operation, remove_operation};
use switchyard_host::sip::Name;
use switchyard_host::store::Operation;

use super::super::coverage::side;
use super::super::invariants;
use super::super::script::{Act, Calling, Change, GROUPS, Manner, PHONES, Place, USERS, Watched};
use super::{Page, Run};
use crate::harness::{CallId, Phone};

impl Run {
    /// The live call of a phone that a step means.
    fn live(&self, phone: usize, nth: usize) -> Option<CallId> {
        let live: Vec<CallId> = self.world.phones[phone].live().collect();
        (!live.is_empty()).then(|| live[nth % live.len()])
    }

    /// Does something with a live call.
    fn with_call(
        &mut self,
        phone: usize,
        nth: usize,
        what: &'static str,
        act: impl FnOnce(&mut Phone, CallId),
    ) {
        let Some(id) = self.live(phone, nth) else { return };
        let side = side(self.world.phones[phone].call(id));
        self.report.coverage.add(side, what);
        self.world.act(phone, |phone| act(phone, id));
    }

    /// A fault meets every call there is.
    pub(super) fn fault(&mut self, what: &'static str) {
        self.world.network.count(what);
        for phone in &self.world.phones {
            for call in phone.calls.iter().filter(|call| !call.over) {
                self.report.coverage.add(side(call), what);
            }
        }
    }

    fn dial(&mut self, phone: usize, uri: &str) {
        self.report.coverage.add("idle", "dial");
        self.world.act(phone, |phone| phone.invite(uri, &[], true));
    }

    /// Number and token of a call that waits.
    fn waiting(&mut self, nth: usize) -> Option<(String, String)> {
        let rows = self.world.somebody().is_some().then(|| self.world.ask(Request::Occupants))?.ok()?;
        let rows = rows.as_array()?;
        let row = rows.get(nth % rows.len().max(1))?;
        Some((row["number"].as_str()?.to_owned(), row["token"].as_str()?.to_owned()))
    }

    /// The id of a call as the administrative interface lists it, and a user in it.
    fn listed(&mut self, nth: usize) -> Option<(u64, String)> {
        let rows = self.world.somebody().is_some().then(|| self.world.ask(Request::Calls))?.ok()?;
        let rows = rows.as_array()?;
        let row = rows.get(nth % rows.len().max(1))?;
        Some((row["id"].as_u64()?, row["legs"][0]["user"].as_str()?.to_owned()))
    }

    pub(super) fn apply(&mut self, act: Act) {
        match act {
            Act::Call { from, to, how } => {
                let uri = uri_of_user(to);
                self.report.coverage.add("idle", "call");
                let reliable = [(Name::Supported, "100rel")];
                let headers = if how == Calling::Reliably { &reliable[..] } else { &[] };
                self.world.act(from, |phone| phone.invite(&uri, headers, how != Calling::Asking));
            }
            Act::Answer { phone } => {
                let Some(id) = self.world.phones[phone].ringing().next() else { return };
                self.report.coverage.add("ringing", "answer");
                self.world.act(phone, |phone| phone.answer(id));
            }
            Act::Refuse { phone, status } => {
                let Some(id) = self.world.phones[phone].ringing().next() else { return };
                self.report.coverage.add("ringing", "refuse");
                self.world.act(phone, |phone| phone.refuse(id, status));
            }
            Act::Cancel { phone } => {
                let Some(id) = self.world.phones[phone].calling().next() else { return };
                self.report.coverage.add("calling", "cancel");
                self.world.act(phone, |phone| phone.cancel(id));
            }
            Act::HangUp { phone, nth } => self.with_call(phone, nth, "hang up", Phone::hang_up),
            Act::Hold { phone, nth } => {
                self.with_call(phone, nth, "hold", |phone, id| phone.reinvite(id, "sendonly"));
            }
            Act::Resume { phone, nth } => {
                self.with_call(phone, nth, "resume", |phone, id| phone.reinvite(id, "sendrecv"));
            }
            Act::AskForOffer { phone, nth } => {
                self.with_call(phone, nth, "ask for offer", Phone::ask_for_offer)
            }
            Act::Update { phone, nth, holds } => self.update(phone, nth, holds),
            Act::Transfer { phone, nth, to } => {
                let uri = uri_of_user(to);
                self.with_call(phone, nth, "transfer", |phone, id| phone.refer(id, &uri));
            }
            Act::TransferTo { phone, nth, other } => {
                let Some(other) = self.live(phone, other) else { return };
                let uri = self.world.phones[phone].replaces_uri("sip:anyone@example.test", other);
                self.with_call(phone, nth, "attended transfer", |phone, id| phone.refer(id, &uri));
            }
            Act::Park { phone, nth, place } => {
                self.with_call(phone, nth, "park", |phone, id| phone.refer(id, &uri_of(place)));
            }
            Act::Dial { phone, place } => self.dial(phone, &uri_of(place)),
            Act::HoldAndDial { phone, nth, place } => {
                self.with_call(phone, nth, "hold and dial", |phone, id| {
                    phone.reinvite(id, "sendonly");
                    phone.invite(&uri_of(place), &[], true);
                });
            }
            Act::Retrieve { phone, nth, token } => {
                let Some((number, secret)) = self.waiting(nth) else { return };
                let token = if token { format!(";token={secret}") } else { String::new() };
                self.dial(phone, &format!("sip:{number}@example.test{token}"));
            }
            Act::Unpark { phone } => self.dial(phone, "sip:unpark@example.test"),
            Act::PickInGroup { phone, group } => {
                self.report.coverage.add("idle", "pick in group");
                let uri = format!("sip:{}@example.test", GROUPS[usize::from(group)]);
                self.world.act(phone, |phone| phone.invite(&uri, &[], true));
            }
            Act::PickAt { phone, user } => {
                self.report.coverage.add("idle", "pick at phone");
                let uri = format!("sip:**100{}@example.test", user + 1);
                self.world.act(phone, |phone| phone.invite(&uri, &[], true));
            }
            Act::PickByLamp { phone, nth, early_only } => self.pick_by_lamp(phone, nth, early_only),
            Act::Watch { phone, what, expires_s } => {
                let uri = match what {
                    Watched::User(user) => uri_of_user(user),
                    Watched::Orbit(orbit) => uri_of(Place::Orbit(orbit)),
                    Watched::Group(group) => format!("sip:{}@example.test", GROUPS[usize::from(group)]),
                    Watched::Lot => uri_of(Place::Service),
                };
                self.report.coverage.add("idle", "watch");
                self.world.act(phone, |phone| phone.watch(&uri, expires_s));
            }
            Act::WatchAgain { phone, nth, expires_s } => {
                let live: Vec<(usize, usize)> = self
                    .from(phone)
                    .flat_map(|phone| {
                        let watches = &self.world.phones[phone].watches;
                        (0..watches.len()).filter(|id| watches[*id].is_live()).map(move |id| (phone, id))
                    })
                    .collect();
                if let Some((phone, watch)) = live.get(nth % live.len().max(1)).copied() {
                    self.report.coverage.add("idle", if expires_s == 0 { "unwatch" } else { "watch again" });
                    self.world.act(phone, |phone| phone.watch_again(watch, expires_s));
                }
            }
            Act::Message { phone, to } => {
                let text = format!("page {}", self.step);
                self.world.act(phone, |phone| phone.message(&uri_of_user(to), &text));
                self.pages.push(Page { text, to: PHONES[to % USERS] });
            }
            Act::Turn { phone, manner } => self.turn(phone, manner),
            Act::AdminHangUp { nth } => {
                if let Some((call, _)) = self.listed(nth) {
                    self.fault("admin hang up");
                    self.world.ask_later(Request::Hangup { call });
                }
            }
            Act::AdminPark { nth } => {
                if let Some((call, parker)) = self.listed(nth) {
                    self.fault("admin park");
                    self.world.ask_later(Request::Park { call, parker, number: None });
                }
            }
            Act::AdminRetrieve { nth, user } => {
                if let Some((number, _)) = self.waiting(nth) {
                    self.fault("admin retrieve");
                    let user = PHONES[user % USERS].to_owned();
                    self.world.ask_later(Request::Retrieve { number, user, token: None });
                }
            }
            Act::AdminPickup { nth, user } => {
                let rows =
                    self.world.somebody().is_some().then(|| self.world.ask(Request::Ringing { group: None }));
                let rows =
                    rows.and_then(Result::ok).and_then(|rows| rows.as_array().cloned()).unwrap_or_default();
                if let Some(call) = rows.get(nth % rows.len().max(1)).and_then(|row| row["call"].as_u64()) {
                    self.fault("admin pickup");
                    let user = PHONES[user % USERS].to_owned();
                    self.world.ask_later(Request::Pickup { call, user, group: None });
                }
            }
            Act::Rest => {}
            Act::Weather(weather) => self.world.network.weather = weather,
            Act::Cut { phone, cut: true } => {
                self.fault("cut");
                self.world.network.cut.insert(phone);
            }
            Act::Cut { phone, cut: false } => {
                if self.world.network.cut.remove(&phone) {
                    self.world.reconnect(phone);
                }
            }
            Act::Rebind { phone } => {
                self.fault("rebind");
                let port = self.world.phones[phone].seen_as.port() + 1;
                self.world.phones[phone].seen_as = ([203, 0, 113, phone as u8 + 1], port).into();
                if self.world.phones[phone].stream.is_some() {
                    self.world.reconnect(phone);
                } else {
                    self.world.act(phone, |phone| phone.register(3600));
                }
            }
            Act::Reboot { phone, off } => {
                self.fault("reboot");
                self.world.reboot(phone, off);
            }
            Act::Store(does) => {
                self.fault("store");
                self.world.store_does = does;
            }
            Act::Crash { down } => {
                self.fault("crash");
                let talking = invariants::recorded(&self.world);
                self.world.kill_host();
                self.world.run_for(down);
                self.world.start_host();
                if let Err(what) = invariants::taken_up(&mut self.world, &talking) {
                    self.world.broken.get_or_insert(what);
                }
            }
            Act::Clock { ms } => {
                self.fault("clock");
                self.world.clock_ahead_ms += ms;
            }
            Act::Policy(which) => {
                self.fault("policy");
                self.edit_policies(which);
            }
            Act::Reload { plugin } => {
                self.fault("reload");
                let name = ["call-park", "group-pickup"][plugin % 2].to_owned();
                self.world.ask_later(Request::ReloadPlugin { name });
            }
            Act::Change(change) => self.change(change),
            Act::Die { host, down } => {
                if self.world.hosts[host].engine.is_some() {
                    self.fault("host died");
                    self.world.kill(host);
                    self.world.start_later(host, down);
                }
            }
            Act::Storeless { host, cut } => {
                if self.world.hosts[host].engine.is_some() {
                    self.fault("no store");
                    self.world.cut_from_store(host, cut);
                }
            }
            Act::Unlink { hosts, cut: true } => {
                self.fault("no link");
                self.world.cut_link(hosts);
            }
            Act::Unlink { hosts, cut: false } => {
                self.world.mend_link(hosts);
            }
            Act::Skew { host, clock } => {
                self.fault("skew");
                self.world.hosts[host].clock = clock;
            }
            Act::Move { .. }
            | Act::Drain { .. }
            | Act::Lose { .. }
            | Act::Regain { .. }
            | Act::Site { .. }
            | Act::Strike(_)
            | Act::Probe { .. } => self.pools(act),
            Act::Roam { phone, host } => {
                let name = self.world.hosts[host].name;
                self.world.move_phone(phone, name);
                self.world.act(phone, |phone| phone.register(3600));
            }
        }
    }

    fn turn(&mut self, phone: usize, manner: Manner) {
        self.world.network.count("manner");
        let phone = &mut self.world.phones[phone];
        match manner {
            Manner::Rings(on_ring) => phone.on_ring = on_ring,
            Manner::RefusesReinvites(times, status) => phone.refuse_reinvites = vec![status; times.into()],
            Manner::IgnoresReinvites(ignores) => phone.ignore_reinvites = ignores,
            Manner::HangsUpOnAccepted(does) => phone.bye_on_accepted = does,
            Manner::Codecs(codecs) => phone.codecs = codecs,
            Manner::KeepsTime(refresher) => phone.keeps_time = refresher,
            Manner::EarlyMedia(has) => phone.early_media = has,
        }
    }

    /// All phones, beginning with that one: few have what is looked for.
    fn from(&self, phone: usize) -> impl Iterator<Item = usize> {
        (0..PHONES.len()).map(move |next| (phone + next) % PHONES.len())
    }

    /// UPDATE in an answered call, or in one that rings and whose session is agreed on already (RFC 3311 §5.1).
    fn update(&mut self, phone: usize, nth: usize, holds: bool) {
        let direction = if holds { "sendonly" } else { "sendrecv" };
        let one = &self.world.phones[phone];
        let ready = |id: &CallId| one.call(*id).early.is_some() && one.call(*id).early_answered;
        let early = one.calling().chain(one.ringing()).find(ready);
        match early {
            Some(id) => {
                self.report.coverage.add(side(self.world.phones[phone].call(id)), "update");
                self.world.act(phone, |phone| phone.update(id, direction));
            }
            None => self.with_call(phone, nth, "update", |phone, id| phone.update(id, direction)),
        }
    }

    /// Takes what a lamp of the phone shows, as a key does that is pressed while it blinks.
    fn pick_by_lamp(&mut self, phone: usize, nth: usize, early_only: bool) {
        let lit: Vec<(usize, String, String)> = self
            .from(phone)
            .flat_map(|phone| self.world.phones[phone].watches.iter().map(move |watch| (phone, watch)))
            .filter(|(_, watch)| watch.is_live())
            .flat_map(|(phone, watch)| watch.lamps.values().map(move |lamp| (phone, lamp)))
            .filter(|(_, lamp)| lamp.call_id.is_some() && lamp.local_tag.is_some())
            .filter(|(_, lamp)| lamp.remote_tag.is_some())
            .map(|(phone, lamp)| (phone, lamp.local.clone(), lamp.replaces(false, early_only)))
            .collect();
        let Some((phone, uri, replaces)) = lit.get(nth % lit.len().max(1)).cloned() else { return };
        self.report.coverage.add("idle", "pick by lamp");
        self.world.act(phone, |phone| phone.invite(&uri, &[(Name::Replaces, &replaces)], true));
    }

    /// Another program changes users and ranges in the store.
    pub(super) fn change(&mut self, change: Change) {
        let as_configured = |user: usize| self.users[PHONES[user % USERS]].clone();
        let now = |user: usize| self.stored(PHONES[user % USERS]);
        let operation = match change {
            Change::Group { user, group } => {
                let Some(mut user) = now(user) else { return };
                user.pickup_group = group.map(|group| GROUPS[usize::from(group)].to_owned());
                user.put()
            }
            Change::MayPark { user, may } => {
                let Some(mut user) = now(user) else { return };
                user.may_park = may;
                user.put()
            }
            Change::Gone { user, gone: true } => Operation::Delete { key: User::key(PHONES[user % USERS]) },
            Change::Gone { user, gone: false } if now(user).is_some() => return,
            Change::Gone { user, gone: false } => as_configured(user).put(),
            Change::Range { first: None } => remove_operation(RANGE),
            Change::Range { first: Some(first) } => put_operation(&range(first)),
        };
        self.fault(match change {
            Change::Range { .. } => "range changed",
            Change::Gone { gone: true, .. } => "user gone",
            Change::Gone { .. } | Change::Group { .. } | Change::MayPark { .. } => "user changed",
        });
        self.world.write_record(operation);
        if let Change::Gone { user, gone: false } = change {
            // Its phones hear of it from their owner.
            self.world.run_for(std::time::Duration::from_millis(2));
            for phone in (0..PHONES.len()).filter(|phone| PHONES[*phone] == PHONES[user % USERS]) {
                self.world.act(phone, |phone| phone.register(3600));
            }
        }
    }

    pub(super) fn stored(&self, name: &str) -> Option<User> {
        let record = self.world.store.snapshot(&User::key(name)).records.remove(&User::key(name))?;
        serde_json::from_slice(&record.value).ok()
    }
}

fn uri_of(place: Place) -> String {
    match place {
        Place::Service => "sip:park@example.test".to_owned(),
        Place::ServiceFor(orbit) => format!("sip:park@example.test;orbit=700{orbit}"),
        Place::Orbit(orbit) => format!("sip:700{orbit}@example.test"),
    }
}

fn uri_of_user(user: usize) -> String {
    format!("sip:{}@example.test", PHONES[user % USERS])
}

/// The range of orbits, as the world begins with it.
const RANGE: &str = "east-park";

fn range(first: u8) -> RangeSpec {
    RangeSpec {
        name: RANGE.to_owned(),
        from: format!("700{first}"),
        to: "7099".to_owned(),
        kind: "call-park".to_owned(),
        pool: "east".to_owned(),
    }
}
