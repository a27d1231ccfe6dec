//! The store of several hosts: an etcd cluster, through its gRPC interface.
//!
//! Consensus, replication and membership are etcd's. What is done here is what a client owes it: choose a member that
//! answers ([`members`]), keep writes of one key in order ([`order`]), keep the host's lease ([`lease`]), and restart
//! watches without losing a change ([`watch`]). An operator hears of members that do not answer ([`health`]).

#[cfg(test)]
pub(super) mod cluster;
mod health;
mod lease;
mod members;
mod order;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::sync::{mpsc, watch as standing};

use self::lease::Lease;
use self::members::Members;
use self::order::Order;
use super::{
    Change, Expect, HostIdentity, Operation, Outcome, Record, Snapshot, Standing, Store, StoreError,
    Transaction,
};

/// One request waits so long for one member. An election takes about a second; a member that is slower than this is
/// better left for another.
const ATTEMPT_MAX: Duration = Duration::from_secs(2);
/// A request that may be repeated is, for so long: as long as anybody waits for an answer (design.md §4).
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts: the members are asked in turn anyway.
const PAUSE: Duration = Duration::from_millis(100);

/// How to reach a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EtcdOptions {
    /// `http://…` or `https://…` of the members, any of them.
    pub endpoints: Vec<String>,
    /// For `https://`.
    pub tls: Tls,
    /// How long a host that is not heard of counts as alive. etcd grants at least one and a half elections.
    pub lease: Duration,
}

/// Certificates, as PEM text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tls {
    /// Who signs the members' certificates.
    pub ca: Option<String>,
    /// The host's own certificate and key, where the members ask for one.
    pub identity: Option<(String, String)>,
}

/// Keeps records in etcd.
pub struct EtcdStore {
    members: Arc<Members>,
    order: Order,
    lease: Duration,
    enlisted: Mutex<Option<Lease>>,
}

impl EtcdStore {
    /// Looks for a member that answers, for a few seconds.
    ///
    /// # Errors
    /// When none does, with what each said; when an endpoint or certificate cannot be used at all.
    pub async fn open(options: &EtcdOptions) -> Result<EtcdStore, StoreError> {
        let members = Arc::new(Members::new(options).await?);
        members.live(PATIENCE).await?;
        tokio::spawn(health::tell(Arc::downgrade(&members)));
        Ok(EtcdStore { members, order: Order::default(), lease: options.lease, enlisted: Mutex::default() })
    }

