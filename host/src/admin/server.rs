//! The interface on a socket.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections open at once. Beyond this the next one waits in the kernel's queue: a handful of people, a scraper
/// and the command line need far fewer, and a flood must not take the descriptors phones need.
pub const CONNECTIONS_MAX: usize = 256;

/// How long a client may take to send its headers.
const HEADERS_MAX: Duration = Duration::from_secs(10);

/// Pause after a failed accept: the usual reason is that no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers requests until `stop` completes; connections still open are then closed.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        tokio::select! {
            () = &mut stop => return,
            Some(_) = connections.join_next() => {}
            (accepted, permit) = accepted => match accepted {
                Ok((stream, _)) => {
                    let service = TowerToHyperService::new(router.clone());
                    connections.spawn(async move {
                        let _permit = permit;
                        let served = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEADERS_MAX)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                        if let Err(error) = served {
                            tracing::debug!(%error, "an administrative connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the administrative interface cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
