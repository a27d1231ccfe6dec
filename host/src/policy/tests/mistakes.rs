//! Mistakes in files, in their author's terms.

use super::*;

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
  volume = 3,
  other_plugin = { key = 1 },
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
            "pools/west.lua:15:3: volume: unknown section; there are call_park, lamps, outbound, resiliency",
            "pools/west.lua:17:30: resiliency.allowed.resiliant: unknown key, did you mean resilient?",
            "pools/west.lua:17:70: resiliency.allowed.outage.park: expected true or false, or a function, found \"no\"",
            "pools/west.lua:17:87: resiliency.failover: expected \"automatic\", \"manual\", found 1",
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
fn files_that_require_each_other_in_a_long_chain_are_refused() {
    let link = |n: usize| (format!("lib/x{n}.lua"), format!("return require 'lib/x{}'", n + 1));
    let chain = (0..500).map(link).chain([("default.lua".to_owned(), "require 'lib/x0'".to_owned())]);
    let errors = Policies::new(&[], Arc::new(Bundle::of(chain)), &[], 7).unwrap_err();
    assert!(errors[0].message.contains("nested deeper than 16 levels"), "{errors:?}");
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

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(150))]
    /// Half-saved files, merge leftovers, stray bytes: a diagnostic that names a file, never a panic or a hang.
    #[test]
    fn any_text_is_a_policy_or_a_diagnostic(
        cut in 0usize..1500, length in 0usize..400, noise in "[a-z{}()=,\\[\\]\"'. \n-]{0,12}", insert in proptest::bool::ANY,
    ) {
        let mut files: Vec<(String, String)> =
            Bundle::read(&shipped()).unwrap().files().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        let (_, text) = files.iter_mut().find(|(name, _)| name == "pools/west.lua").unwrap();
        let from = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let to = if insert { from } else { (from + length).min(text.len()) };
        let to = (to..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap();
        text.replace_range(from..to, &noise);
        let bundle = Arc::new(Bundle::of(files));
        if let Err(errors) = Policies::new(&[call_park()], bundle.clone(), &[], 7) {
            proptest::prop_assert!(!errors.is_empty());
            for error in errors {
                // Mostly the file itself, but a wrong value may only be met in the library it is given to.
                proptest::prop_assert!(bundle.get(&error.file).is_some(), "{}", error);
            }
        }
    }
}
