//! The links between phones and host: delay, loss, repetition, reordering, partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha12Rng;
use switchyard_host::time::Instant;

/// How messages fare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weather {
    /// How long each takes.
    pub delay: Duration,
    /// How much longer some take: more than the pause between two messages, and they arrive in another order.
    pub jitter: Duration,
    /// Of a thousand messages, so many are lost.
    pub lost: u32,
    /// … and so many arrive twice.
    pub repeated: u32,
}

impl Weather {
    pub const FAIR: Self =
        Self { delay: Duration::from_millis(10), jitter: Duration::ZERO, lost: 0, repeated: 0 };

    /// Fair but for lost messages.
    pub const fn losing(lost: u32) -> Self {
        Self { lost, ..Self::FAIR }
    }
}

pub struct Network {
    pub weather: Weather,
    /// Phones nothing reaches, and from which nothing comes.
    pub cut: BTreeSet<usize>,
    /// What went wrong so far, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// When the last piece of each stream arrives, by phone and whether it goes to the host.
    streams: BTreeMap<(usize, bool), Instant>,
}

/// How much later what was lost of a stream arrives: TCP says it again.
const SAID_AGAIN: Duration = Duration::from_millis(300);

impl Default for Network {
    fn default() -> Self {
        Self {
            weather: Weather::FAIR,
            cut: BTreeSet::new(),
            faults: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }
}

impl Network {
    /// When a message between the host and that phone arrives: once, twice or never. Draws nothing in fair weather.
    pub fn arrivals(
        &mut self,
        rng: &mut ChaCha12Rng,
        phone: usize,
    ) -> impl Iterator<Item = Duration> + use<> {
        let mut arrivals = [None, None];
        if self.cut.contains(&phone) {
            self.count("cut off");
        } else if self.happens(rng, self.weather.lost) {
            self.count("lost");
        } else {
            arrivals[0] = Some(self.delay(rng));
            if self.happens(rng, self.weather.repeated) {
                self.count("repeated");
                arrivals[1] = Some(self.delay(rng));
            }
        }
        arrivals.into_iter().flatten()
    }

    /// When a message in a stream arrives: once and in order, unless the link is cut.
    pub fn arrival(
        &mut self,
        rng: &mut ChaCha12Rng,
        phone: usize,
        to_host: bool,
        now: Instant,
    ) -> Option<Duration> {
        if self.cut.contains(&phone) {
            self.count("cut off");
            return None;
        }
        let mut at = now + self.delay(rng);
        if self.happens(rng, self.weather.lost) {
            self.count("lost");
            at = at + SAID_AGAIN;
        }
        let last = self.streams.entry((phone, to_host)).or_insert(at);
        *last = at.max(*last);
        Some(*last - now)
    }

    pub fn count(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    fn happens(&self, rng: &mut ChaCha12Rng, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && rng.random_range(0..1000) < of_a_thousand
    }

    fn delay(&mut self, rng: &mut ChaCha12Rng) -> Duration {
        let Weather { delay, jitter, .. } = self.weather;
        if jitter.is_zero() {
            return delay;
        }
        // Most are on time; one in four takes its own time.
        if rng.random_range(0..4) == 0 {
            self.count("delayed");
            delay + jitter.mul_f64(rng.random_range(0.0..1.0))
        } else {
            delay
        }
    }
}
