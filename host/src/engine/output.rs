//! What comes out of the engine.

use std::net::SocketAddr;

use bytes::Bytes;
use serde::Serialize;

use super::input::{AdminId, QueryId, StoreId};
use crate::cluster::Frame;
use crate::net::{Flow, HostName, Protocol};
use crate::store::Transaction;
use crate::time::Utc;

/// Something the world outside should do.
#[derive(Debug)]
pub enum Output {
    /// Send one message.
    Send {
        /// Where to.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
    /// Say something to another host of the cluster, in order with what was said to it before. A frame for this host
    /// itself comes back as an input.
    Link {
        /// Whom.
        to: HostName,
        /// Where it listens for other hosts.
        at: SocketAddr,
        /// What.
        frame: Frame,
    },
    /// Look up where requests for a host go (RFC 3263: NAPTR, SRV, A/AAAA). Only for names, never for addresses.
    Resolve {
        /// Comes back with the answer.
        query: QueryId,
        /// The host name.
        host: String,
        /// The port, if the URI has one: then no NAPTR and no SRV.
        port: Option<u16>,
        /// The transport, if the URI names one: then no NAPTR.
        protocol: Option<Protocol>,
        /// Whether the URI is `sips:`.
        secure: bool,
    },
    /// Write to the store.
    Store {
        /// Comes back with the answer.
        request: StoreId,
        /// What to write.
        transaction: Transaction,
    },
    /// Read the whole store, after all that was written to it before.
    Read {
        /// Comes back with the answer.
        request: StoreId,
    },
    /// Tell the media service.
    Media(crate::media::Command),
    /// Answer to an administrative request.
    Admin {
        /// The request's id.
        request: AdminId,
        /// JSON, or a refusal.
        answer: Result<serde_json::Value, crate::admin::Refused>,
    },
    /// Something worth telling: to the log, the event stream and the call detail record.
    Event(Event),
}

/// One line of the host's history. Written to the log and to the event stream as JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Event {
    /// When.
    pub at: Utc,
    /// What happened: `call.answered`, `orbit.parked`, `orbit.refused`, `plugin.failed`, …
    pub what: &'static str,
    /// The reason code, if there is one (350xx).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    /// The Call-ID it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// Who, where, why: small and flat.
    pub detail: serde_json::Value,
}
