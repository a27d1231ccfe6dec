//! Whole calls over a network that loses messages.

use rand::RngExt;

use super::*;

/// What Bob does with Alice's INVITE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Bob {
    Answers,
    IsBusy,
    IsCancelled,
    LetsItRing,
}

/// Over a network that loses four messages in ten, both sides end up with the same view, nothing is delivered twice
/// that must not be, and nothing stays behind.
#[test]
fn a_bad_network_delays_but_does_not_confuse() {
    for seed in 0..150 {
        for answer in [Bob::Answers, Bob::IsBusy, Bob::IsCancelled, Bob::LetsItRing] {
            call(seed, answer);
        }
    }
}

fn call(seed: u64, answer: Bob) {
    let mut world = World::new(Protocol::Udp);
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    // Each message has its own fate, drawn in advance; what is not drawn arrives.
    for _ in 0..40 {
        if rng.random_range(0..10) < 4 {
            world.drops.push(["INVITE", "OPTIONS", "1", "2", "4", "ACK", "CANCEL"][rng.random_range(0..7)]);
        }
    }
    let invite = world.request(Method::Invite);
    let options = world.request(Method::Options);
    let mut cancelled = false;
    let (mut alice, mut bob) = (vec![], vec![]);
    let mut offered: Vec<(ServerId, Message)> = vec![];
    for step in 0..150 {
        world.run(500);
        while let Some(event) = world.sides[BOB].poll_event() {
            match event {
                Event::Request { server, request, .. } => offered.push((server, request)),
                Event::Cancel { .. } => bob.push("cancel"),
                Event::Ack { .. } => bob.push("ack"),
                other => panic!("{other:?}"),
            }
        }
        for (server, request) in &offered {
            let status = match (request.method(), answer) {
                (Method::Options, _) => Status::OK,
                (_, Bob::Answers) => Status::OK,
                (_, Bob::IsBusy) => Status::BUSY_HERE,
                (_, Bob::IsCancelled) if bob.contains(&"cancel") => Status::REQUEST_TERMINATED,
                _ => continue,
            };
            if world.sides[BOB].request_of_server(*server).is_some() {
                let mut draft = Draft::response(request, status);
                world.sides[BOB].respond(world.now, *server, draft.to_tag("b"));
            } else if status == Status::OK && request.is_method(&Method::Invite) {
                world.sides[BOB].resend(*server);
            }
        }
        if answer == Bob::IsCancelled && !cancelled && step == 2 {
            cancelled = true;
            world.sides[ALICE].cancel(world.now, invite, &[]);
        }
        while let Some(event) = world.sides[ALICE].poll_event() {
            match event {
                Event::Response { client, response, .. } => {
                    if response.status().is_some_and(Status::is_final) {
                        alice.push((client, response.status()));
                    }
                }
                Event::Failed { client, .. } => alice.push((client, None)),
                other => panic!("{other:?}"),
            }
        }
    }
    let invites = offered.iter().filter(|(_, request)| request.is_method(&Method::Invite)).count();
    assert!(invites <= 1 && offered.len() <= 2, "offered twice");
    let ends = |id| alice.iter().filter(|(client, _)| *client == id).count();
    assert_eq!(ends(options), 1);
    // An INVITE that was answered 2xx goes on reporting 2xx; one nobody answers waits as long as its user does.
    match answer {
        Bob::Answers => assert!(ends(invite) >= 1),
        Bob::IsBusy => assert_eq!(ends(invite), 1),
        Bob::IsCancelled => assert_eq!(ends(invite), 1),
        Bob::LetsItRing => assert!(ends(invite) <= 1),
    }
    if answer != Bob::LetsItRing {
        world.run(100_000);
        world.events(ALICE);
        world.events(BOB);
        assert_eq!(world.sides[ALICE].len(), (0, 0));
        let left = world.sides[BOB].len().1;
        // An INVITE Bob was offered but that Alice gave up before a CANCEL got through is still his.
        assert!(left <= usize::from(answer == Bob::IsCancelled));
    }
}
