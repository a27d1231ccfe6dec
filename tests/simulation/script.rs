//! What happens in a simulated deployment: steps made from a seed. A script is data, so one that fails can be cut down
//! to the steps that matter.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use switchyard_host::sip::Status;

use crate::harness::{OnRing, StoreDoes, Weather};

/// The users; some have two phones.
pub const PHONES: [&str; 6] = ["alice", "bob", "carol", "dave", "alice", "carol"];
pub const USERS: usize = 4;

/// One thing that happens, after a pause.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    pub after: Duration,
    pub act: Act,
}

/// A number that leads to the park service. Orbits are few, so that scripts meet in them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// `park`: any orbit.
    Service,
    /// `park;orbit=…`
    ServiceFor(u8),
    /// The orbit's own number.
    Orbit(u8),
}

/// What a phone may be like. Each holds until the phone is told otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manner {
    Rings(OnRing),
    /// It answers so many re-INVITEs with that.
    RefusesReinvites(u8, Status),
    /// It never answers a re-INVITE.
    IgnoresReinvites(bool),
    /// It hangs up on the 202 to its REFER.
    HangsUpOnAccepted(bool),
    /// It has no codec the host has music in.
    Codecs(&'static str),
}

/// What happens. Phones and their calls are named by place, and taken modulo what there is: a script still means
/// something when steps are left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Act {
    Call {
        from: usize,
        to: usize,
        offer: bool,
    },
    Answer {
        phone: usize,
    },
    Refuse {
        phone: usize,
        status: Status,
    },
    Cancel {
        phone: usize,
    },
    HangUp {
        phone: usize,
        nth: usize,
    },
    Hold {
        phone: usize,
        nth: usize,
    },
    Resume {
        phone: usize,
        nth: usize,
    },
    Transfer {
        phone: usize,
        nth: usize,
        to: usize,
    },
    /// REFER with Replaces: a call is given the other end of another.
    TransferTo {
        phone: usize,
        nth: usize,
        other: usize,
    },
    /// REFER to the park service.
    Park {
        phone: usize,
        nth: usize,
        place: Place,
    },
    /// INVITE to the park service: parks the call the phone holds, or retrieves.
    Dial {
        phone: usize,
        place: Place,
    },
    /// Hold and dial, as one key does it.
    HoldAndDial {
        phone: usize,
        nth: usize,
        place: Place,
    },
    /// Dials an orbit in which a call waits, with its token or without.
    Retrieve {
        phone: usize,
        nth: usize,
        token: bool,
    },
    Unpark {
        phone: usize,
    },
    Turn {
        phone: usize,
        manner: Manner,
    },
    AdminHangUp {
        nth: usize,
    },
    AdminPark {
        nth: usize,
    },
    AdminRetrieve {
        nth: usize,
        user: usize,
    },
    /// Nothing, for a while: whoever waits has waited.
    Rest,
    // ---- what goes wrong ----
    Weather(Weather),
    /// Nothing reaches the phone, nothing comes from it; or again it does.
    Cut {
        phone: usize,
        cut: bool,
    },
    /// The phone's address is another one from now on, as when a NAT forgets; it registers again.
    Rebind {
        phone: usize,
    },
    /// Off, with all its calls; after that long it is on again and registers.
    Reboot {
        phone: usize,
        off: Duration,
    },
    Store(StoreDoes),
    /// `kill -9`, and a new start after that long.
    Crash {
        down: Duration,
    },
    /// The host's wall clock jumps.
    Clock {
        ms: i64,
    },
    Policy(usize),
    Reload {
        plugin: usize,
    },
}

/// Which kinds of trouble a seed has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trouble {
    pub rude: bool,
    pub weather: bool,
    pub cuts: bool,
    pub reboots: bool,
    pub store: bool,
    pub crashes: bool,
    pub clock: bool,
    pub edits: bool,
    pub admin: bool,
}

