//! The only mapping from what happened to what SIP says (design.md §7).

use switchyard_sdk::types::{Code, Refusal};

use super::Rejection;
use crate::sip::{Name, Status};

/// The status for a reason code.
pub fn status_for(code: Code) -> Status {
    match code {
        Code::VACANT | Code::WRONG_TOKEN | Code::NOTHING_RINGS => Status::NOT_FOUND,
        // 481 on an INVITE reads as a fault of the stack; 486 reads as what it is.
        Code::LOST_CLAIM | Code::OCCUPIED | Code::DOUBLE_PARK => Status::BUSY_HERE,
        Code::FULL | Code::NOTHING_TO_PARK | Code::RETRIEVE_FAILED | Code::RESILIENCY => {
            Status::TEMPORARILY_UNAVAILABLE
        }
        Code::NOT_ALLOWED | Code::OUTSIDE => Status::FORBIDDEN,
        Code::DRAINING | Code::FENCED | Code::STORE_AWAY | Code::POOL_OUT => Status::SERVICE_UNAVAILABLE,
        Code::NOT_ACCEPTABLE => Status::NOT_ACCEPTABLE_HERE,
        Code::PARK_TIMEOUT => Status::SERVER_TIMEOUT,
        Code::LEG_GONE | Code::WITHDRAWN => Status::REQUEST_TERMINATED,
        _ => Status::SERVER_INTERNAL_ERROR,
    }
}

/// `399 fe1 "35101 taken by Ana"` (RFC 3261 §20.43).
pub fn warning(host: &str, refusal: &Refusal) -> String {
    let text = refusal.text.replace(['"', '\\', '\r', '\n'], "'");
    format!("399 {host} \"{} {text}\"", refusal.code.0)
}

/// `SIP;cause=486;text="taken by Ana"` (RFC 3326).
pub fn reason_header(status: Status, text: &str) -> String {
    format!("SIP;cause={};text=\"{}\"", status.0, text.replace(['"', '\\', '\r', '\n'], "'"))
}

impl Rejection {
    /// The response that carries a refusal: status, words in the reason phrase, code and words in Warning.
    pub fn of(refusal: &Refusal, host: &str) -> Self {
        let status = status_for(refusal.code);
        let mut headers = vec![(Name::Warning, warning(host, refusal))];
        if status == Status::SERVICE_UNAVAILABLE {
            // Long enough for a store to come back or another host to take over, short enough to try again by hand.
            headers.push((Name::RetryAfter, "5".to_owned()));
        }
        Self { status, reason: Some(refusal.text.clone()), headers }
    }
}
