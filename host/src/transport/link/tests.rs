//! Hosts that talk to each other on loopback, with real TLS, and others that should not be listened to.

use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::config::Cluster;
use crate::net::{Flow, Protocol};
use crate::runtime::Clock;
use crate::time::Utc;
use crate::transport::tcp;

fn now() -> Utc {
    Clock::start().now().utc
}

fn ago(time: Duration) -> Utc {
    Utc(now().0 - time.as_millis() as u64)
}

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Longer than anything here takes, on any machine.
const LONG: Duration = Duration::from_secs(30);

fn name(text: &str) -> HostName {
    HostName::new(text).unwrap()
}

fn nowhere() -> SocketAddr {
    // Nobody listens there: the port was ours a moment ago.
    tcp::bind("127.0.0.1:0".parse().unwrap()).unwrap().local_addr().unwrap()
}

/// A folder with a CA and certificates.
struct Office {
    folder: TempDir,
    authority: Authority,
}

impl Office {
    fn new() -> Self {
        let office =
            Self { folder: tempfile::tempdir().unwrap(), authority: Authority::create(now()).unwrap() };
        std::fs::write(office.path("ca.pem"), office.authority.files().certificate).unwrap();
        office
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, host: &str, certified: &Certified) -> Cluster {
        std::fs::write(self.path(&format!("{host}.pem")), &certified.certificate).unwrap();
        std::fs::write(self.path(&format!("{host}.key")), &certified.key).unwrap();
        self.cluster(host)
    }

    fn cluster(&self, host: &str) -> Cluster {
        Cluster {
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: None,
            cert: self.path(&format!("{host}.pem")),
            key: self.path(&format!("{host}.key")),
            ca: self.path("ca.pem"),
        }
    }

    fn certify(&self, host: &str) -> Credentials {
        let certified = self.authority.host(host, now()).unwrap();
        Credentials::read(&self.write(host, &certified), host, now()).unwrap()
    }

    /// As [`Self::certify`], but whatever the host would say against it.
    fn forge(&self, host: &str, certified: &Certified) -> Credentials {
        let cluster = self.write(host, certified);
        Credentials::unjudged(&cluster)
    }
}

struct Host {
    link: Link,
    at: SocketAddr,
    inbox: mpsc::Receiver<Input>,
}

impl Host {
    fn start(own: &str, credentials: Credentials) -> Self {
        Self::start_at(own, credentials, "127.0.0.1:0".parse().unwrap(), 100_000)
    }

    fn start_at(own: &str, credentials: Credentials, at: SocketAddr, room: usize) -> Self {
        let (inbox_in, inbox) = mpsc::channel(room);
        let link = Link::new(name(own), credentials, Handle::current(), inbox_in);
        let listener = tcp::bind(at).unwrap();
        let at = listener.local_addr().unwrap();
        link.listen(listener).unwrap();
        Self { link, at, inbox }
    }

    fn say(&self, to: &str, at: SocketAddr, frame: Frame) {
        assert!(self.link.send(name(to), at, frame).is_none());
    }

    /// The next input but what became of connections.
    async fn hears(&mut self) -> Input {
        loop {
            let heard = timeout(LONG, self.inbox.recv()).await.expect("heard nothing");
            match heard.expect("the link is gone") {
                Input::Tried { .. } => {}
                heard => break heard,
            }
        }
    }

    /// What becomes of the next attempt to connect to another host.
    async fn tried(&mut self, to: &str) -> Option<String> {
        loop {
            match timeout(LONG, self.inbox.recv()).await.expect("heard nothing") {
                Some(Input::Tried { host, failed }) if host == name(to) => break failed,
                Some(_) => {}
                None => panic!("the link is gone"),
            }
        }
    }

    async fn hears_frame(&mut self, from: &str) -> Frame {
        match self.hears().await {
            Input::Link { from: who, frame } if who == name(from) => frame,
            other => panic!("{other:?}"),
        }
    }

    async fn hears_back(&mut self, to: &str) -> Frame {
        match self.hears().await {
            Input::Unlinked { to: who, frame } if who == name(to) => frame,
            other => panic!("{other:?}"),
        }
    }

    async fn hears_nothing(&mut self) {
        let heard = timeout(Duration::from_millis(100), async {
            loop {
                match self.inbox.recv().await {
                    Some(Input::Tried { .. }) => {}
                    heard => break heard,
                }
            }
        });
        let heard = heard.await;
        assert!(heard.is_err(), "{heard:?}");
    }
}

