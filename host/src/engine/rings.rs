//! In a cluster: calls that still ring where their callee's pool was served before it went home. They can be picked up all the
//! same, if the pool's policy wants it (`resiliency.pickup_after_failback`, OP-03).
//!
//! Such a call goes on where it is. Its host tells whoever serves the pool now in which groups, and at whom, calls ring there;
//! who picks one up from home, where nothing rings, is sent there, as for a number of another pool: he gets it, or hears why not.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use super::invite::Address;
use super::seat::Clustered;
use crate::cluster::{Frame, Places};
use crate::net::{Flow, HostName, Protocol};
use crate::pool::Phase;
use crate::sip::Uri;

/// What is known of such calls.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// By pool that this host has served: where its calls ring here, and whom that was told.
    here: BTreeMap<String, (Places, Option<HostName>)>,
    /// By host where they ring: the pool by which that host is reached, and the places.
    elsewhere: BTreeMap<HostName, (String, Places)>,
    /// Hosts that were told, and did not hear it.
    untold: BTreeSet<HostName>,
}

impl Left {
    /// A host is gone, and what rang there with it.
    pub(super) fn host_gone(&mut self, host: HostName) {
        self.elsewhere.remove(&host);
        self.untold.remove(&host);
    }
}

impl Engine {
    /// The seat of a pool that goes home has been left. Calls that ring for its users ring on here.
    pub(super) fn leave_ringing(&mut self, pool: &str) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.pools.phase(pool) == Phase::FailingBack {
            cluster.left.here.insert(pool.to_owned(), (Places::default(), None));
        }
    }

    /// Tells those who serve the pools that were left where calls ring here, as that changes.
    pub(super) fn tell_of_ringing(&mut self) {
        if self.cluster.as_ref().is_none_or(|cluster| cluster.left.here.is_empty()) {
            return;
        }
        let Some(reached_by) = self.any_served().and_then(HostName::new) else { return };
        let Some(cluster) = &mut self.cluster else { return };
        let mut said = Vec::new();
        for (pool, (told, whom)) in &mut cluster.left.here {
            let mut places = Places::default();
            for call in self.orbits.ringing().filter(|call| call.callee.pool.as_ref() == Some(pool)) {
                places.groups.extend(call.callee.pickup_groups().map(str::to_owned));
                places.callees.extend(call.callee.user.clone());
            }
            let holder = cluster.seats.holder(pool).filter(|holder| *holder != cluster.seats.own());
            if *told != places || *whom != holder {
                (*told, *whom) = (places.clone(), holder);
                said.extend(holder.map(|holder| (holder, places)));
            }
        }
        // The last call has ended, or the pool is served here again.
        let Clustered { left, served, .. } = cluster;
        left.here.retain(|pool, (told, _)| !told.is_empty() && !served.contains(pool));
        for (holder, places) in said {
            self.link(holder, Frame::Rings { by: reached_by, places });
        }
    }

    /// A host has not heard where calls ring here.
    pub(super) fn ringing_untold(&mut self, host: HostName) {
        if let Some(cluster) = &mut self.cluster {
            cluster.left.untold.insert(host);
        }
    }

    /// It can be reached again: it is told how that is by now.
    pub(super) fn tell_again_of_ringing(&mut self, host: HostName) {
        let Some(by) = self.any_served().and_then(HostName::new) else { return };
        let Some(cluster) = &mut self.cluster else { return };
        if !cluster.left.untold.remove(&host) {
            return;
        }
        let mut is_over = true;
        for (_, whom) in cluster.left.here.values_mut().filter(|(_, whom)| *whom == Some(host)) {
            *whom = None;
            is_over = false;
        }
        if is_over {
            self.link(host, Frame::Rings { by, places: Places::default() });
        }
    }

    /// Another host says where calls ring there for users served here.
    pub(super) fn rings_elsewhere(&mut self, host: HostName, by: HostName, places: Places) {
        let Some(cluster) = &mut self.cluster else { return };
        if places.is_empty() {
            cluster.left.elsewhere.remove(&host);
        } else {
            cluster.left.elsewhere.insert(host, (by.as_str().to_owned(), places));
        }
    }

    /// The pool by whose server a call is picked up that rings elsewhere and is asked for by `uri`.
    pub(super) fn picked_up_elsewhere(&self, uri: &Uri) -> Option<String> {
        let cluster = self.cluster.as_ref()?;
        let there = |host: HostName, pool: &str| cluster.seats.holder(pool) == Some(host);
        let mut elsewhere = cluster.left.elsewhere.iter();
        let (_, (pool, _)) =
            elsewhere.find(|(host, (pool, places))| there(**host, pool) && self.means(uri, places))?;
        // What rings here can be picked up, whatever the policy says of what rings there.
        (!self.rings_here(uri)).then(|| pool.clone())
    }

    /// Whether `uri` asks for a call that rings here for a user of a pool which is served elsewhere by now. One that cannot be
    /// picked up any more it asks for only if whoever serves that pool has sent it: there, others may ring.
    pub(super) fn is_picked_up_here(&self, uri: &Uri, flow: &Flow) -> bool {
        let Some(Clustered { left, pools, .. }) = &self.cluster else { return false };
        let sent = flow.protocol == Protocol::Cluster;
        let mut here = left.here.iter().filter(|(pool, _)| sent || pools.terms(pool).ringing_stays);
        here.any(|(_, (places, _))| self.means(uri, places))
    }

    fn means(&self, uri: &Uri, places: &Places) -> bool {
        !places.is_empty()
            && self.picks_from(
                uri,
                |group| places.groups.contains(group),
                |user| places.callees.contains(user),
            )
    }

    fn rings_here(&self, uri: &Uri) -> bool {
        let orbits = &self.orbits;
        self.picks_from(
            uri,
            |group| !orbits.ringing_in(group).is_empty(),
            |user| !orbits.ringing_at(user).is_empty(),
        )
    }

    /// Whether `uri` picks calls up from a group, or from a callee, of whom that holds.
    fn picks_from(&self, uri: &Uri, group: impl Fn(&str) -> bool, callee: impl Fn(&str) -> bool) -> bool {
        match self.address(uri) {
            Address::Feature { service: None, number: Some(number), .. } => group(&number),
            Address::Feature { service: Some(_), number: Some(number), .. } => {
                self.directory.resolve(&number).is_some_and(|user| callee(&user.name))
            }
            Address::Feature { .. } | Address::Other => false,
        }
    }
}
