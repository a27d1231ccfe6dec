//! What the engine counts, as gauges. Taken when somebody reads `/metrics`, so that the engine keeps none.

use metrics::gauge;
use serde_json::Value;

/// Fields of [`Request::Status`](super::Request::Status) and the gauges they become.
const GAUGES: [(&str, &str); 4] = [
    ("calls", "switchyard_calls"),
    ("occupants", "switchyard_orbit_occupants"),
    ("orbit_leaks", "switchyard_orbit_leaks"),
    ("registrations", "switchyard_registrations"),
];

/// Sets every gauge there is a number for.
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
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_status_becomes_gauges() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let status = json!({"calls": 2, "orbit_leaks": 0, "ready": true, "counts": {"legs": 5}});
        metrics::with_local_recorder(&recorder, || set(&status));
        let text = recorder.handle().render();
        for line in ["switchyard_calls 2", "switchyard_orbit_leaks 0", "switchyard_live{what=\"legs\"} 5"] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("switchyard_registrations"), "{text}");
    }
}
