//! REGISTER as phones send it.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::directory::User;
use crate::net::{ConnectionId, Flow, Protocol};
use crate::sip::{Message, Name, Status};
use crate::store::{Change, Operation, Record, Snapshot};
use crate::time::{Instant, Now, Utc};

const DESK: &str = "<sip:alice@192.0.2.1:5060>";
const UUID: &str = "+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"";

fn at(seconds: u64) -> Now {
    Now {
        instant: Instant::ZERO + Duration::from_secs(seconds),
        utc: Utc(1_700_000_000_000 + seconds * 1000),
    }
}

fn udp(remote: &str) -> Flow {
    Flow {
        protocol: Protocol::Udp,
        local: "127.0.0.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
        edge: None,
    }
}

fn tcp(remote: &str, connection: u64) -> Flow {
    Flow { protocol: Protocol::Tcp, connection: Some(ConnectionId(connection)), ..udp(remote) }
}

/// A registrar, what its store has by now, and a CSeq counter.
struct World {
    registrar: Registrar,
    store: Snapshot,
    cseq: u32,
    flow: Flow,
}

struct Answer {
    response: Message,
    operations: usize,
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status().map_or(0, |Status(code)| code)
    }

    fn contacts(&self) -> Vec<&str> {
        self.response.list(Name::Contact).collect()
    }
}

impl World {
    fn new() -> Self {
        let config = RegistrarConfig { domains: vec!["example.test".into()], ..RegistrarConfig::default() };
        Self::with(config)
    }

    fn with(config: RegistrarConfig) -> Self {
        let mut world = Self {
            registrar: Registrar::new(config),
            store: Snapshot::default(),
            cseq: 0,
            flow: udp("198.51.100.1:40000"),
        };
        let alice = User { name: "alice".into(), extension: Some("1001".into()), ..User::default() };
        world.store([alice.put()].into());
        world.load(at(0));
        world
    }

    fn store(&mut self, operations: Vec<Operation>) {
        for operation in operations {
            match operation {
                Operation::Put { key, value } => {
                    self.store.records.insert(key, Record { value, revision: 1 });
                }
                Operation::Delete { key } => assert!(self.store.records.remove(&key).is_some(), "{key}"),
            }
        }
    }

    fn load(&mut self, now: Now) {
        let store = self.store.clone();
        self.registrar.load(&store, now);
    }

    /// What waits to be written goes to the store, at once.
    fn write(&mut self, seconds: u64) {
        assert_eq!(self.registrar.next_timeout(), Some(Instant::ZERO));
        let operations = self.registrar.on_timeout(at(seconds));
        self.store(operations);
        assert_ne!(self.registrar.next_timeout(), Some(Instant::ZERO));
    }

    /// A host killed and started again.
    fn restart(&mut self, now: Now) {
        let config = RegistrarConfig { domains: vec!["example.test".into()], ..RegistrarConfig::default() };
        self.registrar = Registrar::new(config);
        self.load(now);
    }

    /// REGISTER with further fields, as one text.
    fn register(&mut self, seconds: u64, fields: &str) -> Answer {
        self.cseq += 1;
        self.send(seconds, "call", self.cseq, "<sip:alice@example.test>", fields)
    }

    fn send(&mut self, seconds: u64, call_id: &str, cseq: u32, to: &str, fields: &str) -> Answer {
        let text = format!(
            "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{call_id}{cseq}\r\n\
             From: {to};tag=1\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{fields}\
             Content-Length: 0\r\n\r\n"
        );
        let request = Message::parse(Bytes::from(text)).unwrap();
        let (response, operations) = self.registrar.register(at(seconds), "alice", &request, self.flow);
        let count = operations.len();
        self.store(operations);
        let response = response.build();
        assert!(response.to_tag().is_some(), "{response:?}");
        // What the store has and what the registrar has are the same at any time.
        let stored = self.store.records.keys().filter(|key| key.contains("/binding/")).count();
        assert_eq!(stored, self.registrar.users_bindings());
        Answer { response, operations: count }
    }

    fn contacts(&self, seconds: u64) -> Vec<&str> {
        let bindings = self.registrar.bindings(at(seconds), "alice");
        bindings.into_iter().map(|binding| binding.contact.as_str()).collect()
    }
}

impl Registrar {
    fn users_bindings(&self) -> usize {
        self.iter(Now::default()).count()
    }
}

