//! The arithmetic of Digest (RFC 7616, RFC 8760), and the side of it that answers challenges.

use std::fmt::Write;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::sip::header::{Auth, Authorization};
use crate::sip::{Message, Method, Name};

/// A hash that Digest may use here. Neither the `-sess` variants nor SHA-512/256 occur in telephones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Algorithm {
    /// The older one, which every phone has.
    Md5,
    /// The better one (RFC 8760).
    Sha256,
}

impl Algorithm {
    /// As in the `algorithm` parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    /// Reads the `algorithm` parameter; MD5 if there is none (RFC 7616 §3.3).
    pub fn parse(name: Option<&str>) -> Option<Self> {
        let name = name.unwrap_or("MD5");
        [Algorithm::Md5, Algorithm::Sha256].into_iter().find(|a| a.as_str().eq_ignore_ascii_case(name))
    }

    fn hash(self, text: &str) -> String {
        match self {
            Algorithm::Md5 => hex(&Md5::digest(text)),
            Algorithm::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a string does not fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// `H(username:realm:password)` (RFC 7616 §3.4.2): all a server needs to keep of a password.
pub fn ha1(algorithm: Algorithm, username: &str, realm: &str, password: &str) -> String {
    algorithm.hash(&format!("{username}:{realm}:{password}"))
}

/// What the response is computed from, besides the password.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The server's nonce.
    pub nonce: &'a str,
    /// With `qop=auth`, how often the client has used this nonce, and its own nonce. Without: as RFC 2069 had it.
    pub qop: Option<(u32, &'a str)>,
    /// The request's method.
    pub method: &'a str,
    /// The `uri` parameter.
    pub uri: &'a str,
}

impl Exchange<'_> {
    /// The `response` parameter (RFC 7616 §3.4.1).
    pub fn response(&self, algorithm: Algorithm, ha1: &str) -> String {
        let ha2 = algorithm.hash(&format!("{}:{}", self.method, self.uri));
        algorithm.hash(&match self.qop {
            Some((nc, cnonce)) => format!("{ha1}:{}:{nc:08x}:{cnonce}:auth:{ha2}", self.nonce),
            None => format!("{ha1}:{}:{ha2}", self.nonce),
        })
    }
}

/// Compares two texts in a time that depends on their lengths only, so that a wrong answer does not tell how nearly
/// right it was.
pub(super) fn same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && std::hint::black_box(differences) == 0
}

/// Our name and password at a trunk.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The digest user name.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
}

/// Answers the challenge in a 401 or 407 to a request of ours: the header to add to the request when it is sent
/// again, and its value. `None` if nothing in it can be answered: another scheme, an unknown hash, `auth-int` only.
///
/// Of several challenges the first that we can answer counts, as the server lists them by preference (RFC 8760
/// §2.4). `nc` counts the requests sent with this nonce, from 1; `cnonce` is random, new for each nonce.
pub fn answer_challenge(
    response: &Message,
    login: Login<'_>,
    method: &Method,
    uri: &str,
    nc: u32,
    cnonce: &str,
) -> Option<(Name, String)> {
    let (asks, answers) = match response.status()?.0 {
        401 => (Name::WwwAuthenticate, Name::Authorization),
        407 => (Name::ProxyAuthenticate, Name::ProxyAuthorization),
        _ => return None,
    };
    let mut challenges = response.all(asks).filter_map(|value| Auth::parse(value).ok());
    challenges.find_map(|challenge| {
        let answer = answer(&challenge, login, method, uri, nc, cnonce)?;
        Some((answers, answer.to_string()))
    })
}

