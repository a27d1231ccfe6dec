//! Abuse: strangers, forgers and thieves at the door of a host that has calls to carry.

mod floods;
mod forgers;
mod passwords;
mod strangers;
mod tolls;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use switchyard_host::engine::Input;
use switchyard_host::net::{Flow, Protocol};
use switchyard_host::registrar::{Login, answer_challenge};
use switchyard_host::sip::{Message, Method};

use crate::harness::World;

const SECOND: Duration = Duration::from_secs(1);

/// Where nobody we know is.
fn stranger(host: u8) -> SocketAddr {
    SocketAddr::from(([203, 0, 113, host], 5060))
}

/// What comes from `from` reaches the host as it stands.
fn inject(world: &mut World, from: SocketAddr, text: &str) {
    let flow = Flow {
        protocol: Protocol::Udp,
        local: world.host_address(),
        remote: from,
        connection: None,
        edge: None,
    };
    world.host_gets(Input::Received { flow, bytes: Bytes::copy_from_slice(text.as_bytes()) });
}

/// A request as short as a scanner's, of its own Call-ID and branch. `more` are whole header lines.
fn request(method: &str, uri: &str, serial: usize, more: &str) -> String {
    format!(
        "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;branch=z9hG4bK{serial}\r\nFrom: <sip:1@h>;tag=1\r\n\
         To: <{uri}>\r\nCall-ID: {serial}\r\nCSeq: 1 {method}\r\n{more}\r\n"
    )
}

/// What the host has said to an address where no phone is, from the first to the last.
fn said_to(world: &World, to: SocketAddr) -> Vec<Message> {
    let strays = world.strays.iter().filter(|(flow, _)| flow.remote == to);
    strays.map(|(_, bytes)| Message::parse(bytes.clone()).unwrap()).collect()
}

fn statuses(world: &World, to: SocketAddr) -> Vec<u16> {
    said_to(world, to).iter().filter_map(|message| message.status()).map(|status| status.0).collect()
}

/// What `/metrics` would say.
fn limited(world: &mut World) -> (u64, u64) {
    let status = world.ask(switchyard_host::admin::Request::Status).unwrap();
    let number = |name: &str| status["sip"][name].as_u64().unwrap();
    (number("limited"), number("limited_answered"))
}

/// The Authorization header with which `user` answers the host's last word to `from`.
fn answer(world: &World, from: SocketAddr, user: &str, method: &Method, uri: &str) -> String {
    let challenge = said_to(world, from).pop().unwrap();
    let password = format!("{user}-secret");
    let (_, value) =
        answer_challenge(&challenge, Login { user, password: &password }, method, uri, 1, "cn").unwrap();
    format!("Authorization: {value}\r\n")
}
