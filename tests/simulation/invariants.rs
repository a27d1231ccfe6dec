//! What must hold in a deployment, whatever phones and networks do. What the engine can say of itself at every moment
//! (peers that know of each other, orbits that hold one live call, nobody left alone) is `Engine::audit`; here is what
//! takes both ends, or time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use switchyard_host::admin::Request;
use switchyard_host::engine::Event;
use switchyard_host::store::keys::calls_prefix;

use super::run::{Page, stored_calls};
use super::script::{PHONES, USERS};
use crate::harness::{CallId, World};

/// Reasons of the host's own for which an answered call may end. "hung up" is a party's; "the other side hung up" is
/// looked at below.
const RULES: [&str; 11] = [
    // design.md §7: the parker's or transferor's leg, two seconds after its transfer has worked.
    "transfer completed",
    // CP-07 (5), (6).
    "Nobody took the call parked on",
    "The call has left the orbit",
    "Replaced",
    "Ended by the administrator",
    "Parked on",
    // `group_pickup.pick_held`: the call is somebody else's now.
    "Taken by",
    // Whoever brought the call here was rung back and did not want it.
    "nobody answered",
    "nobody looks after the call",
    "The caller hung up",
    // design.md §4: who answers too late is sent BYE.
    "lost the claim",
];

/// Not an end: the leg goes on at the host that has the seat now.
const PUT_DOWN: &str = "others serve the call now";

/// Reasons that need something to have gone wrong.
const TROUBLE: [&str; 14] = [
    // Its host had lost the store, and another has taken over.
    PUT_DOWN,
    "the session timer expired",
    "the refresh was not answered",
    "the phone does not know the call",
    "The caller is on another line",
    "the other side refused",
    "the session was refused",
    "the phone answered",
    "no ACK",
    "the feature failed",
    "the park service failed",
    // The range was removed while the call waited, the host restarted, and no phone of the parker is there.
    "no plugin handles this orbit",
    "the transfer was refused",
    "the transfer failed",
];

/// What may be the reason that a call ends.
#[derive(Clone, Copy)]
pub struct Circumstances {
    /// Nothing gets lost.
    pub calm: bool,
    /// Several hosts work together.
    pub between: bool,
    /// Administrators move users between pools.
    pub moves: bool,
    /// `parked_on_outage = "disconnect"`.
    pub disconnects: bool,
}

/// No answered call ends unless a party ended it or a rule says so.
pub fn ends(all: &[Event], seen: usize, world: Circumstances) -> Result<(), String> {
    const OTHER_SIDE: &str = "the other side hung up";
    let events = &all[seen..];
    // Who takes a seat while somebody hangs up may read a record that was about to be removed, and asks the phone.
    let hung_up = |event: &Event| {
        let same = |other: &&Event| other.what == "leg.ended" && other.call_id == event.call_id;
        all.iter().filter(same).any(|other| other.detail["by_party"] == true)
    };
    for event in events.iter().filter(|event| event.what == "leg.ended") {
        let reason = event.detail["reason"].as_str().unwrap_or_default();
        let known = |rules: &[&str]| rules.iter().any(|rule| reason.starts_with(rule));
        let allowed = if event.detail["by_party"] == true || event.detail["answered"] == false {
            true
        } else if reason == OTHER_SIDE {
            // Whoever was the other side ended at the same moment, for a reason of its own.
            let own = |other: &Event| other.what == "leg.ended" && other.detail["reason"] != OTHER_SIDE;
            events.iter().any(|other| other.at == event.at && own(other))
        } else {
            // Between two servers a BYE and a re-INVITE may cross.
            known(&RULES)
                || !world.calm && known(&TROUBLE)
                || world.moves && reason == PUT_DOWN
                || world.moves && reason == "the phone does not know the call" && hung_up(event)
                || world.between && reason.starts_with("the phone answered 481")
                || world.between && reason == "the other side refused" && moved_at_the_other_end(all, event)
                || world.disconnects && ["its pool is lost", "its pool is moved"].contains(&reason)
        };
        if !allowed {
            return Err(format!("a call ended because {reason}: {}", event.detail));
        }
    }
    Ok(())
}

