//! In a cluster: what the administrative interface asks of this host and others know.
//!
//! Lists are gathered from all hosts; what is about one call or orbit, or about users one host is to pass on, goes to the host that has it. A host that does not
//! answer in time is left out of a list, with an event that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::timers::Timer;
use super::{AdminId, Engine, Output};
use crate::admin::{Refused, Request};
use crate::cluster::{Code, Frame};
use crate::net::HostName;
use crate::pool::Ask;

/// How long others may take to say what they have.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is handed on and not answered yet; beyond that the oldest is given up. Whoever asked waits a minute at most.
const HANDED_ON_MAX: usize = 1_024;
/// A list is told in parts of about so many bytes: a frame has a limit, and calls go the same way.
const PART: usize = 128 * 1024;
/// Requests on behalf of other hosts have ids from here on.
const FOREIGN: u64 = 1 << 63;

/// Questions under way between hosts.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// What others ask of us: the request here to who asked and under which id.
    from_others: BTreeMap<AdminId, (HostName, u64)>,
    /// What is being gathered from others.
    gathering: BTreeMap<AdminId, Gathering>,
    /// What was handed to another host as a whole, by our id for it.
    handed_on: BTreeMap<u64, (AdminId, HostName)>,
}

#[derive(Debug)]
struct Gathering {
    what: Request,
    rows: Vec<Value>,
    missing: BTreeMap<u64, HostName>,
}

impl Engine {
    /// Asks other hosts, where they know more. True: the answer comes later.
    pub(super) fn ask_elsewhere(&mut self, request: AdminId, what: &Request) -> bool {
        if self.cluster.is_none() || request.0 >= FOREIGN {
            return false;
        }
        if let Some(host) = self.host_concerned(what) {
            let id = self.core.fresh_id();
            let mut over = None;
            if let Some(cluster) = &mut self.cluster {
                let handed_on = &mut cluster.elsewhere.handed_on;
                over = handed_on.keys().next().copied().filter(|_| handed_on.len() >= HANDED_ON_MAX);
                handed_on.insert(id, (request, host));
            }
            if let Some(oldest) = over {
                let text = "too much is asked of other hosts".to_owned();
                self.answered_elsewhere(oldest, Err(Refused { status: 503, code: None, text }), false);
            }
            self.link(host, Frame::Question { id, what: what.clone() });
            return true;
        }
        let Some(rows) = self.own_rows(what) else { return false };
        let Some(cluster) = &self.cluster else { return false };
        let own = cluster.seats.own();
        let others: Vec<HostName> =
            cluster.seats.hosts().map(|(name, _)| name).filter(|name| *name != own).collect();
        let missing: BTreeMap<u64, HostName> =
            others.into_iter().map(|host| (self.core.fresh_id(), host)).collect();
        let asked: Vec<(u64, HostName)> = missing.iter().map(|(id, host)| (*id, *host)).collect();
        let gathering = Gathering { what: what.clone(), rows, missing };
        if let Some(cluster) = &mut self.cluster {
            cluster.elsewhere.gathering.insert(request, gathering);
        }
        self.core.after(Timer::Gather(request), PATIENCE);
        for (id, host) in asked {
            self.link(host, Frame::Question { id, what: what.clone() });
        }
        self.gathered(request, false);
        true
    }

