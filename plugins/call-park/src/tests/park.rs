//! Two-phase park: reserve, play, commit, tell.

use super::*;

#[test]
fn a_park_is_told_only_after_its_record_is_stored() {
    let mut host = host();
    host.offer(transferred());

    let reserve = host.expect_reserve();
    host.expect_nothing();
    assert_eq!(
        *reserve,
        Reserve {
            pool: "east".to_owned(),
            number: None,
            choice: Choice::Random,
            reuse_cooldown_ms: 30_000,
            leg: Some(ALICE),
            parked: alice(),
            parker: bob(),
        }
    );
    host.answer(&reserve, reserved());

    let play = host.expect_play();
    host.expect_nothing();
    assert_eq!(
        (play.leg, &play.play),
        (ALICE, &Play { music: Music::Default, say_number: None }),
        "the caller hears music, the parker's leg is left alone"
    );
    host.answer(&play, Played { audible: true });

    let commit = host.expect_commit();
    host.expect_nothing();
    host.answer(&commit, ());

    assert_eq!(
        host.expect_accept(),
        Accept {
            number: Some(PARKED.to_owned()),
            token: Some(TOKEN.to_owned()),
            text: Some("Parked on 7001".to_owned()),
        }
    );
    host.expect_nothing();
    assert_eq!((host.flows(), host.counter("parks"), host.counter("parks_refused")), (1, 1, 0));
}

/// The ring-back timer starts when the park completes, not when it was asked (SIP-03).
#[test]
fn the_wait_begins_when_the_park_completes() {
    let mut host = host();
    host.offer(transferred());
    let reserve = host.expect_reserve();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    host.advance(seconds(3));
    host.answer(&play, Played { audible: true });
    let commit = host.expect_commit();
    assert_eq!(
        *commit,
        Commit {
            number: PARKED.to_owned(),
            terms: Terms {
                parked_at_ms: host.now().0,
                deadline_ms: (host.now() + seconds(90)).0,
                on_timeout_uri: None,
                music: Music::Default,
            },
            state: json!({ "v": 1, "attempts": 0 }),
        }
    );
    host.answer(&commit, ());
    host.expect_accept();
    assert_eq!(host.next_timer(), Some(host.now() + seconds(90)));
}

#[test]
fn a_directed_park_asks_for_its_orbit() {
    let mut host = host();
    host.offer(Offer { number: Some(PARKED.to_owned()), ..transferred() });
    assert_eq!(host.expect_reserve().number.as_deref(), Some(PARKED));
}

/// The administrator parks somebody's call: the same order, told in the same words.
#[test]
fn an_administrators_park_is_a_park() {
    let mut host = host();
    host.offer(Offer { how: How::Admin, ..transferred() });
    let commit = up_to_commit(&mut host);
    host.answer(&commit, ());
    assert_eq!(host.expect_accept().number.as_deref(), Some(PARKED));
    host.expect_nothing();
}

#[test]
fn settings_of_the_pool_reach_the_reservation_and_the_record() {
    let mut host = host();
    host.set("call_park.reuse_cooldown", 0);
    host.set_in("east", "call_park.orbit_choice", "least_recent");
    host.set_in("east", "call_park.pickup_timeout", 20_000);
    host.set_in("east", "call_park.on_timeout_uri", "sip:desk@example.test");
    host.set_in("east", "call_park.music_on_hold", Music::File("east.wav".to_owned()));
    host.set_in("west", "call_park.pickup_timeout", 600_000);
    host.offer(transferred());
    let reserve = host.expect_reserve();
    assert_eq!((reserve.choice, reserve.reuse_cooldown_ms), (Choice::LeastRecent, 0));
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    assert_eq!(play.play.music, Music::File("east.wav".to_owned()));
    host.answer(&play, Played { audible: true });
    let terms = host.expect_commit().request.terms;
    assert_eq!(terms.deadline_ms - terms.parked_at_ms, 20_000);
    assert_eq!(terms.on_timeout_uri.as_deref(), Some("sip:desk@example.test"));
    assert_eq!(terms.music, Music::File("east.wav".to_owned()));
}

// ---- what is refused leaves nothing -------------------------------------------------------------------------

/// CP-14, CP-20, CP-22 and lesson 3: the orbit service's own words reach the parker.
#[test]
fn a_refused_reservation_leaves_everybody_where_they_were() {
    for (code, text) in [
        (Code::FULL, "all 100 orbits of pool east are taken"),
        (Code::OCCUPIED, "a call waits in 7001 already"),
        (Code::DOUBLE_PARK, "this call is parked on 7002 already"),
        (Code::DRAINING, "this host takes no new parked calls"),
    ] {
        let mut host = host();
        host.offer(transferred());
        let reserve = host.expect_reserve();
        host.refuse(&reserve, code, text);
        expect_refused(&mut host, code, text);
        assert_eq!((host.counter("parks"), host.counter("parks_refused")), (0, 1));
    }
}

