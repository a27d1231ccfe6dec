//! What a SUBSCRIBE asks for, and how it is refused (RFC 6665 §4.2.1).

use super::PACKAGE;
use super::dialog_info::CONTENT_TYPE;
use crate::engine::core::Core;
use crate::sip::{Draft, EventHeader, Message, Name, ServerId, Status};

/// What a SUBSCRIBE without Expires asks for (RFC 4235 §3.4).
const EXPIRES_DEFAULT: u32 = 3600;
/// Shorter ones are refused with 423: refreshing would be most of the traffic.
const EXPIRES_MIN: u32 = 60;
/// Longer ones are shortened.
pub(super) const EXPIRES_MAX: u32 = 7200;

/// Why a SUBSCRIBE is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    status: Status,
    reason: Option<&'static str>,
    header: Option<(Name, String)>,
}

impl Refusal {
    /// With the status's own reason phrase.
    pub fn new(status: Status) -> Self {
        Self { status, reason: None, header: None }
    }

    /// With a reason phrase of our own.
    pub(super) fn because(self, reason: &'static str) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// With a header that says what would do.
    pub fn with(self, name: Name, value: impl ToString) -> Self {
        Self { header: Some((name, value.to_string())), ..self }
    }

    /// Sends it.
    pub fn send(&self, cx: &mut Core, server: ServerId, request: &Message) {
        let mut draft = Draft::response(request, self.status);
        let tag = cx.fresh_tag();
        draft.to_tag(&tag);
        if let Some(reason) = self.reason {
            draft.reason(reason);
        }
        if let Some((name, value)) = &self.header {
            draft.add(*name, value);
        }
        cx.tx.respond(cx.now, server, &draft);
    }
}

/// Whether a request is about the events told here.
pub fn is_about_dialogs(request: &Message) -> bool {
    event_of(request).is_some_and(|event| event.package == PACKAGE)
}

/// What it is about.
pub(super) fn event_of(request: &Message) -> Option<EventHeader> {
    EventHeader::parse(request.get(Name::Event)?).ok()
}

/// How long it wants to be told, within our bounds.
pub(super) fn expires_of(request: &Message) -> Result<u32, Refusal> {
    let asked = match request.get(Name::Expires) {
        None => EXPIRES_DEFAULT,
        Some(value) => value
            .trim()
            .parse()
            .map_err(|_| Refusal::new(Status::BAD_REQUEST).because("Expires must be a number of seconds"))?,
    };
    match asked {
        1..EXPIRES_MIN => Err(Refusal::new(Status::INTERVAL_TOO_BRIEF).with(Name::MinExpires, EXPIRES_MIN)),
        seconds => Ok(seconds.min(EXPIRES_MAX)),
    }
}

/// Whether the watcher can read what it would be told.
pub(super) fn accepts_documents(request: &Message) -> bool {
    let mut kinds =
        request.list(Name::Accept).map(|value| value.split(';').next().unwrap_or_default().trim());
    request.get(Name::Accept).is_none()
        || kinds
            .any(|kind| kind.eq_ignore_ascii_case(CONTENT_TYPE) || kind == "*/*" || kind == "application/*")
}
