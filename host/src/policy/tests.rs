//! Whole policies: files in, settings and decisions out.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use switchyard_sdk::manifest::{Hook, Kind, Setting};

use super::*;
use crate::time::{Instant, Utc};

/// As the call-park plugin declares it.
pub(super) fn call_park() -> Section {
    let duration = |min: u64, max: u64| Kind::Duration { min_ms: min * 1000, max_ms: max * 1000 };
    let setting = |name: &str, kind: Kind, default: Json| Setting {
        name: name.into(),
        kind,
        default,
        doc: String::new(),
    };
    let hook = |name: &str| Hook { name: name.into(), doc: String::new() };
    let words = ["random", "lowest", "least_recent"].map(str::to_owned).to_vec();
    Section {
        name: "call_park".into(),
        doc: String::new(),
        settings: vec![
            setting("pickup_timeout", duration(10, 600), json!("90s")),
            setting("max_recall_attempts", Kind::Integer { min: 1, max: 10 }, json!(1)),
            setting("on_timeout_uri", Kind::Uri, Json::Null),
            setting("music_on_hold", Kind::Music, json!(true)),
            setting("recall_ring_time", duration(5, 120), json!("30s")),
            setting("orbit_choice", Kind::Word { words }, json!("random")),
            setting("reuse_cooldown", duration(0, 3600), json!("30s")),
            setting("say_orbit", Kind::Boolean, json!(true)),
        ],
        hooks: vec![hook("allow"), hook("allow_retrieve"), hook("orbit_choice")],
    }
}

/// Numbers of facts.md: SET-01, SET-02, SET-03, SET-04, CP-02, §6.6, §6.10.
fn park_defaults() -> Json {
    json!({
        "pickup_timeout": 90_000, "max_recall_attempts": 1, "on_timeout_uri": null, "music_on_hold": "default",
        "recall_ring_time": 30_000, "orbit_choice": "random", "reuse_cooldown": 30_000, "say_orbit": true,
    })
}

fn bundle(files: &[(&str, &str)]) -> Arc<Bundle> {
    Arc::new(Bundle::of(files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))))
}

fn policies(files: &[(&str, &str)]) -> Policies {
    Policies::new(&[call_park()], bundle(files), &["west".into()], 7).unwrap()
}

/// Everything wrong with `pools/west.lua`, which extends an empty default.
fn errors(west: &str) -> Vec<String> {
    let files = bundle(&[("default.lua", "return {}"), ("pools/west.lua", west)]);
    let errors = Policies::new(&[call_park()], files, &[], 7).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn park(policies: &Policies, pool: &str) -> Json {
    serde_json::from_str(policies.settings(pool, "call_park").unwrap()).unwrap()
}

fn now() -> Now {
    Now { instant: Instant::ZERO, utc: Utc(1_767_600_000_000) }
}

fn shipped() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies"))
}

/// A hook of `call_park` in the policy of the west.
fn west_with(hook: &str) -> Policies {
    policies(&[("pools/west.lua", &format!("return {{ call_park = {{\n{hook}\n}} }}"))])
}

#[test]
fn shipped_default_says_exactly_what_holds_without_it() {
    let bundle = Arc::new(Bundle::read(&shipped()).unwrap());
    let shipped = Policies::new(&[call_park()], bundle.clone(), &[], 7).unwrap();
    assert_eq!(park(&shipped, "east"), park_defaults());
    let empty = policies(&[]);
    assert_eq!(park(&empty, "east"), park_defaults());
    assert_eq!(shipped.settings("east", "resiliency"), empty.settings("east", "resiliency"));
    // Each value is written down, so that whoever reads the file sees all there is.
    let unwritten: Vec<_> = shipped.explain("east").iter().filter(|value| value.file.is_none()).collect();
    assert!(unwritten.is_empty(), "{unwritten:?}");
    assert_eq!(check(&super::tests::shipped(), &[call_park()], &["east".into(), "west".into()]), []);
}

