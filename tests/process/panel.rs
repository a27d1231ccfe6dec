//! The status page, as a browser runs it: what it shows follows what happens, without being asked again.

use std::process::Command;

use super::etcd::{Etcd, certificates};
use super::host::Host;
use super::program::{Program, wait_for};
use super::sipp::{Line, Script};

/// A page that somebody has open.
struct Page(Program);

impl Page {
    fn open(host: &Host) -> Self {
        let browser = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/process/panel/browser.mjs");
        Self(Program::start("the page", "nodejs", Command::new("node").arg(browser).arg(host.admin())))
    }

    /// Waits until all of these can be seen at once, each in one line.
    fn shows(&self, wanted: &[&[&str]]) {
        wait_for(&format!("{wanted:?} on the page"), || {
            let said = self.0.said();
            let picture = said.rsplit('\u{c}').next()?;
            let seen =
                |parts: &&[&str]| picture.lines().any(|line| parts.iter().all(|part| line.contains(part)));
            wanted.iter().all(seen).then_some(())
        });
    }
}

#[test]
fn the_page_shows_pools_and_what_becomes_of_them() {
    let tls = certificates(&["fe1", "fw1"]);
    let etcd = Etcd::start_secure(tls.path());
    let terms = "failure_detection = '20s', failback_detection = '5s'";
    let start = |name, pool| Host::start_in_pair(name, pool, &etcd.endpoints(), tls.path(), terms);
    let (mut east, west) = (start("fe1", "east"), start("fw1", "west"));
    assert_eq!(west.server_of("alice").as_deref(), Some("fe1"));
    let page = Page::open(&west);
    page.shows(&[
        &["pools: east | active", "| fe1 | west | fe1 |"],
        &["pools: west | active", "| fw1 | east | fw1 |"],
        &["steps: No procedure is under way."],
    ]);

    // A planned failover waits for a call in an orbit, and says for how long.
    let [carol, dave] = ["carol", "dave"].map(|user| Line::register(&west, user));
    let parked = dave.run(Script::new("dave").answer().accept_offer().hung_up());
    let parker =
        Script::new("carol").call("1004").refer("7001").notified("100").notified("SIP/2.0 200").hang_up();
    carol.run(parker).succeeds();
    let begun = west.cli(&["pool", "failover", "east", "--by", "ana", "--no-wait"]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    page.shows(&[
        &["pools: bad east | failing_over", "parked calls are ended in", "| fe1 |"],
        &["steps: east | failover, asked for by ana, done by fw1 | fence | done"],
        &["parked | running", "may be fetched"],
        &["seat | pending"],
        &["occupants: 7001 | parked"],
    ]);
    let calls = west.get("calls");
    let call = calls.as_array().unwrap().first().unwrap()["id"].to_string();
    assert_eq!(west.cli(&["call", "hangup", &call]).code, Some(0));
    parked.succeeds();
    page.shows(&[
        &["pools: bad east | failed_over", "| fw1 | west | fe1 | west |"],
        &["steps: No procedure"],
    ]);
    assert_eq!(west.cli(&["pool", "failback", "east"]).code, Some(0));
    page.shows(&[&["pools: east | active", "| fe1 | west | fe1 |"]]);

    // One that is silent, and counts as lost later.
    east.kill();
    page.shows(&[&["pools: bad east | outage", "counts as lost in", "| none |"], &["host.gone", "fe1"]]);
    page.shows(&[&["pools: bad east | resilient", "| fw1 |"]]);
}
