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
    /// The last request was by a user of whom we have no SHA-256 hash, so that answering SHA-256 again is in vain.
    md5_next: bool,
}

impl Authenticator {
    /// Checks passwords for `realm`. Hosts that share `secret` accept each other's nonces, though each remembers only
    /// what it has seen itself.
    pub fn new(realm: &str, secret: [u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the block of its hash; a whole block cannot have a wrong length.
        let mut block = [0; 64];
        block[..secret.len()].copy_from_slice(&secret);
        Self {
            realm: realm.to_owned(),
            key: Hmac::new(&block.into()),
            algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            used: Used::default(),
            md5_next: false,
        }
    }

    /// The same with other algorithms, or in another order. Phones should take the first they know (RFC 8760 §2.4);
    /// some give up if the first is unknown to them.
    pub fn with_algorithms(mut self, algorithms: &[Algorithm]) -> Self {
        self.algorithms = algorithms.to_vec();
        self
    }

    /// Judges the credentials in `request`, in Authorization or Proxy-Authorization. Credentials for other realms are
    /// none of our business.
    pub fn verify(&mut self, now: Now, request: &Message, directory: &Directory) -> Verdict {
        self.md5_next = false;
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
    /// best algorithm first. To be called right after [`verify`](Self::verify), whose request it is about.
    pub fn challenge(&self, now: Now, stale: bool, rng: &mut ChaCha12Rng) -> Vec<String> {
        let nonce = self.nonce(now.utc, rng.next_u64());
        let algorithms = self.algorithms.iter().filter(|a| !self.md5_next || **a == Algorithm::Md5);
        let challenges = algorithms.map(|algorithm| {
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
            self.md5_next = ha1.is_none() && other.is_some() && self.algorithms.contains(&Algorithm::Md5);
            return if self.md5_next { again } else { Verdict::Refused };
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

/// The nonce count: eight hexadecimal digits on paper, sometimes fewer.
fn nc(auth: &Auth) -> Option<u32> {
    let text = auth.get("nc")?;
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(&text, 16).ok()).flatten()
}

/// Whether the `uri` parameter means the Request-URI. Proxies and phones disagree about ports, parameters and `sips`,
/// so only who and where count (RFC 3261 §22.4 item 5).
fn same_target(said: &str, asked: &str) -> bool {
    if said == asked {
        return true;
    }
    let (Ok(said), Ok(asked)) = (Uri::parse(said), Uri::parse(asked)) else { return false };
    said.is_sip() == asked.is_sip()
        && said.user_unescaped() == asked.user_unescaped()
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::directory::User;
    use crate::registrar::digest::ha1;
    use crate::store::{Change, Operation, Record};
    use crate::time::Instant;

    const REALM: &str = "example.test";

    fn at(seconds: u64) -> Now {
        Now {
            instant: Instant::ZERO + Duration::from_secs(seconds),
            utc: Utc(1_700_000_000_000 + seconds * 1000),
        }
    }

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(1)
    }

    fn office() -> Directory {
        let mut directory = Directory::default();
        let mut alice = User { name: "alice".into(), extension: Some("1001".into()), ..User::default() };
        alice.set_password(REALM, "secret");
        let old = User {
            name: "old".into(),
            ha1_md5: Some(ha1(Algorithm::Md5, "old", REALM, "secret")),
            ..User::default()
        };
        for user in [alice, old] {
            let Operation::Put { key, value } = user.put() else { panic!() };
            directory.apply(&Change { key, record: Some(Record { value, revision: 1 }) });
        }
        directory
    }

    fn authenticator() -> Authenticator {
        Authenticator::new(REALM, [7; 32])
    }

    /// How a phone answers a challenge, and what it may get wrong.
    struct Answer {
        username: &'static str,
        password: &'static str,
        algorithm: Algorithm,
        nonce: String,
        nc: u32,
        uri: &'static str,
    }

    impl Answer {
        fn to(challenge: &str) -> Self {
            let challenge = Auth::parse(challenge).unwrap();
            Self {
                username: "alice",
                password: "secret",
                algorithm: Algorithm::parse(challenge.get("algorithm").as_deref()).unwrap(),
                nonce: challenge.get("nonce").unwrap(),
                nc: 1,
                uri: "sip:bob@example.test",
            }
        }

        fn auth(&self) -> Auth {
            let exchange =
                Exchange { nonce: &self.nonce, qop: Some((self.nc, "c")), method: "INVITE", uri: self.uri };
            let ha1 = ha1(self.algorithm, self.username, REALM, self.password);
            Auth::new("Digest")
                .quoted("username", self.username)
                .quoted("realm", REALM)
                .quoted("nonce", &self.nonce)
                .quoted("uri", self.uri)
                .quoted("response", &exchange.response(self.algorithm, &ha1))
                .token("algorithm", self.algorithm.as_str())
                .token("qop", "auth")
                .token("nc", &format!("{:08x}", self.nc))
                .quoted("cnonce", "c")
        }

        fn request(&self) -> Message {
            request(&[("Authorization", self.auth().to_string())])
        }
    }

    fn request(fields: &[(&str, String)]) -> Message {
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!(
            "INVITE sip:bob@example.test SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
             From: <sip:alice@example.test>;tag=1\r\nTo: <sip:bob@example.test>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\
             {fields}Content-Length: 0\r\n\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    fn known(user: &str) -> Verdict {
        Verdict::Known { user: user.into() }
    }

    #[test]
    fn a_challenge_names_the_better_hash_first() {
        let challenges = authenticator().challenge(at(0), false, &mut rng());
        let [first, second] = &challenges[..] else { panic!("{challenges:?}") };
        assert!(first.starts_with("Digest realm=\"example.test\", nonce=\""));
        assert!(first.ends_with("qop=\"auth\", algorithm=SHA-256") && second.ends_with("algorithm=MD5"));
        let stale = &authenticator().challenge(at(0), true, &mut rng())[0];
        assert!(stale.ends_with(", stale=true"));
        let mut rng = rng();
        let again = (
            authenticator().challenge(at(0), false, &mut rng),
            authenticator().challenge(at(0), false, &mut rng),
        );
        assert_ne!(again.0, again.1, "two phones in one millisecond do not share a nonce");
    }

    #[test]
    fn the_right_password_is_known_by_either_hash_and_either_name() {
        let mut auth = authenticator();
        for (index, challenge) in auth.challenge(at(0), false, &mut rng()).iter().enumerate() {
            let mut answer = Answer::to(challenge);
            answer.nc = 1 + index as u32;
            assert_eq!(auth.verify(at(1), &answer.request(), &office()), known("alice"));
            answer.nc = 3 + index as u32;
            answer.username = "1001";
            assert_eq!(auth.verify(at(1), &answer.request(), &office()), known("alice"), "by extension");
        }
    }

    #[test]
    fn the_algorithm_may_be_left_out_and_then_is_md5() {
        let mut auth = authenticator();
        let answer = Answer::to(&auth.challenge(at(0), false, &mut rng())[1]);
        let text = answer.auth().to_string().replace(", algorithm=MD5", "").replace("nc=00000001", "nc=1");
        assert_eq!(auth.verify(at(0), &request(&[("Proxy-Authorization", text)]), &office()), known("alice"));
    }

    #[test]
    fn wrong_password_and_unknown_user_look_the_same() {
        let mut auth = authenticator();
        let challenge = &auth.challenge(at(0), false, &mut rng())[0];
        let mut answer = Answer::to(challenge);
        answer.password = "guess";
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), Verdict::Refused);
        let mut answer = Answer::to(challenge);
        answer.username = "nobody";
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), Verdict::Refused);
        answer.username = "Alice";
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), Verdict::Refused, "case counts");
    }

