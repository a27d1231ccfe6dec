//! What is wanted, from what the orbit holds and how we were reached.

use super::*;

/// Every way to reach the plugin. `*` stands for both values of its column.
const WISHES: &str = "
    how      target      holds  far    token  wish
    dial     park        -      alice  *      park
    dial     park        -      nobody *      35016
    dial     park;7001   *      alice  *      park
    dial     park;7001   call   nobody *      retrieve
    dial     park;7001   -      nobody *      35016
    dial     unpark      -      *      *      retrieve
    dial     unpark;7001 *      *      *      retrieve
    dial     7001        call   *      *      retrieve
    dial     7001        -      *      token  retrieve
    dial     7001        -      alice  -      park
    dial     7001        -      nobody -      retrieve
    refer    park        -      alice  *      park
    refer    park        -      nobody *      35016
    refer    park;7001   *      alice  *      park
    refer    park;7001   *      nobody *      35016
    refer    unpark      -      *      *      35016
    refer    unpark;7001 *      *      *      35016
    refer    7001        *      alice  *      park
    refer    7001        *      nobody *      35016
    admin    park        -      alice  *      park
    admin    park        -      nobody *      35016
    admin    park;7001   *      alice  *      park
    admin    park;7001   *      nobody *      35016
    admin    unpark      -      *      *      35016
    admin    unpark;7001 *      *      *      35016
    admin    7001        *      alice  *      park
    admin    7001        *      nobody *      35016
    replaces *           *      *      *      retrieve
";

/// All offers that can be: how, target, what the orbit holds, who is held, a token; in the words of the table.
fn offers() -> Vec<([&'static str; 5], Offer)> {
    let hows =
        [("dial", How::Dial), ("refer", How::Refer), ("admin", How::Admin), ("replaces", How::Replaces)];
    let targets = ["park", "park;7001", "unpark", "unpark;7001", "7001"];
    let mut offers = Vec::new();
    for (how_word, how) in hows {
        for target in targets {
            let (service, number) = match target.split_once(';') {
                Some((service, number)) => (Some(service), Some(number)),
                None if target == PARKED => (None, Some(target)),
                None => (Some(target), None),
            };
            for holds in ["-", "call"] {
                // What holds a call is an orbit.
                if holds == "call" && number.is_none() {
                    continue;
                }
                for who in ["alice", "nobody"] {
                    for token in ["token", "-"] {
                        let offer = Offer {
                            how,
                            service: service.map(str::to_owned),
                            number: number.map(str::to_owned),
                            token: (token == "token").then(|| TOKEN.to_owned()),
                            leg: matches!(how, How::Dial | How::Replaces).then_some(CAROL),
                            far: far().filter(|_| who == "alice"),
                            occupied: holds == "call",
                            ..transferred()
                        };
                        offers.push(([how_word, target, holds, who, token], offer));
                    }
                }
            }
        }
    }
    offers
}

fn word(wish: &Wish) -> String {
    match wish {
        Wish::Park(_) => "park".to_owned(),
        Wish::Retrieve(_) => "retrieve".to_owned(),
        Wish::Refuse(refusal) => refusal.code.0.to_string(),
    }
}

#[test]
fn every_way_to_reach_the_plugin_has_one_meaning() {
    let rows: Vec<Vec<&str>> =
        WISHES.trim().lines().skip(1).map(|row| row.split_whitespace().collect()).collect();
    for (words, offer) in offers() {
        let fits = |row: &&Vec<&str>| words.iter().zip(*row).all(|(word, cell)| *cell == "*" || cell == word);
        let matching: Vec<&Vec<&str>> = rows.iter().filter(fits).collect();
        assert_eq!(matching.len(), 1, "{words:?} is in {} rows", matching.len());
        assert_eq!(word(&wish(&offer)), matching[0][5], "{words:?}");
    }
}

#[test]
fn the_far_end_is_parked_and_the_asking_leg_is_served() {
    assert_eq!(wish(&transferred()), Wish::Park(FarLeg { leg: ALICE, party: alice() }));
    assert_eq!(wish(&held_and_dialled()), Wish::Park(FarLeg { leg: ALICE, party: alice() }));
    assert_eq!(wish(&carol_dials()), Wish::Retrieve(CAROL));
}

#[test]
fn without_a_leg_nothing_can_be_taken() {
    for service in [None, Some("park"), Some("unpark")] {
        let offer = Offer { leg: None, far: None, service: service.map(str::to_owned), ..carol_dials() };
        assert_eq!(word(&wish(&offer)), "35016", "{service:?}");
    }
    assert_eq!(word(&wish(&Offer { how: How::Replaces, leg: None, ..carol_dials() })), "35000");
}

/// A number outside all ranges is refused in the host's words, however it was reached.
#[test]
fn a_number_that_is_no_orbit_is_refused_in_the_hosts_words() {
    for how in [How::Dial, How::Refer, How::Replaces, How::Admin] {
        let error = Some("1002 is no orbit".to_owned());
        let mut host = host();
        host.offer(Offer { how, leg: Some(CAROL), number_error: error, ..transferred() });
        expect_refused(&mut host, Code::VACANT, "1002 is no orbit");
    }
}

#[test]
fn nobody_on_hold_is_said_to_whoever_dials_park() {
    let mut host = host();
    host.offer(Offer { far: None, ..held_and_dialled() });
    expect_refused(&mut host, Code::NOTHING_TO_PARK, "no held call to park");
}
