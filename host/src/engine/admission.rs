//! Admission: who is listened to. A request costs its sender a datagram and us a transaction and a hash, so how many
//! we take depends on what the sender has proved.
//!
//! | who | how we know | how many |
//! |---|---|---|
//! | trunk | its address is in the configuration | all |
//! | known | a right password came from this very address and port lately, a phone is registered there, or it answered a request of ours | `known_per_source` |
//! | stranger | nothing | `strangers_per_source` for each address, `strangers` for all of them together |
//!
//! Beyond that a stranger is told 503 with Retry-After for as long as that is cheap, then nothing. Addresses of UDP can
//! be forged, so no address is ever shut out for what seems to come from it: only what is too much is refused.
//!
//! Guesses at passwords are counted by address as well: see [`Admission::wrong_password`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::Limits;
use crate::net::network;
use crate::recent::Recent;
use crate::time::Instant;

/// Addresses remembered, of strangers and of those known: some 10 MiB when both are full.
const SOURCES_MAX: usize = 65_536;

/// A source may use up so much time's worth at once. After a power cut every phone of an office behind one NAT
/// registers in the same moment, each with two requests.
const BURST: Duration = Duration::from_secs(10);

/// Of what is refused so many a second are told why, to each source and (times ten) in all; who sends more does not
/// read our answers.
const ANSWERS_PER_SECOND: u32 = 10;

/// A source that sends too much is news again after this long.
const NEWS_AFTER: Duration = Duration::from_secs(60);

/// The longest a source must wait between two guesses at passwords.
const GUESS_WAIT_MAX: Duration = Duration::from_secs(300);

/// A source that has guessed nothing wrong for this long begins anew. Longer than [`GUESS_WAIT_MAX`], or waiting would
/// buy guesses.
const GUESSES_KEPT: Duration = Duration::from_secs(15 * 60);

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admitted {
    /// It is taken.
    Yes,
    /// It is not.
    No {
        /// Its sender may be told.
        answer: bool,
        /// The source has begun to send too much: worth an event.
        news: bool,
    },
}

/// See the module.
pub(super) struct Admission {
    known_per_source: u32,
    strangers_per_source: u32,
    strangers: u32,
    password_failures: u32,
    known_for: Duration,
    known: Recent<SocketAddr, Known>,
    sources: Recent<IpAddr, Source>,
    all: Meter,
    answers: Meter,
}

#[derive(Clone, Copy, Default)]
struct Known {
    until: Instant,
    meter: Meter,
}

/// What we know of an address that has proved nothing.
#[derive(Default)]
struct Source {
    meter: Meter,
    answers: Meter,
    told: Option<Instant>,
    wrong_passwords: u32,
    last_wrong: Instant,
    wait_until: Instant,
}

