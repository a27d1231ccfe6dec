//! In a cluster: the policies of other pools, as their own hosts run them. Each host tells the store what its own pool's files
//! are; so a backup knows the terms of a pool that is lost, and hosts of a pool whose files differ find out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Engine;
use crate::net::HostName;
use crate::policy::Bundle;
use crate::pool::Terms;
use crate::store::keys::{Key, policy_key};
use crate::store::{Change, Operation, Snapshot};

/// More is not written: etcd takes requests of 1.5 MiB.
const FILES_MAX: usize = 1 << 20;

/// The files of a pool's policy, as `policy/POOL` holds them.
#[derive(Serialize, Deserialize)]
struct Lent {
    /// The host that wrote it.
    host: String,
    /// [`Bundle::hash`].
    hash: String,
    files: BTreeMap<String, String>,
    /// `sip.domain` of that host: all of a cluster have the same, or passwords that are right at one are wrong at another.
    #[serde(default)]
    domain: String,
}

impl Engine {
    /// At the start: takes over what other pools have, and tells what the own one has.
    pub(super) fn borrow_policies(&mut self, snapshot: &Snapshot) {
        for (key, record) in &snapshot.records {
            if matches!(Key::parse(key), Some(Key::Policy(_))) {
                self.policy_changed(&Change { key: key.clone(), record: Some(record.clone()) });
            }
        }
        let stored = snapshot.records.get(&policy_key(&self.config.host.pool));
        let stored = stored.and_then(|record| serde_json::from_slice::<Lent>(&record.value).ok());
        // What another host that lives has told stands: of two whose files differ each would otherwise overwrite the
        // other's whenever it starts, and the terms of the pool would be now these, now those.
        let stands = |lent: &Lent| {
            let author = HostName::new(&lent.host).filter(|author| Some(*author) != self.own_name());
            let lives = |host| self.cluster.as_ref().is_some_and(|cluster| cluster.seats.lives(host));
            let same = lent.hash == self.policies.borrow().bundle().hash();
            lent.domain == self.config.sip.domain && (same || author.is_some_and(lives))
        };
        if stored.is_some_and(|lent| stands(&lent)) {
            self.read_terms();
        } else {
            self.lend_policy();
        }
    }

    /// The own pool's policy is another, by an edit or because nobody has told of it: the other pools' hosts are told.
    pub(super) fn lend_policy(&mut self) {
        if self.cluster.is_none() {
            return;
        }
        self.read_terms();
        let lent = self.lent_policy();
        self.write_behind(lent.into_iter().collect());
    }

    /// What the store is to hold of the own pool's policy.
    pub(super) fn lent_policy(&mut self) -> Option<Operation> {
        let bundle = self.policies.borrow().bundle().clone();
        let files: BTreeMap<String, String> =
            bundle.files().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let pool = &self.config.host.pool;
        if files.values().map(String::len).sum::<usize>() > FILES_MAX {
            let detail = json!({ "pool": pool, "max": FILES_MAX });
            self.core.event("policy.too_long", None, None, detail);
            return None;
        }
        let key = policy_key(pool);
        let lent = Lent {
            host: self.config.host.name.clone(),
            hash: bundle.hash().to_owned(),
            files,
            domain: self.config.sip.domain.clone(),
        };
        let value = serde_json::to_vec(&lent).unwrap_or_default().into();
        Some(Operation::Put { key, value })
    }

    /// A pool's policy is another.
    pub(super) fn policy_changed(&mut self, change: &Change) {
        let Some(Key::Policy(pool)) = Key::parse(&change.key) else { return };
        let lent =
            change.record.as_ref().and_then(|record| serde_json::from_slice::<Lent>(&record.value).ok());
        if let Some(lent) = lent.as_ref().filter(|lent| !lent.domain.is_empty())
            && lent.domain != self.config.sip.domain
        {
            let detail =
                json!({ "host": lent.host, "domain": lent.domain, "own_domain": self.config.sip.domain });
            self.core.event("domain.skew", None, None, detail);
        }
        if pool == self.config.host.pool {
            self.compare_policies(lent);
            return;
        }
        let bundle = lent.map(|lent| Arc::new(Bundle::of(lent.files)));
        let lent = self.policies.borrow_mut().lend(&pool, bundle);
        if let Err(diagnostics) = lent {
            let errors: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            self.core.event("policy.refused", None, None, json!({ "pool": pool, "errors": errors }));
        }
        // Who may see what on a lamp is its user's pool's to say, also while that is served here.
        self.notifier.touch_all(&mut self.core);
        self.read_terms();
    }

    /// What the hosts of this pool are said to run, beside what this one does.
    fn compare_policies(&mut self, lent: Option<Lent>) {
        let own = self.policies.borrow().bundle().hash().to_owned();
        let other = lent.filter(|lent| lent.hash != own && lent.host != self.config.host.name);
        let news = other.as_ref().map(|lent| {
            json!({ "pool": self.config.host.pool, "host": lent.host, "hash": lent.hash, "own_hash": own })
        });
        let Some(cluster) = &mut self.cluster else { return };
        let other = other.map(|lent| lent.hash);
        if cluster.other_policy == other {
            return;
        }
        cluster.other_policy = other;
        if let Some(detail) = news {
            self.core.event("policy.skew", Some(35113), None, detail);
        }
    }

    /// What the policies say about pools that are lost.
    pub(super) fn read_terms(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let policies = self.policies.borrow();
        let names: Vec<String> = cluster.pools.names().map(str::to_owned).collect();
        for pool in names {
            let terms = policies.settings(&pool, "resiliency").map(Terms::read).unwrap_or_default();
            cluster.pools.set_terms(&pool, terms);
        }
        cluster.changed = true;
    }
}
