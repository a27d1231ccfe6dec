//! Hosts that share a store: a real etcd behind real hosts.

use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::etcd::{Etcd, certificates};
use super::host::{DOMAIN, Host, SWITCHYARD, put_plugins};
use super::ports::free_port;
use super::program::wait_for;
use super::sipp::{Line, Script, all_succeed};

fn parker() -> Script {
    Script::new("bob").call("1001").refer("7001").notified("100").notified("SIP/2.0 200").hang_up()
}

/// While etcd is away the call stays parked and hears music, and nobody gets it; when etcd is back, Carol does.
#[test]
fn a_parked_call_outlives_its_store() {
    let mut etcd = Etcd::start(1);
    let host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|user| Line::register(&host, user));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    assert_eq!(host.readyz(), (200, "ready".into()));

    etcd.kill();
    wait_for("a fenced host", || (host.readyz() == (503, "fenced".into())).then_some(()));
    carol.run(Script::new("carol").call_refused("7001", 503, 35105)).succeeds();
    // Calls between phones need no store.
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let caller = bob.run(Script::new("bob").call("1004").pause(200).hang_up());
    all_succeed([caller, callee]);
    assert!(alice.listen().is_audible(), "Alice hears music");

    etcd.launch();
    wait_for("a live host", || (host.readyz() == (200, "ready".into())).then_some(()));
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    host.is_quiet();
}

/// Without a pause for the lease of the life before.
#[test]
fn a_killed_host_takes_its_parked_calls_up_again() {
    let etcd = Etcd::start(1);
    let mut host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| Line::register(&host, user));
    let parked =
        alice.run(Script::new("alice").answer().accept_offer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(host.one_parked(), "7001");
    host.kill();
    host.restart();
    assert_eq!(host.one_parked(), "7001");
    assert!(alice.listen().is_audible(), "music again");
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    host.is_quiet();
}

/// Two hosts of a pool: an orbit the one has taken is taken for the other, until the call leaves it; what an
/// administrator changes at the one holds at the other.
#[test]
fn two_hosts_have_one_set_of_orbits_ranges_and_users() {
    let etcd = Etcd::start(1);
    let east = Host::start_on_etcd("fe1", &etcd.endpoints());
    let west = Host::start_on_etcd("fe2", &etcd.endpoints());
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&east, user));
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&west, user));
    west.json(&["user", "set", "carol", "--display", "Caroline"]);
    wait_for("the new name", || (east.get("users/carol")["display"] == "Caroline").then_some(()));

    let parked = alice.run(Script::new("alice").answer().accept_offer().pause(6000).hang_up());
    bob.run(parker()).succeeds();
    assert_eq!(east.one_parked(), "7001");
    // Nobody at the other host gets the same orbit.
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let second = Script::new("carol")
        .call("1004")
        .refer("7001")
        .notified("^SIP/2.0 100")
        .notified("^SIP/2.0 486.*7001")
        .hang_up();
    all_succeed([carol.run(second), callee]);
    assert!(west.parked().is_empty());

    parked.succeeds();
    wait_for("a free orbit", || east.parked().is_empty().then_some(()));
    let callee = dave.run(Script::new("dave").answer().accept_offer().pause(300).hang_up());
    let again =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(again).succeeds();
    callee.succeeds();
    for host in [&east, &west] {
        host.is_quiet();
    }
}

/// Starts another host beside `host`, with a configuration that differs in its ports and must not do; what it says.
fn start_in_vain(host: &Host, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for part in ["policies", "plugins", "music"] {
        std::os::unix::fs::symlink(host.path(part), folder.path().join(part)).unwrap();
    }
    let listens = |line: &&str| line.starts_with("listen = ") && !line.contains("tls:");
    let text = text.lines().filter(|line| !listens(line)).map(|line| match line {
        "[sip]" => format!("[sip]\nlisten = \"udp:127.0.0.1:{}\"\n", free_port()),
        "[admin]" => format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", free_port()),
        line => format!("{line}\n"),
    });
    std::fs::write(folder.path().join("switchyard.toml"), text.collect::<String>()).unwrap();
    let output = Command::new(SWITCHYARD).arg("run").current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap() + &String::from_utf8_lossy(&output.stdout)
}

