//! Drills: synthetic calls through a running host or pair of pools, with phones of our own, and what those saw.
//!
//! [`Phone`] is a small real phone; [`Office`] are users and numbers that are there for the drill only, and the
//! administrative interface; [`Report`] holds what was observed against what was expected. [`park`], [`pickup`] and
//! [`failover`] are the scripts: each step is an observation with a time limit. Nothing here says more than the phones saw.

mod failover;
mod office;
mod park;
mod phone;
mod pickup;
mod report;

use std::net::SocketAddr;
use std::time::Duration;

pub use self::failover::{Outage, Pair, STEPS, Step, failover};
pub use self::office::{GROUPS, Office, PREFIX, Person, addresses, resolve};
pub use self::park::park;
pub use self::phone::Phone;
pub use self::pickup::pickup;
pub use self::report::{Observation, Report, Seen, Verdict};
use crate::cli::Failure;
use crate::cli::client::{Client, segment};

/// Which drill of one host or pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Call Park.
    Park,
    /// Group Call Pickup.
    Pickup,
}

/// What may be said of a drill.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the phones find the host; empty: as the host says.
    pub sip: Vec<SocketAddr>,
    /// How long a phone waits for something.
    pub patience: Duration,
    /// Told of each observation as it is made.
    pub tell: fn(&Observation),
}

/// Runs the drill of a feature against a running host, until it is over or somebody presses Ctrl-C; cleans up in either case.
pub fn feature(which: Feature, client: &Client, options: &Options) -> Result<Report, Failure> {
    runtime()?.block_on(async {
        let mut office = Office::open(client, options.patience, options.tell)?;
        let told = if options.sip.is_empty() { office.own_addresses()? } else { options.sip.clone() };
        let mut people = Vec::new();
        let script = async {
            match which {
                Feature::Park => park(&mut office, &mut people, &told).await,
                Feature::Pickup => pickup(&mut office, &mut people, &told).await,
            }
        };
        let ended = until_interrupted(script).await;
        office.close(&people.iter().collect::<Vec<_>>()).await;
        finish(office, ended)
    })
}

/// Walks a pair of pools through its phases; see [`failover`].
pub fn walk(pair: &Pair, client: &Client, options: &Options) -> Result<Report, Failure> {
    runtime()?.block_on(async {
        let mut office = Office::open(client, options.patience, options.tell)?;
        let mut people = Vec::new();
        let ended = until_interrupted(failover(&mut office, &mut people, pair, options)).await;
        // Where nobody was hired nothing was begun.
        if ended.is_err() && !people.is_empty() {
            office.report.notes.extend(where_it_stands(&office, &pair.pool));
        }
        office.close(&people.iter().collect::<Vec<_>>()).await;
        finish(office, ended)
    })
}

/// What is left to do after a drill that ended early, by itself or because somebody has ended it.
fn where_it_stands(office: &Office<'_>, pool: &str) -> Option<String> {
    let told = office.get(&format!("pools/{}", segment(pool))).ok()?;
    match told["phase"].as_str()? {
        "active" => None,
        phase @ ("outage" | "resilient") => Some(format!("pool {pool} is {phase}: start its hosts")),
        phase => Some(format!("pool {pool} is {phase}: switchyard pool failback {pool} brings it home")),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

async fn until_interrupted(script: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = script => ended,
        _ = tokio::signal::ctrl_c() => Err(Failure("interrupted".to_owned())),
        () = terminated => Err(Failure("terminated".to_owned())),
    }
}

/// A drill that broke off before it saw anything has no report.
fn finish(mut office: Office<'_>, ended: Result<(), Failure>) -> Result<Report, Failure> {
    match ended {
        Err(failure) if office.report.observations.is_empty() => {
            let notes = office.report.notes.iter().map(|note| format!("\n{note}")).collect::<String>();
            Err(Failure(format!("{failure}{notes}")))
        }
        ended => {
            office.report.broken_off = ended.err().map(|failure| failure.to_string());
            Ok(office.report)
        }
    }
}
