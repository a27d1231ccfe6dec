//! `switchyard run` with a configuration, a store and policies of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::ports::{free_port, free_ports};
use super::program::{Program, wait_for};

/// The program under test.
pub const SWITCHYARD: &str = env!("CARGO_BIN_EXE_switchyard");

/// The domain of all users. Nobody looks it up: phones are told where the host is.
pub const DOMAIN: &str = "example.test";

/// Ports for music and prompts. Far more than a test needs, and each test has its own.
const RTP_PORTS: u16 = 40;

/// The same where a thousand calls are parked.
#[cfg(feature = "etcd")]
const MANY_RTP_PORTS: u16 = 2_100;

/// Another program may take a port between our look and the host's; then other ports are tried.
const STARTS_MAX: usize = 5;

/// A user of the configuration; the password is `NAME-secret`. Dave may not park.
const USERS: [(&str, &str, bool); 4] =
    [("alice", "1001", true), ("bob", "1002", true), ("carol", "1003", true), ("dave", "1004", false)];

pub struct Host {
    program: Program,
    dir: TempDir,
    ports: Ports,
    agent: ureq::Agent,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    sip: u16,
    admin: u16,
    rtp: u16,
}

impl Host {
    /// Starts a host, and waits until it takes calls.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with policy files besides `default.lua`.
    pub fn start_with(policies: &[(&str, &str)]) -> Self {
        Self::start_as(policies, "", "")
    }

    /// The same, with more lines of `[sip]`, and more at the end of the configuration.
    pub fn start_configured(sip: &str, more: &str) -> Self {
        Self::start_as(&[], sip, more)
    }

    /// The same, under another name and with its records in an etcd cluster.
    #[cfg(feature = "etcd")]
    pub fn start_on_etcd(name: &str, endpoints: &[String]) -> Self {
        let store = format!("kind = \"etcd\"\nendpoints = {endpoints:?}\nlease = \"2s\"");
        Self::start_edited(&[], |text| {
            text.replace("kind = \"embedded\"", &store)
                .replace("name = \"fe1\"", &format!("name = \"{name}\""))
        })
    }

    /// The same, linked to the other hosts of its cluster; everything is proved by the certificates in `tls`.
    #[cfg(feature = "etcd")]
    pub fn start_in_cluster(name: &str, endpoints: &[String], tls: &Path) -> Self {
        // Phones may register so briefly that a test sees them do it again.
        Self::start_beside_strangers(name, endpoints, tls, tls)
    }

    /// The same with other certificates for the link.
    #[cfg(feature = "etcd")]
    pub fn start_beside_strangers(name: &str, endpoints: &[String], tls: &Path, link: &Path) -> Self {
        let brief = "[sip.limits]\nregister_min = \"5s\"\n[plugins]";
        Self::start_linked(name, endpoints, tls, &[], |text| {
            let (store, cluster) = text.split_once("[cluster]").unwrap();
            let cluster = cluster.replace(&tls.display().to_string(), &link.display().to_string());
            format!("{store}[cluster]{cluster}").replace("[plugins]", brief)
        })
    }

    /// The same in one of two pools that are each other's backup. Those of the east have the numbers 7000 to 7099, those of
    /// the west 8000 to 8099; `resiliency` is what the policy of the east says of itself. A host of a third pool has a file in
    /// which that stands in the place of the east.
    #[cfg(feature = "etcd")]
    pub fn start_in_pair(name: &str, pool: &str, endpoints: &[String], tls: &Path, resiliency: &str) -> Self {
        let policy = format!(
            "return (require 'default'):extend {{ resiliency = {{ allow_fast_detection = true, {resiliency} }} }}"
        );
        let pools = "[[pools]]\nname = \"east\"\nbackup = \"west\"\n[[pools]]\nname = \"west\"\nbackup = \"east\"\n\
            [[orbits]]\nname = \"west-park\"\nfrom = \"8000\"\nto = \"8099\"\nkind = \"call-park\"\npool = \"west\"\n";
        let rtp = free_ports(MANY_RTP_PORTS);
        let ports = format!("ports = \"{rtp}-{}\"\nmusic", rtp + MANY_RTP_PORTS - 1);
        Self::start_linked(name, endpoints, tls, &[("pools/east.lua", &policy)], |text| {
            let (before, rest) = text.split_once("ports = ").unwrap();
            let (_, after) = rest.split_once("\nmusic").unwrap();
            format!("{before}{ports}{after}")
                .replace("[[pools]]\nname = \"east\"\n", pools)
                .replace("pool = \"east\"\ndata_dir", &format!("pool = \"{pool}\"\ndata_dir"))
                .replace("\"east\"", &format!("\"{}\"", if pool == "west" { "east" } else { pool }))
        })
    }

