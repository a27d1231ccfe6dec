//! The host's own section: what happens when a pool fails, and who may do what meanwhile.
//!
//! The defaults are the facts: detection after 300 s and back after 600 s (RES-05, RES-06), failover by hand (RES-01),
//! parked calls lost with their pool (facts.md §2.1), pickup ranges moved by hand (RES-22).

use serde_json::{Value as Json, json};

use super::schema::{Field, Fields, Shape};

/// The section's name.
pub(crate) const NAME: &str = "resiliency";

/// Values below this are treated as a mistake unless `allow_fast_detection` says they are meant (RES-05).
pub(crate) const DETECTION_FLOOR_MS: u64 = 90_000;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The phases in which somebody is in resiliency mode (design.md §8). In `active` and `failed_over` nobody is.
const PHASES: [&str; 4] = ["outage", "resilient", "failing_over", "failing_back"];

/// What a user in resiliency mode may be barred from. Hold and transfer always work (facts.md §6.7).
const ACTIONS: [&str; 3] = ["park", "retrieve", "pickup"];

/// The section.
pub(crate) fn section() -> Field {
    let mut cell = setting(Shape::Boolean, &json!(false));
    cell.hook = true;
    let row = Field::table(fields(ACTIONS.map(|action| (action, cell.clone()))));
    let mut redirect = setting(Shape::Boolean, &json!(false));
    redirect.hook = true;
    Field::table(fields([
        ("failure_detection", duration(5 * SECOND, 24 * HOUR, "300s")),
        ("failback_detection", duration(5 * SECOND, 24 * HOUR, "600s")),
        ("allow_fast_detection", setting(Shape::Boolean, &json!(false))),
        ("failover", word(["manual", "automatic"])),
        ("parked_on_outage", word(["disconnect", "rescue"])),
        ("pickup_ranges", word(["manual", "automatic"])),
        ("pickup_after_failback", setting(Shape::Boolean, &json!(false))),
        ("drain_time", duration(0, HOUR, "5m")),
        ("fenced_limit", duration(MINUTE, 24 * HOUR, "15m")),
        ("redirect", redirect),
        ("allowed", Field::table(fields(PHASES.map(|phase| (phase, row.clone()))))),
    ]))
}

/// What no single setting can say: `(setting, complaint)`.
pub(crate) fn contradiction(settings: &Json) -> Option<(&'static str, String)> {
    let detection = settings["failure_detection"].as_u64()?;
    let fast = settings["allow_fast_detection"].as_bool()?;
    (detection < DETECTION_FLOOR_MS && !fast).then(|| {
        let text = format!(
            "failure_detection: expected at least \"90s\", found \"{}\"; shorter takes a slow link for a dead pool, \
             unless allow_fast_detection = true says it is meant",
            super::duration::print(detection)
        );
        ("failure_detection", text)
    })
}

pub(super) fn fields<const N: usize>(fields: [(&str, Field); N]) -> Fields {
    Fields(fields.into_iter().map(|(name, field)| (name.to_owned(), field)).collect())
}

fn duration(min_ms: u64, max_ms: u64, default: &str) -> Field {
    setting(Shape::Duration { min_ms, max_ms }, &json!(default))
}

/// The first word is the default.
fn word(words: [&str; 2]) -> Field {
    setting(Shape::Word { words: words.map(str::to_owned).to_vec() }, &json!(words[0]))
}

pub(super) fn setting(shape: Shape, default: &Json) -> Field {
    // The defaults above satisfy their own shapes, which the test below proves; were one wrong it would be null.
    let fallback = Field { shape: Some(shape.clone()), default: Json::Null, hook: false, optional: false };
    Field::setting(shape, default).unwrap_or(fallback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_the_facts() {
        let Some(Shape::Table(fields)) = section().shape else { panic!("a section is a table") };
        let barred = json!({ "park": false, "retrieve": false, "pickup": false });
        assert_eq!(
            fields.defaults(),
            json!({
                "failure_detection": 300_000,
                "failback_detection": 600_000,
                "allow_fast_detection": false,
                "failover": "manual",
                "parked_on_outage": "disconnect",
                "pickup_ranges": "manual",
                "pickup_after_failback": false,
                "drain_time": 300_000,
                "fenced_limit": 900_000,
                "redirect": false,
                "allowed": { "outage": barred, "resilient": barred, "failing_over": barred, "failing_back": barred },
            })
        );
    }

    #[test]
    fn fast_detection_must_be_meant() {
        let settings = |ms: u64, fast: bool| json!({ "failure_detection": ms, "allow_fast_detection": fast });
        assert_eq!(contradiction(&settings(90_000, false)), None);
        assert_eq!(contradiction(&settings(30_000, true)), None);
        let (name, text) = contradiction(&settings(45_000, false)).unwrap();
        assert_eq!(name, "failure_detection");
        assert!(text.contains("found \"45s\""), "{text}");
    }
}
