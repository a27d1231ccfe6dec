//! Where requests for a name go: NAPTR, SRV and addresses in the order of RFC 3263 §4.
//!
//! The order is decided here, on values; asking is left to a [`Names`], which is DNS in a host and a table in tests.

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use rand::RngExt;
use rand_chacha::ChaCha12Rng;

use crate::net::Protocol;

/// More targets than anybody tries before giving up: at 500 ms to 5 s each, Timer B ends the attempt earlier.
pub const TARGETS_MAX: usize = 16;

/// Host names looked up for one query. A reply that lists more is no help, and each costs a question.
const HOSTS_MAX: usize = 8;

/// A NAPTR record (RFC 3403 §4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naptr {
    /// Lowest first, and only the lowest that fits counts.
    pub order: u16,
    /// Among equal orders, lowest first.
    pub preference: u16,
    /// `s`: the replacement has SRV records.
    pub flags: String,
    /// `SIP+D2U`, `SIP+D2T`, `SIPS+D2T`, or something of no concern to us.
    pub service: String,
    /// Where to go on.
    pub replacement: String,
}

/// An SRV record (RFC 2782).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Srv {
    /// Lowest first.
    pub priority: u16,
    /// The share of requests among equal priorities.
    pub weight: u16,
    /// The port of the target.
    pub port: u16,
    /// A host name; empty (the root) says that the service is not offered.
    pub target: String,
}

/// Answers questions about names. An answer "there is none" is an empty list; so is a failure, after it was logged:
/// for the choice of a target both mean to go on with what else there is.
#[async_trait]
pub trait Names: Send + Sync {
    /// NAPTR records of a domain.
    async fn naptr(&self, domain: &str) -> Vec<Naptr>;
    /// SRV records of `_sip._udp.example.test` and the like.
    async fn srv(&self, name: &str) -> Vec<Srv>;
    /// IPv4 and IPv6 addresses of a host, best first.
    async fn addresses(&self, host: &str) -> Vec<IpAddr>;
}

/// What is asked: the parts of a SIP URI that matter (RFC 3263 §4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The host part, or `maddr`.
    pub host: String,
    /// The port, if the URI has one.
    pub port: Option<u16>,
    /// The `transport` parameter, if the URI has one.
    pub protocol: Option<Protocol>,
    /// Whether the scheme is `sips`.
    pub secure: bool,
}

/// What this host can reach: the protocols and address families it listens on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reach {
    /// Protocol and whether the address is IPv6, of each listener.
    listeners: Vec<(Protocol, bool)>,
}

impl Reach {
    /// Of the given listening addresses.
    pub fn new(listeners: impl IntoIterator<Item = (Protocol, SocketAddr)>) -> Self {
        Self {
            listeners: listeners.into_iter().map(|(protocol, local)| (protocol, local.is_ipv6())).collect(),
        }
    }

    fn speaks(&self, protocol: Protocol) -> bool {
        self.listeners.iter().any(|(ours, _)| *ours == protocol)
    }

    fn can_send(&self, protocol: Protocol, address: &IpAddr) -> bool {
        self.listeners.contains(&(protocol, address.is_ipv6()))
    }
}

/// Where to send, best first. Empty if the name leads nowhere we can go.
pub async fn locate(
    names: &dyn Names,
    reach: &Reach,
    query: &Query,
    rng: &mut ChaCha12Rng,
) -> Vec<(Protocol, SocketAddr)> {
    let mut search = Search { names, reach, rng, targets: Vec::new(), hosts_asked: 0 };
    search.run(query).await;
    search.targets
}

struct Search<'a> {
    names: &'a dyn Names,
    reach: &'a Reach,
    rng: &'a mut ChaCha12Rng,
    targets: Vec<(Protocol, SocketAddr)>,
    hosts_asked: usize,
}