#[test]
fn a_caller_who_cannot_be_taken_over_stays_with_the_parker() {
    let mut host = host();
    host.offer(transferred());
    let reserve = host.expect_reserve();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    host.refuse_with(&play, Code::GENERAL, "the phone said 500", 500);
    expect_refused(&mut host, Code::GENERAL, "the phone said 500");
}

#[test]
fn a_park_that_is_not_stored_is_none() {
    let mut host = host();
    host.offer(transferred());
    let commit = up_to_commit(&mut host);
    host.refuse(&commit, Code::STORE_AWAY, "the store does not answer");
    expect_refused(&mut host, Code::STORE_AWAY, "the store does not answer");
}

#[test]
fn a_phone_that_refuses_the_music_is_parked_in_silence() {
    // Silence is worth a word only if it was not asked for.
    for (music, lines) in [(Music::Default, 1), (Music::Off, 0)] {
        let mut host = host();
        host.set("call_park.music_on_hold", &music);
        host.offer(transferred());
        let reserve = host.expect_reserve();
        host.answer(&reserve, reserved());
        let play = host.expect_play();
        assert_eq!(play.play.music, music);
        host.answer(&play, Played { audible: false });
        let commit = host.expect_commit();
        host.answer(&commit, ());
        host.expect_accept();
        assert_eq!(host.log().len(), lines, "{:?}", host.log());
    }
}

// ---- hang-up ------------------------------------------------------------------------------------------------

#[test]
fn a_caller_who_hangs_up_during_the_reservation_is_not_parked() {
    let mut host = host();
    host.offer(transferred());
    let reserve = host.expect_reserve();
    host.hang_up(ALICE);
    host.expect_nothing();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    assert!(host.is_withdrawn(&play));
    expect_refused(&mut host, Code::LEG_GONE, "the caller hung up");
}

#[test]
fn a_caller_who_hangs_up_while_the_music_begins_is_not_parked() {
    let mut host = host();
    host.offer(transferred());
    let reserve = host.expect_reserve();
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    host.hang_up(ALICE);
    assert!(host.is_withdrawn(&play));
    expect_refused(&mut host, Code::LEG_GONE, "the caller hung up");
}

/// The host frees the orbit of a leg that ended; the commit says which came first.
#[test]
fn a_caller_who_hangs_up_during_the_commit_ends_the_flow_either_way() {
    for stored in [false, true] {
        let mut host = host();
        host.offer(transferred());
        let commit = up_to_commit(&mut host);
        host.hang_up(ALICE);
        host.expect_nothing();
        if stored {
            host.answer(&commit, ());
            host.expect_accept();
            expect_over(&mut host);
        } else {
            let gone = "7001 is no longer reserved for this call";
            host.refuse(&commit, Code::LEG_GONE, gone);
            expect_refused(&mut host, Code::LEG_GONE, gone);
        }
    }
}

/// BYE from the parker while his park is pending ends his leg only: the caller stays, the park goes on.
#[test]
fn a_parker_who_hangs_up_does_not_stop_his_park() {
    let mut host = host();
    host.offer(transferred());
    host.hang_up(BOB);
    let commit = up_to_commit(&mut host);
    host.answer(&commit, ());
    assert_eq!(host.expect_accept().number.as_deref(), Some(PARKED));
    host.expect_nothing();
}

/// The host ends the flow before it is over, for instance on shutdown: it owns the reservation.
#[test]
fn a_cancelled_park_says_nothing_more() {
    let mut host = host();
    let flow = host.offer(transferred());
    host.expect_reserve();
    host.cancel_flow(flow);
    assert_eq!(host.expect_end().0, switchyard_sdk::testing::FlowEnd::Cancelled);
    host.expect_nothing();
}

// ---- who may ------------------------------------------------------------------------------------------------

#[test]
fn nobody_from_outside_parks() {
    for caller in [Party { outside: true, ..bob() }, Party { user: None, ..bob() }] {
        let mut host = host();
        host.offer(Offer { caller, ..transferred() });
        expect_refused(&mut host, Code::OUTSIDE, "only users of this deployment can park");
        assert!(host.decisions_asked().is_empty(), "a policy can refuse, not grant");
    }
}

/// POL-01: the user's own right.
#[test]
fn a_user_without_the_right_does_not_park() {
    let mut host = host();
    host.offer(Offer { caller: Party { may_park: false, ..bob() }, ..transferred() });
    expect_refused(&mut host, Code::NOT_ALLOWED, "Bob may not park calls");
    assert!(host.decisions_asked().is_empty());
}

