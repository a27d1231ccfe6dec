use switchyard_host::plugin::{FlowEnd, Plugins, Verb};
use switchyard_sdk::types::{Code, LegId, Party, Refusal};

use super::*;

const SIZE: usize = size_of::<switchyard_sdk::abi::PluginEntry>();

#[test]
fn the_libraries_of_a_directory_are_loaded_through_copies() {
    let site = Site::new();
    site.install("libgroup_pickup.so").write("README.txt", "not a library");
    let mut plugins = site.start();
    assert_eq!(refusals(&plugins), Vec::<String>::new());
    assert_eq!(plugins.kinds(), ["group-pickup"]);
    let list = plugins.list();
    assert_eq!(list[0]["name"], "group-pickup");
    assert_eq!(list[0]["state"], "running");
    // Writing over a mapped file would be a crash; and the copy's name goes once it is mapped.
    site.write("libgroup_pickup.so", "no library any more");
    assert_eq!(std::fs::read_dir(site.data().join("plugins")).unwrap().count(), 0);

    offer(&mut plugins, "group-pickup", "");
    let refuse = plugins.poll_command().unwrap().verb;
    assert!(matches!(refuse, Verb::Refuse(refusal) if refusal.code == Code::OUTSIDE));
    assert_eq!(ends(&mut plugins).len(), 1);
}

#[test]
fn a_plugin_in_c_is_a_plugin() {
    let site = Site::new();
    site.compile("sdk/examples/c-plugin/closed.c", "libclosed.so", &[]);
    let mut plugins = site.start();
    assert_eq!(refusals(&plugins), Vec::<String>::new());
    let flow = offer(&mut plugins, "closed", "closed");
    let refusal = Refusal::new(Code::NOT_ALLOWED, "the office is closed");
    assert_eq!(plugins.poll_command().unwrap().verb, Verb::Refuse(refusal));
    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Done, String::new())]);
}

#[test]
fn what_is_no_plugin_is_named_and_skipped() {
    let site = Site::new();
    site.write("notes.so", "shopping list").compile("sdk/examples/c-plugin/closed.c", "libclosed.so", &[]);
    site.compile("tests/plugin/none.c", "libnone.so", &[]);
    let plugins = site.start();
    let refusals = refusals(&plugins);
    assert_eq!(refusals.len(), 2, "{refusals:?}");
    assert_eq!(refusals[0], "libnone.so is no plugin: it exports no switchyard_plugin");
    assert!(
        refusals[1].starts_with("notes.so is no plugin: it is not a shared library ("),
        "{}",
        refusals[1]
    );
    assert!(!refusals[1].contains("/var/"), "the copy is nobody's business: {}", refusals[1]);
    assert!(plugins.for_service("closed").is_some());
    assert_eq!(plugins.list()[1]["error"], refusals[0].as_str());
}

#[test]
fn each_way_of_being_wrong_has_its_sentence() {
    let cases = [
        ("ODD_MAGIC=7", "libodd.so is no plugin: its switchyard_plugin does not begin with SWYARD01".to_owned()),
        (
            "ODD_ABI=2",
            "libodd.so was built for plugin ABI 2, this host speaks plugin ABI 1: rebuild it with switchyard-sdk \
             0.1.0, or use a newer host"
                .to_owned(),
        ),
        (
            "ODD_SIZE=24",
            format!(
                "libodd.so has an entry of 24 bytes, plugin ABI 1 has {SIZE}: rebuild it with switchyard-sdk 0.1.0 \
                 or its switchyard.h"
            ),
        ),
        (
            "ODD_UNWINDS=0",
            "libodd.so is built with panic = \"abort\", so one panic in it would end the host and every call: take \
             panic = \"abort\" out of its profile in Cargo.toml and build it again"
                .to_owned(),
        ),
        (
            "ODD_NAME=\"Odd One\"",
            "libodd.so: name: expected at most 32 lower-case letters, digits and '-', a letter first, got \"Odd One\""
                .to_owned(),
        ),
        ("ODD_VERSION=\"one\"", "libodd.so: version: expected one like 1.2.3, got \"one\"".to_owned()),
        ("ODD_NOT_CREATED", "odd 0.1.0 could not be started: it made no instance; its own log lines may say why".to_owned()),
    ];
    for (define, sentence) in cases {
        let site = Site::new();
        site.compile("tests/plugin/odd.c", "libodd.so", &[define]);
        let plugins = site.start();
        assert_eq!(refusals(&plugins), [sentence]);
        assert_eq!(plugins.for_kind("odd"), None);
    }
    let site = Site::new();
    site.compile("tests/plugin/odd.c", "libodd.so", &["ODD_MANIFEST=\"{ kinds }\""]);
    let refusals = refusals(&site.start());
    assert!(
        refusals[0].starts_with("libodd.so: the manifest: key must be a string at line 1"),
        "{refusals:?}"
    );
}

#[test]
fn only_what_is_enabled_is_taken_and_what_is_missing_is_named() {
    let site = Site::new();
    site.install("libgroup_pickup.so").compile("sdk/examples/c-plugin/closed.c", "libclosed.so", &[]);
    let enabled = ["closed".to_owned(), "call-pork".to_owned()];
    let plugins = Plugins::load(&site.plugins(), Some(&enabled), &site.data());
    assert_eq!(plugins.kinds(), Vec::<String>::new());
    assert!(plugins.for_service("closed").is_some());
    let expected = format!("no library in {} is the plugin call-pork", site.plugins().display());
    assert_eq!(refusals(&plugins), [expected]);
}

