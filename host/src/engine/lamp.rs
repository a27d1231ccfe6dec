//! What lamps show: the truth about users, orbits and groups, as each watcher may see it (RFC 4235, design.md §7).
//!
//! A user's dialogs are the legs between the host and the user's phones, seen from the phone's side: its tags, its
//! direction, the host's addresses. An orbit's dialog is the waiting call, a group's are the calls that ring its members.

use std::collections::BTreeSet;

use serde_json::json;
use sha2::{Digest, Sha256};
use switchyard_sdk::types::Party;

use super::Engine;
use super::dispatch::Sender;
use super::invite::Address;
use crate::call::{Leg, Peer, State as LegState};
use crate::directory::User;
use crate::net::Flow;
use crate::notifier::dialog_info::{Entry, Named, Participant, State};
use crate::notifier::{self, Dialogs, Refusal, Resource};
use crate::orbit::{Occupant, State as OrbitState};
use crate::sip::{Message, Name, NameAddr, ServerId, Status, Uri};
use crate::store::Change;
use crate::store::keys::Key;

/// The user part of the whole lot's address.
const LOT: &str = "park";

/// The kinds of orbits that can be watched.
const PARK: &str = "call-park";
const GROUP: &str = "group-pickup";

impl Engine {
    /// A SUBSCRIBE outside any dialog.
    pub(super) fn on_subscribe(&mut self, server: ServerId, request: &Message, flow: Flow) {
        let Some(sender) = self.sender(server, request, &flow) else { return };
        if !notifier::is_about_dialogs(request) {
            // Voice mail (message-summary) and presence are not ours.
            Refusal::bad_event().send(&mut self.core, server, request);
            return;
        }
        // Who calls whom is nobody's business outside.
        let Sender::User(watcher) = sender else {
            Refusal::new(Status::FORBIDDEN).send(&mut self.core, server, request);
            return;
        };
        let Some(watched) = self.watched_by(request.uri()) else {
            Refusal::new(Status::NOT_FOUND).send(&mut self.core, server, request);
            return;
        };
        let writes = self.notifier.subscribe(&mut self.core, server, request, flow, watched, &watcher);
        self.write_behind(writes);
    }

    /// A SUBSCRIBE in the dialog of a subscription.
    pub(super) fn on_resubscribe(&mut self, server: ServerId, request: &Message, flow: Flow) {
        let Some(sender) = self.sender(server, request, &flow) else { return };
        let watcher = self.notifier.watcher_of(request);
        if watcher.is_some_and(|watcher| sender != Sender::User(watcher.to_owned())) {
            Refusal::new(Status::FORBIDDEN).send(&mut self.core, server, request);
            return;
        }
        let writes = self.notifier.refresh(&mut self.core, server, request, flow);
        self.write_behind(writes);
    }

    /// What a URI means as something to watch, and how documents name it: as the watcher does, who may compare.
    fn watched_by(&self, asked: &str) -> Option<(Resource, String)> {
        let uri = Uri::parse(asked).ok().filter(|uri| self.core.is_ours(uri))?;
        let part = uri.user.as_deref()?;
        let resource = match self.address(&uri) {
            // `park;orbit=7001` means the orbit, `park` alone all of them.
            Address::Feature { number: Some(number), .. } => match self.orbits.ranges().find(&number)?.kind()
            {
                PARK => Resource::Orbit(number),
                GROUP => Resource::Group(number),
                _ => return None,
            },
            Address::Feature { service: Some(service), .. } if service == LOT => Resource::Lot,
            Address::Feature { .. } => return None,
            Address::Other => Resource::User(self.directory.resolve(part)?.name.clone()),
        };
        Some((resource, asked.to_owned()))
    }

    /// Marks what may have changed about these users and numbers, and tells whoever may be told now.
    pub(super) fn tell_watchers(&mut self, users: BTreeSet<String>, numbers: BTreeSet<String>) {
        if self.notifier.is_empty() {
            return;
        }
        for user in users {
            for group in self.directory.user(&user).into_iter().flat_map(User::pickup_groups) {
                self.notifier.touch(&mut self.core, &Resource::Group(group.to_owned()));
            }
            self.notifier.touch(&mut self.core, &Resource::User(user));
        }
        for number in numbers {
            self.notifier.touch(&mut self.core, &Resource::Orbit(number));
            self.notifier.touch(&mut self.core, &Resource::Lot);
        }
        while let Some((id, resource, watcher)) = self.notifier.next_due() {
            let truth = self.shown(&resource, &watcher);
            self.notifier.tell(&mut self.core, id, truth);
        }
    }