impl Search<'_> {
    async fn run(&mut self, query: &Query) {
        let host = query.host.trim_end_matches('.');
        let protocol = query.protocol.map(|protocol| if query.secure { secured(protocol) } else { protocol });
        // RFC 3263 §4.1: with an address or a port there is neither NAPTR nor SRV, and UDP is the default.
        let fallback = protocol.unwrap_or(if query.secure { Protocol::Tls } else { Protocol::Udp });
        if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
            self.add(fallback, address, query.port.unwrap_or(fallback.default_port()));
            return;
        }
        if let Some(port) = query.port {
            self.add_host(fallback, host, port).await;
            return;
        }
        let services = match protocol {
            Some(protocol) => vec![(protocol, srv_name(protocol, host))],
            None => self.services(host, query.secure).await,
        };
        let mut any_srv = false;
        for (protocol, name) in services {
            if !self.reach.speaks(protocol) {
                continue;
            }
            let records = self.names.srv(&name).await;
            any_srv |= !records.is_empty();
            for record in by_priority_and_weight(records, self.rng) {
                // A target of "." says that the service is decidedly not offered (RFC 2782).
                if !record.target.is_empty() {
                    self.add_host(protocol, &record.target, record.port).await;
                }
            }
        }
        if !any_srv {
            // RFC 3263 §4.2: no SRV at all, so the name is a host.
            self.add_host(fallback, host, fallback.default_port()).await;
        }
    }

    /// Protocols in order of preference, with the name of their SRV records: as NAPTR says, else what we speak.
    async fn services(&self, host: &str, secure: bool) -> Vec<(Protocol, String)> {
        let mut records = self.names.naptr(host).await;
        records.sort_by_key(|record| (record.order, record.preference));
        let advertised: Vec<_> = records
            .into_iter()
            .filter(|record| record.flags.eq_ignore_ascii_case("s"))
            .filter_map(|record| Some((service(&record.service, secure)?, record.replacement)))
            .filter(|(protocol, _)| self.reach.speaks(*protocol))
            .collect();
        if !advertised.is_empty() {
            return advertised;
        }
        let ours: &[Protocol] = if secure { &[Protocol::Tls] } else { &[Protocol::Udp, Protocol::Tcp] };
        ours.iter().map(|protocol| (*protocol, srv_name(*protocol, host))).collect()
    }

    async fn add_host(&mut self, protocol: Protocol, host: &str, port: u16) {
        if !self.reach.speaks(protocol) || self.hosts_asked == HOSTS_MAX {
            return;
        }
        self.hosts_asked += 1;
        for address in self.names.addresses(host).await {
            self.add(protocol, address, port);
        }
    }

    fn add(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        let target = (protocol, SocketAddr::new(address, port));
        let new = !self.targets.contains(&target);
        if new && self.targets.len() < TARGETS_MAX && self.reach.can_send(protocol, &address) {
            self.targets.push(target);
        }
    }
}

/// The protocol a NAPTR service stands for (RFC 3263 §4.1, RFC 7118 §5). `sips` takes only what is secure on
/// this hop.
fn service(name: &str, secure: bool) -> Option<Protocol> {
    let protocol = match name.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Protocol::Udp,
        "SIP+D2T" => Protocol::Tcp,
        "SIPS+D2T" => Protocol::Tls,
        "SIP+D2W" => Protocol::Ws,
        "SIPS+D2W" => Protocol::Wss,
        _ => return None,
    };
    (!secure || matches!(protocol, Protocol::Tls | Protocol::Wss)).then_some(protocol)
}

/// What `transport=tcp` means in a `sips` URI (RFC 5630 §3.1.3): the transport below TLS.
fn secured(protocol: Protocol) -> Protocol {
    match protocol {
        Protocol::Udp | Protocol::Tcp | Protocol::Tls => Protocol::Tls,
        Protocol::Ws | Protocol::Wss => Protocol::Wss,
        Protocol::Cluster => Protocol::Cluster,
    }
}

fn srv_name(protocol: Protocol, host: &str) -> String {
    let label = match protocol {
        Protocol::Udp | Protocol::Cluster => "_sip._udp",
        Protocol::Tcp => "_sip._tcp",
        Protocol::Tls => "_sips._tcp",
        Protocol::Ws => "_sip._ws",
        Protocol::Wss => "_sips._ws",
    };
    format!("{label}.{host}")
}

