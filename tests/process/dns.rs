//! A name server for one zone, on loopback.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use hickory_resolver::proto::serialize::binary::{BinDecodable, BinEncodable};

fn name(text: &str) -> Name {
    Name::from_utf8(text).unwrap()
}

/// Serves the zone until the test process ends; gives its address. It says that SIP over UDP for `gw.test` is served
/// by `box.gw.test`, which is this machine, on the given ports, best first.
pub fn serve(ports: &[u16]) -> SocketAddr {
    let record = |owner: &str, data| Record::from_rdata(name(owner), 60, data);
    let places =
        ports.iter().zip(1..).map(|(port, priority)| SRV::new(priority, 1, *port, name("box.gw.test.")));
    let mut zone: Vec<Record> = places.map(|srv| record("_sip._udp.gw.test.", RData::SRV(srv))).collect();
    zone.push(record("box.gw.test.", RData::A(A(Ipv4Addr::LOCALHOST))));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let query = Message::from_bytes(&buffer[..len]).unwrap();
            let _ = socket.send_to(&answer(&zone, &query).to_bytes().unwrap(), from);
        }
    });
    address
}

fn answer(zone: &[Record], query: &Message) -> Message {
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, OpCode::Query);
    let known = zone.iter().filter(|record| record.name == *question.name());
    if known.clone().count() == 0 {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.add_answers(known.filter(|record| record.record_type() == question.query_type()).cloned());
    answer.add_query(question);
    answer
}
