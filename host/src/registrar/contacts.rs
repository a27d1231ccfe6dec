//! What a REGISTER asks for, checked before anything changes (RFC 3261 §10.3, RFC 5626 §6, RFC 3327 §5.3).

use std::time::Duration;

use super::RegistrarConfig;
use crate::sip::{Draft, Malformed, Message, Name, NameAddr, Scheme, Status, Uri};

/// Contacts in one REGISTER; phones send one or two.
pub const CONTACTS_MAX: usize = 16;
/// Proxies on the way to a phone.
const PATH_MAX: usize = 10;
/// Methods of a phone that are remembered; there are fourteen.
const METHODS_MAX: usize = 32;
/// Extensions a phone may require here.
const EXTENSIONS: [&str; 2] = ["path", "outbound"];

/// Why a REGISTER changed nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("you may register only for yourself")]
    NotYours,
    #[error("no such domain here")]
    NotHere,
    #[error("extensions not known here: {0}")]
    Extensions(String),
    #[error("{0}")]
    Bad(&'static str),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("expiry below {0:?}")]
    TooBrief(Duration),
    #[error("a later REGISTER came first")]
    OutOfOrder,
    #[error("the first proxy does not know outbound")]
    FirstHop,
}

impl Refusal {
    /// The only place where a refused REGISTER gets its status code.
    pub(super) fn response(&self, request: &Message) -> Draft {
        let status = match self {
            Refusal::NotYours => Status::FORBIDDEN,
            Refusal::NotHere => Status::NOT_FOUND,
            Refusal::Extensions(_) => Status::BAD_EXTENSION,
            Refusal::Bad(_) | Refusal::Malformed(_) => Status::BAD_REQUEST,
            Refusal::TooBrief(_) => Status::INTERVAL_TOO_BRIEF,
            // As in a dialog (RFC 3261 §12.2.2): the phone may try again.
            Refusal::OutOfOrder => Status::SERVER_INTERNAL_ERROR,
            Refusal::FirstHop => Status::FIRST_HOP_LACKS_OUTBOUND_SUPPORT,
        };
        let mut response = Draft::response(request, status);
        match self {
            Refusal::Extensions(tags) => {
                response.add(Name::Unsupported, tags);
            }
            Refusal::TooBrief(least) => {
                response.add(Name::MinExpires, least.as_secs());
            }
            Refusal::Bad(_) | Refusal::Malformed(_) | Refusal::OutOfOrder => {
                response.reason(&format!("{} ({self})", status.default_reason()));
            }
            Refusal::NotYours | Refusal::NotHere | Refusal::FirstHop => {}
        }
        response
    }
}

/// What a REGISTER asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Wish {
    /// To be told the bindings.
    Tell,
    /// To remove them all (`Contact: *`).
    Clear,
    /// To add, refresh or remove these.
    Change(Vec<Wanted>),
}

/// One Contact.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wanted {
    /// Without headers, which no Request-URI may have.
    pub(super) uri: Uri,
    pub(super) display: Option<String>,
    /// Zero: remove it.
    pub(super) expires: Duration,
    /// In thousandths.
    pub(super) q: u16,
    pub(super) instance: Option<String>,
    /// Only where outbound is to be used.
    pub(super) reg_id: Option<u32>,
    /// The methods the phone takes.
    pub(super) methods: Vec<String>,
}

/// Reads the Contact fields.
pub(super) fn wish(request: &Message, config: &RegistrarConfig) -> Result<Wish, Refusal> {
    let unknown: Vec<&str> = request
        .list(Name::Require)
        .filter(|tag| EXTENSIONS.iter().all(|known| !known.eq_ignore_ascii_case(tag)))
        .collect();
    if !unknown.is_empty() {
        return Err(Refusal::Extensions(unknown.join(", ")));
    }
    let header = request.get(Name::Expires).map(|value| seconds(value, config));
    let contacts: Vec<&str> = request.list(Name::Contact).take(CONTACTS_MAX + 1).collect();
    match contacts[..] {
        [] => return Ok(Wish::Tell),
        ["*"] if header == Some(Duration::ZERO) => return Ok(Wish::Clear),
        _ if contacts.contains(&"*") => {
            return Err(Refusal::Bad("Contact: * stands alone, with Expires: 0"));
        }
        _ if contacts.len() > CONTACTS_MAX => return Err(Refusal::Bad("too many contacts")),
        _ => {}
    }
    let wanted: Vec<Wanted> =
        contacts.iter().map(|value| contact(value, header, request, config)).collect::<Result<_, _>>()?;
    if wanted.len() > 1 && wanted.iter().any(|wanted| wanted.reg_id.is_some()) {
        return Err(Refusal::Bad("a contact with reg-id stands alone"));
    }
    if wanted.iter().any(|wanted| wanted.reg_id.is_some()) && !first_hop_knows_outbound(request) {
        return Err(Refusal::FirstHop);
    }
    let brief = |wanted: &Wanted| !wanted.expires.is_zero() && wanted.expires < config.expires_min;
    if wanted.iter().any(brief) {
        return Err(Refusal::TooBrief(config.expires_min));
    }
    Ok(Wish::Change(wanted))
}