#[test]
fn a_directory_that_is_not_there_is_said_and_survived() {
    let site = Site::new();
    let plugins = Plugins::load(&site.plugins().join("nowhere"), None, &site.data());
    assert_eq!(plugins.refused().len(), 1);
    assert!(plugins.list()[0]["error"].as_str().unwrap().contains("nowhere: No such file"));
}

#[test]
fn a_plugin_can_be_looked_at_without_a_host() {
    let site = Site::new();
    site.compile("tests/plugin/odd.c", "libodd.so", &["ODD_VERSION=\"1.2.3\""]);
    let description = Plugins::inspect(&site.plugins().join("libodd.so")).unwrap();
    assert_eq!((description.name.as_str(), description.version.as_str()), ("odd", "1.2.3"));
    assert_eq!(description.manifest.kinds, ["odd"]);
    let wrong = Plugins::inspect(&site.plugins().join("none.so")).unwrap_err();
    assert!(wrong.to_string().contains("none.so: No such file"), "{wrong}");
}

#[test]
fn a_second_library_of_the_same_name_is_refused() {
    let site = Site::new();
    site.compile("tests/plugin/odd.c", "liba.so", &[]).compile("tests/plugin/odd.c", "libb.so", &[]);
    let plugins = site.start();
    let sentence =
        "odd 0.1.0 (libb.so) declares the name odd that odd 0.1.0 (liba.so) has already: remove one of them";
    assert_eq!(refusals(&plugins), [sentence]);
}

#[test]
fn two_generations_live_side_by_side_until_the_old_one_has_nothing_left() {
    let site = Site::new();
    site.compile("tests/plugin/odd.c", "libodd.so", &[]);
    let mut plugins = site.start();
    let flow = offer(&mut plugins, "odd", "");
    let old = plugins.for_kind("odd").unwrap();

    // Overwritten while it is mapped: the copy is what runs.
    site.compile("tests/plugin/odd.c", "libodd.so", &["ODD_VERSION=\"0.2.0\""]);
    let new = plugins.reload(now(), "odd").unwrap();
    assert_ne!(old, new);
    assert_eq!(plugins.for_kind("odd"), Some(new));
    let list = plugins.list();
    assert_eq!((&list[0]["version"], &list[0]["state"]), (&"0.1.0".into(), &"retired".into()));
    assert_eq!((&list[1]["version"], &list[1]["state"]), (&"0.2.0".into(), &"running".into()));

    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Rested, "0.1.0".into())]);
    assert_eq!(plugins.list().as_array().unwrap().len(), 1, "the old one is gone");
    let flow = offer(&mut plugins, "odd", "");
    plugins.cancel_flow(now(), flow);
    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Cancelled, "0.2.0".into())]);
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let site = Site::new();
    site.compile("tests/plugin/odd.c", "libodd.so", &[]);
    let mut plugins = site.start();
    let old = plugins.for_kind("odd");
    for define in ["ODD_ABI=9", "ODD_NOT_CREATED", "ODD_NAME=\"even\""] {
        site.compile("tests/plugin/odd.c", "libodd.so", &[define]);
        assert!(plugins.reload(now(), "odd").is_err(), "{define}");
        assert_eq!(plugins.for_kind("odd"), old);
        assert_eq!(plugins.list().as_array().unwrap().len(), 1);
    }
    assert!(plugins.reload(now(), "even").is_err());
    let flow = offer(&mut plugins, "odd", "");
    plugins.cancel_flow(now(), flow);
    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Cancelled, "0.1.0".into())]);
}

#[test]
fn a_resting_flow_goes_on_in_the_new_copy_of_a_rust_plugin() {
    let site = Site::new();
    site.install("libunruly.so");
    let mut plugins = site.start();
    let flow = offer(&mut plugins, "unruly", "rest");
    let busy = offer(&mut plugins, "unruly", "");
    let Verb::Save(record) = plugins.poll_command().unwrap().verb else { panic!("expected save") };
    let old_wait = watching(&mut plugins);
    let busy_wait = watching(&mut plugins);

    let new = plugins.reload(now(), "unruly").unwrap();
    assert_eq!(ends(&mut plugins), [(flow, FlowEnd::Rested, String::new())]);
    let resume = switchyard_sdk::ext::orbit::Resume {
        number: record.number,
        pool: "east".into(),
        token: "t".into(),
        leg: LegId(1),
        parked: Party::default(),
        parker: Party::default(),
        terms: record.terms,
        state: record.state,
    };
    let resumed = plugins.resume(now(), new, &resume);
    let new_wait = watching(&mut plugins);
    assert_eq!(new_wait.instance, new);
    // The same token in both copies; each answer finds its own.
    plugins.answer(now(), old_wait, Ok(&serde_json::json!({})));
    assert_eq!(ends(&mut plugins), []);
    plugins.answer(now(), new_wait, Ok(&serde_json::json!({})));
    assert_eq!(ends(&mut plugins), [(resumed, FlowEnd::Done, String::new())]);
    // What did not rest finishes in the old copy, which then goes.
    assert_eq!(plugins.list().as_array().unwrap().len(), 2);
    plugins.answer(now(), busy_wait, Ok(&serde_json::json!({})));
    assert_eq!(ends(&mut plugins), [(busy, FlowEnd::Done, String::new())]);
    assert_eq!(plugins.list().as_array().unwrap().len(), 1);
}
