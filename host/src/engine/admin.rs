//! Requests of the administrative interface (`admin::Request`), answered by [`Output::Admin`].

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchyard_sdk::types::{FarLeg, How};

use super::ask::AskKind;
use super::record::StoreOwner;
use super::{AdminId, Engine, Output};
use crate::admin::{RangeSpec, Refused, Request};
use crate::call::{Done, Failed, Headers, Leg, Origin, Peer, Rejection, Ringing, RingsNow, State};
use crate::config::{KIND_CALL_PARK, KIND_GROUP_PICKUP, Secret};
use crate::directory::User;
use crate::near::did_you_mean;
use crate::net::Listener;
use crate::orbit::{self, Occupant};
use crate::plugin::LoadError;
use crate::pool::Replacement;
use crate::sip::Status;
use crate::store::{Change, Durability, Expect, Operation, Record, Transaction};

impl Engine {
    pub(super) fn administer(&mut self, request: AdminId, what: Request) {
        if self.ask_elsewhere(request, &what) {
            return;
        }
        let answer = match what {
            Request::Calls => Ok(self.list_calls()),
            Request::Hangup { call } => self.hang_up_call(call),
            Request::Park { call, parker, number } => {
                match self.park_for_admin(request, call, &parker, number) {
                    Ok(()) => return,
                    Err(refused) => Err(refused),
                }
            }
            Request::Retrieve { number, user, token } => {
                match self.retrieve_for_admin(request, &number, &user, token.as_deref()) {
                    Ok(()) => return,
                    Err(refused) => Err(refused),
                }
            }
            Request::Ringing { group } => Ok(self.list_ringing(group.as_deref())),
            Request::Pickup { call, user, group } => match self.pick_for_admin(request, call, &user, group) {
                Ok(()) => return,
                Err(refused) => Err(refused),
            },
            Request::Ranges => Ok(self.list_ranges()),
            Request::PutRange(spec) => match self.put_range(&spec) {
                Ok(operation) => {
                    self.write_for(request, Vec::new(), operation, json!(spec));
                    return;
                }
                Err(refused) => Err(refused),
            },
            Request::RemoveRange { name, force } => match self.remove_range(&name, force) {
                Ok(operation) => {
                    self.write_for(request, Vec::new(), operation, json!({}));
                    return;
                }
                Err(refused) => Err(refused),
            },
            Request::Occupants => Ok(self.list_occupants()),
            Request::Users => Ok(self.list_users()),
            Request::AddUser { name, pool, password, change } => {
                match self.add_user(&name, pool, &password, &change) {
                    Ok((user, operation)) => {
                        // Of two who add the same at once, one is told.
                        self.write_for(request, vec![(User::key(&name), Expect::Absent)], operation, user);
                        return;
                    }
                    Err(refused) => Err(refused),
                }
            }
            Request::RemoveUser { name } => match self.known_user(&name) {
                Ok(user) => {
                    let operation = Operation::Delete { key: User::key(&user.name) };
                    self.write_for(request, Vec::new(), operation, json!({}));
                    return;
                }
                Err(refused) => Err(refused),
            },
            Request::SetUser { name, change, password } => {
                match self.set_user(&name, &change, password.as_ref()) {
                    Ok((user, operation)) => {
                        // One that is removed at the same moment stays removed.
                        self.write_for(request, vec![(User::key(&name), Expect::Present)], operation, user);
                        return;
                    }
                    Err(refused) => Err(refused),
                }
            }
            Request::Pools => Ok(self.list_pools()),
            Request::MovePool { pool, ask, by, dry_run } => {
                match self.move_pool(request, &pool, ask, &by, dry_run) {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => return,
                    Err(refused) => Err(refused),
                }
            }
            Request::DrainHost { host, drained, by } => match self.drain_host(request, &host, drained, &by) {
                Ok(()) => return,
                Err(refused) => Err(refused),
            },
            Request::ReassignPool { pool, to, users, by, dry_run } => {
                let wish = Replacement { pool: &pool, to: &to, users };
                match self.reassign_pool(request, wish, &by, dry_run) {
                    Ok(Some(answer)) => Ok(answer),
                    Ok(None) => return,
                    Err(refused) => Err(refused),
                }
            }
            Request::PolicyStatus => Ok(self.policies.borrow().status()),
            Request::Plugins => Ok(self.plugins.list()),
            Request::ReloadPlugin { name } => self.reload_plugin(&name),
            Request::Status => Ok(json!({
                "ready": !self.draining,
                "draining": self.draining,
                "calls": self.calls.legs().filter(|leg| leg.state == State::Confirmed).map(|leg| leg.call).collect::<BTreeSet<_>>().len(),
                "occupants": self.orbits.occupants().count(),
                "orbit_leaks": self.orbits.leaks(|leg| self.calls.leg(leg).is_some()),
                "registrations": self.registrar.len(),
                "counts": self.counts(),
                "policy": { "revision": self.policies.borrow().revision(), "counters": self.policies.borrow().counters() },
                "sip": self.core.tx.counters(),
                "host": self.config.host.name,
                "domain": self.config.sip.domain,
                "listeners": told_listeners(&self.core.identity.listeners),
                "pools": self.list_pools(),
            })),
        };
        self.core.emit(Output::Admin { request, answer });
    }

