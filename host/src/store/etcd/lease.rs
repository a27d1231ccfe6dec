//! The host's own record, on a lease that is renewed for as long as the host lives.
//!
//! The host counts from the *sending* of the last renewal that was answered and stops 20 % early (design.md §8): so it
//! knows before anybody else that its time is over. It goes on trying; when it has the record back it is live again.
//!
//! Not so if somebody else who says to be this host has taken the record meanwhile: a copy of its data folder, on a machine
//! that was cloned. Nor if etcd has gone back to an earlier state, from a backup: what the host knows of the store since then
//! never was, and only a start reads everything anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, GetResponse, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::members::{Members, words};
use super::{ATTEMPT_MAX, PATIENCE, repeated, unsigned};
use crate::repeats;
use crate::store::{HostIdentity, Standing, StoreError};

/// Renewals per lease.
const BEATS: u32 = 3;
/// After so small a part of the lease without an answer another member is asked as well. So one that stands still costs half
/// of the lease, and the rest, less what [`safe`] takes, is for the others, who may have a leader to elect first: one to two
/// seconds. What the first says late still counts: it may be the machine that is slow.
const SILENCE: u32 = 6;
/// So many renewals are under way at most: more than there is time for before the lease ends.
const ASKED_MAX: usize = 3;
/// A name that another life still holds is waited for so much longer than its lease.
const GRACE: Duration = Duration::from_secs(2);
/// Between two attempts to get the record back.
const PAUSE: Duration = Duration::from_millis(500);

/// The lease of a host that lives.
pub(super) struct Lease {
    members: Arc<Members>,
    id: Arc<AtomicI64>,
    keeper: JoinHandle<()>,
}

impl Lease {
    /// The record goes at once, rather than when the lease ends.
    pub(super) async fn give_up(self) {
        self.keeper.abort();
        let id = self.id.load(Ordering::Acquire);
        if let Ok(Ok(member)) = timeout(ATTEMPT_MAX, self.members.live(ATTEMPT_MAX)).await {
            // If it fails, the lease ends by itself.
            let _ = timeout(ATTEMPT_MAX, member.client.lease_client().revoke(id)).await;
        }
    }
}

/// See [`Store::enlist`](crate::store::Store::enlist).
pub(super) async fn enlist(
    members: Arc<Members>,
    host: HostIdentity,
    span: Duration,
) -> Result<(Lease, watch::Receiver<Standing>), StoreError> {
    let patient_until = Instant::now() + span + GRACE;
    let mut told = false;
    let held = loop {
        match claim(&members, &host, span, None).await {
            Err(StoreError::Taken(why)) if Instant::now() < patient_until => {
                if !std::mem::replace(&mut told, true) {
                    let most = patient_until.saturating_duration_since(Instant::now()).as_secs();
                    tracing::warn!("{why}; waiting for its lease to end, {most} s at most");
                }
                sleep(PAUSE).await;
            }
            claimed => break claimed?,
        }
    };
    let id = Arc::new(AtomicI64::new(held.lease));
    let (standing, told) = watch::channel(Standing::Live { revision: held.revision });
    let keeper = Keeper {
        members: Arc::clone(&members),
        host,
        span,
        id: Arc::clone(&id),
        standing,
        own: vec![held.lease],
        seen: held.revision,
        held,
    };
    Ok((Lease { members, id, keeper: tokio::spawn(keeper.keep()) }, told))
}

/// A record on a lease.
struct Held {
    lease: i64,
    revision: u64,
    /// From here on it may be gone.
    until: Instant,
}

