//! Changing one field of a user, as the administrative interface gives it: what the user alone says is right or wrong.
//! What also depends on others (whose numbers and ranges there are) the engine looks at.

use serde_json::Value;

use super::{CallRules, User};
use crate::config;
use crate::near::did_you_mean;

impl User {
    /// The keys that can be changed, besides those of [`CallRules::KEYS`].
    pub const KEYS: [&str; 5] = ["may_park", "may_retrieve", "display", "pickup_group", "extension"];

    /// Changes the field of that key; null takes it away. The error begins with the key.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let flag = || value.as_bool().ok_or_else(|| format!("{key}: expected true or false, found {value}"));
        match key {
            "may_park" => self.may_park = flag()?,
            "may_retrieve" => self.may_retrieve = flag()?,
            _ => self.set_text(key, value).map_err(|why| {
                let way_out = if value == "" { "; null takes it away" } else { "" };
                format!("{key}: {why}{way_out}")
            })?,
        }
        Ok(())
    }

    fn set_text(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match (key, value) {
            ("display", Value::Null) => self.display = None,
            ("display", Value::String(text)) if !text.contains(['\r', '\n']) => {
                self.display = Some(text.clone());
            }
            ("display", _) => return Err(format!("expected a text or null, found {value}")),
            ("extension", Value::Null) => self.extension = None,
            ("extension", Value::String(text)) => self.extension = Some(config::check_number(text)?),
            ("extension", _) => return Err(format!("expected a number as text or null, found {value}")),
            ("pickup_group", _) => {
                let expected = || format!("expected a number as text, a list of them or null, found {value}");
                let texts: Vec<&str> = match value {
                    Value::Null => Vec::new(),
                    Value::String(text) => vec![text],
                    Value::Array(items) => {
                        items.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(expected)?
                    }
                    _ => return Err(expected()),
                };
                let groups = texts.into_iter().map(config::check_number).collect::<Result<Vec<_>, _>>()?;
                let mut groups = groups.into_iter();
                self.pickup_group = groups.next();
                self.further_pickup_groups = groups.collect();
            }
            _ => {
                let unknown = || {
                    let near = did_you_mean(key, Self::KEYS.into_iter().chain(CallRules::KEYS));
                    format!("unknown key{near}")
                };
                self.rules.set(key, value).ok_or_else(unknown)??;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_takes_a_field_away_and_an_empty_text_is_told_so() {
        let mut alice = User { name: "alice".into(), ..User::default() };
        alice.set("pickup_group", &json!(["*101", "*102"])).unwrap();
        assert_eq!(alice.pickup_groups().collect::<Vec<_>>(), ["*101", "*102"]);
        for (key, expected) in [
            ("pickup_group", "a number such as \"1001\""),
            ("extension", "a number such as \"1001\""),
            ("private_number", "a number such as \"1001\""),
            ("forward_busy", "an extension, a name, a number or a SIP URI"),
            ("also_ring", "an extension, a name, a number or a SIP URI"),
        ] {
            let said = alice.set(key, &json!("")).unwrap_err();
            assert_eq!(said, format!("{key}: expected {expected}, found \"\"; null takes it away"));
            alice.set(key, &Value::Null).unwrap();
        }
        assert_eq!(alice, User { name: "alice".into(), ..User::default() });
    }

    #[test]
    fn what_is_no_key_or_no_value_is_named() {
        let mut alice = User::default();
        for (key, value, words) in [
            ("may_park", Value::Null, "may_park: expected true or false, found null"),
            ("pickup_group", json!(["*101", 7]), "pickup_group: expected a number as text, a list"),
            ("extension", json!(1001), "extension: expected a number as text or null, found 1001"),
            ("display", json!("a\nb"), "display: expected a text or null"),
            ("forward_bussy", json!("1004"), "forward_bussy: unknown key, did you mean forward_busy?"),
            ("pickup_gruop", json!("*101"), "pickup_gruop: unknown key, did you mean pickup_group?"),
        ] {
            let said = alice.set(key, &value).unwrap_err();
            assert!(said.starts_with(words), "{said}");
        }
        assert_eq!(alice, User::default());
    }
}
