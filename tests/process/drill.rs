//! `switchyard drill`: its phones against real hosts.

use std::process::Command;

#[cfg(feature = "etcd")]
use tempfile::TempDir;

#[cfg(feature = "etcd")]
use super::etcd::{Etcd, certificates};
use super::host::{Host, SWITCHYARD};
use super::program::Program;
#[cfg(feature = "etcd")]
use super::program::wait_for;

/// Nothing of a drill is left behind.
fn is_clean(host: &Host) {
    let named = |path: &str| {
        let all = host.get(path);
        let drills =
            all.as_array().unwrap().iter().filter(|one| one["name"].as_str().unwrap().starts_with("drill-"));
        drills.count()
    };
    assert_eq!((named("users"), named("orbits")), (0, 0));
    host.is_quiet();
}

#[test]
fn a_drill_tries_park_and_pickup_on_one_host_and_leaves_nothing_behind() {
    let host = Host::start();
    for (verb, steps) in [("park", 13), ("pickup", 10)] {
        let answer = host.cli(&["drill", verb]);
        assert_eq!(answer.code, Some(0), "{}{}", answer.out, answer.err);
        assert!(answer.out.contains(&format!("{steps} as expected, 0 not, 0 not tried.")), "{}", answer.out);
        is_clean(&host);
    }
    let report = host.json(&["drill", "park"]);
    assert_eq!(report["observations"].as_array().unwrap().len(), 13);
    is_clean(&host);
}

/// A drill that cannot fail would show nothing.
#[test]
fn a_drill_says_what_is_not_as_it_should_be() {
    let silent = "return { call_park = { allow = function() return { music_on_hold = false } end } }";
    let host = Host::start_with(&[("pools/east.lua", silent)]);
    let answer = host.cli(&["drill", "park", "--patience", "5"]);
    assert_eq!(answer.code, Some(1), "{}{}", answer.out, answer.err);
    let line = answer.out.lines().find(|line| line.starts_with("music ")).unwrap();
    assert!(line.contains("0 packets with sound") && line.ends_with("SURPRISE"), "{line}");
    assert!(answer.out.contains("12 as expected, 1 not, 0 not tried."), "{}", answer.out);
    is_clean(&host);
}

#[test]
fn a_drill_expects_what_the_policy_says() {
    let silent = "return { call_park = { music_on_hold = false } }";
    let host = Host::start_with(&[("pools/east.lua", silent)]);
    let answer = host.cli(&["drill", "park"]);
    assert_eq!(answer.code, Some(0), "{}{}", answer.out, answer.err);
    let line = answer.out.lines().find(|line| line.starts_with("music ")).unwrap();
    assert!(line.contains("hears nothing (music_on_hold = false)"), "{line}");
}

#[test]
fn an_interrupted_drill_cleans_up() {
    let host = Host::start();
    let mut command = Command::new(SWITCHYARD);
    let admin = host.admin();
    command.args(["drill", "park", "--admin", &admin]).env_remove("SWITCHYARD_TOKEN");
    let mut drill = Program::start("drill", "", &mut command);
    host.one_parked();
    drill.signal("INT");
    assert_eq!(drill.exit().code(), Some(1));
    assert!(drill.said().contains("The drill ended early: interrupted"), "{}", drill.said());
    is_clean(&host);
}

/// Three etcd members, two hosts in each of two pools, all linked with certificates.
#[cfg(feature = "etcd")]
struct Pair {
    east: [Host; 2],
    west: [Host; 2],
    _etcd: Etcd,
    _tls: TempDir,
}

#[cfg(feature = "etcd")]
impl Pair {
    /// `resiliency` is what the policy of the east says of its resiliency.
    fn start(resiliency: &str) -> Self {
        let tls = certificates(&["fe1", "fe2", "fw1", "fw2"]);
        let etcd = Etcd::start_three(tls.path());
        let start = |name, pool| Host::start_in_pair(name, pool, &etcd.endpoints(), tls.path(), resiliency);
        let east = [start("fe1", "east"), start("fe2", "east")];
        let west = [start("fw1", "west"), start("fw2", "west")];
        wait_for("two pools that are served", || {
            let pools = west[0].get("pools");
            let is_served = |pool: &serde_json::Value| {
                !pool["served_by"].is_null() && pool["hosts"].as_array().unwrap().len() == 2
            };
            pools.as_array().unwrap().iter().all(is_served).then_some(())
        });
        Self { east, west, _etcd: etcd, _tls: tls }
    }

    fn drill(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new(SWITCHYARD);
        command.args(["drill", "failover", "east", "--admin", &self.west[0].admin()]).args(arguments);
        command.env_remove("SWITCHYARD_TOKEN");
        Program::start("drill", "", &mut command)
    }

    /// `kill -9` for both hosts of the east, and both started again, when the drill wants it; what it printed, which must be
    /// nothing but what was expected.
    fn disaster(&mut self, arguments: &[&str]) -> String {
        // The drill's commands ask for what only the parent of the hosts can do, and wait until it is done.
        let signals = tempfile::tempdir().unwrap();
        let ask = |what: &str| {
            let file = signals.path().join(what).display().to_string();
            format!("touch {file}; while test -e {file}; do sleep 0.02; done")
        };
        let (lose, restore) = (ask("lose"), ask("restore"));
        let mut drill = self.drill(&[&["--lose", &lose, "--restore", &restore], arguments].concat());
        for (what, act) in [("lose", Host::kill as fn(&mut Host)), ("restore", Host::restart)] {
            let file = signals.path().join(what);
            wait_for(what, || (file.exists() || drill.ended().is_some()).then_some(()));
            if drill.ended().is_none() {
                self.east.iter_mut().for_each(act);
                std::fs::remove_file(file).unwrap();
            }
        }
        self.ends(drill)
    }

    fn ends(&self, mut drill: Program) -> String {
        let status = drill.exit();
        let said = drill.said();
        println!("{said}");
        assert_eq!(status.code(), Some(0), "{said}");
        self.west.iter().chain(&self.east).for_each(is_clean);
        said
    }
}

/// `make drill` shows what this prints.
#[cfg(feature = "etcd")]
#[test]
fn a_pair_of_pools_goes_through_a_disaster_and_all_is_as_the_matrices_say() {
    let mut pair = Pair::start("failure_detection = '8s', failback_detection = '5s'");
    let said = pair.disaster(&[]);
    assert!(said.contains("0 of 3 talking calls were lost."), "{said}");
    assert!(said.contains("disconnected: Q.850;cause=41"), "{said}");
}

#[cfg(feature = "etcd")]
#[test]
fn parked_calls_are_rescued_from_a_lost_pool_and_a_living_one_is_moved_as_planned() {
    let resiliency = "failure_detection = '5s', parked_on_outage = 'rescue', pickup_ranges = 'automatic'";
    let mut pair = Pair::start(resiliency);
    let said = pair.disaster(&["--rescue"]);
    assert!(said.contains("0 of 3 talking calls were lost."), "{said}");
    let planned = pair.drill(&["--rescue"]);
    let said = pair.ends(planned);
    assert!(said.contains("retrieved by a user of the backup"), "{said}");
    // Whoever breaks it off in between is told where the pool stands.
    let mut broken_off = pair.drill(&["--rescue"]);
    wait_for("a failover", || (pair.west[0].get("pools/east")["phase"] == "failed_over").then_some(()));
    broken_off.signal("INT");
    assert_eq!(broken_off.exit().code(), Some(1));
    let said = broken_off.said();
    assert!(
        said.contains("pool east is failed_over: switchyard pool failback east brings it home"),
        "{said}"
    );
}