#[test]
fn shipped_west_differs_where_it_says_so() {
    let bundle = Arc::new(Bundle::read(&shipped()).unwrap());
    let mut policies = Policies::new(&[call_park()], bundle, &[], 7).unwrap();
    let settings = park(&policies, "west");
    assert_eq!(settings["pickup_timeout"], 180_000);
    assert_eq!(settings["recall_ring_time"], 30_000);
    let mut request = json!({ "parker": { "user": "bob", "pickup_group": "*109" } });
    let decision = policies.decide(now(), "west", "call_park.allow", &request);
    assert_eq!(
        (decision.allowed, decision.reason.as_deref()),
        (false, Some("the lobby phone does not park"))
    );
    request["parker"]["pickup_group"] = json!("*101");
    let decision = policies.decide(now(), "west", "call_park.allow", &request);
    assert_eq!(decision.settings["on_timeout_uri"], "sip:frontdesk@example.test");
    let sunday = Now { utc: Utc(1_767_528_000_000), ..now() };
    let decision = policies.decide(sunday, "west", "call_park.allow", &request);
    assert_eq!((decision.allowed, &decision.settings["on_timeout_uri"]), (true, &Json::Null));
}

#[test]
fn shipped_hours_know_weekdays_midnight_and_summer_time() {
    let hours = Bundle::read(&shipped()).unwrap().get("lib/hours.lua").unwrap().to_owned();
    let test = r#"
        local hours = require "lib/hours"
        return { tests = {
          seasons = function()
            -- 2026: 29 March and 25 October, 01:00 UTC; 2027: 28 March and 31 October.
            assert(not hours.is_summer_in_europe(1774746000 - 1) and hours.is_summer_in_europe(1774746000))
            assert(hours.is_summer_in_europe(1792890000 - 1) and not hours.is_summer_in_europe(1792890000))
            assert(not hours.is_summer_in_europe(1806195600 - 1) and hours.is_summer_in_europe(1806195600))
            assert(hours.is_summer_in_europe(1824944400 - 1) and not hours.is_summer_in_europe(1824944400))
          end,
          nights = function()
            local night = hours.weekly { from = "22:00", to = "06:00", days = "Fri" }
            assert(night.open(1767996000))                                  -- Fri 2026-01-09 22:00
            assert(night.open(1767996000 + 7 * 3600))                       -- Sat 05:00
            assert(not night.open(1767996000 + 8 * 3600))                   -- Sat 06:00
            assert(not night.open(1767996000 - 17 * 3600))                  -- Fri 05:00
          end,
          summers = function()
            local desk = hours.weekly { from = "08:00", to = "09:00", utc_offset = 60, summer_time = "europe" }
            assert(desk.open(1767596400) and not desk.open(1767600000))     -- January: 07:00 UTC
            assert(desk.open(1783576800) and not desk.open(1783580400))     -- July: 06:00 UTC
          end,
          mistakes = function()
            assert(not pcall(hours.weekly, { from = "8", to = "9" }))
            assert(not pcall(hours.weekly, { from = "08:00", to = "18:00", days = "Monday" }))
          end,
        } }"#;
    policies(&[("lib/hours.lua", &hours), ("default.lua", test)]);
}

#[test]
fn extending_merges_tables_and_replaces_the_rest() {
    let policies = policies(&[
        (
            "default.lua",
            "return { call_park = { pickup_timeout = '2m', max_recall_attempts = 3, on_timeout_uri = 'sip:a@b' },
                      resiliency = { allowed = { outage = { park = true, pickup = true } } } }",
        ),
        (
            "site.lua",
            "return require 'default':extend { call_park = { max_recall_attempts = 5, music_on_hold = false } }",
        ),
        (
            "pools/west.lua",
            "return require('site'):extend { call_park = { on_timeout_uri = none, max_recall_attempts = unset },
                                             resiliency = { allowed = { outage = { park = false } } } }",
        ),
    ]);
    let mut expected = park_defaults();
    expected["pickup_timeout"] = json!(120_000);
    expected["music_on_hold"] = json!("off");
    assert_eq!(park(&policies, "west"), expected);
    assert_eq!(park(&policies, "east")["on_timeout_uri"], "sip:a@b", "the base is as it was");
    let west: Json = serde_json::from_str(policies.settings("west", "resiliency").unwrap()).unwrap();
    assert_eq!(west["allowed"]["outage"], json!({ "park": false, "retrieve": false, "pickup": true }));
    assert_eq!(policies.settings("west", "group_pickup"), None);
}

