//! Whoever notices a ringing phone dials its group's number.

use expect_test::expect;
use switchyard_host::sip::Name;

use super::*;
use crate::harness::OnRing;

/// GCP-01: Alice's call rings at Bob; Carol dials the group's number and talks to her (RFC 5359 §2.16).
#[test]
fn a_ringing_call_is_picked_up_by_a_member_of_the_group() {
    let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
    world.start_ladder();
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second() * 2);
    expect![[r#"
        +0.000  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.010  host  -> carol  401 Unauthorized
        +0.020  carol -> host   ACK
        +0.020  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.030  host  -> bob    CANCEL sip:bob@10.0.0.2:5060 (SIP;cause=200;text="Call completed elsewhere")
        +0.030  host  -> alice  200 OK (sdp)
        +0.030  host  -> carol  200 OK (sdp)
        +0.030  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.040  bob   -> host   200 OK
        +0.040  bob   -> host   487 Request Terminated
        +0.040  alice -> host   ACK
        +0.040  carol -> host   ACK
        +0.040  bob   -> host   200 OK
        +0.050  host  -> bob    ACK sip:bob@10.0.0.2:5060
    "#]]
    .assert_eq(&world.ladder());
    assert_talk(&world, (alice, a), (carol, c));
    assert!(world.phones[bob].call(b).over);
    assert_eq!(world.phones[bob].messages, ["Carol took the call of Alice"], "GCP-06");
    assert!(world.streams.is_empty(), "no blip of music (GCP-16)");
    let caller = world.phones[carol].call(c).identity.clone().unwrap();
    assert!(caller.contains("Alice"), "{caller}");
    let picker = world.phones[alice].call(a).identity.clone().unwrap();
    assert!(picker.contains("Carol"), "{picker}");
    let taken = world.told("pickup.taken");
    let [taken] = taken.as_slice() else { panic!("{taken:?}") };
    assert_eq!((&taken.detail["number"], &taken.detail["by"]), (&"*101".into(), &"Carol".into()));
    assert_eq!(taken.detail["callee"], "sip:bob@example.test", "lesson 18");
    assert_nothing_left(&mut world);
}

/// GCP-02, GCP-19: membership protects the callee, not the picker: Dave is in no group and picks up all the same.
#[test]
fn who_is_in_no_group_picks_up_too() {
    let Ringing { mut world, alice, dave, a, .. } = ringing();
    let d = world.act(dave, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (dave, d));
}

/// Lesson 19: an empty list matches nobody, and the refusal is told and noted.
#[test]
fn an_empty_list_of_pickers_means_nobody() {
    let Ringing { mut world, carol, bob, b, .. } = ringing_in(office_with("pickers = {}"));
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::FORBIDDEN, &["35103", "Carol may not pick up calls to Bob"]);
    assert!(!world.phones[bob].call(b).over, "Bob's phone rings on");
    let refused = world.told("feature.refused");
    assert_eq!((refused.len(), refused[0].code), (1, Some(35103)));
}

