//! Where each kind of record lives. The only place that knows how a key is spelled.
//!
//! Names are percent-encoded where they would break a path (`/`, `%`, control characters, spaces), so a user
//! called `a/b` cannot write into somebody else's records.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::ROOT;

const IN_A_NAME: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b' ');

/// The kinds of records the engine mirrors: it hears of every change to them.
pub const MIRRORED: [&str; 3] = ["user/", "range/", "pool/"];

/// Those it mirrors as well where other hosts write them. A host alone knows of them before its store does.
pub const SHARED: [&str; 4] = ["orbit/", "host/", "drain/", "policy/"];

/// A key, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    /// `host/NAME`: a host that lives.
    Host(String),
    /// `pool/NAME`.
    Pool(String),
    /// `pool/NAME/epoch`: raised when the pool's users are served by others.
    Epoch(String),
    /// `pool/NAME/seat`: the host that serves the pool's users.
    Seat(String),
    /// `drain/NAME`: a host that is to serve nobody.
    Drain(String),
    /// `policy/POOL`: the policy files of a pool's hosts.
    Policy(String),
    /// `range/NAME`: a named run of orbit numbers.
    Range(String),
    /// `user/NAME`.
    User(String),
    /// `binding/USER/ID`: a registered contact.
    Binding(String, String),
    /// `orbit/NUMBER`: a parked call.
    Orbit(String),
    /// `call/POOL/ID`: two legs that talk to each other.
    Call(String, String),
    /// `lamp/WATCHER/ID`: a subscription to somebody's dialogs.
    Lamp(String, String),
}

impl Key {
    /// Reads a full key; `None` for a kind of record this version does not know.
    pub fn parse(key: &str) -> Option<Key> {
        let mut parts = key.strip_prefix(ROOT)?.split('/');
        let kind = parts.next()?;
        let name = decode(parts.next()?)?;
        let second = parts.next().map(decode);
        if parts.next().is_some() {
            return None;
        }
        match (kind, second) {
            ("host", None) => Some(Key::Host(name)),
            ("pool", None) => Some(Key::Pool(name)),
            ("pool", Some(Some(what))) if what == "epoch" => Some(Key::Epoch(name)),
            ("pool", Some(Some(what))) if what == "seat" => Some(Key::Seat(name)),
            ("drain", None) => Some(Key::Drain(name)),
            ("policy", None) => Some(Key::Policy(name)),
            ("range", None) => Some(Key::Range(name)),
            ("user", None) => Some(Key::User(name)),
            ("orbit", None) => Some(Key::Orbit(name)),
            ("binding", Some(Some(id))) => Some(Key::Binding(name, id)),
            ("call", Some(Some(id))) => Some(Key::Call(name, id)),
            ("lamp", Some(Some(id))) => Some(Key::Lamp(name, id)),
            _ => None,
        }
    }
}

fn encode(name: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(name, IN_A_NAME)
}

fn decode(part: &str) -> Option<String> {
    if part.is_empty() {
        return None;
    }
    Some(percent_decode_str(part).decode_utf8().ok()?.into_owned())
}

/// The key of a user.
pub fn user_key(name: &str) -> String {
    format!("{ROOT}user/{}", encode(name))
}

/// The key of a range.
pub fn range_key(name: &str) -> String {
    format!("{ROOT}range/{}", encode(name))
}

/// The key of one binding of a user.
pub fn binding_key(user: &str, id: &str) -> String {
    format!("{ROOT}binding/{}/{}", encode(user), encode(id))
}

/// The prefix of all bindings of a user.
pub fn bindings_prefix(user: &str) -> String {
    format!("{ROOT}binding/{}/", encode(user))
}

/// The key of one subscription of a watcher.
pub fn lamp_key(watcher: &str, id: &str) -> String {
    format!("{}{}/{}", lamps_prefix(), encode(watcher), encode(id))
}

/// The prefix of all subscriptions.
pub fn lamps_prefix() -> String {
    format!("{ROOT}lamp/")
}

/// The key of the call parked in `number`.
pub fn orbit_key(number: &str) -> String {
    format!("{ROOT}orbit/{}", encode(number))
}

/// The key of a call whose owner is at home in `pool`.
pub fn call_key(pool: &str, id: &str) -> String {
    format!("{}{}/{}", calls_prefix(), encode(pool), encode(id))
}

/// The prefix of all calls.
pub fn calls_prefix() -> String {
    format!("{ROOT}call/")
}

/// The key of a pool.
pub fn pool_key(name: &str) -> String {
    format!("{ROOT}pool/{}", encode(name))
}

/// The key of a pool's epoch.
pub fn epoch_key(pool: &str) -> String {
    format!("{}/epoch", pool_key(pool))
}

/// The key of a pool's seat.
pub fn seat_key(pool: &str) -> String {
    format!("{}/seat", pool_key(pool))
}

/// The key that says of a host that it is drained.
pub fn drain_key(host: &str) -> String {
    format!("{ROOT}drain/{}", encode(host))
}

/// The key of a pool's policy files.
pub fn policy_key(pool: &str) -> String {
    format!("{ROOT}policy/{}", encode(pool))
}

/// The key of a host.
pub fn host_key(name: &str) -> String {
    format!("{}{}", hosts_prefix(), encode(name))
}

/// The prefix of all hosts.
pub fn hosts_prefix() -> String {
    format!("{ROOT}host/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_back_as_it_was_written() {
        assert_eq!(Key::parse(&user_key("alice")), Some(Key::User("alice".into())));
        assert_eq!(Key::parse(&orbit_key("*100")), Some(Key::Orbit("*100".into())));
        assert_eq!(Key::parse(&orbit_key("#100")), Some(Key::Orbit("#100".into())));
        assert_eq!(Key::parse(&range_key("east park")), Some(Key::Range("east park".into())));
        assert_eq!(Key::parse(&pool_key("east")), Some(Key::Pool("east".into())));
        assert_eq!(Key::parse(&epoch_key("ea/st")), Some(Key::Epoch("ea/st".into())));
        assert_eq!(Key::parse(&seat_key("ea/st")), Some(Key::Seat("ea/st".into())));
        assert_eq!(Key::parse(&host_key("fe1")), Some(Key::Host("fe1".into())));
        assert_eq!(Key::parse(&drain_key("fe1")), Some(Key::Drain("fe1".into())));
        assert_eq!(Key::parse(&policy_key("ea st")), Some(Key::Policy("ea st".into())));
        assert_eq!(Key::parse(&binding_key("bob", "a/1")), Some(Key::Binding("bob".into(), "a/1".into())));
        assert_eq!(Key::parse(&lamp_key("bob", "7")), Some(Key::Lamp("bob".into(), "7".into())));
        assert_eq!(Key::parse(&call_key("east", "a/1")), Some(Key::Call("east".into(), "a/1".into())));
        assert!(call_key("east", "1").starts_with(&calls_prefix()));
        assert!(binding_key("bob", "1").starts_with(&bindings_prefix("bob")));
    }

    #[test]
    fn a_name_with_a_slash_stays_inside_its_own_record() {
        assert_eq!(user_key("a/b"), "/switchyard/v1/user/a%2Fb");
        assert_eq!(Key::parse(&user_key("100%")), Some(Key::User("100%".into())));
    }

    #[test]
    fn foreign_keys_are_not_understood() {
        for key in
            ["/other/v1/user/a", "/switchyard/v1/user", "/switchyard/v1/user/", "/switchyard/v1/user/a/b/c"]
        {
            assert_eq!(Key::parse(key), None, "{key}");
        }
    }
}