#[test]
fn a_phone_registers_and_is_found() {
    let mut world = World::new();
    let answer = world.register(0, &format!("Contact: Desk {DESK}\r\nUser-Agent: Phone/1\r\n"));
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.contacts(), ["<sip:alice@192.0.2.1:5060>;expires=3600"]);
    assert_eq!(answer.operations, 1);
    let [binding] = world.registrar.bindings(at(1), "alice")[..] else { panic!() };
    assert_eq!(binding.contact, "sip:alice@192.0.2.1:5060");
    assert_eq!(binding.display.as_deref(), Some("Desk"));
    assert_eq!(binding.flow, world.flow, "where it really came from");
    assert_eq!(binding.user_agent.as_deref(), Some("Phone/1"));
    assert_eq!((binding.call_id.as_str(), binding.cseq), ("call", 1));
    assert!(world.registrar.bindings(at(1), "bob").is_empty());
}

#[test]
fn a_refresh_keeps_the_binding_and_its_id() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK}\r\n"));
    let id = world.registrar.bindings(at(0), "alice")[0].id.clone();
    let answer = world.register(100, &format!("Contact: {DESK};expires=600\r\n"));
    assert_eq!(answer.contacts(), ["<sip:alice@192.0.2.1:5060>;expires=600"]);
    let [binding] = world.registrar.bindings(at(101), "alice")[..] else { panic!() };
    assert_eq!((&binding.id, binding.expires), (&id, at(700).utc));
    assert_eq!(world.registrar.binding(at(101), "alice", &id), Some(binding));
}

#[test]
fn expiry_comes_from_the_contact_then_the_header_then_the_host() {
    let granted = |fields: &str| {
        let mut world = World::new();
        let answer = world.register(0, fields);
        assert_eq!(answer.status(), 200, "{fields}");
        answer.contacts()[0].rsplit_once('=').unwrap().1.to_owned()
    };
    assert_eq!(granted(&format!("Contact: {DESK};expires=120\r\nExpires: 300\r\n")), "120");
    assert_eq!(granted(&format!("Contact: {DESK}\r\nExpires: 300\r\n")), "300");
    assert_eq!(granted(&format!("Contact: {DESK}\r\n")), "3600");
    assert_eq!(granted(&format!("Contact: {DESK};expires=soon\r\n")), "3600", "malformed counts as 3600");
    assert_eq!(granted(&format!("Contact: {DESK};expires=99999999999999\r\n")), "7200", "at most");
}

#[test]
fn too_brief_an_expiry_is_refused_with_the_least() {
    let mut world = World::new();
    let answer = world.register(0, &format!("Contact: {DESK};expires=59\r\n"));
    assert_eq!((answer.status(), answer.response.get(Name::MinExpires)), (423, Some("60")));
    assert!(world.contacts(0).is_empty());
    assert_eq!(world.register(0, &format!("Contact: {DESK};expires=60\r\n")).status(), 200);
}

#[test]
fn a_binding_ends_when_its_time_is_over() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK};expires=60\r\n"));
    world.register(10, "Contact: <sip:alice@192.0.2.2>;expires=60\r\n");
    assert_eq!(world.registrar.next_timeout(), Some(at(60).instant));
    assert_eq!(world.contacts(59).len(), 2);
    assert_eq!(world.contacts(60), ["sip:alice@192.0.2.2"], "even before the timer has fired");
    assert!(world.registrar.on_timeout(at(59)).is_empty(), "early calls are harmless");
    let operations = world.registrar.on_timeout(at(60));
    assert_eq!(operations.len(), 1);
    world.store(operations);
    assert_eq!(world.registrar.next_timeout(), Some(at(70).instant));
    let operations = world.registrar.on_timeout(at(71));
    world.store(operations);
    assert!(world.registrar.is_empty() && world.registrar.next_timeout().is_none());
    assert_eq!(world.store.records.len(), 1, "the user");
}

#[test]
fn a_refresh_moves_the_deadline() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK};expires=60\r\n"));
    world.register(50, &format!("Contact: {DESK};expires=60\r\n"));
    assert_eq!(world.registrar.next_timeout(), Some(at(110).instant));
    assert!(world.registrar.on_timeout(at(60)).is_empty());
    assert_eq!(world.contacts(109).len(), 1);
}