/// A call between two servers can be parked or transferred from both its ends in one moment: each server refuses the other's
/// change until one gives up.
fn moved_at_the_other_end(all: &[Event], ended: &Event) -> bool {
    const GIVES_UP: Duration = Duration::from_secs(30);
    let lately = |event: &&Event| ended.at.saturating_since(event.at) < GIVES_UP;
    let moves = all.iter().filter(|event| event.what == "call.referred").filter(lately);
    moves.map(|event| event.detail["by"].to_string()).collect::<BTreeSet<_>>().len() > 1
}

/// A phone that says it does not know a call has none.
pub fn truly_forgotten(events: &[Event], world: &World) -> Result<(), String> {
    let gone = events.iter().filter(|event| {
        event.what == "leg.ended" && event.detail["reason"] == "the phone does not know the call"
    });
    for event in gone {
        let live = world.phones.iter().any(|phone| {
            let ids = phone.live().filter_map(|id| phone.call(id).dialog.as_ref());
            ids.map(|dialog| dialog.call_id.as_str()).any(|id| Some(id) == event.call_id.as_deref())
        });
        if live {
            return Err(format!("the phone knows the call very well: {}", event.detail));
        }
    }
    Ok(())
}

/// The Call-IDs of the two sides of each call that the store has.
pub fn recorded(world: &World) -> Vec<[String; 2]> {
    let records = world.store.snapshot(&calls_prefix()).records.into_values();
    let pair = |value: Value| {
        let id = |leg: usize| value["legs"][leg]["dialog"]["call_id"].as_str().map(str::to_owned);
        Some([id(0)?, id(1)?])
    };
    records.filter_map(|record| pair(serde_json::from_slice(&record.value).ok()?)).collect()
}

/// After a restart the host has every call that was recorded before. One of the two may be in an orbit by its own record.
pub fn taken_up(world: &mut World, calls: &[[String; 2]]) -> Result<(), String> {
    let listed = world.ask(Request::Calls).map_err(|refused| refused.text)?;
    let legs: Vec<&Value> = listed
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|call| call["legs"].as_array().into_iter().flatten())
        .collect();
    for call in calls {
        let missing: Vec<&String> =
            call.iter().filter(|id| !legs.iter().any(|leg| leg["call_id"] == **id)).collect();
        if missing.len() == 2
            || missing.len() == 1 && !stored_calls(world).iter().any(|key| key.contains("/orbit/"))
        {
            return Err(format!("{missing:?} was recorded, and is lost: {listed}"));
        }
    }
    Ok(())
}

/// With nothing on its way, host and phones agree on every answered call, and on who hears whom. Where hosts die, a phone may be up
/// alone: the host through which it was to be told died, or the host of its parker before that could hang up.
pub fn agreement(world: &mut World, deaths: bool) -> Result<(), String> {
    let listed = world.ask(Request::Calls).map_err(|refused| refused.text)?;
    let legs: BTreeMap<u64, &Value> = listed
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|call| call["legs"].as_array().into_iter().flatten())
        .filter(|leg| leg["state"] == "confirmed")
        .map(|leg| (leg["id"].as_u64().unwrap_or_default(), leg))
        .collect();
    let mut phones: BTreeMap<&str, (usize, CallId)> = BTreeMap::new();
    for (index, phone) in world.phones.iter().enumerate() {
        for id in phone.live() {
            let call_id = phone.call(id).dialog.as_ref().map_or("", |dialog| &dialog.call_id);
            phones.insert(call_id, (index, id));
        }
    }
    let name = |(phone, id): (usize, CallId)| format!("{}'s call {}", world.phones[phone].name, id.0);
    for (call_id, side) in &phones {
        let unknown = |call_id: &str| !legs.values().any(|leg| leg["call_id"] == call_id);
        let talks = |other: (usize, CallId)| {
            other != *side && hears(world, *side, other) && hears(world, other, *side)
        };
        let together = || phones.iter().any(|(other, its)| talks(*its) && unknown(other));
        if unknown(call_id) && (!deaths || together() && !world.unrecorded.contains(*call_id)) {
            return Err(format!("{} is up, and the host does not know it", name(*side)));
        }
    }
    let side_of = |leg: &Value| phones.get(leg["call_id"].as_str().unwrap_or_default()).copied();
    // Between the servers of two pools.
    let between = |leg: &Value| leg["way"].as_str().is_some_and(|way| way.starts_with("pool:"));
    // The leg to whose phone another leg's peer leads in the end.
    let through = |leg: &Value| {
        let mut peer = *legs.get(&leg["peer"].as_u64()?)?;
        for _ in 0..8 {
            if !between(peer) {
                return Some(peer);
            }
            let mate =
                legs.values().find(|mate| mate["call_id"] == peer["call_id"] && mate["id"] != peer["id"]);
            peer = *legs.get(&mate?["peer"].as_u64()?)?;
        }
        None
    };
    for leg in legs.values().filter(|leg| !between(leg)) {
        let Some(side) = side_of(leg) else {
            return Err(format!("the host has a leg that its phone does not know: {leg}"));
        };
        let call = world.phones[side.0].call(side.1);
        let heard = call.heard.as_deref().unwrap_or_default();
        let expected = match through(leg) {
            Some(peer) => match side_of(peer) {
                Some((phone, _)) => format!("IN IP4 {}\r", world.phones[phone].address.ip()),
                None => continue,
            },
            None if leg["peer"] == "host" && !leg["orbit"].is_null() => "IN IP4 192.0.2.".to_owned(),
            None => continue,
        };
        if !heard.contains(&expected) && call.reinvite.is_none() {
            return Err(format!("{} should hear {expected:?} and hears {heard:?}: {leg}", name(side)));
        }
    }
    Ok(())
}

