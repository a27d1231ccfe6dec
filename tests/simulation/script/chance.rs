//! Scripts of chance: what a seed's steps are.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use switchyard_host::sip::{Refresher, Status};

use super::*;
use crate::harness::Moment;

/// How long it takes otherwise.
const READS: Duration = Duration::from_millis(1);

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
            changes: some(),
            ..Trouble::default()
        };
        let streams = rng.random_range(0..3) == 0;
        let steps = (0..steps)
            .map(|_| Step { after: pause(&mut rng), act: act_of_phones(&mut rng, trouble) })
            .collect();
        Self { seed, trouble, hosts: &[], terms: None, streams, reads: READS, steps }
    }

    /// The script of a seed for hosts that work together.
    pub fn together(seed: u64, steps: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 1);
        let troubled = !seed.is_multiple_of(3);
        let mut some = || troubled && rng.random_range(0..3) == 0;
        let trouble = Trouble {
            rude: some(),
            weather: some(),
            cuts: some(),
            reboots: some(),
            edits: some(),
            deaths: some(),
            partitions: some(),
            roams: some(),
            skew: some(),
            ..Trouble::default()
        };
        // The largest has most to go wrong.
        let hosts = DEPLOYMENTS[[0, 1, 2, 2, 2, 2][rng.random_range(0..6)]];
        let pair = hosts.len() == DEPLOYMENTS[DEPLOYMENTS.len() - 1].len() && rng.random_range(0..4) > 0;
        let terms = pair.then(|| rng.random_range(0..TERMS.len()));
        let losses = pair && troubled && rng.random_range(0..3) > 0;
        let trouble = Trouble { losses, ..trouble };
        // Where a story is told, little else comes between its acts.
        let told = pair && rng.random_range(0..4) > 0;
        let one_in = if told { 30 } else { 6 };
        let mut steps: Vec<Step> = (0..steps)
            .map(|_| {
                let act = pair.then(|| of_pools(&mut rng, trouble, hosts.len(), one_in)).flatten();
                let act = act.or_else(|| far_fault(&mut rng, trouble, hosts.len()));
                let act = act.unwrap_or_else(|| act_of_phones(&mut rng, trouble));
                Step { after: pause(&mut rng), act }
            })
            .collect();
        if told {
            story::tell(&mut rng, trouble, &mut steps);
        }
        // Much can happen while all that is stored is read.
        let slow = troubled && rng.random_range(0..3) == 0;
        let reads = if slow { Duration::from_millis(rng.random_range(10..3_000)) } else { READS };
        Self { seed, trouble, hosts, terms, streams: false, reads, steps }
    }
}

/// What is done to pools and what is done about it, in one step of so many.
fn of_pools(rng: &mut ChaCha12Rng, trouble: Trouble, hosts: usize, one_in: u32) -> Option<Act> {
    if rng.random_range(0..one_in) > 0 {
        return None;
    }
    let (pool, host) = (rng.random_range(0..2), rng.random_range(0..hosts));
    Some(match rng.random_range(0..14) {
        // The west is moved less often: while it is away, the east cannot be.
        0..3 => Act::Move { pool: pool & rng.random_range(0..2), ask: Ask::Failover, host },
        3..6 => {
            let disaster = rng.random_range(0..3) == 0;
            Act::Move { pool, ask: Ask::Failback { disaster }, host }
        }
        6 => Act::Drain { host, drained: rng.random_range(0..2) == 0 },
        7..9 if trouble.losses => {
            Act::Lose { pool, down: Duration::from_millis(rng.random_range(0..50_000)) }
        }
        9 if trouble.partitions => Act::Site { pool, cut: rng.random_range(0..2) == 0 },
        10 if trouble.losses => Act::Strike(strike(rng)),
        11.. => Act::Probe { pool, edge: host },
        _ => return None,
    })
}

pub(super) fn strike(rng: &mut ChaCha12Rng) -> Strike {
    let down = (rng.random_range(0..3) > 0).then(|| Duration::from_millis(rng.random_range(0..20_000)));
    Strike { skip: rng.random_range(0..6), moment: *Moment::ALL.choose(rng).unwrap(), down }
}