#[test]
fn a_wall_clock_that_goes_back_does_not_end_bindings_early() {
    let mut world = World::new();
    world.register(100, &format!("Contact: {DESK};expires=60\r\n"));
    let back = Now { instant: at(160).instant, utc: at(130).utc };
    assert!(world.registrar.on_timeout(back).is_empty());
    assert_eq!(world.registrar.next_timeout(), Some(at(190).instant));
}

#[test]
fn removal_is_an_expiry_of_zero() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK}, <sip:alice@192.0.2.2>;q=0.5\r\n"));
    let answer = world.register(1, &format!("Contact: {DESK};expires=0\r\n"));
    assert_eq!(
        (answer.status(), answer.contacts()),
        (200, vec!["<sip:alice@192.0.2.2>;expires=3599;q=0.500"])
    );
    let answer = world.register(2, "Contact: <sip:nobody@192.0.2.9>\r\nExpires: 0\r\n");
    assert_eq!((answer.status(), answer.operations), (200, 0), "removing what is not there is no error");
    assert_eq!(world.register(3, "Contact: <sip:alice@192.0.2.2>\r\nExpires: 0\r\n").contacts().len(), 0);
}

#[test]
fn a_star_removes_all_and_stands_alone() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK}, <sip:alice@192.0.2.2>\r\n"));
    for fields in [
        "Contact: *\r\n".to_owned(),
        "Contact: *\r\nExpires: 60\r\n".to_owned(),
        format!("Contact: *, {DESK}\r\nExpires: 0\r\n"),
        format!("Contact: {DESK}\r\nContact: *\r\nExpires: 0\r\n"),
        "Contact: *, *\r\nExpires: 0\r\n".to_owned(),
    ] {
        assert_eq!(world.register(1, &fields).status(), 400, "{fields}");
        assert_eq!(world.contacts(1).len(), 2);
    }
    let answer = world.register(2, "Contact: *\r\nExpires: 0\r\n");
    assert_eq!((answer.status(), answer.contacts().len(), answer.operations), (200, 0, 2));
}

#[test]
fn a_query_changes_nothing() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK}\r\n"));
    let answer = world.register(600, "");
    assert_eq!((answer.status(), answer.operations), (200, 0));
    assert_eq!(answer.contacts(), ["<sip:alice@192.0.2.1:5060>;expires=3000"]);
}

#[test]
fn an_old_register_that_took_its_time_changes_nothing() {
    let mut world = World::new();
    let alice = "<sip:alice@example.test>";
    world.send(0, "one", 7, alice, &format!("Contact: {DESK}\r\n"));
    for (cseq, fields) in [
        (6, format!("Contact: {DESK};expires=0\r\n")),
        (7, format!("Contact: {DESK};expires=0\r\n")),
        (7, "Contact: *\r\nExpires: 0\r\n".to_owned()),
        // All or nothing: the new contact beside the old one isn't taken either.
        (5, format!("Contact: <sip:alice@192.0.2.2>, {DESK}\r\n")),
    ] {
        assert_eq!(world.send(1, "one", cseq, alice, &fields).status(), 500, "{cseq} {fields}");
        assert_eq!(world.contacts(1), ["sip:alice@192.0.2.1:5060"]);
    }
    // A phone that was switched off and on again starts a new row.
    assert_eq!(world.send(2, "two", 1, alice, &format!("Contact: {DESK};expires=0\r\n")).status(), 200);
    assert!(world.contacts(2).is_empty());
}

#[test]
fn contacts_compare_as_uris() {
    let mut world = World::new();
    world.register(0, "Contact: <sip:alice@PHONE.example.test;transport=TCP>\r\n");
    world.register(1, "Contact: <sip:%61lice@phone.example.test;transport=tcp;ob>\r\n");
    assert_eq!(world.contacts(1), ["sip:%61lice@phone.example.test;transport=tcp;ob"]);
    world.register(2, "Contact: <sip:alice@phone.example.test:5060;transport=tcp>\r\n");
    assert_eq!(world.contacts(2).len(), 2, "another port is another address (RFC 3261 §19.1.4)");
}

#[test]
fn a_contact_cannot_smuggle_headers_into_requests() {
    let mut world = World::new();
    world.register(0, "Contact: <sip:alice@192.0.2.1;method=BYE?Replaces=x>\r\n");
    assert_eq!(world.contacts(0), ["sip:alice@192.0.2.1"]);
}