fn answer(
    challenge: &Auth,
    login: Login<'_>,
    method: &Method,
    uri: &str,
    nc: u32,
    cnonce: &str,
) -> Option<Authorization> {
    let (realm, nonce) = (challenge.get("realm")?, challenge.get("nonce")?);
    let algorithm = Algorithm::parse(challenge.get("algorithm").as_deref())?;
    let qop = challenge.get("qop");
    let offers_auth = |qop: &String| qop.split(',').any(|option| option.trim().eq_ignore_ascii_case("auth"));
    if !challenge.is_digest() || qop.as_ref().is_some_and(|qop| !offers_auth(qop)) {
        return None;
    }
    let exchange = Exchange {
        nonce: &nonce,
        // Gateways from before RFC 2617 offer no qop, and understand no answer with one.
        qop: qop.is_some().then_some((nc, cnonce)),
        method: method.as_str(),
        uri,
    };
    let response = exchange.response(algorithm, &ha1(algorithm, login.user, &realm, login.password));
    let mut answer = Auth::new("Digest")
        .quoted("username", login.user)
        .quoted("realm", &realm)
        .quoted("nonce", &nonce)
        .quoted("uri", uri)
        .quoted("response", &response)
        .token("algorithm", algorithm.as_str());
    if exchange.qop.is_some() {
        answer = answer.token("qop", "auth").token("nc", &format!("{nc:08x}")).quoted("cnonce", cnonce);
    }
    if let Some(opaque) = challenge.get("opaque") {
        answer = answer.quoted("opaque", &opaque);
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// RFC 7616 §3.9.1.
    const EXAMPLE: Exchange<'_> = Exchange {
        nonce: "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        qop: Some((1, "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")),
        method: "GET",
        uri: "/dir/index.html",
    };

    fn mufasa(algorithm: Algorithm) -> String {
        ha1(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        assert_eq!(
            EXAMPLE.response(Algorithm::Md5, &mufasa(Algorithm::Md5)),
            "8ca523f5e9506fed4657c9700eebdbec"
        );
        assert_eq!(
            EXAMPLE.response(Algorithm::Sha256, &mufasa(Algorithm::Sha256)),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    #[test]
    fn the_example_of_rfc_2069_comes_out() {
        // RFC 2069 §2.4, with the response of its erratum 749.
        let exchange = Exchange {
            nonce: "dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: None,
            method: "GET",
            uri: "/dir/index.html",
        };
        let ha1 = ha1(Algorithm::Md5, "Mufasa", "testrealm@host.com", "CircleOfLife");
        assert_eq!(exchange.response(Algorithm::Md5, &ha1), "1949323746fe6a43ef61f9606e7febea");
    }

    #[test]
    fn comparing_is_exact() {
        assert!(same("", "") && same("abc", "abc"));
        assert!(!same("abc", "abd") && !same("abc", "ab") && !same("ab", "abc"));
    }

    fn refused(status: &str, challenges: &str) -> Message {
        let text = format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@g>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 INVITE\r\n{challenges}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn answer_to(status: &str, challenges: &str) -> Option<(Name, Auth)> {
        let login = Login { user: "Mufasa", password: "Circle of Life" };
        let message = refused(status, challenges);
        let (name, value) = answer_challenge(&message, login, &Method::Invite, "sip:b@g", 2, "f00d")?;
        Some((name, Auth::parse(&value).unwrap()))
    }

    #[test]
    fn a_gateways_challenge_is_answered() {
        let challenge =
            "Proxy-Authenticate: Digest realm=\"gw\", nonce=\"n\", opaque=\"o\", qop=\"auth-int,auth\"\r\n";
        let (name, answer) = answer_to("407 Proxy Authentication Required", challenge).unwrap();
        assert_eq!(name, Name::ProxyAuthorization);
        let expected = Exchange { nonce: "n", qop: Some((2, "f00d")), method: "INVITE", uri: "sip:b@g" }
            .response(Algorithm::Md5, &ha1(Algorithm::Md5, "Mufasa", "gw", "Circle of Life"));
        assert_eq!(
            answer.to_string(),
            format!(
                "Digest username=\"Mufasa\", realm=\"gw\", nonce=\"n\", uri=\"sip:b@g\", response=\"{expected}\", \
                 algorithm=MD5, qop=auth, nc=00000002, cnonce=\"f00d\", opaque=\"o\""
            )
        );
    }

    #[test]
    fn the_first_challenge_that_can_be_answered_counts() {
        let challenges = "WWW-Authenticate: Basic realm=\"x\"\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n1\", algorithm=SHA-512-256, qop=\"auth\"\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n2\", algorithm=SHA-256, qop=\"auth\"\r\n\
            WWW-Authenticate: Digest realm=\"r\", nonce=\"n3\", algorithm=MD5, qop=\"auth\"\r\n";
        let (name, answer) = answer_to("401 Unauthorized", challenges).unwrap();
        assert_eq!(name, Name::Authorization);
        assert_eq!(answer.get("nonce").as_deref(), Some("n2"));
        assert_eq!(answer.get("algorithm").as_deref(), Some("SHA-256"));
    }

    #[test]
    fn a_challenge_without_qop_is_answered_without() {
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
        let (_, answer) = answer_to("401 Unauthorized", challenge).unwrap();
        assert_eq!((answer.get("qop"), answer.get("nc"), answer.get("cnonce")), (None, None, None));
    }

    #[test]
    fn what_cannot_be_answered_is_not() {
        let digest = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"";
        assert!(answer_to("403 Forbidden", &format!("{digest}\r\n")).is_none());
        assert!(answer_to("401 Unauthorized", &format!("{digest}, qop=\"auth-int\"\r\n")).is_none());
        assert!(answer_to("401 Unauthorized", "WWW-Authenticate: Digest realm=\"r\"\r\n").is_none());
        assert!(
            answer_to("401 Unauthorized", "WWW-Authenticate: NTLM realm=\"r\", nonce=\"n\"\r\n").is_none()
        );
        assert!(answer_to("407 Proxy Authentication Required", &format!("{digest}\r\n")).is_none());
    }
}
