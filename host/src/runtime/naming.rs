//! Between the engine and DNS: a few questions at a time, each answered within a bounded time.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::engine::{Input, QueryId};
use crate::repeats;
use crate::transport::locate::{Names, Query, Reach, locate};

/// Questions that wait. Calls to trunks ask for a handful of names, mostly cached; a longer queue means DNS is away,
/// and then failing at once lets the next route be tried.
pub const QUERIES_MAX: usize = 256;

/// Questions asked side by side.
const PARALLEL: usize = 32;

/// NAPTR, SRV and addresses together. An INVITE has 32 s (Timer B), and somebody is still to ring.
pub const PATIENCE: Duration = Duration::from_secs(8);

/// Answers `queries` until their sender is gone, each within `patience`.
pub async fn answer_all(
    names: Arc<dyn Names>,
    reach: Reach,
    seed: [u8; 32],
    patience: Duration,
    mut queries: mpsc::Receiver<(QueryId, Query)>,
    inbox: mpsc::Sender<Input>,
) {
    let reach = Arc::new(reach);
    let mut seeds = ChaCha12Rng::from_seed(seed);
    let parallel = Arc::new(Semaphore::new(PARALLEL));
    while let Some((id, query)) = queries.recv().await {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&parallel).acquire_owned().await else { return };
        let (names, reach, inbox) = (Arc::clone(&names), Arc::clone(&reach), inbox.clone());
        let mut rng = ChaCha12Rng::from_rng(&mut seeds);
        tokio::spawn(async move {
            let _permit = permit;
            let found = timeout(patience, locate(&*names, &reach, &query, &mut rng)).await;
            let targets = found.unwrap_or_default();
            if targets.is_empty() && repeats::UNRESOLVED.is_first() {
                tracing::info!(host = %query.host, "the name leads nowhere we can send to");
            }
            let _ = inbox.send(Input::Resolved { query: id, targets }).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use async_trait::async_trait;

    use super::*;
    use crate::net::Protocol;
    use crate::transport::locate::{Naptr, Srv};

    struct OneHost;

    #[async_trait]
    impl Names for OneHost {
        async fn naptr(&self, _: &str) -> Vec<Naptr> {
            Vec::new()
        }
        async fn srv(&self, _: &str) -> Vec<Srv> {
            Vec::new()
        }
        async fn addresses(&self, host: &str) -> Vec<IpAddr> {
            if host == "silent.test" {
                std::future::pending::<()>().await;
            }
            if host == "known.test" { vec![Ipv4Addr::LOCALHOST.into()] } else { Vec::new() }
        }
    }

    #[tokio::test]
    async fn every_question_is_answered_even_when_dns_is_silent() {
        let (queries, waiting) = mpsc::channel(QUERIES_MAX);
        let (inbox, mut arrivals) = mpsc::channel(16);
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 5060));
        let reach = Reach::new([(Protocol::Udp, local)]);
        tokio::spawn(answer_all(
            Arc::new(OneHost),
            reach,
            [0; 32],
            Duration::from_millis(50),
            waiting,
            inbox,
        ));
        for (id, host) in ["silent.test", "known.test", "unknown.test"].into_iter().enumerate() {
            let query = Query { host: host.to_owned(), port: None, protocol: None, secure: false };
            queries.send((QueryId(id as u64), query)).await.unwrap();
        }
        let mut answers = Vec::new();
        for _ in 0..3 {
            let Some(Input::Resolved { query, targets }) = arrivals.recv().await else { panic!("no answer") };
            answers.push((query.0, targets));
        }
        answers.sort();
        assert_eq!(answers, [(0, vec![]), (1, vec![(Protocol::Udp, local)]), (2, vec![])]);
    }
}
