//! What one decision costs: `cargo bench -p switchyard --bench policy_decision`.
//!
//! Aim: under a microsecond for a hook that reads four fields. That is less than a hundredth of a call.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json};
use switchyard_host::policy::{Bundle, Policies};
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_sdk::manifest::{Hook, Kind, Section, Setting};

const POLICY: &str = r#"
local nobody = {}
return {
  call_park = {
    pickup_timeout = "2m",
    empty = function() end,
    four = function(r) return r.how == "refer" and r.attempt < 3 and not r.occupied and r.parker_group ~= "*109" end,
    nested = function(r)
      local parker = r.parker
      return r.how == "refer" and parker.may_park and parker.pickup_group ~= "*109" and not r.parked.outside
    end,
    denies = function(r) if r.how == "refer" then return deny("not today") end end,
    replaces = function(r) return { pickup_timeout = "20s", on_timeout_uri = "sip:desk@example.test" } end,
    matches = function(r) return r.uri:match("^sip:([^@;]+)@([^;]+)") ~= "alice" end,
    chooses = function(free, call) return #free > 50 and "lowest" or "random" end,
    loops = function() while true do pcall(error) end end,
  },
}
"#;

/// As the call-park plugin declares it, with hooks for what is measured.
fn section() -> Section {
    let setting = |name: &str, kind: Kind, default: Value| Setting {
        name: name.into(),
        kind,
        default,
        doc: String::new(),
    };
    let duration = |min: u64, max: u64| Kind::Duration { min_ms: min * 1000, max_ms: max * 1000 };
    let hooks = ["absent", "empty", "four", "nested", "denies", "replaces", "matches", "chooses", "loops"];
    Section {
        name: "call_park".into(),
        settings: vec![
            setting("pickup_timeout", duration(10, 600), json!("90s")),
            setting("max_recall_attempts", Kind::Integer { min: 1, max: 10 }, json!(1)),
            setting("on_timeout_uri", Kind::Uri, Value::Null),
            setting("music_on_hold", Kind::Music, json!(true)),
            setting("recall_ring_time", duration(5, 120), json!("30s")),
            setting("orbit_choice", Kind::Word { words: vec!["random".into()] }, json!("random")),
            setting("reuse_cooldown", duration(0, 3600), json!("30s")),
            setting("say_orbit", Kind::Boolean, json!(true)),
        ],
        hooks: hooks.iter().map(|name| Hook { name: (*name).into(), ..Hook::default() }).collect(),
        ..Section::default()
    }
}

fn decisions(criterion: &mut Criterion) {
    let bundle = Arc::new(Bundle::of([("default.lua".to_owned(), POLICY.to_owned())]));
    let mut policies = Policies::new(&[section()], bundle, &[], 7).expect("the policy is right");
    let now = Now { instant: Instant::ZERO, utc: Utc(1_767_600_000_000) };

    let flat = json!({
        "how": "refer", "attempt": 1, "occupied": false, "parker": "bob", "parker_group": "*101", "number": "7001",
        "uri": "sip:bob@example.test;transport=tcp", "pool": "east", "call_id": "a84b4c76e66710@pc33.example.test",
    });
    let party = |name: &str, extension: &str| {
        json!({
            "user": name, "uri": format!("sip:{name}@example.test"), "display": "Ana Example", "extension": extension,
            "pool": "east", "may_park": true, "may_retrieve": true, "pickup_group": "*101", "outside": false,
            "device": "d1",
        })
    };
    let nested = json!({
        "how": "refer", "service": "park", "number": null, "pool": "east", "parker": party("bob", "1002"),
        "parked": party("alice", "1001"), "occupied": false, "call_id": "a84b4c76e66710@pc33.example.test",
    });
    let free: Vec<String> = (7000..7100).map(|number| number.to_string()).collect();
    let lists = json!([free, { "user": "bob" }]);

    let mut group = criterion.benchmark_group("policy_decision");
    for (name, args) in [
        ("absent", &flat),
        ("empty", &flat),
        ("four", &flat),
        ("nested", &nested),
        ("denies", &flat),
        ("replaces", &flat),
        ("matches", &flat),
        ("chooses", &lists),
        ("loops", &flat),
    ] {
        let hook = format!("call_park.{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| policies.decide(now, "east", &hook, black_box(args)));
        });
    }
    group.finish();
}

fn reload(criterion: &mut Criterion) {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");
    let sections = [section()];
    let shipped = Bundle::read(dir.as_ref()).expect("the shipped policies can be read");
    // The sections above declare no hook `allow`, so the west's own file is left out.
    let text = shipped.get("default.lua").unwrap_or_default().to_owned();
    let pool = "return require 'default':extend { call_park = { pickup_timeout = '3m' } }";
    let files = (0..20).map(|index| (format!("pools/site{index}.lua"), pool.to_owned()));
    let bundle = Arc::new(Bundle::of(files.chain([("default.lua".to_owned(), text)])));
    criterion.bench_function("policy_reload/20_pools", |bencher| {
        bencher.iter(|| Policies::new(&sections, bundle.clone(), &[], 7).map(|policies| policies.revision()));
    });
}

criterion_group!(benches, decisions, reload);
criterion_main!(benches);
