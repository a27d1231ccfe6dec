//! What is fuzzed: each function takes any bytes and must neither panic, nor hang, nor contradict itself.
//!
//! ```sh
//! cargo install --locked cargo-fuzz              # once
//! cargo +nightly fuzz run message                # until something is found, or Ctrl-C; also sdp, uri, digest, …
//! RUSTC_BOOTSTRAP=1 cargo fuzz run -s none message    # the same without a nightly toolchain
//! cargo +nightly fuzz tmin message fuzz/artifacts/…   # the least that still shows it
//! cargo test --manifest-path fuzz/Cargo.toml     # replays every corpus, with any toolchain
//! ```
//!
//! What is found is kept as a file of the corpus beside the mend.

use std::cell::RefCell;
use std::ffi::c_void;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use switchyard_host::directory::Directory;
use switchyard_host::plugin::Plugins;
use switchyard_host::policy::{Bundle, Policies};
use switchyard_host::registrar::{Authenticator, Login, answer_challenge};
use switchyard_host::sip::body::sdp::Sdp;
use switchyard_host::sip::header::{Auth, Authorization};
use switchyard_host::sip::{Draft, Message, Method, Name, Status, Uri};
use switchyard_host::store::Snapshot;
use switchyard_host::time::{Instant, Now, Utc};
use switchyard_host::transport::framing::{Frame, Framer};
use switchyard_sdk::abi::{self, HostTable, PluginEntry, Str};
use switchyard_sdk::manifest::Manifest;

const NOW: Now = Now { instant: Instant::ZERO, utc: Utc(1_795_132_800_000) };

/// A datagram: read, looked at, answered; the answer is a message again.
pub fn message(data: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else { return };
    for name in Name::ALL {
        let _ = (message.get(*name), message.list(*name).count());
    }
    let _ = (message.from_addr(), message.to_addr(), message.contact(), message.sdp(), message.to_string());
    if message.is_request() {
        let mut draft = Draft::response(&message, Status::OK);
        draft.to_tag("t");
        let again = Message::parse(draft.build().bytes().clone()).expect("our own answer is a message");
        assert_eq!((again.call_id(), again.cseq()), (message.call_id(), message.cseq()));
    }
}

/// A session description: what we print we read, and it says the same.
pub fn sdp(data: &[u8]) {
    let Ok(sdp) = Sdp::parse(data) else { return };
    let text = sdp.to_string();
    let again = Sdp::parse(text.as_bytes()).expect("our own description");
    assert_eq!(again.to_string(), text);
}

/// A URI: the same.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = Uri::parse(text) else { return };
    let printed = uri.to_string();
    assert!(!printed.contains(['\r', '\n', ' ', '<', '>']), "{printed:?}");
    let again = Uri::parse(&printed).expect("our own URI");
    assert_eq!(again.to_string(), printed);
    let _ = (uri.user_unescaped(), uri.host_ip(), uri.equals(&again));
}

/// Credentials and challenges, from both ends.
pub fn digest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(auth) = Auth::parse(text) {
        assert_eq!(Auth::parse(&auth.to_string()).as_ref(), Ok(&auth));
    }
    let line = text.replace(['\r', '\n'], " ");
    let request = format!(
        "REGISTER sip:example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
         Call-ID: 1\r\nCSeq: 1 REGISTER\r\nAuthorization: {line}\r\n\r\n"
    );
    if let Ok(request) = Message::parse(Bytes::from(request)) {
        let mut authenticator = Authenticator::new("example.test", [7; 32]);
        let directory = Directory::load(&Snapshot::default());
        let _ = authenticator.verify(NOW, &request, &directory);
        let _ = authenticator.challenge(NOW, false, &mut ChaCha12Rng::seed_from_u64(1));
    }
    let response = format!(
        "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
         Call-ID: 1\r\nCSeq: 1 REGISTER\r\nWWW-Authenticate: {line}\r\n\r\n"
    );
    if let Ok(response) = Message::parse(Bytes::from(response)) {
        let login = Login { user: "a", password: "b" };
        if let Some((_, value)) = answer_challenge(&response, login, &Method::Register, "sip:b", 1, "c") {
            assert!(Authorization::parse(&value).is_ok(), "{value}");
        }
    }
}

/// A stream: cut in pieces of any size it gives the same frames. The first byte says where it is cut.
pub fn framing(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else { return };
    let whole = frames(&[stream]);
    let pieces: Vec<&[u8]> = stream.chunks(usize::from(*cut).max(1)).collect();
    assert_eq!(frames(&pieces), whole);
}

