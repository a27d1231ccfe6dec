//! A real etcd: one member or several, on loopback.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::ports::free_port;

/// The members keep what they have when they are killed, and can be launched again.
pub struct Etcd {
    members: Vec<Member>,
    /// The folder with their certificates, if they speak TLS.
    tls: Option<PathBuf>,
    /// How much room each has, in bytes.
    quota: Option<u32>,
}

struct Member {
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Etcd {
    /// So many members that trust everybody.
    pub fn start(members: usize) -> Etcd {
        Self::start_with(members, None, None)
    }

    /// One with so much room, in bytes.
    pub fn start_small(quota: u32) -> Etcd {
        Self::start_with(1, None, Some(quota))
    }

    /// One that believes, and is believed by, those who have certificates of the same CA.
    pub fn start_secure(tls: &Path) -> Etcd {
        Self::start_with(1, Some(tls.to_owned()), None)
    }

    /// Three of that kind: any two of them are enough.
    pub fn start_three(tls: &Path) -> Etcd {
        Self::start_with(3, Some(tls.to_owned()), None)
    }

    fn start_with(count: usize, tls: Option<PathBuf>, quota: Option<u32>) -> Etcd {
        let member = || Member {
            folder: TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            child: None,
        };
        let mut etcd = Etcd { members: (0..count).map(|_| member()).collect(), tls, quota };
        etcd.launch();
        etcd
    }

    /// Launches all members that do not run.
    pub fn launch(&mut self) {
        let peer = |member: &Member| format!("http://127.0.0.1:{}", member.peer_port);
        let all: Vec<String> = self
            .members
            .iter()
            .enumerate()
            .map(|(number, member)| format!("m{number}={}", peer(member)))
            .collect();
        let clients = self.endpoints();
        for (number, member) in
            self.members.iter_mut().enumerate().filter(|(_, member)| member.child.is_none())
        {
            let (client, peer) = (&clients[number], peer(member));
            let mut command = Command::new("etcd");
            command
                .arg("--data-dir")
                .arg(member.folder.path().join("data"))
                .args(["--name", &format!("m{number}"), "--initial-cluster", &all.join(",")])
                .args(["--listen-client-urls", client, "--advertise-client-urls", client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .env_clear()
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            if let Some(quota) = self.quota {
                command.arg(format!("--quota-backend-bytes={quota}"));
            }
            if let Some(tls) = &self.tls {
                let file = |option: &str, name: &str| format!("{option}={}", tls.join(name).display());
                command.args([
                    file("--cert-file", "etcd-127.0.0.1.pem"),
                    file("--key-file", "etcd-127.0.0.1.key"),
                    file("--trusted-ca-file", "ca.pem"),
                    "--client-cert-auth".to_owned(),
                ]);
            }
            let child = command.spawn().expect("etcd is Debian's etcd-server; .ci/need installs it");
            member.child = Some(child);
        }
    }

    /// Kills all members.
    pub fn kill(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill_member(member));
    }

    /// Kills one.
    pub fn kill_member(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the first member over HTTP, past any host. Its answer, or why there is none.
    pub fn ask(&self, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/v3/{path}", self.endpoints()[0]);
        let mut answer = ureq::post(url).send_json(body).map_err(|error| error.to_string())?;
        answer.body_mut().read_json().map_err(|error| error.to_string())
    }

    pub fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.members.iter().map(|member| format!("{scheme}://127.0.0.1:{}", member.client_port)).collect()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What `switchyard cluster certificates` makes, for these hosts and an etcd.
pub fn certificates(hosts: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_switchyard"))
        .args(["cluster", "certificates"])
        .arg(folder.path())
        .args(hosts)
        .args(["--etcd", "127.0.0.1"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}
