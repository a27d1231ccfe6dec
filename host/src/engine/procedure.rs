//! What the administrative interface asks about pools and hosts: [`Request::Pools`](crate::admin::Request) and what follows it.

use serde_json::{Value, json};
use switchyard_sdk::types::Code;

use super::admin::told_listeners;
use super::record::StoreOwner;
use super::{AdminId, Engine};
use crate::admin::Refused;
use crate::net::HostName;
use crate::orbit::put_operation;
use crate::pool::{Ask, Objection, Phase, Procedure, Replacement, StepName, unreached};
use crate::store::keys::{drain_key, host_key};
use crate::store::{Change, Expect, Operation, Record, Transaction};

impl Engine {
    /// Every pool: its phase, who serves it, its hosts, and the procedure that runs or ran last.
    pub(super) fn list_pools(&self) -> Value {
        let Some(cluster) = &self.cluster else {
            let alone = |pool: &crate::config::Pool| {
                json!({
                    "name": pool.name, "fqdn": pool.fqdn, "backup": pool.backup, "phase": Phase::Active, "since": null,
                    "epoch": self.orbits.epoch_record(&pool.name).0, "served_by": self.config.host.name,
                    "last_served_by": self.config.host.name, "upcoming": null,
                    "serving": pool.name, "parked": null, "journal": null, "moved": [], "replaced_by": null, "hosts": [],
                })
            };
            return Value::Array(self.config.pools.iter().map(alone).collect());
        };
        let (pools, now) = (&cluster.pools, self.core.now);
        let rows = pools.names().filter_map(|name| {
            let record = pools.record(name)?;
            let listeners =
                |host| self.core.identity.edges.get(&host).map(|told| told_listeners(told)).unwrap_or_default();
            let host = |host: HostName| {
                let trouble = cluster.seats.trouble(host);
                json!({
                    "name": host, "drained": pools.is_drained(host), "listeners": listeners(host),
                    "trouble": trouble.map(|trouble| &trouble.why),
                    "trouble_since": trouble.map(|trouble| now.utc_since(trouble.since)),
                })
            };
            let mut row = json!({
                "name": name,
                "fqdn": record.fqdn,
                "backup": record.backup,
                "phase": record.phase,
                "since": (record.since.0 > 0).then_some(record.since),
                "epoch": self.orbits.epoch_record(name).0,
                "served_by": cluster.seats.holder(name),
                "last_served_by": cluster.seats.last_holder(name),
                "serving": pools.serving(name),
                "parked": pools.parked(name),
                "journal": record.journal,
                "moved": record.moved,
                "replaced_by": record.replaced_by,
                "upcoming": pools.upcoming(now, name).map(|(what, due)| json!({ "what": what, "at": now.utc_of(due) })),
                "hosts": cluster.seats.of_pool(name).map(host).collect::<Vec<_>>(),
            });
            if name == self.config.host.pool {
                row["policy_differs"] = json!(cluster.other_policy.is_some());
            }
            Some(row)
        });
        Value::Array(rows.collect())
    }

    /// Begins a failover or failback, or only tells what it would do.
    pub(super) fn move_pool(
        &mut self,
        request: AdminId,
        pool: &str,
        ask: Ask,
        by: &str,
        dry_run: bool,
    ) -> Result<Option<Value>, Refused> {
        let now = self.core.now;
        let live = self.orbits.is_live();
        let Some(cluster) = &self.cluster else { return Err(alone()) };
        let begun = cluster.pools.begin(now, &cluster.seats, pool, ask, by);
        let begun = begun.and_then(|begun| if live { Ok(begun) } else { Err(Objection::Fenced) });
        let begun = match begun {
            Ok(begun) => begun,
            Err(objection) => {
                let refused = refused(&objection);
                self.tell_refused(pool, ask.procedure(), by, &refused);
                return Err(refused);
            }
        };
        let steps = told_steps(cluster.pools.preview(&cluster.seats, &self.directory, pool, ask));
        let answer =
            json!({ "pool": pool, "procedure": ask.procedure(), "dry_run": dry_run, "steps": steps });
        if dry_run {
            return Ok(Some(answer));
        }
        self.write_whole(request, begun.transaction, answer);
        Ok(None)
    }