    /// A user came, went, or is in another group.
    pub(super) fn user_changed(&mut self, change: &Change, before: Option<&User>) {
        if self.notifier.is_empty() {
            return;
        }
        let Some(Key::User(name)) = Key::parse(&change.key) else { return };
        // Only what depends on this user: thousands may change at once.
        let groups = before.into_iter().chain(self.directory.user(&name)).flat_map(User::pickup_groups);
        for group in groups.map(str::to_owned).collect::<BTreeSet<_>>() {
            self.notifier.touch(&mut self.core, &Resource::Group(group));
        }
        self.notifier.touch(&mut self.core, &Resource::User(name.clone()));
        self.notifier.touch_watcher(&mut self.core, &name);
        if change.record.is_none() {
            let mut writes = self.notifier.watcher_gone(&mut self.core, &name);
            writes.extend(self.notifier.resource_gone(&mut self.core, &Resource::User(name)));
            self.write_behind(writes);
        }
    }

    /// Compares what every watcher knows with the truth.
    pub(super) fn check_lamps(&mut self) {
        for (id, resource, watcher) in self.notifier.at_rest(&mut self.core) {
            let truth = self.shown(&resource, &watcher);
            if !self.notifier.check(&mut self.core, id, &truth) {
                let detail = json!({ "resource": resource, "watcher": watcher });
                self.core.event("lamp.healed", None, None, detail);
            }
        }
    }

    /// Every subscription that ought to tell the truth now and does not: who watches what. Empty unless there is a
    /// mistake; for tests and simulation.
    pub fn wrong_lamps(&self) -> Vec<(Resource, String)> {
        let at_rest = self.notifier.told().filter(|(.., at_rest)| *at_rest);
        at_rest
            .filter(|(resource, watcher, told, _)| self.shown(resource, watcher) != **told)
            .map(|(resource, watcher, ..)| (resource.clone(), watcher.to_owned()))
            .collect()
    }

    /// The dialogs of a resource as a watcher may see them.
    fn shown(&self, resource: &Resource, watcher: &str) -> Dialogs {
        match resource {
            Resource::User(user) => {
                let names = self.sees_names(watcher, user);
                self.calls
                    .legs_of(user)
                    .filter(|leg| leg.is_of_phone())
                    .flat_map(|leg| self.entries(leg))
                    .map(discreet(names))
                    .collect()
            }
            Resource::Group(number) => {
                let members = self.directory.members(number);
                members
                    .flat_map(|user| {
                        let names = self.sees_names(watcher, &user.name);
                        // What nobody may ever pick up (GCP-09) is not shown to pick from.
                        let protected = |leg: &Leg| {
                            let call = self.call_of_branch(leg.id);
                            call.is_some_and(|call| call.private || call.excluded)
                        };
                        let ringing =
                            self.calls.legs_of(&user.name).filter(move |leg| leg.rung && !protected(leg));
                        let entries = ringing.flat_map(|leg| self.entries(leg));
                        entries.filter(|(_, entry)| entry.state == State::Early).map(discreet(names))
                    })
                    .collect()
            }
            Resource::Orbit(number) => {
                let occupant = self.orbits.occupant(number);
                occupant.and_then(|occupant| self.waiting(occupant, watcher)).into_iter().collect()
            }
            Resource::Lot => {
                let parked = self.orbits.occupants().filter(|occupant| occupant.kind == PARK);
                parked.filter_map(|occupant| self.waiting(occupant, watcher)).collect()
            }
        }
    }

    /// The dialogs of a leg, one for each of its early dialogs, seen from the phone.
    fn entries(&self, leg: &Leg) -> Vec<(String, Entry)> {
        let local = self.participant(&leg.party);
        let remote = match leg.peer {
            Peer::Leg(peer) => self.calls.leg(peer).map(|peer| self.participant(&peer.party)),
            Peer::Host => leg.shown.as_ref().map(|shown| self.participant(shown)),
            Peer::None => None,
        };
        // Who is there is what the phone was told: the address it dialled, or the one it sees ringing.
        let remote = remote.or_else(|| {
            let address = NameAddr::parse(&leg.dialog.local).ok()?;
            Some(self.shown_as(address.display, address.uri.to_string()))
        });
        let entry = |state: State, phone: &str, host: Option<&str>| Entry {
            state,
            initiator: !leg.rung,
            named: Some(Named {
                call_id: leg.dialog.call_id.clone(),
                local_tag: phone.to_owned(),
                remote_tag: host.map(str::to_owned),
            }),
            local: local.clone(),
            held: leg.held_at.is_some(),
            remote: remote.clone(),
        };
        // A phone that was rung has a dialog for each tag it answers with; one that called has one.
        let id =
            |tag: &str| if leg.rung { format!("{}-{}", leg.id.0, opaque(tag)) } else { leg.id.0.to_string() };
        match leg.state {
            LegState::Ended => Vec::new(),
            LegState::Confirmed => {
                let dialog = &leg.dialog;
                let entry = entry(State::Confirmed, &dialog.remote_tag, Some(&dialog.local_tag));
                vec![(id(&dialog.remote_tag), entry)]
            }
            LegState::Early if leg.rung => (leg.earlies.iter())
                .map(|early| {
                    let dialog = &early.dialog;
                    let entry = entry(State::Early, &dialog.remote_tag, Some(&dialog.local_tag));
                    (id(&dialog.remote_tag), entry)
                })
                .collect(),
            LegState::Early => {
                let state = if leg.earlies.is_empty() { State::Trying } else { State::Early };
                let host = leg.earlies.first().map(|early| &*early.dialog.local_tag);
                vec![(id(""), entry(state, &leg.dialog.remote_tag, host))]
            }
        }
    }

