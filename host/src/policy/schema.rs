//! Which sections, settings and hooks a policy may have, and what a value must look like.
//!
//! Built from the manifests of the plugins and the host's own sections, [`lamps`](super::lamps), [`outbound`](super::outbound) and
//! [`resiliency`](super::resiliency). The same
//! conversion checks a file's settings, a manifest's defaults and what a hook returns.

use indexmap::IndexMap;
use serde_json::{Value as Json, json};
use switchyard_sdk::manifest::{Kind, Section, Setting};

use super::diagnostic::Diagnostic;
use super::{duration, lamps, outbound, resiliency};
use crate::near::nearest;

/// Text settings go into SIP headers and displays; nothing there is longer.
const TEXT_BYTES_MAX: usize = 1024;

/// Words a policy table uses itself, so that no section can have them.
const RESERVED: [&str; 2] = ["extend", "tests"];

/// All sections of a policy.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    pub(crate) sections: Fields,
}

/// Settings and hooks by name, in the order of the manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(pub(crate) IndexMap<String, Field>);

/// One key of a policy table.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Which values it takes; none when it can only be a hook.
    pub(crate) shape: Option<Shape>,
    /// What holds when the file says nothing, converted. Null for tables, whose settings have their own.
    pub(crate) default: Json,
    /// Whether it may be a function that is asked per decision.
    pub(crate) hook: bool,
    /// Whether `none` is a value.
    pub(crate) optional: bool,
}

/// Which values a setting takes: [`Kind`] with nested tables resolved.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    Duration { min_ms: u64, max_ms: u64 },
    Integer { min: i64, max: i64 },
    Boolean,
    Text,
    Uri,
    Word { words: Vec<String> },
    Texts,
    Music,
    Table(Fields),
}

/// A value somebody wrote, in Lua or in a manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given<'a> {
    None,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(&'a str),
    /// A list of texts; or an empty table, which is a list of nothing.
    Texts(Vec<String>),
    /// Anything that is no plain value, in words: `a function`.
    Other(&'static str),
}

impl Schema {
    /// The schema of these sections and the host's own. A manifest that contradicts itself is named.
    pub(crate) fn new(sections: &[Section]) -> Result<Schema, Vec<Diagnostic>> {
        let mut fields = Fields::default();
        let mut errors = Vec::new();
        fields.0.insert(lamps::NAME.into(), lamps::section());
        fields.0.insert(outbound::NAME.into(), outbound::section());
        fields.0.insert(resiliency::NAME.into(), resiliency::section());
        for section in sections {
            let complaint =
                |message: String| Diagnostic::of_file(format!("section {}", section.name), message);
            if RESERVED.contains(&section.name.as_str()) || section.name.is_empty() {
                errors.push(complaint("this name is reserved".into()));
            } else if fields.0.contains_key(&section.name) {
                errors.push(complaint("declared twice, by two plugins or by a plugin and the host".into()));
            } else {
                let mut table =
                    Fields::of(&section.settings, "", &mut |message| errors.push(complaint(message)));
                for hook in &section.hooks {
                    // A hook may share a setting's name: then the file holds a value or a function.
                    table.0.entry(hook.name.clone()).or_insert_with(Field::hook_only).hook = true;
                }
                fields.0.insert(section.name.clone(), Field::table(table));
            }
        }
        if errors.is_empty() { Ok(Schema { sections: fields }) } else { Err(errors) }
    }

    /// The field at a path: `["call_park", "pickup_timeout"]`.
    pub(crate) fn at<'a>(&self, path: impl IntoIterator<Item = &'a str>) -> Option<&Field> {
        let mut fields = Some(&self.sections);
        let mut found = None;
        for name in path {
            let field = fields?.0.get(name)?;
            fields = match &field.shape {
                Some(Shape::Table(inner)) => Some(inner),
                _ => None,
            };
            found = Some(field);
        }
        found
    }
}

impl Fields {
    fn of(settings: &[Setting], prefix: &str, complain: &mut dyn FnMut(String)) -> Fields {
        let mut fields = Fields::default();
        for setting in settings {
            let path = format!("{prefix}{}", setting.name);
            let field = match &setting.kind {
                Kind::Table { settings } => Field::table(Fields::of(settings, &format!("{path}."), complain)),
                kind => Field::setting(Shape::of(kind), &setting.default).unwrap_or_else(|message| {
                    complain(format!("{path}: its default: {message}"));
                    Field::hook_only()
                }),
            };
            if fields.0.insert(setting.name.clone(), field).is_some() {
                complain(format!("{path}: declared twice"));
            }
        }
        fields
    }

