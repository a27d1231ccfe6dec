//! baresip: a softphone that sends a tone, and records what it hears.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::panicking;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::audio::{Sound, clock};
use super::host::{DOMAIN, Host};
use super::ports::{free_port, free_ports};
use super::program::{Program, wait_for};

/// Bytes of a WAV file before its samples, as libsndfile writes them.
const WAV_HEADER: u64 = 44;

/// How long a piece is listened to, once what was under way has passed.
const LISTEN_S: f64 = 2.0;

/// How long a phone is registered: longer than any test.
const REGISTERED: u32 = 600;

/// What may still be the sound of before: packets in flight, and the phone's jitter buffer.
const PASS_S: f64 = 0.5;

pub struct Phone {
    name: String,
    program: Program,
    control: TcpStream,
    events: Arc<Mutex<Vec<Value>>>,
    /// Events already looked at.
    seen: usize,
    dir: TempDir,
}

impl Phone {
    /// Starts the phone of a user, which sends a tone of `hertz`, and waits until it is registered.
    pub fn register(host: &Host, user: &str, hertz: u32) -> Self {
        Self::register_through(&host.sip(), host, user, hertz, REGISTERED)
    }

    /// The same through somebody in front of the host, again and again after so many seconds.
    pub fn register_through(proxy: &str, host: &Host, user: &str, hertz: u32, expires_s: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control_port = free_port();
        std::fs::create_dir(dir.path().join("heard")).unwrap();
        std::fs::write(dir.path().join("config"), configuration(dir.path(), hertz, control_port)).unwrap();
        let account = format!(
            "<sip:{user}@{DOMAIN}>;auth_pass={user}-secret;outbound=\"sip:{proxy}\";regint={expires_s}\n"
        );
        std::fs::write(dir.path().join("accounts"), account).unwrap();
        let mut command = Command::new("baresip");
        command.arg("-f").arg(dir.path()).current_dir(dir.path()).env("HOME", dir.path());
        let mut program = Program::start(&format!("baresip of {user}"), "baresip-core", &mut command);
        let control = wait_for("baresip's control port", || {
            assert!(program.ended().is_none(), "baresip ended: {}", program.said());
            TcpStream::connect(("127.0.0.1", control_port)).ok()
        });
        let events = Arc::<Mutex<Vec<Value>>>::default();
        let source = control.try_clone().unwrap();
        let sink = Arc::clone(&events);
        std::thread::spawn(move || read_events(source, &sink));
        let phone = Self { name: user.to_owned(), program, control, events, seen: 0, dir };
        // The event may have passed before anybody listened; the host knows in any case.
        wait_for(&format!("{user}'s registration"), || {
            let registered = host.get(&format!("users/{user}"));
            let bindings = registered["bindings"].as_array().unwrap();
            let agent = |binding: &Value| binding["user_agent"].as_str().unwrap_or_default().to_owned();
            bindings.iter().any(|binding| agent(binding).starts_with("baresip")).then_some(())
        });
        phone
    }

    /// Calls a number or a name.
    pub fn dial(&mut self, number: &str) {
        self.command("dial", Some(&format!("sip:{number}@{DOMAIN}")));
    }

    /// Waits until it rings, and answers. Returns the caller's display name.
    pub fn answer(&mut self) -> String {
        let ringing = self.expect("CALL_INCOMING");
        self.command("accept", None);
        self.expect("CALL_ESTABLISHED");
        ringing["peerdisplayname"].as_str().unwrap_or_default().to_owned()
    }

    /// Transfers its call blindly.
    pub fn transfer(&mut self, target: &str) {
        self.command("transfer", Some(&format!("sip:{target}@{DOMAIN}")));
    }

    pub fn hold(&mut self) {
        self.command("hold", None);
    }

    pub fn resume(&mut self) {
        self.command("resume", None);
    }

    pub fn hang_up(&mut self) {
        self.command("hangup", None);
    }

    /// Waits for the next event of a type, and passes over those before.
    pub fn expect(&mut self, kind: &str) -> Value {
        let what = format!("{kind} at {}", self.name);
        let (seen, event) = wait_for(&what, || {
            assert!(self.program.ended().is_none(), "baresip of {} ended", self.name);
            let events = self.events.lock().unwrap();
            let found = events.iter().enumerate().skip(self.seen).find(|(_, event)| event["type"] == kind);
            found.map(|(place, event)| (place + 1, event.clone()))
        });
        self.seen = seen;
        event
    }

    /// What it hears from now on.
    pub fn listen(&self) -> Sound {
        let before = self.recorded();
        let mut samples = Vec::new();
        wait_for(&format!("sound at {}", self.name), || {
            samples = new_samples(&before, &self.recorded());
            (samples.len() as f64 >= f64::from(RATE) * (PASS_S + LISTEN_S)).then_some(())
        });
        Sound { rate: RATE, samples: samples.split_off((f64::from(RATE) * PASS_S) as usize) }
    }

