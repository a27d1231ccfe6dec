//! Opens what `[sip] listen` names, before anything else starts: a port in use is found out at once.

use std::io;

use super::{tcp, udp};
use crate::config::{Listen, Sip};
use crate::net::{Listener, Protocol};

/// Open sockets, not yet read.
#[derive(Debug)]
pub struct Ports {
    /// What the engine is told, in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// For the engine's thread.
    pub udp: Vec<std::net::UdpSocket>,
    /// For [`tcp::Streams::listen`].
    pub tcp: Vec<std::net::TcpListener>,
}

/// Why the host cannot listen where it should. Says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody else listens there.
    #[error(
        "{listen} is in use by another program, perhaps another switchyard. `ss -lnp{flag} 'sport = :{port}'` shows which. \
         Stop it, or change `listen` under [sip]"
    )]
    InUse {
        /// Where.
        listen: Listen,
        /// The option of `ss` for that protocol.
        flag: char,
        /// The port to look for.
        port: u16,
    },
    /// The address is not one of this machine.
    #[error("{0} is not an address of this machine (`ip addr` lists them). Change `listen` under [sip]")]
    NotOurs(Listen),
    /// A port below 1024, mostly.
    #[error("{0} may not be opened by this user: choose a port above 1023, or grant CAP_NET_BIND_SERVICE")]
    NotAllowed(Listen),
    /// This version speaks UDP and TCP.
    #[error("{0}: {protocol} is not available in this version; use udp or tcp", protocol = .0.protocol)]
    NotAvailable(Listen),
    /// Anything else.
    #[error("{listen} cannot be opened: {error}")]
    Other {
        /// Where.
        listen: Listen,
        /// Why.
        error: io::Error,
    },
}

impl PortError {
    fn new(listen: Listen, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                let flag = if listen.protocol == Protocol::Udp { 'u' } else { 't' };
                Self::InUse { listen, flag, port: listen.address.port() }
            }
            io::ErrorKind::AddrNotAvailable => Self::NotOurs(listen),
            io::ErrorKind::PermissionDenied => Self::NotAllowed(listen),
            _ => Self::Other { listen, error },
        }
    }
}

/// Opens all of them, or none.
pub fn open(sip: &Sip) -> Result<Ports, PortError> {
    let mut ports = Ports { listeners: Vec::new(), udp: Vec::new(), tcp: Vec::new() };
    for listen in &sip.listen {
        let failed = |error| PortError::new(*listen, error);
        let local = match listen.protocol {
            Protocol::Udp => {
                let sockets = udp::bind(listen.address, 1).map_err(failed)?;
                let local = sockets.first().map_or(Ok(listen.address), |socket| socket.local_addr());
                ports.udp.extend(sockets);
                local
            }
            Protocol::Tcp => {
                let listener = tcp::bind(listen.address).map_err(failed)?;
                let local = listener.local_addr();
                ports.tcp.push(listener);
                local
            }
            Protocol::Tls | Protocol::Ws | Protocol::Wss | Protocol::Cluster => {
                return Err(PortError::NotAvailable(*listen));
            }
        }
        .map_err(failed)?;
        let advertised = sip.advertised(listen.protocol, local);
        ports.listeners.push(Listener { protocol: listen.protocol, local, advertised });
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    fn sip(listen: &[&str], advertise: &[&str]) -> Sip {
        Sip {
            domain: "example.test".to_owned(),
            listen: listen.iter().map(|text| text.parse().unwrap()).collect(),
            advertise: advertise.iter().map(|text| text.parse().unwrap()).collect(),
            nameservers: Vec::new(),
            emergency: Vec::new(),
            limits: Limits::default(),
        }
    }

    #[test]
    fn each_listener_knows_its_port_and_what_to_tell_others() {
        let ports =
            open(&sip(&["udp:127.0.0.1:0", "tcp:127.0.0.1:0"], &["tcp:sip.example.test:5070"])).unwrap();
        let [udp, tcp] = &ports.listeners[..] else { panic!("{:?}", ports.listeners) };
        assert_eq!(udp.local, ports.udp[0].local_addr().unwrap());
        assert_eq!(udp.advertised, udp.local.to_string());
        assert_eq!(tcp.local, ports.tcp[0].local_addr().unwrap());
        assert_eq!(tcp.advertised, "sip.example.test:5070");
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_to_find_who_uses_it() {
        for protocol in ["udp", "tcp"] {
            let first = open(&sip(&[&format!("{protocol}:127.0.0.1:0")], &[])).unwrap();
            let taken = format!("{protocol}:{}", first.listeners[0].local);
            let error = open(&sip(&[&taken], &[])).unwrap_err().to_string();
            let port = first.listeners[0].local.port();
            assert!(error.starts_with(&format!("{taken} is in use")), "{error}");
            assert!(error.contains(&format!("ss -lnp{} 'sport = :{port}'", &protocol[..1])), "{error}");
        }
    }

    #[test]
    fn an_address_of_another_machine_is_named() {
        let error = open(&sip(&["udp:192.0.2.1:5060"], &[])).unwrap_err().to_string();
        assert!(error.starts_with("udp:192.0.2.1:5060 is not an address of this machine"), "{error}");
    }
}
