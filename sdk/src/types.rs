//! The words that cross the plugin boundary: opaque numbers and plain JSON values.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A wall-clock moment: milliseconds since 1970-01-01T00:00:00Z. What deadlines and records are written in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Utc(pub u64);

impl Utc {
    /// Milliseconds since 1970, as the `_ms` fields of records hold them.
    pub const fn ms(self) -> u64 {
        self.0
    }
}

impl Add<Duration> for Utc {
    type Output = Utc;
    fn add(self, delay: Duration) -> Utc {
        Utc(self.0.saturating_add(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Time from the right to the left; zero if the left is earlier.
impl Sub for Utc {
    type Output = Duration;
    fn sub(self, earlier: Utc) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A leg: one dialog of the host with one phone or trunk. Valid until the leg ends; never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LegId(pub u64);

/// A flow: one piece of work of one plugin, started by an offer or by a record. Chosen by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlowId(pub u64);

/// Names one awaited answer: generation in the upper, slot in the lower 32 bits. Chosen by the plugin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

/// Who someone is, as far as the host knows.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// The registered user's name, if this is one of ours: `alice`.
    pub user: Option<String>,
    /// Their address of record or the URI they called from: `sip:alice@example.test`.
    pub uri: String,
    /// Their name as shown on phones.
    pub display: Option<String>,
    /// Their extension: `1001`.
    pub extension: Option<String>,
    /// The pool a user of ours is at home in.
    pub pool: Option<String>,
    /// Whether this user may park calls (POL-01). False for anyone who is not a user of ours.
    pub may_park: bool,
    /// Whether this user may retrieve parked calls. False for anyone who is not a user of ours.
    pub may_retrieve: bool,
    /// The pickup group's number, if the user has one.
    pub pickup_group: Option<String>,
    /// Further pickup groups, for policies that allow more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further_pickup_groups: Vec<String>,
    /// True when the party is reached through a trunk or was not authenticated.
    pub outside: bool,
    /// Which phone of that user: an opaque name that [`crate::ext::call::Target::device`] understands.
    pub device: Option<String>,
}

impl Party {
    /// The numbers of all the user's pickup groups, the main one first.
    pub fn pickup_groups(&self) -> impl Iterator<Item = &str> {
        self.pickup_group.iter().chain(&self.further_pickup_groups).map(String::as_str)
    }

    /// What to show a person: display name, else extension, else user, else the URI.
    pub fn label(&self) -> &str {
        self.display
            .as_deref()
            .filter(|name| !name.is_empty())
            .or(self.extension.as_deref())
            .or(self.user.as_deref())
            .unwrap_or(&self.uri)
    }
}

/// How a request reached the plugin. There will be more: a plugin refuses what it does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum How {
    /// A blind transfer (REFER within the call), or a REFER to the service whose Refer-To carries Replaces
    /// (RFC 5359 §2.15): `far` is to be parked, `near` is the leg of who asks.
    Refer,
    /// An INVITE to a number of the plugin's kind or to one of its service names. `leg` waits for its answer.
    Dial,
    /// An INVITE with Replaces naming the dialog of a call that waits in `number` (RFC 3891).
    Replaces,
    /// Asked for through the administrative interface; there may be no `leg`.
    Admin,
    /// Nobody asks: a call has begun to ring at a user whose pickup group is `number`. `ringing` says which. Only
    /// for plugins that declare the extension `switchyard.ringing/1`.
    Ringing,
}

/// A leg and who is at its other end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FarLeg {
    /// The leg.
    pub leg: LegId,
    /// Who is there.
    pub party: Party,
}

/// A call that somebody wants the plugin to handle. Starts a flow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// How it was asked.
    pub how: How,
    /// The service name (`park`, `unpark`) or prefix (`**`) that was addressed, if one was.
    pub service: Option<String>,
    /// The number that was addressed, the `orbit=` parameter of the service URI, or what follows the prefix.
    pub number: Option<String>,
    /// The `token=` parameter, if there was one.
    pub token: Option<String>,
    /// Why `number` cannot hold a call of this kind, if it cannot (not in any range of the kind).
    pub number_error: Option<String>,
    /// The pool whose terms hold: the owner of the number's range, else the asking user's pool.
    pub pool: String,
    /// The leg that waits for an answer, for [`How::Dial`] and [`How::Replaces`].
    pub leg: Option<LegId>,
    /// Who asks.
    pub caller: Party,
    /// The asking party's own leg in the call to be parked.
    pub near: Option<LegId>,
    /// The call that could be parked: for [`How::Refer`] the far end of the transferred call, for [`How::Dial`]
    /// the far end of the call the same phone holds.
    pub far: Option<FarLeg>,
    /// Whether a call waits in `number` now. It may be gone a moment later: only a claim decides.
    pub occupied: bool,
    /// The ringing call: that of [`How::Ringing`], the one whose dialog is named by [`How::Replaces`], or the one chosen
    /// by [`How::Admin`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ringing: Option<crate::ext::ringing::WaitingCall>,
    /// The Call-ID of the request, for logs.
    pub call_id: String,
}

impl Offer {
    /// An offer of somebody unknown who dialled the service `name`, in pool `""`: a start for tests, to be
    /// completed with `Offer { leg: Some(leg), ..Offer::dialled("park") }`.
    pub fn dialled(name: &str) -> Self {
        Self {
            how: How::Dial,
            service: Some(name.to_owned()),
            number: None,
            token: None,
            number_error: None,
            pool: String::new(),
            leg: None,
            caller: Party::default(),
            near: None,
            far: None,
            occupied: false,
            ringing: None,
            call_id: String::new(),
        }
    }
}

/// Reason codes: the 350xx list of the reference, ours from 35100 on. Each has one SIP status, chosen by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u16);

impl Code {
    /// No call waits in that orbit: 404.
    pub const VACANT: Code = Code(35000);
    /// Something failed that has no code of its own: 500.
    pub const GENERAL: Code = Code(35001);
    /// Every orbit is taken: 480.
    pub const FULL: Code = Code(35002);
    /// Asked from outside the deployment: 403.
    pub const OUTSIDE: Code = Code(35003);
    /// Parking took too long: 504.
    pub const PARK_TIMEOUT: Code = Code(35004);
    /// The call is parked already: 486.
    pub const DOUBLE_PARK: Code = Code(35006);
    /// The call waiting there is not the one the token names: 404.
    pub const WRONG_TOKEN: Code = Code(35010);
    /// The host is draining: 503 with Retry-After.
    pub const DRAINING: Code = Code(35012);
    /// There is nothing to park: 480.
    pub const NOTHING_TO_PARK: Code = Code(35016);
    /// The parked call could not be connected: 480.
    pub const RETRIEVE_FAILED: Code = Code(35017);
    /// Someone else was faster; the text says who: 486.
    pub const LOST_CLAIM: Code = Code(35101);
    /// A call waits in that orbit already: 486.
    pub const OCCUPIED: Code = Code(35102);
    /// This user may not do that: 403.
    pub const NOT_ALLOWED: Code = Code(35103);
    /// The host lost its lease: 503 with Retry-After.
    pub const FENCED: Code = Code(35104);
    /// The store is away: 503 with Retry-After.
    pub const STORE_AWAY: Code = Code(35105);
    /// No codec or transport in common: 488.
    pub const NOT_ACCEPTABLE: Code = Code(35106);
    /// The leg ended before the command was done: 487.
    pub const LEG_GONE: Code = Code(35107);
    /// The command was withdrawn by whoever gave it: 487.
    pub const WITHDRAWN: Code = Code(35108);
    /// Nothing rings there: 404.
    pub const NOTHING_RINGS: Code = Code(35109);
    /// The user, or the callee, is in resiliency mode: 480.
    pub const RESILIENCY: Code = Code(35110);
    /// The pool is out of service: 503 with Retry-After.
    pub const POOL_OUT: Code = Code(35111);
    /// A pool is not in the phase, or the hosts are not there, for what an administrator wants: nothing SIP says.
    pub const POOL_PHASE: Code = Code(35112);
    /// Hosts of one pool have different policy files: nothing SIP says.
    pub const POLICY_SKEW: Code = Code(35113);
}

/// A refusal: what happened, in the field's codes and in words for a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {text}", code = code.0)]
pub struct Refusal {
    /// The reason code.
    pub code: Code,
    /// One sentence, without the code: `taken by Ana`.
    pub text: String,
}

impl Refusal {
    /// A refusal with a code and a sentence.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}