fn contact(
    value: &str,
    header: Option<Duration>,
    request: &Message,
    config: &RegistrarConfig,
) -> Result<Wanted, Refusal> {
    let NameAddr { display, mut uri, params } = NameAddr::parse(value)?;
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return Err(Refusal::Bad("a contact is a SIP URI"));
    }
    uri.headers.clear();
    uri.params.remove("method");
    let expires = params.get("expires").map(|value| seconds(value, config)).or(header);
    let q = match params.get("q") {
        Some(value) => thousandths(value).ok_or(Refusal::Bad("q is a number from 0 to 1"))?,
        None => 1000,
    };
    let instance = params.unquoted("+sip.instance").filter(|instance| !instance.is_empty());
    let reg_id = match params.get("reg-id").filter(|_| instance.is_some() && request.supports("outbound")) {
        Some(value) => {
            Some(value.parse().ok().filter(|id| *id != 0).ok_or(Refusal::Bad("reg-id is a number"))?)
        }
        None => None,
    };
    let expires = expires.unwrap_or(config.expires_default).min(config.expires_max);
    // The parameter of RFC 3840 §10.6 is about this contact, Allow about whoever sent the request.
    let methods = match params.unquoted("methods") {
        Some(methods) => tokens(methods.split(',')),
        None => tokens(request.list(Name::Allow)),
    };
    Ok(Wanted { uri, display, expires, q, instance, reg_id, methods })
}

fn tokens<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    words.map(str::trim).filter(|word| !word.is_empty()).take(METHODS_MAX).map(str::to_owned).collect()
}

/// Delta-seconds. What is no number counts as the default (RFC 3261 §10.2.1.1), what is huge as the greatest.
fn seconds(value: &str, config: &RegistrarConfig) -> Duration {
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return config.expires_default;
    }
    Duration::from_secs(value.parse::<u32>().unwrap_or(u32::MAX).into())
}

/// A `qvalue`: `0`, `0.5`, `.5`, `1.000`.
fn thousandths(value: &str) -> Option<u16> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !(whole.bytes().chain(fraction.bytes())).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", _) => Some(fraction),
        ("", _) if !value.is_empty() => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

/// A flow can be reused only if whoever holds it says so: the phone's own connection to us, or the proxy that took
/// it, which is the last in the path (RFC 5626 §6).
fn first_hop_knows_outbound(request: &Message) -> bool {
    let mut path = request.list(Name::Path);
    request.list(Name::Via).nth(1).is_none()
        || path
            .by_ref()
            .last()
            .and_then(|value| NameAddr::parse(value).ok())
            .is_some_and(|hop| hop.uri.params.has("ob"))
}

/// The proxies that want to be on the way to the phone.
pub(super) fn path(request: &Message) -> Result<Vec<String>, Refusal> {
    let path: Vec<&str> = request.list(Name::Path).take(PATH_MAX + 1).collect();
    if path.len() > PATH_MAX {
        return Err(Refusal::Bad("too many proxies in Path"));
    }
    path.into_iter()
        .map(|value| {
            NameAddr::parse(value)?;
            Ok(value.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_thousandths() {
        for (text, value) in
            [("1", 1000), ("1.0", 1000), ("0", 0), ("0.7", 700), ("0.25", 250), (".5", 500), ("0.001", 1)]
        {
            assert_eq!(thousandths(text), Some(value), "{text}");
        }
        for text in ["", "2", "1.1", "-1", "0.1234", "x", "0.x", "+0.5"] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
