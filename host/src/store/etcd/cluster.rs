//! Real etcd members on loopback ports, and a cable between host and member that tests can pull.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, GetOptions};
use tempfile::TempDir;
use tokio::sync::watch;

use super::{EtcdOptions, EtcdStore, Tls};
use crate::store::ROOT;

/// The shortest lease etcd grants with its default election time-out.
pub(in crate::store) const LEASE: Duration = Duration::from_secs(2);

/// Some members in a temporary folder; gone when dropped.
pub(in crate::store) struct Cluster {
    folder: TempDir,
    members: Vec<Process>,
}

pub(super) struct Process {
    client: u16,
    peer: u16,
    child: Option<Child>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for place in 0..self.members.len() {
            self.kill(place);
        }
    }
}

impl Cluster {
    /// As many members, all started, answering.
    pub(in crate::store) async fn start(members: usize) -> Cluster {
        // In memory where there is such a folder: what is tested is not the disk.
        let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
        let mut ports = free_ports(2 * members).into_iter();
        let mut port = || ports.next().unwrap();
        let members = (0..members).map(|_| Process { client: port(), peer: port(), child: None }).collect();
        let mut cluster = Cluster { folder, members };
        for place in 0..cluster.members.len() {
            cluster.launch(place);
        }
        for endpoint in cluster.endpoints() {
            answers(&endpoint).await;
        }
        cluster
    }

    /// Starts a member; with what it had when it was killed.
    pub(super) fn launch(&mut self, place: usize) {
        let url = |port| format!("http://127.0.0.1:{port}");
        let peers: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(other, member)| format!("m{other}={}", url(member.peer)))
            .collect();
        let member = &mut self.members[place];
        let (client, peer) = (url(member.client), url(member.peer));
        let log = std::fs::File::create(self.folder.path().join(format!("m{place}.log"))).unwrap();
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{place}")))
            .args(["--name", &format!("m{place}"), "--initial-cluster-token", "test"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &peers.join(",")])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd is Debian's etcd-server; .ci/need installs it");
        member.child = Some(child);
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, place: usize) {
        if let Some(mut child) = self.members[place].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// What a member that does not run has, for [`restore`](Self::restore).
    pub(super) fn backup(&self, place: usize) {
        self.copy(&format!("m{place}"), "backup");
    }

    /// A member that does not run has what it had at the time of the backup.
    pub(super) fn restore(&self, place: usize) {
        std::fs::remove_dir_all(self.folder.path().join(format!("m{place}"))).unwrap();
        self.copy("backup", &format!("m{place}"));
    }

    fn copy(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|name| self.folder.path().join(name));
        assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
    }

    /// SIGSTOP or SIGCONT: connections stay, nothing answers.
    pub(super) fn signal(&self, place: usize, signal: &str) {
        let pid = self.members[place].child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub(super) fn endpoint(&self, place: usize) -> String {
        format!("http://127.0.0.1:{}", self.members[place].client)
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        (0..self.members.len()).map(|place| self.endpoint(place)).collect()
    }

    /// A client of one member, past the store under test.
    pub(super) async fn client(&self, place: usize) -> Client {
        Client::connect([self.endpoint(place)], None).await.unwrap()
    }

    /// The place of the leader.
    pub(super) async fn leader(&self) -> usize {
        for place in 0..self.members.len() {
            let status = self.client(place).await.status().await.unwrap();
            if status.leader() == status.header().unwrap().member_id() {
                return place;
            }
        }
        panic!("no leader");
    }

    /// An empty store.
    pub(in crate::store) async fn empty(&self) -> EtcdStore {
        let options = etcd_client::DeleteOptions::new().with_prefix();
        self.client(0).await.delete(ROOT, Some(options)).await.unwrap();
        self.open().await
    }

    pub(super) async fn open(&self) -> EtcdStore {
        open(self.endpoints()).await
    }
}

/// All are held until all are known, or two members could get the same.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|port| port.local_addr().unwrap().port()).collect()
}

pub(super) async fn open(endpoints: Vec<String>) -> EtcdStore {
    EtcdStore::open(&options(endpoints)).await.unwrap()
}

pub(super) fn options(endpoints: Vec<String>) -> EtcdOptions {
    EtcdOptions { endpoints, tls: Tls::default(), lease: LEASE }
}

/// Waits for a member to be part of a quorum.
pub(super) async fn answers(endpoint: &str) {
    for _ in 0..600 {
        if let Ok(mut client) = Client::connect([endpoint], None).await {
            let asked = client.get(ROOT, Some(GetOptions::new().with_limit(1)));
            if matches!(tokio::time::timeout(Duration::from_secs(1), asked).await, Ok(Ok(_))) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{endpoint} does not answer");
}

/// A cable to a member.
pub(super) struct Cable {
    pub(super) endpoint: String,
    plugged: Arc<watch::Sender<bool>>,
}

impl Cable {
    pub(super) async fn to(endpoint: &str) -> Cable {
        let member = endpoint.trim_start_matches("http://").to_owned();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let plugged = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&plugged);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.subscribe();
                let Ok(mut far) = tokio::net::TcpStream::connect(&member).await else { continue };
                tokio::spawn(async move {
                    tokio::select! {
                        _ = state.wait_for(|plugged| !plugged) => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Cable { endpoint, plugged }
    }

    /// All connections break, and new ones with them.
    pub(super) fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub(super) fn plug(&self) {
        self.plugged.send_replace(true);
    }
}
