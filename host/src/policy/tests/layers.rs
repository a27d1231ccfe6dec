//! `base:extend`, `require`, and where values come from.

use super::*;

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
fn pools_do_not_meet_in_shared_libraries() {
    let lib = ("lib/shared.lua", "return { n = 0 }");
    let pool = "local shared = require 'lib/shared' shared.n = shared.n + 1
                return { call_park = { max_recall_attempts = shared.n } }";
    let policies = policies(&[lib, ("pools/a.lua", pool), ("pools/b.lua", pool)]);
    assert_eq!(park(&policies, "a"), park(&policies, "b"));
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
            "call_park.recall_ring_time = \"30s\" <- -:0",
            "call_park.on_timeout_uri = \"sip:a@b\" <- pools/west.lua:3",
            "call_park.music_on_hold = false <- default.lua:2",
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

/// A list of nothing is a list, and replaces the base's (facts.md lesson 19: it must not mean everybody).
#[test]
fn lists_replace_and_an_empty_one_is_kept() {
    let files = [
        ("default.lua", "return { group_pickup = { pickers = { 'bob', '*101' }, directed_pickers = {} } }"),
        ("pools/west.lua", "return require 'default':extend { group_pickup = { pickers = {} } }"),
    ];
    let policies =
        Policies::new(&[call_park(), group_pickup()], bundle(&files), &["west".into()], 7).unwrap();
    let read = |pool: &str| -> Json {
        serde_json::from_str(policies.settings(pool, "group_pickup").unwrap()).unwrap()
    };
    assert_eq!(read("east")["pickers"], json!(["bob", "*101"]));
    assert_eq!((&read("west")["pickers"], &read("west")["directed_pickers"]), (&json!([]), &json!([])));
    let wrong = |value: &str| {
        let file = format!("return {{ group_pickup = {{ pickers = {value} }} }}");
        let files = bundle(&[("default.lua", &file)]);
        Policies::new(&[group_pickup()], files, &[], 7).unwrap_err()[0].message.clone()
    };
    let expected = "group_pickup.pickers: expected a list of texts such as { \"bob\", \"*101\" }";
    assert_eq!(wrong("'anyone'"), format!("{expected}, found \"anyone\""));
    assert_eq!(wrong("none"), format!("{expected}, found none"));
    assert_eq!(wrong("{ 1 }"), format!("{expected}, found a list"));
    assert_eq!(wrong("{ 'bob', x = 1 }"), format!("{expected}, found a list"));
}
