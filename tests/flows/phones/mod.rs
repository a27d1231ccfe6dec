//! Phones and their dialects: each row of the table plays its part against the real engine and libraries, sending what
//! that phone sends. `docs/phones.md` is the same table for readers.

mod document;
mod table;

use std::time::Duration;

use switchyard_host::sip::{Name, Status};

use self::table::{OrbitName, Park, Phone, Pickup, Retrieve, Watches};
use super::pickup::{assert_nothing_left, assert_talk};
use crate::harness::{Asking, CallId, World, WorldOptions};

/// One test for each row, and the list of all rows.
macro_rules! phones {
    ($($test:ident: $row:ident),* $(,)?) => {
        const ALL: &[&Phone] = &[$(&table::$row),*];
        $(
            #[test]
            fn $test() {
                speaks(&table::$row);
            }
        )*
    };
}

phones! {
    yealink: YEALINK,
    poly: POLY,
    snom: SNOM,
    cisco: CISCO,
    grandstream: GRANDSTREAM,
    fanvil: FANVIL,
    mitel: MITEL,
    obihai: OBIHAI,
    zoiper: ZOIPER,
    pjsip: PJSIP,
    linphone: LINPHONE,
    baresip: BARESIP,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

/// Everything that phone can do.
fn speaks(phone: &Phone) {
    match &phone.watches {
        Some(watches) => {
            a_lamp_follows_a_call(watches);
            an_unknown_name_is_a_lamp_only(watches);
        }
        None => presence_is_refused(),
    }
    for pickup in phone.picks_up {
        let (orders, onlys): (&[bool], &[bool]) = match pickup {
            Pickup::Replaces => (&[false, true], &[false, true]),
            Pickup::Dial | Pickup::CallId => (&[false], &[false]),
        };
        for &swapped in orders {
            for &early_only in onlys {
                picks_up(phone, *pickup, swapped, early_only);
            }
        }
    }
    for park in phone.parks {
        for retrieve in phone.retrieves {
            parks_and_retrieves(phone, *park, *retrieve);
        }
    }
}

/// Bob and Carol are in one pickup group: Carol sees who calls Bob, and may take the call.
struct Office {
    world: World,
    alice: usize,
    bob: usize,
    carol: usize,
}

fn office() -> Office {
    let users = ["bob", "carol"].map(|user| (user, "pickup_group = \"*101\"")).to_vec();
    let mut world = World::with(WorldOptions { users, ..WorldOptions::default() });
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    Office { world, alice, bob, carol }
}

impl Office {
    fn watch(&mut self, watches: &Watches, uri: &str) -> usize {
        let asking = Asking { accept: watches.accept, supported: watches.supported, ..Asking::default() };
        let watch = self.world.act(self.carol, |phone| phone.watch_as(uri, watches.expires, asking));
        self.world.run_for(second() * 2);
        let watching = &self.world.phones[self.carol].watches[watch];
        assert_eq!(watching.status, Some(Status::OK));
        assert_eq!(watching.said, [format!("Expires: {}", watches.expires)]);
        assert_eq!((watching.entity.as_str(), &*watching.documents), (uri, &["full".to_owned()][..]));
        watch
    }

    fn shows(&self, watch: usize) -> Vec<String> {
        self.world.phones[self.carol].watches[watch].shows()
    }
}

/// Early, confirmed, over; a refresh, and a host that was killed, tell everything anew.
fn a_lamp_follows_a_call(watches: &Watches) {
    let mut office = office();
    let lamp = office.watch(watches, "sip:1002@example.test");
    let Office { alice, bob, carol, .. } = office;
    let a = office.world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    office.world.run_for(second() * 2);
    assert_eq!(office.shows(lamp), ["early <- Alice sip:alice@example.test"]);
    let b = office.world.phones[bob].last();
    office.world.act(bob, |phone| phone.answer(b));
    office.world.run_for(second() * 2);
    assert_eq!(office.shows(lamp), ["confirmed <- Alice sip:alice@example.test"]);
    office.world.act(carol, |phone| phone.watch_again(lamp, watches.expires));
    office.world.run_for(second() * 2);
    assert_eq!(office.shows(lamp), ["confirmed <- Alice sip:alice@example.test"]);
    office.world.act(alice, |phone| phone.hang_up(a));
    office.world.run_for(second() * 2);
    let watch = &office.world.phones[carol].watches[lamp];
    assert!(watch.lamps.is_empty());
    assert_eq!(watch.documents, ["full", "partial", "partial", "full", "partial"]);
    assert_eq!(watch.history, ["early", "confirmed", "confirmed", "terminated"]);
    office.world.kill_host();
    office.world.start_host();
    office.world.run_for(second() * 2);
    office.world.connect(alice, bob);
    office.world.run_for(second() * 2);
    assert_eq!(office.shows(lamp), ["confirmed <- Alice sip:alice@example.test"]);
}

/// Who may not see names sees no dialog's name either, and has to dial (facts.md §8 no. 11).
fn an_unknown_name_is_a_lamp_only(watches: &Watches) {
    let mut office = office();
    let lamp = office.watch(watches, "sip:1001@example.test");
    let Office { alice, bob, carol, .. } = office;
    office.world.act(bob, |phone| phone.invite("sip:1001@example.test", &[], true));
    office.world.run_for(second() * 2);
    let seen = office.world.phones[carol].watches[lamp].lamps.values().next().unwrap().clone();
    assert_eq!((seen.state.as_str(), seen.direction.as_str()), ("early", "recipient"));
    assert_eq!((seen.call_id, seen.local_tag, seen.remote_tag, seen.remote), (None, None, None, None));
    let ringing = office.world.phones[alice].last();
    office.world.act(alice, |phone| phone.refuse(ringing, Status::BUSY_HERE));
    office.world.run_for(second() * 2);
    assert!(office.world.phones[carol].watches[lamp].lamps.is_empty());
}

fn presence_is_refused() {
    let mut office = office();
    let carol = office.carol;
    let watch = office.world.act(carol, |phone| phone.watch_event("sip:1002@example.test", 3600, "presence"));
    office.world.run_for(second());
    assert_eq!(office.world.phones[carol].watches[watch].status, Some(Status::BAD_EVENT));
}

/// Alice calls Bob; Carol presses the key that blinks.
fn picks_up(phone: &Phone, pickup: Pickup, swapped: bool, early_only: bool) {
    let mut office = office();
    let lamp = phone.watches.as_ref().map(|watches| office.watch(watches, "sip:1002@example.test"));
    let Office { alice, bob, carol, .. } = office;
    let a = office.world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    office.world.run_for(second() * 2);
    let b = office.world.phones[bob].last();
    let seen = lamp.map(|lamp| {
        let lamps = &office.world.phones[carol].watches[lamp].lamps;
        lamps.values().next().unwrap_or_else(|| panic!("{}: the lamp is out", phone.name)).clone()
    });
    let seen = || seen.clone().unwrap();
    let (uri, replaces) = match pickup {
        Pickup::Dial => ("sip:**1002@example.test".to_owned(), None),
        Pickup::Replaces => ("sip:1002@example.test".to_owned(), Some(seen().replaces(swapped, early_only))),
        Pickup::CallId => (seen().remote_target.unwrap(), seen().call_id),
    };
    let headers: Vec<(Name, &str)> = replaces.iter().map(|value| (Name::Replaces, value.as_str())).collect();
    let c = office.world.act(carol, |phone| phone.invite(&uri, &headers, true));
    office.world.run_for(second() * 2);
    let what = format!("{}: {pickup:?}, swapped {swapped}, early-only {early_only}", phone.name);
    assert!(office.world.phones[carol].call(c).up, "{what}: {:?}", office.world.phones[carol].call(c).failed);
    assert_talk(&office.world, (alice, a), (carol, c));
    assert!(office.world.phones[bob].call(b).over, "{what}: it rings on");
    if let Some(lamp) = lamp {
        assert_eq!(office.shows(lamp), [""; 0], "{what}");
    }
    assert_nothing_left(&mut office.world);
}

/// Bob parks Alice with this phone; Carol's key lights, and she fetches Alice with the same kind of phone.
fn parks_and_retrieves(phone: &Phone, park: Park, retrieve: Retrieve) {
    let what = format!("{}: {park:?}, {retrieve:?}", phone.name);
    let mut office = office();
    let key = phone.watches.as_ref().map(|watches| match watches.orbit {
        OrbitName::Number => "sip:7001@example.test",
        OrbitName::Parameter => "sip:park@example.test;orbit=7001",
    });
    let lamp = phone.watches.as_ref().zip(key).map(|(watches, key)| office.watch(watches, key));
    let Office { alice, bob, carol, .. } = office;
    let (a, b) = office.world.connect(alice, bob);
    parks(&mut office.world, bob, b, park);
    assert_eq!(office.world.occupants(), [("7001".to_owned(), "parked".to_owned())], "{what}");
    assert!(office.world.phones[alice].call(a).up, "{what}");
    if let Some(lamp) = lamp {
        assert_eq!(office.shows(lamp), ["confirmed <- Alice sip:alice@example.test"], "{what}");
    }
    let replaces = lamp.filter(|_| retrieve == Retrieve::Replaces).map(|lamp| {
        office.world.phones[carol].watches[lamp].lamps.values().next().unwrap().replaces(false, false)
    });
    let headers: Vec<(Name, &str)> = replaces.iter().map(|value| (Name::Replaces, value.as_str())).collect();
    let uri = match retrieve {
        Retrieve::Dial | Retrieve::Replaces => "sip:7001@example.test",
        Retrieve::DialWithParameter => "sip:park@example.test;orbit=7001",
    };
    let c = office.world.act(carol, |phone| phone.invite(uri, &headers, true));
    office.world.run_for(second() * 4);
    assert!(
        office.world.phones[carol].call(c).up,
        "{what}: {:?}",
        office.world.phones[carol].call(c).warning
    );
    assert_talk(&office.world, (alice, a), (carol, c));
    assert!(office.world.phones[bob].calls.iter().all(|call| call.over), "{what}: the parker is free");
    assert!(office.world.occupants().is_empty(), "{what}");
    if let Some(lamp) = lamp {
        assert_eq!(office.shows(lamp), [""; 0], "{what}");
    }
    assert_nothing_left(&mut office.world);
}

fn parks(world: &mut World, bob: usize, b: CallId, park: Park) {
    if park != Park::Blind {
        world.act(bob, |phone| phone.reinvite(b, "sendonly"));
        world.run_for(second());
    }
    match park {
        Park::Blind => world.act(bob, |phone| phone.refer(b, "sip:7001@example.test")),
        Park::BlindWithParameter => {
            world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
        }
        Park::HoldAndDial | Park::Attended => {
            let dialled = world.act(bob, |phone| phone.invite("sip:7001@example.test", &[], true));
            world.run_for(second() * 2);
            if park == Park::HoldAndDial {
                world.act(bob, |phone| phone.hang_up(dialled));
            } else {
                let target = world.phones[bob].replaces_uri("sip:7001@example.test", dialled);
                world.act(bob, |phone| phone.refer(b, &target));
            }
        }
    }
    world.run_for(second() * 4);
}

/// What a document says is over cannot be taken: the lamp was a moment old.
#[test]
fn a_pickup_from_an_old_document_is_refused() {
    let mut office = office();
    let watches = table::POLY.watches.as_ref().unwrap();
    let lamp = office.watch(watches, "sip:1002@example.test");
    let Office { alice, bob, carol, .. } = office;
    let a = office.world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    office.world.run_for(second() * 2);
    let seen = office.world.phones[carol].watches[lamp].lamps.values().next().unwrap().clone();
    let b = office.world.phones[bob].last();
    office.world.act(bob, |phone| phone.answer(b));
    office.world.run_for(second());
    for (replaces, status) in [
        (seen.replaces(false, false), Status::BUSY_HERE),
        (seen.replaces(true, true), Status::BUSY_HERE),
        // Who does not know the tags has not seen who answered: nothing rings with that Call-ID.
        (seen.call_id.clone().unwrap(), Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
        ("nobody@nowhere".to_owned(), Status::CALL_OR_TRANSACTION_DOES_NOT_EXIST),
    ] {
        let headers = [(Name::Replaces, replaces.as_str())];
        let c = office.world.act(carol, |phone| phone.invite("sip:1002@example.test", &headers, true));
        office.world.run_for(second());
        assert_eq!(office.world.phones[carol].call(c).failed, Some(status), "{replaces}");
    }
    assert_talk(&office.world, (alice, a), (bob, b));
}

/// `park;orbit=7001` is an orbit's address, not the lot's, and one that is in no range is nobody's.
#[test]
fn an_orbit_named_by_parameter_is_watched_alone() {
    let mut office = office();
    let watches = table::SNOM.watches.as_ref().unwrap();
    let other = office.watch(watches, "sip:park@example.test;orbit=7002");
    let lot = office.watch(watches, "sip:park@example.test");
    let Office { alice, bob, carol, .. } = office;
    let (_, b) = office.world.connect(alice, bob);
    parks(&mut office.world, bob, b, Park::Blind);
    assert_eq!((office.shows(other).len(), office.shows(lot).len()), (0, 1));
    let uri = "sip:park@example.test;orbit=9999";
    let none = office.world.act(carol, |phone| phone.watch(uri, 3600));
    office.world.run_for(second());
    assert_eq!(office.world.phones[carol].watches[none].status, Some(Status::NOT_FOUND));
}