#[test]
fn unset_takes_back_hooks_and_whole_sections() {
    let mut policies = policies(&[
        (
            "default.lua",
            "return { call_park = { allow = function() return false end, pickup_timeout = '2m' } }",
        ),
        ("pools/a.lua", "return require 'default':extend { call_park = { allow = unset } }"),
        ("pools/b.lua", "return require 'default':extend { call_park = { allow = none } }"),
        ("pools/c.lua", "return require 'default':extend { call_park = unset }"),
        (
            "pools/d.lua",
            "local base = require 'default' return { call_park = base.call_park:extend { allow = unset } }",
        ),
    ]);
    for (pool, allowed, timeout) in [
        ("east", false, 120_000),
        ("a", true, 120_000),
        ("b", true, 120_000),
        ("c", true, 90_000),
        ("d", true, 120_000),
    ] {
        let decision = policies.decide(now(), pool, "call_park.allow", &json!({}));
        assert_eq!(
            (decision.allowed, &decision.settings["pickup_timeout"]),
            (allowed, &json!(timeout)),
            "{pool}"
        );
    }
}

#[test]
fn every_mistake_of_a_file_is_told_at_once_sorted_by_line() {
    let west = r#"local base = require "default"
return base:extend {
  call_park = {
    -- a comment with pickup_timout = 1
    pickup_timout       = "2m",
    music_on_hold       = 7,
    max_recall_attempts = 11,
    pickup_timeout      = 120,
    orbit_choice        = "lowst", reuse_cooldown = "2h",
    say_orbit           = function() end,
    allow               = true,
    on_timeout_uri      = "frontdesk",
  },
  call_prak = {},
  volume = {},
  resiliency = { allowed = { resiliant = { park = true }, outage = { park = "no" } }, failover = 1 },
  [1] = 5,
}
"#;
    assert_eq!(
        errors(west),
        [
            "pools/west.lua:2: expected name = value, found an item without a name ([1])",
            "pools/west.lua:5:5: call_park.pickup_timout: unknown key, did you mean pickup_timeout?",
            "pools/west.lua:6:5: call_park.music_on_hold: expected true, false, or the name of a file in the music \
             folder, found 7",
            "pools/west.lua:7:5: call_park.max_recall_attempts: expected a whole number from 1 to 10, found 11",
            "pools/west.lua:8:5: call_park.pickup_timeout: expected a duration from 10s to 10m, such as \"90s\", \
             found 120, did you mean \"120s\"?",
            "pools/west.lua:9:5: call_park.orbit_choice: expected \"least_recent\", \"lowest\", \"random\", or a \
             function, found \"lowst\", did you mean \"lowest\"?",
            "pools/west.lua:9:36: call_park.reuse_cooldown: expected a duration from 0s to 1h, such as \"30s\", \
             found \"2h\"",
            "pools/west.lua:10:5: call_park.say_orbit: expected true or false, found a function",
            "pools/west.lua:11:5: call_park.allow: expected a function, found true",
            "pools/west.lua:12:5: call_park.on_timeout_uri: expected a URI such as \"sip:frontdesk@example.test\", \
             or none, found \"frontdesk\"",
            "pools/west.lua:14:3: call_prak: unknown section, did you mean call_park?",
            "pools/west.lua:15:3: volume: unknown section; there are call_park, resiliency",
            "pools/west.lua:16:30: resiliency.allowed.resiliant: unknown key, did you mean resilient?",
            "pools/west.lua:16:70: resiliency.allowed.outage.park: expected true or false, or a function, found \"no\"",
            "pools/west.lua:16:87: resiliency.failover: expected \"automatic\", \"manual\", found 1",
        ]
    );
}

