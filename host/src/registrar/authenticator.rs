//! Digest, server side (RFC 7616, RFC 8760, RFC 3261 §22).
//!
//! A nonce is a time stamp, salt, and a hash over both that only we can make, so a challenge costs no memory. Only a
//! *right* answer is remembered, by nonce and nonce count, until the nonce expires: so it cannot be played again, and
//! nobody without a password can make us remember anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::Rng;
use sha2::Sha256;

use super::digest::{Algorithm, Exchange, same};
use crate::directory::Directory;
use crate::sip::header::{Auth, Challenge};
use crate::sip::{Message, Name, Uri};
use crate::time::{Now, Utc};

#[cfg(test)]
mod tests;

/// How long a nonce may be used. Longer than any answer takes, short enough that few need remembering.
pub const NONCE_LIFE: Duration = Duration::from_secs(60);
/// Hosts of a pool may accept each other's nonces; this much their clocks may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(5);
/// Nonces with a right answer that we remember: over a thousand new ones per second, some 10 MiB.
const NONCES_MAX: usize = 65_536;
/// Requests with one nonce; then the phone is asked to take a new one.
const COUNTS_MAX: usize = 256;
/// Credentials of a request that are looked at: a phone may send one per challenge it has seen.
const CREDENTIALS_MAX: usize = 8;

const STAMP_BYTES: usize = 8;
const SALT_BYTES: usize = 8;
const MAC_BYTES: usize = 16;

/// Whether a request is by whom it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// By this user.
    Known {
        /// The user's name, whatever they logged in as.
        user: String,
    },
    /// It proves nothing: answer 401 or 407 with [`Authenticator::challenge`].
    Challenge {
        /// The password was right, only the nonce was not: the phone may answer without asking anyone.
        stale: bool,
    },
    /// The password is wrong, or there is no such user. Nobody outside may learn which of the two, so both get the
    /// same answer.
    Refused,
}

/// Digest, server side.
#[derive(Clone)]
pub struct Authenticator {
    realm: String,
    key: Hmac<Sha256>,
    algorithms: Vec<Algorithm>,
    used: Used,
    /// What to ask whoever sent the last request.
    next: Vec<Algorithm>,
}