    /// Waits until something audible comes after what is still under way, and returns when that was.
    pub fn hears_again(&self) -> Instant {
        std::thread::sleep(Duration::from_secs_f64(PASS_S));
        let mut before = self.recorded();
        wait_for(&format!("sound again at {}", self.name), || {
            let now = self.recorded();
            let samples = new_samples(&before, &now);
            if samples.len() < (f64::from(RATE) * PIECE_S) as usize {
                return None;
            }
            before = now;
            Sound { rate: RATE, samples }.is_audible().then(clock)
        })
    }

    /// The recordings of what it heard, with their lengths: one for each time its decoder was started.
    fn recorded(&self) -> BTreeMap<PathBuf, u64> {
        let files = std::fs::read_dir(self.dir.path().join("heard")).unwrap().flatten();
        let heard = files.filter(|file| file.file_name().to_string_lossy().ends_with("-dec.wav"));
        heard.map(|file| (file.path(), file.metadata().unwrap().len())).collect()
    }

    fn command(&mut self, command: &str, parameters: Option<&str>) {
        let mut message = json!({ "command": command, "token": command });
        if let Some(parameters) = parameters {
            message["params"] = json!(parameters);
        }
        let message = message.to_string();
        write!(self.control, "{}:{message},", message.len()).unwrap();
        let answered = |event: &&Value| event["response"] == true && event["token"] == command;
        let before = self.seen;
        let answer = wait_for(&format!("baresip's answer to {command}"), || {
            self.events.lock().unwrap().iter().skip(before).find(answered).cloned()
        });
        assert_eq!(answer["ok"], true, "{command} of {}: {answer}", self.name);
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        if panicking() {
            let events = self.events.lock().unwrap();
            let events: Vec<String> = events.iter().map(Value::to_string).collect();
            eprintln!("──── what baresip of {} told ────\n{}", self.name, events.join("\n"));
        }
    }
}

/// Ports a phone may choose from for RTP: a pair for each call, chosen at random.
const RTP_PORTS: u16 = 40;

/// How much sound is listened to at a time where it matters when it comes.
const PIECE_S: f64 = 0.1;

/// What G.711 has, the only codec these phones speak: so recordings need no header to be understood.
const RATE: u32 = 8000;

/// `ausine` makes 48 kHz stereo and nothing else; `mwi.so` would subscribe again and again.
fn configuration(dir: &Path, hertz: u32, control_port: u16) -> String {
    let heard = dir.join("heard");
    let heard = heard.display();
    let rtp = free_ports(RTP_PORTS);
    let rtp_end = rtp + RTP_PORTS - 1;
    let modules = modules().display().to_string();
    format!(
        "sip_listen 127.0.0.1:0
net_interface 127.0.0.1
rtp_ports {rtp}-{rtp_end}
module_path {modules}
module g711.so
module ausine.so
module aubridge.so
module sndfile.so
audio_source ausine,{hertz}
audio_player aubridge,nil
ausrc_srate 48000
ausrc_channels 2
snd_path {heard}
statmode_default off
module_app account.so
module_app contact.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control_port}
"
    )
}

/// Where Debian and others put baresip's modules.
fn modules() -> PathBuf {
    let places = [
        "/usr/lib/baresip/modules",
        "/usr/local/lib/baresip/modules",
        "/usr/lib/x86_64-linux-gnu/baresip/modules",
    ];
    let found = places.iter().map(Path::new).find(|place| place.join("g711.so").exists());
    found
        .unwrap_or_else(|| panic!("no baresip modules in {places:?}: apt-get install baresip-core"))
        .to_owned()
}

/// Reads netstrings of JSON until the connection ends.
fn read_events(mut source: TcpStream, sink: &Mutex<Vec<Value>>) {
    let mut buffer = Vec::new();
    let mut some = [0; 4096];
    while let Ok(count @ 1..) = source.read(&mut some) {
        buffer.extend_from_slice(&some[..count]);
        while let Some((event, rest)) = netstring(&buffer) {
            let event = serde_json::from_slice(event).unwrap_or(Value::Null);
            sink.lock().unwrap().push(event);
            buffer.drain(..rest);
        }
    }
}

/// The first whole netstring, and where the next begins.
fn netstring(buffer: &[u8]) -> Option<(&[u8], usize)> {
    let colon = buffer.iter().position(|&byte| byte == b':')?;
    let length: usize = std::str::from_utf8(&buffer[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    (buffer.len() > end).then(|| (&buffer[colon + 1..end], end + 1))
}

/// The samples that came to each file since `before`.
fn new_samples(before: &BTreeMap<PathBuf, u64>, now: &BTreeMap<PathBuf, u64>) -> Vec<f64> {
    let mut samples = Vec::new();
    for (path, &length) in now {
        let from = before.get(path).copied().unwrap_or(0).max(WAV_HEADER);
        let bytes = std::fs::read(path).unwrap();
        let to = length.min(bytes.len() as u64);
        if from < to {
            let fresh = &bytes[from as usize..to as usize];
            samples.extend(
                fresh.as_chunks::<2>().0.iter().map(|&pair| f64::from(i16::from_le_bytes(pair)) / 32768.0),
            );
        }
    }
    samples
}