#[test]
fn preferences_order_the_bindings() {
    let mut world = World::new();
    world.register(0, "Contact: <sip:a@h>;q=0.5, <sip:b@h>;q=1.0, <sip:c@h>;q=0.75\r\n");
    world.register(1, "Contact: <sip:d@h>;q=0.5\r\n");
    assert_eq!(world.contacts(1), ["sip:b@h", "sip:c@h", "sip:d@h", "sip:a@h"], "of equals the latest");
    for q in ["2", "x", "0.1234", "-1"] {
        assert_eq!(world.register(2, &format!("Contact: <sip:e@h>;q={q}\r\n")).status(), 400);
    }
}

#[test]
fn only_sip_addresses_are_taken() {
    let mut world = World::new();
    for contact in ["<tel:+4930123456>", "<mailto:a@b>", "<sip:a@b", "nonsense", "<sips:>"] {
        let answer = world.register(0, &format!("Contact: {DESK}, {contact}\r\n"));
        assert_eq!(answer.status(), 400, "{contact}");
        assert!(world.contacts(0).is_empty(), "not even the good one");
    }
}

#[test]
fn nobody_registers_for_another() {
    let mut world = World::new();
    let contact = format!("Contact: {DESK}\r\n");
    let mut cseq = 0;
    let mut status = |to: &str| {
        cseq += 1;
        world.send(0, "c", cseq, to, &contact).status()
    };
    assert_eq!(status("<sip:bob@example.test>"), 403);
    assert_eq!(status("<sip:1002@example.test>"), 403);
    assert_eq!(status("<sip:example.test>"), 403);
    assert_eq!(status("<sip:alice@elsewhere.test>"), 404);
    assert_eq!(status("<tel:1001>"), 404);
    assert_eq!(status("<sip:1001@example.test>"), 200, "the own extension");
    assert_eq!(status("Alice <sips:%61lice@EXAMPLE.test:5061>"), 200);
    assert_eq!(status("<sip:alice@127.0.0.1>"), 200, "a phone that has only our address");
}

#[test]
fn an_extension_that_was_given_away_is_not_the_users_any_more() {
    let mut world = World::new();
    let alice = User { name: "alice".into(), extension: Some("1005".into()), ..User::default() };
    let Operation::Put { key, value } = alice.put() else { panic!() };
    world.registrar.apply(&Change { key, record: Some(Record { value, revision: 2 }) });
    let contact = format!("Contact: {DESK}\r\n");
    assert_eq!(world.send(0, "c", 1, "<sip:1001@example.test>", &contact).status(), 403);
    assert_eq!(world.send(0, "c", 2, "<sip:1005@example.test>", &contact).status(), 200);
}

#[test]
fn a_removed_user_has_no_phones() {
    let mut world = World::new();
    world.register(0, &format!("Contact: {DESK}\r\n"));
    world.registrar.apply(&Change { key: User::key("alice"), record: None });
    assert!(world.contacts(0).is_empty());
    world.write(0);
    assert!(world.registrar.next_timeout().is_none());
}

#[test]
fn unknown_extensions_are_refused_by_name() {
    let mut world = World::new();
    let answer = world.register(0, &format!("Contact: {DESK}\r\nRequire: path, gruu\r\nRequire: magic\r\n"));
    assert_eq!((answer.status(), answer.response.get(Name::Unsupported)), (420, Some("gruu, magic")));
}

#[test]
fn a_further_phone_takes_the_place_of_the_one_refreshed_longest_ago() {
    let mut world = World::with(RegistrarConfig { bindings_max: 3, ..RegistrarConfig::default() });
    for number in 1..=3 {
        world.register(number, &format!("Contact: <sip:alice@192.0.2.{number}>\r\n"));
    }
    world.register(4, "Contact: <sip:alice@192.0.2.1>\r\n");
    world.register(5, "Contact: <sip:alice@192.0.2.4>\r\n");
    assert_eq!(world.contacts(5), ["sip:alice@192.0.2.4", "sip:alice@192.0.2.1", "sip:alice@192.0.2.3"]);
    let many: Vec<String> =
        (0..=CONTACTS_MAX).map(|number| format!("<sip:alice@198.51.100.{number}>")).collect();
    assert_eq!(world.register(6, &format!("Contact: {}\r\n", many.join(","))).status(), 400);
}

