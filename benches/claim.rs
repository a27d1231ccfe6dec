//! What a parked call costs the orbit service: reserve, commit, claim, free, each with its answer, its record and
//! its event; the store answers at once.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::json;
use switchyard_host::admin::RangeSpec;
use switchyard_host::orbit::{OrbitOutput, Orbits, put_operation};
use switchyard_host::plugin::{InstanceId, Waiter};
use switchyard_host::store::keys::host_key;
use switchyard_host::store::{MemoryStore, Operation, Transaction};
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_sdk::ext::orbit::{Claim, Commit, Outcome, Reserve, Terms};
use switchyard_sdk::types::{FlowId, LegId, Party, Token};

const INSTANCE: InstanceId = InstanceId(1);

/// A lot of 9,999 orbits, and a store that answers at once.
struct Host {
    orbits: Orbits,
    store: MemoryStore,
    now: Now,
    last: u64,
}

impl Host {
    fn new() -> Host {
        let store = MemoryStore::new();
        let range = RangeSpec {
            name: "lot".into(),
            from: "10000".into(),
            to: "19998".into(),
            kind: "call-park".into(),
            pool: "east".into(),
        };
        let live = Operation::Put { key: host_key("bench"), value: "{}".into() };
        let seed = Transaction { operations: vec![put_operation(&range), live], ..Transaction::default() };
        let mut orbits = Orbits::new("bench", ChaCha12Rng::seed_from_u64(7));
        if store.apply(&seed).is_ok() {
            orbits.load(&store.snapshot(""));
        }
        orbits.grant(INSTANCE, vec!["call-park".into()]);
        Host { orbits, store, now: Now { instant: Instant::ZERO, utc: Utc(1_795_219_200_000) }, last: 0 }
    }

    fn waiter(&mut self) -> Waiter {
        self.last += 1;
        Waiter { instance: INSTANCE, token: Token(self.last) }
    }

    /// Hands everything on; answers the value of the last answer.
    fn drain(&mut self) -> serde_json::Value {
        let mut value = serde_json::Value::Null;
        while let Some(output) = self.orbits.poll_output() {
            match output {
                OrbitOutput::Answer { result, .. } => value = result.unwrap_or_default(),
                OrbitOutput::Store { ticket, transaction } => {
                    let result = self.store.apply(&transaction);
                    self.orbits.stored(self.now, ticket, result);
                }
                OrbitOutput::Event { .. }
                | OrbitOutput::Freed(_)
                | OrbitOutput::Elsewhere(_)
                | OrbitOutput::Unattended { .. } => {}
            }
        }
        value
    }

    /// Parks a call and returns its orbit.
    fn park(&mut self, call: u64) -> String {
        let waiter = self.waiter();
        let reserve = Reserve {
            pool: "east".into(),
            reuse_cooldown_ms: 30_000,
            leg: Some(LegId(call)),
            parked: party("Alice"),
            parker: party("Bob"),
            ..Reserve::default()
        };
        self.orbits.reserve(self.now, waiter, FlowId(call), reserve);
        let number = self.drain()["number"].as_str().unwrap_or_default().to_string();
        let waiter = self.waiter();
        let terms = Terms { deadline_ms: self.now.utc.0 + 90_000, ..Terms::default() };
        let commit = Commit { number: number.clone(), terms, state: json!({ "v": 1, "recalls": 0 }) };
        // About what the engine stores of a leg.
        let facts = json!({
            "call_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6@192.0.2.4",
            "local_tag": "a6c85cf", "remote_tag": "1928301774", "local_cseq": 4711, "remote_cseq": 314,
            "remote_target": "sip:alice@192.0.2.4:5060;transport=tcp", "route_set": [],
            "flow": { "protocol": "tcp", "remote": "192.0.2.4:5060" },
        });
        self.orbits.commit(self.now, waiter, FlowId(call), commit, facts);
        self.drain();
        number
    }

    fn retrieve(&mut self, flow: u64, number: &str) {
        let waiter = self.waiter();
        let claim =
            Claim { number: Some(number.into()), pool: "east".into(), token: None, claimant: party("Carol") };
        self.orbits.claim(self.now, waiter, FlowId(flow), claim);
        self.drain();
        self.orbits.free(self.now, FlowId(flow), number, Outcome::Retrieved);
        self.drain();
        self.now.instant = self.now.instant + Duration::from_millis(10);
        self.orbits.on_timeout(self.now);
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

fn park_and_retrieve(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim");
    for parked in [0u64, 100, 9_000] {
        group.bench_with_input(
            BenchmarkId::new("park and retrieve, others parked", parked),
            &parked,
            |b, parked| {
                let mut host = Host::new();
                for call in 0..*parked {
                    host.park(call);
                }
                let mut call = 1_000_000;
                b.iter(|| {
                    call += 2;
                    let number = host.park(call);
                    host.retrieve(call + 1, &number);
                    black_box(number)
                });
            },
        );
    }
    group.bench_function("a claim that comes too late", |b| {
        let mut host = Host::new();
        let number = host.park(1);
        let waiter = host.waiter();
        let claim =
            Claim { number: Some(number), pool: "east".into(), token: None, claimant: party("Carol") };
        host.orbits.claim(host.now, waiter, FlowId(2), claim.clone());
        host.drain();
        b.iter(|| {
            let waiter = host.waiter();
            host.orbits.claim(host.now, waiter, FlowId(3), claim.clone());
            black_box(host.drain())
        });
    });
    group.finish();
}

criterion_group!(benches, park_and_retrieve);
criterion_main!(benches);