impl Admission {
    /// Nobody is known.
    pub(super) fn new(limits: &Limits) -> Self {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).max(1);
        Self {
            known_per_source: number(limits.known_per_source),
            strangers_per_source: number(limits.strangers_per_source),
            strangers: number(limits.strangers),
            password_failures: number(limits.password_failures),
            // A phone that keeps its registration proves itself again within that time.
            known_for: limits.register_max,
            known: Recent::new(SOURCES_MAX),
            sources: Recent::new(SOURCES_MAX),
            all: Meter::default(),
            answers: Meter::default(),
        }
    }

    /// Whether a message from `from`, which is no trunk, is listened to. Responses are not asked about: one that
    /// answers nothing of ours costs a look into a table.
    pub(super) fn admit(&mut self, now: Instant, from: SocketAddr) -> Admitted {
        if self.is_known(now, from) {
            let known = self.known.entry(from);
            let taken = known.meter.take(now, self.known_per_source);
            return if taken { Admitted::Yes } else { self.refused(now, from) };
        }
        let source = self.sources.entry(network(from.ip()));
        // Both or neither: what one source has too much of must not use up what others may have.
        if source.meter.has(now, self.strangers_per_source) && self.all.take(now, self.strangers) {
            source.meter.take(now, self.strangers_per_source);
            return Admitted::Yes;
        }
        self.refused(now, from)
    }

    fn refused(&mut self, now: Instant, from: SocketAddr) -> Admitted {
        let source = self.sources.entry(network(from.ip()));
        let answer =
            source.answers.take(now, ANSWERS_PER_SECOND) && self.answers.take(now, ANSWERS_PER_SECOND * 10);
        // Only what a source did itself is told of it, not what all of them did together.
        let itself = !source.meter.has(now, self.strangers_per_source);
        let news = itself && source.told.is_none_or(|told| now - told >= NEWS_AFTER);
        if news {
            source.told = Some(now);
        }
        Admitted::No { answer, news }
    }

    /// Whether who sends from there has proved who they are.
    pub(super) fn is_known(&self, now: Instant, from: SocketAddr) -> bool {
        self.known.get(&from).is_some_and(|known| known.until > now)
    }

    /// Whoever sends from there has proved who they are.
    pub(super) fn vouch(&mut self, now: Instant, from: SocketAddr) {
        self.known.entry(from).until = now + self.known_for;
    }

    /// A wrong password, or an unknown user, came from there.
    ///
    /// After `password_failures` of them each further one doubles the wait before the next is looked at. Who is known
    /// does not wait; but whoever guesses is not known any more.
    pub(super) fn wrong_password(&mut self, now: Instant, from: SocketAddr) {
        self.known.remove(&from);
        let free = self.password_failures;
        let source = self.sources.entry(network(from.ip()));
        if now - source.last_wrong >= GUESSES_KEPT {
            source.wrong_passwords = 0;
        }
        source.wrong_passwords = source.wrong_passwords.saturating_add(1);
        source.last_wrong = now;
        if let Some(doublings) = source.wrong_passwords.checked_sub(free) {
            let wait = Duration::from_secs(1 << doublings.min(16)).min(GUESS_WAIT_MAX);
            source.wait_until = now + wait;
        }
    }

    /// How long it is until a password from there is looked at again; `None`: at once.
    pub(super) fn must_wait(&self, now: Instant, from: SocketAddr) -> Option<Duration> {
        let source = self.sources.get(&network(from.ip()))?;
        (source.wait_until > now && !self.is_known(now, from)).then(|| source.wait_until - now)
    }
}

/// So many a second, and [`BURST`]'s worth at once (the generic cell rate algorithm): the moment at which all that was
/// taken is paid for.
#[derive(Clone, Copy, Default)]
struct Meter(Instant);

impl Meter {
    fn next(self, now: Instant, per_second: u32) -> Option<Instant> {
        let next = self.0.max(now) + Duration::from_secs(1) / per_second;
        (next <= now + BURST).then_some(next)
    }

    fn has(self, now: Instant, per_second: u32) -> bool {
        self.next(now, per_second).is_some()
    }

    fn take(&mut self, now: Instant, per_second: u32) -> bool {
        let next = self.next(now, per_second);
        self.0 = next.unwrap_or(self.0);
        next.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::after_start(Duration::from_secs(seconds))
    }

