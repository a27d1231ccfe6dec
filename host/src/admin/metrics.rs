//! What the engine counts, as gauges and counters. Taken when somebody reads `/metrics`, so that the engine keeps none.

use metrics::{counter, gauge};
use serde_json::Value;

use crate::pool::Phase;

/// Fields of [`Request::Status`](super::Request::Status) and the gauges they become.
const GAUGES: [(&str, &str); 4] = [
    ("calls", "switchyard_calls"),
    ("occupants", "switchyard_orbit_occupants"),
    ("orbit_leaks", "switchyard_orbit_leaks"),
    ("registrations", "switchyard_registrations"),
];

/// Objects of the status whose numbers only grow, and what the counters' names begin with.
const COUNTERS: [(&str, &str); 2] = [("/policy/counters", "switchyard_policy"), ("/sip", "switchyard_sip")];

/// Sets every gauge and counter there is a number for.
pub(super) fn set(status: &Value) {
    for (field, name) in GAUGES {
        if let Some(value) = status[field].as_f64() {
            gauge!(name).set(value);
        }
    }
    for (what, value) in status["counts"].as_object().into_iter().flatten() {
        if let Some(value) = value.as_f64() {
            gauge!("switchyard_live", "what" => what.clone()).set(value);
        }
    }
    if let Some(revision) = status["policy"]["revision"].as_f64() {
        gauge!("switchyard_policy_revision").set(revision);
    }
    for pool in status["pools"].as_array().into_iter().flatten() {
        let Some(name) = pool["name"].as_str() else { continue };
        for phase in Phase::ALL {
            let is = if pool["phase"] == phase.word() { 1.0 } else { 0.0 };
            gauge!("switchyard_pool_phase", "pool" => name.to_owned(), "phase" => phase.word()).set(is);
        }
        if let Some(epoch) = pool["epoch"].as_f64() {
            gauge!("switchyard_pool_epoch", "pool" => name.to_owned()).set(epoch);
        }
        let served = if pool["served_by"] == status["host"] { 1.0 } else { 0.0 };
        gauge!("switchyard_pool_served", "pool" => name.to_owned()).set(served);
        if let Some(differs) = pool["policy_differs"].as_bool() {
            gauge!("switchyard_policy_skew", "pool" => name.to_owned()).set(if differs { 1.0 } else { 0.0 });
        }
    }
    for (place, prefix) in COUNTERS {
        for (what, value) in status.pointer(place).and_then(Value::as_object).into_iter().flatten() {
            if let Some(value) = value.as_u64() {
                counter!(format!("{prefix}_{what}_total")).absolute(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_becomes_gauges_and_counters() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let status = json!({"calls": 2, "orbit_leaks": 0, "ready": true, "counts": {"legs": 5},
            "policy": {"revision": 2, "counters": {"overruns": 3}}, "sip": {"malformed": 4}, "host": "fe1",
            "pools": [{"name": "east", "phase": "resilient", "epoch": 5, "served_by": "fe1", "policy_differs": true}]});
        metrics::with_local_recorder(&recorder, || set(&status));
        let text = recorder.handle().render();
        for line in [
            "switchyard_calls 2",
            "switchyard_orbit_leaks 0",
            "switchyard_live{what=\"legs\"} 5",
            "switchyard_policy_revision 2",
            "switchyard_policy_overruns_total 3",
            "switchyard_sip_malformed_total 4",
            "switchyard_pool_phase{pool=\"east\",phase=\"resilient\"} 1",
            "switchyard_pool_phase{pool=\"east\",phase=\"active\"} 0",
            "switchyard_pool_epoch{pool=\"east\"} 5",
            "switchyard_pool_served{pool=\"east\"} 1",
            "switchyard_policy_skew{pool=\"east\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("switchyard_registrations"), "{text}");
    }
}