#[test]
fn the_path_is_kept_and_told() {
    let mut world = World::new();
    let path = "Path: <sip:edge2.example.test;lr>,<sip:edge1.example.test;lr;ob>\r\nPath: <sip:edge0;lr>\r\n";
    let answer = world.register(0, &format!("Contact: {DESK}\r\nSupported: path\r\n{path}"));
    let expected = ["<sip:edge2.example.test;lr>", "<sip:edge1.example.test;lr;ob>", "<sip:edge0;lr>"];
    assert_eq!(answer.response.list(Name::Path).collect::<Vec<_>>(), expected);
    assert!(answer.response.supports("path"));
    assert_eq!(world.registrar.bindings(at(0), "alice")[0].path, expected);
    let answer = world.register(1, &format!("Contact: {DESK}\r\n{path}"));
    assert_eq!(answer.response.get(Name::Path), None, "a phone that doesn't know it isn't told");
    assert_eq!(world.register(2, &format!("Contact: {DESK}\r\nPath: nonsense\r\n")).status(), 400);
    let long = format!("Contact: {DESK}\r\n{}", "Path: <sip:e;lr>\r\n".repeat(11));
    assert_eq!(world.register(3, &long).status(), 400);
}

#[test]
fn what_a_phone_takes_is_remembered() {
    let mut world = World::new();
    world
        .register(0, "Contact: <sip:a@h1>, <sip:a@h2>;methods=\"INVITE, BYE\"\r\nAllow: INVITE, MESSAGE\r\n");
    world.restart(at(1));
    let takes = |contact: &str| {
        let bindings = world.registrar.bindings(at(1), "alice");
        let binding = bindings.into_iter().find(|binding| binding.contact == contact).unwrap();
        world.registrar.allows("alice", &binding.id, "MESSAGE")
    };
    assert!(takes("sip:a@h1"));
    assert!(!takes("sip:a@h2"), "its own word counts");
    assert!(!world.registrar.allows("alice", "nothing", "MESSAGE"));
}

#[test]
fn the_configuration_sets_the_limits() {
    let limits = crate::config::Limits { bindings_per_user: 2, ..Default::default() };
    let sip = crate::config::Sip {
        domain: "example.test".into(),
        listen: Vec::new(),
        advertise: Vec::new(),
        nameservers: Vec::new(),
        emergency: Vec::new(),
        limits,
    };
    let config = RegistrarConfig::from(&sip);
    assert_eq!((config.bindings_max, config.expires_max.as_secs()), (2, 3600));
    assert_eq!(config.domains, ["example.test"]);
}

mod instances {
    use super::*;

    #[test]
    fn a_phone_that_comes_back_with_another_address_replaces_itself() {
        let mut world = World::new();
        world.send(0, "one", 9, "<sip:alice@example.test>", &format!("Contact: {DESK};{UUID}\r\n"));
        let id = world.registrar.bindings(at(0), "alice")[0].id.clone();
        let moved = format!("Contact: <sip:alice@192.0.2.77:61234>;{UUID}\r\n");
        let answer = world.send(1, "two", 1, "<sip:alice@example.test>", &moved);
        assert_eq!(answer.contacts().len(), 1);
        assert!(answer.contacts()[0].contains(UUID), "told back as it came: {:?}", answer.contacts());
        let [binding] = world.registrar.bindings(at(1), "alice")[..] else { panic!() };
        assert_eq!((binding.contact.as_str(), &binding.id), ("sip:alice@192.0.2.77:61234", &id));
    }

