//! Watches the policy directory and hands each new content to the engine.
//!
//! The watch is on the directory, so files that editors replace by renaming are seen; what happened to them is
//! not asked: after any sign of change, and when things have been quiet for a moment, everything is read again and
//! compared by content hash.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::engine::Input;
use crate::policy::Bundle;

/// Quiet for so long, and the editor has finished: saving one file is several operations.
const QUIET: Duration = Duration::from_millis(100);

/// Read after this time even when it never gets quiet.
const UNQUIET_MAX: Duration = Duration::from_secs(1);

/// Read so often without any sign of change. Some changes give none: the directory itself was replaced, a network
/// file system, no watches left. An unchanged directory costs a few file reads.
const RECHECK: Duration = Duration::from_secs(10);

/// Asks the watcher to read now, whatever it has seen. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reread(mpsc::Sender<Sign>);

impl Reread {
    /// Asks for it. The outcome is in the log and in the policy status.
    pub fn now(&self) {
        // When the queue is full, a reading is about to happen anyway.
        let _ = self.0.try_send(Sign::Asked);
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sign {
    /// Something in the directory changed.
    Changed,
    /// An operator asked.
    Asked,
}

/// Watches `dir` for as long as `inbox` has a reader. `running` is the hash of what the engine already has.
pub fn watch(dir: PathBuf, running: String, inbox: mpsc::Sender<Input>) -> Reread {
    // One sign is enough to read everything.
    let (signs, seen) = mpsc::channel(1);
    tokio::spawn(run(dir, running, signs.clone(), seen, inbox));
    Reread(signs)
}

async fn run(
    dir: PathBuf,
    mut running: String,
    signs: mpsc::Sender<Sign>,
    mut seen: mpsc::Receiver<Sign>,
    inbox: mpsc::Sender<Input>,
) {
    let mut watcher = start_watcher(&dir, signs.clone());
    let mut last_error = String::new();
    // The first reading is not waited for: something may have changed before the watch began.
    let mut sign = Some(Sign::Changed);
    while !inbox.is_closed() {
        let asked = sign == Some(Sign::Asked);
        match read(&dir).await {
            Ok(bundle) if bundle.hash() == running => {
                if asked {
                    tracing::info!(dir = %dir.display(), "the policies are unchanged");
                }
                last_error.clear();
            }
            Ok(bundle) => {
                tracing::info!(dir = %dir.display(), hash = bundle.hash(), "the policies changed");
                running = bundle.hash().to_owned();
                last_error.clear();
                if inbox.send(Input::Policy(Arc::new(bundle))).await.is_err() {
                    return;
                }
            }
            Err(error) if asked || error != last_error => {
                tracing::error!("the policies cannot be read, what runs stays: {error}");
                last_error = error;
            }
            Err(_) => {}
        }
        if sign.is_none() {
            // The directory may be another one by now, which the old watch knows nothing of.
            watcher = start_watcher(&dir, signs.clone()).or(watcher);
        }
        sign = quiet_after_sign(&mut seen).await;
    }
    drop(watcher);
}

/// Waits for a sign of change and then for quiet. `None`: there was none, but it is time to look.
async fn quiet_after_sign(seen: &mut mpsc::Receiver<Sign>) -> Option<Sign> {
    let first = timeout_at(Instant::now() + RECHECK, seen.recv()).await.ok().flatten()?;
    let mut asked = first == Sign::Asked;
    let latest = Instant::now() + UNQUIET_MAX;
    while let Ok(Some(sign)) = timeout_at(latest.min(Instant::now() + QUIET), seen.recv()).await {
        asked |= sign == Sign::Asked;
        if Instant::now() >= latest {
            break;
        }
    }
    Some(if asked { Sign::Asked } else { Sign::Changed })
}

async fn read(dir: &Path) -> Result<Bundle, String> {
    let dir = dir.to_owned();
    match tokio::task::spawn_blocking(move || Bundle::read(&dir)).await {
        Ok(read) => read.map_err(|diagnostic| diagnostic.to_string()),
        Err(panic) => Err(panic.to_string()),
    }
}

fn start_watcher(dir: &Path, signs: mpsc::Sender<Sign>) -> Option<RecommendedWatcher> {
    let on_event = move |event: notify::Result<notify::Event>| match event {
        // Our own reading is an access, too.
        Ok(event) if event.kind.is_access() => {}
        Ok(_) => {
            let _ = signs.try_send(Sign::Changed);
        }
        Err(error) => tracing::warn!(%error, "watching the policies"),
    };
    let started = notify::recommended_watcher(on_event).and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::Recursive)?;
        Ok(watcher)
    });
    started
        .inspect_err(|error| {
            tracing::warn!(dir = %dir.display(), %error, "cannot be watched; it is read every {RECHECK:?} instead");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Watched {
        dir: tempfile::TempDir,
        inbox: mpsc::Receiver<Input>,
        reread: Reread,
    }

    fn policies(text: &str) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("default.lua"), text).unwrap();
        let (sender, inbox) = mpsc::channel(8);
        let running = Bundle::read(dir.path()).unwrap().hash().to_owned();
        let reread = watch(dir.path().to_owned(), running, sender);
        Watched { dir, inbox, reread }
    }

    impl Watched {
        async fn next(&mut self) -> Arc<Bundle> {
            let next = timeout_at(Instant::now() + Duration::from_secs(30), self.inbox.recv()).await;
            match next.expect("no new policies").unwrap() {
                Input::Policy(bundle) => bundle,
                other => panic!("unexpected {other:?}"),
            }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.dir.path().join(name), text).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_written_in_place_or_replaced_by_renaming_is_seen() {
        let mut watched = policies("return 1");
        watched.write("default.lua", "return 2");
        assert_eq!(watched.next().await.get("default.lua"), Some("return 2"));

        // What vim, emacs and `sed -i` do.
        watched.write(".default.lua.new", "return 3");
        fs::rename(watched.dir.path().join(".default.lua.new"), watched.dir.path().join("default.lua"))
            .unwrap();
        assert_eq!(watched.next().await.get("default.lua"), Some("return 3"));
    }

    #[tokio::test]
    async fn a_new_folder_is_watched_too() {
        let mut watched = policies("return 1");
        fs::create_dir(watched.dir.path().join("pools")).unwrap();
        watched.write("pools/west.lua", "return 2");
        assert_eq!(watched.next().await.get("pools/west.lua"), Some("return 2"));
    }

    #[tokio::test]
    async fn the_same_content_is_not_handed_over_again() {
        let mut watched = policies("return 1");
        watched.write("default.lua", "return 1");
        watched.write("notes.txt", "not a policy");
        watched.reread.now();
        watched.write("default.lua", "return 2");
        assert_eq!(watched.next().await.get("default.lua"), Some("return 2"));
    }

    #[tokio::test]
    async fn what_cannot_be_read_changes_nothing_until_it_can() {
        let mut watched = policies("return 1");
        fs::write(watched.dir.path().join("default.lua"), b"\xff").unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(watched.inbox.try_recv().is_err());
        watched.write("default.lua", "return 2");
        assert_eq!(watched.next().await.get("default.lua"), Some("return 2"));
    }

    #[tokio::test]
    async fn an_operator_may_ask_for_a_reading() {
        let mut watched = policies("return 1");
        // Without the watcher's help: the directory is replaced as a whole.
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("default.lua"), "return 2").unwrap();
        let gone = tempfile::tempdir().unwrap();
        fs::rename(watched.dir.path(), gone.path().join("old")).unwrap();
        fs::rename(other.path(), watched.dir.path()).unwrap();
        watched.reread.now();
        assert_eq!(watched.next().await.get("default.lua"), Some("return 2"));
    }
}
