//! Session timers (RFC 4028), negotiated per leg and never passed through.

use std::time::Duration;

use crate::sip::{Draft, Message, Name, Refresher, SessionExpires};

/// What we ask for: half an hour, the RFC's recommendation (§4).
pub const INTERVAL: Duration = Duration::from_secs(1800);

/// The least we accept; the RFC's own floor (§5).
pub const MINIMUM: Duration = Duration::from_secs(90);

/// One leg's session timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct SessionTimer {
    /// The agreed interval; none: the session has no timer.
    pub interval: Option<Duration>,
    /// Whether we are the refresher.
    pub ours: bool,
}

/// A Session-Expires below [`MINIMUM`]: answered 422 with Min-SE (RFC 4028 §9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooSmall;

impl SessionTimer {
    /// Reads an (re-)INVITE or UPDATE of theirs. We are the UAS: if they support timers they refresh unless they
    /// ask us to (RFC 4028 §9, table 2).
    pub fn from_request(request: &Message) -> Result<Self, TooSmall> {
        let Some(asked) = request.get(Name::SessionExpires).and_then(|v| SessionExpires::parse(v).ok())
        else {
            return Ok(if request.supports("timer") {
                Self { interval: Some(INTERVAL), ours: false }
            } else {
                Self::default()
            });
        };
        let interval = Duration::from_secs(u64::from(asked.seconds));
        if interval < MINIMUM {
            return if request.supports("timer") {
                Err(TooSmall)
            } else {
                Ok(Self { interval: Some(MINIMUM), ours: true })
            };
        }
        let ours = !request.supports("timer") || asked.refresher == Some(Refresher::Uas);
        Ok(Self { interval: Some(interval), ours })
    }

    /// Reads a 2xx to a request of ours. We are the UAC (RFC 4028 §7.2).
    pub fn from_response(response: &Message) -> Self {
        match response.get(Name::SessionExpires).and_then(|v| SessionExpires::parse(v).ok()) {
            Some(agreed) => Self {
                interval: Some(Duration::from_secs(u64::from(agreed.seconds)).max(MINIMUM)),
                ours: agreed.refresher != Some(Refresher::Uas),
            },
            None => Self::default(),
        }
    }

    /// Reads a 2xx to a refresh of ours. One that says nothing of time: the other side keeps it no more, and the session is ours
    /// to refresh (RFC 4028 §7.2).
    pub fn refreshed(self, response: &Message) -> Self {
        let agreed = Self::from_response(response);
        if agreed.interval.is_some() { agreed } else { Self { ours: self.interval.is_some(), ..self } }
    }

    /// Writes our 2xx.
    pub fn answer(&self, response: &mut Draft) {
        if let Some(interval) = self.interval {
            let refresher = if self.ours { Refresher::Uas } else { Refresher::Uac };
            let value = SessionExpires { seconds: interval.as_secs() as u32, refresher: Some(refresher) };
            response.add(Name::SessionExpires, value);
            if !self.ours {
                response.add(Name::Require, "timer");
            }
        }
    }

    /// Writes an (re-)INVITE or UPDATE of ours.
    pub fn ask(&self, request: &mut Draft, minimum: Option<u32>) {
        let seconds = self.interval.unwrap_or(INTERVAL).as_secs() as u32;
        let seconds = minimum.map_or(seconds, |minimum| seconds.max(minimum));
        // In a refresh whoever refreshed before goes on; in a first INVITE the callee may choose.
        let refresher = self.interval.map(|_| if self.ours { Refresher::Uac } else { Refresher::Uas });
        request.add(Name::SessionExpires, SessionExpires { seconds, refresher });
        if let Some(minimum) = minimum {
            request.add(Name::MinSe, minimum);
        }
    }

    /// How long after a refresh the next thing happens: our own refresh at half the interval, or giving up
    /// shortly before the interval ends (RFC 4028 §10).
    pub fn next(&self) -> Option<(bool, Duration)> {
        let interval = self.interval?;
        if self.ours {
            Some((true, interval / 2))
        } else {
            Some((false, interval.saturating_sub((interval / 3).min(Duration::from_secs(32)))))
        }
    }
}
