//! Settings of a policy section as they cross to the plugin: defaults of the manifest, converted.

use serde_json::{Map, Value, json};

use crate::manifest::{Kind, Setting};

/// What a section holds when no policy file says anything.
pub(crate) fn defaults(settings: &[Setting]) -> Value {
    let converted = settings.iter().map(|setting| {
        let value = match (&setting.kind, &setting.default) {
            (Kind::Duration { .. }, Value::String(text)) => duration_ms(text).into(),
            // The JSON of `ext::call::Music`.
            (Kind::Music, Value::Bool(true)) => "default".into(),
            (Kind::Music, Value::Bool(false)) => "off".into(),
            (Kind::Music, Value::String(file)) => json!({ "file": file }),
            (Kind::Table { settings }, _) => defaults(settings),
            (_, value) => value.clone(),
        };
        (setting.name.clone(), value)
    });
    Value::Object(converted.collect::<Map<_, _>>())
}

/// Puts `changes` over `value`, key by key: a table over a table merges, anything else replaces.
pub(crate) fn merge(value: &mut Value, changes: &Value) {
    match (value, changes) {
        (Value::Object(value), Value::Object(changes)) => {
            for (key, change) in changes {
                merge(value.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
        (value, change) => *value = change.clone(),
    }
}

/// `1m30s` in milliseconds.
fn duration_ms(text: &str) -> u64 {
    let mut rest = text;
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => panic!("manifest: {text} is not a duration"),
        };
        let Ok(number) = number.parse::<u64>() else { panic!("manifest: {text} is not a duration") };
        total += number * ms;
        rest = tail;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_cross_converted() {
        let duration = Kind::Duration { min_ms: 0, max_ms: 600_000 };
        let setting =
            |name: &str, kind, default| Setting { name: name.into(), kind, default, doc: String::new() };
        let inner = setting("ring", duration.clone(), json!("500ms"));
        let settings = [
            setting("pickup_timeout", duration, json!("1m30s")),
            setting("max_recall_attempts", Kind::Integer { min: 1, max: 10 }, json!(1)),
            setting("music_on_hold", Kind::Music, json!(true)),
            setting("jingle", Kind::Music, json!("jingle.wav")),
            setting("recall", Kind::Table { settings: vec![inner] }, Value::Null),
        ];
        assert_eq!(
            defaults(&settings),
            json!({
                "pickup_timeout": 90_000,
                "max_recall_attempts": 1,
                "music_on_hold": "default",
                "jingle": { "file": "jingle.wav" },
                "recall": { "ring": 500 },
            })
        );
    }

    #[test]
    fn changes_replace_leaves_only() {
        let mut value = json!({ "a": 1, "b": { "c": 2, "d": 3 } });
        merge(&mut value, &json!({ "b": { "c": 5 } }));
        assert_eq!(value, json!({ "a": 1, "b": { "c": 5, "d": 3 } }));
    }
}