/// A start without etcd, and one under a name that is taken, end with a sentence that says so.
#[test]
fn a_host_that_cannot_have_its_store_says_why() {
    let etcd = Etcd::start(1);
    let host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let file = std::fs::read_to_string(host.path("switchyard.toml")).unwrap();
    let start = |text: String| start_in_vain(&host, &text);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = start(file.replace(&etcd.endpoints()[0], &format!("http://127.0.0.1:{nobody}")));
    assert!(away.contains(&format!("no etcd member answers (http://127.0.0.1:{nobody}")), "{away}");
    let taken = start(file);
    assert!(taken.contains("another host named \"fe1\" is alive in this store"), "{taken}");
    // The one that was there before has not noticed.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(host.readyz(), (200, "ready".into()));
}

/// Two hosts of a pool, linked, with an etcd that lets nobody in without a certificate. Whichever host a phone talks to, all
/// are served by one: so they reach each other, and a call parked through one is retrieved through the other.
#[test]
fn linked_hosts_serve_each_others_phones() {
    let tls = certificates(&["fe1", "fe2"]);
    let etcd = Etcd::start_secure(tls.path());
    let east = Host::start_in_cluster("fe1", &etcd.endpoints(), tls.path());
    let west = Host::start_in_cluster("fe2", &etcd.endpoints(), tls.path());
    let [alice, bob] = ["alice", "bob"].map(|user| Line::register(&east, user));
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&west, user));
    let linked = "switchyard_link_peers{direction=\"out\"}";
    assert_eq!((east.metric(linked), west.metric(linked)), (1.0, 1.0));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    all_succeed([carol.run(Script::new("carol").call("7001").pause(500).hang_up()), parked]);
    let callee = dave.run(Script::new("dave").answer().hung_up());
    all_succeed([bob.run(Script::new("bob").call("1004").pause(200).hang_up()), callee]);
    assert!(west.metric("switchyard_link_frames_sent_total") > 10.0);
    assert_eq!(west.metric("switchyard_link_unlinked_total"), 0.0);
    // Whoever forgets [cluster] would serve everybody's users a second time.
    let file = std::fs::read_to_string(east.path("switchyard.toml")).unwrap();
    let (before, cluster) = file.split_once("[cluster]").unwrap();
    let after = cluster.split_once("\n[").map_or(String::new(), |(_, after)| format!("[{after}"));
    let file = format!("{before}{after}").replace("\"fe1\"", "\"fe3\"");
    let alone = start_in_vain(&east, &file);
    assert!(alone.contains("this host has no [cluster], and fe1, fe2 in the same etcd do"), "{alone}");
    // Whoever misspells the domain would refuse everybody whom it gets to serve.
    let misspelt = file.replace(&format!("domain = \"{DOMAIN}\""), "domain = \"example.tst\"");
    let misspelt = start_in_vain(&east, &misspelt);
    assert!(misspelt.contains("sip.domain is \"example.tst\" here, and "), "{misspelt}");
    for host in [&east, &west] {
        host.is_quiet();
    }
}