impl Authenticator {
    /// Checks passwords for `realm`. Hosts that share `secret` accept each other's nonces, though each remembers only
    /// what it has seen itself.
    pub fn new(realm: &str, secret: [u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the block of its hash; a whole block cannot have a wrong length.
        let mut block = [0; 64];
        block[..secret.len()].copy_from_slice(&secret);
        let algorithms = vec![Algorithm::Sha256, Algorithm::Md5];
        Self {
            realm: realm.to_owned(),
            key: Hmac::new(&block.into()),
            next: algorithms.clone(),
            algorithms,
            used: Used::default(),
        }
    }

    /// The same with other algorithms, the preferred one first.
    pub fn with_algorithms(mut self, algorithms: &[Algorithm]) -> Self {
        self.algorithms = algorithms.to_vec();
        self.next = self.algorithms.clone();
        self
    }

    /// Judges the credentials in `request`, in Authorization or Proxy-Authorization. Credentials for other realms are
    /// none of our business.
    pub fn verify(&mut self, now: Now, request: &Message, directory: &Directory) -> Verdict {
        self.next = dialect(request, &self.algorithms);
        let fields = request.all(Name::Authorization).chain(request.all(Name::ProxyAuthorization));
        let credentials: Vec<Auth> = fields
            .take(CREDENTIALS_MAX)
            .filter_map(|value| Auth::parse(value).ok())
            .filter(|auth| auth.is_digest() && auth.get("realm").as_deref() == Some(&self.realm))
            .collect();
        let mut verdict = Verdict::Challenge { stale: false };
        for auth in &credentials {
            match self.judge(now, request, auth, directory) {
                known @ Verdict::Known { .. } => return known,
                // A right password with an old nonce says more than a wrong one beside it.
                Verdict::Challenge { stale: true } => verdict = Verdict::Challenge { stale: true },
                Verdict::Refused if verdict != (Verdict::Challenge { stale: true }) => {
                    verdict = Verdict::Refused
                }
                Verdict::Refused | Verdict::Challenge { stale: false } => {}
            }
        }
        verdict
    }

    /// What to ask the sender of a request, one value for each WWW-Authenticate (or Proxy-Authenticate) field, the
    /// best algorithm first unless the phone is known to stumble. To be called right after
    /// [`verify`](Self::verify), whose request it is about.
    pub fn challenge(&self, now: Now, stale: bool, rng: &mut ChaCha12Rng) -> Vec<String> {
        let nonce = self.nonce(now.utc, rng.next_u64());
        let challenges = self.next.iter().map(|algorithm| {
            let mut challenge = Challenge::new("Digest")
                .quoted("realm", &self.realm)
                .quoted("nonce", &nonce)
                .quoted("qop", "auth")
                .token("algorithm", algorithm.as_str());
            if stale {
                challenge = challenge.token("stale", "true");
            }
            challenge.to_string()
        });
        challenges.collect()
    }

    fn judge(&mut self, now: Now, request: &Message, auth: &Auth, directory: &Directory) -> Verdict {
        let again = Verdict::Challenge { stale: false };
        let Some(algorithm) = Algorithm::parse(auth.get("algorithm").as_deref()) else { return again };
        if !self.algorithms.contains(&algorithm) {
            return again;
        }
        // Without qop there is no count, hence no protection from replay: we have offered better.
        if !auth.get("qop").is_some_and(|qop| qop.eq_ignore_ascii_case("auth")) {
            return again;
        }
        let (Some(nonce), Some(cnonce), Some(nc)) = (auth.get("nonce"), auth.get("cnonce"), nc(auth)) else {
            return again;
        };
        let (Some(username), Some(uri), Some(response)) =
            (auth.get("username"), auth.get("uri"), auth.get("response"))
        else {
            return again;
        };
        // An answer taken from another request, to somewhere else (RFC 7616 §3.4.6).
        if !same_target(&uri, request.uri()) {
            return Verdict::Refused;
        }
        let user = directory.login(&username);
        let ha1 = user.and_then(|user| user.ha1(&username, algorithm));
        let other = user.and_then(|user| user.ha1(&username, Algorithm::Md5));
        let method = request.method();
        let exchange =
            Exchange { nonce: &nonce, qop: Some((nc, &cnonce)), method: method.as_str(), uri: &uri };
        // Computed for nobody as well: the time must not tell who exists.
        let expected = exchange.response(algorithm, ha1.unwrap_or_default());
        let right = same(&expected, &response.to_ascii_lowercase());
        let Some(user) = user.filter(|_| ha1.is_some()) else {
            // Of this user we have the MD5 hash only, so answering SHA-256 once more would be in vain.
            if other.is_some() && self.algorithms.contains(&Algorithm::Md5) {
                self.next = vec![Algorithm::Md5];
                return again;
            }
            return Verdict::Refused;
        };
        if !right {
            return Verdict::Refused;
        }
        match self.age(now.utc, &nonce) {
            Some(stamp) if self.used.first_use(now.utc, stamp, &nonce, nc) => {
                Verdict::Known { user: user.name.clone() }
            }
            // Expired, of another life of this host, or used already.
            Some(_) | None => Verdict::Challenge { stale: true },
        }
    }

    fn nonce(&self, now: Utc, salt: u64) -> String {
        let mut bytes = Vec::with_capacity(STAMP_BYTES + SALT_BYTES + MAC_BYTES);
        bytes.extend_from_slice(&now.0.to_be_bytes());
        bytes.extend_from_slice(&salt.to_be_bytes());
        let mac = self.mac(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&mac[..MAC_BYTES]);
        BASE64.encode(bytes)
    }

    fn mac(&self, stamp_and_salt: &[u8]) -> Hmac<Sha256> {
        self.key.clone().chain_update(stamp_and_salt).chain_update(&self.realm)
    }

    /// When this nonce was made, if we made it and it may still be used.
    fn age(&self, now: Utc, nonce: &str) -> Option<Utc> {
        let bytes = BASE64.decode(nonce).ok()?;
        let (head, mac) = bytes.split_at_checked(STAMP_BYTES + SALT_BYTES)?;
        if mac.len() != MAC_BYTES {
            return None;
        }
        self.mac(head).verify_truncated_left(mac).ok()?;
        let stamp = Utc(u64::from_be_bytes(*head.first_chunk()?));
        (now < stamp + NONCE_LIFE && stamp < now + CLOCK_SKEW).then_some(stamp)
    }
}

/// Phones that cannot bear to be asked for SHA-256 beside MD5, by how their User-Agent begins.
///
/// Measured: baresip 1.0.0 gives up if any challenge names an algorithm it doesn't know, wherever it stands in the
/// list. Linphone 5.1.65 takes SHA-256.
const MD5_ONLY: [&str; 2] = ["baresip v0.", "baresip v1."];

/// What to ask the sender of `request`: the first of `algorithms` that it knows should count (RFC 8760 §2.4), and it
/// should skip the others.
fn dialect(request: &Message, algorithms: &[Algorithm]) -> Vec<Algorithm> {
    let mut asked = algorithms.to_vec();
    if !algorithms.contains(&Algorithm::Md5) {
        return asked;
    }
    match request.get(Name::UserAgent) {
        Some(agent) if MD5_ONLY.iter().any(|start| agent.starts_with(start)) => {
            asked.retain(|algorithm| *algorithm == Algorithm::Md5);
        }
        Some(_) => {}
        // Scripts: SIPp 3.6.1 looks at the first challenge only, and stops if that isn't MD5.
        None => asked.sort(),
    }
    asked
}

/// The nonce count: eight hexadecimal digits on paper, sometimes fewer.
fn nc(auth: &Auth) -> Option<u32> {
    let text = auth.get("nc")?;
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(&text, 16).ok()).flatten()
}

