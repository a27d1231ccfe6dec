//! What happens in a simulated deployment: steps made from a seed. A script is data, so one that fails can be cut down
//! to the steps that matter.

mod chance;
mod story;

use std::time::Duration;

use switchyard_host::pool::Ask;
use switchyard_host::sip::{Refresher, Status};

use crate::harness::{Clock, OnRing, StoreDoes, Strike, Weather};

/// The users; some have two phones.
pub const PHONES: [&str; 6] = ["alice", "bob", "carol", "dave", "alice", "carol"];
pub const USERS: usize = 4;
/// Those of them that speak TCP where some do.
pub const STREAMS: [usize; 2] = [3, 5];
/// Hosts that work together.
pub const DEPLOYMENTS: [&[(&str, &str)]; 3] = [
    &[("fe1", "east"), ("fe2", "east")],
    &[("fe1", "east"), ("fe2", "east"), ("fw1", "west")],
    &[("fe1", "east"), ("fw1", "west"), ("fe2", "east"), ("fw2", "west")],
];
/// What the policy of two pools may say of their loss; all is quick.
pub const TERMS: [&str; 4] = [
    "",
    "parked_on_outage = 'rescue', pickup_ranges = 'automatic'",
    "failover = 'automatic', pickup_ranges = 'automatic'",
    "failover = 'automatic', parked_on_outage = 'rescue'",
];
/// Users of the other pool, where there is one.
pub const WESTERNERS: [&str; 2] = ["carol", "dave"];
/// The pickup groups, and who is in which at first.
pub const GROUPS: [&str; 2] = ["*101", "*102"];
pub const MEMBERS: [(&str, &str); 3] = [
    ("bob", "pickup_group = \"*101\""),
    ("carol", "pickup_group = \"*101\""),
    ("dave", "pickup_group = \"*102\""),
];

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
    /// It has session timers, and who is to refresh.
    KeepsTime(Option<Refresher>),
    /// It describes its media while it rings.
    EarlyMedia(bool),
}

/// How a phone calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Calling {
    Offering,
    /// The callee is to make the offer.
    Asking,
    /// With reliable provisional responses (RFC 3262).
    Reliably,
}

/// What a lamp shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watched {
    User(usize),
    Orbit(u8),
    Group(u8),
    Lot,
}

/// What another program changes in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A user is in that pickup group from now on, or in none.
    Group {
        user: usize,
        group: Option<u8>,
    },
    MayPark {
        user: usize,
        may: bool,
    },
    /// A user is no more; or is there again.
    Gone {
        user: usize,
        gone: bool,
    },
    /// The range of orbits begins with that one; none: there is no range.
    Range {
        first: Option<u8>,
    },
}

