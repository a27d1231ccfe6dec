//! Several want one ringing call, in every order: one has it, and each loser is told who won (never dead air).

use super::*;
use crate::harness::{OnRing, Weather};

/// What happens to Alice's call that rings at Bob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// Bob answers.
    Answer,
    /// Alice gives up.
    Cancel,
    /// Carol dials the group's number.
    Carol,
    /// Dave dials Bob's phone.
    Dave,
    /// Bob declines.
    Decline,
}

const ACTS: [Act; 5] = [Act::Answer, Act::Cancel, Act::Carol, Act::Dave, Act::Decline];

/// Every order of two and three of them, with gaps from nothing to more than the network's delay: messages meet before,
/// on and behind each other.
#[test]
fn in_every_order_one_wins_and_the_others_learn_who() {
    let mut ringing = ringing();
    // The call of the beginning is nobody's race.
    ringing.world.act(ringing.alice, |phone| phone.cancel(CallId(0)));
    assert_nothing_left(&mut ringing.world);
    for gap_ms in [0, 1, 10, 15, 20, 21, 30, 45] {
        for first in ACTS {
            for then in ACTS {
                if first == then {
                    continue;
                }
                race(&mut ringing, gap_ms, &[first, then]);
                for last in ACTS {
                    if last != first && last != then {
                        race(&mut ringing, gap_ms, &[first, then, last]);
                    }
                }
            }
        }
    }
}

fn race(ringing: &mut Ringing, gap_ms: u64, order: &[Act]) {
    let story = format!("{order:?} with {gap_ms} ms between them");
    ringing.ring();
    let Ringing { ref mut world, alice, bob, carol, dave, a, b } = *ringing;
    let (mut c, mut d) = (None, None);
    for act in order {
        match act {
            Act::Answer => world.act(bob, |phone| phone.answer(b)),
            Act::Cancel => world.act(alice, |phone| phone.cancel(a)),
            Act::Carol => c = Some(world.act(carol, |phone| phone.invite(GROUP, &[], true))),
            Act::Dave => {
                d = Some(world.act(dave, |phone| phone.invite("sip:**1002@example.test", &[], true)))
            }
            Act::Decline => world.act(bob, |phone| phone.refuse(b, Status::BUSY_HERE)),
        }
        world.run_for(Duration::from_millis(gap_ms));
    }
    world.run_for(second() * 3);
    let mut talkers: Vec<&str> = Vec::new();
    for (phone, call) in [(bob, Some(b)), (carol, c), (dave, d)] {
        let Some(call) = call else { continue };
        let state = world.phones[phone].call(call);
        if state.up {
            talkers.push(&world.phones[phone].name);
        } else if phone != bob && state.dialog.is_none() {
            // Whoever lost was told how: by a final answer with words.
            assert!(state.failed.is_some(), "{story}: {} hears nothing", world.phones[phone].name);
            let (status, warning) = (state.failed.unwrap(), state.warning.clone().unwrap_or_default());
            assert_eq!(status, Status::BUSY_HERE, "{story}: {warning}");
            let winner = ["taken by", "answered by", "the caller hung up", "stopped ringing"];
            assert!(winner.iter().any(|words| warning.contains(words)), "{story}: {warning}");
        }
    }
    let caller = world.phones[alice].call(a);
    assert!(talkers.len() <= 1, "{story}: {talkers:?} all talk");
    assert_eq!(caller.up, talkers.len() == 1, "{story}: {talkers:?}, Alice: {:?}", caller.failed);
    if let [winner] = talkers.as_slice() {
        let winner = world.phones.iter().position(|phone| phone.name == **winner).unwrap();
        let call = [(bob, Some(b)), (carol, c), (dave, d)].into_iter().find(|(phone, _)| *phone == winner);
        assert_talk(world, (alice, a), (winner, call.unwrap().1.unwrap()));
    }
    assert_nothing_left(world);
}

