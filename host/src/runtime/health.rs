//! How the host is doing: the metrics, and whether the engine gets on.

use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::time::MissedTickBehavior;

use super::clock::Clock;
use super::heartbeat::{Heartbeat, TOO_LONG};
use crate::admin::{self, AdminHandle};
use crate::transport::tcp::Streams;

/// Seconds between two looks at the engine's own counts, which it walks its calls for.
const STATUS_EVERY: u64 = 5;

/// A process has one recorder; in a second host of the same process (tests) metrics go to the first one's.
pub(super) fn install_metrics() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::debug!("metrics are recorded already");
    }
    handle
}

/// Once a second: is the engine getting on? And what only a look can count.
pub(super) async fn look_after(
    clock: Clock,
    heartbeat: Heartbeat,
    metrics: PrometheusHandle,
    streams: Streams,
    engine: AdminHandle,
) {
    let started = clock.now();
    metrics::gauge!("switchyard_start_time_seconds").set(started.utc.0 as f64 / 1000.0);
    let mut stuck = false;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        metrics::gauge!("switchyard_tcp_connections").set(streams.len() as f64);
        metrics.run_upkeep();
        let busy = heartbeat.busy_for(clock.now());
        if busy >= TOO_LONG && !stuck {
            tracing::error!(
                ?busy,
                "the engine has not come back from one turn: a plugin or a policy may loop"
            );
        } else if busy < TOO_LONG && stuck {
            tracing::info!("the engine is back");
        }
        stuck = busy >= TOO_LONG;
        if !stuck && tick % STATUS_EVERY == 0 {
            match engine.ask(admin::Request::Status).await {
                Ok(status) => gauge_status(&status),
                Err(_) => tracing::debug!("no status for the metrics"),
            }
        }
    }
}

/// `calls`, `occupants`, `registrations`, and each of `counts`, as gauges.
fn gauge_status(status: &serde_json::Value) {
    for (key, name) in [
        ("calls", "switchyard_calls"),
        ("occupants", "switchyard_occupants"),
        ("registrations", "switchyard_registrations"),
    ] {
        if let Some(value) = status.get(key).and_then(serde_json::Value::as_f64) {
            metrics::gauge!(name).set(value);
        }
    }
    let counts = status.get("counts").and_then(serde_json::Value::as_object);
    for (key, value) in counts.into_iter().flatten() {
        if let Some(value) = value.as_f64() {
            metrics::gauge!("switchyard_engine_objects", "kind" => key.clone()).set(value);
        }
    }
}
