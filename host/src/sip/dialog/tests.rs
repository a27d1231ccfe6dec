use bytes::Bytes;

use super::*;
use crate::net::Protocol;
use crate::sip::{Replaces, Status};

fn flow() -> Flow {
    Flow {
        protocol: Protocol::Udp,
        local: "192.0.2.1:5060".parse().expect("address"),
        remote: "192.0.2.9:5060".parse().expect("address"),
        connection: None,
        edge: None,
    }
}

fn message(text: &str) -> Message {
    let text = text.replace('\n', "\r\n");
    Message::parse(Bytes::from(text.clone())).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn invite() -> Message {
    message(
        "INVITE sip:bob@host.test SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nRecord-Route: <sip:p2;lr>,<sip:p1;lr>\n\
         From: \"Alice\" <sip:alice@a.test>;tag=a;x=y\nTo: <sip:bob@host.test>\nCall-ID: c\nCSeq: 314 INVITE\n\
         Contact: \"A\" <sip:alice@10.0.0.1;transport=tcp>;expires=60\n\n",
    )
}

fn ok() -> Message {
    let mut draft = Draft::response(&invite(), Status::OK);
    draft.to_tag("b").add(Name::Contact, "<sip:bob@10.0.0.2>");
    draft.build()
}

fn request(dialog: &mut Dialog, method: Method) -> Message {
    let mut draft = dialog.request(method);
    draft.prepend(Name::Via, "SIP/2.0/UDP h;branch=z9hG4bK2");
    Message::parse(draft.build().bytes().clone()).expect("valid")
}

#[test]
fn the_called_side_answers_along_the_recorded_route() {
    let mut dialog = Dialog::uas(&invite(), "b", flow());
    assert_eq!((dialog.remote_cseq, dialog.local_cseq), (Some(314), 0));
    let bye = request(&mut dialog, Method::Bye);
    assert_eq!(bye.uri(), "sip:alice@10.0.0.1;transport=tcp");
    assert_eq!(bye.list(Name::Route).collect::<Vec<_>>(), ["<sip:p2;lr>", "<sip:p1;lr>"]);
    assert_eq!(bye.from(), "<sip:bob@host.test>;tag=b");
    assert_eq!(bye.to(), "\"Alice\" <sip:alice@a.test>;x=y;tag=a");
    assert_eq!((bye.cseq().number, bye.call_id(), bye.get(Name::MaxForwards)), (1, "c", Some("70")));
    assert_eq!(dialog.next_hop(), "sip:p2;lr");
}

#[test]
fn the_calling_side_reverses_the_recorded_route() {
    let mut dialog = Dialog::uac(&invite(), &ok(), flow());
    assert_eq!(dialog.route_set, ["<sip:p1;lr>", "<sip:p2;lr>"]);
    let info = request(&mut dialog, Method::Info);
    assert_eq!((info.uri(), info.cseq().number), ("sip:bob@10.0.0.2", 315));
    assert_eq!((info.from_tag(), info.to_tag()), ("a", Some("b")));
    let ack = dialog.ack(314).build();
    assert_eq!(ack.cseq(), CSeq { number: 314, method: Method::Ack });
    assert_eq!(dialog.local_cseq, 315);
}

#[test]
fn both_sides_and_a_replaces_name_the_same_dialog() {
    let uac = Dialog::uac(&invite(), &ok(), flow());
    let mut uas = Dialog::uas(&invite(), "b", flow());
    assert_eq!(uac.id(), uas.id().swapped());
    assert_eq!(DialogId::of_response(&ok()), Some(uac.id()));
    assert_eq!(DialogId::of_request(&invite()), None);
    let request = request(&mut uas, Method::Bye);
    assert_eq!(DialogId::of_request(&request), Some(uac.id()));
    let replaces = Replaces::parse("c;to-tag=b;from-tag=a").expect("valid");
    assert_eq!(DialogId::from(replaces), uas.id());
}

/// RFC 3261 §12.2.1.1, second case.
#[test]
fn a_strict_router_gets_the_request_uri() {
    let mut dialog = Dialog::uas(&invite(), "b", flow());
    dialog.route_set = vec!["<sip:strict;method=BYE?X=1>".to_owned(), "<sip:loose;lr>".to_owned()];
    dialog.remote_target = "sip:alice@10.0.0.1".to_owned();
    let bye = request(&mut dialog, Method::Bye);
    assert_eq!(bye.uri(), "sip:strict");
    assert_eq!(bye.list(Name::Route).collect::<Vec<_>>(), ["<sip:loose;lr>", "<sip:alice@10.0.0.1>"]);
    assert_eq!(dialog.next_hop(), "sip:strict;method=BYE?X=1");
}

#[test]
fn a_request_must_have_a_higher_cseq_than_the_last() {
    let mut dialog = Dialog::uas(&invite(), "b", flow());
    let with = |number: u32, method: &str| {
        let text =
            String::from_utf8_lossy(invite().bytes()).replace("314 INVITE", &format!("{number} {method}"));
        Message::parse(text.replace("INVITE sip", &format!("{method} sip")).into()).expect("valid")
    };
    assert_eq!(dialog.receive(&with(314, "ACK")), Ok(()));
    assert_eq!(dialog.receive(&with(314, "INFO")), Err(OutOfOrder { received: 314, last: 314 }));
    assert_eq!(dialog.receive(&with(400, "INFO")), Ok(()));
    assert_eq!(dialog.receive(&with(399, "BYE")), Err(OutOfOrder { received: 399, last: 400 }));
    assert_eq!(dialog.remote_cseq, Some(400));
    dialog.remote_cseq = None;
    assert_eq!(dialog.receive(&with(1, "BYE")), Ok(()));
}

#[test]
fn a_target_refresh_moves_the_target_and_only_a_contact_can() {
    let mut dialog = Dialog::uas(&invite(), "b", flow());
    dialog.refresh_target(&ok());
    assert_eq!(dialog.remote_target, "sip:bob@10.0.0.2");
    dialog.refresh_target(&Draft::response(&invite(), Status::OK).build());
    assert_eq!(dialog.remote_target, "sip:bob@10.0.0.2");
}

#[test]
fn the_2xx_decides_the_route_of_an_early_dialog() {
    let mut early = Draft::response(&invite(), Status::RINGING);
    early.to_tag("b").remove(Name::RecordRoute);
    let mut dialog = Dialog::uac(&invite(), &early.build(), flow());
    assert_eq!((dialog.route_set.len(), dialog.remote_target.as_str()), (0, "sip:bob@host.test"));
    dialog.confirm(&ok());
    assert_eq!((dialog.route_set.len(), dialog.remote_target.as_str()), (2, "sip:bob@10.0.0.2"));
}

#[test]
fn a_dialog_survives_being_stored() {
    let dialog = Dialog::uac(&invite(), &ok(), flow());
    let json = serde_json::to_string(&dialog).expect("serializes");
    assert_eq!(serde_json::from_str::<Dialog>(&json).expect("reads back"), dialog);
}

#[test]
fn a_peer_without_tags_is_spoken_to_without_tags() {
    let text = String::from_utf8_lossy(invite().bytes()).replace(";tag=a;x=y", "");
    let old = Message::parse(text.into()).expect("RFC 2543");
    let mut dialog = Dialog::uas(&old, "b", flow());
    assert_eq!(request(&mut dialog, Method::Bye).to(), "\"Alice\" <sip:alice@a.test>");
}

/// A peer behind a NAT is reached where it was heard; one that is not listens where its Contact says.
#[test]
fn the_next_request_goes_where_the_peer_listens() {
    use crate::net::ConnectionId;

    let heard = Flow { remote: "192.0.2.9:40000".parse().expect("address"), ..flow() };
    let stream = Flow { protocol: Protocol::Tcp, ..heard };
    let connected = Flow { connection: Some(ConnectionId(1)), ..stream };
    for (flow, contact, port) in [
        (heard, "sip:a@192.0.2.9:5070", 5070),
        (heard, "sip:a@192.0.2.9", 5060),
        (heard, "sip:a@10.0.0.1:5070", 40000),
        (heard, "sip:a@phone.test:5070", 40000),
        (stream, "sip:a@192.0.2.9:5070;transport=tcp", 5070),
        (connected, "sip:a@192.0.2.9:5070;transport=tcp", 40000),
    ] {
        assert_eq!(listening(flow, contact).remote.port(), port, "{flow:?} {contact}");
    }
    let mut routed = Dialog::uas(&invite(), "b", heard);
    routed.remote_target = "sip:a@192.0.2.9:5070".to_owned();
    assert_eq!(routed.listening().remote.port(), 40000, "along the recorded route");
}
