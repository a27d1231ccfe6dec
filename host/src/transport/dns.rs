//! Names asked of DNS, after `/etc/hosts`, with the resolver configuration of the system or name servers of its own.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::timeout;

use super::locate::{Names, Naptr, Srv};
use crate::repeats;

/// How long one name server may take, whatever `resolv.conf` says: its five seconds, twice, for three questions, are
/// more than the 32 s for which anybody waits for an answer to an INVITE.
const SERVER_MAX: Duration = Duration::from_secs(2);

/// How long one question may take in all, other servers and second attempts included.
const QUESTION_MAX: Duration = Duration::from_secs(5);

/// Answers kept. A host talks to a few gateways; this is a bound, not a target.
const CACHE_MAX: u64 = 1_024;

/// The resolver. Cheap to clone.
#[derive(Clone)]
pub struct Dns {
    resolver: Arc<ArcSwap<TokioResolver>>,
    /// Empty: those of the system.
    servers: Arc<[SocketAddr]>,
}

impl Dns {
    /// With these name servers, or those of `/etc/resolv.conf` if there are none here, and `/etc/hosts` as it is now.
    /// Without any name server only `/etc/hosts` answers.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        Ok(Self { resolver: Arc::new(ArcSwap::from_pointee(resolver(servers)?)), servers: servers.into() })
    }

    /// Reads `/etc/resolv.conf` and `/etc/hosts` again, and forgets what was cached. On an error all stays as it was.
    pub fn reload(&self) -> Result<(), NetError> {
        self.resolver.store(Arc::new(resolver(&self.servers)?));
        Ok(())
    }

    async fn ask(&self, name: &str, kind: RecordType) -> Option<Lookup> {
        // The final dot: a name in a SIP URI or a DNS record is complete, the search list is for people.
        let name = match Name::from_utf8(name) {
            Ok(mut name) => {
                name.set_fqdn(true);
                name
            }
            Err(error) => {
                if repeats::UNRESOLVED.is_first() {
                    tracing::info!(name, %error, "not a domain name");
                }
                return None;
            }
        };
        let resolver = self.resolver.load_full();
        match timeout(QUESTION_MAX, resolver.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => Some(lookup),
            Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => None,
            Ok(Err(error)) => {
                if repeats::DNS_FAILED.is_first() {
                    tracing::warn!(%name, %kind, %error, "DNS");
                }
                None
            }
            Err(_) => {
                if repeats::DNS_FAILED.is_first() {
                    tracing::warn!(%name, %kind, "DNS: no answer within {QUESTION_MAX:?}");
                }
                None
            }
        }
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let provider = TokioRuntimeProvider::default();
    if !servers.is_empty() {
        let servers = servers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        return tuned(Resolver::builder_with_config(config, provider));
    }
    match Resolver::builder(provider) {
        Ok(builder) => tuned(builder),
        Err(error) => {
            tracing::warn!(%error, "no name server configured: only /etc/hosts knows names");
            tuned(Resolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default()))
        }
    }
}

fn tuned(
    mut builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>,
) -> Result<TokioResolver, NetError> {
    let options = builder.options_mut();
    options.use_hosts_file = ResolveHosts::Always;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(SERVER_MAX);
    options.cache_size = CACHE_MAX;
    builder.build()
}

#[async_trait]
impl Names for Dns {
    async fn naptr(&self, domain: &str) -> Vec<Naptr> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Some(lookup) = self.ask(domain, RecordType::NAPTR).await else { return Vec::new() };
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::NAPTR(naptr) => Some(Naptr {
                order: naptr.order,
                preference: naptr.preference,
                flags: text(&naptr.flags),
                service: text(&naptr.services),
                replacement: plain(&naptr.replacement),
            }),
            _ => None,
        });
        records.collect()
    }

    async fn srv(&self, name: &str) -> Vec<Srv> {
        let Some(lookup) = self.ask(name, RecordType::SRV).await else { return Vec::new() };
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: plain(&srv.target),
            }),
            _ => None,
        });
        records.collect()
    }

    async fn addresses(&self, host: &str) -> Vec<IpAddr> {
        // Both at once: a host mostly has only one kind, and the other question may be the slow one.
        let (four, six) = tokio::join!(self.ask(host, RecordType::A), self.ask(host, RecordType::AAAA));
        let lookups = four.iter().chain(&six);
        lookups.flat_map(Lookup::answers).filter_map(|record| record.data.ip_addr()).collect()
    }
}