#[test]
fn a_list_names_groups_and_users() {
    for (pickers, carol_may, dave_may) in [
        (r#"{ "group" }"#, true, false),
        (r#"{ "*101" }"#, true, false),
        (r#"{ "dave" }"#, false, true),
        (r#"{ "1004", "group" }"#, true, true),
    ] {
        for (picker, may) in [("carol", carol_may), ("dave", dave_may)] {
            let Ringing { mut world, carol, dave, .. } =
                ringing_in(office_with(&format!("pickers = {pickers}")));
            let phone = if picker == "carol" { carol } else { dave };
            let call = world.act(phone, |phone| phone.invite(GROUP, &[], true));
            world.run_for(second());
            assert_eq!(world.phones[phone].call(call).up, may, "{picker} by {pickers}");
        }
    }
}

/// A hook of the policy has the last word, and its reason is what the phone shows.
#[test]
fn a_hook_denies_with_its_own_words() {
    let settings = r#"allow = function(request)
      if request.picker.user == "dave" then return deny("not from the workshop") end
    end"#;
    let Ringing { mut world, dave, .. } = ringing_in(office_with(settings));
    let d = world.act(dave, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_refused(&world, dave, d, Status::FORBIDDEN, &["not from the workshop"]);
}

/// GCP-02: Dave is in no group, so nobody takes his calls.
#[test]
fn calls_to_who_is_in_no_group_are_protected() {
    let mut world = World::with(office());
    let [alice, carol, _dave] = world.phones(["alice", "carol", "dave"]);
    world.act(alice, |phone| phone.invite("sip:1004@example.test", &[], true));
    world.run_for(second());
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    let directed = world.act(carol, |phone| phone.invite("sip:**1004@example.test", &[], true));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::NOT_FOUND, &["35109", "nothing rings at *101"]);
    assert_refused(&world, carol, directed, Status::FORBIDDEN, &["calls to Dave are not picked up here"]);
}

/// GCP-05: of several calls the one that has been ringing longest is taken, then the next.
#[test]
fn the_call_that_rings_longest_is_taken_first() {
    let Ringing { mut world, alice, bob, dave, a, .. } = ringing();
    let carol = world.add_phone("carol");
    world.act(carol, |phone| phone.register(3600));
    world.run_for(second());
    let second_call = world.act(dave, |phone| phone.invite("sip:1003@example.test", &[], true));
    world.run_for(second());
    let (first, then) = (
        world.act(carol, |phone| phone.invite(GROUP, &[], true)),
        world.act(bob, |phone| phone.invite(GROUP, &[], true)),
    );
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, first));
    assert_talk(&world, (dave, second_call), (bob, then));
}

/// GCP-09: a private line is never picked up, by the group or at the phone.
#[test]
fn a_private_line_is_not_picked_up() {
    let member = "pickup_group = \"*101\"\nprivate_number = \"1092\"";
    let mut world = World::with(WorldOptions { users: vec![("bob", member)], ..WorldOptions::default() });
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    world.act(alice, |phone| phone.invite("sip:1092@example.test", &[], true));
    world.run_for(second());
    assert_eq!(world.phones[bob].calls.len(), 1, "it rings at Bob");
    for number in ["*101", "**1002"] {
        let uri = format!("sip:{number}@example.test");
        let c = world.act(carol, |phone| phone.invite(&uri, &[], true));
        world.run_for(second());
        assert_refused(&world, carol, c, Status::FORBIDDEN, &["private line"]);
    }
}

/// GCP-09: callers the callee has excluded, team calls and calls that ring at delegates.
#[test]
fn excluded_callers_team_calls_and_delegates_are_not_picked_up_unless_the_policy_says_so() {
    for (rule, words, setting) in [
        ("not_pickable_from = [\"alice\"]", "excluded this caller", None),
        ("not_pickable_from = [\"1001\"]", "excluded this caller", None),
        ("team = [\"dave\"]", "team calls", Some("team_calls = true")),
        ("delegates = [\"dave\"]", "delegates", Some("delegated_calls = true")),
    ] {
        let keys: &'static str = Box::leak(format!("{MEMBER}\n{rule}").into_boxed_str());
        let users = || vec![("bob", keys)];
        let Ringing { mut world, carol, .. } = ringing_in(WorldOptions { users: users(), ..office() });
        let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
        world.run_for(second());
        assert_refused(&world, carol, c, Status::FORBIDDEN, &[words]);
        if let Some(setting) = setting {
            let Ringing { mut world, alice, carol, a, .. } =
                ringing_in(WorldOptions { users: users(), ..office_with(setting) });
            let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
            world.run_for(second());
            assert_talk(&world, (alice, a), (carol, c));
        }
    }
}

/// GCP-08: all phones that ring along stop ringing, as answered elsewhere; nobody gets a missed call (lesson 17).
#[test]
fn every_phone_that_rang_along_is_told_that_it_was_answered_elsewhere() {
    let users = vec![("bob", "pickup_group = \"*101\"\nalso_ring = [\"1004\"]"), ("carol", MEMBER)];
    let mut world = World::with(WorldOptions { users, ..WorldOptions::default() });
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let bob2 = world.add_phone("bob");
    world.act(bob2, |phone| phone.register(3600));
    world.run_for(second());
    let a = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], true));
    world.run_for(second());
    for phone in [bob, bob2, dave] {
        assert_eq!(world.phones[phone].calls.len(), 1, "{} rings", world.phones[phone].name);
    }
    world.start_ladder();
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, c));
    let ladder = world.ladder();
    let cancels: Vec<&str> = ladder.lines().filter(|line| line.contains("CANCEL")).collect();
    assert_eq!(cancels.len(), 3, "{ladder}");
    assert!(
        cancels.iter().all(|line| line.contains("SIP;cause=200;text=\"Call completed elsewhere\"")),
        "{ladder}"
    );
    assert_nothing_left(&mut world);
}

