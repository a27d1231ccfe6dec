//! The layer as a whole, in simulated time: two of them with a network between that a test can cut.

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
        Flow { protocol: self.protocol, local: address(from), remote: address(1 - from), connection: None }
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
