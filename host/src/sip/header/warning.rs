//! Warning (RFC 3261 §20.43).

use std::fmt;

use crate::sip::grammar::{Malformed, number, quote, quoted_end, trim, unquote};

/// Says in words what a status code cannot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// Three digits; 399 for what has no code of its own.
    pub code: u16,
    /// Who warns: host, host and port, or a name.
    pub agent: String,
    /// The words.
    pub text: String,
}

impl Warning {
    /// `399 agent "text"`.
    pub fn miscellaneous(agent: &str, text: &str) -> Self {
        Self { code: 399, agent: agent.to_owned(), text: text.to_owned() }
    }

    /// Reads one element of the list.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("Warning", why);
        let (code, rest) = trim(value).split_once(' ').ok_or(bad("expected a code"))?;
        let (agent, text) = trim(rest).split_once(' ').ok_or(bad("expected who warns"))?;
        let text = trim(text);
        if !text.starts_with('"') || quoted_end(text) != Some(text.len()) {
            return Err(bad("expected a quoted text"));
        }
        Ok(Self {
            code: Some(code)
                .filter(|code| code.len() == 3)
                .and_then(number)
                .ok_or(bad("expected three digits"))?,
            agent: agent.to_owned(),
            text: unquote(text).into_owned(),
        })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.code, self.agent, quote(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in [
            "307 isi.edu \"Session parameter 'foo' not understood\"",
            "399 [::1]:5060 \"35101 taken by \\\"Ana\\\"\"",
        ] {
            assert_eq!(Warning::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Warning::miscellaneous("fe1", "x").to_string(), "399 fe1 \"x\"");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "307",
            "307 host",
            "307 host text",
            "30 host \"x\"",
            "abc host \"x\"",
            "307 host \"x",
            "307 host \"x\" y",
        ] {
            assert!(Warning::parse(text).is_err(), "{text}");
        }
    }
}
