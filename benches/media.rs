//! What music on hold costs: `cargo bench -p switchyard --bench media [-- STREAMS]`.
//!
//! The real service plays the default music to many destinations on loopback, and the kernel says how long its
//! thread ran. Loopback charges the receiver's half of the network to the sender; a network card may be cheaper.
//! CPU time per stream hardly depends on how busy the machine is; skipped packets do.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use switchyard_host::media::{Background, Codec, Command, MediaConfig, Playlist, Service, StreamId};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    let recorder = PrometheusBuilder::new().build_recorder();
    let counters = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the only recorder");
    let wanted = arguments.iter().find_map(|argument| argument.parse().ok());
    match (arguments.iter().any(|argument| argument == "--bench"), wanted) {
        (true, Some(streams)) => measure(&counters, streams, Duration::from_secs(10)),
        (true, None) => [500, 1000, 4000]
            .into_iter()
            .for_each(|streams| measure(&counters, streams, Duration::from_secs(10))),
        // Run as a test: only whether it works.
        (false, _) => measure(&counters, 20, Duration::from_secs(1)),
    }
}

fn measure(counters: &PrometheusHandle, streams: u64, time: Duration) {
    let received = Arc::new(AtomicU64::new(0));
    let sink = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket to send to");
    let port = sink.local_addr().expect("its port").port();
    let count_arrived = received.clone();
    thread::spawn(move || {
        while sink.recv(&mut [0; 256]).is_ok() {
            count_arrived.fetch_add(1, Ordering::Relaxed);
        }
    });

    let (sender, events) = mpsc::channel();
    let config = MediaConfig {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ports: 20_000..=29_999,
        music: "music".into(),
        seed: [1; 32],
    };
    let service = Service::start(config, move |event| drop(sender.send(event))).expect("a thread");
    for stream in (0..streams).map(StreamId) {
        service.send(Command::Open { stream });
        events.recv().expect("an answer");
        // Every stream has an address of its own, all of them this machine's.
        let [.., high, low] = stream.0.to_be_bytes();
        let remote = SocketAddr::from(([127, 1, high, low], port));
        service.send(Command::Send {
            stream,
            remote,
            rtcp: remote,
            codec: Codec::ALL[stream.0 as usize % 3],
            payload_type: 0,
            dtmf: Some(101),
            playlist: Playlist { prompts: Vec::new(), then: Background::Music(None) },
        });
    }
    thread::sleep(Duration::from_secs(2)); // the music is loaded, the streams are under way

    let count = || {
        let [sent, skipped] = ["packets", "skipped"].map(|name| counter(counters, name));
        (cpu(), sent, skipped, received.load(Ordering::Relaxed))
    };
    let before = count();
    thread::sleep(time);
    let after = count();
    let nanos = (after.0 - before.0) as f64;
    let (sent, skipped, arrived) = (after.1 - before.1, after.2 - before.2, after.3 - before.3);
    let per_packet = nanos / sent.max(1) as f64;
    println!(
        "{streams} streams: {:.3} CPU-s per 1000 streams and second, {:.2} us per packet; {sent} packets sent, \
         {skipped} skipped, {arrived} arrived; {} KiB resident",
        per_packet * 50.0 * 1000.0 / 1e9,
        per_packet / 1e3,
        resident_kib(),
    );
}

/// One of the service's own counters.
fn counter(counters: &PrometheusHandle, name: &str) -> u64 {
    let name = format!("switchyard_media_{name}_total ");
    let rendered = counters.render();
    rendered.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0)
}

/// Nanoseconds the media thread was on a processor.
fn cpu() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let read =
        |task: &fs::DirEntry, file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
    let media = tasks.filter(|task| read(task, "comm").trim() == "media");
    media.filter_map(|task| read(&task, "schedstat").split(' ').next()?.parse::<u64>().ok()).sum()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
