//! The layer as a whole, in simulated time: two of them with a network between that a test can cut.

mod loss;

use std::time::Duration;

use rand::SeedableRng;

use super::*;
use crate::net::Protocol;
use crate::sip::{Name, Status};

/// Two sides of a network. Messages sent at one moment arrive at the same moment.
struct World {
    now: Now,
    protocol: Protocol,
    /// Alice calls, Bob is called.
    sides: [Transactions; 2],
    /// Messages that will get lost, by what they start with; each entry counts once.
    drops: Vec<&'static str>,
    /// `ms side start-line`, side being who sent it.
    log: Vec<String>,
}

const ALICE: usize = 0;
const BOB: usize = 1;

impl World {
    fn new(protocol: Protocol) -> Self {
        let side = |seed| Transactions::new(ChaCha12Rng::seed_from_u64(seed));
        Self { now: Now::default(), protocol, sides: [side(1), side(2)], drops: vec![], log: vec![] }
    }

    fn flow(&self, from: usize) -> Flow {
        let address = |side| format!("192.0.2.{}:5060", side + 1).parse().expect("address");
        Flow {
            protocol: self.protocol,
            local: address(from),
            remote: address(1 - from),
            connection: None,
            edge: None,
        }
    }

    /// Delivers until nothing is under way; events are left to the test.
    fn deliver(&mut self) {
        loop {
            let mut quiet = true;
            for from in [ALICE, BOB] {
                while let Some((flow, bytes)) = self.sides[from].poll_send() {
                    quiet = false;
                    assert_eq!(flow, self.flow(from));
                    let line =
                        String::from_utf8_lossy(bytes.split(|byte| *byte == b'\r').next().expect("a line"));
                    let line = line.replace("SIP/2.0 ", "").replace(" SIP/2.0", "").replace(" sip:b@x", "");
                    let lost = self.drops.iter().position(|drop| line.starts_with(drop));
                    let ms = self.now.instant.since_start().as_millis();
                    let side = ["alice", "bob"][from];
                    self.log
                        .push(format!("{ms} {side} {line}{}", if lost.is_some() { " (lost)" } else { "" }));
                    match lost {
                        Some(lost) => drop(self.drops.remove(lost)),
                        None => {
                            let back = self.flow(1 - from);
                            self.sides[1 - from].receive(self.now, back, bytes);
                        }
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass, timer by timer.
    fn run(&mut self, ms: u64) {
        let end = self.now.instant + Duration::from_millis(ms);
        loop {
            self.deliver();
            let next = self.sides.iter().filter_map(Transactions::next_timeout).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now.instant = next;
            for side in &mut self.sides {
                side.on_timeout(self.now);
            }
        }
        self.now.instant = end;
    }

    fn request(&mut self, method: Method) -> ClientId {
        let mut draft = Draft::request(method.clone(), "sip:b@x");
        draft
            .add(Name::From, "<sip:a@x>;tag=a")
            .add(Name::To, "<sip:b@x>")
            .add(Name::CallId, format!("call-{method}"))
            .add(Name::CSeq, format!("1 {method}"))
            .add(Name::Route, "<sip:b@192.0.2.2;lr>");
        let flow = self.flow(ALICE);
        self.sides[ALICE].request(self.now, flow, "192.0.2.1:5060", draft)
    }

    /// The request Bob was told of.
    fn offered(&mut self) -> (ServerId, Message) {
        match self.sides[BOB].poll_event() {
            Some(Event::Request { server, request, .. }) => (server, request),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, (server, request): &(ServerId, Message), status: Status) -> Message {
        let mut draft = Draft::response(request, status);
        draft.to_tag("b");
        self.sides[BOB].respond(self.now, *server, &draft)
    }

    fn ack(&mut self) -> Message {
        let mut draft = Draft::request(Method::Ack, "sip:b@x");
        draft.add(Name::From, "<sip:a@x>;tag=a").add(Name::To, "<sip:b@x>;tag=b");
        draft.add(Name::CallId, "call-INVITE").add(Name::CSeq, "1 ACK");
        let flow = self.flow(ALICE);
        self.sides[ALICE].send_ack(flow, "192.0.2.1:5060", draft)
    }

    /// What a side was told, in words.
    fn events(&mut self, side: usize) -> Vec<String> {
        std::iter::from_fn(|| self.sides[side].poll_event())
            .map(|event| match event {
                Event::Request { request, .. } => format!("request {}", request.method()),
                Event::Ack { .. } => "ack".to_owned(),
                Event::Cancel { .. } => "cancel".to_owned(),
                Event::Response { response, .. } => {
                    format!("{} {}", response.status().map_or(0, |status| status.0), response.method())
                }
                Event::Stray { .. } => "stray".to_owned(),
                Event::Failed { why, .. } => format!("failed: {why}"),
            })
            .collect()
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn assert_all_forgotten(&mut self) {
        self.run(100_000);
        self.events(ALICE);
        self.events(BOB);
        assert_eq!([self.sides[ALICE].len(), self.sides[BOB].len()], [(0, 0); 2]);
        assert_eq!([self.sides[ALICE].next_timeout(), self.sides[BOB].next_timeout()], [None; 2]);
        for side in &self.sides {
            assert!(side.clients.is_empty_inside() && side.servers.is_empty_inside());
        }
    }
}

#[test]
fn a_call_is_answered_and_acknowledged() {
    let mut world = World::new(Protocol::Udp);
    let client = world.request(Method::Invite);
    world.deliver();
    let invite = world.offered();
    assert_eq!(invite.1.top_via().received(), "192.0.2.1".parse().ok());
    assert_eq!(invite.1.top_via().rport(), Some(5060));
    assert_eq!(invite.1.get(Name::MaxForwards), Some("70"));
    world.answer(&invite, Status::RINGING);
    world.run(3000);
    world.answer(&invite, Status::OK);
    world.run(0);
    assert_eq!(world.events(ALICE), ["100 INVITE", "180 INVITE", "200 INVITE"]);
    assert_eq!(world.sides[ALICE].request_of(client).map(Message::call_id), Some("call-INVITE"));
    world.ack();
    world.run(0);
    assert_eq!(world.events(BOB), ["ack"]);
    assert_eq!(
        world.log(),
        ["0 alice INVITE", "0 bob 100 Trying", "0 bob 180 Ringing", "3000 bob 200 OK", "3000 alice ACK"]
    );
    world.assert_all_forgotten();
}

#[test]
fn an_immediate_answer_needs_no_trying() {
    let mut world = World::new(Protocol::Udp);
    world.request(Method::Invite);
    let (flow, bytes) = world.sides[ALICE].poll_send().expect("the INVITE");
    assert_eq!(flow, world.flow(ALICE));
    let back = world.flow(BOB);
    world.sides[BOB].receive(world.now, back, bytes);
    let invite = world.offered();
    world.answer(&invite, Status::UNAUTHORIZED);
    world.run(0);
    assert_eq!(world.log(), ["0 bob 401 Unauthorized", "0 alice ACK"]);
    world.assert_all_forgotten();
}

#[test]
fn lost_messages_are_repeated_by_whoever_is_in_charge() {
    let mut world = World::new(Protocol::Udp);
    world.drops = vec!["INVITE", "100", "486", "486", "ACK"];
    world.request(Method::Invite);
    world.run(600);
    let invite = world.offered();
    world.run(400);
    world.answer(&invite, Status::BUSY_HERE);
    world.run(40_000);
    assert_eq!(world.events(ALICE), ["486 INVITE"]);
    assert_eq!(world.events(BOB), [""; 0]);
    assert_eq!(
        world.log(),
        [
            "0 alice INVITE (lost)",
            "500 alice INVITE",
            "500 bob 100 Trying (lost)",
            "1000 bob 486 Busy Here (lost)",
            "1500 alice INVITE",
            "1500 bob 486 Busy Here (lost)",
            "1500 bob 486 Busy Here",
            "1500 alice ACK (lost)",
            "2500 bob 486 Busy Here",
            "2500 alice ACK",
        ]
    );
    world.assert_all_forgotten();
}

/// RFC 3261 §9.1: a CANCEL must not overtake its INVITE.
#[test]
fn a_cancel_waits_until_the_invite_was_heard() {
    let mut world = World::new(Protocol::Udp);
    world.drops = vec!["INVITE"];
    let client = world.request(Method::Invite);
    world.run(100);
    world.sides[ALICE].cancel(
        world.now,
        client,
        &["SIP;cause=200;text=\"Call completed elsewhere\"".to_owned()],
    );
    world.run(600);
    let invite = world.offered();
    match world.sides[BOB].poll_event() {
        Some(Event::Cancel { invite: id, request }) => {
            assert_eq!(id, invite.0);
            assert_eq!(request.get(Name::Reason), Some("SIP;cause=200;text=\"Call completed elsewhere\""));
            assert_eq!(request.get(Name::Route), Some("<sip:b@192.0.2.2;lr>"));
            assert_eq!((request.cseq().number, request.uri()), (1, "sip:b@x"));
        }
        other => panic!("{other:?}"),
    }
    world.answer(&invite, Status::REQUEST_TERMINATED);
    world.run(0);
    assert_eq!(world.events(ALICE), ["100 INVITE", "487 INVITE"]);
    assert_eq!(
        world.log(),
        [
            "0 alice INVITE (lost)",
            "500 alice INVITE",
            "500 bob 100 Trying",
            "500 alice CANCEL",
            "500 bob 200 OK",
            "700 bob 487 Request Terminated",
            "700 alice ACK",
        ]
    );
    world.assert_all_forgotten();
}

#[test]
fn a_cancel_that_crosses_the_answer_changes_nothing() {
    let mut world = World::new(Protocol::Udp);
    let client = world.request(Method::Invite);
    world.run(0);
    let invite = world.offered();
    let ok = world.answer(&invite, Status::OK);
    world.sides[ALICE].cancel(world.now, client, &[]);
    world.run(0);
    assert_eq!(world.events(BOB), [""; 0]);
    assert_eq!(world.events(ALICE), ["100 INVITE", "200 INVITE"]);
    let log = world.log();
    assert!(log.contains(&"0 alice CANCEL".to_owned()), "{log:?}");
    // The CANCEL is answered with the tag of the INVITE's answer.
    assert_eq!(ok.to_tag(), Some("b"));
    world.sides[ALICE].cancel(world.now, client, &[]);
    world.run(0);
    assert_eq!(world.log(), [""; 0]);
    world.assert_all_forgotten();
}

#[test]
fn a_cancelled_phone_that_says_nothing_more_is_given_up() {
    let mut world = World::new(Protocol::Udp);
    let client = world.request(Method::Invite);
    world.run(0);
    world.sides[ALICE].cancel(world.now, client, &[]);
    world.run(31_999);
    assert_eq!(world.events(ALICE), ["100 INVITE"]);
    world.run(1);
    assert_eq!(world.events(ALICE), ["failed: no answer in time"]);
}

#[test]
fn an_invite_that_nobody_waits_for_any_more_is_given_up_without_a_word() {
    for heard in [true, false] {
        let mut world = World::new(Protocol::Udp);
        let client = world.request(Method::Invite);
        if heard {
            world.run(0);
        }
        world.sides[ALICE].leave(world.now, client);
        world.run(31_999);
        assert_eq!(world.events(ALICE), ["100 INVITE"]);
        world.run(1);
        assert_eq!(
            (world.events(ALICE).last().map(String::as_str), world.sides[ALICE].len()),
            (Some("failed: no answer in time"), (0, 0))
        );
    }
}

#[test]
fn a_cancel_of_nothing_gets_481_and_its_repeat_the_same() {
    let mut world = World::new(Protocol::Udp);
    let cancel = "CANCEL sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKnone\r\n\
                  From: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 1 CANCEL\r\n\r\n";
    let mut answers = vec![];
    for _ in 0..2 {
        let flow = world.flow(BOB);
        world.sides[BOB].receive(world.now, flow, Bytes::from(cancel));
        answers.push(world.sides[BOB].poll_send().expect("answered").1);
    }
    assert!(answers[0].starts_with(b"SIP/2.0 481 "));
    assert_eq!(answers[0], answers[1]);
    assert_eq!((world.sides[BOB].len(), world.sides[BOB].counters().stray_cancels), ((0, 0), 2));
}

/// RFC 6026: the 2xx of each fork, and each repeat, reaches the transaction user; a repeated INVITE does not.
#[test]
fn every_2xx_of_every_fork_reaches_the_caller() {
    let mut world = World::new(Protocol::Udp);
    let client = world.request(Method::Invite);
    world.drops = vec!["100"];
    world.run(0);
    let invite = world.offered();
    world.answer(&invite, Status::OK);
    world.run(0);
    world.sides[BOB].resend(invite.0);
    world.run(500);
    let mut other = Draft::response(&invite.1, Status::OK);
    other.to_tag("fork");
    let other = other.build();
    let flow = world.flow(ALICE);
    world.sides[ALICE].receive(world.now, flow, other.bytes().clone());
    assert_eq!(world.events(ALICE), ["200 INVITE", "200 INVITE", "200 INVITE"]);
    let again = world.sides[ALICE].request_of(client).expect("still there").bytes().clone();
    let back = world.flow(BOB);
    world.sides[BOB].receive(world.now, back, again);
    assert_eq!(world.events(BOB), [""; 0]);
    world.run(40_000);
    assert_eq!(world.events(ALICE), [""; 0]);
    world.sides[ALICE].receive(world.now, flow, other.bytes().clone());
    assert_eq!(world.events(ALICE), ["stray"]);
    assert_eq!(world.sides[ALICE].counters().stray_responses, 1);
    world.assert_all_forgotten();
}

#[test]
fn a_request_is_answered_once_and_repeats_get_the_same_answer() {
    let mut world = World::new(Protocol::Udp);
    world.drops = vec!["200"];
    world.request(Method::Options);
    world.run(0);
    let options = world.offered();
    world.answer(&options, Status::OK);
    world.run(5000);
    assert_eq!((world.events(ALICE), world.events(BOB)), (vec!["200 OPTIONS".to_owned()], vec![]));
    assert_eq!(
        world.log(),
        ["0 alice OPTIONS", "0 bob 200 OK (lost)", "500 alice OPTIONS", "500 bob 200 OK"]
    );
    world.assert_all_forgotten();
}

#[test]
fn nobody_there_is_a_timeout_and_no_way_there_a_transport_failure() {
    let mut world = World::new(Protocol::Udp);
    world.drops = vec!["INVITE"; 7];
    world.request(Method::Invite);
    world.run(32_000);
    assert_eq!(world.events(ALICE), ["failed: no answer in time"]);
    world.drops = vec!["OPTIONS", "INFO"];
    world.request(Method::Options);
    world.request(Method::Info);
    world.run(0);
    let elsewhere = Flow { remote: "192.0.2.99:5060".parse().expect("address"), ..world.flow(ALICE) };
    world.sides[ALICE].send_failed(world.now, elsewhere);
    assert_eq!(world.events(ALICE), [""; 0]);
    let there = world.flow(ALICE);
    world.sides[ALICE].send_failed(world.now, there);
    assert_eq!(world.events(ALICE), ["failed: could not be sent"; 2]);
    world.log();
    world.run(10_000);
    assert_eq!(world.log(), [""; 0]);
    world.assert_all_forgotten();
}

#[test]
fn a_stream_repeats_nothing_and_forgets_at_once() {
    let mut world = World::new(Protocol::Tcp);
    let client = world.request(Method::Info);
    world.run(0);
    let info = world.offered();
    assert!(!info.1.top_via().params.has("rport"));
    world.answer(&info, Status::OK);
    world.run(0);
    // The transaction is over, but whoever handles its last event still finds it.
    assert!(matches!(world.sides[ALICE].poll_event(), Some(Event::Response { .. })));
    assert!(world.sides[ALICE].request_of(client).is_some());
    assert!(world.sides[ALICE].poll_event().is_none() && world.sides[BOB].poll_event().is_none());
    assert_eq!((world.sides[ALICE].request_of(client), world.sides[ALICE].len()), (None, (0, 0)));
    assert_eq!(world.sides[BOB].len(), (0, 0));
    world.request(Method::Invite);
    world.run(31_000);
    assert_eq!(world.log().len(), 4, "INFO, 200, INVITE, 100");
}

/// RFC 3261 §8.2.2.2.
#[test]
fn a_request_that_came_along_two_paths_is_taken_once() {
    let mut world = World::new(Protocol::Udp);
    world.request(Method::Invite);
    let (_, first) = world.sides[ALICE].poll_send().expect("the INVITE");
    let flow = world.flow(BOB);
    let second = String::from_utf8_lossy(&first).replace("branch=z9hG4bK", "branch=z9hG4bKother");
    world.sides[BOB].receive(world.now, flow, first.clone());
    world.sides[BOB].receive(world.now, flow, Bytes::from(second.clone()));
    assert_eq!(world.events(BOB), ["request INVITE"]);
    let merged = std::iter::from_fn(|| world.sides[BOB].poll_send()).last().expect("answered").1;
    assert!(merged.starts_with(b"SIP/2.0 482 "));
    // Its ACK ends with us.
    let tag = Message::parse(merged).expect("valid").to_tag().expect("tagged").to_owned();
    let ack = second.replace("INVITE sip", "ACK sip").replace("1 INVITE", "1 ACK");
    let ack = ack.replace("To: <sip:b@x>", &format!("To: <sip:b@x>;tag={tag}"));
    world.sides[BOB].receive(world.now, flow, Bytes::from(ack));
    assert_eq!(world.events(BOB), [""; 0]);
    // A fork to another user of ours is another request.
    let fork = second.replace("sip:b@x SIP/2.0", "sip:c@x SIP/2.0").replace("other", "third");
    world.sides[BOB].receive(world.now, flow, Bytes::from(fork));
    assert_eq!(world.events(BOB), ["request INVITE"]);
}

#[test]
fn a_full_host_refuses_new_calls_and_lets_dialogs_end() {
    let mut world = World::new(Protocol::Udp);
    let limits = Limits { servers: 10, in_dialog_percent: 10 };
    world.sides[BOB] = Transactions::new(ChaCha12Rng::seed_from_u64(3)).with_limits(limits);
    let request = |n: u32, method: &str, to: &str| {
        Bytes::from(format!(
            "{method} sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{n}\r\nFrom: <sip:a@x>;tag=a\r\n\
             To: <sip:b@x>{to}\r\nCall-ID: {n}\r\nCSeq: 1 {method}\r\n\r\n"
        ))
    };
    let flow = world.flow(BOB);
    for n in 0..11 {
        world.sides[BOB].receive(world.now, flow, request(n, "INVITE", ""));
    }
    world.sides[BOB].receive(world.now, flow, request(11, "BYE", ";tag=b"));
    assert_eq!(world.sides[BOB].len(), (0, 11));
    assert_eq!(world.events(BOB).len(), 11);
    let refused: Vec<_> = std::iter::from_fn(|| world.sides[BOB].poll_send())
        .filter_map(|(_, bytes)| Message::parse(bytes).ok())
        .filter(|response| response.status() == Some(Status::SERVICE_UNAVAILABLE))
        .collect();
    assert_eq!(refused.len(), 1);
    let wait: u32 = refused[0].get(Name::RetryAfter).and_then(|wait| wait.parse().ok()).expect("a number");
    assert!((5..15).contains(&wait));
    assert_eq!(world.sides[BOB].counters().overloaded, 1);
    // A repeat of what was taken is still a repeat.
    world.sides[BOB].receive(world.now, flow, request(3, "INVITE", ""));
    assert_eq!(world.sides[BOB].counters().repeats, 1);
}

#[test]
fn a_malformed_request_is_answered_and_counted() {
    let mut world = World::new(Protocol::Udp);
    let flow = world.flow(BOB);
    world.sides[BOB].receive(
        world.now,
        flow,
        Bytes::from(
            "INVITE sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nTo: <sip:b@x>\r\nCall-ID: c\r\n\
             CSeq: 1 INVITE\r\n\r\n",
        ),
    );
    let answer = world.sides[BOB].poll_send().expect("answered").1;
    assert!(answer.starts_with(b"SIP/2.0 400 From is missing\r\n"), "{answer:?}");
    let parsed = String::from_utf8_lossy(&answer).into_owned();
    let tag = parsed.split(";tag=").nth(1).and_then(|rest| rest.split('\r').next()).expect("tagged");
    // Its ACK ends with us, though it has a From now.
    let ack = format!(
        "ACK sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n\
         To: <sip:b@x>;tag={tag}\r\nCall-ID: c\r\nCSeq: 1 ACK\r\n\r\n"
    );
    world.sides[BOB].receive(world.now, flow, Bytes::from(ack));
    world.sides[BOB].receive(world.now, flow, Bytes::from("\r\n\r\n"));
    world.sides[BOB].receive(world.now, flow, Bytes::from("nonsense"));
    assert_eq!((world.events(BOB).len(), world.sides[BOB].poll_send()), (0, None));
    let counters = world.sides[BOB].counters();
    assert_eq!((counters.received, counters.malformed, counters.malformed_answered), (4, 2, 1));
}

/// RFC 3261 §18.2.2: without rport the answer goes to the port of the sent-by, which need not be the one it came from.
#[test]
fn without_rport_the_answer_goes_to_the_sent_by_port() {
    for (via, port) in [
        ("192.0.2.1", 5060),
        ("192.0.2.1:5099", 5099),
        ("192.0.2.1:5099;rport", 40000),
        ("h;maddr=203.0.113.1", 5060),
    ] {
        let mut bob = Transactions::new(ChaCha12Rng::seed_from_u64(3));
        let flow = Flow {
            remote: "192.0.2.1:40000".parse().expect("address"),
            ..World::new(Protocol::Udp).flow(BOB)
        };
        let options = format!(
            "OPTIONS sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP {via};branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\n\
             Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
        );
        bob.receive(Now::default(), flow, Bytes::from(options));
        let Some(Event::Request { server, request, flow: came_from }) = bob.poll_event() else {
            panic!("told")
        };
        assert_eq!((came_from, bob.flow_of(server)), (flow, Some(flow)));
        bob.respond(Now::default(), server, &Draft::response(&request, Status::OK));
        let (to, _) = bob.poll_send().expect("sent");
        assert_eq!(to, Flow { remote: std::net::SocketAddr::new(flow.remote.ip(), port), ..flow }, "{via}");
    }
}

#[test]
fn responses_to_others_and_guessed_branches_are_dropped() {
    let mut world = World::new(Protocol::Udp);
    let client = world.request(Method::Info);
    let (_, bytes) = world.sides[ALICE].poll_send().expect("the INFO");
    let request = Message::parse(bytes).expect("valid");
    let flow = world.flow(ALICE);
    let response = Draft::response(&request, Status::OK).build();
    let text = String::from_utf8_lossy(response.bytes()).into_owned();
    let branch = request.top_via().branch().to_owned();
    for wrong in [
        text.replace(&branch, &(branch[..branch.len() - 4].to_owned() + "0000")),
        text.replace(&branch, "z9hG4bKother"),
        text.replace("1 INFO", "1 CANCEL"),
        text.replace("1 INFO", "1 OPTIONS"),
        text.replace("From:", "Via: SIP/2.0/UDP other;branch=z9hG4bK2\r\nFrom:"),
    ] {
        world.sides[ALICE].receive(world.now, flow, Bytes::from(wrong));
    }
    assert_eq!((world.events(ALICE).len(), world.sides[ALICE].counters().stray_responses), (0, 5));
    world.sides[ALICE].receive(world.now, flow, response.bytes().clone());
    assert!(
        matches!(world.sides[ALICE].poll_event(), Some(Event::Response { client: id, .. }) if id == client)
    );
}

/// RFC 3261 §17.2.3 for peers of RFC 2543, whose branches are not unique.
#[test]
fn a_peer_without_branches_is_served() {
    let mut bob = Transactions::new(ChaCha12Rng::seed_from_u64(3));
    let flow = World::new(Protocol::Udp).flow(BOB);
    let text = |method: &str, to: &str| {
        Bytes::from(format!(
            "{method} sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nFrom: <sip:a@x>\r\nTo: <sip:b@x>{to}\r\nCall-ID: c\r\n\
             CSeq: 1 {method}\r\n\r\n"
        ))
    };
    bob.receive(Now::default(), flow, text("INVITE", ""));
    bob.receive(Now::default(), flow, text("INVITE", ""));
    let Some(Event::Request { server, request, .. }) = bob.poll_event() else { panic!("told once") };
    assert!(bob.poll_event().is_none());
    bob.receive(Now::default(), flow, text("CANCEL", ""));
    assert!(matches!(bob.poll_event(), Some(Event::Cancel { invite, .. }) if invite == server));
    bob.respond(Now::default(), server, Draft::response(&request, Status::REQUEST_TERMINATED).to_tag("b"));
    bob.receive(Now::default(), flow, text("ACK", ";tag=b"));
    assert!(bob.poll_event().is_none());
    while bob.poll_send().is_some() {}
    let later = Now { instant: Instant::after_start(Duration::from_secs(3)), ..Now::default() };
    bob.on_timeout(later);
    assert_eq!(bob.poll_send(), None, "the ACK stopped the repeats");
}

#[test]
fn the_size_of_a_request_decides_about_datagrams() {
    let mut draft = Draft::request(Method::Invite, "sip:b@x");
    draft.body("application/sdp", vec![b'x'; 1000]);
    assert!(!too_big_for_udp(&draft));
    draft.body("application/sdp", vec![b'x'; 1200]);
    assert!(too_big_for_udp(&draft));
}

#[test]
fn a_reliable_provisional_response_can_be_sent_again_whatever_came_after_it() {
    let mut world = World::new(Protocol::Udp);
    world.request(Method::Invite);
    world.run(0);
    let invite = world.offered();
    let reliable = world.answer(&invite, Status::SESSION_PROGRESS);
    world.answer(&invite, Status::RINGING);
    world.run(0);
    world.sides[BOB].resend_this(invite.0, &reliable);
    world.sides[BOB].resend(invite.0);
    world.run(0);
    let log = world.log();
    assert_eq!(log[log.len() - 2..], ["0 bob 183 Session Progress", "0 bob 180 Ringing"]);
}
