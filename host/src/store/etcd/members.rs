//! Which member of the cluster is asked.
//!
//! One at a time, as long as it answers. When it fails, all are asked something only a member with a quorum can answer,
//! and the first to answer is the next. So a request is sent only to a member that has just been well, and its outcome
//! is in doubt only if the member fails in that very moment.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Error, GetOptions, Identity, TlsOptions};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{ATTEMPT_MAX, EtcdOptions, PAUSE};
use crate::store::{ROOT, StoreError};

/// A silent connection is asked so often whether it lives, and given up after as long again without answer: watches
/// have no other way to learn that their member stands still.
const PING: Duration = Duration::from_secs(2);

/// The members of a cluster.
pub(super) struct Members {
    all: Vec<Member>,
    /// The one that answered last, by its place in `all`.
    chosen: Mutex<Option<usize>>,
    /// One looks for a member at a time; the others wait for what it finds.
    looking: tokio::sync::Mutex<()>,
}

/// One member.
#[derive(Clone)]
pub(super) struct Member {
    place: usize,
    endpoint: String,
    pub(super) client: Client,
}

impl Members {
    pub(super) async fn new(options: &EtcdOptions) -> Result<Members, StoreError> {
        let mut all = Vec::new();
        for (place, endpoint) in options.endpoints.iter().enumerate() {
            let mut connect = ConnectOptions::new()
                .with_connect_timeout(ATTEMPT_MAX)
                .with_keep_alive(PING, PING)
                .with_keep_alive_while_idle(true)
                .with_require_leader(true);
            if endpoint.starts_with("https://") {
                let mut tls = TlsOptions::new();
                if let Some(ca) = &options.tls.ca {
                    tls = tls.ca_certificate(Certificate::from_pem(ca));
                }
                if let Some((cert, key)) = &options.tls.identity {
                    tls = tls.identity(Identity::from_pem(cert, key));
                }
                connect = connect.with_tls(tls);
            }
            // Nothing is sent yet: the connection is made by the first request.
            let client = Client::connect([endpoint], Some(connect))
                .await
                .map_err(|error| StoreError::Invalid(format!("{endpoint}: {}", words(&error))))?;
            all.push(Member { place, endpoint: endpoint.clone(), client });
        }
        Ok(Members { all, chosen: Mutex::default(), looking: tokio::sync::Mutex::default() })
    }

    pub(super) fn all(&self) -> &[Member] {
        &self.all
    }

    fn chosen(&self) -> Option<Member> {
        let place = *self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        place.and_then(|place| self.all.get(place)).cloned()
    }

    pub(super) fn choose(&self, place: Option<usize>) {
        *self.chosen.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// A member that is well, as far as is known. Looks for one for as long as `patience`.
    pub(super) async fn live(&self, patience: Duration) -> Result<Member, StoreError> {
        let until = Instant::now() + patience;
        let away = |why: &str| StoreError::Unavailable(format!("no etcd member answers ({why})"));
        if let Some(member) = self.chosen() {
            return Ok(member);
        }
        let Ok(_looking) = timeout_at(until, self.looking.lock()).await else {
            return Err(away("still looking for one"));
        };
        if let Some(member) = self.chosen() {
            return Ok(member);
        }
        let member = self.look(until).await.map_err(|why| away(&why))?;
        self.choose(Some(member.place));
        tracing::info!(endpoint = member.endpoint, "etcd");
        Ok(member)
    }

    /// Asks all, takes the first that answers. Each is asked again by itself: one that is silent keeps nobody from hearing
    /// that the others have elected a leader meanwhile.
    async fn look(&self, until: Instant) -> Result<Member, String> {
        let mut asked: FuturesUnordered<_> =
            self.all.iter().cloned().map(|member| member.answers_by(until)).collect();
        let mut why = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(member) => return Ok(member),
                Err(error) => why.push(error),
            }
        }
        why.sort();
        Err(why.join("; "))
    }

    /// One request to one member. If the member fails, the next one is looked for.
    pub(super) async fn attempt<T>(
        &self,
        member: &Member,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let answer = timeout(ATTEMPT_MAX, request).await.unwrap_or_else(|_| {
            Err(Error::Internal(format!("{}: no answer within {ATTEMPT_MAX:?}", member.endpoint)))
        });
        if answer.as_ref().is_err_and(|error| passes(error) && !wants_room(error)) {
            self.failed(member);
        }
        answer
    }

    /// This member is not well.
    pub(super) fn failed(&self, member: &Member) {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.take_if(|place| *place == member.place);
    }
}

