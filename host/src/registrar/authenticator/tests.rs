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

#[test]
fn phones_that_stumble_over_sha_256_are_spared_it() {
    let asked = |fields: &[(&str, String)]| {
        let mut auth = authenticator();
        auth.verify(at(0), &request(fields), &office());
        let challenges = auth.challenge(at(0), false, &mut rng());
        challenges.iter().map(|c| c.rsplit_once('=').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let agent = |name: &str| [("User-Agent", name.to_owned())];
    assert_eq!(asked(&agent("Linphonec/5.1.65")), ["SHA-256", "MD5"]);
    assert_eq!(asked(&agent("baresip v1.0.0 (x86_64/linux)")), ["MD5"]);
    assert_eq!(asked(&[]), ["MD5", "SHA-256"], "SIPp");
    let mut auth = authenticator().with_algorithms(&[Algorithm::Sha256]);
    auth.verify(at(0), &request(&agent("baresip v1.0.0")), &office());
    assert_eq!(auth.challenge(at(0), false, &mut rng()).len(), 1, "never nothing");
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
    let right = Answer::to(&auth.challenge(at(0), false, &mut rng())[0]).auth().to_string();
    assert_eq!(auth.verify(at(0), &request(&[]), &office()), again);
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
    assert_eq!(auth.verify(at(160), &answer.request(), &office()), Verdict::Refused, "stale only when right");
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
        assert_eq!(auth.verify(at(1), &answer.request(), &office()), known("alice"), "UDP may swap requests");
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
    assert_eq!(verdict("sip:elsewhere.test", 1), Verdict::Refused);
    assert_eq!(verdict("nonsense", 1), Verdict::Refused);
    assert_eq!(verdict("sips:b%6fb@EXAMPLE.test:5061;transport=tls", 1), known("alice"));
    assert_eq!(verdict("sip:example.test:5060", 2), known("alice"), "SIPp names the host alone");
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
    auth.verify(at(0), &request(&[]), &office());
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