    #[test]
    fn nobody_gets_in_with_an_empty_hash() {
        // What is computed for an unknown user must not be an answer that works.
        let mut auth = authenticator();
        let nonce = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]).nonce;
        let exchange =
            Exchange { nonce: &nonce, qop: Some((1, "c")), method: "INVITE", uri: "sip:bob@example.test" };
        let text = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]);
        let right = text.auth().get("response").unwrap();
        let forged = text
            .auth()
            .to_string()
            .replace("username=\"alice\"", "username=\"nobody\"")
            .replace(&right, &exchange.response(Algorithm::Sha256, ""));
        assert_eq!(auth.verify(at(0), &request(&[("Authorization", forged)]), &office()), Verdict::Refused);
    }

    #[test]
    fn nothing_and_foreign_realms_are_challenged() {
        let mut auth = authenticator();
        let again = Verdict::Challenge { stale: false };
        assert_eq!(auth.verify(at(0), &request(&[]), &office()), again);
        let right = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]).auth().to_string();
        for text in [
            "Basic YTpi".to_owned(),
            "Digest".to_owned(),
            right.replace(REALM, "elsewhere.test"),
            right.replace(", qop=auth, nc=00000001, cnonce=\"c\"", ""),
            right.replace("qop=auth", "qop=auth-int"),
            right.replace("nc=00000001", "nc=1x"),
            right.replace(", cnonce=\"c\"", ""),
            right.replace("SHA-256", "SHA-256-sess"),
        ] {
            let verdict = auth.verify(at(0), &request(&[("Authorization", text.clone())]), &office());
            assert_eq!(verdict, again, "{text}");
        }
        // Ours among others is found.
        let fields = [("Authorization", right.replace(REALM, "elsewhere.test")), ("Authorization", right)];
        assert_eq!(auth.verify(at(0), &request(&fields), &office()), known("alice"));
    }

    #[test]
    fn a_nonce_lives_a_minute() {
        let mut auth = authenticator();
        let mut answer = Answer::to(&auth.challenge(at(100), false, &mut rng())[0]);
        assert_eq!(auth.verify(at(159), &answer.request(), &office()), known("alice"));
        answer.nc = 2;
        let stale = Verdict::Challenge { stale: true };
        assert_eq!(auth.verify(at(160), &answer.request(), &office()), stale);
        assert_eq!(auth.verify(at(90), &answer.request(), &office()), stale, "from the future");
        assert_eq!(
            auth.verify(at(96), &answer.request(), &office()),
            known("alice"),
            "by a clock a little behind"
        );
        answer.password = "guess";
        assert_eq!(
            auth.verify(at(160), &answer.request(), &office()),
            Verdict::Refused,
            "stale only when right"
        );
    }

    #[test]
    fn a_nonce_of_another_life_is_stale_and_a_forged_one_too() {
        let before = Authenticator::new(REALM, [8; 32]);
        let mut answer = Answer::to(&before.challenge(at(0), false, &mut rng())[0]);
        let stale = Verdict::Challenge { stale: true };
        assert_eq!(authenticator().verify(at(0), &answer.request(), &office()), stale);
        for nonce in ["", "x", "AAAA", &BASE64.encode([0; 32]), &BASE64.encode([0; 33])] {
            answer.nonce = nonce.to_owned();
            assert_eq!(authenticator().verify(at(0), &answer.request(), &office()), stale, "{nonce:?}");
        }
    }

    #[test]
    fn an_answer_works_once() {
        let mut auth = authenticator();
        let mut answer = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]);
        let stale = Verdict::Challenge { stale: true };
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), known("alice"));
        assert_eq!(auth.verify(at(1), &answer.request(), &office()), stale);
        for nc in [3, 2, 0x00ab_cdef] {
            answer.nc = nc;
            assert_eq!(
                auth.verify(at(1), &answer.request(), &office()),
                known("alice"),
                "UDP may swap requests"
            );
            assert_eq!(auth.verify(at(1), &answer.request(), &office()), stale);
        }
    }

    #[test]
    fn an_answer_counts_for_its_target_only() {
        let mut auth = authenticator();
        let challenge = &auth.challenge(at(0), false, &mut rng())[0];
        let mut verdict = |uri, nc| {
            let mut answer = Answer::to(challenge);
            (answer.uri, answer.nc) = (uri, nc);
            auth.verify(at(0), &answer.request(), &office())
        };
        assert_eq!(verdict("sip:carol@example.test", 1), Verdict::Refused);
        assert_eq!(verdict("sip:bob@elsewhere.test", 1), Verdict::Refused);
        assert_eq!(verdict("sip:example.test", 1), Verdict::Refused);
        assert_eq!(verdict("nonsense", 1), Verdict::Refused);
        assert_eq!(verdict("sips:b%6fb@EXAMPLE.test:5061;transport=tls", 1), known("alice"));
    }

    #[test]
    fn a_user_with_an_md5_hash_only_is_asked_for_md5() {
        let mut auth = authenticator();
        let mut answer = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]);
        answer.username = "old";
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), Verdict::Challenge { stale: false });
        let challenges = auth.challenge(at(0), false, &mut rng());
        assert_eq!(challenges.len(), 1);
        let mut answer = Answer::to(&challenges[0]);
        answer.username = "old";
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), known("old"));
        assert_eq!(auth.challenge(at(0), false, &mut rng()).len(), 2, "the next request is somebody else's");
    }

    #[test]
    fn algorithms_can_be_chosen() {
        let mut auth = authenticator().with_algorithms(&[Algorithm::Md5]);
        let challenges = auth.challenge(at(0), false, &mut rng());
        assert_eq!(challenges.len(), 1);
        let mut answer = Answer::to(&challenges[0]);
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), known("alice"));
        answer.algorithm = Algorithm::Sha256;
        assert_eq!(auth.verify(at(0), &answer.request(), &office()), Verdict::Challenge { stale: false });
    }

    #[test]
    fn memory_is_bounded_and_what_is_forgotten_is_not_accepted_again() {
        let mut used = Used::default();
        let now = at(10).utc;
        for nc in 0..COUNTS_MAX as u32 {
            assert!(used.first_use(now, now, "one", nc));
        }
        assert!(!used.first_use(now, now, "one", 9999), "take a new nonce");
        for number in 0..NONCES_MAX as u64 {
            let stamp = Utc(now.0 + 1 + number / 1000);
            assert!(used.first_use(now, stamp, &format!("{number}"), 1));
        }
        assert_eq!(used.counts.len(), NONCES_MAX);
        assert_eq!(used.forgotten, Some(now), "the oldest gave way");
        assert!(!used.first_use(now, now, "one", 1), "and cannot be played again");
        assert!(!used.first_use(now, now, "another of that time", 1));
        assert!(used.first_use(now + NONCE_LIFE + NONCE_LIFE, now + NONCE_LIFE, "later", 1));
        assert_eq!(used.counts.len(), 1, "what expired is forgotten");
    }
}
