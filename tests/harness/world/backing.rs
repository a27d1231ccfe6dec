//! What the host leans on, as models: its store and its media service.

use super::*;

impl World {
    pub(super) fn on_media(&mut self, command: media::Command) {
        match command {
            media::Command::Open { stream } => {
                self.next_port += 2;
                let local = SocketAddr::from(([192, 0, 2, 1], self.next_port));
                self.streams.insert(stream.0, Stream { remote: None, playlist: media::Playlist::default() });
                self.push(
                    Duration::ZERO,
                    Pending::Host(Input::Media(media::Event::Opened { stream, local })),
                );
            }
            media::Command::Send { stream, remote, playlist, .. } => {
                self.streams.insert(stream.0, Stream { remote: Some(remote), playlist });
            }
            media::Command::Pause { stream } => {
                if let Some(stream) = self.streams.get_mut(&stream.0) {
                    stream.remote = None;
                }
            }
            media::Command::Close { stream } => {
                self.streams.remove(&stream.0);
            }
        }
    }

    pub(super) fn write(&mut self, request: StoreId, transaction: &Transaction) {
        let away = || Err(StoreError::Unavailable("switched off by the test".to_owned()));
        let (pause, result) = match self.store_does {
            StoreDoes::Write(pause) => (pause, self.commit(transaction)),
            StoreDoes::Refuse => (Duration::from_millis(1), away()),
            StoreDoes::LoseAnswer => {
                let _ = self.commit(transaction);
                (Duration::from_millis(1), away())
            }
            StoreDoes::Hang => {
                self.held_back.push((request, transaction.clone()));
                return;
            }
        };
        if self.store_does != StoreDoes::WELL {
            self.network.count("store");
        }
        self.store_answers = self.store_answers.max(self.now + pause);
        self.push(self.store_answers - self.now, Pending::Host(Input::Stored { request, result }));
    }

    /// Another program writes into the store.
    pub fn write_record(&mut self, operation: Operation) {
        let _ = self.commit(&Transaction { operations: vec![operation], ..Transaction::default() });
    }

    /// The store writes, and tells the host of each change to a record it mirrors, as the runtime does.
    pub(super) fn commit(&mut self, transaction: &Transaction) -> Result<Outcome, StoreError> {
        let outcome = self.store.apply(transaction)?;
        if !matches!(outcome, Outcome::Committed { .. }) || self.engine.is_none() {
            return Ok(outcome);
        }
        for operation in &transaction.operations {
            let (Operation::Put { key, .. } | Operation::Delete { key }) = operation;
            let kind = key.strip_prefix(ROOT).unwrap_or_default();
            if MIRRORED.iter().any(|mirrored| kind.starts_with(mirrored)) {
                let record = self.store.snapshot(key).records.remove(key);
                let change = Change { key: key.clone(), record };
                self.push(StoreDoes::SOON, Pending::Host(Input::StoreChanged(change)));
            }
        }
        Ok(outcome)
    }
}
