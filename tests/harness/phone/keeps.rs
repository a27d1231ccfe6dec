//! Session timers, as a phone keeps them (RFC 4028).

use std::time::Duration;

use switchyard_host::sip::{Draft, Message, Method, Name, Refresher, SessionExpires};

use super::{CallId, Phone, Wants};

/// What these phones ask for: the least that is allowed.
const INTERVAL_S: u32 = 90;

impl Phone {
    /// Writes what a request of ours says of the session's time.
    pub(super) fn ask_for_time(&self, draft: &mut Draft) {
        if self.keeps_time.is_some() {
            draft.add(
                Name::SessionExpires,
                SessionExpires { seconds: INTERVAL_S, refresher: self.keeps_time },
            );
            draft.add(Name::Supported, "timer");
        }
    }

    /// Writes our 2xx to a request that begins or refreshes a session, and keeps what was agreed.
    pub(super) fn agree_on_time(&mut self, id: CallId, request: &Message, draft: &mut Draft) {
        let asked = request.get(Name::SessionExpires).and_then(|value| SessionExpires::parse(value).ok());
        let (Some(asked), Some(own)) = (asked, self.keeps_time) else {
            self.calls[id.0].session = None;
            return;
        };
        // Who has no timers cannot be asked to refresh; the rest is for the request to say, else for us.
        let knows = request.supports("timer");
        let refresher = asked.refresher.unwrap_or(if own == Refresher::Uac || !knows {
            Refresher::Uas
        } else {
            Refresher::Uac
        });
        let seconds = if asked.refresher.is_some() { asked.seconds } else { asked.seconds.min(INTERVAL_S) };
        draft.add(Name::SessionExpires, SessionExpires { seconds, refresher: Some(refresher) });
        if refresher == Refresher::Uac {
            draft.add(Name::Require, "timer");
        }
        self.keep_time(id, seconds, refresher == Refresher::Uas);
    }

    /// Their 2xx says what was agreed.
    pub(super) fn time_agreed(&mut self, id: CallId, response: &Message) {
        let agreed = response.get(Name::SessionExpires).and_then(|value| SessionExpires::parse(value).ok());
        match agreed {
            Some(agreed) => self.keep_time(id, agreed.seconds, agreed.refresher != Some(Refresher::Uas)),
            None => self.calls[id.0].session = None,
        }
    }

    fn keep_time(&mut self, id: CallId, seconds: u32, ours: bool) {
        let half = Duration::from_secs(u64::from(seconds)) / 2;
        self.calls[id.0].session = ours.then(|| (self.now.instant + half, half));
    }

    /// Refreshes what is due, by an UPDATE without an offer.
    pub(super) fn refresh_sessions(&mut self) {
        let now = self.now.instant;
        let due: Vec<CallId> =
            self.live().filter(|id| self.call(*id).session.is_some_and(|(at, _)| at <= now)).collect();
        for id in due {
            let contact = self.contact();
            let call = &mut self.calls[id.0];
            call.session = call.session.map(|(_, half)| (now + half, half));
            let Some(dialog) = call.dialog.as_mut() else { continue };
            let mut draft = dialog.request(Method::Update);
            draft.add(Name::Contact, contact);
            self.ask_for_time(&mut draft);
            self.send(draft, Wants::Update(id));
        }
    }
}