/// The order of RFC 2782: by priority; within one, at random, each by its share of the weight.
fn by_priority_and_weight(mut records: Vec<Srv>, rng: &mut ChaCha12Rng) -> Vec<Srv> {
    // Zero weights first gives them their small chance; the rest of the key only makes the order that of the records'
    // contents instead of the packet's, so that one seed gives one outcome.
    records.sort_by(|a, b| {
        (a.priority, a.weight, &a.target, a.port).cmp(&(b.priority, b.weight, &b.target, b.port))
    });
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|first| first.priority) {
        let equals = records.iter().take_while(|record| record.priority == priority);
        let total: u64 = equals.map(|record| u64::from(record.weight)).sum();
        let mut drawn = rng.random_range(0..=total);
        let chosen = records
            .iter()
            .position(|record| match drawn.checked_sub(u64::from(record.weight)) {
                Some(rest) if rest > 0 => {
                    drawn = rest;
                    false
                }
                _ => true,
            })
            .unwrap_or(0);
        ordered.push(records.remove(chosen));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;

    use super::*;

    #[derive(Default)]
    struct Zone {
        naptr: BTreeMap<&'static str, Vec<Naptr>>,
        srv: BTreeMap<&'static str, Vec<Srv>>,
        addresses: BTreeMap<&'static str, Vec<&'static str>>,
    }

    #[async_trait]
    impl Names for Zone {
        async fn naptr(&self, domain: &str) -> Vec<Naptr> {
            self.naptr.get(domain).cloned().unwrap_or_default()
        }
        async fn srv(&self, name: &str) -> Vec<Srv> {
            self.srv.get(name).cloned().unwrap_or_default()
        }
        async fn addresses(&self, host: &str) -> Vec<IpAddr> {
            let texts = self.addresses.get(host).cloned().unwrap_or_default();
            texts.iter().map(|text| text.parse().unwrap()).collect()
        }
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Naptr {
        let [service, replacement] = [service, replacement].map(str::to_owned);
        Naptr { order, preference, flags: "s".to_owned(), service, replacement }
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Srv {
        Srv { priority, weight, port, target: target.to_owned() }
    }

    fn reach() -> Reach {
        let local = SocketAddr::from(([127, 0, 0, 1], 5060));
        Reach::new([(Protocol::Udp, local), (Protocol::Tcp, local)])
    }

    fn uri(host: &str) -> Query {
        Query { host: host.to_owned(), port: None, protocol: None, secure: false }
    }

    /// The answer as one line: `udp 192.0.2.1:5060, …`.
    async fn targets_within(zone: &Zone, reach: &Reach, query: Query) -> String {
        let targets = locate(zone, reach, &query, &mut ChaCha12Rng::from_seed([1; 32])).await;
        let texts: Vec<_> =
            targets.iter().map(|(protocol, address)| format!("{protocol} {address}")).collect();
        texts.join(", ")
    }

    async fn targets(zone: &Zone, query: Query) -> String {
        targets_within(zone, &reach(), query).await
    }

    fn gateway() -> Zone {
        Zone {
            naptr: BTreeMap::from([(
                "example.test",
                vec![
                    naptr(60, 50, "SIP+D2U", "_sip._udp.elsewhere.test"),
                    naptr(50, 60, "SIP+D2T", "_sip._tcp.example.test"),
                    naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.test"),
                    naptr(10, 10, "E2U+sip", "!^.*$!"),
                ],
            )]),
            srv: BTreeMap::from([
                ("_sip._tcp.example.test", vec![srv(2, 0, 5080, "b.test"), srv(1, 0, 5070, "a.test")]),
                ("_sip._udp.elsewhere.test", vec![srv(1, 0, 5090, "a.test")]),
            ]),
            addresses: BTreeMap::from([
                ("a.test", vec!["192.0.2.1", "2001:db8::1"]),
                ("b.test", vec!["192.0.2.2"]),
                ("example.test", vec!["192.0.2.9"]),
            ]),
        }
    }

    #[tokio::test]
    async fn naptr_chooses_the_transport_and_srv_the_host() {
        assert_eq!(
            targets(&gateway(), uri("example.test")).await,
            "tcp 192.0.2.1:5070, tcp 192.0.2.2:5080, udp 192.0.2.1:5090"
        );
    }

    #[tokio::test]
    async fn a_port_skips_naptr_and_srv() {
        let query = Query { port: Some(5999), ..uri("example.test") };
        assert_eq!(targets(&gateway(), query.clone()).await, "udp 192.0.2.9:5999");
        let query = Query { protocol: Some(Protocol::Tcp), ..query };
        assert_eq!(targets(&gateway(), query).await, "tcp 192.0.2.9:5999");
    }

    #[tokio::test]
    async fn a_transport_skips_naptr_only() {
        let query = Query { protocol: Some(Protocol::Tcp), ..uri("example.test") };
        assert_eq!(targets(&gateway(), query).await, "tcp 192.0.2.1:5070, tcp 192.0.2.2:5080");
        let query = Query { protocol: Some(Protocol::Udp), ..uri("example.test") };
        assert_eq!(targets(&gateway(), query).await, "udp 192.0.2.9:5060", "no SRV for UDP: the host itself");
    }

    #[tokio::test]
    async fn without_naptr_srv_records_say_what_is_spoken() {
        let zone = Zone { naptr: BTreeMap::new(), ..gateway() };
        assert_eq!(targets(&zone, uri("example.test")).await, "tcp 192.0.2.1:5070, tcp 192.0.2.2:5080");
        assert_eq!(targets(&zone, uri("b.test.")).await, "udp 192.0.2.2:5060", "without any record: UDP");
        assert_eq!(targets(&zone, uri("nowhere.test")).await, "");
    }

    #[tokio::test]
    async fn an_address_needs_no_question() {
        assert_eq!(targets(&Zone::default(), uri("192.0.2.7")).await, "udp 192.0.2.7:5060");
        let local = SocketAddr::from(([0; 16], 5060));
        let six = Reach::new([(Protocol::Udp, local)]);
        assert_eq!(
            targets_within(&Zone::default(), &six, uri("[2001:db8::7]")).await,
            "udp [2001:db8::7]:5060"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_not_offered_has_no_targets() {
        let zone = Zone { srv: BTreeMap::from([("_sip._udp.b.test", vec![srv(0, 0, 0, "")])]), ..gateway() };
        assert_eq!(targets(&zone, uri("b.test")).await, "");
    }

    #[tokio::test]
    async fn what_we_do_not_speak_is_left_out() {
        let query = Query { secure: true, ..uri("example.test") };
        assert_eq!(targets(&gateway(), query).await, "", "no TLS listener, so no sips");
        let query = Query { secure: true, protocol: Some(Protocol::Tcp), ..uri("example.test") };
        assert_eq!(targets(&gateway(), query).await, "", "sips over tcp is TLS, not TCP");
        let udp_only = Reach::new([(Protocol::Udp, SocketAddr::from(([127, 0, 0, 1], 5060)))]);
        assert_eq!(targets_within(&gateway(), &udp_only, uri("example.test")).await, "udp 192.0.2.1:5090");
    }

    #[tokio::test]
    async fn the_number_of_targets_and_questions_is_bounded() {
        let many = (0..40).map(|n| srv(n, 0, 5060 + n, "a.test")).collect();
        let zone = Zone { srv: BTreeMap::from([("_sip._udp.many.test", many)]), ..gateway() };
        let found = targets(&zone, uri("many.test")).await;
        assert_eq!(found.split(", ").count(), HOSTS_MAX);
    }

    #[test]
    fn weights_are_shares_and_priorities_come_first() {
        let records = vec![
            srv(1, 0, 1, "never-first-alone"),
            srv(1, 25, 2, "quarter"),
            srv(1, 75, 3, "three-quarters"),
            srv(0, 1, 4, "best"),
        ];
        let mut rng = ChaCha12Rng::from_seed([3; 32]);
        let mut second: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..4000 {
            let ordered = by_priority_and_weight(records.clone(), &mut rng);
            assert_eq!(ordered.len(), 4);
            assert_eq!(ordered[0].target, "best");
            *second.entry(ordered[1].target.clone()).or_default() += 1;
        }
        assert!((2800..3150).contains(&second["three-quarters"]), "{second:?}");
        assert!((850..1120).contains(&second["quarter"]), "{second:?}");
        assert!(second["never-first-alone"] < 100, "{second:?}");
    }
}