    /// Writes one record; the change is made, and the request answered, when it is stored.
    fn write_for(
        &mut self,
        request: AdminId,
        expect: Vec<(String, Expect)>,
        operation: Operation,
        answer: Value,
    ) {
        let change = match &operation {
            Operation::Put { key, value } => {
                Change { key: key.clone(), record: Some(Record { value: value.clone(), revision: 0 }) }
            }
            Operation::Delete { key } => Change { key: key.clone(), record: None },
        };
        let transaction =
            Transaction { expect, operations: vec![operation], durability: Durability::Durable };
        self.write(transaction, StoreOwner::Admin { request, answer, change });
    }

    pub(super) fn list_calls(&self) -> Value {
        let mut calls: BTreeMap<u64, Vec<&Leg>> = BTreeMap::new();
        for leg in self.calls.legs() {
            calls.entry(leg.call).or_default().push(leg);
        }
        let rings = self.rings_for_orbits();
        let rows = calls.into_iter().map(|(id, legs)| {
            let state = if legs.iter().any(|leg| leg.peer == Peer::Host) {
                let occupant = legs.iter().find_map(|leg| self.orbits.orbit_of(leg.id));
                occupant
                    .map_or("waiting", |occupant| word_of(occupant, rings.get(&occupant.number.to_string())))
            } else if legs.iter().all(|leg| leg.state == State::Confirmed) {
                "answered"
            } else {
                "ringing"
            };
            json!({
                "id": id,
                "state": state,
                "since": legs.iter().map(|leg| leg.since.0).min(),
                "legs": legs.into_iter().map(|leg| self.leg_row(leg)).collect::<Vec<_>>(),
            })
        });
        Value::Array(rows.collect())
    }

    fn leg_row(&self, leg: &Leg) -> Value {
        json!({
            "id": leg.id.0,
            "user": leg.party.user,
            "uri": leg.party.uri,
            "call_id": leg.dialog.call_id,
            "state": match leg.state {
                State::Early => "early",
                State::Confirmed => "confirmed",
                State::Ended => "ended",
            },
            "way": leg.flow().to_string(),
            "held": leg.held_at.is_some(),
            "peer": match leg.peer {
                Peer::Leg(peer) => json!(peer.0),
                Peer::Host => json!("host"),
                Peer::None => Value::Null,
            },
            "orbit": self.orbits.orbit_of(leg.id).map(|occupant| occupant.number.to_string()),
        })
    }

    fn hang_up_call(&mut self, call: u64) -> Result<Value, Refused> {
        let legs: Vec<_> = self.calls.legs().filter(|leg| leg.call == call).map(|leg| leg.id).collect();
        if legs.is_empty() {
            return Err(not_found(format!("there is no call {call}")));
        }
        for leg in legs {
            let rejection = Rejection::because(Status::TEMPORARILY_UNAVAILABLE, "Ended by the administrator");
            self.calls.release(&mut self.core, leg, &rejection);
        }
        Ok(json!({}))
    }

    fn park_for_admin(
        &mut self,
        request: AdminId,
        call: u64,
        parker: &str,
        number: Option<String>,
    ) -> Result<(), Refused> {
        let near = self
            .calls
            .legs()
            .find(|leg| {
                leg.call == call && leg.party.user.as_deref() == Some(parker) && leg.state == State::Confirmed
            })
            .map(|leg| (leg.id, leg.party.clone(), leg.dialog.call_id.clone()));
        let Some((near, party, call_id)) = near else {
            return Err(not_found(format!("{parker} is in no answered call {call}")));
        };
        let Some(FarLeg { leg, party: far_party }) = self.far_of(near) else {
            return Err(conflict("there is nobody at the other side of that call"));
        };
        let pool =
            number.as_deref().and_then(|n| self.orbits.ranges().find(n)).map(|range| range.pool().to_owned());
        let Some(instance) = self.plugins.for_service("park") else {
            return Err(conflict("no plugin offers the service park"));
        };
        let mut offer = self.offer(How::Admin, &party, Some("park".to_owned()), number, None, pool, &call_id);
        offer.near = Some(near);
        offer.far = Some(FarLeg { leg, party: far_party });
        self.make_offer(instance, offer, AskKind::Admin { request });
        Ok(())
    }

