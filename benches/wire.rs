//! What a message costs on the wire: `cargo bench -p switchyard --bench wire`.
//!
//! Aim: one INVITE of about 1.1 KB parsed and printed in under a microsecond, parsing without a single allocation
//! (checked here, whatever the mode). rsip, as the parser we did not take, is measured beside it.
#![expect(unsafe_code, reason = "a global allocator that counts can only be written with it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use switchyard_host::net::{Flow, Protocol};
use switchyard_host::sip::{Draft, Event, Message, Method, Name, Status, Transactions};
use switchyard_host::time::Now;

const INVITE: &str = "INVITE sip:1002@example.test SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.31:5060;rport;branch=z9hG4bKPj2b0a4bd7f0e84f2a8d1c\r\n\
Max-Forwards: 70\r\n\
From: \"Alice Example\" <sip:1001@example.test>;tag=9ce1b3c7d5f14e0e\r\n\
To: <sip:1002@example.test>\r\n\
Contact: <sip:1001@192.0.2.31:5060;ob>;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000a959f3c11>\"\r\n\
Call-ID: 5f3c2d1e-4a6b-4c8d-9e0f-1a2b3c4d5e6f\r\n\
CSeq: 18220 INVITE\r\n\
Allow: PRACK, INVITE, ACK, BYE, CANCEL, UPDATE, INFO, SUBSCRIBE, NOTIFY, REFER, MESSAGE, OPTIONS\r\n\
Supported: replaces, 100rel, timer, norefersub, outbound\r\n\
Session-Expires: 1800\r\n\
Min-SE: 90\r\n\
User-Agent: Example Phone 4.2\r\n\
P-Preferred-Identity: <sip:1001@example.test>\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 295\r\n\
\r\n\
v=0\r\n\
o=- 3918273645 3918273645 IN IP4 192.0.2.31\r\n\
s=call\r\n\
c=IN IP4 192.0.2.31\r\n\
t=0 0\r\n\
m=audio 4000 RTP/AVP 9 8 0 101\r\n\
a=rtcp:4001 IN IP4 192.0.2.31\r\n\
a=sendrecv\r\n\
a=rtpmap:9 G722/8000\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=fmtp:101 0-16\r\n\
a=ssrc:11234 x\r\n";

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory it hands out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// What `work` allocates, and what it gives.
fn counted<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (ALLOCATIONS.with(Cell::get) - before, result)
}

/// As a datagram arrives: bytes somebody else holds on to as well.
fn datagram() -> Bytes {
    let bytes = Bytes::copy_from_slice(INVITE.as_bytes());
    drop(bytes.clone());
    bytes
}

/// What every request is asked: transaction, dialog, where to.
fn look(message: &Message) -> usize {
    let via = message.get(Name::Via).map_or(0, str::len);
    let contact = message.get(Name::Contact).map_or(0, str::len);
    via + contact
        + message.from_tag().len()
        + message.to().len()
        + message.call_id().len()
        + message.uri().len()
}

/// The INVITE that leaves on the other leg.
fn onward(message: &Message) -> Draft {
    let mut draft = Draft::request(Method::Invite, "sip:1002@192.0.2.32:5060;ob");
    draft
        .add(Name::Via, "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1f.0123456789abcdef;rport")
        .add(Name::MaxForwards, 69)
        .add(Name::From, message.from())
        .add(Name::To, message.to())
        .add(Name::CallId, "b2b-5f3c2d1e4a6b4c8d9e0f")
        .add(Name::CSeq, "1 INVITE")
        .add(Name::Contact, "<sip:x3f9a@192.0.2.1:5060>");
    for name in [Name::Allow, Name::Supported, Name::SessionExpires, Name::MinSe] {
        if let Some(value) = message.get(name) {
            draft.add(name, value);
        }
    }
    draft.body("application/sdp", message.body());
    draft
}

