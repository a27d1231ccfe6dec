//! Where the target of a rule leads, as far as that can be told before anybody calls: what can never work is refused when
//! it is set, and not found out by a caller who hears that there is no such number.

use crate::orbit::Range;
use crate::sip::{Scheme, Uri};

/// The URI that a target means: itself, or its name or number in `domain`.
pub fn uri(target: &str, domain: &str) -> Option<Uri> {
    let in_domain = |user: &str| Uri::parse(&format!("sip:{}@{domain}", user.replace('#', "%23"))).ok();
    if !target.contains(':') {
        return in_domain(target);
    }
    let uri = Uri::parse(target).ok()?;
    // RFC 3261 §19.1.6. Whoever it goes to then reads one kind of URI only.
    if uri.scheme == Scheme::Tel { in_domain(&dialled(&uri)?) } else { Some(uri) }
}

/// The name or number that a URI dials: without escapes, parameters and, of a tel URI, visual separators (RFC 3966 §3).
pub fn dialled(uri: &Uri) -> Option<String> {
    let user_part = uri.user_unescaped()?;
    let dialled = user_part.split(';').next().unwrap_or_default();
    Some(if uri.scheme == Scheme::Tel {
        dialled.replace(['-', '.', '(', ')'], "")
    } else {
        dialled.to_owned()
    })
}

/// What a target is looked up in: the users, routes and features there are.
pub trait Plan {
    /// The domain of all users.
    fn domain(&self) -> &str;
    /// Whether a URI's host is one of ours.
    fn is_ours(&self, uri: &Uri) -> bool;
    /// The user who is reached at a name or number.
    fn user(&self, dialled: &str) -> Option<&str>;
    /// Whether a route takes it to a trunk.
    fn is_routed(&self, dialled: &str) -> bool;
    /// The range it lies in.
    fn range(&self, dialled: &str) -> Option<&Range>;
    /// Whether a plugin serves it by name or by its prefix.
    fn is_service(&self, dialled: &str) -> bool;
    /// `, did you mean carol?`, of the users' names.
    fn near(&self, dialled: &str) -> String;
}

/// Why a call does not get to a target.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// It is at a domain that is not ours.
    #[error("{target:?} is at another domain, expected {domain}, or a number that a route takes to a trunk")]
    Abroad {
        /// The target.
        target: String,
        /// Ours.
        domain: String,
    },
    /// A URI without a user part.
    #[error("{target:?} names nobody, expected sip:USER@{domain}")]
    Nameless {
        /// The target.
        target: String,
        /// Ours.
        domain: String,
    },
    /// The user whose rule it is.
    #[error(
        "{target:?} is {user}, whose rule this is; expected another user, or a number that a route takes to a trunk"
    )]
    Itself {
        /// The target.
        target: String,
        /// The user.
        user: String,
    },
    /// A number of a feature.
    #[error(
        "{target:?} lies in the range {range:?} of kind {kind}, expected a user, or a number that a route takes to a trunk"
    )]
    Orbit {
        /// The target.
        target: String,
        /// The range's name.
        range: String,
        /// Its kind.
        kind: String,
    },
    /// A service of a plugin.
    #[error("{0:?} is a service of a plugin, expected a user, or a number that a route takes to a trunk")]
    Service(String),
    /// Nobody is there so far.
    #[error("nobody is reached at {target:?}, and no route knows it{near}")]
    Nobody {
        /// The target.
        target: String,
        /// `, did you mean carol?`
        near: String,
    },
}

/// Whether calls can get to the target of a rule of `user`.
pub fn check(target: &str, user: &str, plan: &impl Plan) -> Result<(), TargetError> {
    let (text, domain) = (|| target.to_owned(), || plan.domain().to_owned());
    let uri = uri(target, plan.domain())
        .filter(|uri| plan.is_ours(uri))
        .ok_or_else(|| TargetError::Abroad { target: text(), domain: domain() })?;
    let dialled = dialled(&uri).ok_or_else(|| TargetError::Nameless { target: text(), domain: domain() })?;
    match plan.user(&dialled) {
        Some(found) if found == user => {
            return Err(TargetError::Itself { target: text(), user: user.to_owned() });
        }
        Some(_) => return Ok(()),
        None => {}
    }
    // A call that is forwarded goes past the features; what is theirs by number may still be a trunk's.
    if plan.is_routed(&dialled) {
        return Ok(());
    }
    if let Some(range) = plan.range(&dialled) {
        let (range, kind) = (range.name().to_owned(), range.kind().to_owned());
        return Err(TargetError::Orbit { target: text(), range, kind });
    }
    if plan.is_service(&dialled) {
        return Err(TargetError::Service(text()));
    }
    // Of a number the next one is near, and no help.
    let spelt = dialled.contains(|c: char| c.is_alphabetic());
    let near = if spelt { plan.near(&dialled) } else { String::new() };
    Err(TargetError::Nobody { target: text(), near })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_uri_in_the_domain_or_one_already() {
        for (target, expected, number) in [
            ("1003", "sip:1003@example.test", "1003"),
            ("#31", "sip:%2331@example.test", "#31"),
            ("tel:+49-(30).1234;phone-context=x", "sip:+49301234@example.test", "+49301234"),
            ("sip:carol@other.test;transport=tcp", "sip:carol@other.test;transport=tcp", "carol"),
        ] {
            let uri = uri(target, "example.test").unwrap();
            assert_eq!((uri.to_string().as_str(), dialled(&uri).as_deref()), (expected, Some(number)));
        }
        assert_eq!(dialled(&uri("sip:example.test", "example.test").unwrap()), None);
    }
}