    /// Rings a user's phones for the call in an orbit; the first that answers claims it.
    fn retrieve_for_admin(
        &mut self,
        request: AdminId,
        number: &str,
        user: &str,
        token: Option<&str>,
    ) -> Result<(), Refused> {
        let Some(user) = self.directory.resolve(user).cloned() else {
            return Err(not_found(format!("there is no user {user}")));
        };
        let Some(occupant) = self.orbits.occupant(number) else {
            return Err(Refused { code: Some(35000), ..not_found(format!("no call waits in {number}")) });
        };
        if token.is_some_and(|token| token != occupant.token) {
            return Err(Refused {
                code: Some(35010),
                ..not_found("another call waits there now".to_owned())
            });
        }
        let Some(leg) = occupant.leg else {
            return Err(conflict("the call is being taken up again after a restart"));
        };
        let party = occupant.parked.clone();
        let phones = self.phones_of(&user, None);
        if phones.is_empty() {
            return Err(conflict(&format!("{} has no phone registered", user.name)));
        }
        let who = self.party(&user);
        if let Some(refusal) = self.bars("retrieve", &who) {
            return Err(Refused { code: Some(refusal.code.0), ..conflict(&refusal.text) });
        }
        let display = format!("Parked call {number}: {}", party.label());
        let ringing = Ringing {
            headers: Headers::presenting(&self.core, &party, Some(&display)),
            groups: [phones].into(),
            timeout: Some(std::time::Duration::from_secs(30)),
            claims: Some(number.to_owned()),
            ..Ringing::default()
        };
        self.calls.ring(&mut self.core, Origin::Admin(request), leg, ringing);
        Ok(())
    }

    pub(super) fn operation_for_admin(&mut self, request: AdminId, result: Result<Done, Failed>) {
        let retrieved = self.retrievals.remove(&request);
        let answer = match result {
            Ok(Done::Answered { leg }) => {
                if let Some(number) = retrieved {
                    self.orbits.release(
                        self.core.now,
                        &number,
                        switchyard_sdk::ext::orbit::Outcome::Retrieved,
                    );
                }
                Ok(json!({ "leg": leg.0 }))
            }
            Ok(_) => Ok(json!({})),
            Err(failed) => {
                if let Some(number) = retrieved {
                    self.orbits.return_claim(self.core.now, &number);
                }
                Err(Refused { status: 409, code: Some(failed.code.0), text: failed.text })
            }
        };
        self.core.emit(Output::Admin { request, answer });
    }

    /// New flows start in the new copy at once; those at rest come after as the old copy hands them over.
    fn reload_plugin(&mut self, name: &str) -> Result<Value, Refused> {
        let new = self.plugins.reload(self.core.now, name).map_err(|error| match error {
            LoadError::NotRunning { .. } => not_found(error.to_string()),
            _ => conflict(&error.to_string()),
        })?;
        self.orbits.grant(new, self.plugins.kinds_of(new));
        let list = self.plugins.list();
        let running = |plugin: &&Value| plugin["name"] == name && plugin["state"] == "running";
        let plugin = list.as_array().into_iter().flatten().find(running).cloned().unwrap_or_default();
        let detail =
            json!({ "plugin": name, "version": plugin["version"], "generation": plugin["generation"] });
        self.core.event("plugin.reloaded", None, None, detail);
        Ok(plugin)
    }

    /// The calls that ring at users, the longest first.
    pub(super) fn list_ringing(&self, group: Option<&str>) -> Value {
        let mut calls: Vec<_> = match group {
            Some(group) => self.orbits.ringing_in(group),
            None => self.orbits.ringing().collect(),
        };
        calls.sort_by_key(|call| (call.since_ms, call.leg));
        let rows = calls.into_iter().map(|call| {
            json!({
                "call": self.calls.leg(call.leg).map(|leg| leg.call),
                "caller": call.caller.label(),
                "callee": call.callee.label(),
                "user": call.callee.user,
                "groups": call.callee.pickup_groups().collect::<Vec<_>>(),
                "since": call.since_ms,
            })
        });
        Value::Array(rows.collect())
    }