#[test]
fn mistakes_are_found_in_tables_made_in_steps_and_in_libraries() {
    let steps = "local t = { call_park = {} }\nt.call_park.max_recal_attempts = 4\nreturn require 'default':extend(t)";
    assert_eq!(
        errors(steps),
        ["pools/west.lua:2:13: call_park.max_recal_attempts: unknown key, did you mean max_recall_attempts?"]
    );
    let computed = "return require 'default':extend {\n call_park = { ['pickup_' .. 'timout'] = '1m' } }";
    assert_eq!(
        errors(computed),
        ["pools/west.lua:1: call_park.pickup_timout: unknown key, did you mean pickup_timeout?"]
    );
    let files = bundle(&[
        ("default.lua", "return {}"),
        ("lib/park.lua", "return {\n\n  say_orbit = 1 }"),
        (
            "pools/west.lua",
            "local park = require 'lib/park'\nreturn require 'default':extend { call_park = park }",
        ),
    ]);
    let errors = Policies::new(&[call_park()], files, &[], 7).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "lib/park.lua:3:3: call_park.say_orbit: expected true or false, found 1"
    );
    assert_eq!(errors.len(), 1);
}

#[test]
fn scripts_that_fail_are_told_with_their_line() {
    for (west, error) in [
        (
            "return {\n  call_park = {\n  allow = 1\n  say_orbit = 2 } }",
            "pools/west.lua:4: '}' expected (to close '{' at line 2) near 'say_orbit'",
        ),
        ("\nlocal x = nil .. 'a'", "pools/west.lua:2: attempt to concatenate a nil value"),
        (
            "\n\nreturn 5",
            "pools/west.lua:3: expected the file to return base:extend { … } or a table, found integer",
        ),
        (
            "local base = require 'defalt'",
            "pools/west.lua:1: require: no file defalt.lua in the policy directory, did you mean \"default\"?",
        ),
        (
            "require '../secrets'",
            "pools/west.lua:1: require: no file ../secrets.lua in the policy directory; there are default, pools/west",
        ),
        (
            "require '/etc/passwd'",
            "pools/west.lua:1: require: no file /etc/passwd.lua in the policy directory; there are default, pools/west",
        ),
        (
            "return require('default').extend { }",
            "pools/west.lua:1: extend: write base:extend { … }, with a colon",
        ),
        ("return require('default'):extend(5)", "pools/west.lua:1: extend: expected a table, found integer"),
        (
            "local base = require 'default'\nbase.call_park = { }",
            "pools/west.lua:2: call_park: a policy is not changed in place, use base:extend { … }",
        ),
        (
            "require 'pools/west'",
            "pools/west.lua:1: require: pools/west.lua and pools/west.lua require each other",
        ),
        ("while true do end", "pools/west.lua:1: stopped: too many instructions"),
        (
            "local t = {}\nwhile true do t[#t + 1] = ('x'):rep(200000) .. #t end",
            "pools/west.lua: ran out of memory",
        ),
        (
            "return { tests = {\n a = function() assert(now() == 0) end,\n b = function(p)\n  error('no') end } }",
            "pools/west.lua:4: test b: no",
        ),
        (
            "return { tests = { loop = function() while true do end end } }",
            "pools/west.lua:1: test loop: stopped: too many instructions",
        ),
        (
            "return { tests = { loop = 1 } }",
            "pools/west.lua:1:20: tests.loop: expected a function, found integer",
        ),
        (
            "local x = now()",
            "pools/west.lua:1: now: has an answer only when a hook is asked, not while the file is loaded",
        ),
        ("x = 1", "pools/west.lua:1: x: globals can't be set, write `local x`"),
        ("os.exit()", "pools/west.lua:1: os: policies don't have it (README.md, Sandbox)"),
        (
            "return { resiliency = {\n failure_detection = '45s' } }",
            "pools/west.lua:2:2: resiliency.failure_detection: expected at least \"90s\", found \"45s\"; shorter takes a slow link for a dead pool, unless allow_fast_detection = true says it is meant",
        ),
    ] {
        assert_eq!(errors(west), [error], "{west}");
    }
    policies(&[(
        "default.lua",
        "\u{feff}return { resiliency = { failure_detection = '45s', allow_fast_detection = true } }",
    )]);
}

#[test]
fn long_file_names_are_told_in_full() {
    let name = format!("pools/{}.lua", "long".repeat(20));
    let errors = Policies::new(&[], bundle(&[(&name, "\nlocal x = 1 + nil")]), &[], 7).unwrap_err();
    assert_eq!((errors[0].file.as_str(), errors[0].line), (name.as_str(), 2));
}