/// The per-pool switch of lesson 17: phones of the callee list a missed call all the same.
#[test]
fn phones_list_a_missed_call_where_the_policy_wants_it() {
    let Ringing { mut world, carol, .. } =
        ringing_in(office_with("missed_calls = true, tell_callee = false"));
    world.start_ladder();
    world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    let ladder = world.ladder();
    assert!(ladder.contains("CANCEL") && !ladder.contains("completed elsewhere"), "{ladder}");
    assert!(!ladder.contains("MESSAGE"), "{ladder}");
}

/// GCP-07: nobody picks up, and the callee's own rule applies.
#[test]
fn a_call_nobody_picks_up_follows_the_callees_own_rule() {
    let users =
        vec![("bob", "pickup_group = \"*101\"\nforward_no_answer = \"1004\"\nno_answer_after = \"10s\"")];
    let Ringing { mut world, alice, bob, dave, a, b, .. } =
        ringing_in(WorldOptions { users, ..WorldOptions::default() });
    world.phones[dave].on_ring = OnRing::AnswerAfter(second());
    world.run_for(second() * 12);
    assert!(world.phones[bob].call(b).over);
    let d = world.phones[dave].last();
    assert_talk(&world, (alice, a), (dave, d));
    assert_nothing_left(&mut world);
}

/// No codec in common: the picker is told, and the phone rings on (design.md §3).
#[test]
fn without_a_common_codec_the_phone_rings_on() {
    let Ringing { mut world, alice, bob, carol, a, b, .. } = ringing();
    world.phones[carol].codecs = "18";
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::NOT_ACCEPTABLE_HERE, &["35106"]);
    assert!(!world.phones[bob].call(b).over);
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    assert_talk(&world, (alice, a), (bob, b));
}

/// Lesson 20: early media that Bob's phone sends, answered and its PRACK under way, does not bind the caller: the 200 of a
/// pickup has a To tag of its own.
#[test]
fn early_media_of_the_ringing_phone_does_not_bind_the_caller() {
    let mut world = World::with(office());
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    world.phones[bob].early_media = true;
    // Alice's PRACK is on its way at 45 ms, acknowledged at 55 ms; before, and after.
    for pause in [35, 45, 500] {
        let a = world.act(alice, |phone| {
            phone.invite("sip:1002@example.test", &[(Name::Supported, "100rel, replaces")], true)
        });
        world.run_for(std::time::Duration::from_millis(pause));
        let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
        world.run_for(second() * 2);
        assert_talk(&world, (alice, a), (carol, c));
        let call = world.phones[alice].call(a);
        let tag = call.dialog.as_ref().unwrap().remote_tag.clone();
        assert!(!call.early_tags.contains(&tag), "{tag} was Bob's");
        world.act(alice, |phone| phone.hang_up(a));
        world.run_for(second() * 40);
    }
    assert_nothing_left(&mut world);
}

/// A caller whose INVITE has no offer, as some gateways send it, gets the picker's in its 200 and answers in its ACK.
#[test]
fn a_caller_without_an_offer_is_picked_up() {
    let mut world = World::with(office());
    let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
    let a = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], false));
    world.run_for(second());
    world.start_ladder();
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second() * 2);
    expect![[r#"
        +0.000  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.010  host  -> carol  401 Unauthorized
        +0.020  carol -> host   ACK
        +0.020  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.030  host  -> carol  100 Trying
        +0.030  host  -> bob    CANCEL sip:bob@10.0.0.2:5060 (SIP;cause=200;text="Call completed elsewhere")
        +0.030  host  -> alice  200 OK (sdp)
        +0.040  bob   -> host   200 OK
        +0.040  bob   -> host   487 Request Terminated
        +0.040  alice -> host   ACK (sdp)
        +0.050  host  -> bob    ACK sip:bob@10.0.0.2:5060
        +0.050  host  -> carol  200 OK (sdp)
        +0.050  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.060  carol -> host   ACK
        +0.060  bob   -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert_talk(&world, (alice, a), (carol, c));
    assert!(world.phones[bob].calls.iter().all(|call| call.over));
    assert_eq!(world.told("pickup.taken").len(), 1);
    assert_nothing_left(&mut world);
}

/// The picker gives up in the middle of it: the caller, answered already, rings at the callee once more.
#[test]
fn a_picker_who_leaves_in_the_middle_gives_the_callee_back() {
    for late_ms in [19, 21, 25, 29, 31, 35, 39, 41, 45, 60] {
        let mut world = World::with(office());
        let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
        let a = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], false));
        world.run_for(second());
        let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
        world.run_for(Duration::from_millis(late_ms));
        world.act(carol, |phone| phone.cancel(c));
        world.run_for(second() * 2);
        if world.phones[carol].call(c).up {
            assert_talk(&world, (alice, a), (carol, c));
        } else {
            let b = world.phones[bob].last();
            assert!(!world.phones[bob].call(b).over, "{late_ms}: nobody rings for Alice");
            world.act(bob, |phone| phone.answer(b));
            world.run_for(second());
            assert_talk(&world, (alice, a), (bob, b));
        }
        assert_nothing_left(&mut world);
    }
}

