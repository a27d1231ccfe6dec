//! WWW-Authenticate, Proxy-Authenticate, Authorization, Proxy-Authorization (RFC 7616, RFC 8760): a scheme and
//! parameters.

use std::fmt;

use crate::sip::grammar::{self, Malformed, is_token, quote, quoted_end, take_token, trim, unquote};

/// More parameters than this is no credential: Digest has twelve.
pub const AUTH_PARAMS_MAX: usize = 32;

/// A challenge, or the credentials that answer one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// `Digest`, `Bearer`, …
    pub scheme: String,
    /// Names, and values as they stand, quotes included.
    params: Vec<(String, String)>,
}

/// What a 401 or 407 asks for.
pub type Challenge = Auth;

/// What a request answers it with.
pub type Authorization = Auth;

impl Auth {
    /// A scheme without parameters yet.
    pub fn new(scheme: &str) -> Self {
        Self { scheme: scheme.to_owned(), params: Vec::new() }
    }

    /// Reads a whole field: SIP has one challenge or credential per field, whose commas separate its parameters.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let bad = |why| Malformed::new("Authorization", why);
        let (scheme, rest) = take_token(trim(value));
        if scheme.is_empty() || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
            return Err(bad("expected a scheme"));
        }
        let mut auth = Self::new(scheme);
        for param in grammar::list(rest) {
            let (name, value) = param.split_once('=').ok_or(bad("expected `name=value`"))?;
            let (name, value) = (trim(name), trim(value));
            if !is_token(name) || (value.starts_with('"') && quoted_end(value) != Some(value.len())) {
                return Err(bad("expected a name and a value"));
            }
            if auth.params.len() == AUTH_PARAMS_MAX {
                return Err(bad("expected at most 32 parameters"));
            }
            auth.params.push((name.to_owned(), value.to_owned()));
        }
        Ok(auth)
    }

    /// Whether the scheme is Digest.
    pub fn is_digest(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("Digest")
    }

    /// A parameter without its quotes.
    pub fn get(&self, name: &str) -> Option<String> {
        let (_, value) = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(unquote(value).into_owned())
    }

    /// Adds `name="value"`.
    pub fn quoted(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), quote(value).to_string()));
        self
    }

    /// Adds `name=value`.
    pub fn token(mut self, name: &str, value: &str) -> Self {
        self.params.push((name.to_owned(), value.to_owned()));
        self
    }
}

impl fmt::Display for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        for (i, (name, value)) in self.params.iter().enumerate() {
            write!(f, "{} {name}={value}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let text = "Digest username=\"bob\", realm=\"a, \\\"b\\\"\", nonce=\"==x\", uri=\"sip:a@b;x=1\", qop=auth, nc=00000001, \
                    algorithm=SHA-256";
        let auth = Auth::parse(text).expect("valid");
        assert_eq!(auth.to_string(), text);
        assert!(auth.is_digest());
        assert_eq!(auth.get("REALM").as_deref(), Some("a, \"b\""));
        assert_eq!(auth.get("algorithm").as_deref(), Some("SHA-256"));
        assert_eq!(auth.get("opaque"), None);
    }

    #[test]
    fn what_is_made_reads_back() {
        let challenge = Challenge::new("Digest")
            .quoted("realm", "x\"y")
            .token("stale", "true")
            .quoted("qop", "auth,auth-int");
        assert_eq!(challenge.to_string(), "Digest realm=\"x\\\"y\", stale=true, qop=\"auth,auth-int\"");
        assert_eq!(Auth::parse(&challenge.to_string()), Ok(challenge));
        assert_eq!(Auth::parse("NoParams").expect("valid").to_string(), "NoParams");
    }

    #[test]
    fn nonsense_is_refused() {
        let many = "Digest ".to_owned() + &"a=b,".repeat(AUTH_PARAMS_MAX + 1);
        for text in ["", "Digest username", "Digest =x", "Digest a=\"b", "Dig/est a=b", &many] {
            assert!(Auth::parse(text).is_err(), "{text}");
        }
    }
}