    /// The call in an orbit, once it is parked. An INVITE that replaces this dialog retrieves it.
    fn waiting(&self, occupant: &Occupant, watcher: &str) -> Option<(String, Entry)> {
        match occupant.state {
            OrbitState::Reserved | OrbitState::Storing { .. } => return None,
            OrbitState::Restored | OrbitState::Parked | OrbitState::Connecting { .. } => {}
        }
        let leg = occupant.leg.and_then(|leg| self.calls.leg(leg));
        let number = occupant.number.to_string();
        let entry = Entry {
            state: State::Confirmed,
            initiator: false,
            named: leg.map(|leg| Named {
                call_id: leg.dialog.call_id.clone(),
                local_tag: leg.dialog.local_tag.clone(),
                remote_tag: Some(leg.dialog.remote_tag.clone()),
            }),
            local: self
                .shown_as(Some(format!("Orbit {number}")), self.core.uri_of(&number.replace('#', "%23"))),
            held: false,
            remote: Some(self.participant(&occupant.parked)),
        };
        let args = json!([self.user_facts(watcher), { "number": number, "parker": occupant.parker.user }]);
        let names = self.may_see("orbits", &occupant.pool, &args)
            && self.directory.user(watcher).is_some_and(|user| user.may_retrieve);
        let id = format!("{number}-{}", occupant.since.0);
        Some(discreet(names)((id, entry)))
    }

    fn participant(&self, party: &Party) -> Participant {
        self.shown_as(party.display.clone(), party.uri.clone())
    }

    fn shown_as(&self, display: Option<String>, uri: String) -> Participant {
        let outside = Uri::parse(&uri).ok().filter(|parsed| !self.core.is_ours(parsed));
        let target = outside.and_then(|outside| Some(self.core.uri_of(outside.user.as_deref()?)));
        Participant { display, target: target.unwrap_or_else(|| uri.clone()), uri }
    }

    /// Whether a watcher may know whom a user talks to: the policy of the watched user's pool says (facts.md §8 no. 11).
    fn sees_names(&self, watcher: &str, watched: &str) -> bool {
        if watcher == watched {
            return true;
        }
        let Some(user) = self.directory.user(watched) else { return false };
        let groups = self.directory.user(watcher).into_iter().flat_map(User::pickup_groups);
        let same = groups.into_iter().any(|group| user.pickup_groups().any(|other| other == group));
        let relation = if same { "own_group" } else { "others" };
        let args = json!([self.user_facts(watcher), self.user_facts(watched)]);
        self.may_see(relation, &user.pool, &args)
    }

    fn user_facts(&self, name: &str) -> Option<Party> {
        self.directory.user(name).map(|user| self.party(user))
    }

    fn may_see(&self, relation: &str, pool: &str, args: &serde_json::Value) -> bool {
        let hook = format!("lamps.names.{relation}");
        self.policies.borrow_mut().decide(self.core.now, pool, &hook, args).allowed
    }
}

/// A name for a tag that says nothing of it: a dialog's id is shown to those who may not know its tags.
fn opaque(tag: &str) -> String {
    Sha256::digest(tag.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Takes away what a watcher may not see.
fn discreet(names: bool) -> impl FnMut((String, Entry)) -> (String, Entry) {
    move |(id, entry)| if names { (id, entry) } else { (id, entry.anonymous()) }
}

impl Refusal {
    /// An event package the host has nothing to say about (RFC 6665 §4.2.1.1).
    pub(super) fn bad_event() -> Self {
        Refusal::new(Status::BAD_EVENT).with(Name::AllowEvents, ALLOW_EVENTS)
    }
}

/// The event packages the host knows.
pub(super) const ALLOW_EVENTS: &str = "dialog, refer";
