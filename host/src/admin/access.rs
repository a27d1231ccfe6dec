//! Who may use the interface: the bearer token, and protection of a loopback listener from web pages.
//!
//! Without a token any process of the machine may administer the host, but no web page may make a browser do it:
//! a page that points a name of its own at 127.0.0.1 (DNS rebinding) is recognised by its `Host`, a page that
//! posts across origins by its `Origin` and by a content type that browsers do not send unasked.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, StatusCode, header};
use sha2::{Digest, Sha256};

use super::request::Refused;
use crate::config;

/// What a request must bring.
#[derive(Clone, Debug)]
pub struct Access {
    /// The SHA-256 of the token: comparing digests takes the same time wherever they differ.
    token: Option<[u8; 32]>,
    hosts: Vec<String>,
}

impl Access {
    /// The rules of `[admin]`. Refuses an address that others can reach without a token.
    pub fn new(admin: &config::Admin) -> Result<Self, AccessError> {
        if admin.token.is_none() && !admin.listen.ip().is_loopback() {
            return Err(AccessError(admin.listen));
        }
        let token = admin.token.as_ref().map(|token| digest(token.reveal().as_bytes()));
        let mut hosts = admin.hosts.clone();
        hosts.push(admin.listen.ip().to_string());
        Ok(Self { token, hosts })
    }

    /// Checks where a request of any kind claims to go and to come from.
    pub(super) fn origin(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refused> {
        if self.token.is_some() {
            // A web page does not have the token, and without it nothing is answered.
            return Ok(());
        }
        let host = text(headers, header::HOST)
            .ok_or_else(|| forbidden("the request has no Host header, or a strange one"))?;
        if !self.is_ours(host) {
            return Err(forbidden(&format!(
                "the Host header says {host:?}, which is no name of this host; list it in admin.hosts"
            )));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or_default();
            if origin.split_once("://").is_none_or(|(_, from)| from != host) {
                return Err(forbidden(&format!("a page of {origin:?} may not use this interface")));
            }
        }
        // Also of a request without a body: one rule for all that changes something.
        if !matches!(*method, Method::GET | Method::HEAD)
            && text(headers, header::CONTENT_TYPE).is_none_or(|kind| {
                !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
            })
        {
            return Err(Refused {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
                code: None,
                text: "expected Content-Type: application/json".to_owned(),
            });
        }
        Ok(())
    }

    /// Checks the bearer token (RFC 6750 §2.1), if there is one.
    pub(super) fn bearer(&self, headers: &HeaderMap) -> Result<(), Refused> {
        let Some(expected) = &self.token else { return Ok(()) };
        let given = text(headers, header::AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let matches = given.is_some_and(|token| {
            let given = digest(token.as_bytes());
            given.iter().zip(expected).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
        });
        if matches {
            Ok(())
        } else {
            let text = match given {
                None => {
                    "a token is required: Authorization: Bearer TOKEN (SWITCHYARD_TOKEN for the command line)"
                }
                Some(_) => "the token is wrong",
            };
            Err(Refused { status: StatusCode::UNAUTHORIZED.as_u16(), code: None, text: text.to_owned() })
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(v6) => v6.split_once(']').map_or("", |(address, _)| address),
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        if name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()) {
            return true;
        }
        let name = name.trim_end_matches('.');
        name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name))
    }
}

/// The interface would be open to others.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0} is not a loopback address, so admin.token is required")]
pub struct AccessError(SocketAddr);

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn forbidden(text: &str) -> Refused {
    Refused { status: StatusCode::FORBIDDEN.as_u16(), code: None, text: text.to_owned() }
}
