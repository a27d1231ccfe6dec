//! Candidates taken and refused; states that come and go.

use super::*;

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
    let file = |status: &Json| (status["pools"][0]["pool"].clone(), status["pools"][0]["file"].clone());
    assert_eq!(file(&status), (json!("west"), json!("default.lua")));
    assert_eq!(status["pools"][0]["settings"]["call_park"]["pickup_timeout"], 120_000);
    assert_eq!(policies.replace(good), Ok(1), "back on what runs: nothing to complain about any more");
    assert_eq!(policies.status()["last_error"], json!([]));
    let fixed = bundle(&[("pools/west.lua", "return {}")]);
    assert_eq!(policies.replace(fixed), Ok(2));
    assert_eq!(file(&policies.status()), (json!("west"), json!("pools/west.lua")));
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
fn another_pools_own_files_count_for_it_and_for_nobody_else() {
    let file = |time: &str| format!("return {{ call_park = {{ pickup_timeout = '{time}' }} }}");
    let mut policies = policies(&[("default.lua", &file("30s"))]);
    let timeout = |policies: &Policies, pool: &str| {
        let settings: Json = serde_json::from_str(policies.settings(pool, "call_park").unwrap()).unwrap();
        settings["pickup_timeout"].as_u64().unwrap()
    };
    let theirs = |text: String| Some(Arc::new(Bundle::of([("pools/west.lua".to_owned(), text)])));
    policies.lend("west", theirs(file("2m"))).unwrap();
    assert_eq!((timeout(&policies, "west"), timeout(&policies, "east")), (120_000, 30_000));
    // What cannot be used changes nothing.
    assert!(policies.lend("west", theirs("nonsense".to_owned())).is_err());
    assert_eq!(timeout(&policies, "west"), 120_000);
    policies.lend("west", None).unwrap();
    assert_eq!(timeout(&policies, "west"), 30_000);
}