    /// What these settings are when a file says nothing.
    #[cfg(test)]
    pub(crate) fn defaults(&self) -> Json {
        self.0
            .iter()
            .filter_map(|(name, field)| match &field.shape {
                Some(Shape::Table(fields)) => Some((name.clone(), fields.defaults())),
                Some(_) => Some((name.clone(), field.default.clone())),
                None => None,
            })
            .collect()
    }

    /// The complaint about a key that is not there.
    pub(crate) fn unknown(&self, path: &str, name: &str, what: &str) -> String {
        let known = self.0.keys().map(String::as_str);
        match nearest(name, known.clone()) {
            Some(word) => format!("{path}: unknown {what}, did you mean {word}?"),
            None => format!("{path}: unknown {what}; there are {}", list(known)),
        }
    }
}

impl Field {
    /// A table of settings.
    pub(crate) fn table(fields: Fields) -> Field {
        Field { shape: Some(Shape::Table(fields)), default: Json::Null, hook: false, optional: false }
    }

    fn hook_only() -> Field {
        Field { shape: None, default: Json::Null, hook: true, optional: false }
    }

    /// A setting with its default as it would be written.
    pub(crate) fn setting(shape: Shape, default: &Json) -> Result<Field, String> {
        let optional = default.is_null() || matches!(shape, Shape::Uri);
        let mut field = Field { shape: Some(shape), default: Json::Null, hook: false, optional };
        field.default = field.convert(&Given::of_json(default))?;
        Ok(field)
    }

    /// The value as it crosses to whoever asked for it, or `expected …, found …`.
    pub(crate) fn convert(&self, given: &Given) -> Result<Json, String> {
        let converted = match (&self.shape, given) {
            (Some(_), Given::None) if self.optional => Some(Json::Null),
            (Some(shape), given) => shape.convert(given),
            (None, _) => None,
        };
        converted.ok_or_else(|| {
            let mut text = format!("expected {}, found {}", self.expectation(), given.words());
            if let Some(hint) = self.hint(given) {
                text.push_str(&hint);
            }
            text
        })
    }

    /// What may stand here, in words.
    pub(crate) fn expectation(&self) -> String {
        let mut text = match &self.shape {
            Some(shape) => shape.expectation(&self.default),
            None => return "a function".into(),
        };
        match (self.optional, self.hook) {
            (true, true) => text.push_str(", none, or a function"),
            (true, false) => text.push_str(", or none"),
            (false, true) => text.push_str(", or a function"),
            (false, false) => {}
        }
        text
    }

    fn hint(&self, given: &Given) -> Option<String> {
        match (self.shape.as_ref()?, given) {
            (Shape::Word { words }, Given::Text(text)) => nearest(text, words.iter().map(String::as_str))
                .map(|word| format!(", did you mean \"{word}\"?")),
            (shape @ Shape::Duration { .. }, Given::Integer(number)) => {
                let text = format!("{number}s");
                shape.convert(&Given::Text(&text)).map(|_| format!(", did you mean \"{text}\"?"))
            }
            (_, Given::Text("none")) if self.optional => Some(", did you mean none without quotes?".into()),
            _ => None,
        }
    }
}

impl Shape {
    fn of(kind: &Kind) -> Shape {
        match kind {
            Kind::Duration { min_ms, max_ms } => Shape::Duration { min_ms: *min_ms, max_ms: *max_ms },
            Kind::Integer { min, max } => Shape::Integer { min: *min, max: *max },
            Kind::Boolean => Shape::Boolean,
            Kind::Text => Shape::Text,
            Kind::Uri => Shape::Uri,
            Kind::Word { words } => Shape::Word { words: words.clone() },
            Kind::Texts => Shape::Texts,
            Kind::Music => Shape::Music,
            Kind::Table { settings } => Shape::Table(Fields::of(settings, "", &mut |_| {})),
        }
    }