fn frames(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut framer = Framer::new(16_384);
    let mut frames = Vec::new();
    for piece in pieces {
        framer.buffer().extend_from_slice(piece);
        loop {
            match framer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// A policy file: taken or refused, within its budget; what is taken answers.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let manifest: Manifest =
        serde_json::from_str(include_str!("../../plugins/call-park/src/manifest.json")).expect("ours");
    let bundle = Bundle::of([("default.lua".to_owned(), text.to_owned())]);
    if let Ok(mut policies) = Policies::new(&manifest.sections, Arc::new(bundle), &[], 7) {
        let _ = policies.settings("east", "call_park");
        for hook in ["call_park.allow", "outbound.allow"] {
            let _ = policies.decide(NOW, "east", hook, &serde_json::json!({ "payer": {}, "parker": {} }));
        }
    }
}

thread_local! {
    /// What the plugin of [`plugin_abi`] says when it is offered a call.
    static SAYS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A plugin that calls the host's functions in any order with any arguments: a byte chooses the function, one the
/// handle, and a line is the text.
pub fn plugin_abi(data: &[u8]) {
    commands_of(data);
}

/// How many commands came of it.
pub fn commands_of(data: &[u8]) -> usize {
    SAYS.set(data.to_vec());
    let mut plugins = Plugins::from_entries(&[&ENTRY]);
    let policies = Policies::new(&plugins.sections(), Arc::new(Bundle::of([])), &[], 7);
    plugins.start(NOW, Rc::new(RefCell::new(policies.unwrap_or_else(|errors| panic!("{errors:?}")))));
    let Some(instance) = plugins.for_service("fuzzed") else { panic!("{:?}", plugins.refused()) };
    plugins.offer(NOW, instance, &offer());
    let mut commands = 0;
    while let Some(command) = plugins.poll_command() {
        let _ = format!("{command:?}");
        commands += 1;
    }
    commands
}

fn offer() -> switchyard_sdk::types::Offer {
    let party = serde_json::to_value(switchyard_sdk::types::Party::default()).unwrap_or_default();
    serde_json::from_value(serde_json::json!({ "how": "dial", "pool": "east", "caller": party, "occupied": false, "call_id": "1" }))
        .unwrap_or_else(|error| panic!("{error}"))
}

static ENTRY: PluginEntry = PluginEntry {
    magic: abi::MAGIC,
    abi_version: abi::ABI_VERSION,
    size: size_of::<PluginEntry>() as u32,
    name: Str::of("fuzzed"),
    version: Str::of("1.0.0"),
    manifest: Str::of(
        r#"{"description": "says anything", "services": ["fuzzed"], "extensions": ["switchyard.call/1", "switchyard.orbit/1", "switchyard.policy/1", "switchyard.timer/1", "switchyard.log/1", "switchyard.metrics/1"]}"#,
    ),
    unwinds: 1,
    reserved: 0,
    create,
    destroy,
    event,
};

struct Instance {
    host: *const HostTable,
    context: *mut c_void,
}

unsafe extern "C" fn create(host: *const HostTable, context: *mut c_void) -> *mut c_void {
    Box::into_raw(Box::new(Instance { host, context })).cast()
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    // SAFETY: made by `create`, and this is its end.
    drop(unsafe { Box::from_raw(instance.cast::<Instance>()) });
}

unsafe extern "C" fn event(instance: *mut c_void, event: *const abi::Event) -> i32 {
    // SAFETY: made by `create`; the host lends the event.
    let (instance, event) = unsafe { (&*instance.cast::<Instance>(), &*event) };
    if event.kind == abi::event::OFFER {
        SAYS.with_borrow(|says| {
            for line in says.split(|byte| *byte == b'\n') {
                // SAFETY: tables and context are the host's own, and live as long as the instance.
                unsafe { say(instance, event.flow, line) };
            }
        });
    }
    abi::status::TAKEN
}

unsafe extern "C" fn sink(_: *mut c_void, _: Str) {}

/// # Safety
/// `instance` holds what the host gave.
unsafe fn say(Instance { host, context }: &Instance, flow: u64, line: &[u8]) {
    let [what, number, text @ ..] = line else { return };
    let text = Str { ptr: text.as_ptr(), len: text.len() };
    let (context, number) = (*context, u64::from(*number));
    // SAFETY: as above; each table is looked up under its own id.
    unsafe {
        let host = &**host;
        let table = |id: &str| (host.extension)(context, Str::of(id));
        let Some(call) = table(abi::CallV1::ID).cast::<abi::CallV1>().as_ref() else { return };
        let Some(orbit) = table(abi::OrbitV1::ID).cast::<abi::OrbitV1>().as_ref() else { return };
        let Some(policy) = table(abi::PolicyV1::ID).cast::<abi::PolicyV1>().as_ref() else { return };
        match what % 22 {
            0 => {
                (call.play)(context, flow, number, number, text);
            }
            1 => {
                (call.join)(context, flow, number, number, number);
            }
            2 => {
                (call.ring)(context, flow, number, text);
            }
            3 => {
                (call.release)(context, flow, number, text);
            }
            4 => {
                (call.watch)(context, flow, number, number);
            }
            5 => {
                (call.accept)(context, flow, text);
            }
            6 => {
                (call.refuse)(context, flow, text);
            }
            7 => {
                (orbit.reserve)(context, flow, number, text);
            }
            8 => {
                (orbit.commit)(context, flow, number, text);
            }
            9 => {
                (orbit.save)(context, flow, text);
            }
            10 => {
                (orbit.claim)(context, flow, number, text);
            }
            11 => {
                (orbit.claimed)(context, flow, number, text);
            }
            12 => {
                (orbit.settled)(context, flow, number, text);
            }
            13 => {
                (orbit.free)(context, flow, text, text);
            }
            14 => {
                (orbit.unclaim)(context, flow, text);
            }
            15 => {
                (policy.settings)(context, text, text, sink, std::ptr::null_mut());
            }
            16 => {
                (policy.decide)(context, text, text, text, sink, std::ptr::null_mut());
            }
            17 => {
                if let Some(timer) = table(abi::TimerV1::ID).cast::<abi::TimerV1>().as_ref() {
                    let _ = (timer.at)(context, number, number, u64::MAX - number);
                }
            }
            18 => {
                if let Some(log) = table(abi::LogV1::ID).cast::<abi::LogV1>().as_ref() {
                    (log.log)(context, number, *what as u32, text);
                }
            }
            19 => {
                if let Some(metrics) = table(abi::MetricsV1::ID).cast::<abi::MetricsV1>().as_ref() {
                    (metrics.count)(context, text, number);
                }
            }
            20 => (host.withdraw)(context, number),
            _ => (host.flow_end)(context, number, number as u32, text),
        }
    }
}