/// Once more in the middle of the second try: whoever leaves, the caller is never alone with nobody ringing. At last the
/// host gives up, and says so.
#[test]
fn a_caller_whom_picker_after_picker_leaves_is_not_stranded() {
    for late_ms in [21, 31, 35] {
        for tries in [2, 12] {
            let mut world = World::with(office());
            let [alice, bob, carol] = world.phones(["alice", "bob", "carol"]);
            let a = world.act(alice, |phone| phone.invite("sip:1002@example.test", &[], false));
            world.run_for(second());
            for _ in 0..tries {
                let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
                world.run_for(Duration::from_millis(late_ms));
                world.act(carol, |phone| phone.cancel(c));
                world.run_for(second());
                assert!(!world.phones[carol].call(c).up, "{late_ms}");
            }
            let caller = world.phones[alice].call(a);
            let rings = !world.phones[bob].call(world.phones[bob].last()).over;
            assert!(rings || caller.over, "{late_ms} ms, {tries} times: Alice is alone");
            assert_eq!(rings, tries == 2, "{late_ms} ms, {tries} times");
            if rings {
                let b = world.phones[bob].last();
                world.act(bob, |phone| phone.answer(b));
                world.run_for(second());
                assert_talk(&world, (alice, a), (bob, b));
            }
            assert_nothing_left(&mut world);
        }
    }
}

/// A picker without an offer has nothing to compare: it is told so, and the phone rings on.
#[test]
fn a_picker_without_an_offer_is_refused() {
    let Ringing { mut world, bob, carol, b, .. } = ringing();
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], false));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::NOT_ACCEPTABLE_HERE, &["35106"]);
    assert!(!world.phones[bob].call(b).over);
}