impl Trouble {
    /// Whether nothing gets lost: then host and phones agree on every call whenever nothing is on its way.
    pub fn is_none(self) -> bool {
        !(self.weather || self.cuts || self.reboots || self.crashes || self.store || self.rude)
    }
}

/// A whole script and what kind of world it is for.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub trouble: Trouble,
    pub steps: Vec<Step>,
}

impl Script {
    /// The script of a seed, with so many steps.
    pub fn of(seed: u64, steps: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // A third of all seeds has no trouble but what people do; the others have some kinds each.
        let troubled = !seed.is_multiple_of(3);
        let mut some = || troubled && rng.random_range(0..3) == 0;
        let trouble = Trouble {
            rude: some(),
            weather: some(),
            cuts: some(),
            reboots: some(),
            store: some(),
            crashes: some(),
            clock: some(),
            edits: some(),
            admin: some(),
        };
        let steps =
            (0..steps).map(|_| Step { after: pause(&mut rng), act: act(&mut rng, trouble) }).collect();
        Self { seed, trouble, steps }
    }
}

/// Most things happen while others are under way; some after everything has come to rest.
fn pause(rng: &mut ChaCha12Rng) -> Duration {
    let ms = match rng.random_range(0..10) {
        0 => 0,
        1..=3 => rng.random_range(0..60),
        4..=7 => rng.random_range(60..2_500),
        _ => rng.random_range(2_500..9_000),
    };
    Duration::from_millis(ms)
}

fn act(rng: &mut ChaCha12Rng, trouble: Trouble) -> Act {
    if let Some(act) = fault(rng, trouble) {
        return act;
    }
    let phone = rng.random_range(0..PHONES.len());
    let nth = rng.random_range(0..3);
    let other = nth + 1;
    let to = rng.random_range(0..USERS);
    match rng.random_range(0..100) {
        0..28 => Act::Call { from: phone, to, offer: rng.random_range(0..10) > 0 },
        28..36 => Act::Answer { phone },
        36..38 => {
            Act::Refuse { phone, status: *[Status::BUSY_HERE, Status(603), Status(480)].choose(rng).unwrap() }
        }
        38..41 => Act::Cancel { phone },
        41..51 => Act::HangUp { phone, nth },
        51..54 => Act::Hold { phone, nth },
        54..57 => Act::Resume { phone, nth },
        57..61 => Act::Transfer { phone, nth, to },
        61..64 => Act::TransferTo { phone, nth, other },
        64..76 => Act::Park { phone, nth, place: place(rng) },
        76..78 => Act::Dial { phone, place: place(rng) },
        78..83 => Act::HoldAndDial { phone, nth, place: place(rng) },
        83..92 => Act::Retrieve { phone, nth, token: rng.random_range(0..3) == 0 },
        92..94 => Act::Unpark { phone },
        94..97 => Act::Turn { phone, manner: Manner::Rings(on_ring(rng)) },
        _ => Act::Rest,
    }
}

fn place(rng: &mut ChaCha12Rng) -> Place {
    let orbit = rng.random_range(0..4);
    match rng.random_range(0..4) {
        0 | 1 => Place::Service,
        2 => Place::ServiceFor(orbit),
        _ => Place::Orbit(orbit),
    }
}

fn on_ring(rng: &mut ChaCha12Rng) -> OnRing {
    match rng.random_range(0..8) {
        0 => OnRing::Ring,
        1 => OnRing::Refuse(Status::BUSY_HERE),
        2 => OnRing::Ignore,
        _ => OnRing::AnswerAfter(Duration::from_millis(rng.random_range(0..6_000))),
    }
}

