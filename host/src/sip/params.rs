//! Parameters of URIs and headers: `;name=value`, in order, names in any case.

use std::fmt;

use super::grammar::{self, Malformed, unquote};

/// More parameters than this is an attack or a mistake: the longest real Contact (outbound, GRUU and the feature
/// tags of RFC 3840) has some thirty.
pub const PARAMS_MAX: usize = 64;

/// Parameters in the order they came, values as they stood (escaped, quoted).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// No parameters.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads `text`, which is empty or starts with a semicolon.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let mut out = Vec::new();
        for param in grammar::params(text) {
            let (name, value) = param.map_err(|why| Malformed::new("parameters", why))?;
            if out.len() == PARAMS_MAX {
                return Err(Malformed::new("parameters", "expected at most 64"));
            }
            out.push((name.to_owned(), value.map(str::to_owned)));
        }
        Ok(Self(out))
    }

    /// The value of `name` as it stood; empty if it has none; `None` if there is no such parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_deref().unwrap_or(""))
    }

    /// The value of `name` without quotes and backslashes.
    pub fn unquoted(&self, name: &str) -> Option<String> {
        self.get(name).map(|value| unquote(value).into_owned())
    }

    /// Whether there is a parameter `name`, with a value or without.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets `name` to `value`, in place if it is there already. The value is printed as it is: quote it first if it
    /// is no token.
    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.put(name, Some(value.into()))
    }

    /// Sets `name` without a value.
    pub fn flag(&mut self, name: &str) -> &mut Self {
        self.put(name, None)
    }

    fn put(&mut self, name: &str, value: Option<String>) -> &mut Self {
        match self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    /// Takes `name` away.
    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Keeps only the parameters `keep` says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keep(name));
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in self.iter() {
            write!(f, ";{name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_order_is_kept() {
        let mut params = Params::parse(";LR;Transport=tcp; x = \"a b\"").expect("valid");
        assert_eq!(params.get("lr"), Some(""));
        assert_eq!(params.get("transport"), Some("tcp"));
        assert_eq!(params.unquoted("X").as_deref(), Some("a b"));
        params.set("TRANSPORT", "udp").flag("ob").remove("lr");
        assert_eq!(params.to_string(), ";Transport=udp;x=\"a b\";ob");
    }

    #[test]
    fn too_many_are_refused() {
        let many = ";a".repeat(PARAMS_MAX);
        assert!(Params::parse(&many).is_ok());
        assert!(Params::parse(&(many + ";a")).is_err());
    }
}