    /// Rings a user's phones for a call that rings at somebody else, if the plugin lets them have it.
    fn pick_for_admin(
        &mut self,
        request: AdminId,
        call: u64,
        user: &str,
        group: Option<String>,
    ) -> Result<(), Refused> {
        let of_call = |leg| self.calls.leg(leg).is_some_and(|leg| leg.call == call);
        let found = self.orbits.ringing().find(|ringing| of_call(ringing.leg)).cloned();
        let ringing = found.ok_or_else(|| not_found(format!("no call {call} rings")))?;
        let Some(user) = self.directory.resolve(user).cloned() else {
            return Err(not_found(format!("there is no user {user}")));
        };
        let Some(instance) = self.picker_plugin() else {
            return Err(conflict("no plugin picks up calls"));
        };
        let picker = self.party(&user);
        let pool = ringing.callee.pool.clone();
        let call_id = self.calls.leg(ringing.leg).map(|leg| leg.dialog.call_id.clone()).unwrap_or_default();
        let mut offer = self.offer(How::Admin, &picker, None, group, None, pool, &call_id);
        offer.ringing = Some(ringing);
        self.make_offer(instance, offer, AskKind::Admin { request });
        Ok(())
    }

    fn list_ranges(&self) -> Value {
        let rows = self.orbits.ranges().iter().map(|range| {
            let spec = range.spec();
            // In a cluster each host has the calls of the pools it serves, and all know of all records.
            let occupied = match &self.cluster {
                Some(cluster) if spec.kind == KIND_CALL_PARK && !self.serves(&spec.pool) => {
                    cluster.pools.parked_in(&spec)
                }
                _ => self.orbits.used(range).calls,
            };
            let mut row = json!(spec);
            row["size"] = json!(range.size());
            row["occupied"] = json!(occupied);
            row
        });
        Value::Array(rows.collect())
    }

    /// Every call in an orbit. One for which phones ring tells of that: until they give up is its next step then.
    pub(super) fn list_occupants(&self) -> Value {
        let rings = self.rings_for_orbits();
        let rows = self.orbits.occupants().map(|occupant| {
            let mut row = occupant.row();
            let rings = rings.get(&occupant.number.to_string());
            row["state"] = json!(word_of(occupant, rings));
            if occupant.state == orbit::State::Parked
                && let Some(rings) = rings
            {
                row["ringing"] = json!(rings.whom.join(", "));
                row["deadline"] = json!(rings.until.map(|at| self.core.now.utc_of(at)));
                if let Some(attempt) = rings.attempt {
                    row["recalls"] = json!(attempt.number);
                    row["recalls_max"] = json!(attempt.of);
                }
            }
            row
        });
        Value::Array(rows.collect())
    }

    fn rings_for_orbits(&self) -> BTreeMap<String, RingsNow> {
        self.calls.rings_for_orbits(&self.core).map(|rings| (rings.number.clone(), rings)).collect()
    }

    fn put_range(&mut self, spec: &RangeSpec) -> Result<Operation, Refused> {
        let pools = self.pool_names();
        let kinds = self.plugins.kinds();
        self.orbits.check_put(spec, &pools, &kinds, false).map_err(|error| bad(error.to_string()))?;
        let before = self.orbits.ranges().get(&spec.name).filter(|before| before.pool() != spec.pool);
        if let Some((cluster, before)) = self.cluster.as_ref().zip(before) {
            // Each pool's server looks only for its own.
            let waiting = cluster.pools.parked_in(&before.spec());
            if waiting > 0 {
                let (name, pool) = (before.name(), before.pool());
                return Err(conflict(&format!(
                    "{waiting} calls wait in {name}, and only a host that serves {pool} has them"
                )));
            }
        }
        Ok(crate::orbit::put_operation(spec))
    }

    fn remove_range(&mut self, name: &str, force: bool) -> Result<Operation, Refused> {
        self.orbits.ranges().expect(name).map_err(|error| not_found(error.to_string()))?;
        self.orbits.check_remove(name, force).map_err(|error| conflict(&error.to_string()))?;
        Ok(crate::orbit::remove_operation(name))
    }

    pub(super) fn list_users(&self) -> Value {
        let rows = self.directory.iter().map(|user| {
            let mut row = self.user_row(user);
            let bindings = self.registrar.bindings(self.core.now, &user.name).into_iter().map(|binding| {
                json!({
                    "id": binding.id,
                    "contact": binding.contact,
                    "flow": binding.flow.to_string(),
                    "expires": binding.expires.0,
                    "user_agent": binding.user_agent,
                })
            });
            row["bindings"] = Value::Array(bindings.collect());
            row
        });
        Value::Array(rows.collect())
    }

