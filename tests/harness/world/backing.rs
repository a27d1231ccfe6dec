//! What the hosts lean on, as models: their store and their media services.

use super::*;

impl World {
    pub(super) fn on_media(&mut self, host: usize, command: media::Command) {
        match command {
            media::Command::Open { stream } => {
                self.next_port += 2;
                let local = SocketAddr::new(self.hosts[host].address.ip(), self.next_port);
                let silent = Stream { remote: None, playlist: media::Playlist::default() };
                self.streams.insert((host, stream.0), silent);
                self.for_host(Duration::ZERO, host, Input::Media(media::Event::Opened { stream, local }));
            }
            media::Command::Send { stream, remote, playlist, .. } => {
                self.streams.insert((host, stream.0), Stream { remote: Some(remote), playlist });
            }
            media::Command::Pause { stream } => {
                if let Some(stream) = self.streams.get_mut(&(host, stream.0)) {
                    stream.remote = None;
                }
            }
            media::Command::Close { stream } => {
                self.streams.remove(&(host, stream.0));
            }
        }
    }

    pub(super) fn write(&mut self, host: usize, request: StoreId, transaction: &Transaction) {
        self.asked += 1;
        let away = || Err(StoreError::Unavailable("switched off by the test".to_owned()));
        if self.is_struck(host, request, transaction) {
            return;
        }
        let (pause, result) = match self.store_does {
            _ if self.storeless.contains_key(&host) => {
                self.hosts[host].held_back.push((request, transaction.clone()));
                return;
            }
            StoreDoes::Write(pause) => (pause, self.commit(Some(host), transaction)),
            StoreDoes::Refuse => (Duration::from_millis(1), away()),
            StoreDoes::LoseAnswer => {
                let _ = self.commit(Some(host), transaction);
                (Duration::from_millis(1), away())
            }
            StoreDoes::Hang => {
                self.hosts[host].held_back.push((request, transaction.clone()));
                return;
            }
        };
        if self.store_does != StoreDoes::WELL {
            self.network.count("store");
        }
        let at = self.hosts[host].store_answers.max(self.now + pause);
        self.hosts[host].store_answers = at;
        self.for_host(at - self.now, host, Input::Stored { request, result });
    }

    /// Another program writes into the store.
    pub fn write_record(&mut self, operation: Operation) {
        let _ = self.commit(None, &Transaction { operations: vec![operation], ..Transaction::default() });
    }

    /// The store writes what a host or another program wants written, and tells the hosts of each change to a record they
    /// mirror, as the runtime does.
    pub(super) fn commit(
        &mut self,
        by: Option<usize>,
        transaction: &Transaction,
    ) -> Result<Outcome, StoreError> {
        let wrong = by.filter(|_| self.is_cluster()).and_then(|host| self.trespass(host, transaction));
        let outcome = self.store.apply(transaction)?;
        let Outcome::Committed { revision } = outcome else { return Ok(outcome) };
        if let Some(wrong) = wrong {
            self.complain(&wrong);
        }
        for change in transaction.changes(revision) {
            if !is_watched(&change.key, self.is_cluster()) {
                continue;
            }
            for host in 0..self.hosts.len() {
                if self.hosts[host].engine.is_some() && !self.storeless.contains_key(&host) {
                    self.for_host(StoreDoes::SOON, host, Input::StoreChanged(change.clone()));
                }
            }
        }
        Ok(outcome)
    }
}

/// Whether the runtime tells the engine of changes to a record.
pub(super) fn is_watched(key: &str, shared: bool) -> bool {
    let kind = key.strip_prefix(ROOT).unwrap_or_default();
    let watched = |kinds: &[&str]| kinds.iter().any(|watched| kind.starts_with(watched));
    watched(&MIRRORED) || shared && watched(&SHARED)
}