    #[cfg(feature = "etcd")]
    fn start_linked(
        name: &str,
        endpoints: &[String],
        tls: &Path,
        policies: &[(&str, &str)],
        edit: impl Fn(String) -> String,
    ) -> Self {
        let tls = tls.display();
        let files = format!("cert = \"{tls}/{name}.pem\"\nkey = \"{tls}/{name}.key\"\nca = \"{tls}/ca.pem\"");
        let store = format!("kind = \"etcd\"\nendpoints = {endpoints:?}\nlease = \"2s\"\n{files}");
        let cluster = format!("[cluster]\nlisten = \"tls:127.0.0.1:0\"\n{files}\n[media]");
        Self::start_edited(policies, |text| {
            let text = text
                .replace("kind = \"embedded\"", &store)
                .replace("name = \"fe1\"", &format!("name = \"{name}\""))
                .replace("[media]", &cluster);
            edit(text)
        })
    }

    fn start_as(policies: &[(&str, &str)], sip: &str, more: &str) -> Self {
        Self::start_edited(policies, |text| text.replace("[plugins]", &format!("{sip}\n[plugins]")) + more)
    }

    fn start_edited(policies: &[(&str, &str)], edit: impl Fn(String) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::create_dir_all(dir.path().join("policies/pools")).unwrap();
        std::fs::copy(ours.join("policies/default.lua"), dir.path().join("policies/default.lua")).unwrap();
        for (name, text) in policies {
            std::fs::write(dir.path().join("policies").join(name), text).unwrap();
        }
        copy(&ours.join("music"), &dir.path().join("music"));
        put_plugins(&dir.path().join("plugins"));
        for _ in 0..STARTS_MAX {
            let ports = Ports::free();
            std::fs::write(dir.path().join("switchyard.toml"), edit(configuration(ports))).unwrap();
            let mut program = launch(dir.path());
            if wait_until_ready(ports.admin, &mut program) {
                return Self { program, dir, ports, agent: agent() };
            }
            let said = program.said();
            assert!(said.contains("in use") || said.contains("cannot listen"), "no start:\n{said}");
        }
        panic!("no free ports in {STARTS_MAX} attempts")
    }