impl Member {
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks until it has answered, or why it has not.
    async fn answers_by(self, until: Instant) -> Result<Member, String> {
        let mut why = None;
        loop {
            match timeout_at(until, self.answers()).await {
                Ok(Ok(())) => return Ok(self),
                Ok(Err(error)) => why = Some(error),
                // What it said before tells more.
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= until {
                return Err(why.unwrap_or_else(|| format!("{}: no answer in time", self.endpoint)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn answers(&self) -> Result<(), String> {
        let mut kv = self.client.kv_client();
        // Linearizable: a member without a quorum does not answer it.
        let question = kv.get(ROOT, Some(GetOptions::new().with_limit(1).with_count_only()));
        match timeout(ATTEMPT_MAX, question).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{}: {}", self.endpoint, self.explained(words(&error)))),
            Err(_) => Err(format!("{}: no answer", self.endpoint)),
        }
    }
}

impl Member {
    /// Of a handshake that failed the libraries say little: a member that does not believe us just closes.
    pub(super) fn explained(&self, words: String) -> String {
        if !self.endpoint.starts_with("https://") {
            let closed = ["closed", "reset", "broken pipe"].iter().any(|end| words.contains(end));
            return if closed { format!("{words} (perhaps it speaks https:// only)") } else { words };
        }
        if words.contains("invalid peer certificate") {
            format!("{words} (its certificate is not one that store.ca signed for this address)")
        } else if ["closed", "reset", "broken pipe", "alert"].iter().any(|end| words.contains(end)) {
            format!("{words} (perhaps it asks for a certificate: store.cert, or does not believe it)")
        } else {
            words
        }
    }
}

/// Whether it may be different another time, or with another member.
pub(super) fn passes(error: &Error) -> bool {
    // The codes of gRPC, by number since the client does not pass their type on: invalid argument (3), not found (5),
    // permission denied (7), failed precondition (9), out of range (11: compacted), unimplemented (12),
    // unauthenticated (16).
    match error {
        Error::GRpcStatus(status) => !matches!(status.code() as i32, 3 | 5 | 7 | 9 | 11 | 12 | 16),
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => false,
        _ => true,
    }
}

/// Whether it is the cluster's room that is used up (resource exhausted, 8, as too many requests are): no member is to blame, and none
/// would answer otherwise before somebody has done something about it.
pub(super) fn wants_room(error: &Error) -> bool {
    match error {
        Error::GRpcStatus(status) => status.code() as i32 == 8 && status.message().contains("space exceeded"),
        _ => false,
    }
}

/// What went wrong, with what lies behind it: "transport error" alone helps nobody.
pub(super) fn words(error: &Error) -> String {
    let mut words = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        Error::Internal(words) => words.clone(),
        other => other.to_string(),
    };
    let mut behind = match error {
        Error::GRpcStatus(status) => std::error::Error::source(status),
        other => std::error::Error::source(other),
    };
    while let Some(cause) = behind {
        let cause_words = cause.to_string();
        // Each level likes to repeat the one below.
        if !words.contains(&cause_words)
            && !cause_words.starts_with("status:")
            && !cause_words.starts_with("code:")
        {
            words = format!("{words}: {cause_words}");
        }
        behind = cause.source();
    }
    words
}