/// What happens. Phones and their calls are named by place, and taken modulo what there is: a script still means
/// something when steps are left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Act {
    Call {
        from: usize,
        to: usize,
        how: Calling,
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
    AdminPickup {
        nth: usize,
        user: usize,
    },
    /// re-INVITE without an offer.
    AskForOffer {
        phone: usize,
        nth: usize,
    },
    /// UPDATE with an offer, in a call or before it is answered.
    Update {
        phone: usize,
        nth: usize,
        holds: bool,
    },
    /// Dials the number of a pickup group.
    PickInGroup {
        phone: usize,
        group: u8,
    },
    /// Dials `**` and an extension.
    PickAt {
        phone: usize,
        user: usize,
    },
    /// INVITE with the Replaces that a lamp of the phone shows.
    PickByLamp {
        phone: usize,
        nth: usize,
        early_only: bool,
    },
    Watch {
        phone: usize,
        what: Watched,
        expires_s: u32,
    },
    /// Refreshes a subscription, or ends it with 0.
    WatchAgain {
        phone: usize,
        nth: usize,
        expires_s: u32,
    },
    Message {
        phone: usize,
        to: usize,
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
    Change(Change),
    // ---- what goes wrong where hosts work together ----
    /// `kill -9` of one host, and a new start after that long.
    Die {
        host: usize,
        down: Duration,
    },
    /// A host does not reach the store; or again it does.
    Storeless {
        host: usize,
        cut: bool,
    },
    /// Two hosts do not hear each other; or again they do.
    Unlink {
        hosts: (usize, usize),
        cut: bool,
    },
    /// A phone talks to another host from now on, and registers there.
    Roam {
        phone: usize,
        host: usize,
    },
    /// A host's wall clock is wrong by so much, and goes wrong further.
    Skew {
        host: usize,
        clock: Clock,
    },
    // ---- what happens to pools that stand in for each other; 0 is the east ----
    /// An administrator wants a pool's users moved.
    Move {
        pool: usize,
        ask: Ask,
        host: usize,
    },
    /// An administrator takes a host out of service, or lets it serve again.
    Drain {
        host: usize,
        drained: bool,
    },
    /// All hosts of a pool die, and start again after that long.
    Lose {
        pool: usize,
        down: Duration,
    },
    /// All hosts of a pool that are dead start.
    Regain {
        pool: usize,
    },
    /// A site is cut off: its hosts reach each other, but neither the store nor the other pool; or again they do.
    Site {
        pool: usize,
        cut: bool,
    },
    /// Whoever writes the next but so many steps of a procedure is struck.
    Strike(Strike),
    /// What users of a pool may do now is tried, through a host.
    Probe {
        pool: usize,
        edge: usize,
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
    pub changes: bool,
    /// Hosts die.
    pub deaths: bool,
    /// Hosts lose the store, or each other.
    pub partitions: bool,
    /// Phones change hosts.
    pub roams: bool,
    /// Hosts' clocks are wrong.
    pub skew: bool,
    /// Pools are lost, as wholes, and hosts die in the middle of what they do about it.
    pub losses: bool,
}

impl Trouble {
    /// Whether nothing gets lost: then host and phones agree on every call whenever nothing is on its way.
    pub fn is_none(self) -> bool {
        let Self { weather, cuts, reboots, crashes, store, rude, deaths, partitions, losses, .. } = self;
        !(weather || cuts || reboots || crashes || store || rude || deaths || partitions || losses)
    }
}

impl Trouble {
    /// Whether phones are well, and what they say arrives: then they and the hosts agree when the hosts are well again.
    pub fn spares_phones(self) -> bool {
        let Self { weather, cuts, reboots, rude, crashes, store, .. } = self;
        !(weather || cuts || reboots || rude || crashes || store)
    }
}

/// A whole script and what kind of world it is for.
#[derive(Clone, Debug)]
pub struct Script {
    pub seed: u64,
    pub trouble: Trouble,
    /// Hosts that work together, and their pools; none: one alone.
    pub hosts: &'static [(&'static str, &'static str)],
    /// What the policy of two pools says of their loss, by place in [`TERMS`], if administrators move them.
    pub terms: Option<usize>,
    /// Some phones speak TCP.
    pub streams: bool,
    /// How long the store takes to tell a host all it has.
    pub reads: Duration,
    pub steps: Vec<Step>,
}

/// Candidate policies; one of them is wrong, which must change nothing.
pub const POLICIES: [&str; 8] = [
    "return require('default')",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', recall_ring_time = '5s' }, lamps = { names = { others = true } } }",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', max_recall_attempts = 3, orbit_choice = 'lowest', reuse_cooldown = '1s' } }",
    "return require('default'):extend { call_park = { pickup_timeout = '12s', on_timeout_uri = 'sip:dave@example.test', music_on_hold = false } }",
    "return require('default'):extend { call_park = { pickup_timeout = '10s', allow = function(request) return false end } }",
    "return require('default'):extend { group_pickup = { directed = 'everyone', pick_held = true, pick_parked = true, pick_recalling = true, notify_after = '2s' } }",
    "return require('default'):extend { group_pickup = { pickers = {}, directed = 'members', groups_max = 3 } }",
    "return require('default'):extend { call_park = { pickup_timeuot = '10s' } }",
];