#[test]
fn the_policy_refuses_in_its_own_words() {
    let mut host = host();
    host.deny("call_park.allow", "emergency calls stay with a person");
    host.offer(transferred());
    expect_refused(&mut host, Code::NOT_ALLOWED, "emergency calls stay with a person");
}

#[test]
fn a_policy_without_words_is_spoken_for() {
    let mut host = host();
    host.set_decision("call_park.allow", Decision { allowed: false, ..Decision::default() });
    host.offer(transferred());
    expect_refused(&mut host, Code::NOT_ALLOWED, "not allowed by policy");
}

#[test]
fn the_policy_is_told_who_parks_whom_where_and_how() {
    let mut host = host();
    host.offer(Offer { number: Some(PARKED.to_owned()), ..transferred() });
    let asked = json!({
        "parker": bob(), "parked": alice(), "number": "7001", "how": "refer", "pool": "east",
    });
    assert_eq!(host.decisions_asked(), [("call_park.allow".to_owned(), asked)]);
}

#[test]
fn a_decisions_settings_hold_for_the_park() {
    let mut host = host();
    host.set("call_park.on_timeout_uri", "sip:desk@example.test");
    let settings = json!({
        "pickup_timeout": 45_000, "orbit_choice": "lowest", "reuse_cooldown": 1, "music_on_hold": "off",
        "say_orbit": false,
    });
    host.set_decision("call_park.allow", Decision { settings, ..Decision::default() });
    host.offer(held_and_dialled());
    let reserve = host.expect_reserve();
    assert_eq!((reserve.choice, reserve.reuse_cooldown_ms), (Choice::Lowest, 1));
    host.answer(&reserve, reserved());
    let play = host.expect_play();
    assert_eq!(play.play.music, Music::Off);
    host.answer(&play, Played { audible: false });
    let commit = host.expect_commit();
    assert_eq!(commit.terms.deadline_ms - commit.terms.parked_at_ms, 45_000);
    assert_eq!(commit.terms.on_timeout_uri.as_deref(), Some("sip:desk@example.test"), "as the file says");
    host.answer(&commit, ());
    host.expect_accept();
    assert_eq!(host.expect_play().play.say_number, None);
}

// ---- hold and dial ------------------------------------------------------------------------------------------

#[test]
fn whoever_parks_by_dialling_hears_the_number() {
    for (say_orbit, spoken) in [(true, Some(PARKED.to_owned())), (false, None)] {
        let mut host = host();
        host.set("call_park.say_orbit", say_orbit);
        host.offer(held_and_dialled());
        let commit = up_to_commit(&mut host);
        host.answer(&commit, ());
        host.expect_accept();
        // His call is answered in either case.
        let say = host.expect_play();
        assert_eq!((say.leg, &say.play), (BOB_DIALS, &Play { music: Music::Off, say_number: spoken }));
        host.answer(&say, Played { audible: true });
        host.expect_nothing();
        assert_eq!(host.next_timer(), Some(host.now() + seconds(90)));
    }
}

/// The call is parked all the same; his phone, which still waits for an answer, shows the number instead.
#[test]
fn a_number_that_cannot_be_spoken_is_shown() {
    for (sip_status, shown) in [(0, 488), (606, 606)] {
        let mut host = host();
        host.offer(held_and_dialled());
        let commit = up_to_commit(&mut host);
        host.answer(&commit, ());
        host.expect_accept();
        let say = host.expect_play();
        host.refuse_with(&say, Code::NOT_ACCEPTABLE, "no codec in common", sip_status);
        let text = Some("Parked on 7001".to_owned());
        assert_eq!(host.expect_release(), (BOB_DIALS, Release { status: Some(shown), text }));
        host.expect_nothing();
        assert_eq!((host.flows(), host.counter("parks"), host.counter("parks_refused")), (1, 1, 0));
        host.advance(seconds(90));
        assert_eq!(host.expect_ring().leg, ALICE);
    }
}

#[test]
fn what_happens_while_the_number_is_spoken_is_not_missed() {
    for what in ["hang-up", "claimed", "claimed and gone"] {
        let mut host = host();
        host.offer(held_and_dialled());
        let commit = up_to_commit(&mut host);
        host.answer(&commit, ());
        host.expect_accept();
        let say = host.expect_play();
        match what {
            "hang-up" => host.hang_up(ALICE),
            "claimed" => host.claimed(PARKED, carol()),
            _ => {
                host.claimed(PARKED, carol());
                host.settled(PARKED, true);
            }
        }
        host.expect_nothing();
        host.answer(&say, Played { audible: true });
        if what == "claimed" {
            host.expect_nothing();
            host.settled(PARKED, true);
        }
        expect_over(&mut host);
    }
}