/// Whether the `uri` parameter means the Request-URI. Proxies and phones disagree about ports, parameters and `sips`,
/// so only who and where count (RFC 3261 §22.4 item 5); some (SIPp) name the host alone. The answer works once only, so
/// that opens no door.
fn same_target(said: &str, asked: &str) -> bool {
    if said == asked {
        return true;
    }
    let (Ok(said), Ok(asked)) = (Uri::parse(said), Uri::parse(asked)) else { return false };
    said.is_sip() == asked.is_sip()
        && (said.user.is_none() || said.user_unescaped() == asked.user_unescaped())
        && said.host.eq_ignore_ascii_case(&asked.host)
        && said.opaque == asked.opaque
}

/// Which nonce counts were used.
#[derive(Clone, Debug, Default)]
struct Used {
    counts: BTreeMap<(Utc, String), BTreeSet<u32>>,
    /// Nonces up to this one had to be forgotten before their time, so none of them is accepted any more.
    forgotten: Option<Utc>,
}

impl Used {
    /// Remembers this use; false if it is not the first or cannot be remembered.
    fn first_use(&mut self, now: Utc, stamp: Utc, nonce: &str, nc: u32) -> bool {
        while let Some(oldest) = self.counts.first_entry()
            && oldest.key().0 + NONCE_LIFE <= now
        {
            oldest.remove();
        }
        if self.forgotten.is_some_and(|forgotten| stamp <= forgotten) {
            return false;
        }
        let key = (stamp, nonce.to_owned());
        if self.counts.len() >= NONCES_MAX
            && !self.counts.contains_key(&key)
            && let Some(((oldest, _), _)) = self.counts.pop_first()
        {
            self.forgotten = Some(oldest);
            if stamp <= oldest {
                return false;
            }
        }
        let counts = self.counts.entry(key).or_default();
        counts.len() < COUNTS_MAX && counts.insert(nc)
    }
}
