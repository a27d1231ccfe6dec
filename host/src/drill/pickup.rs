//! `drill pickup`: one call through all of Group Call Pickup.

use std::net::SocketAddr;

use serde_json::json;

use super::office::{GROUPS, Office, Person};
use super::park::{ends, holds, refused, registers};
use super::phone::State;
use super::report::Seen;
use crate::cli::Failure;

const NAME: &str = "Group Call Pickup";

/// The script.
pub async fn pickup(
    office: &mut Office<'_>,
    people: &mut Vec<Person>,
    hosts: &[SocketAddr],
) -> Result<(), Failure> {
    let group = GROUPS.1;
    office.add_groups(None)?;
    let hosts = hosts.iter().copied().cycle();
    for (name, host) in ["alice", "bob", "carol"].into_iter().zip(hosts) {
        let settings = if name == "alice" { json!({}) } else { json!({ "pickup_group": group }) };
        people.push(office.hire(name, None, settings, host).await?);
    }
    let [alice, bob, carol] = &people[..] else { return Ok(()) };
    bob.phone.act(|core| core.answers = false);
    let step = |step| (NAME, step, "");

    office.observe(step("register"), "three phones are registered", registers(&people[..])).await;
    office.observe(step("nobody rings"), "there is no call to take (404)", refused(carol, group, 404)).await;
    let (ours, theirs) = ring(office, alice, bob).await;
    let mut taken = None;
    office
        .observe(step("pick up"), "whoever dials the group gets the call", async {
            match carol.call(group).await {
                Ok(call) => {
                    taken = Some(call);
                    match alice.answered(ours).await {
                        Ok(()) => Seen::good("connected"),
                        Err(why) => Seen::bad(format!("the caller is told {why}")),
                    }
                }
                Err(why) => Seen::bad(why.to_string()),
            }
        })
        .await;
    office
        .observe(step("stops ringing"), "the callee's phone stops ringing", async {
            let Some(theirs) = theirs else { return Seen::bad("it never rang") };
            let over =
                bob.phone.wait(bob.patience(), |core| (core.call(theirs).state == State::Over).then_some(()));
            if over.await.is_some() { Seen::good("stopped") } else { Seen::bad("it rings on") }
        })
        .await;
    if let Some(call) = taken {
        let hold = holds((carol, call), (alice, ours));
        office.observe(step("hold"), "hold and resume reach the caller", hold).await;
        office.observe(step("hang up"), "the caller is told", ends((carol, call), (alice, ours))).await;
    }
    let (ours, theirs) = ring(office, alice, bob).await;
    if let Some(theirs) = theirs {
        bob.phone.act(|core| core.answer(theirs));
        office
            .observe(step("callee answers"), "the callee has the call", async {
                match alice.answered(ours).await {
                    Ok(()) => Seen::good("connected"),
                    Err(why) => Seen::bad(why.to_string()),
                }
            })
            .await;
        let late = refused(carol, group, 486);
        office.observe(step("too late"), "who comes late is told who was faster (486)", late).await;
    }
    Ok(())
}

/// Alice calls Bob, whose phone rings: the call as each of them has it.
async fn ring(
    office: &mut Office<'_>,
    caller: &Person,
    callee: &Person,
) -> (super::phone::CallId, Option<super::phone::CallId>) {
    let ours = caller.phone.act(|core| core.dial(&callee.name));
    let mut theirs = None;
    office
        .observe((NAME, "ring", ""), "the callee's phone rings", async {
            theirs = callee.rung().await;
            if theirs.is_some() { Seen::good("rings") } else { Seen::bad("it does not ring") }
        })
        .await;
    (ours, theirs)
}