    fn source(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    fn admission() -> Admission {
        Admission::new(&Limits {
            known_per_source: 20,
            strangers_per_source: 2,
            strangers: 5,
            password_failures: 3,
            ..Limits::default()
        })
    }

    fn taken(admission: &mut Admission, now: Instant, from: SocketAddr, sent: usize) -> usize {
        (0..sent).filter(|_| admission.admit(now, from) == Admitted::Yes).count()
    }

    #[test]
    fn a_stranger_has_a_burst_and_then_a_rate_whatever_port_he_sends_from() {
        let mut admission = admission();
        assert_eq!(taken(&mut admission, at(0), source(1, 5060), 15), 15);
        assert_eq!(taken(&mut admission, at(0), source(1, 9999), 15), 5, "ten seconds' worth of two");
        assert_eq!(taken(&mut admission, at(1), source(1, 5060), 100), 2);
        assert_eq!(
            taken(&mut admission, at(60), source(1, 5060), 100),
            20,
            "rest gives no more than a burst"
        );
    }

    #[test]
    fn strangers_together_have_a_limit_too_and_one_who_sends_too_much_does_not_use_it_up() {
        let mut admission = admission();
        taken(&mut admission, at(0), source(1, 5060), 10_000);
        let others: usize = (2..=20).map(|host| taken(&mut admission, at(0), source(host, 5060), 3)).sum();
        assert_eq!(others, 50 - 20);
    }

    #[test]
    fn who_is_known_gets_through_while_strangers_flood_even_from_the_same_address() {
        let mut admission = admission();
        admission.vouch(at(0), source(1, 5060));
        for host in 1..=50 {
            taken(&mut admission, at(1), source(host, 6000), 100);
        }
        assert_eq!(taken(&mut admission, at(1), source(1, 5060), 100), 100);
        assert_eq!(taken(&mut admission, at(1), source(1, 5060), 1000), 100, "but not without end");
        assert_eq!(taken(&mut admission, at(3601), source(1, 5060), 1000), 20, "nor for ever");
    }

    #[test]
    fn of_what_is_refused_only_some_is_answered_and_the_news_is_told_once() {
        let mut admission = admission();
        taken(&mut admission, at(0), source(1, 5060), 20);
        let refused: Vec<Admitted> = (0..1000).map(|_| admission.admit(at(0), source(1, 5060))).collect();
        let answered = refused.iter().filter(|it| matches!(it, Admitted::No { answer: true, .. })).count();
        let told = refused.iter().filter(|it| matches!(it, Admitted::No { news: true, .. })).count();
        assert_eq!((answered, told), (100, 1));
        let many: usize = (0..200)
            .map(|host| {
                let from = source(host, 5060);
                (0..200)
                    .filter(|_| matches!(admission.admit(at(5), from), Admitted::No { answer: true, .. }))
                    .count()
            })
            .sum();
        assert!(many <= 1000, "{many}: a flood from forged addresses is not answered one for one");
    }

    #[test]
    fn guessing_gets_slower_with_each_wrong_password_until_one_in_five_minutes() {
        let mut admission = admission();
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..14 {
            admission.wrong_password(now, source(1, 5060));
            let wait = admission.must_wait(now, source(1, 7070)).unwrap_or_default();
            waits.push(wait.as_secs());
            now = now + wait;
            assert_eq!(admission.must_wait(now, source(1, 5060)), None);
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(admission.must_wait(now, source(2, 5060)), None, "others do not wait");
        let later = now + GUESSES_KEPT;
        admission.wrong_password(later, source(1, 5060));
        assert_eq!(admission.must_wait(later, source(1, 5060)), None, "long ago");
    }

    /// The phones of an office behind one address go on while one of them, or a stranger there, guesses.
    #[test]
    fn who_is_known_does_not_wait_unless_it_is_he_who_guesses() {
        let mut admission = admission();
        let [phone, thief] = [source(1, 5060), source(1, 6060)];
        admission.vouch(at(0), phone);
        admission.vouch(at(0), thief);
        for _ in 0..10 {
            admission.wrong_password(at(1), thief);
        }
        assert_eq!(admission.must_wait(at(1), phone), None);
        assert!(admission.must_wait(at(1), thief).is_some_and(|wait| wait > 10 * SECOND));
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let [a, b, c, mapped] =
            ["2001:db8::1", "2001:db8::ffff:1:2:3", "2001:db8:0:1::1", "::ffff:192.0.2.1"]
                .map(|text| network(text.parse().expect("address")));
        assert!(a == b && a != c);
        assert_eq!(mapped, source(1, 0).ip());
    }
}