/// A caller through a trunk that hides forks sees one dialog, and gets the picker's answer in it.
#[test]
fn a_call_from_a_trunk_with_hidden_forks_is_picked_up() {
    let config =
        "[[trunks]]\nname = \"pstn\"\npeers = [\"10.0.0.3\"]\nto = \"sip:10.0.0.3\"\nforks = \"hidden\"\n";
    let mut world = World::with(WorldOptions { config: config.to_owned(), ..office() });
    let [bob, carol] = world.phones(["bob", "carol"]);
    let gateway = world.add_phone("gateway");
    world.phones[bob].early_media = true;
    let g = world
        .act(gateway, |phone| phone.invite("sip:1002@example.test", &[(Name::Supported, "100rel")], true));
    world.run_for(second());
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_talk(&world, (gateway, g), (carol, c));
    assert_eq!(world.phones[gateway].call(g).early_tags.len(), 1);
    // From outside nobody picks up (GCP-12).
    let outside = world.act(gateway, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_refused(&world, gateway, outside, Status::FORBIDDEN, &["35003"]);
}

/// Lesson 20: a call that was transferred to Bob rings there like any other.
#[test]
fn a_transferred_call_is_picked_up_while_it_rings() {
    let mut world = World::with(office());
    let [alice, bob, carol, dave] = world.phones(["alice", "bob", "carol", "dave"]);
    let (a, d) = world.connect(alice, dave);
    world.act(dave, |phone| phone.refer(d, "sip:1002@example.test"));
    world.run_for(second());
    let b = world.phones[bob].last();
    world.start_ladder();
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second() * 3);
    expect![[r#"
        +0.000  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.010  host  -> carol  401 Unauthorized
        +0.020  carol -> host   ACK
        +0.020  carol -> host   INVITE sip:*101@example.test (sdp)
        +0.030  host  -> carol  100 Trying
        +0.030  host  -> bob    CANCEL sip:bob@10.0.0.2:5060 (SIP;cause=200;text="Call completed elsewhere")
        +0.030  host  -> alice  INVITE (sdp)
        +0.040  bob   -> host   200 OK
        +0.040  bob   -> host   487 Request Terminated
        +0.040  alice -> host   200 OK (sdp)
        +0.050  host  -> bob    ACK sip:bob@10.0.0.2:5060
        +0.050  host  -> alice  ACK
        +0.050  host  -> carol  200 OK (sdp)
        +0.050  host  -> dave   NOTIFY SIP/2.0 200 OK
        +0.050  host  -> bob    MESSAGE sip:bob@10.0.0.2:5060
        +0.060  carol -> host   ACK
        +0.060  dave  -> host   200 OK
        +0.060  bob   -> host   200 OK
        +2.050  host  -> dave   BYE (SIP;cause=200;text="Transfer completed")
        +2.060  dave  -> host   200 OK
    "#]]
    .assert_eq(&world.ladder());
    assert_talk(&world, (alice, a), (carol, c));
    assert!(world.phones[bob].call(b).over && world.phones[dave].call(d).over);
    assert!(world.phones[dave].call(d).notified.last().unwrap().contains("200"));
    assert_nothing_left(&mut world);
}

/// A user has one group by default; further ones count where the policy allows them (GCP-03, OP-11).
#[test]
fn further_groups_count_where_the_policy_allows_them() {
    let users = || vec![("bob", "pickup_group = [\"*101\", \"*102\"]")];
    let other = "sip:*102@example.test";
    let Ringing { mut world, carol, .. } = ringing_in(WorldOptions { users: users(), ..office() });
    let c = world.act(carol, |phone| phone.invite(other, &[], true));
    world.run_for(second());
    assert_refused(&world, carol, c, Status::FORBIDDEN, &["calls to Bob are not picked up here"]);
    let options = WorldOptions { users: users(), ..office_with("groups_max = 2") };
    let Ringing { mut world, alice, carol, a, .. } = ringing_in(options);
    let c = world.act(carol, |phone| phone.invite(other, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, c));
}

/// Optional notice: after a while the other members are told who calls whom and what to dial, for a limited time.
#[test]
fn members_are_told_of_a_call_that_nobody_answers() {
    let Ringing { mut world, bob, carol, dave, .. } =
        ringing_in(office_with("notify_after = \"6s\", notify_for = \"15s\""));
    world.start_ladder();
    world.run_for(second() * 4);
    assert!(world.phones[carol].messages.is_empty(), "not yet");
    world.run_for(second() * 2);
    assert_eq!(world.phones[carol].messages, ["Alice calls Bob: dial *101"]);
    assert!(world.phones[bob].messages.is_empty() && world.phones[dave].messages.is_empty());
    assert_nothing_left_after_hang_up(world);
}

#[test]
fn nobody_is_told_of_a_call_that_was_answered_in_time() {
    let Ringing { mut world, bob, carol, b, .. } = ringing_in(office_with("notify_after = \"6s\""));
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second() * 10);
    assert!(world.phones[carol].messages.is_empty());
    assert_nothing_left(&mut world);
}

#[track_caller]
fn assert_nothing_left_after_hang_up(mut world: World) {
    world.act(0, |phone| phone.cancel(CallId(0)));
    assert_nothing_left(&mut world);
}

/// A call that rings when the host begins to drain is somebody's, and may be taken.
#[test]
fn ringing_calls_can_be_picked_up_while_the_host_drains() {
    let Ringing { mut world, alice, carol, a, .. } = ringing();
    world.host_gets(switchyard_host::engine::Input::Drain);
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, c));
}

/// Without the other plugin's library each feature is what it was.
#[test]
fn each_plugin_works_without_the_others_library() {
    let Ringing { mut world, alice, carol, a, .. } =
        ringing_in(WorldOptions { plugins: &["group_pickup"], ..office() });
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, c));

    let Ringing { mut world, alice, bob, carol, a, b, .. } =
        ringing_in(WorldOptions { plugins: &["call_park"], ..office() });
    let c = world.act(carol, |phone| phone.invite(GROUP, &[], true));
    world.run_for(second());
    assert_eq!(world.phones[carol].call(c).failed, Some(Status::NOT_FOUND));
    world.act(bob, |phone| phone.answer(b));
    world.run_for(second());
    world.act(bob, |phone| phone.refer(b, "sip:park@example.test;orbit=7001"));
    world.run_for(second() * 3);
    let c = world.act(carol, |phone| phone.invite("sip:7001@example.test", &[], true));
    world.run_for(second());
    assert_talk(&world, (alice, a), (carol, c));
}