#[test]
fn a_mistake_in_the_shared_base_is_told_once() {
    let extend = "return require 'default':extend {}";
    let files = bundle(&[
        ("default.lua", "return { call_park = { say_orbit = 1 } }"),
        ("pools/a.lua", extend),
        ("pools/b.lua", extend),
    ]);
    assert_eq!(Policies::new(&[call_park()], files, &[], 7).unwrap_err().len(), 1);
}

#[test]
fn pools_do_not_meet_in_shared_libraries() {
    let lib = ("lib/shared.lua", "return { n = 0 }");
    let pool = "local shared = require 'lib/shared' shared.n = shared.n + 1
                return { call_park = { max_recall_attempts = shared.n } }";
    let policies = policies(&[lib, ("pools/a.lua", pool), ("pools/b.lua", pool)]);
    assert_eq!(park(&policies, "a"), park(&policies, "b"));
}

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
    let time = Rc::new(Cell::new(0u64));
    let reads = time.clone();
    // Each look at the clock takes a millisecond of this world.
    let clock: Clock = Rc::new(move || {
        reads.set(reads.get() + 1);
        Duration::from_millis(reads.get())
    });
    let limits = Limits { time: Some((clock, Duration::from_millis(50))), ..Limits::default() };
    let files =
        bundle(&[("pools/west.lua", "return { call_park = { allow = function() while true do end end } }")]);
    let mut policies = Policies::with_limits(&[call_park()], files, &[], 7, limits).unwrap();
    assert!(policies.decide(now(), "west", "call_park.allow", &Json::Null).allowed);
    assert_eq!(policies.counters().overruns, 1);
    assert!((50..60).contains(&time.get()), "{}", time.get());
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

#[test]
fn a_good_candidate_is_taken_as_a_whole() {
    let mut policies = policies(&[("default.lua", "return { call_park = { pickup_timeout = '2m' } }")]);
    let first = policies.bundle().hash().to_owned();
    let next = bundle(&[(
        "default.lua",
        "return { call_park = { pickup_timeout = '20s', allow = function() return false end } }",
    )]);
    assert_eq!(policies.replace(next.clone()), Ok(2));
    assert_ne!(policies.bundle().hash(), first);
    let decision = policies.decide(now(), "east", "call_park.allow", &Json::Null);
    assert_eq!(
        (decision.allowed, decision.revision, &decision.settings["pickup_timeout"]),
        (false, 2, &json!(20_000))
    );
    assert_eq!(policies.replace(next), Ok(2), "the same files again are no new revision");
}

#[test]
fn a_bad_candidate_changes_nothing_and_is_remembered() {
    let mut policies = policies(&[("default.lua", "return { call_park = { pickup_timeout = '2m' } }")]);
    let good = policies.bundle().clone();
    let bad = bundle(&[
        ("default.lua", "return { call_park = { pickup_timeout = '3m' } }"),
        ("pools/west.lua", "return require 'default':extend {\n  call_park = { pickup_timout = '1m' } }"),
    ]);
    let errors = policies.replace(bad.clone()).unwrap_err();
    assert_eq!(errors, policies.last_error());
    assert_eq!(park(&policies, "east")["pickup_timeout"], 120_000);
    let status = policies.status();
    assert_eq!((&status["revision"], &status["hash"]), (&json!(1), &json!(good.hash())));
    assert_eq!(
        status["last_error"],
        json!(["pools/west.lua:2:17: call_park.pickup_timout: unknown key, did you mean pickup_timeout?"])
    );
    assert_eq!(status["refused_hash"], bad.hash());
    assert_eq!(status["pools"], json!([{ "pool": "west", "file": "default.lua" }]));
    assert_eq!(policies.replace(good), Ok(1), "back on what runs: nothing to complain about any more");
    assert_eq!(policies.status()["last_error"], json!([]));
    let fixed = bundle(&[("pools/west.lua", "return {}")]);
    assert_eq!(policies.replace(fixed), Ok(2));
    assert_eq!(policies.status()["pools"], json!([{ "pool": "west", "file": "pools/west.lua" }]));
    assert_eq!(policies.counters(), Counters { reloads: 1, refused: 1, ..Counters::default() });
}