/// The forward on no answer falls due while Carol's INVITE is on its way: before it she wins, after it she is told.
#[test]
fn pickup_against_forward_on_no_answer() {
    let users = vec![
        ("bob", "pickup_group = \"*101\"\nforward_no_answer = \"1004\"\nno_answer_after = \"10s\""),
        ("carol", MEMBER),
    ];
    let mut ringing = ringing_in(WorldOptions { users, ..WorldOptions::default() });
    ringing.world.act(ringing.alice, |phone| phone.cancel(CallId(0)));
    assert_nothing_left(&mut ringing.world);
    let mut forwarded = 0;
    for offset_ms in [-40_i64, -31, -30, -29, -21, -20, -11, -10, -9, -1, 0, 1, 10, 25] {
        ringing.ring();
        let Ringing { ref mut world, alice, bob, carol, dave, a, b } = ringing;
        world.phones[dave].on_ring = OnRing::AnswerAfter(second());
        // Alice's INVITE began to ring at Bob 30 ms after she dialled, a second ago: her first was challenged.
        let until = Duration::from_millis(u64::try_from(9_030 + offset_ms).unwrap());
        world.run_for(until);
        let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
        world.run_for(second() * 4);
        assert!(world.phones[bob].call(b).over);
        let caller = world.phones[alice].call(a);
        assert!(caller.up, "{offset_ms}: {:?}", caller.failed);
        if world.phones[carol].call(c).up {
            assert_talk(world, (alice, a), (carol, c));
            assert_eq!(world.phones[dave].calls.len(), forwarded, "{offset_ms}");
        } else {
            forwarded += 1;
            let d = world.phones[dave].last();
            assert_talk(world, (alice, a), (dave, d));
            assert_refused(world, carol, c, Status::BUSY_HERE, &["35101", "forwarded to Dave"]);
        }
        assert_nothing_left(world);
    }
    assert!((1..14).contains(&forwarded), "both have won: {forwarded}");
}

/// A ring-back of a parked call rings at Bob: he answers, Carol picks it up, Dave retrieves it, Alice hangs up.
#[test]
fn pickup_against_ring_back_and_retrieve() {
    let mut world = World::with(office_with("pick_recalling = true, pick_parked = true"));
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    for gap_ms in [0, 5, 10, 15, 20, 25, 30, 40, 60, 100] {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            for phone in [alice, bob, carol, dave] {
                world.act(phone, |phone| phone.register(3600));
            }
            world.run_for(second());
            let (a, b) = world.connect(alice, bob);
            world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
            world.run_for(second() * 95);
            let b = world.phones[bob].last();
            let (mut c, mut d) = (CallId(0), CallId(0));
            for act in order {
                match act {
                    0 => world.act(bob, |phone| phone.answer(b)),
                    1 => c = world.act(carol, |phone| phone.invite("sip:**1002@example.test", &[], true)),
                    _ => d = world.act(dave, |phone| phone.invite("sip:7001@example.test", &[], true)),
                }
                world.run_for(Duration::from_millis(gap_ms));
            }
            world.run_for(second() * 3);
            let story = format!("{order:?} with {gap_ms} ms between them");
            let talk: Vec<(usize, CallId)> = [(bob, b), (carol, c), (dave, d)]
                .into_iter()
                .filter(|(phone, call)| world.phones[*phone].call(*call).up)
                .collect();
            let [winner] = talk.as_slice() else { panic!("{story}: {talk:?}") };
            assert_talk(&world, (alice, a), *winner);
            for (phone, call) in [(carol, c), (dave, d)] {
                let lost = world.phones[phone].call(call);
                if !lost.up {
                    assert_eq!(lost.failed, Some(Status::BUSY_HERE), "{story}: {:?}", lost.warning);
                }
            }
            assert!(world.occupants().is_empty() && world.streams.is_empty(), "{story}");
            assert_nothing_left(&mut world);
        }
    }
}

/// One message in eight is lost: whoever dials, Alice talks to exactly one of them, and nothing is left behind.
#[test]
fn pickups_survive_a_lossy_network() {
    for seed in 0..24 {
        let mut ringing = ringing_in(WorldOptions { seed, ..office() });
        let Ringing { ref mut world, alice, bob, carol, dave, a, b } = ringing;
        world.network.weather = Weather::losing(125);
        let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
        let d = world.act(dave, |phone| phone.invite("sip:**1002@example.test", &[], true));
        world.run_for(second() * 40);
        world.network.weather = Weather::FAIR;
        world.run_for(second() * 40);
        let talk: Vec<(usize, CallId)> = [(bob, b), (carol, c), (dave, d)]
            .into_iter()
            .filter(|(phone, call)| world.phones[*phone].call(*call).up)
            .collect();
        let [winner] = talk.as_slice() else { panic!("seed {seed}: {talk:?}") };
        assert_talk(world, (alice, a), *winner);
        for (phone, call) in [(carol, c), (dave, d)] {
            let call = world.phones[phone].call(call);
            assert!(call.up || call.failed == Some(Status::BUSY_HERE), "seed {seed}: {:?}", call.failed);
        }
        assert!(world.phones[bob].call(b).over, "seed {seed}");
        assert_nothing_left(world);
    }
}
