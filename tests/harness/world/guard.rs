//! What must hold between hosts, whatever they believe: the store is asked, and all of them.

use serde_json::Value;
use switchyard_host::cluster::Seat;
use switchyard_host::store::keys::{Key, epoch_key, seat_key};

use super::*;

impl World {
    /// What is wrong if the store takes this write: the host places or claims a call without holding the seat of the
    /// orbit's pool, or does not expect the epoch under which it holds that.
    pub(super) fn trespass(&self, host: usize, transaction: &Transaction) -> Option<String> {
        for operation in &transaction.operations {
            let (key, new) = match operation {
                Operation::Put { key, value } => (key, Some(value.clone())),
                Operation::Delete { key } => (key, None),
            };
            let Some(Key::Orbit(number)) = Key::parse(key) else { continue };
            let old = || self.store.snapshot(key).records.remove(key).map(|record| record.value);
            let Some(value) = new.or_else(old) else { continue };
            let Ok(value) = serde_json::from_slice::<Value>(&value) else { continue };
            let pool = value["pool"].as_str().unwrap_or_default();
            let name = self.hosts[host].name;
            let seat = self.seat(pool);
            // One that was taken for dead and is back may go on before it has taken its seat anew, as long as nobody else has: then
            // the epoch is another.
            let lives = self.hosts[host].first_record..=self.hosts[host].record;
            let holds = seat.as_ref().is_some_and(|seat| {
                seat.host.as_str() == name && lives.contains(&seat.life) && self.is_enlisted(host)
            });
            if !holds {
                return Some(format!("{name} writes orbit {number} of {pool}, whose seat is {seat:?}'s"));
            }
            let epoch = epoch_key(pool);
            if !transaction.expect.iter().any(|(key, _)| *key == epoch) {
                return Some(format!("{name} writes orbit {number} under whatever epoch there is"));
            }
        }
        None
    }

    /// Complains about two hosts that both believe to serve a pool and both could write its parked calls.
    pub(super) fn guard_seats(&mut self) {
        let mut serving: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let Some(engine) = &host.engine else { continue };
            for (pool, epoch) in engine.seats_held() {
                if Some(epoch) == self.epoch(pool) && self.is_enlisted(index) {
                    serving.entry(pool).or_default().push(host.name);
                }
            }
        }
        let two = serving.into_iter().find(|(_, hosts)| hosts.len() > 1);
        if let Some(told) = two.map(|(pool, hosts)| format!("{hosts:?} all serve {pool}")) {
            self.complain(&told);
        }
    }

    /// Who the store says serves a pool.
    pub fn seat(&self, pool: &str) -> Option<Seat> {
        let key = seat_key(pool);
        serde_json::from_slice(&self.store.snapshot(&key).records.get(&key)?.value).ok()
    }

    fn epoch(&self, pool: &str) -> Option<u64> {
        let key = epoch_key(pool);
        serde_json::from_slice(&self.store.snapshot(&key).records.get(&key)?.value).ok()
    }

    /// Whether the store counts this life of a host as going on.
    fn is_enlisted(&self, host: usize) -> bool {
        let key = host_key(self.hosts[host].name);
        self.store.snapshot(&key).records.get(&key).is_some_and(|r| r.revision == self.hosts[host].record)
    }

    pub(super) fn complain(&mut self, what: &str) {
        if self.broken.is_none() {
            let what = format!("+{:.3}  {what}", (self.now - self.start).as_secs_f64());
            self.remark(&what);
            self.broken = Some(what);
        }
    }
}