/// The lease is kept all the while, so nobody is fenced.
#[test]
fn a_host_is_not_ready_while_its_store_has_no_room() {
    let etcd = Etcd::start_small(4 << 20);
    let host = Host::start_on_etcd("fe1", &etcd.endpoints());
    let alice = Line::register(&host, "alice");
    // Base64, as etcd wants it, for "rubbish".
    let rubbish = "cnViYmlzaA==";
    let put = json!({ "key": rubbish, "value": "A".repeat(1 << 20) });
    let filled = (0..20).any(|_| etcd.ask("kv/put", &put).is_err());
    assert!(filled, "there is room for ever");
    wait_for("a host that says so", || (host.readyz() == (503, "store_full".into())).then_some(()));
    // Phones notice nothing, as long as they park nobody.
    let bob = Line::register(&host, "bob");
    let callee = alice.run(Script::new("alice").answer().hung_up());
    all_succeed([bob.run(Script::new("bob").call("1001").pause(200).hang_up()), callee]);
    let refused = host.cli(&["user", "set", "alice", "--display", "Alice"]);
    assert!(refused.code == Some(1) && refused.err.contains("space exceeded"), "{refused:?}");
    let armed =
        etcd.ask("maintenance/alarm", &json!({ "action": "GET" })).unwrap()["alarms"][0]["memberID"].take();
    let looked = host.log().matches(" etcd endpoint").count();
    assert_eq!(looked, 1, "no member is to blame, and no other would do better");
    let newest = etcd.ask("kv/range", &json!({ "key": rubbish })).unwrap()["header"]["revision"].take();
    for (path, body) in [
        ("kv/deleterange", json!({ "key": rubbish })),
        ("kv/compaction", json!({ "revision": newest, "physical": true })),
        ("maintenance/defragment", json!({})),
        ("maintenance/alarm", json!({ "action": "DEACTIVATE", "memberID": armed, "alarm": "NOSPACE" })),
    ] {
        etcd.ask(path, &body).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    wait_for("a host that is ready again", || (host.readyz() == (200, "ready".into())).then_some(()));
    assert_eq!(host.cli(&["user", "set", "alice", "--display", "Alice"]).code, Some(0));
    let parked = alice.run(Script::new("alice").answer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    all_succeed([bob.run(Script::new("bob").call("7001").pause(200).hang_up()), parked]);
}

/// It lives in etcd, and no other host believes its certificate: nobody's users are passed to it.
#[test]
fn a_host_of_another_authority_gets_nobodys_users() {
    let (tls, other) = (certificates(&["fe1", "fe2"]), certificates(&["fe2"]));
    let etcd = Etcd::start_secure(tls.path());
    let east = Host::start_in_cluster("fe1", &etcd.endpoints(), tls.path());
    let _stranger = Host::start_beside_strangers("fe2", &etcd.endpoints(), tls.path(), other.path());
    wait_for("a link that fails", || east.get("pools/east")["hosts"][1]["trouble"].is_string().then_some(()));
    // Until then it may be one that is about to come about.
    std::thread::sleep(Duration::from_secs(13));
    let refused = east.cli(&["pool", "drain", "fe1"]);
    let why = "(out of reach from fe1: fe2: its certificate is not signed by this host's cluster.ca)";
    assert!(refused.code == Some(1) && refused.err.contains(why), "{refused:?}");
    let listed = east.cli(&["pool", "list"]).out;
    assert!(
        listed.contains("fe1, fe2 (unreachable)") && listed.contains("from the host that was asked (for 1"),
        "{listed}"
    );
    assert_eq!(east.server_of("alice").as_deref(), Some("fe1"));
}

fn signal(host: &Host, signal: &str) {
    let process = host.process().to_string();
    assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
}

/// SIGSTOP, as a virtual machine that is being moved: what it had heard and not looked at, and what was due meanwhile, is not its
/// business any more when it wakes up.
#[test]
fn a_host_that_froze_rings_nobody_and_ends_nothing_when_it_wakes_up() {
    let tls = certificates(&["fe1", "fe2"]);
    let etcd = Etcd::start_secure(tls.path());
    let frozen = Host::start_in_cluster("fe1", &etcd.endpoints(), tls.path());
    let phones = Host::start_in_cluster("fe2", &etcd.endpoints(), tls.path());
    let [alice, bob, carol, dave] =
        ["alice", "bob", "carol", "dave"].map(|user| Line::register(&phones, user));
    assert_eq!(phones.server_of("alice").as_deref(), Some("fe1"));
    let parked =
        alice.run(Script::new("alice").answer().accept_offer().accept_offer().accept_offer().hung_up());
    bob.run(parker()).succeeds();
    assert_eq!(phones.one_parked(), "7001");

    signal(&frozen, "-STOP");
    let callee = dave.run(Script::new("dave").answer().hung_up());
    let caller = carol.run(Script::new("carol").call("1004").pause(12_000).hang_up());
    wait_for("another server", || (phones.server_of("alice").as_deref() == Some("fe2")).then_some(()));
    std::thread::sleep(Duration::from_secs(5));
    signal(&frozen, "-CONT");
    std::thread::sleep(Duration::from_secs(2));
    let calls = frozen.get("calls");
    let hosts: Vec<&str> =
        calls.as_array().unwrap().iter().map(|call| call["host"].as_str().unwrap()).collect();
    assert!(!hosts.contains(&"fe1"), "{calls:#}");
    all_succeed([caller, callee]);
    all_succeed([bob.run(Script::new("bob").call("7001").pause(500).hang_up()), parked]);
    for host in [&frozen, &phones] {
        host.is_quiet();
    }
}

/// Over TLS etcd comes back as it does without; whoever it does not believe, or who does not believe it, is told so.
#[test]
fn an_etcd_with_certificates_comes_back_and_keeps_strangers_out() {
    let (tls, other) = (certificates(&["fe1", "fe2"]), certificates(&["fe2"]));
    let mut etcd = Etcd::start_secure(tls.path());
    let host = Host::start_in_cluster("fe1", &etcd.endpoints(), tls.path());
    etcd.kill();
    wait_for("a fenced host", || (host.readyz() == (503, "fenced".into())).then_some(()));
    etcd.launch();
    wait_for("a live host", || (host.readyz() == (200, "ready".into())).then_some(()));

    let [ours, theirs] = [&tls, &other].map(|tls| tls.path().display().to_string());
    let file = std::fs::read_to_string(host.path("switchyard.toml")).unwrap().replace("fe1", "fe2");
    let (store, rest) = file.split_once("[cluster]").unwrap();
    let start = |store: &str| start_in_vain(&host, &format!("{store}[cluster]{rest}"));
    let endpoint = &etcd.endpoints()[0];
    let says = |store: &str, words: &str| {
        let said = start(store);
        assert!(
            said.contains(&format!("no etcd member answers ({endpoint}: ")) && said.contains(words),
            "{said}"
        );
    };
    says(
        &store.replace(&format!("{ours}/ca.pem"), &format!("{theirs}/ca.pem")),
        "not one that store.ca signed",
    );
    says(&store.replace(&format!("{ours}/fe2"), &format!("{theirs}/fe2")), "or does not believe it");
    let own = |line: &&str| line.starts_with("cert = ") || line.starts_with("key = ");
    let bare: Vec<&str> = store.lines().filter(|line| !own(line)).collect();
    says(&(bare.join("\n") + "\n"), "perhaps it asks for a certificate");
    // With everything right it is another host's turn to be let in.
    let west = Host::start_in_cluster("fe2", &etcd.endpoints(), tls.path());
    assert_eq!(west.readyz(), (200, "ready".into()));
}

/// What docs/pools.md gives to copy from holds, and the check finds what is easily done wrong with it.
#[test]
fn the_two_sites_of_the_documentation_are_as_the_check_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let (path, plugins) = (|file: &str| folder.path().join(file), folder.path().join("plugins"));
    put_plugins(&plugins);
    let mut script = Command::new("sh");
    script.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/two-sites.sh")).arg("files");
    script.env("FOLDER", folder.path()).env("SWITCHYARD", SWITCHYARD).env("PLUGINS", &plugins);
    let made = script.output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let check = |file: &str| {
        let checked = Command::new(SWITCHYARD).arg("check").arg("--config").arg(path(file)).output().unwrap();
        let told = [checked.stdout, checked.stderr].concat();
        (checked.status.success(), String::from_utf8(told).unwrap())
    };
    for host in ["fe1", "fe2", "fw1", "fw2"] {
        let (well, told) = check(&format!("{host}.toml"));
        assert!(well && told.contains("5 users, 4 ranges") && !told.contains("warning"), "{host}: {told}");
    }
    std::fs::rename(path("policies/pools/east.lua"), path("policies/pools/esat.lua")).unwrap();
    let (well, told) = check("fe1.toml");
    assert!(well && told.contains("there is no pool \"esat\", did you mean east?"), "{told}");
    let file = std::fs::read_to_string(path("fe1.toml")).unwrap();
    let (before, after) = file.rsplit_once("tls/fe1.key").unwrap();
    std::fs::write(path("other.toml"), format!("{before}tls/fw1.key{after}")).unwrap();
    let (well, told) = check("other.toml");
    assert!(!well && told.contains("store.key: ") && told.contains("is not the key of "), "{told}");
}
