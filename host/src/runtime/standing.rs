//! Who this host is for the others, and how it stands with the store.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::admin::Readiness;
use crate::engine::Input;
use crate::store::{HostIdentity, Snapshot, Standing, Store};

/// In the data folder: what tells this host from another of the same name.
const IDENTITY_FILE: &str = "host.id";

/// Reads, or makes up, who this host is. The file that comes along is locked: keep it for as long as the host runs.
///
/// So a host that was killed can take its name again at once: the lock says that its earlier life is over.
pub fn identity(name: &str, data_dir: &Path) -> io::Result<(HostIdentity, File)> {
    let path = data_dir.join(IDENTITY_FILE);
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another host uses this data_dir"),
        TryLockError::Error(error) => error,
    })?;
    let mut id = String::new();
    file.read_to_string(&mut id)?;
    if id.is_empty() {
        id = format!("{:032x}", rand::random::<u128>());
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
    }
    Ok((HostIdentity { name: name.to_owned(), id, ..HostIdentity::default() }, file))
}

/// The other hosts that live.
fn others(hosts: &Snapshot, own: &HostIdentity) -> impl Iterator<Item = HostIdentity> {
    let identities = hosts.records.values();
    let identities =
        identities.filter_map(|record| serde_json::from_slice::<HostIdentity>(&record.value).ok());
    identities.filter(|host| host.name != own.name)
}

/// Whether a host fits those that live beside it.
pub fn fits(hosts: &Snapshot, own: &HostIdentity) -> Result<(), Misfit> {
    let of_other_users = |host: &HostIdentity| !host.domain.is_empty() && host.domain != own.domain;
    if let Some(HostIdentity { name, domain, .. }) = others(hosts, own).find(of_other_users) {
        return Err(Misfit::Domain { own: own.domain.clone(), name, domain });
    }
    let linked: Vec<String> =
        others(hosts, own).filter(|host| host.link.is_some()).map(|host| host.name).collect();
    if own.link.is_none() && !linked.is_empty() {
        return Err(Misfit::Unlinked(linked.join(", ")));
    }
    Ok(())
}

/// Why a host does not start beside those that live.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// Those who share the store work together, and this host would not.
    #[error(
        "this host has no [cluster], and {0} in the same etcd do: by itself it would serve the users of all pools beside \
         them, who could neither call nor fetch each other's calls. Give it a [cluster] (docs/pools.md), or an etcd of its own"
    )]
    Unlinked(String),
    /// Where it served them, users would be refused: their passwords are those of another domain.
    #[error(
        "sip.domain is {own:?} here, and {domain:?} on {name} in the same etcd: all hosts have the same, or whoever is served \
         here is refused. Correct it, or give this host an etcd of its own"
    )]
    Domain {
        /// This host's.
        own: String,
        /// The other host.
        name: String,
        /// What it has.
        domain: String,
    },
}

/// Tells the engine and `/readyz` of every change of standing, until the store has nothing more to tell.
pub async fn follow(
    mut standing: watch::Receiver<Standing>,
    readiness: Readiness,
    inbox: mpsc::Sender<Input>,
) {
    while standing.changed().await.is_ok() {
        let now = *standing.borrow_and_update();
        readiness.set_fenced(now == Standing::Lapsed);
        match now {
            Standing::Live { .. } => tracing::info!("the store counts this host as alive again"),
            Standing::Lapsed => tracing::error!(
                "the store has not heard of this host for too long: calls and music go on, parks and claims wait"
            ),
        }
        if inbox.send(Input::Standing(now)).await.is_err() {
            return;
        }
    }
}

/// How often the store is asked whether it has room.
const ROOM_EVERY: Duration = Duration::from_secs(2);

/// Tells `/readyz` when the store has no room left, and when it has again.
pub async fn look_for_room(store: Arc<dyn Store>, readiness: Readiness) {
    loop {
        // One that does not answer is another matter.
        if let Ok(full) = store.is_full().await
            && readiness.set_full(full)
        {
            match full {
                true => tracing::error!(
                    "the store has no room left and writes nothing: no parks, and what else changes is lost with this host. Compact and defragment etcd, \
                     or give it a larger quota, and disarm the alarm NOSPACE (docs/operating.md)"
                ),
                false => tracing::info!("the store writes again"),
            }
        }
        tokio::time::sleep(ROOM_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_kept_and_belongs_to_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let (first, lock) = identity("fe1", folder.path()).unwrap();
        assert_eq!(
            identity("fe1", folder.path()).unwrap_err().to_string(),
            "another host uses this data_dir"
        );
        drop(lock);
        assert_eq!(identity("fe1", folder.path()).unwrap().0, first);
        assert_ne!(identity("fe1", tempfile::tempdir().unwrap().path()).unwrap().0.id, first.id);
    }
}