/// Puts the host's record on a new lease: if it is not there, or is of an earlier life of this host. Once that lives, only one
/// on its `own` leases is.
async fn claim(
    members: &Members,
    host: &HostIdentity,
    span: Duration,
    own: Option<&mut Vec<i64>>,
) -> Result<Held, StoreError> {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    let (sent, grant) = repeated(members, move |client| async move {
        let sent = Instant::now();
        Ok((sent, client.lease_client().grant(seconds, None).await?))
    })
    .await?;
    let lease = grant.id();
    let until = sent + safe(Duration::from_secs(unsigned(grant.ttl())));
    let own = own.map(|own| {
        own.push(lease);
        own.clone()
    });
    // Making the same claim again does no harm: it finds its own record.
    match repeated(members, |client| take(client, host.clone(), lease, own.clone())).await? {
        Ok(revision) => Ok(Held { lease, revision, until }),
        Err(other) => {
            let _ = repeated(members, move |client| async move { client.lease_client().revoke(lease).await })
                .await;
            Err(StoreError::Taken(format!(
                "another host named {:?} is alive in this store ({other})",
                host.name
            )))
        }
    }
}

/// The revision of the host's record on this lease, or whose record stands there.
async fn take(
    client: Client,
    host: HostIdentity,
    lease: i64,
    own: Option<Vec<i64>>,
) -> Result<Result<u64, String>, Error> {
    let mut kv = client.kv_client();
    let mut known = 0;
    loop {
        let answer = kv.txn(put(&host, known, lease)).await?;
        if answer.succeeded() {
            return Ok(Ok(answer.header().map_or(0, |header| unsigned(header.revision()))));
        }
        match answer.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(found)) => match found.kvs().first() {
                Some(record) if record.lease() == lease => return Ok(Ok(unsigned(record.mod_revision()))),
                Some(record) if host.is_in(record.value()) => {
                    if own.as_ref().is_some_and(|own| !own.contains(&record.lease())) {
                        return Ok(Err("with a copy of this host's data_dir".to_owned()));
                    }
                    known = record.mod_revision();
                }
                Some(record) => {
                    return Ok(Err(format!(
                        "since revision {}; names must differ",
                        record.create_revision()
                    )));
                }
                None => known = 0,
            },
            _ => return Err(Error::Internal("an answer that is no record".to_owned())),
        }
    }
}

fn put(host: &HostIdentity, known: i64, lease: i64) -> Txn {
    let expect = match known {
        0 => Compare::version(host.key(), CompareOp::Equal, 0),
        known => Compare::mod_revision(host.key(), CompareOp::Equal, known),
    };
    let put = TxnOp::put(host.key(), host.value().as_ref(), Some(PutOptions::new().with_lease(lease)));
    Txn::new().when([expect]).and_then([put]).or_else([TxnOp::get(host.key(), None)])
}

/// How long a lease is relied on.
fn safe(span: Duration) -> Duration {
    span * 4 / 5
}

struct Keeper {
    members: Arc<Members>,
    host: HostIdentity,
    span: Duration,
    id: Arc<AtomicI64>,
    standing: watch::Sender<Standing>,
    /// The leases of this life.
    own: Vec<i64>,
    /// The latest revision of the store that was seen.
    seen: u64,
    held: Held,
}

/// What a look at the host's record has shown.
enum Look {
    /// All is well until then.
    Well(Instant),
    /// It is gone, or another's.
    Gone,
    /// The store is younger than it was.
    WentBack,
}

/// What a member has said.
struct Renewal {
    sent: Instant,
    /// Whether the lease does.
    lives: bool,
    /// The host's record.
    found: GetResponse,
}

