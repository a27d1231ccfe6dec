//! One side of one call.

use std::fmt;

use crate::sip::{ClientId, Dialog, Message, Name, ServerId, Status};

/// One call of a phone, in the order they began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallId(pub(super) usize);

/// How far a call is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Dialled or arrived, not answered.
    Ringing,
    /// Answered.
    Up,
    /// Ended or refused.
    Over,
}

/// How something was refused: 480 Temporarily Unavailable, and what its Warning says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The status.
    pub status: Status,
    /// Its words.
    pub text: String,
}

impl Refused {
    pub(super) fn of(response: &Message) -> Self {
        let status = response.status().unwrap_or(Status::REQUEST_TIMEOUT);
        let text = match response.get(Name::Warning) {
            Some(warning) => warning_text(warning),
            None => response.reason().to_owned(),
        };
        Self { status, text }
    }

    /// Nobody has said anything.
    pub fn silence() -> Self {
        Self { status: Status::REQUEST_TIMEOUT, text: "no answer".to_owned() }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status.0, self.text)
    }
}

/// What stands between the quotes of `399 host "35110: …"`.
fn warning_text(warning: &str) -> String {
    warning.split('"').nth(1).unwrap_or(warning).to_owned()
}

/// One side of one call.
#[derive(Debug)]
pub struct Call {
    /// How far it is.
    pub state: State,
    /// Why it did not come about.
    pub refused: Option<Refused>,
    /// The Reason of the BYE that ended it; empty if that had none. `None`: they have not hung up.
    pub bye: Option<String>,
    /// The media direction of the last offer or answer of theirs.
    pub heard: Option<&'static str>,
    /// How our last re-INVITE was answered.
    pub changed: Option<Result<(), Refused>>,
    /// What became of our REFER: `SIP/2.0 …` of its last NOTIFY, or how it was refused.
    pub referred: Option<Result<String, Refused>>,
    pub(super) dialog: Option<Dialog>,
    pub(super) invite: Message,
    pub(super) server: Option<ServerId>,
    pub(super) client: Option<ClientId>,
    pub(super) changing: bool,
}

impl Call {
    pub(super) fn new(invite: Message, server: Option<ServerId>, client: Option<ClientId>) -> Self {
        Self {
            state: State::Ringing,
            refused: None,
            bye: None,
            heard: None,
            changed: None,
            referred: None,
            dialog: None,
            invite,
            server,
            client,
            changing: false,
        }
    }
}

/// The media direction of a description; both ways if it says nothing (RFC 3264 §5.1).
pub(super) fn direction(message: &Message) -> Option<&'static str> {
    let body = message.sdp()?;
    let text = String::from_utf8_lossy(&body);
    let named = ["sendonly", "recvonly", "inactive", "sendrecv"];
    let of_line = |line: &str| named.into_iter().find(|name| line.strip_prefix("a=") == Some(name));
    Some(text.lines().rev().find_map(of_line).unwrap_or("sendrecv"))
}

/// How an offer is answered (RFC 3264 §6.1).
pub(super) fn answering(offer: Option<&str>) -> &'static str {
    match offer {
        Some("sendonly") => "recvonly",
        Some("recvonly") => "sendonly",
        Some("inactive") => "inactive",
        _ => "sendrecv",
    }
}