fn frame(number: usize) -> Frame {
    frame_of(number, 600)
}

/// A frame one can tell from others.
fn frame_of(number: usize, length: usize) -> Frame {
    let remote: SocketAddr = "192.0.2.9:5060".parse().unwrap();
    let flow = Flow { protocol: Protocol::Udp, local: remote, remote, connection: None, edge: None };
    let mut bytes = vec![b'.'; length];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Frame::Send { flow, known: true, bytes: Bytes::from(bytes) }
}

fn numbers(inputs: &[Frame]) -> Vec<usize> {
    let number = |frame: &Frame| match frame {
        Frame::Send { bytes, .. } => usize::from_be_bytes(bytes[..8].try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    inputs.iter().map(number).collect()
}

fn pair(office: &Office) -> (Host, Host) {
    (Host::start("fe1", office.certify("fe1")), Host::start("fe2", office.certify("fe2")))
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_arrive_in_order_in_both_directions() {
    let office = Office::new();
    let (mut east, mut west) = pair(&office);
    for number in 0..10_000 {
        east.say("fe2", west.at, frame(number));
        west.say("fe1", east.at, frame(number));
    }
    for (host, from) in [(&mut west, "fe1"), (&mut east, "fe2")] {
        let mut heard = Vec::new();
        for _ in 0..10_000 {
            heard.push(host.hears_frame(from).await);
        }
        assert_eq!(numbers(&heard), (0..10_000).collect::<Vec<_>>());
        assert_eq!(heard[17], frame(17));
        host.hears_nothing().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_all_sizes_arrive_and_one_that_is_too_big_comes_back() {
    let office = Office::new();
    let (mut east, mut west) = pair(&office);
    let lengths = [8, 65_535, 300_000, crate::cluster::FRAME_MAX - 1000];
    for length in lengths {
        east.say("fe2", west.at, frame_of(length, length));
    }
    for length in lengths {
        assert_eq!(west.hears_frame("fe1").await, frame_of(length, length));
    }
    let huge = frame_of(1, crate::cluster::FRAME_MAX);
    east.say("fe2", west.at, huge.clone());
    east.say("fe2", west.at, frame(2));
    assert_eq!(east.hears_back("fe2").await, huge);
    assert_eq!(west.hears_frame("fe1").await, frame(2));
}

/// Longer than any silence: an idle connection is kept, and one that is kept answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept() {
    let office = Office::new();
    let (east, mut west) = pair(&office);
    east.say("fe2", west.at, frame(1));
    west.hears_frame("fe1").await;
    tokio::time::sleep(2 * SILENCE + ASK_EVERY).await;
    let at = west.at;
    // From now on nobody could connect.
    west.link.shared.credentials.store(Arc::new(Office::new().certify("fe2")));
    east.say("fe2", at, frame(2));
    assert_eq!(west.hears_frame("fe1").await, frame(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_that_is_not_there_should_hear_comes_back_at_once() {
    let office = Office::new();
    let mut east = Host::start("fe1", office.certify("fe1"));
    let at = nowhere();
    for number in 0..100 {
        east.say("fe2", at, frame(number));
    }
    let mut back = Vec::new();
    for _ in 0..100 {
        back.push(east.hears_back("fe2").await);
    }
    assert_eq!(numbers(&back), (0..100).collect::<Vec<_>>());
    // It comes up there, and is found soon.
    let mut west = Host::start_at("fe2", office.certify("fe2"), at, 100);
    let started = Instant::now();
    east.say("fe2", at, frame(7));
    assert_eq!(west.hears_frame("fe1").await, frame(7));
    assert!(started.elapsed() < PAUSE_OF_A_FEW, "{:?}", started.elapsed());
}

/// Far below the longest pause.
const PAUSE_OF_A_FEW: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_starts_anew_is_spoken_to_again_and_followed_when_it_moves() {
    let office = Office::new();
    let (mut east, mut west) = pair(&office);
    east.say("fe2", west.at, frame(1));
    west.hears_frame("fe1").await;
    west.link.shut_down(LONG).await;
    let mut west = Host::start_at("fe2", office.certify("fe2"), west.at, 100);
    // Whether the first to come notices the end or not, none is lost unnoticed.
    let mut number = 2;
    let heard = loop {
        east.say("fe2", west.at, frame(number));
        tokio::select! {
            heard = west.inbox.recv() => break heard,
            back = east.hears() => assert!(matches!(back, Input::Unlinked { .. }), "{back:?}"),
        }
        number += 1;
    };
    assert!(matches!(heard, Some(Input::Link { .. })), "{heard:?}");

    let mut moved = Host::start("fe2", office.certify("fe2"));
    east.say("fe2", moved.at, frame(100));
    assert_eq!(moved.hears_frame("fe1").await, frame(100));
    west.hears_nothing().await;
}

/// As one that is stopped: its kernel accepts, and nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_is_noticed_and_all_it_did_not_hear_comes_back() {
    let office = Office::new();
    let mut east = Host::start("fe1", office.certify("fe1"));
    let credentials = office.certify("fe2");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let hanging = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = TlsAcceptor::from(Arc::clone(&credentials.server)).accept(stream).await.unwrap();
        // It lets the other in, hears two frames, and no more.
        stream.write_u64(0).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_exact(&mut [0; 5_000]).await.unwrap();
        stream.write_u64(2).await.unwrap();
        stream.flush().await.unwrap();
        std::future::pending::<()>().await;
    });
    let started = Instant::now();
    // More than the kernels on both sides hold.
    let said = 20_000;
    let mut taken = Vec::new();
    for number in 0..said {
        match east.link.send(name("fe2"), at, frame_of(number, 1500)) {
            None => taken.push(number),
            Some(refused) => assert!(matches!(refused, Input::Unlinked { .. }), "{refused:?}"),
        }
    }
    // As many as may wait, and two more if it has heard them meanwhile.
    assert!((15_000..17_000).contains(&taken.len()), "{}", taken.len());
    let mut back = Vec::new();
    while back.len() < taken.len() - 2 {
        back.push(east.hears_back("fe2").await);
    }
    assert_eq!(numbers(&back), taken[2..]);
    assert!(started.elapsed() < 3 * SILENCE, "{:?}", started.elapsed());
    // What came back burdens no longer.
    east.say("fe2", at, frame(1));
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_behind_makes_the_others_wait_and_loses_nothing() {
    let office = Office::new();
    let east = Host::start("fe1", office.certify("fe1"));
    let mut west = Host::start_at("fe2", office.certify("fe2"), "127.0.0.1:0".parse().unwrap(), 1);
    for number in 0..2_000 {
        east.say("fe2", west.at, frame_of(number, 10_000));
    }
    for number in 0..2_000 {
        if number % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(numbers(&[west.hears_frame("fe1").await]), [number]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_said_before_a_host_goes() {
    let office = Office::new();
    let (east, mut west) = pair(&office);
    for number in 0..3_000 {
        east.say("fe2", west.at, frame(number));
    }
    east.link.shut_down(LONG).await;
    for number in 0..3_000 {
        assert_eq!(numbers(&[west.hears_frame("fe1").await]), [number]);
    }
    // What a host has to say to itself needs no connection.
    let own = west.link.send(name("fe2"), nowhere(), frame(3));
    assert!(matches!(own, Some(Input::Link { from, .. }) if from == name("fe2")), "{own:?}");
    let late = east.link.send(name("fe2"), west.at, frame(1));
    assert!(matches!(late, Some(Input::Unlinked { .. })));
}

/// Neither side speaks to, or listens to, one with such a certificate.
async fn is_kept_out(office: &Office, own: &str, credentials: Credentials) {
    let mut west = Host::start("fe2", office.certify("fe2"));
    let mut stranger = Host::start(own, credentials);
    stranger.say("fe2", west.at, frame(1));
    assert_eq!(stranger.hears_back("fe2").await, frame(1));
    west.say("fe1", stranger.at, frame(2));
    assert_eq!(west.hears_back("fe1").await, frame(2));
    west.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_another_ca_is_kept_out() {
    let office = Office::new();
    is_kept_out(&office, "fe1", Office::new().certify("fe1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_certificate_has_expired_is_kept_out() {
    let office = Office::new();
    let expired = office.authority.host("fe1", ago(3 * YEAR)).unwrap();
    is_kept_out(&office, "fe1", office.forge("fe1", &expired)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_something_else_makes_no_host() {
    let office = Office::new();
    let member = office.authority.member("fe1", now()).unwrap();
    is_kept_out(&office, "fe1", office.forge("fe1", &member)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_who_its_certificate_says() {
    let office = Office::new();
    let mut west = Host::start("fe2", office.certify("fe2"));
    let mut east = Host::start("fe1", office.certify("fe3"));
    // Whatever it calls itself, it is heard as what its certificate says.
    east.say("fe2", west.at, frame(1));
    assert_eq!(west.hears_frame("fe3").await, frame(1));
    // And nothing for fe1 is said to it, nor for one that differs in case.
    for (to, number) in [("fe1", 2), ("FE3", 3)] {
        west.say(to, east.at, frame(number));
        assert_eq!(west.hears_back(to).await, frame(number));
    }
    east.hears_nothing().await;
    // Nor does one with this host's own name get in.
    let mut twin = Host::start("twin", office.certify("fe2"));
    twin.say("fe2", west.at, frame(4));
    assert_eq!(twin.hears_back("fe2").await, frame(4));
    west.hears_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_hold_from_the_next_connection() {
    let (old, new) = (Office::new(), Office::new());
    let mut east = Host::start("fe1", old.certify("fe1"));
    let mut west = Host::start("fe2", new.certify("fe2"));
    east.say("fe2", west.at, frame(1));
    assert_eq!(east.hears_back("fe2").await, frame(1));
    east.link.renew(new.certify("fe1"));
    east.say("fe2", west.at, frame(2));
    assert_eq!(west.hears_frame("fe1").await, frame(2));
}

/// A stranger may hold some connections for a moment, but nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_let_go_and_keep_nobody_out() {
    let office = Office::new();
    let (east, mut west) = pair(&office);
    let mut plain = TcpStream::connect(west.at).await.unwrap();
    plain.write_all(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LONG, plain.read_to_end(&mut answer)).await.expect("it is not let go");
    assert!(answer.len() < 100, "{answer:?}");

    // No certificate of its own.
    let bare = office.certify("fe9").client.as_ref().clone();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(office.path("ca.pem")).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(bare.crypto_provider().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = bare.alpn_protocols.clone();
    let stream = TcpStream::connect(west.at).await.unwrap();
    let to = ServerName::try_from("fe2.cluster").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(to, stream).await;
    let let_in = match stream {
        Ok(mut stream) => timeout(LONG, stream.read_u64()).await.expect("it is not let go").is_ok(),
        Err(_) => false,
    };
    assert!(!let_in);

    // Many who say nothing: those beyond the limit are closed at once, the others soon.
    let started = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(west.at).await);
    }
    let (waiting, beyond) = silent.split_at_mut(8);
    for (streams, within) in [(beyond, Duration::from_secs(2)), (waiting, 3 * SILENCE)] {
        // Some are reset before they are even connected.
        for stream in streams.iter_mut().flatten() {
            let end = timeout(LONG, stream.read_u8()).await.expect("it is not let go");
            assert!(end.is_err());
        }
        assert!(started.elapsed() < within, "{:?}", started.elapsed());
    }
    east.say("fe2", west.at, frame(1));
    assert_eq!(west.hears_frame("fe1").await, frame(1));
}

/// A host that is let in says all this, in its own words.
async fn says_raw(office: &Office, west: &Host, raw: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let config = Arc::clone(&office.certify("fe1").client);
    let stream = TcpStream::connect(west.at).await.unwrap();
    let to = ServerName::try_from("fe2.cluster").unwrap();
    let mut stream = TlsConnector::from(config).connect(to, stream).await.unwrap();
    stream.write_all(raw).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// One that is let in and then says what is no frame is cut off; what it said before counts.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_a_connection() {
    let office = Office::new();
    let (_, mut west) = pair(&office);
    let mut out = bytes::BytesMut::new();
    frame(1).write(&mut out).unwrap();
    out.extend_from_slice(&[0xff; 64]);
    let mut stream = says_raw(&office, &west, &out).await;
    assert_eq!(west.hears_frame("fe1").await, frame(1));
    let mut rest = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is not cut off");
    assert!(rest.len() <= 16, "{rest:?}");
    west.hears_nothing().await;
}

/// While a cluster is given a new version, host by host.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_later_version_understands_is_passed_over_and_acknowledged() {
    let office = Office::new();
    let (_, mut west) = pair(&office);
    let mut out = bytes::BytesMut::new();
    let later = br#"{"frame":"of_tomorrow","pool":"east"}"#;
    out.extend_from_slice(&[0, 0, 0, u8::try_from(later.len()).unwrap(), 0, 0, 0, 3]);
    out.extend_from_slice(later);
    out.extend_from_slice(b"SIP");
    frame(1).write(&mut out).unwrap();
    let mut stream = says_raw(&office, &west, &out).await;
    assert_eq!(west.hears_frame("fe1").await, frame(1));
    let acknowledged = async { while stream.read_u64().await.unwrap() < 2 {} };
    timeout(LONG, acknowledged).await.expect("both were heard");
}

fn unfit(cluster: &Cluster, host: &str) -> Vec<String> {
    let shown = |unfit: Unfit| format!("{}: {}", unfit.key, unfit.message);
    match Credentials::read(cluster, host, now()) {
        Ok(_) => Vec::new(),
        Err(list) => list.into_iter().map(shown).collect(),
    }
}

#[test]
fn what_is_wrong_with_certificates_is_said() {
    let (office, other) = (Office::new(), Office::new());
    let now = now();
    let cluster = office.write("fe1", &office.authority.host("fe1", now).unwrap());
    assert_eq!(unfit(&cluster, "fe1"), Vec::<String>::new());
    assert!(Credentials::read(&cluster, "fe1", now).unwrap().warning().is_none());
    let says = |cluster: &Cluster, host: &str, expected: &[&str]| {
        let said = unfit(cluster, host);
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.contains(expected), "{said:?} lacks {expected:?}");
        }
    };
    says(&cluster, "fe2", &["fe1.pem is that of the host \"fe1\", not of \"fe2\""]);
    let missing = Cluster { key: office.path("none"), ..cluster.clone() };
    says(&missing, "fe1", &["none cannot be read: No such file"]);
    let swapped = Cluster { cert: cluster.key.clone(), ..cluster.clone() };
    says(&swapped, "fe1", &["fe1.key holds no certificate in PEM"]);
    std::fs::write(office.path("text"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    says(&Cluster { ca: office.path("text"), ..cluster.clone() }, "fe1", &["ca: "]);
    let foreign = Cluster { ca: other.path("ca.pem"), ..cluster.clone() };
    says(&foreign, "fe1", &["is not signed by the CA of cluster.ca"]);
    other.certify("fe1");
    let mixed = Cluster { key: other.path("fe1.key"), ..cluster.clone() };
    says(&mixed, "fe1", &["fe1.key is not the key of "]);
    let expired = office.write("old", &office.authority.host("old", ago(3 * YEAR)).unwrap());
    says(&expired, "old", &["has expired"]);
    let member = office.write("m", &office.authority.member("10.0.0.1", now).unwrap());
    says(&member, "m", &["must hold exactly one DNS name that ends in .cluster"]);
    // Ten days before its end.
    let aging = office.write("fe4", &office.authority.host("fe4", ago(2 * YEAR - 10 * YEAR / 365)).unwrap());
    let warning = Credentials::read(&aging, "fe4", now).unwrap().warning().unwrap();
    assert!(warning.contains("ends in 9 days") || warning.contains("ends in 10 days"), "{warning}");
}

#[test]
fn a_ca_is_read_back_and_no_other_is() {
    let now = now();
    let (ours, theirs) = (Authority::create(now).unwrap(), Authority::create(now).unwrap());
    let Certified { certificate, key } = ours.files();
    let again = Authority::read(&certificate, &key, now + YEAR).unwrap();
    let office = Office::new();
    std::fs::write(office.path("ca.pem"), &certificate).unwrap();
    let cluster = office.write("fe1", &again.host("fe1", now).unwrap());
    assert_eq!(unfit(&cluster, "fe1"), Vec::<String>::new());
    for (certificate, key) in [
        (certificate.as_str(), theirs.files().key.as_str()),
        ("", key.as_str()),
        (certificate.as_str(), "no key"),
    ] {
        assert!(matches!(Authority::read(certificate, key, now), Err(AuthorityError::Foreign(_))));
    }
    assert!(ours.host("fé1", now).is_err());
}

/// Before anybody has anything to say: a host that nobody can be linked to must not first show when calls depend on it.
#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_connects_and_tells_why_it_cannot() {
    let (office, elsewhere) = (Office::new(), Office::new());
    let mut east = Host::start("fe1", office.certify("fe1"));
    let west = Host::start("fe2", office.certify("fe2"));
    let stranger = Host::start("fe3", elsewhere.certify("fe3"));
    for _ in 0..2 {
        east.link.greet(name("fe3"), stranger.at);
        let told = east.tried("fe3").await;
        assert_eq!(told.as_deref(), Some("its certificate is not signed by this host's cluster.ca"));
    }
    // It has one of the right CA now.
    stranger.link.renew(office.certify("fe3"));
    east.link.greet(name("fe3"), stranger.at);
    assert_eq!(east.tried("fe3").await, None);
    east.link.greet(name("fe2"), nowhere());
    assert!(east.tried("fe2").await.is_some());
    east.link.greet(name("fe2"), west.at);
    assert_eq!(east.tried("fe2").await, None);
}