    fn enlisted(&self) -> std::sync::MutexGuard<'_, Option<Lease>> {
        self.enlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl Store for EtcdStore {
    async fn commit(&self, transaction: Transaction) -> Result<Outcome, StoreError> {
        transaction.check()?;
        // Taken before the first await, so in the order of the calls.
        let turn = self.order.turn(&transaction);
        turn.comes().await;
        if transaction.expect.is_empty() {
            // Writing the same again changes nothing, so a lost answer is no question.
            let request = txn(&transaction);
            let answer = repeated(&self.members, move |client| {
                let request = request.clone();
                async move { client.kv_client().txn(request).await }
            })
            .await?;
            return outcome(&transaction, &answer);
        }
        // With expectations it cannot be repeated blindly: whoever asked looks what became of it. Members that cannot
        // be reached are found out before, so only an answer that is really lost comes to that.
        let member = self.members.live(PATIENCE).await?;
        let mut kv = member.client.kv_client();
        let answer = self.members.attempt(&member, kv.txn(txn(&transaction))).await;
        outcome(&transaction, &answer.map_err(failure)?)
    }

    async fn list(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        list(&self.members, prefix, 0).await
    }

    async fn watch(&self, prefix: &str, revision: u64) -> Result<mpsc::Receiver<Change>, StoreError> {
        watch::start(Arc::clone(&self.members), prefix.to_owned(), revision).await
    }

    async fn enlist(&self, host: &HostIdentity) -> Result<standing::Receiver<Standing>, StoreError> {
        let (lease, standing) = lease::enlist(Arc::clone(&self.members), host.clone(), self.lease).await?;
        *self.enlisted() = Some(lease);
        Ok(standing)
    }

    async fn is_full(&self) -> Result<bool, StoreError> {
        let status =
            repeated(&self.members, |client| async move { client.maintenance_client().status().await })
                .await?;
        // Each member knows the alarms of all: "memberID:8211… alarm:NOSPACE".
        Ok(status.errors().iter().any(|error| error.contains("NOSPACE")))
    }

    async fn resign(&self) {
        let lease = self.enlisted().take();
        if let Some(lease) = lease {
            lease.give_up().await;
        }
    }
}

/// Repeats a request that does no harm when it is made twice, until a member has answered.
async fn repeated<T, F>(
    members: &Members,
    mut request: impl FnMut(Client) -> F + Send,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Error>> + Send,
{
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let member = members.live(left).await?;
        let error = match members.attempt(&member, request(member.client.clone())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let hopeless = !members::passes(&error) || members::wants_room(&error);
        if hopeless || tokio::time::Instant::now() + PAUSE >= until {
            return Err(failure(error));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every record under `prefix` as of `revision`, or as of now (0).
async fn list(members: &Members, prefix: &str, revision: u64) -> Result<Snapshot, StoreError> {
    let options = GetOptions::new().with_prefix().with_revision(signed(revision));
    let mut answer = repeated(members, |client| {
        // A pool's records go well beyond gRPC's own limit for one message.
        let mut kv = client.kv_client().max_decoding_message_size(LIST_BYTES_MAX);
        let (prefix, options) = (prefix.to_owned(), options.clone());
        async move { kv.get(prefix, Some(options)).await }
    })
    .await?;
    let now = answer.header().map_or(0, |header| unsigned(header.revision()));
    // A key that is no text is nobody's of ours.
    let records = answer.take_kvs().into_iter().filter_map(|pair| read(pair).ok()).collect();
    Ok(Snapshot { records, revision: if revision == 0 { now } else { revision } })
}

/// A hundred thousand records of a few kilobytes.
const LIST_BYTES_MAX: usize = 512 << 20;

fn txn(transaction: &Transaction) -> Txn {
    let when: Vec<Compare> = transaction
        .expect
        .iter()
        .map(|(key, expect)| match expect {
            Expect::Absent => Compare::version(key.as_str(), CompareOp::Equal, 0),
            Expect::Present => Compare::version(key.as_str(), CompareOp::Greater, 0),
            Expect::Revision(revision) => {
                Compare::mod_revision(key.as_str(), CompareOp::Equal, signed(*revision))
            }
        })
        .collect();
    let then: Vec<TxnOp> = transaction
        .operations
        .iter()
        .map(|operation| match operation {
            Operation::Put { key, value } => TxnOp::put(key.as_str(), value.as_ref(), None),
            Operation::Delete { key } => TxnOp::delete(key.as_str(), None),
        })
        .collect();
    let otherwise: Vec<TxnOp> =
        transaction.expect.iter().map(|(key, _)| TxnOp::get(key.as_str(), None)).collect();
    Txn::new().when(when).and_then(then).or_else(otherwise)
}

fn outcome(transaction: &Transaction, answer: &TxnResponse) -> Result<Outcome, StoreError> {
    if answer.succeeded() {
        let revision = answer.header().map_or(0, |header| unsigned(header.revision()));
        return Ok(Outcome::Committed { revision });
    }
    let mut current = Vec::new();
    for ((key, _), found) in transaction.expect.iter().zip(answer.op_responses()) {
        let TxnOpResponse::Get(found) = found else {
            return Err(StoreError::Damaged(format!("an answer about {key} that is no record")));
        };
        let record = found.kvs().first().cloned().map(read).transpose()?;
        current.push((key.clone(), record.map(|(_, record)| record)));
    }
    Ok(Outcome::Conflict { current })
}

fn read(pair: KeyValue) -> Result<(String, Record), StoreError> {
    let revision = unsigned(pair.mod_revision());
    let (key, value) = pair.into_key_value();
    let key = String::from_utf8(key).map_err(|_| StoreError::Damaged("a key that is no text".to_owned()))?;
    Ok((key, Record { value: Bytes::from(value), revision }))
}

/// etcd's revisions are signed and never negative.
fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

/// A revision etcd never had stands for one it will never have.
fn signed(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn failure(error: Error) -> StoreError {
    if members::passes(&error) {
        StoreError::Unavailable(members::words(&error))
    } else {
        StoreError::Invalid(members::words(&error))
    }
}
