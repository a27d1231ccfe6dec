//! How many calls a second are parked and retrieved where every record goes to three members of etcd, beside what the members
//! themselves can do: as many records created and deleted by a bare client, with no condition but that the key is free.
//!
//! `cargo bench -p switchyard --features etcd --bench cluster` starts the members on loopback, their data in memory. Both sides
//! take turns, so that what else the machine does meets both: quote the ratio.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench that cannot go on says where")]
#![allow(clippy::disallowed_methods, reason = "a bench is what reads the clock")]

#[allow(dead_code, reason = "tests need more of it")]
#[path = "../tests/process/etcd.rs"]
mod etcd;
#[path = "../tests/process/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::json;
use switchyard_host::admin::RangeSpec;
use switchyard_host::orbit::{OrbitOutput, Orbits, put_operation};
use switchyard_host::plugin::{InstanceId, Waiter};
use switchyard_host::store::{
    EtcdOptions, EtcdStore, HostIdentity, Outcome, ROOT, Store, StoreError, Tls, Transaction,
};
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_sdk::ext::orbit::{Claim, Commit, Outcome as End, Reserve, Terms};
use switchyard_sdk::host::FlowEnd;
use switchyard_sdk::types::{FlowId, LegId, Party, Token};
use tokio::task::JoinSet;

const INSTANCE: InstanceId = InstanceId(1);
/// Each side's turn, and how many turns each has.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 5;

fn main() {
    let etcd = etcd::Etcd::start(3);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options =
            EtcdOptions { endpoints: etcd.endpoints(), tls: Tls::default(), lease: Duration::from_secs(5) };
        let store = Arc::new(EtcdStore::open(&options).await.unwrap());
        let client = Client::connect(etcd.endpoints(), None).await.unwrap();
        let mut host = Host::enlist(Arc::clone(&store)).await;
        for at_once in [1, 16, 64] {
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                ours.push(host.cycles(at_once).await);
                bare.push(bare_cycles(&client, at_once).await);
            }
            let [ours, bare] = [ours, bare].map(|mut all| {
                all.sort_by(f64::total_cmp);
                all[all.len() / 2]
            });
            println!(
                "{at_once} at a time: {ours:.0} calls parked and retrieved a second, a bare client {bare:.0}: {:.0} %",
                100.0 * ours / bare
            );
        }
        println!("{:.2} transactions for each call parked and retrieved", host.transactions as f64 / host.cycles as f64);
    });
}

/// Records created and deleted, each with its answer, in a second.
async fn bare_cycles(client: &Client, at_once: usize) -> f64 {
    let begin = Clock::now();
    let mut tasks = JoinSet::new();
    for task in 0..at_once {
        let mut client = client.kv_client();
        tasks.spawn(async move {
            let key = format!("/bare/{task}");
            let value = vec![b'x'; 700];
            let mut cycles = 0;
            while begin.elapsed() < TURN {
                let create = Txn::new()
                    .when([Compare::version(key.as_str(), CompareOp::Equal, 0)])
                    .and_then([TxnOp::put(key.as_str(), value.as_slice(), None)]);
                assert!(client.txn(create).await.unwrap().succeeded());
                client.delete(key.as_str(), None).await.unwrap();
                cycles += 1;
            }
            cycles
        });
    }
    let cycles: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(cycles) / begin.elapsed().as_secs_f64()
}

/// The orbit service of a live host, whose answers come from the store when they come.
struct Host {
    orbits: Orbits,
    store: Arc<EtcdStore>,
    running: JoinSet<(u64, Result<Outcome, StoreError>)>,
    begin: Clock,
    /// What waits to be stored: who is told, and the call and its orbit.
    parking: BTreeMap<u64, (u64, String)>,
    last: u64,
    cycles: u64,
    transactions: u64,
}

impl Host {
    async fn enlist(store: Arc<EtcdStore>) -> Host {
        let range = RangeSpec {
            name: "lot".into(),
            from: "10000".into(),
            to: "19998".into(),
            kind: "call-park".into(),
            pool: "east".into(),
        };
        let identity = HostIdentity { name: "bench".into(), id: "bench".into(), ..HostIdentity::default() };
        let standing = store.enlist(&identity).await.unwrap();
        let seed = Transaction { operations: vec![put_operation(&range)], ..Transaction::default() };
        store.commit(seed).await.unwrap();
        let mut orbits = Orbits::new("bench", ChaCha12Rng::seed_from_u64(7));
        orbits.load(&store.list(ROOT).await.unwrap());
        orbits.grant(INSTANCE, vec!["call-park".into()]);
        let mut host = Host {
            orbits,
            store,
            running: JoinSet::new(),
            begin: Clock::now(),
            parking: BTreeMap::new(),
            last: 0,
            cycles: 0,
            transactions: 0,
        };
        let now = host.now();
        host.orbits.set_standing(now, *standing.borrow());
        host
    }

