//! Asking hooks, whatever they answer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::*;

#[test]
fn hooks_answer_in_all_documented_ways() {
    for (hook, allowed, reason) in [
        ("allow = function() return true end", true, None),
        ("allow = function() return false end", false, None),
        ("allow = function() end", true, None),
        ("allow = function() return deny('not on Sundays') end", false, Some("not on Sundays")),
        ("allow = function() return deny() end", false, None),
        ("allow = function() return deny('two\\nlines') end", false, Some("two lines")),
        ("allow = function() deny('changed my mind') return true end", true, None),
        ("allow = function(r) return r.how == 'refer' and r.parker.user == 'bob' end", true, None),
    ] {
        let mut policies = west_with(hook);
        let decision = policies.decide(
            now(),
            "west",
            "call_park.allow",
            &json!({ "how": "refer", "parker": { "user": "bob" } }),
        );
        assert_eq!(
            (decision.allowed, decision.reason.as_deref(), decision.revision),
            (allowed, reason, 1),
            "{hook}"
        );
        assert_eq!(decision.settings, park_defaults(), "{hook}");
        assert_eq!(policies.counters(), Counters { decisions: 1, ..Counters::default() }, "{hook}");
    }
}

#[test]
fn hooks_replace_settings_for_one_decision() {
    let mut policies = west_with(
        "allow = function() return { pickup_timeout = '20s', on_timeout_uri = 'sip:x@y', music_on_hold = 'x.wav' } end",
    );
    let mut expected = park_defaults();
    expected["pickup_timeout"] = json!(20_000);
    expected["on_timeout_uri"] = json!("sip:x@y");
    expected["music_on_hold"] = json!({ "file": "x.wav" });
    assert_eq!(policies.decide(now(), "west", "call_park.allow", &Json::Null).settings, expected);
    assert_eq!(park(&policies, "west"), park_defaults());
    assert_eq!(
        policies.decide(now(), "west", "call_park.allow_retrieve", &Json::Null).settings,
        park_defaults()
    );
}

#[test]
fn wrong_replacements_leave_the_setting() {
    let mut policies = west_with(
        "allow = function() return { pickup_timeout = '1s', say_orbit = false, volume = 11, 7 } end",
    );
    let decision = policies.decide(now(), "west", "call_park.allow", &Json::Null);
    assert!(decision.allowed);
    assert_eq!(
        (&decision.settings["pickup_timeout"], &decision.settings["say_orbit"]),
        (&json!(90_000), &json!(false))
    );
    assert_eq!(policies.counters().invalid_replacements, 3);
}

#[test]
fn a_setting_may_be_a_function() {
    let mut policies = west_with(
        "orbit_choice = function(free, call) return #free > 2 and call.user == 'bob' and 'lowest' or nil end",
    );
    assert_eq!(park(&policies, "west")["orbit_choice"], "random");
    let mut choice = |free: Json| {
        let args = json!([free, { "user": "bob" }]);
        policies.decide(now(), "west", "call_park.orbit_choice", &args).settings["orbit_choice"].clone()
    };
    assert_eq!(choice(json!(["7000", "7001", "7002"])), "lowest");
    assert_eq!(choice(json!(["7000"])), "random");
    let mut policies = west_with("orbit_choice = 'least_recent'");
    let decision = policies.decide(now(), "west", "call_park.orbit_choice", &json!([[], {}]));
    assert_eq!(decision.settings["orbit_choice"], "least_recent");
    let mut policies = west_with("orbit_choice = function() return 7001 end");
    assert_eq!(
        policies.decide(now(), "west", "call_park.orbit_choice", &json!([])).settings,
        park_defaults()
    );
    assert_eq!(policies.counters().invalid_replacements, 1);
}

#[test]
fn cells_of_resiliency_are_values_or_functions() {
    let west = "return { resiliency = { allowed = {
        resilient = { park = function(user, call) return user.name == 'ana' end, retrieve = true, pickup = function() error('x') end } } } }";
    let mut policies = policies(&[("pools/west.lua", west)]);
    let mut ask = |pool: &str, cell: &str, name: &str| {
        let args = json!([{ "name": name }, {}]);
        policies.decide(now(), pool, &format!("resiliency.allowed.{cell}"), &args).allowed
    };
    assert!(ask("west", "resilient.park", "ana"));
    assert!(!ask("west", "resilient.park", "bob"));
    assert!(ask("west", "resilient.retrieve", "bob"));
    assert!(!ask("west", "resilient.pickup", "bob"), "a function that fails gives the documented default");
    assert!(!ask("east", "resilient.park", "ana"));
    assert!(!ask("west", "failing_back.retrieve", "ana"));
}

