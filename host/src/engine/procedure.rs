//! What the administrative interface asks about pools and hosts: [`Request::Pools`](crate::admin::Request) and what follows it.

use serde_json::{Value, json};
use switchyard_sdk::types::Code;

use super::admin::told_listeners;
use super::record::StoreOwner;
use super::{AdminId, Engine};
use crate::admin::{RangeSpec, Refused};
use crate::near::did_you_mean;
use crate::net::HostName;
use crate::orbit::put_operation;
use crate::pool::{Ask, Objection, Phase};
use crate::store::keys::{drain_key, host_key};
use crate::store::{Change, Expect, OPERATIONS_MAX, Operation, Record, Transaction};

impl Engine {
    /// Every pool: its phase, who serves it, its hosts, and the procedure that runs or ran last.
    pub(super) fn list_pools(&self) -> Value {
        let Some(cluster) = &self.cluster else {
            let alone = |pool: &crate::config::Pool| {
                json!({
                    "name": pool.name, "fqdn": pool.fqdn, "backup": pool.backup, "phase": Phase::Active, "since": null,
                    "epoch": self.orbits.epoch_record(&pool.name).0, "served_by": self.config.host.name,
                    "serving": pool.name, "parked": null, "journal": null, "moved": [], "hosts": [],
                })
            };
            return Value::Array(self.config.pools.iter().map(alone).collect());
        };
        let pools = &cluster.pools;
        let rows = pools.names().filter_map(|name| {
            let record = pools.record(name)?;
            let listeners =
                |host| self.core.identity.edges.get(&host).map(|told| told_listeners(told)).unwrap_or_default();
            let host = |host: HostName| {
                json!({ "name": host, "drained": pools.is_drained(host), "listeners": listeners(host) })
            };
            let mut row = json!({
                "name": name,
                "fqdn": record.fqdn,
                "backup": record.backup,
                "phase": record.phase,
                "since": (record.since.0 > 0).then_some(record.since),
                "epoch": self.orbits.epoch_record(name).0,
                "served_by": cluster.seats.holder(name),
                "serving": pools.serving(name),
                "parked": pools.parked(name),
                "journal": record.journal,
                "moved": record.moved,
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
                let detail = json!({ "pool": pool, "what": ask.procedure(), "by": by, "text": refused.text });
                self.core.event("pool.refused", refused.code, None, detail);
                return Err(refused);
            }
        };
        let steps: Vec<Value> = (cluster.pools.preview(&cluster.seats, pool, ask).into_iter())
            .map(|(name, does)| json!({ "name": name, "does": does }))
            .collect();
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
            let near = did_you_mean(host, hosts.iter().map(|(name, _)| name.as_str()));
            return Err(Refused {
                status: 404,
                code: None,
                text: format!("no host {host:?} is alive{near}"),
            });
        };
        let replaced =
            cluster.seats.of_pool(pool).any(|other| other != *name && !cluster.pools.is_drained(other));
        if drained && !replaced {
            let text = format!(
                "no other host of {pool} could take over from {host}: fail {pool} over instead, or stop the host"
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

    /// Gives the ranges of a pool that is gone, and its users if they are to go with them, to another (RES-23, RES-24).
    pub(super) fn reassign_pool(
        &mut self,
        request: AdminId,
        pool: &str,
        to: &str,
        users: bool,
        dry_run: bool,
    ) -> Result<Option<Value>, Refused> {
        let names = self.config.pool_names();
        for name in [pool, to] {
            if !names.iter().any(|known| known == name) {
                let near = did_you_mean(name, names.iter().map(String::as_str));
                let text = format!("there is no pool {name:?}{near}");
                return Err(Refused { status: 404, code: None, text });
            }
        }
        if pool == to {
            return Err(phase(format!("{pool} has its own already")));
        }
        if let Some(cluster) = &self.cluster {
            let away = cluster.pools.phase(pool) == Phase::FailedOver;
            if let Some(host) = cluster.seats.of_pool(pool).next().filter(|_| !away) {
                return Err(phase(format!(
                    "{host} of {pool} is alive: fail {pool} over, or stop its hosts, first"
                )));
            }
            let parked = cluster.pools.parked(pool);
            if parked > 0 {
                return Err(phase(format!("{parked} calls wait in orbits of {pool}")));
            }
        }
        let of_pool = self.orbits.ranges().iter().filter(|range| range.pool() == pool);
        let ranges: Vec<RangeSpec> =
            of_pool.map(|range| RangeSpec { pool: to.to_owned(), ..range.spec() }).collect();
        let kinds = self.plugins.kinds();
        for range in &ranges {
            let checked = self.orbits.check_put(range, &names, &kinds, false);
            checked.map_err(|error| Refused { status: 409, code: None, text: error.to_string() })?;
        }
        let moving: Vec<_> =
            self.directory.iter().filter(|user| users && user.pool == pool).cloned().collect();
        let answer = json!({
            "pool": pool, "to": to, "dry_run": dry_run,
            "ranges": ranges.iter().map(|range| range.name.as_str()).collect::<Vec<_>>(),
            "users": moving.iter().map(|user| user.name.as_str()).collect::<Vec<_>>(),
        });
        if dry_run || (ranges.is_empty() && moving.is_empty()) {
            return Ok(Some(answer));
        }
        let users = moving.into_iter().map(|mut user| {
            to.clone_into(&mut user.pool);
            user.put()
        });
        let mut operations: Vec<Operation> = ranges.iter().map(put_operation).chain(users).collect();
        let detail = json!({ "pool": pool, "to": to, "records": operations.len() });
        self.core.event("pool.reassigned", None, None, detail);
        // Whoever asks again after a failure in the middle moves what is left.
        let last = operations.split_off(operations.len() - operations.len().min(OPERATIONS_MAX));
        for some in operations.chunks(OPERATIONS_MAX) {
            self.write(writes(some.to_vec()), StoreOwner::Nobody);
        }
        self.write_whole(request, writes(last), answer);
        Ok(None)
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
        | Objection::BackupDead { .. } => phase(text),
    }
}