/// Something that goes wrong, one step in six.
fn fault(rng: &mut ChaCha12Rng, trouble: Trouble) -> Option<Act> {
    let kinds: Vec<u8> = [
        trouble.rude,
        trouble.weather,
        trouble.cuts,
        trouble.reboots,
        trouble.store,
        trouble.crashes,
        trouble.clock,
        trouble.edits,
        trouble.admin,
    ]
    .iter()
    .zip(0..)
    .filter_map(|(has, kind)| has.then_some(kind))
    .collect();
    if kinds.is_empty() || rng.random_range(0..6) > 0 {
        return None;
    }
    let phone = rng.random_range(0..PHONES.len());
    let nth = rng.random_range(0..3);
    Some(match kinds.choose(rng)? {
        0 => Act::Turn { phone, manner: rude(rng) },
        1 => Act::Weather(weather(rng)),
        2 if rng.random_range(0..3) == 0 => Act::Rebind { phone },
        2 => Act::Cut { phone, cut: rng.random_range(0..2) == 0 },
        3 => Act::Reboot { phone, off: Duration::from_millis(rng.random_range(0..40_000)) },
        4 => Act::Store(store(rng)),
        5 => Act::Crash { down: Duration::from_millis(rng.random_range(0..20_000)) },
        6 => Act::Clock { ms: rng.random_range(-3_600_000..3_600_000) / 1000 * rng.random_range(1..1000) },
        7 if rng.random_range(0..2) == 0 => Act::Reload { plugin: nth },
        7 => Act::Policy(rng.random_range(0..POLICIES.len())),
        _ => match rng.random_range(0..3) {
            0 => Act::AdminHangUp { nth },
            1 => Act::AdminPark { nth },
            _ => Act::AdminRetrieve { nth, user: rng.random_range(0..USERS) },
        },
    })
}

fn rude(rng: &mut ChaCha12Rng) -> Manner {
    match rng.random_range(0..8) {
        0 => Manner::RefusesReinvites(rng.random_range(1..4), Status::REQUEST_PENDING),
        1 => Manner::RefusesReinvites(rng.random_range(1..3), Status::NOT_ACCEPTABLE_HERE),
        2 => Manner::RefusesReinvites(1, Status::SERVER_INTERNAL_ERROR),
        3 => Manner::IgnoresReinvites(rng.random_range(0..2) == 0),
        4 | 5 => Manner::HangsUpOnAccepted(rng.random_range(0..3) > 0),
        6 => Manner::Codecs(["0 8 101", "18", "9 18 101"].choose(rng).copied().unwrap_or("0")),
        _ => Manner::Rings(on_ring(rng)),
    }
}

fn weather(rng: &mut ChaCha12Rng) -> Weather {
    let ms = Duration::from_millis;
    match rng.random_range(0..5) {
        0 => Weather::FAIR,
        1 => Weather::losing(rng.random_range(10..400)),
        2 => Weather { jitter: ms(rng.random_range(10..1_000)), ..Weather::FAIR },
        3 => Weather { repeated: rng.random_range(10..500), jitter: ms(200), ..Weather::FAIR },
        _ => Weather {
            delay: ms(rng.random_range(1..700)),
            jitter: ms(rng.random_range(1..700)),
            lost: rng.random_range(0..200),
            repeated: rng.random_range(0..200),
        },
    }
}

fn store(rng: &mut ChaCha12Rng) -> StoreDoes {
    match rng.random_range(0..7) {
        0 => StoreDoes::Refuse,
        1 => StoreDoes::LoseAnswer,
        2 => StoreDoes::Hang,
        3 => StoreDoes::Write(Duration::from_millis(rng.random_range(10..8_000))),
        _ => StoreDoes::WELL,
    }
}

/// Candidate policies; one of them is wrong, which must change nothing.
pub const POLICIES: [&str; 6] = [
    "return require('default')",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', recall_ring_time = '5s' } }",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', max_recall_attempts = 3, orbit_choice = 'lowest', reuse_cooldown = '1s' } }",
    "return require('default'):extend { call_park = { pickup_timeout = '12s', on_timeout_uri = 'sip:dave@example.test', music_on_hold = false } }",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', allow = function(request) return false end } }",
    "return require('default'):extend { call_park = { pickup_timeuot = '10s' } }",
];
