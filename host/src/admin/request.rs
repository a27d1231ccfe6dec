//! What the administrative interface may ask of the engine.

use serde::{Deserialize, Serialize};

use crate::config::Secret;
use crate::pool::Ask;

/// One request. The answer is JSON, the shape of which stands at each variant.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// All calls: `[{id, state, since, legs: [{id, user, uri, call_id, state, way, held}], …}]`.
    Calls,
    /// Ends a call. Answer: `{}`.
    Hangup {
        /// The call's id as listed.
        call: u64,
    },
    /// Parks the far end of a call. Answer: `{number, token}`.
    Park {
        /// The call's id as listed.
        call: u64,
        /// Whose parking it is, a user of one of the legs.
        parker: String,
        /// A certain orbit, or any.
        number: Option<String>,
    },
    /// Rings a user's phone and connects it with a parked call. Answer: `{leg}`.
    Retrieve {
        /// The orbit.
        number: String,
        /// Whose phone.
        user: String,
        /// The parked call's token, if the asker has it.
        token: Option<String>,
    },
    /// The calls that ring at users, the longest first: `[{call, caller, callee, user, groups, since}]`.
    Ringing {
        /// Only those of this pickup group.
        group: Option<String>,
    },
    /// Rings a user's phones for a call that rings at somebody else. Answer, when one of them has it: `{}`.
    Pickup {
        /// The call's id as listed.
        call: u64,
        /// Who is to have it.
        user: String,
        /// The group through which it is picked up; without it as at one phone.
        group: Option<String>,
    },
    /// All ranges: `[{name, from, to, kind, pool, size, occupied}]`.
    Ranges,
    /// Adds a range or changes one. Answer: the range.
    PutRange(RangeSpec),
    /// Removes a range. Answer: `{}`.
    RemoveRange {
        /// Its name.
        name: String,
        /// Even while calls wait in it.
        force: bool,
    },
    /// Every call in an orbit: `[{number, range, state, parked, parker, since, deadline, recalls,
    /// recalls_max, ringing, token}]`.
    Occupants,
    /// All users with their bindings: `[{name, extension, display, pool, may_park, …, bindings: [{contact, flow, expires}]}]`.
    Users,
    /// Adds a user. Answer: the user.
    #[serde(skip)]
    AddUser {
        /// Its name, for good.
        name: String,
        /// Its pool; without it the host's own.
        pool: Option<String>,
        /// What it proves to be itself with.
        password: Secret,
        /// All else, as in [`SetUser`](Self::SetUser).
        change: serde_json::Map<String, serde_json::Value>,
    },
    /// Removes a user and its registrations; its calls go on. Answer: `{}`.
    RemoveUser {
        /// Its name.
        name: String,
    },
    /// Changes a user. Answer: the user.
    #[serde(skip)]
    SetUser {
        /// Its name.
        name: String,
        /// Fields to change, as in the configuration: `may_park`, `pickup_group` (null: none; or a list),
        /// `extension`, `display`, and those of [`CallRules`](crate::directory::CallRules).
        change: serde_json::Map<String, serde_json::Value>,
        /// A new password, if there is one.
        password: Option<Secret>,
    },
    /// All pools: `[{name, fqdn, backup, phase, since, epoch, served_by, serving, hosts: [{name, drained}], parked, journal,
    /// moved, replaced_by, last_served_by, upcoming: {what, at}}]`.
    Pools,
    /// Begins a failover or failback. Answer: `{pool, procedure, dry_run, steps: [{name, does}]}`.
    MovePool {
        /// The pool whose users are moved: always their home (RES-26).
        pool: String,
        /// Which way.
        ask: Ask,
        /// Who asks.
        by: String,
        /// Only tell.
        dry_run: bool,
    },
    /// Takes a host out of service, or lets it serve again. Answer: `{host, drained}`.
    DrainHost {
        /// Its name.
        host: String,
        /// Out, or back.
        drained: bool,
        /// Who asks.
        by: String,
    },
    /// Begins to put another pool in the place of one that is gone. Answer: `{pool, procedure, to, dry_run, steps: [{name,
    /// does}], ranges, users, left_to_do: [text]}`.
    ReassignPool {
        /// The pool that is gone.
        pool: String,
        /// The one in its place.
        to: String,
        /// Its users, too.
        users: bool,
        /// Who asks.
        by: String,
        /// Only tell.
        dry_run: bool,
    },
    /// The running policies: `{revision, hash, pools: [{pool, file}], last_error}`.
    PolicyStatus,
    /// The loaded plugins: `[{name, version, description, kinds, services, state, flows, failures, file}]`.
    Plugins,
    /// Puts the newest file of a plugin in the place of the running one. Answer: the plugin.
    ReloadPlugin {
        /// Its name.
        name: String,
    },
    /// Counters for `/metrics` and for who waits until all has ended: `{ready, draining, calls, occupants,
    /// orbit_leaks, registrations, counts: {legs, flows, timers, …}, policy: {revision, counters}, sip: {received, malformed, …}}`.
    Status,
}

/// A range as the outside gives it: `name`, `from`, `to`, `kind`, `pool`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeSpec {
    /// Unique and fixed (ORB-06, ORB-07).
    pub name: String,
    /// First number.
    pub from: String,
    /// Last number.
    pub to: String,
    /// The kind: `call-park`, `group-pickup`, or a third party's.
    pub kind: String,
    /// The owning pool.
    pub pool: String,
}

/// Why the engine did not do it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Refused {
    /// The HTTP status that fits: 400, 403, 404, 409, 503.
    pub status: u16,
    /// The reason code, if there is one (350xx).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// One or more sentences.
    pub text: String,
}