#[test]
fn a_state_that_remembers_without_end_is_made_afresh() {
    let limits = Limits { state_bytes: 4 * 1024 * 1024, ..Limits::default() };
    let west = "local kept, n = {}, 0
        return { call_park = { allow = function() n = n + 1 kept[n] = ('x'):rep(100000) .. n return n < 3 end } }";
    let mut policies =
        Policies::with_limits(&[call_park()], bundle(&[("pools/west.lua", west)]), &[], 7, limits).unwrap();
    let allowed: Vec<bool> =
        (0..60).map(|_| policies.decide(now(), "west", "call_park.allow", &Json::Null).allowed).collect();
    assert!(policies.counters().renewals >= 1, "{:?}", policies.counters());
    assert!(allowed[10..].windows(2).any(|pair| pair == [true, true]), "after that it counts from one again");
    assert_eq!(policies.revision(), 1);
}

#[test]
fn states_of_former_revisions_are_gone() {
    let mut policies = policies(&[]);
    let (first, second) = (
        bundle(&[("default.lua", "local b = {} return { call_park = { allow = function() return b end } }")]),
        bundle(&[("default.lua", "return require 'base':extend {}"), ("base.lua", "return {}")]),
    );
    let before = Rc::strong_count(&policies.dice);
    for _ in 0..4 {
        policies.replace(first.clone()).unwrap();
        policies.replace(second.clone()).unwrap();
    }
    assert_eq!(Rc::strong_count(&policies.dice), before, "each state's random() holds the dice");
}

#[test]
fn explain_names_value_file_and_line() {
    let policies = policies(&[
        ("default.lua", "return { call_park = {\n  pickup_timeout = '2m', music_on_hold = false } }"),
        (
            "pools/west.lua",
            "return require 'default':extend { call_park = {\n\n  pickup_timeout = '3m', on_timeout_uri = 'sip:a@b',\n  allow = function() end } }",
        ),
    ]);
    let explained = policies.explain("west");
    let shown: Vec<String> = explained
        .iter()
        .filter(|value| value.path.starts_with("call_park"))
        .map(|Explained { path, value, file, line }| {
            format!("{path} = {value} <- {}:{line}", file.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "call_park.pickup_timeout = \"3m\" <- pools/west.lua:3",
            "call_park.max_recall_attempts = 1 <- -:0",
            "call_park.on_timeout_uri = \"sip:a@b\" <- pools/west.lua:3",
            "call_park.music_on_hold = false <- default.lua:2",
            "call_park.recall_ring_time = \"30s\" <- -:0",
            "call_park.orbit_choice = \"random\" <- -:0",
            "call_park.reuse_cooldown = \"30s\" <- -:0",
            "call_park.say_orbit = true <- -:0",
            "call_park.allow = function <- pools/west.lua:4",
        ]
    );
}

#[test]
fn a_policy_can_be_read_and_asked_by_what_extends_it() {
    let mut policies = policies(&[
        (
            "default.lua",
            "return { call_park = { pickup_timeout = '2m', allow = function(r) return r.n < 5 end } }",
        ),
        (
            "pools/west.lua",
            "local base = require 'default'
             local names = {}
             for name, value in pairs(base.call_park) do names[#names + 1] = name end
             assert(table.concat(names, ',') == 'allow,pickup_timeout' and base.call_park.volume == nil)
             return base:extend { call_park = {
               max_recall_attempts = base.call_park.pickup_timeout == '2m' and 4 or 5,
               allow = function(r) return base.call_park.allow(r) and r.n > 2 end } }",
        ),
    ]);
    assert_eq!(park(&policies, "west")["max_recall_attempts"], 4);
    for (n, allowed) in [(1, false), (3, true), (5, false)] {
        assert_eq!(policies.decide(now(), "west", "call_park.allow", &json!({ "n": n })).allowed, allowed);
    }
}

#[test]
fn nothing_is_loaded_or_extended_while_a_hook_is_asked() {
    let mut policies = policies(&[
        ("default.lua", "return {}"),
        ("lib/x.lua", "return 1"),
        (
            "pools/west.lua",
            "local base = require 'default' return base:extend { call_park = {
                allow = function() return not pcall(require, 'lib/x') and not pcall(base.extend, base, {}) end } }",
        ),
    ]);
    assert!(policies.decide(now(), "west", "call_park.allow", &Json::Null).allowed);
    assert_eq!(policies.counters().failures, 0);
}
