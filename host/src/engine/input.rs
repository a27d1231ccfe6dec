//! What goes into the engine.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::admin::Request as AdminRequest;
use crate::cluster::Frame;
use crate::net::{ConnectionId, Flow, HostName, Protocol};
use crate::policy::Bundle;
use crate::store::{Change, Outcome, Snapshot, Standing, StoreError};

/// Something happened outside.
#[derive(Debug)]
pub enum Input {
    /// One whole message arrived (a datagram, or one framed message of a stream).
    Received {
        /// Where from.
        flow: Flow,
        /// The message.
        bytes: Bytes,
    },
    /// A message could not be sent: no route, connection refused or reset.
    SendFailed {
        /// The flow it was meant for.
        flow: Flow,
        /// In words, for the log.
        reason: String,
    },
    /// A connection ended, by whichever side.
    ConnectionClosed {
        /// Which.
        connection: ConnectionId,
    },
    /// Answer to [`Output::Resolve`](super::Output::Resolve): where to send, best first. Empty: no such name.
    Resolved {
        /// The query's id.
        query: QueryId,
        /// Protocol and address pairs in the order of RFC 3263.
        targets: Vec<(Protocol, SocketAddr)>,
    },
    /// Answer to [`Output::Store`](super::Output::Store).
    Stored {
        /// The request's id.
        request: StoreId,
        /// What became of it.
        result: Result<Outcome, StoreError>,
    },
    /// Answer to [`Output::Read`](super::Output::Read).
    Read {
        /// The request's id.
        request: StoreId,
        /// Everything in the store at one moment.
        result: Result<Snapshot, StoreError>,
    },
    /// Somebody changed a record we mirror (users, ranges, pools), ourselves included.
    StoreChanged(Change),
    /// Another host of the cluster says something.
    Link {
        /// Who: proved by its certificate.
        from: HostName,
        /// What.
        frame: Frame,
    },
    /// A frame of an [`Output::Link`](super::Output::Link) could not be handed over: no such host, or it does not answer.
    Unlinked {
        /// For whom it was.
        to: HostName,
        /// The frame.
        frame: Frame,
    },
    /// A connection to another host was tried for: as soon as that host is known, and again and again while there is none.
    Tried {
        /// To whom.
        host: HostName,
        /// Why there is none, in words for who looks after them; `None`: there is one now.
        failed: Option<String>,
    },
    /// How this host stands with the store has changed.
    Standing(Standing),
    /// The media service says something.
    Media(crate::media::Event),
    /// A candidate policy was read from the disk. The engine takes it over, or refuses it as a whole.
    Policy(Arc<Bundle>),
    /// A plugin asked to be woken, from a thread of its own.
    PluginWake(crate::plugin::InstanceId),
    /// A request from the administrative interface; answered by [`Output::Admin`](super::Output::Admin).
    Admin {
        /// The request's id.
        request: AdminId,
        /// What is asked.
        what: AdminRequest,
    },
    /// Take no new parks and no new calls from outside any dialog; let what lives go on (CP-22).
    Drain,
}

/// Names a DNS query under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct QueryId(pub u64);

/// Names a store request under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StoreId(pub u64);

/// Names an administrative request under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AdminId(pub u64);