    fn convert(&self, given: &Given) -> Option<Json> {
        match (self, given) {
            (Shape::Duration { min_ms, max_ms }, Given::Text(text)) => {
                duration::parse(text).filter(|length| (*min_ms..=*max_ms).contains(length)).map(Json::from)
            }
            (Shape::Integer { min, max }, Given::Integer(number)) => {
                (*min..=*max).contains(number).then(|| Json::from(*number))
            }
            (Shape::Boolean, Given::Boolean(value)) => Some(Json::from(*value)),
            (Shape::Text, Given::Text(text)) => (text.len() <= TEXT_BYTES_MAX).then(|| Json::from(*text)),
            (Shape::Uri, Given::Text(text)) => is_uri(text).then(|| Json::from(*text)),
            (Shape::Word { words }, Given::Text(text)) => {
                words.iter().any(|word| word == text).then(|| Json::from(*text))
            }
            (Shape::Texts, Given::Texts(texts)) => {
                texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX).then(|| Json::from(texts.clone()))
            }
            // The JSON of `switchyard_sdk::ext::call::Music`.
            (Shape::Music, Given::Boolean(true)) => Some(json!("default")),
            (Shape::Music, Given::Boolean(false)) => Some(json!("off")),
            (Shape::Music, Given::Text(file)) => is_file_below(file).then(|| json!({ "file": file })),
            _ => None,
        }
    }

    fn expectation(&self, default: &Json) -> String {
        match self {
            Shape::Duration { min_ms, max_ms } => format!(
                "a duration from {} to {}, such as \"{}\"",
                duration::print(*min_ms),
                duration::print(*max_ms),
                duration::print(default.as_u64().unwrap_or(*min_ms)),
            ),
            Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Boolean => "true or false".into(),
            Shape::Text => format!("a text of at most {TEXT_BYTES_MAX} bytes"),
            Shape::Uri => "a URI such as \"sip:frontdesk@example.test\"".into(),
            Shape::Word { words } => {
                let mut words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                words.sort();
                words.join(", ")
            }
            Shape::Texts => "a list of texts such as { \"bob\", \"*101\" }".into(),
            Shape::Music => "true, false, or the name of a file in the music folder".into(),
            Shape::Table(_) => "a table".into(),
        }
    }
}

impl<'a> Given<'a> {
    /// A value of a manifest or of a hook's answer.
    pub(crate) fn of_json(value: &'a Json) -> Given<'a> {
        match value {
            Json::Null => Given::None,
            Json::Bool(value) => Given::Boolean(*value),
            Json::Number(number) => match number.as_i64() {
                Some(number) => Given::Integer(number),
                None => Given::of_number(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Given::Text(text),
            Json::Array(items) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                texts.map_or(Given::Other("a list"), Given::Texts)
            }
            Json::Object(_) => Given::Other("a table"),
        }
    }

    /// A floating-point number; 3.0 is as whole as 3.
    pub(crate) fn of_number(number: f64) -> Given<'static> {
        // Beyond 2^53 a float no longer says which whole number was meant.
        if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 {
            Given::Integer(number as i64)
        } else {
            Given::Number(number)
        }
    }

    /// The value as shown in a message.
    pub(crate) fn words(&self) -> String {
        match self {
            Given::None => "none".into(),
            Given::Boolean(value) => value.to_string(),
            Given::Integer(number) => number.to_string(),
            Given::Number(number) => number.to_string(),
            Given::Text(text) => quoted(text),
            Given::Texts(texts) if texts.is_empty() => "a table".into(),
            Given::Texts(_) => "a list".into(),
            Given::Other(words) => (*words).into(),
        }
    }
}

/// A text as shown in a message: on one line, and not longer than the message it stands in.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut words: Vec<_> = words.collect();
    words.sort_unstable();
    words.join(", ")
}

/// Enough to tell a URI from a number or a name; whoever sends to it parses it in full.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let address = rest.split([';', '?']).next().unwrap_or_default();
    let host = address.rsplit('@').next().unwrap_or_default();
    ["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        && !host.is_empty()
        && text.len() <= TEXT_BYTES_MAX
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"'))
}