/// A name without its final dot; the root is empty.
fn plain(name: &Name) -> String {
    let text = name.to_utf8();
    text.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::{A, AAAA, NAPTR, SRV};
    use hickory_resolver::proto::serialize::binary::{BinDecodable, BinEncodable};
    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::net::Protocol;
    use crate::transport::locate::{Query, Reach, locate};

    fn name(text: &str) -> Name {
        Name::from_utf8(text).unwrap()
    }

    fn zone() -> Vec<Record> {
        let record = |owner, data| Record::from_rdata(name(owner), 60, data);
        let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
        let naptr = NAPTR::new(10, 10, bytes("s"), bytes("SIP+D2T"), bytes(""), name("_sip._tcp.gw.test."));
        vec![
            record("gw.test.", RData::NAPTR(naptr)),
            record("_sip._tcp.gw.test.", RData::SRV(SRV::new(1, 1, 5070, name("host.gw.test.")))),
            record("host.gw.test.", RData::A(A(Ipv4Addr::new(192, 0, 2, 4)))),
            record("host.gw.test.", RData::AAAA(AAAA("2001:db8::4".parse().unwrap()))),
        ]
    }

    /// A name server on loopback that knows `zone()` and nothing else.
    async fn name_server() -> SocketAddr {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
                let query = Message::from_bytes(&buffer[..len]).unwrap();
                let question = query.queries[0].clone();
                let mut answer = Message::response(query.metadata.id, OpCode::Query);
                let known: Vec<_> =
                    zone().into_iter().filter(|record| record.name == *question.name()).collect();
                if known.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_answers(
                    known.into_iter().filter(|record| record.record_type() == question.query_type()),
                );
                answer.add_query(question);
                socket.send_to(&answer.to_bytes().unwrap(), from).await.unwrap();
            }
        });
        address
    }

    async fn dns() -> Dns {
        Dns::new(&[name_server().await]).unwrap()
    }

    #[tokio::test]
    async fn a_gateway_is_found_through_naptr_srv_and_addresses() {
        let dns = dns().await;
        let query = Query { host: "gw.test".to_owned(), port: None, protocol: None, secure: false };
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
        let six = SocketAddr::from(([0; 16], 5060));
        let reach = Reach::new([(Protocol::Tcp, four), (Protocol::Tcp, six), (Protocol::Udp, four)]);
        let targets = locate(&dns, &reach, &query, &mut ChaCha12Rng::from_seed([0; 32])).await;
        let expected = ["192.0.2.4:5070", "[2001:db8::4]:5070"];
        assert_eq!(targets, expected.map(|address| (Protocol::Tcp, address.parse().unwrap())));
    }

    #[tokio::test]
    async fn what_does_not_exist_or_is_no_name_has_no_records() {
        let dns = dns().await;
        assert!(dns.addresses("nobody.test").await.is_empty());
        assert!(dns.srv("_sip._udp.gw.test").await.is_empty());
        assert!(dns.addresses("a..b").await.is_empty());
        assert!(dns.addresses(&"x".repeat(300)).await.is_empty());
    }

    #[tokio::test]
    async fn the_hosts_file_is_honoured() {
        let dns = dns().await;
        assert!(dns.addresses("localhost").await.contains(&IpAddr::from(Ipv4Addr::LOCALHOST)));
    }
}