/// What goes wrong between hosts, one step in eight.
fn far_fault(rng: &mut ChaCha12Rng, trouble: Trouble, hosts: usize) -> Option<Act> {
    if rng.random_range(0..8) > 0 {
        return None;
    }
    let (host, other) = (rng.random_range(0..hosts), rng.random_range(0..hosts));
    let cut = rng.random_range(0..2) == 0;
    match rng.random_range(0..5) {
        0 if trouble.deaths => {
            Some(Act::Die { host, down: Duration::from_millis(rng.random_range(0..40_000)) })
        }
        1 if trouble.partitions => Some(Act::Storeless { host, cut }),
        2 if trouble.partitions && host != other => Some(Act::Unlink { hosts: (host, other), cut }),
        4 if trouble.skew => {
            let ahead_ms = rng.random_range(-8_000..8_000);
            Some(Act::Skew { host, clock: Clock { ahead_ms, drift_ppm: rng.random_range(-2_000..2_000) } })
        }
        3 if trouble.roams => Some(Act::Roam { phone: rng.random_range(0..PHONES.len()), host }),
        _ => None,
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

fn act_of_phones(rng: &mut ChaCha12Rng, trouble: Trouble) -> Act {
    if let Some(act) = fault(rng, trouble) {
        return act;
    }
    let phone = rng.random_range(0..PHONES.len());
    let nth = rng.random_range(0..3);
    let other = nth + 1;
    let to = rng.random_range(0..USERS);
    match rng.random_range(0..120) {
        0..28 => Act::Call { from: phone, to, how: calling(rng) },
        28..36 => Act::Answer { phone },
        36..38 => {
            Act::Refuse { phone, status: *[Status::BUSY_HERE, Status(603), Status(480)].choose(rng).unwrap() }
        }
        38..41 => Act::Cancel { phone },
        41..51 => Act::HangUp { phone, nth },
        51..54 => Act::Hold { phone, nth },
        54..56 => Act::Resume { phone, nth },
        56..57 => Act::AskForOffer { phone, nth },
        57..61 => Act::Transfer { phone, nth, to },
        61..64 => Act::TransferTo { phone, nth, other },
        64..76 => Act::Park { phone, nth, place: place(rng) },
        76..78 => Act::Dial { phone, place: place(rng) },
        78..83 => Act::HoldAndDial { phone, nth, place: place(rng) },
        83..92 => Act::Retrieve { phone, nth, token: rng.random_range(0..3) == 0 },
        92..94 => Act::Unpark { phone },
        94..97 => Act::Turn { phone, manner: Manner::Rings(on_ring(rng)) },
        97..99 => Act::Turn { phone, manner: able(rng) },
        99..102 => Act::Update { phone, nth, holds: rng.random_range(0..2) == 0 },
        102..105 => Act::PickInGroup { phone, group: rng.random_range(0..2) },
        105..107 => Act::PickAt { phone, user: to },
        107..109 => Act::PickByLamp { phone, nth, early_only: rng.random_range(0..2) == 0 },
        109..114 => {
            Act::Watch { phone, what: watched(rng), expires_s: *[60, 300, 3_600].choose(rng).unwrap() }
        }
        114..116 => Act::WatchAgain { phone, nth, expires_s: *[0, 60, 600].choose(rng).unwrap() },
        116..117 => Act::Message { phone, to },
        _ => Act::Rest,
    }
}

fn calling(rng: &mut ChaCha12Rng) -> Calling {
    match rng.random_range(0..10) {
        0 => Calling::Asking,
        1 | 2 => Calling::Reliably,
        _ => Calling::Offering,
    }
}

fn watched(rng: &mut ChaCha12Rng) -> Watched {
    match rng.random_range(0..6) {
        0 => Watched::Orbit(rng.random_range(0..4)),
        1 => Watched::Lot,
        2 => Watched::Group(rng.random_range(0..2)),
        _ => Watched::User(rng.random_range(0..USERS)),
    }
}

/// What some phones can do and others cannot; none of it is rude.
fn able(rng: &mut ChaCha12Rng) -> Manner {
    match rng.random_range(0..5) {
        0 => Manner::KeepsTime(Some(Refresher::Uac)),
        1 => Manner::KeepsTime(Some(Refresher::Uas)),
        2 => Manner::KeepsTime(None),
        3 => Manner::EarlyMedia(true),
        _ => Manner::EarlyMedia(false),
    }
}

fn change(rng: &mut ChaCha12Rng) -> Change {
    let user = rng.random_range(0..USERS);
    match rng.random_range(0..6) {
        0 | 1 => Change::Group { user, group: [None, Some(0), Some(1)].choose(rng).copied().flatten() },
        2 => Change::MayPark { user, may: rng.random_range(0..3) > 0 },
        3 | 4 => Change::Gone { user, gone: rng.random_range(0..3) == 0 },
        _ => Change::Range { first: [None, Some(0), Some(2)].choose(rng).copied().flatten() },
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
        trouble.changes,
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
        9 => Act::Change(change(rng)),
        _ => match rng.random_range(0..4) {
            0 => Act::AdminHangUp { nth },
            1 => Act::AdminPark { nth },
            2 => Act::AdminPickup { nth, user: rng.random_range(0..USERS) },
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