    /// Where phones find it.
    pub fn sip(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sip)
    }

    /// Its administrative interface.
    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.admin)
    }

    /// Its process id.
    pub fn process(&self) -> u32 {
        self.program.id()
    }

    pub fn log(&self) -> String {
        self.program.said()
    }

    /// A file of the running host: `policies/pools/east.lua`, `switchyard.toml`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// SIGTERM: the host begins to drain.
    pub fn terminate(&self) {
        self.program.signal("TERM");
    }

    /// Ctrl-C: the same.
    pub fn interrupt(&self) {
        self.program.signal("INT");
    }

    /// Waits until the process has ended by itself.
    pub fn exit(&mut self) -> ExitStatus {
        self.program.exit()
    }

    pub fn has_ended(&mut self) -> bool {
        self.program.ended().is_some()
    }

    /// Starts it anew with the same files and ports.
    pub fn restart(&mut self) {
        assert!(self.has_ended(), "still running");
        let before = self.log();
        self.program = launch(self.dir.path());
        let ready = wait_until_ready(self.ports.admin, &mut self.program);
        assert!(ready, "no second start:\n{}\nthe first life:\n{before}", self.log());
    }

    /// A GET of the administrative interface: status and answer.
    pub fn ask(&self, path: &str) -> (u16, String) {
        let url = format!("http://127.0.0.1:{}{path}", self.ports.admin);
        let mut answer = self.agent.get(&url).call().unwrap_or_else(|error| panic!("GET {url}: {error}"));
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }

    /// A list or an object under `/api/v1/`.
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(&format!("/api/v1/{path}"));
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// What `/readyz` says: its status, and the host's state.
    pub fn readyz(&self) -> (u16, String) {
        let (status, answer) = self.ask("/readyz");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        (status, answer["state"].as_str().unwrap().to_owned())
    }

    /// A metric, by the beginning of its line; 0 if there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = self.ask("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Who serves a user now, as far as this host knows.
    pub fn server_of(&self, user: &str) -> Option<String> {
        Some(self.get(&format!("users/{user}"))["host"].as_str()?.to_owned())
    }

    /// The numbers of all orbits a call is parked in.
    pub fn parked(&self) -> Vec<String> {
        let occupants = self.get("occupants");
        let parked = occupants.as_array().unwrap().iter().filter(|occupant| occupant["state"] == "parked");
        parked.map(|occupant| occupant["number"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until one call is parked: its orbit.
    pub fn one_parked(&self) -> String {
        wait_for("a parked call", || match &self.parked()[..] {
            [number] => Some(number.clone()),
            _ => None,
        })
    }

    /// Waits until nothing lives in it any more: no call, no orbit, no flow, no stream.
    pub fn is_quiet(&self) {
        wait_for("a host without calls", || {
            let status = self.get("status");
            (status["calls"] == 0 && status["occupants"] == 0).then_some(())
        });
    }

    /// Runs a verb of the command line against it.
    pub fn cli(&self, arguments: &[&str]) -> Answer {
        self.cli_with(arguments, "")
    }

    /// The same, with something on standard input.
    pub fn cli_with(&self, arguments: &[&str], input: &str) -> Answer {
        let mut command = Command::new(SWITCHYARD);
        command.args(arguments).env("SWITCHYARD_ADMIN", self.admin());
        command.env_remove("SWITCHYARD_TOKEN").current_dir(self.dir.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut verb = command.spawn().unwrap();
        // One that does not read may have ended already.
        let _ = verb.stdin.take().unwrap().write_all(input.as_bytes());
        let output = verb.wait_with_output().unwrap();
        Answer {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same with `--json`, which must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let answer = self.cli(&[arguments, &["--json"]].concat());
        assert_eq!(answer.code, Some(0), "{arguments:?}: {answer:?}");
        serde_json::from_str(&answer.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", answer.out))
    }
}

/// What a verb printed.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ports {
    /// Free now.
    fn free() -> Self {
        Self { sip: free_port(), admin: free_port(), rtp: free_ports(RTP_PORTS) }
    }
}

fn configuration(Ports { sip, admin, rtp }: Ports) -> String {
    let rtp_end = rtp + RTP_PORTS - 1;
    let users = USERS.map(|(name, extension, may_park)| {
        let display = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
        format!(
            "[[users]]\nname = \"{name}\"\nextension = \"{extension}\"\ndisplay = \"{display}\"\n\
             password = \"{name}-secret\"\nmay_park = {may_park}\n"
        )
    });
    format!(
        r#"[host]
name = "fe1"
pool = "east"
data_dir = "var"
[sip]
domain = "{DOMAIN}"
listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]
[plugins]
dir = "plugins"
[policies]
dir = "policies"
[store]
kind = "embedded"
[media]
address = "127.0.0.1"
ports = "{rtp}-{rtp_end}"
music = "music"
[admin]
listen = "127.0.0.1:{admin}"
[[pools]]
name = "east"
[[orbits]]
name = "east-park"
from = "7000"
to = "7099"
kind = "call-park"
pool = "east"
{}"#,
        users.concat()
    )
}

/// The libraries built for this very test lie beside its executable, among many others (design.md §10).
pub(super) fn put_plugins(dir: &Path) {
    let test = std::env::current_exe().unwrap();
    std::fs::create_dir(dir).unwrap();
    for name in ["libcall_park.so", "libgroup_pickup.so"] {
        std::os::unix::fs::symlink(test.with_file_name(name), dir.join(name)).unwrap();
    }
}

fn launch(dir: &Path) -> Program {
    let mut command = Command::new(SWITCHYARD);
    command.args(["run", "--config", "switchyard.toml"]).current_dir(dir).env_remove("RUST_LOG");
    Program::start("switchyard", "", &mut command)
}

/// Whether it got ready, rather than ended.
fn wait_until_ready(admin: u16, program: &mut Program) -> bool {
    let agent = agent();
    wait_for("/readyz", || {
        if program.ended().is_some() {
            return Some(false);
        }
        let answer = agent.get(format!("http://127.0.0.1:{admin}/readyz")).call();
        answer.is_ok_and(|answer| answer.status() == 200).then_some(true)
    })
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