/// Whether a name stays inside the folder it is looked up in.
fn is_file_below(name: &str) -> bool {
    name.len() <= 255
        && !name.contains(|c: char| c.is_control() || c == '\\')
        && name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchyard_sdk::manifest::Hook;

    fn convert(kind: Kind, default: Json, given: Given) -> Result<Json, String> {
        Field::setting(Shape::of(&kind), &default).unwrap().convert(&given)
    }

    #[test]
    fn durations_cross_as_milliseconds_and_state_their_range() {
        let kind = Kind::Duration { min_ms: 10_000, max_ms: 600_000 };
        let with = |given| convert(kind.clone(), json!("90s"), given);
        assert_eq!(with(Given::Text("2m")), Ok(json!(120_000)));
        assert_eq!(with(Given::Text("10s")), Ok(json!(10_000)));
        let expected = "expected a duration from 10s to 10m, such as \"90s\", found";
        assert_eq!(with(Given::Text("9s")), Err(format!("{expected} \"9s\"")));
        assert_eq!(with(Given::Integer(120)), Err(format!("{expected} 120, did you mean \"120s\"?")));
        assert_eq!(with(Given::None), Err(format!("{expected} none")));
    }

    #[test]
    fn whole_numbers_keep_their_range() {
        let kind = Kind::Integer { min: 1, max: 10 };
        let with = |given| convert(kind.clone(), json!(1), given);
        assert_eq!(with(Given::Integer(10)), Ok(json!(10)));
        assert_eq!(with(Given::of_number(3.0)), Ok(json!(3)));
        assert_eq!(with(Given::Integer(11)), Err("expected a whole number from 1 to 10, found 11".into()));
        assert_eq!(
            with(Given::of_number(1.5)),
            Err("expected a whole number from 1 to 10, found 1.5".into())
        );
    }

    #[test]
    fn music_is_the_json_of_the_call_extension() {
        use switchyard_sdk::ext::call::Music;
        let with = |given| convert(Kind::Music, json!(true), given);
        for (given, music) in [
            (Given::Boolean(true), Music::Default),
            (Given::Boolean(false), Music::Off),
            (Given::Text("west.wav"), Music::File("west.wav".into())),
            (Given::Text("west/one.wav"), Music::File("west/one.wav".into())),
        ] {
            assert_eq!(with(given).unwrap(), serde_json::to_value(music).unwrap());
        }
        for bad in ["", "/etc/passwd", "../x.wav", "a/../../x.wav", "a//b", ".hidden"] {
            assert!(with(Given::Text(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn uris_may_be_none() {
        let with = |given| convert(Kind::Uri, Json::Null, given);
        for good in ["sip:frontdesk@example.test", "sips:[2001:db8::1]:5061;transport=tcp", "tel:+4930123"] {
            assert_eq!(with(Given::Text(good)), Ok(json!(good)));
        }
        assert_eq!(with(Given::None), Ok(Json::Null));
        for bad in ["frontdesk", "sip:", "sip:a@", "http://x", "sip:a b@c", "<sip:a@b>", "sip:a@b\r\nX: y"] {
            assert!(with(Given::Text(bad)).is_err(), "{bad}");
        }
        assert_eq!(
            with(Given::Text("none")),
            Err("expected a URI such as \"sip:frontdesk@example.test\", or none, found \"none\", \
                 did you mean none without quotes?"
                .into())
        );
    }

    #[test]
    fn words_offer_the_near_one() {
        let kind = Kind::Word { words: vec!["random".into(), "lowest".into()] };
        assert_eq!(
            convert(kind, json!("random"), Given::Text("lowst")),
            Err("expected \"lowest\", \"random\", found \"lowst\", did you mean \"lowest\"?".into())
        );
    }

    #[test]
    fn manifests_that_contradict_themselves_are_named() {
        let setting = |name: &str, default: Json| Setting {
            name: name.into(),
            kind: Kind::Integer { min: 1, max: 3 },
            default,
            doc: String::new(),
        };
        let section = |name: &str, settings| Section { name: name.into(), settings, ..Section::default() };
        let errors = |sections: &[Section]| {
            Schema::new(sections).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            errors(&[section(
                "a",
                vec![setting("n", json!(4)), setting("m", json!(1)), setting("m", json!(1))]
            )]),
            [
                "section a: n: its default: expected a whole number from 1 to 3, found 4",
                "section a: m: declared twice",
            ]
        );
        assert!(errors(&[section("resiliency", vec![])])[0].contains("declared twice"));
        assert!(errors(&[section("tests", vec![])])[0].contains("reserved"));
    }

    #[test]
    fn a_hook_may_share_the_name_of_a_setting() {
        let section = Section {
            name: "s".into(),
            settings: vec![Setting {
                name: "n".into(),
                kind: Kind::Boolean,
                default: json!(true),
                doc: String::new(),
            }],
            hooks: vec![
                Hook { name: "n".into(), doc: String::new() },
                Hook { name: "allow".into(), doc: String::new() },
            ],
            ..Section::default()
        };
        let schema = Schema::new(&[section]).unwrap();
        let both = schema.at(["s", "n"]).unwrap();
        assert!(both.hook && both.shape.is_some());
        assert_eq!(both.expectation(), "true or false, or a function");
        assert_eq!(schema.at(["s", "allow"]).unwrap().expectation(), "a function");
        assert!(schema.at(["s", "n", "deeper"]).is_none() && schema.at(["t"]).is_none());
        let Some(Shape::Table(fields)) = &schema.at(["s"]).unwrap().shape else {
            panic!("a section is a table")
        };
        assert_eq!(fields.defaults(), json!({ "n": true }));
    }
}