    #[test]
    fn two_addresses_of_one_phone_in_one_request_are_two_bindings() {
        let mut world = World::new();
        let both = format!("Contact: <sip:a@h>;{UUID}, <sip:a@h;transport=tcp>;{UUID}\r\n");
        for seconds in 0..2 {
            assert_eq!(world.register(seconds, &both).contacts().len(), 2);
        }
        let ids: Vec<&str> =
            world.registrar.bindings(at(1), "alice").iter().map(|binding| binding.id.as_str()).collect();
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn each_flow_of_an_outbound_phone_is_a_binding() {
        let mut world = World::new();
        let flow = |number: u32, port: u16| {
            format!(
                "Contact: <sip:alice@192.0.2.1:{port};ob>;reg-id={number};{UUID}\r\nSupported: path, outbound\r\n"
            )
        };
        world.flow = tcp("198.51.100.1:40001", 1);
        let answer = world.register(0, &flow(1, 4001));
        assert!(answer.response.requires("outbound"), "so that the phone keeps the flow alive");
        assert!(answer.contacts()[0].ends_with(";reg-id=1"));
        world.flow = tcp("198.51.100.1:40002", 2);
        world.register(1, &flow(2, 4002));
        world.flow = tcp("198.51.100.1:40003", 3);
        world.register(2, &flow(1, 4003));
        assert_eq!(world.contacts(2), ["sip:alice@192.0.2.1:4003;ob", "sip:alice@192.0.2.1:4002;ob"]);
        // One phone, one bell.
        let phones = world.registrar.phones(at(2), "alice");
        assert_eq!(phones.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        world.registrar.connection_closed(None, ConnectionId(3));
        world.write(2);
        assert_eq!(world.contacts(2), ["sip:alice@192.0.2.1:4002;ob"]);
        // The flow that was replaced before is nobody's any more.
        world.registrar.connection_closed(None, ConnectionId(1));
        assert!(world.registrar.on_timeout(at(2)).is_empty());
    }

    #[test]
    fn reg_id_means_nothing_without_outbound_or_instance() {
        let mut world = World::new();
        let answer = world.register(0, &format!("Contact: <sip:a@h1>;reg-id=1;{UUID}\r\n"));
        assert!(!answer.response.requires("outbound"));
        assert!(!answer.contacts()[0].contains("reg-id"));
        world.register(1, "Contact: <sip:a@h2>;reg-id=1\r\nSupported: outbound\r\n");
        assert!(world.registrar.bindings(at(1), "alice").iter().all(|binding| binding.reg_id.is_none()));
        for fields in [
            format!("Contact: <sip:a@h>;reg-id=0;{UUID}\r\nSupported: outbound\r\n"),
            format!("Contact: <sip:a@h>;reg-id=x;{UUID}\r\nSupported: outbound\r\n"),
            format!("Contact: <sip:a@h>;reg-id=1;{UUID}, <sip:b@h>\r\nSupported: outbound\r\n"),
        ] {
            assert_eq!(world.register(2, &fields).status(), 400, "{fields}");
        }
    }

    #[test]
    fn a_first_proxy_without_outbound_is_told() {
        let contact = format!("Contact: <sip:a@h>;reg-id=1;{UUID}\r\nSupported: path, outbound\r\n");
        let via = "Via: SIP/2.0/UDP 192.0.2.50;branch=z9hG4bKphone\r\n";
        let mut world = World::new();
        assert_eq!(world.register(0, &format!("{via}{contact}")).status(), 439);
        let edge = "Path: <sip:core;lr>, <sip:edge;lr;ob>\r\n";
        assert_eq!(world.register(1, &format!("{via}{contact}{edge}")).status(), 200);
        let edge = "Path: <sip:core;lr;ob>, <sip:edge;lr>\r\n";
        assert_eq!(world.register(2, &format!("{via}{contact}{edge}")).status(), 439);
    }
}

mod connections {
    use super::*;

    #[test]
    fn a_plain_binding_outlives_its_connection() {
        let mut world = World::new();
        world.flow = tcp("198.51.100.1:40001", 1);
        world.register(0, &format!("Contact: {DESK}\r\n"));
        world.registrar.connection_closed(None, ConnectionId(1));
        assert!(world.registrar.on_timeout(at(0)).is_empty());
        let [binding] = world.registrar.bindings(at(0), "alice")[..] else { panic!() };
        assert_eq!(binding.flow.connection, None);
    }

    #[test]
    fn who_sent_a_request_is_recognised() {
        let mut world = World::new();
        world.flow = udp("198.51.100.1:40001");
        world.register(0, "Contact: <sip:alice@192.0.2.1>\r\n");
        world.flow = udp("198.51.100.1:40002");
        world.register(0, &format!("Contact: <sip:alice@192.0.2.2>;{UUID}\r\n"));
        world.flow = tcp("198.51.100.9:40003", 5);
        world.register(0, "Contact: <sip:alice@192.0.2.3>\r\n");
        let found = |flow: Flow, contact: Option<&str>| {
            let binding = world.registrar.binding_for(at(0), "alice", &flow, contact);
            binding.map(|binding| binding.contact.as_str())
        };
        let elsewhere = udp("203.0.113.1:5060");
        assert_eq!(found(elsewhere, Some("Alice <sip:alice@192.0.2.1>;x=y")), Some("sip:alice@192.0.2.1"));
        assert_eq!(
            found(elsewhere, Some("sip:alice@192.0.2.2;ob")),
            Some("sip:alice@192.0.2.2"),
            "a bare URI"
        );
        assert_eq!(found(elsewhere, Some("sip:alice@192.0.2.2;transport=tcp")), None, "not that address");
        let other_port = format!("<sip:alice@192.0.2.2:9>;{UUID}");
        assert_eq!(found(elsewhere, Some(&other_port)), Some("sip:alice@192.0.2.2"), "by its instance");
        assert_eq!(
            found(udp("198.51.100.1:40002"), Some("<sip:x@y>")),
            Some("sip:alice@192.0.2.2"),
            "by its flow"
        );
        assert_eq!(found(tcp("198.51.100.9:40003", 5), None), Some("sip:alice@192.0.2.3"));
        assert_eq!(
            found(tcp("198.51.100.9:40003", 6), None),
            Some("sip:alice@192.0.2.3"),
            "nobody else is there"
        );
        assert_eq!(found(udp("198.51.100.1:40009"), None), None, "either of two");
        assert_eq!(found(elsewhere, None), None);
        assert_eq!(world.registrar.binding_for(at(0), "bob", &elsewhere, None), None);
        // The contact is what the phone says, so it counts before the flow.
        assert_eq!(
            found(udp("198.51.100.1:40001"), Some("<sip:alice@192.0.2.2>")),
            Some("sip:alice@192.0.2.2")
        );
    }
}

mod restarts {
    use super::*;

    #[test]
    fn bindings_come_back_as_they_were() {
        let mut world = World::new();
        world.flow = tcp("198.51.100.1:40001", 77);
        world.register(0, &format!("Contact: <sip:alice@192.0.2.1>;q=0.5;{UUID}\r\nPath: <sip:e;lr>\r\n"));
        world.flow = udp("198.51.100.2:40002");
        world.register(5, "Contact: <sip:alice@192.0.2.2>;q=0.5;expires=60\r\n");
        let before: Vec<Binding> = world.registrar.bindings(at(6), "alice").into_iter().cloned().collect();
        world.restart(at(30));
        let mut after: Vec<Binding> =
            world.registrar.bindings(at(30), "alice").into_iter().cloned().collect();
        assert_eq!(after[1].flow.connection, None, "that connection is gone");
        after[1].flow.connection = Some(ConnectionId(77));
        assert_eq!(after, before);
        assert_eq!(world.registrar.next_timeout(), Some(at(65).instant));
        assert_eq!(world.send(31, "x", 1, "<sip:1001@example.test>", "").status(), 200, "extensions as well");
    }

    #[test]
    fn order_is_kept_over_a_restart() {
        let mut world = World::new();
        let alice = "<sip:alice@example.test>";
        world.send(0, "one", 7, alice, &format!("Contact: {DESK}\r\n"));
        world.restart(at(1));
        assert_eq!(world.send(2, "one", 7, alice, &format!("Contact: {DESK};expires=0\r\n")).status(), 500);
    }

    #[test]
    fn what_expired_while_the_host_was_down_is_gone() {
        let mut world = World::new();
        world.register(0, &format!("Contact: {DESK};expires=60\r\n"));
        world.restart(at(100));
        assert!(world.contacts(100).is_empty());
        let operations = world.registrar.on_timeout(at(100));
        world.store(operations);
        assert_eq!(world.store.records.len(), 1, "from the store as well");
    }

    #[test]
    fn unreadable_records_are_left_out() {
        let mut world = World::new();
        world.register(0, &format!("Contact: {DESK}\r\n"));
        let good = world.store.records.iter().find(|(key, _)| key.contains("/binding/")).unwrap().1.clone();
        for (key, value) in [("bob/x", &good.value[..]), ("alice/y", b"{")] {
            let record = Record { value: Bytes::copy_from_slice(value), revision: 1 };
            world.store.records.insert(format!("{}binding/{key}", crate::store::ROOT), record);
        }
        world.restart(at(1));
        assert_eq!(world.contacts(1), ["sip:alice@192.0.2.1:5060"]);
        assert!(world.registrar.bindings(at(1), "bob").is_empty());
    }
}