#[test]
fn hooks_that_fail_or_overrun_give_the_documented_default() {
    for (hook, overrun) in [
        ("allow = function(r) return r.nobody.groups end", false),
        ("allow = function() error { } end", false),
        ("allow = function() return 7 end", false),
        ("allow = function() return 'no' end", false),
        ("allow = function() return require('default') end", false),
        ("allow = function() while true do end end", true),
        ("allow = function() while true do pcall(function() while true do end end) end end", true),
        ("allow = function() local ok = pcall(function() while true do end end) return false end", true),
        ("allow = function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(10000) .. i end end", true),
        ("allow = function() return string.find(('a'):rep(999), ('(.-)'):rep(20) .. 'b') end", true),
        ("allow = function() return coroutine.wrap(function() while true do end end)() end", false),
        ("allow = function() setmetatable({}, { __gc = function() while true do end end }) end", false),
    ] {
        let mut policies = west_with(hook);
        for _ in 0..2 {
            let decision = policies.decide(now(), "west", "call_park.allow", &json!({ "a": 1 }));
            let expected = Decision { settings: park_defaults(), revision: 1, ..Decision::default() };
            assert_eq!(decision, expected, "{hook}");
        }
        let Counters { failures, overruns, .. } = policies.counters();
        assert_eq!((failures, overruns), if overrun { (0, 2) } else { (2, 0) }, "{hook}");
        assert_eq!(policies.decide(now(), "west", "call_park.allow_retrieve", &Json::Null).revision, 1);
    }
}

#[test]
fn a_slow_hook_is_stopped_by_the_clock() {
    // Each look at the clock takes a millisecond of this world.
    let time = Arc::new(AtomicU64::new(0));
    let reads = time.clone();
    let clock: Clock = Arc::new(move || Duration::from_millis(reads.fetch_add(1, Relaxed)));
    let mut policies = west_with("allow = function() while true do end end");
    policies.limit_time(clock, Duration::from_millis(50));
    for overruns in 1..3 {
        assert!(policies.decide(now(), "west", "call_park.allow", &Json::Null).allowed);
        assert_eq!(policies.counters().overruns, overruns);
        assert!((50..60).contains(&time.swap(0, Relaxed)));
        // The next revision has the same limit.
        let bundle = policies
            .bundle()
            .files()
            .map(|(name, text)| (name.to_owned(), format!("{text}\n")))
            .collect::<Vec<_>>();
        policies.replace(Arc::new(Bundle::of(bundle))).unwrap();
        time.store(0, Relaxed);
    }
}

#[test]
fn simulation_stops_the_same_script_at_the_same_place_every_time() {
    let run = || {
        let mut policies = west_with(
            "allow = function() local n = 0 local ok = pcall(function() while true do n = n + 1 end end) return { pickup_timeout = random(10, 600) .. 's' } end,\n\
             allow_retrieve = function() return { pickup_timeout = random(10, 600) .. 's', max_recall_attempts = random(10) } end",
        );
        (0..20)
            .map(|turn| {
                let hook = if turn % 3 == 0 { "call_park.allow" } else { "call_park.allow_retrieve" };
                policies.decide(now(), "west", hook, &json!({ "turn": turn })).settings.to_string()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn unknown_hooks_and_pools_get_the_default() {
    let mut policies = policies(&[("default.lua", "return { call_park = { pickup_timeout = '2m' } }")]);
    assert_eq!(
        policies.decide(now(), "nowhere", "call_park.allow", &Json::Null).settings["pickup_timeout"],
        120_000
    );
    let decision = policies.decide(now(), "west", "call_park.allwo", &Json::Null);
    assert_eq!(decision, Decision { revision: 1, ..Decision::default() });
    assert_eq!(policies.counters().failures, 1);
}