/// Renews a lease and reads the record on it. A member that is silent for so long is left for another, and waited for.
async fn renew(members: Arc<Members>, lease: i64, key: String, silence: Duration) -> Result<Renewal, Error> {
    let Ok(member) = members.live(PATIENCE).await else {
        return Err(Error::Internal("no etcd member answers".to_owned()));
    };
    let sent = Instant::now();
    let (mut leases, mut kv) = (member.client.lease_client(), member.client.kv_client());
    let exchange = async {
        // One exchange each time: a stream that is kept open would have to be opened again after each failure anyway.
        let lives = match leases.keep_alive(lease).await {
            Ok(_) => true,
            Err(Error::LeaseKeepAliveError(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(Renewal { sent, lives, found: kv.get(key, None).await? })
    };
    let exchange = members.attempt(&member, exchange);
    tokio::pin!(exchange);
    if let Ok(answer) = timeout(silence, &mut exchange).await {
        return answer;
    }
    members.failed(&member);
    exchange.await
}

impl Keeper {
    async fn keep(mut self) {
        loop {
            sleep_until((Instant::now() + self.span / BEATS).min(self.held.until)).await;
            match self.renewed().await {
                Look::Well(until) => {
                    self.held.until = until;
                    self.tell(Standing::Live { revision: self.held.revision });
                }
                Look::Gone => self.claim_again().await,
                Look::WentBack => {
                    self.tell(Standing::Lapsed);
                    tracing::error!(
                        "etcd has gone back to an earlier state, as from a backup: what this host knows of it is wrong. \
                         Restart the host"
                    );
                    return;
                }
            }
        }
    }

    /// Renews until it is answered, through another member when one is silent; until the end of the lease, and, once it is over,
    /// for as long as it takes.
    async fn renewed(&mut self) -> Look {
        let silence = (self.span / SILENCE).min(ATTEMPT_MAX);
        let lapse = sleep_until(self.held.until);
        tokio::pin!(lapse);
        let mut asked = FuturesUnordered::new();
        let mut told = false;
        loop {
            if asked.len() < ASKED_MAX {
                asked.push(renew(Arc::clone(&self.members), self.held.lease, self.host.key(), silence));
            }
            tokio::select! {
                Some(answer) = asked.next() => match answer {
                    Ok(renewal) if Instant::now() < renewal.sent + safe(self.span) => return self.judge(&renewal),
                    // Too late to count on.
                    Ok(_) => {}
                    Err(error) => {
                        if !std::mem::replace(&mut told, true) {
                            tracing::warn!(error = words(&error), "the host's lease is not renewed yet");
                        }
                        // Not past the end of the lease: others may take over from then on.
                        tokio::select! {
                            () = sleep(super::PAUSE) => {}
                            () = &mut lapse, if !lapse.is_elapsed() => {}
                        }
                    }
                },
                () = sleep(silence) => {}
                () = &mut lapse, if !lapse.is_elapsed() => {}
            }
            if Instant::now() >= self.held.until {
                self.tell(Standing::Lapsed);
            }
        }
    }

    fn judge(&mut self, Renewal { sent, lives, found }: &Renewal) -> Look {
        if self.is_behind(found.header()) {
            return Look::WentBack;
        }
        // Somebody may have removed the record by hand.
        let revision = found.kvs().first().map(|record| unsigned(record.mod_revision()));
        let own = *lives && revision == Some(self.held.revision);
        if own { Look::Well(*sent + safe(self.span)) } else { Look::Gone }
    }

    /// Members that answer with a quorum never answer with less than they did before.
    fn is_behind(&mut self, header: Option<&ResponseHeader>) -> bool {
        let now = header.map_or(self.seen, |header| unsigned(header.revision()));
        let behind = now < self.seen;
        self.seen = self.seen.max(now);
        behind
    }

    async fn claim_again(&mut self) {
        self.tell(Standing::Lapsed);
        loop {
            match claim(&self.members, &self.host, self.span, Some(&mut self.own)).await {
                Ok(held) => {
                    self.id.store(held.lease, Ordering::Release);
                    self.held = held;
                    return self.tell(Standing::Live { revision: self.held.revision });
                }
                Err(error) => {
                    if repeats::RECORD_GONE.is_first() {
                        tracing::error!(%error, "the host's record is gone");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn tell(&self, now: Standing) {
        self.standing.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                let now = if matches!(now, Standing::Live { .. }) { "alive" } else { "lapsed" };
                tracing::warn!(now, "how this host stands with the store");
            }
            *before = now;
            changed
        });
    }
}
