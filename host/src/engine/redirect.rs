//! In a cluster: a phone that registers at a host of another pool while its own pool serves it is told to register at home
//! (RES-09): 301 with two Contacts, the home pool (q=0.7) and its backup (q=0.3).
//!
//! No phone has to move: whichever host it talks to, whoever serves its user gets its messages. It is for phones that know
//! one address only, and would not learn of the backup otherwise; which those are the home pool's policy says.

use serde_json::json;

use super::Engine;
use crate::net::{Flow, HostName, Listener};
use crate::pool::Phase;
use crate::recent::Recent;
use crate::sip::{Draft, Message, Name, Status};

/// The hook of the policy.
const HOOK: &str = "resiliency.redirect";

/// Phones that are remembered as told. One that was told and comes again has not got there: it is taken where it comes.
const TOLD_MAX: usize = 10_000;

/// Users, and the addresses their phones were told at. A phone behind a NAT comes from another port with each flow.
pub(super) type Told = Recent<(String, std::net::IpAddr), ()>;

/// Nobody was told.
pub(super) fn nobody_told() -> Told {
    Recent::new(TOLD_MAX)
}

impl Engine {
    /// The 301 for a REGISTER of this user, if it is to get one. Never while somebody else serves the home pool, never to a
    /// phone in a call, and once only: whoever comes again is taken.
    pub(super) fn redirect(&mut self, user: &str, request: &Message, flow: &Flow) -> Option<Draft> {
        let home = self.directory.user(user)?.pool.clone();
        let [here, there] = self.homes(&home, flow)?;
        // Through a proxy it is reached by that one's ways.
        if request.get(Name::Path).is_some() || !self.registrar.is_wanted(request) {
            return None;
        }
        let key = (user.to_owned(), flow.remote.ip());
        let told = self.cluster.as_ref()?.told.get(&key).is_some();
        if told
            || self.calls.legs_of(user).next().is_some()
            || !self.is_redirected(&home, user, request, flow)
        {
            return None;
        }
        self.cluster.as_mut()?.told.insert(key, ());
        let mut draft = Draft::response(request, Status::MOVED_PERMANENTLY);
        let tag = self.core.fresh_tag();
        draft.to_tag(&tag).add(Name::Contact, format!("<{here}>;q=0.7, <{there}>;q=0.3"));
        let detail =
            json!({ "user": user, "source": flow.remote.to_string(), "edge": flow.edge, "to": here });
        self.core.event("user.redirected", None, Some(request.call_id()), detail);
        Some(draft)
    }

    /// Where a phone that came on `flow` is to register: at its home pool, which this host serves and belongs to, or at the
    /// backup. `None`: it is at home, or that pool is not there to go to.
    fn homes(&self, home: &str, flow: &Flow) -> Option<[String; 2]> {
        let cluster = self.cluster.as_ref()?;
        let seats = &cluster.seats;
        let edge = flow.edge.filter(|edge| seats.of_pool(home).all(|host| host != *edge))?;
        let active = cluster.pools.phase(home) == Phase::Active;
        if !active || self.config.host.pool != home || !cluster.served.contains(home) {
            return None;
        }
        let backup = cluster.pools.backup(home)?;
        // Of the backup's hosts the one it has found, if it is one.
        let of_backup = seats.of_pool(backup).find(|host| *host == edge);
        let of_backup =
            of_backup.or_else(|| seats.holder(backup)).or_else(|| seats.of_pool(backup).next())?;
        Some([self.way_to(home, seats.own(), flow)?, self.way_to(backup, of_backup, flow)?])
    }

    /// The address of a pool for a phone: its name if it has one, else that of one of its hosts.
    fn way_to(&self, pool: &str, host: HostName, flow: &Flow) -> Option<String> {
        let listeners = self.core.identity.edges.get(&host)?;
        let like = |listener: &&Listener| {
            listener.protocol == flow.protocol && listener.local.is_ipv4() == flow.remote.is_ipv4()
        };
        let listener = listeners.iter().find(like)?;
        let name = self.cluster.as_ref()?.pools.record(pool)?.fqdn.as_ref();
        let address = name.unwrap_or(&listener.advertised);
        Some(format!("sip:{address};transport={}", flow.protocol.uri_name()))
    }

    /// Whether the policy has this phone redirected.
    fn is_redirected(&self, home: &str, user: &str, request: &Message, flow: &Flow) -> bool {
        let user = self.directory.user(user).map(|user| self.party(user)).unwrap_or_default();
        let phone = json!({
            "user_agent": request.get(Name::UserAgent).unwrap_or_default(),
            "host": flow.edge,
            "transport": flow.protocol.uri_name(),
        });
        self.policies.borrow_mut().decide(self.core.now, home, HOOK, &json!([user, phone])).allowed
    }
}
