//! How the host is doing: the recorder of metrics, and whether the engine gets on. What the engine keeps is counted when
//! somebody reads `/metrics`.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::MissedTickBehavior;

use super::clock::Clock;
use super::heartbeat::{Heartbeat, TOO_LONG};
use super::lost_lines::LostLines;
use crate::repeats;
use crate::transport::tcp::Streams;

/// A process has one recorder; in a second host of the same process (tests) metrics go to the first one's.
pub(super) fn install_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are recorded already");
    }
    handle
}

/// Once a second: is the engine getting on? How many connections are there? And what was not told line by line?
pub(super) async fn look_after(
    clock: Clock,
    heartbeat: Heartbeat,
    metrics: PrometheusHandle,
    streams: Streams,
    mut lost: LostLines,
) {
    let started = clock.now();
    metrics::gauge!("switchyard_start_time_seconds").set(started.utc.0 as f64 / 1000.0);
    let mut stuck = false;
    let mut told = started.instant;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        metrics::gauge!("switchyard_tcp_connections").set(streams.len() as f64);
        metrics.run_upkeep();
        lost.look();
        let now = clock.now();
        let span = now.instant - told;
        if span >= repeats::TELL_EVERY {
            repeats::tell_all(Duration::from_secs(span.as_secs()));
            told = now.instant;
        }
        let busy = heartbeat.busy_for(now);
        if busy >= TOO_LONG && !stuck {
            tracing::error!(
                ?busy,
                "the engine has not come back from one turn: a plugin or a policy may loop"
            );
        } else if busy < TOO_LONG && stuck {
            tracing::info!("the engine is back");
        }
        stuck = busy >= TOO_LONG;
    }
}