/// Whether one side of a call was told to hear the other's phone.
fn hears(world: &World, side: (usize, CallId), other: (usize, CallId)) -> bool {
    let address = format!("IN IP4 {}\r", world.phones[other.0].address.ip());
    world.phones[side.0].call(side.1).heard.as_ref().is_some_and(|heard| heard.contains(&address))
}

/// Every lamp shows what the phones themselves know. What the host knows of itself is compared all the time, by
/// `Engine::audit`.
pub fn lamps(world: &mut World) -> Result<(), String> {
    let parked = world.occupants().len();
    for watching in &world.phones {
        for watch in watching.watches.iter().filter(|watch| watch.is_live()) {
            let user = watch.uri.trim_start_matches("sip:").trim_end_matches("@example.test");
            let (shown, is) = if PHONES[..USERS].contains(&user) {
                let of_user = world.phones.iter().filter(|phone| phone.user == user);
                let shown = watch.lamps.values().filter(|lamp| lamp.state == "confirmed").count();
                (shown, of_user.map(|phone| phone.live().count()).sum())
            } else if user == "park" && world.hosts.iter().all(|host| host.pool == "east") {
                (watch.lamps.len(), parked)
            } else {
                continue;
            };
            if shown != is {
                let (name, lit) = (&watching.name, watch.shows());
                return Err(format!("{name} is shown {shown} calls of {user}, who has {is}: {lit:?}"));
            }
        }
    }
    Ok(())
}

/// Every MESSAGE has reached one phone of whom it was for, once.
pub fn delivered(world: &World, pages: &[Page]) -> Result<(), String> {
    for Page { text, to } in pages {
        let phones = world.phones.iter().filter(|phone| phone.user == *to);
        let times = phones.flat_map(|phone| &phone.messages).filter(|message| *message == text).count();
        if times != 1 {
            return Err(format!("{text:?} has reached {to} {times} times"));
        }
    }
    Ok(())
}

/// The world has been quiet for long: nothing lives in the host, nothing waits in the store, no transaction of a phone
/// is open.
pub fn nothing_left(world: &mut World, calm: bool) -> Result<(), String> {
    let alive = world.alive();
    if !alive.is_empty() {
        let listed = world.ask(Request::Calls).map_err(|refused| refused.text)?;
        return Err(format!("left over in the host: {alive:?} {listed}"));
    }
    if !world.streams.is_empty() {
        return Err(format!("left over in the media service: {:?}", world.streams.keys()));
    }
    let stored = stored_calls(world);
    if !stored.is_empty() {
        return Err(format!("left over in the store: {stored:?}"));
    }
    for phone in &world.phones {
        let open = phone.tx.len();
        // A phone may wait for ever for a host that said 100 and was killed.
        if calm && open != (0, 0) {
            return Err(format!("left over in {}'s phone: transactions {open:?}", phone.name));
        }
        if let Some(id) = phone.live().next() {
            return Err(format!("{}'s call {} is still up", phone.name, id.0));
        }
    }
    Ok(())
}