    /// Drains a host, or lets it serve again (CP-22).
    pub(super) fn drain_host(
        &mut self,
        request: AdminId,
        host: &str,
        drained: bool,
        by: &str,
    ) -> Result<(), Refused> {
        let Some(cluster) = &self.cluster else { return Err(alone()) };
        let hosts: Vec<(HostName, &str)> =
            cluster.seats.hosts().map(|(name, host)| (name, host.identity.pool.as_str())).collect();
        let known = HostName::new(host);
        let living = hosts.iter().find(|(name, _)| Some(*name) == known);
        let Some((name, pool)) = living else {
            // One that has died while it was drained is resumed all the same.
            if !drained && known.is_some_and(|name| cluster.pools.is_drained(name)) {
                let delete = Operation::Delete { key: drain_key(host) };
                self.write_whole(request, writes(vec![delete]), json!({ "host": host, "drained": false }));
                return Ok(());
            }
            // Names of hosts are alike: the nearest would be of another pool as likely as not.
            let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
            let text = format!("no host {host:?} is alive; there are {}", names.join(", "));
            return Err(Refused { status: 404, code: None, text });
        };
        let others: Vec<HostName> = (cluster.seats.of_pool(pool))
            .filter(|other| other != name && !cluster.pools.is_drained(*other))
            .collect();
        let unreached = unreached(&cluster.seats, others.iter().copied());
        if drained && (others.is_empty() || unreached.is_some()) {
            let own = cluster.seats.own();
            let why = unreached.map(|why| format!(" (out of reach from {own}: {why})")).unwrap_or_default();
            let text = format!(
                "no other host of {pool} could take over from {host}{why}: fail {pool} over instead, or stop the host"
            );
            return Err(phase(text));
        }
        let key = drain_key(host);
        let operation = if drained {
            let value = json!({ "since": self.core.now.utc, "by": by }).to_string().into();
            Operation::Put { key, value }
        } else {
            Operation::Delete { key }
        };
        let mut transaction = writes(vec![operation]);
        transaction.expect.push((host_key(host), Expect::Present));
        let detail = json!({ "host": host, "by": by });
        self.core.event(if drained { "host.drained" } else { "host.resumed" }, None, None, detail);
        self.write_whole(request, transaction, json!({ "host": host, "drained": drained }));
        Ok(())
    }

    /// Begins to put another pool in the place of one that is gone (RES-23, RES-24), or only tells what it would do.
    pub(super) fn reassign_pool(
        &mut self,
        request: AdminId,
        wish: Replacement<'_>,
        by: &str,
        dry_run: bool,
    ) -> Result<Option<Value>, Refused> {
        let now = self.core.now;
        let live = self.orbits.is_live();
        let Some(cluster) = &self.cluster else { return Err(alone()) };
        let begun = cluster.pools.reassign(now, &cluster.seats, &self.directory, wish, by);
        let begun = begun.and_then(|begun| if live { Ok(begun) } else { Err(Objection::Fenced) });
        let begun = begun.map_err(|objection| refused(&objection));
        let begun = match begun.and_then(|begun| self.check_leaving(wish).map(|()| begun)) {
            Ok(begun) => begun,
            Err(refused) => {
                self.tell_refused(wish.pool, Procedure::Reassign, by, &refused);
                return Err(refused);
            }
        };
        let Some(cluster) = &self.cluster else { return Err(alone()) };
        let (pools, Replacement { pool, to, .. }) = (&cluster.pools, wish);
        let steps = pools.preview_reassign(&cluster.seats, &self.directory, wish);
        let ranges: Vec<String> = pools.leaving(pool, to).map(|range| range.name).collect();
        let users: Vec<&str> =
            self.directory.iter().filter(|user| user.pool == pool).map(|user| &*user.name).collect();
        let answer = json!({
            "pool": pool, "procedure": Procedure::Reassign, "to": to, "dry_run": dry_run, "steps": told_steps(steps),
            "ranges": ranges, "users": users, "left_to_do": pools.left_to_do(&self.directory, wish),
        });
        if dry_run {
            return Ok(Some(answer));
        }
        self.write_whole(request, begun.transaction, answer);
        Ok(None)
    }

