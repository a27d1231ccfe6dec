//! Replaces (RFC 3891).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sip::grammar::{Malformed, is_token, trim};
use crate::sip::params::Params;

/// Names the dialog a new INVITE takes the place of. Tags are seen from who receives it: `to_tag` is the receiver's own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replaces {
    /// Call-ID of that dialog.
    pub call_id: String,
    /// The receiver's tag.
    pub to_tag: String,
    /// The other side's tag.
    pub from_tag: String,
    /// Only if that dialog is not confirmed yet.
    pub early_only: bool,
}

impl Replaces {
    /// Reads `call-id;to-tag=…;from-tag=…[;early-only]`, both tags mandatory (§6.1).
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("Replaces", why);
        let value = trim(value);
        let (call_id, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let call_id = trim(call_id);
        if call_id.is_empty() || call_id.bytes().any(|byte| byte <= b' ') {
            return Err(bad("expected a Call-ID"));
        }
        let params = Params::parse(params).map_err(|error| bad(error.why))?;
        let tag = |name, why| params.get(name).filter(|tag| is_token(tag)).map(str::to_owned).ok_or(bad(why));
        Ok(Self {
            call_id: call_id.to_owned(),
            to_tag: tag("to-tag", "expected a to-tag")?,
            from_tag: tag("from-tag", "expected a from-tag")?,
            early_only: params.has("early-only"),
        })
    }

    /// The Call-ID of a value that names no tags, which some phones send who saw nothing else (docs/phones.md). What
    /// it names is for the receiver to find out; [`parse`](Self::parse) refuses it.
    pub fn bare_call_id(value: &str) -> Option<&str> {
        let value = trim(value);
        let (call_id, params) = value.split_at(value.find(';').unwrap_or(value.len()));
        let call_id = trim(call_id);
        let params = Params::parse(params).ok()?;
        let named = |name| params.get(name).is_some_and(|tag| !tag.is_empty());
        let bare = !call_id.is_empty() && call_id.bytes().all(|byte| byte > b' ');
        (bare && !named("to-tag") && !named("from-tag")).then_some(call_id)
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call_id, to_tag, from_tag, early_only } = self;
        write!(
            f,
            "{call_id};to-tag={to_tag};from-tag={from_tag}{}",
            if *early_only { ";early-only" } else { "" }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in
            ["425928@bobster.example.org;to-tag=7743;from-tag=6472", "x;to-tag=1;from-tag=0;early-only"]
        {
            assert_eq!(Replaces::parse(text).expect(text).to_string(), text);
        }
        let odd = Replaces::parse(" 1@h ; x=y;FROM-TAG = f ;to-tag=t").expect("valid");
        assert_eq!((odd.from_tag.as_str(), odd.to_tag.as_str(), odd.early_only), ("f", "t", false));
    }

    #[test]
    fn both_tags_are_mandatory() {
        for text in [
            "",
            "x",
            "x;to-tag=1",
            "x;from-tag=1",
            "x;to-tag;from-tag=1",
            ";to-tag=1;from-tag=2",
            "a b;to-tag=1;from-tag=2",
        ] {
            assert!(Replaces::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_call_id_alone_is_told_from_half_a_name() {
        for text in ["1@h", " 1@h ;early-only", "1@h;to-tag=;from-tag="] {
            assert_eq!(Replaces::bare_call_id(text), Some("1@h"), "{text}");
        }
        for text in ["", "a b", "1@h;to-tag=1", "1@h;from-tag=1;to-tag=", ";early-only"] {
            assert_eq!(Replaces::bare_call_id(text), None, "{text}");
        }
    }
}