    fn user_row(&self, user: &User) -> Value {
        let mut row = json!({
            "name": user.name,
            "extension": user.extension,
            "display": user.display,
            "pool": user.pool,
            "may_park": user.may_park,
            "may_retrieve": user.may_retrieve,
            "pickup_group": user.pickup_group,
            "further_pickup_groups": user.further_pickup_groups,
        });
        if let Some(row) = row.as_object_mut() {
            row.extend(user.rules.row());
        }
        row
    }

    /// The user of that name.
    fn known_user(&self, name: &str) -> Result<&User, Refused> {
        self.directory.user(name).ok_or_else(|| {
            let near = did_you_mean(name, self.directory.iter().map(|user| user.name.as_str()));
            not_found(format!("there is no user {name:?}{near}"))
        })
    }

    /// Whether a user may be reached at `number`, its name or its extension.
    fn check_reached_at(&self, user: &str, number: &str) -> Result<(), Refused> {
        if let Some(other) = self.directory.resolve(number).filter(|other| other.name != user) {
            return Err(conflict(&format!("{number} belongs to {}", other.name)));
        }
        if self.plugins.for_service(number).is_some() {
            let text = format!("{number:?} is a service of a plugin, so nobody could be reached there");
            return Err(bad(text));
        }
        self.orbits.ranges().check_extension(user, number).map_err(|error| bad(error.to_string()))
    }

    fn add_user(
        &self,
        name: &str,
        pool: Option<String>,
        password: &Secret,
        change: &serde_json::Map<String, Value>,
    ) -> Result<(Value, Operation), Refused> {
        if self.directory.user(name).is_some() {
            return Err(conflict(&format!("there is a user {name:?} already")));
        }
        self.check_reached_at(name, name)?;
        let pools = self.pool_names();
        let pool = pool.unwrap_or_else(|| self.config.host.pool.clone());
        if !pools.contains(&pool) {
            let near = did_you_mean(&pool, pools.iter().map(String::as_str));
            return Err(bad(format!("there is no pool {pool:?}{near}")));
        }
        let user = User { name: name.to_owned(), pool, may_retrieve: true, ..User::default() };
        self.changed(user, change, Some(password))
    }

    fn set_user(
        &self,
        name: &str,
        change: &serde_json::Map<String, Value>,
        password: Option<&Secret>,
    ) -> Result<(Value, Operation), Refused> {
        self.changed(self.known_user(name)?.clone(), change, password)
    }

    /// A user with some fields changed, as it is shown and as it is stored.
    fn changed(
        &self,
        mut user: User,
        change: &serde_json::Map<String, Value>,
        password: Option<&Secret>,
    ) -> Result<(Value, Operation), Refused> {
        for (key, value) in change {
            user.set(key, value).map_err(bad)?;
        }
        let has = |key: &str| change.contains_key(key);
        let fits = |group: &&str| {
            let range = self.orbits.ranges().find(group);
            range.is_some_and(|range| range.kind() == KIND_GROUP_PICKUP)
        };
        if has("pickup_group")
            && let Some(group) = user.pickup_groups().find(|group| !fits(group))
        {
            return Err(bad(format!("{group} lies in no range of kind {KIND_GROUP_PICKUP} (GCP-04)")));
        }
        for (key, number) in [("extension", &user.extension), ("private_number", &user.rules.private_number)]
        {
            if let Some(number) = number.as_deref().filter(|_| has(key)) {
                self.check_reached_at(&user.name, number)?;
            }
        }
        let warnings = self.check_targets(&user, change).map_err(bad)?;
        if let Some(password) = password {
            user.set_password(&self.config.sip.domain, password.reveal());
        }
        let operation = user.put();
        let mut row = self.user_row(&user);
        if !warnings.is_empty() {
            row["warnings"] = json!(warnings);
        }
        Ok((row, operation))
    }
}

/// How it goes with a call in an orbit; `rings`: phones ring for it.
fn word_of(occupant: &Occupant, rings: Option<&RingsNow>) -> &'static str {
    match rings.filter(|_| occupant.state == orbit::State::Parked) {
        Some(rings) if rings.attempt.is_some() => "recalling",
        Some(_) => "ringing",
        None => occupant.state.word(),
    }
}

fn not_found(text: String) -> Refused {
    Refused { status: 404, code: None, text }
}

fn bad(text: String) -> Refused {
    Refused { status: 400, code: None, text }
}

fn conflict(text: &str) -> Refused {
    Refused { status: 409, code: None, text: text.to_owned() }
}

/// Where phones find a host: `udp:192.0.2.1:5060`.
pub(super) fn told_listeners(listeners: &[Listener]) -> Vec<String> {
    listeners.iter().map(|listener| format!("{}:{}", listener.protocol, listener.advertised)).collect()
}