    fn now(&self) -> Now {
        let since = self.begin.elapsed();
        let utc = 1_795_219_200_000 + u64::try_from(since.as_millis()).unwrap_or_default();
        Now { instant: Instant::ZERO + since, utc: Utc(utc) }
    }

    fn waiter(&mut self) -> Waiter {
        self.last += 1;
        Waiter { instance: INSTANCE, token: Token(self.last) }
    }

    /// Calls parked and retrieved in a second, so many being on their way at any time.
    async fn cycles(&mut self, at_once: usize) -> f64 {
        let (begin, before) = (Clock::now(), self.cycles);
        for _ in 0..at_once {
            self.park();
        }
        while let Some(done) = self.running.join_next().await {
            let (ticket, result) = done.unwrap();
            let now = self.now();
            self.orbits.stored(now, ticket, result);
            self.drain();
            while begin.elapsed() < TURN && self.running.len() < at_once {
                self.park();
            }
        }
        (self.cycles - before) as f64 / begin.elapsed().as_secs_f64()
    }

    fn park(&mut self) {
        let waiter = self.waiter();
        let call = waiter.token.0;
        let reserve = Reserve {
            pool: "east".into(),
            leg: Some(LegId(call)),
            parked: party("Alice"),
            parker: party("Bob"),
            ..Reserve::default()
        };
        let now = self.now();
        self.orbits.reserve(now, waiter, FlowId(call), reserve);
        let number = self.drain()["number"].as_str().unwrap().to_owned();
        let waiter = self.waiter();
        self.parking.insert(waiter.token.0, (call, number.clone()));
        let terms = Terms { deadline_ms: now.utc.0 + 90_000, ..Terms::default() };
        let commit = Commit { number, terms, state: json!({ "v": 1, "recalls": 0 }) };
        // About what the engine stores of a leg.
        let facts = json!({
            "call_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@192.0.2.4",
            "local_tag": "a6c85cf", "remote_tag": "1928301774", "local_cseq": 4711, "remote_cseq": 314,
            "remote_target": "sip:alice@192.0.2.4:5060;transport=tcp", "route_set": [],
            "flow": { "protocol": "tcp", "remote": "192.0.2.4:5060" },
        });
        self.orbits.commit(now, waiter, FlowId(call), commit, facts);
        self.drain();
    }

    fn retrieve(&mut self, call: u64, number: &str) {
        let waiter = self.waiter();
        let claim =
            Claim { number: Some(number.into()), pool: "east".into(), token: None, claimant: party("Carol") };
        let now = self.now();
        let claimant = FlowId(waiter.token.0);
        self.orbits.claim(now, waiter, claimant, claim);
        self.orbits.free(now, claimant, number, End::Retrieved);
        self.orbits.flow_ended(now, FlowId(call), FlowEnd::Done);
        self.cycles += 1;
    }

    /// Hands transactions on; whoever is parked is retrieved at once. Returns the last answer.
    fn drain(&mut self) -> serde_json::Value {
        let mut last = serde_json::Value::Null;
        while let Some(output) = self.orbits.poll_output() {
            match output {
                OrbitOutput::Answer { waiter, result } => {
                    last = result.unwrap();
                    if let Some((call, number)) = self.parking.remove(&waiter.token.0) {
                        self.retrieve(call, &number);
                    }
                }
                OrbitOutput::Store { ticket, transaction } => {
                    self.transactions += 1;
                    let store = Arc::clone(&self.store);
                    self.running.spawn(async move { (ticket, store.commit(transaction).await) });
                }
                OrbitOutput::Event { .. }
                | OrbitOutput::Freed(_)
                | OrbitOutput::Elsewhere(_)
                | OrbitOutput::Unattended { .. } => {}
            }
        }
        last
    }
}

fn party(name: &str) -> Party {
    Party {
        user: Some(name.to_lowercase()),
        uri: format!("sip:{}@example.test", name.to_lowercase()),
        display: Some(name.into()),
        pool: Some("east".into()),
        ..Party::default()
    }
}