    /// The rows of a list that every host has a part of.
    fn own_rows(&self, what: &Request) -> Option<Vec<Value>> {
        let own = self.own_name()?;
        let rows = match what {
            Request::Calls => self.list_calls(),
            Request::Ringing { group } => self.list_ringing(group.as_deref()),
            Request::Occupants => self.list_occupants(),
            Request::Users => self.list_users(),
            _ => return None,
        };
        let Value::Array(mut rows) = rows else { return None };
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            let pool = row.get("pool").and_then(Value::as_str);
            // Who has nobody to serve knows of no phones.
            if pool.is_none_or(|pool| self.serves(pool)) {
                row.insert("host".to_owned(), json!(own));
            }
        }
        Some(rows)
    }

    /// The other host that has the call or orbit, or the users, a request is about.
    fn host_concerned(&self, what: &Request) -> Option<HostName> {
        let cluster = self.cluster.as_ref()?;
        let host = match what {
            Request::Hangup { call } | Request::Park { call, .. } | Request::Pickup { call, .. } => {
                cluster.seats.by_code(Code::of_id(*call)?)
            }
            Request::Retrieve { number, .. } => {
                let pool = self.orbits.ranges().find(number)?.pool();
                (!self.serves(pool)).then(|| cluster.seats.holder(pool)).flatten()
            }
            // Who passes users on knows whom it reaches. Who is itself out of reach is drained all the same.
            Request::DrainHost { host, drained: true, .. } => HostName::new(host)
                .filter(|host| cluster.seats.lives(*host) && cluster.seats.trouble(*host).is_none()),
            Request::MovePool { pool, ask: Ask::Failback { disaster: false }, .. } => {
                cluster.seats.holder(pool)
            }
            // The same; but one that is out of reach since a moment ago may have just died.
            Request::MovePool { pool, ask: Ask::Failover, .. } | Request::ReassignPool { pool, .. } => {
                let trouble = |host| cluster.seats.trouble(host);
                cluster.seats.holder(pool).filter(|host| trouble(*host).is_none_or(|trouble| trouble.lasts))
            }
            _ => None,
        };
        host.filter(|host| *host != cluster.seats.own())
    }

    /// Another host asks.
    pub(super) fn questioned(&mut self, from: HostName, id: u64, what: Request) {
        let request = AdminId(FOREIGN | self.core.fresh_id());
        if let Some(cluster) = &mut self.cluster {
            cluster.elsewhere.from_others.insert(request, (from, id));
        }
        match self.own_rows(&what) {
            Some(mut rows) => {
                // Of others' users this host knows no more than whoever asks.
                if matches!(what, Request::Users) {
                    rows.retain(|row| row.get("host").is_some());
                }
                self.core.emit(Output::Admin { request, answer: Ok(Value::Array(rows)) });
            }
            None => self.administer(request, what),
        }
    }

    /// Where an answer goes that somebody else asked for.
    pub(super) fn answer_for_other(
        &mut self,
        request: AdminId,
        answer: Result<Value, Refused>,
    ) -> Option<Output> {
        let asked = self.cluster.as_mut().and_then(|cluster| cluster.elsewhere.from_others.remove(&request));
        let Some((to, id)) = asked else { return Some(Output::Admin { request, answer }) };
        let at = self.cluster.as_ref()?.seats.link_of(to)?;
        let said = |answer, more| Output::Link { to, at, frame: Frame::Answer { id, answer, more } };
        let answer = match answer {
            Ok(Value::Array(rows)) => rows,
            other => return Some(said(other, false)),
        };
        let mut parts = in_parts(answer).into_iter().peekable();
        let first = parts.next().unwrap_or_default();
        let first = said(Ok(Value::Array(first)), parts.peek().is_some());
        while let Some(part) = parts.next() {
            self.core.emit(said(Ok(Value::Array(part)), parts.peek().is_some()));
        }
        Some(first)
    }

    /// Another host has answered, perhaps with `more` to come, or could not be asked.
    pub(super) fn answered_elsewhere(&mut self, id: u64, answer: Result<Value, Refused>, more: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Some((request, _)) = cluster.elsewhere.handed_on.remove(&id) {
            self.core.emit(Output::Admin { request, answer });
            return;
        }
        let gathering =
            cluster.elsewhere.gathering.iter_mut().find(|(_, gathering)| gathering.missing.contains_key(&id));
        let Some((&request, gathering)) = gathering else { return };
        if let Ok(Value::Array(rows)) = answer {
            if !more {
                gathering.missing.remove(&id);
            }
            gathering.rows.extend(rows);
        }
        self.gathered(request, false);
    }

    /// A host is gone: what it was asked it does not answer, and what rang there does not.
    pub(super) fn answers_no_more(&mut self, host: HostName) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.left.host_gone(host);
        let ids: Vec<u64> = cluster
            .elsewhere
            .handed_on
            .iter()
            .filter(|(_, (_, by))| *by == host)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let text = format!("{host} is gone, which had it");
            self.answered_elsewhere(id, Err(Refused { status: 503, code: None, text }), false);
        }
    }

    /// Answers with what was gathered, when all is there, or what is there when it is `late`.
    pub(super) fn gathered(&mut self, request: AdminId, late: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(gathering) = cluster.elsewhere.gathering.get(&request) else { return };
        if !gathering.missing.is_empty() && !late {
            return;
        }
        let Some(gathering) = cluster.elsewhere.gathering.remove(&request) else { return };
        self.core.timers.cancel(Timer::Gather(request));
        let silent: BTreeSet<HostName> = gathering.missing.into_values().collect();
        if !silent.is_empty() {
            self.core.event("host.silent", None, None, json!({ "hosts": silent }));
        }
        let rows = match gathering.what {
            Request::Users => users(gathering.rows),
            _ => gathering.rows,
        };
        self.core.emit(Output::Admin { request, answer: Ok(Value::Array(rows)) });
    }
}

/// The rows, in order, so many together as fit into a part.
pub(super) fn in_parts(rows: Vec<Value>) -> Vec<Vec<Value>> {
    let mut parts: Vec<Vec<Value>> = Vec::new();
    let mut room = 0;
    for row in rows {
        let length = row.to_string().len();
        if length > room || parts.is_empty() {
            parts.push(Vec::new());
            room = PART;
        }
        room = room.saturating_sub(length);
        if let Some(part) = parts.last_mut() {
            part.push(row);
        }
    }
    parts
}

/// Each user once: as the host has it that serves its pool.
fn users(rows: Vec<Value>) -> Vec<Value> {
    let mut by_name: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        let name = row["name"].as_str().unwrap_or_default().to_owned();
        let known = by_name.get(&name);
        if known.is_none_or(|known| known.get("host").is_none()) {
            by_name.insert(name, row);
        }
    }
    by_name.into_values().collect()
}