    /// Whether a pool can have the ranges of another besides its own.
    fn check_leaving(&self, Replacement { pool, to, .. }: Replacement<'_>) -> Result<(), Refused> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        let (mut names, kinds) = (self.pool_names(), self.plugins.kinds());
        // One that was replaced itself stands again by then.
        if !names.iter().any(|name| name == to) {
            names.push(to.to_owned());
        }
        let mut ranges = self.orbits.ranges().clone();
        for range in cluster.pools.leaving(pool, to) {
            let checked = ranges.check(&range, &names, &kinds).and_then(|()| {
                let put = Transaction { operations: vec![put_operation(&range)], ..Transaction::default() };
                put.changes(0).try_for_each(|change| ranges.apply(&change).map(drop))
            });
            checked.map_err(|error| Refused { status: 409, code: None, text: error.to_string() })?;
        }
        Ok(())
    }

    fn tell_refused(&mut self, pool: &str, what: Procedure, by: &str, refused: &Refused) {
        let detail = json!({ "pool": pool, "what": what, "by": by, "text": refused.text });
        self.core.event("pool.refused", refused.code, None, detail);
    }

    /// Writes, and answers when it is stored. The watch tells what has changed.
    fn write_whole(&mut self, request: AdminId, transaction: Transaction, answer: Value) {
        let change = match transaction.operations.first() {
            Some(Operation::Put { key, value }) => {
                Change { key: key.clone(), record: Some(Record { value: value.clone(), revision: 0 }) }
            }
            Some(Operation::Delete { key }) => Change { key: key.clone(), record: None },
            None => Change { key: String::new(), record: None },
        };
        self.write(transaction, StoreOwner::Admin { request, answer, change });
    }
}

fn writes(operations: Vec<Operation>) -> Transaction {
    Transaction { operations, ..Transaction::default() }
}

fn told_steps(steps: Vec<(StepName, String)>) -> Value {
    let step = |(name, does): (StepName, String)| json!({ "name": name, "does": does });
    Value::Array(steps.into_iter().map(step).collect())
}

fn alone() -> Refused {
    phase("this host works alone: there is nobody to take over".to_owned())
}

fn phase(text: String) -> Refused {
    Refused { status: 409, code: Some(Code::POOL_PHASE.0), text }
}

fn refused(objection: &Objection) -> Refused {
    let text = objection.to_string();
    match objection {
        Objection::Unknown { .. } => Refused { status: 404, code: None, text },
        Objection::Fenced => Refused { status: 503, code: Some(Code::FENCED.0), text },
        Objection::NoBackup(_)
        | Objection::Running { .. }
        | Objection::Already { .. }
        | Objection::NotFailedOver { .. }
        | Objection::BackupAway { .. }
        | Objection::NobodyThere(_)
        | Objection::BackupDead { .. }
        | Objection::OutOfReach { .. }
        | Objection::Itself(_)
        | Objection::Replaced { .. }
        | Objection::IsBackup { .. }
        | Objection::Paired { .. }
        | Objection::TargetAway { .. }
        | Objection::NotAway { .. }
        | Objection::Serves { .. }
        | Objection::Guests { .. }
        | Objection::UsersLeft { .. }
        | Objection::CallsWait { .. } => phase(text),
    }
}