fn flow() -> Flow {
    Flow {
        protocol: Protocol::Udp,
        local: ([192, 0, 2, 1], 5060).into(),
        remote: ([192, 0, 2, 31], 5060).into(),
        connection: None,
        edge: None,
    }
}

fn wire(criterion: &mut Criterion) {
    let bytes = datagram();
    let (parsing, message) = counted(|| Message::parse(bytes.clone()).expect("valid"));
    let (looking, _) = counted(|| look(&message));
    let draft = onward(&message);
    let mut out = BytesMut::with_capacity(4096);
    let (printing, ()) = counted(|| draft.print(&mut out));
    let (drafting, _) = counted(|| onward(&message));
    let (building, built) = counted(|| draft.build());
    let (answering, _) = counted(|| Draft::response(&message, Status::RINGING).build());
    println!(
        "INVITE of {} bytes in, {} out. Allocations: parse {parsing}, look {looking}, print {printing}, \
         write a draft {drafting}, build {building}, write and build a response {answering}",
        bytes.len(),
        built.bytes().len(),
    );
    assert_eq!((parsing, looking, printing), (0, 0, 0), "parsing, looking and printing must not allocate");

    let mut group = criterion.benchmark_group("wire");
    group.bench_function("parse", |b| b.iter(|| Message::parse(black_box(&bytes).clone())));
    group.bench_function("look", |b| b.iter(|| look(black_box(&message))));
    group.bench_function("print", |b| {
        b.iter(|| {
            out.clear();
            black_box(&draft).print(&mut out);
        });
    });
    group.bench_function("parse and print", |b| {
        b.iter(|| {
            out.clear();
            let message = Message::parse(black_box(&bytes).clone());
            black_box(&draft).print(&mut out);
            message
        });
    });
    group.bench_function("write a draft and build it", |b| b.iter(|| onward(black_box(&message)).build()));
    group.bench_function("response", |b| {
        b.iter(|| Draft::response(black_box(&message), Status::RINGING).to_tag("0123456789abcdef").build());
    });
    group.bench_function("rsip parse", |b| b.iter(|| rsip::Request::try_from(black_box(INVITE.as_bytes()))));
    group.bench_function("rsip from ours", |b| b.iter(|| rsip::Request::try_from(black_box(&message))));
    group.finish();
}

/// A request and its answer through both sides' transactions, timers included.
fn transactions(criterion: &mut Criterion) {
    let rng = |seed| rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    criterion.bench_function("transactions: OPTIONS and its 200, both sides", |b| {
        let (mut alice, mut bob) = (Transactions::new(rng(1)), Transactions::new(rng(2)));
        let mut now = Now::default();
        let mut number = 0u64;
        b.iter(|| {
            // 1 ms apart: some 32,000 finished ones wait for their timers all the time, as on a busy host.
            number += 1;
            now.instant = now.instant + std::time::Duration::from_millis(1);
            let mut draft = Draft::request(Method::Options, "sip:b@x");
            draft
                .add(Name::From, "<sip:a@x>;tag=a")
                .add(Name::To, "<sip:b@x>")
                .add(Name::CallId, number)
                .add(Name::CSeq, "1 OPTIONS");
            alice.request(now, flow(), "192.0.2.31:5060", draft);
            while let Some((_, bytes)) = alice.poll_send() {
                bob.receive(now, flow(), bytes);
            }
            while let Some(event) = bob.poll_event() {
                if let Event::Request { server, request, .. } = event {
                    bob.respond(now, server, Draft::response(&request, Status::OK).to_tag("b"));
                }
            }
            while let Some((_, bytes)) = bob.poll_send() {
                alice.receive(now, flow(), bytes);
            }
            while alice.poll_event().is_some() {}
            alice.on_timeout(now);
            bob.on_timeout(now);
            while alice.poll_event().is_some() || bob.poll_event().is_some() {}
        });
    });
}

criterion_group!(benches, wire, transactions);
criterion_main!(benches);
