//! A leg: one dialog of ours with a phone or a trunk, and its side of offer/answer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use switchyard_sdk::types::{FlowId, LegId, Party};

use super::OpId;
use super::branch::{Candidate, Headers};
use super::negotiation::Negotiation;
use super::restore::LegFacts;
use super::session_timer::SessionTimer;
use crate::engine::core::{ALLOW, SUPPORTED};
use crate::media::StreamId;
use crate::net::{Flow, Protocol};
use crate::sip::{ClientId, Dialog, DialogId, Draft, Message, Method, Name, ServerId};
use crate::time::{Instant, Utc};

/// Where a leg stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Its INVITE has no final answer yet.
    Early,
    /// Answered: the dialog stands.
    Confirmed,
    /// Over; kept only until the last message about it is sent.
    Ended,
}

/// What is at the other side of a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// Nobody: the leg has just arrived, or its peer has left and an operation is about to give it another.
    None,
    /// Another leg: media flows from phone to phone.
    Leg(LegId),
    /// The host's own media.
    Host,
}

/// One early dialog (RFC 3261 §12.1). A caller has one per ringing branch that answered with a To tag: towards the
/// caller the host looks like a forking proxy (design.md §3).
#[derive(Debug)]
pub struct Early {
    /// The dialog.
    pub dialog: Dialog,
    /// Its offer/answer.
    pub negotiation: Negotiation,
    /// The early dialog on the other side that this one stands for: leg and that dialog's remote tag.
    pub mate: Option<(LegId, String)>,
    /// The reliable provisional response under way (RFC 3262).
    pub reliable: Option<Reliable>,
    /// The last RSeq given (towards a caller) or seen (from a callee).
    pub rseq: u32,
}

/// A reliable provisional response that waits for its PRACK.
#[derive(Debug)]
pub struct Reliable {
    /// Its RSeq.
    pub rseq: u32,
    /// What to send again.
    pub bytes: bytes::Bytes,
    /// The pause before it is sent again; doubles.
    pub pause: Duration,
    /// When to give up.
    pub until: Instant,
    /// The branch's own 1xx that awaits a PRACK carrying whatever the caller's PRACK carries.
    pub owed: Option<PrackOwed>,
}

/// A PRACK we owe to a branch: sent when the caller's PRACK arrives, because it may carry an answer.
#[derive(Clone, Debug)]
pub struct PrackOwed {
    /// The branch.
    pub leg: LegId,
    /// Which early dialog of it.
    pub tag: String,
    /// `RSeq CSeq-number INVITE`.
    pub rack: String,
}

/// Our 2xx that waits for its ACK.
#[derive(Debug)]
pub struct AwaitAck {
    /// The INVITE's transaction.
    pub server: ServerId,
    /// Its CSeq number: which ACK belongs to it.
    pub cseq: u32,
    /// The pause before the 2xx is sent again; doubles up to T2.
    pub pause: Duration,
    /// When to give up (64*T1).
    pub until: Instant,
    /// Whether the ACK must carry the answer to an offer in our 2xx.
    pub wants_answer: bool,
}

/// What a request of ours proved itself with. The ACK of a 2xx is challenged by nobody, so it repeats what its INVITE
/// had (RFC 3261 §13.2.2.4, §22.1).
#[derive(Clone, Default, Debug)]
pub struct Credentials(Vec<(Name, String)>);

impl Credentials {
    /// Those of a request.
    pub fn of(request: &Message) -> Self {
        let names = [Name::Authorization, Name::ProxyAuthorization].into_iter();
        Self(names.flat_map(|name| request.all(name).map(move |value| (name, value.to_owned()))).collect())
    }

    /// Puts them into an ACK.
    pub fn add_to(&self, ack: &mut Draft) {
        for (name, value) in &self.0 {
            ack.add(*name, value);
        }
    }
}

/// A 2xx of theirs whose ACK we hold back until we have the answer to its offer.
#[derive(Clone, Copy, Debug)]
pub struct AckOwed {
    /// CSeq number of the INVITE.
    pub cseq: u32,
}

/// The INVITE with which a phone started this leg, until its final response.
#[derive(Debug)]
pub struct Incoming {
    /// Its transaction.
    pub server: ServerId,
    /// The request.
    pub request: Message,
    /// Whether it carried an offer.
    pub offered: bool,
    /// Branches that were tried on its behalf and have not failed.
    pub branches: Vec<LegId>,
    /// The best final failure so far: what the caller is told when no branch is left.
    pub best: Option<Message>,
    /// Whether the engine is asked where the call goes when nobody is left who could answer
    /// ([`Notice::Unanswered`](super::Notice)).
    pub asks: bool,
    /// Whether the caller understands reliable provisional responses.
    pub rel: bool,
    /// Further places to try, one after the other, when those before could not be reached (RFC 3263 §4.3).
    pub hunt: VecDeque<Candidate>,
    /// What the INVITEs there say.
    pub headers: Headers,
}

/// The INVITE with which we started this leg, until its final response.
#[derive(Debug)]
pub struct Outgoing {
    /// Its transaction.
    pub client: ClientId,
    /// Whose branch this is.
    pub for_whom: ForWhom,
    /// Whether it carried an offer.
    pub offered: bool,
    /// It was cancelled: a 2xx that crosses the CANCEL is ACKed and sent BYE.
    pub cancelled: bool,
    /// Its request was answered with a challenge once already.
    pub challenged: bool,
    /// Its Min-SE was raised once already (RFC 4028 §7.3).
    pub interval_raised: bool,
}

/// On whose behalf a phone is rung.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForWhom {
    /// A caller whose INVITE is being forked.
    Caller(LegId),
    /// An operation that will join whoever answers to a waiting leg.
    Operation(OpId),
}

/// What a leg must know of the trunk it goes through.
#[derive(Debug, Default)]
pub struct Trunk {
    /// Its name in the configuration.
    pub name: String,
    /// User name and password for its challenges (RFC 3261 §22.2).
    pub credentials: Option<(String, String)>,
    /// `forks = "hidden"`: as a caller it gets one bodiless 180 until one branch wins.
    pub hidden_forks: bool,
}

/// What a phone said it can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Abilities {
    /// UPDATE (RFC 3311).
    pub update: bool,
    /// MESSAGE (RFC 3428).
    pub message: bool,
    /// Session timers (RFC 4028).
    pub timer: bool,
}

impl Abilities {
    /// Reads Allow and Supported.
    pub fn of(message: &Message) -> Self {
        Self {
            update: message.allows(&Method::Update),
            message: message.allows(&Method::Message),
            timer: message.supports("timer"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Leg {
    /// Its name.
    pub id: LegId,
    /// The call it belongs to, as listed to people: the id of the leg that began it.
    pub call: u64,
    /// Who is there.
    pub party: Party,
    /// The trunk, if it is one.
    pub trunk: Option<Arc<Trunk>>,
    /// Whether the host has called this phone, rather than the phone the host.
    pub rung: bool,
    /// Where it stands.
    pub state: State,
    /// Who is on the other side.
    pub peer: Peer,
    /// The dialog; while early, what all its early dialogs have in common.
    pub dialog: Dialog,
    /// Early dialogs; empty once confirmed.
    pub earlies: Vec<Early>,
    /// Offer/answer of the dialog; while early, the state from which each early dialog starts.
    pub negotiation: Negotiation,
    /// The INVITE they sent, until its final response.
    pub incoming: Option<Incoming>,
    /// The INVITE we sent, until its final response.
    pub outgoing: Option<Outgoing>,
    /// A re-INVITE, UPDATE or PRACK of theirs that an operation will answer.
    pub request: Option<(ServerId, Message)>,
    /// Our 2xx without ACK.
    pub await_ack: Option<AwaitAck>,
    /// Their 2xx without our ACK.
    pub ack_owed: Option<AckOwed>,
    /// The credentials of the INVITE that their last 2xx answers: its ACK carries them, too.
    pub credentials: Credentials,
    /// The operation that owns this leg's offer/answer now.
    pub busy: Option<OpId>,
    /// Our re-INVITE or UPDATE under way.
    pub client: Option<ClientId>,
    /// The host's RTP stream towards this leg.
    pub stream: Option<StreamId>,
    /// The stream's own address, once it is open.
    pub stream_address: Option<std::net::SocketAddr>,
    /// What the stream plays.
    pub playlist: crate::media::Playlist,
    /// The plugin flow that is deciding about this leg: a hang-up of its peer does not end it.
    pub flow: Option<FlowId>,
    /// What the phone can do.
    pub abilities: Abilities,
    /// Session timer.
    pub session: SessionTimer,
    /// When the phone put us on hold, if it has.
    pub held_at: Option<Instant>,
    /// When the leg began.
    pub since: Utc,
    /// When it was answered.
    pub answered: Option<Utc>,
    /// Made from a record, and its phone has not been heard since: it may be known to the phone no more, or not be
    /// reached before the phone registers again.
    pub unheard: bool,
    /// The host is gone at whose sockets the phone talked. It is told another address; until it answers, or registers
    /// elsewhere, its silence may be the way's (a NAT lets nobody else in), and does not end the call.
    pub stranded: bool,
    /// What its phone was last told of its peer may be something else than stands here: another host, or another life of this
    /// one, has told it. Until it is told again.
    pub in_doubt: bool,
    /// How it was at last at a host that has lost the seat of its pool, until it is told again.
    pub correction: Option<Box<LegFacts>>,
    /// The last CSeq number of ours that was used when its record was written, if the leg was made from one: what its phone answers
    /// to a later one of that life was about something else than the record says.
    pub recorded_cseq: Option<u32>,
    /// The CSeq number of an INVITE of ours that was given up because its way broke: the phone may have taken it.
    pub broken_off: Option<u32>,
    /// OPTIONS in a row that nobody answered.
    pub silent_probes: u8,
    /// Our Contact in this dialog.
    pub contact: String,
    /// The last ACK we sent to a 2xx, to repeat when the 2xx is repeated.
    pub last_ack: Option<(u32, bytes::Bytes)>,
    /// Who is there by the word of another pool's server, from when what it says that in is accepted ([`Calls::assert`]).
    ///
    /// [`Calls::assert`]: super::Calls::assert
    pub asserted: Option<Box<Party>>,
    /// Whom the phone is told it talks to while it talks to the host.
    pub shown: Option<Party>,
    /// A leg of the same phone that parked by dialling: cleared together with this one.
    pub twin: Option<LegId>,
    /// The orbit in which the call of this leg was parked by dialling, while the phone holds on to the leg.
    pub parked_in: Option<String>,
    /// A call for a plugin that waits for a hold under way.
    pub waiting_offer: Option<Box<(crate::plugin::InstanceId, switchyard_sdk::types::Offer)>>,
    /// When a transfer it asked for was refused.
    pub refused_at: Option<Instant>,
    /// Who was here last and left it waiting: rung back when all else fails.
    pub brought_by: Option<Party>,
    /// The leg whose place this INVITE wants to take.
    pub replaces: Option<LegId>,
}

impl Leg {
    /// A leg whose INVITE has no final answer yet; everything else is as in a call that has just begun.
    pub fn new(
        id: LegId,
        party: Party,
        dialog: Dialog,
        negotiation: Negotiation,
        contact: String,
        since: Utc,
    ) -> Self {
        Self {
            id,
            call: id.0,
            party,
            trunk: None,
            rung: false,
            state: State::Early,
            peer: Peer::None,
            dialog,
            earlies: Vec::new(),
            negotiation,
            incoming: None,
            outgoing: None,
            request: None,
            await_ack: None,
            ack_owed: None,
            credentials: Credentials::default(),
            busy: None,
            client: None,
            stream: None,
            stream_address: None,
            playlist: crate::media::Playlist::default(),
            flow: None,
            abilities: Abilities::default(),
            session: SessionTimer::default(),
            held_at: None,
            since,
            answered: None,
            unheard: false,
            stranded: false,
            in_doubt: false,
            correction: None,
            recorded_cseq: None,
            broken_off: None,
            silent_probes: 0,
            contact,
            last_ack: None,
            asserted: None,
            shown: None,
            twin: None,
            parked_in: None,
            waiting_offer: None,
            refused_at: None,
            brought_by: None,
            replaces: None,
        }
    }

    /// Where requests to this leg go.
    pub fn flow(&self) -> Flow {
        self.dialog.flow
    }

    /// Whether a phone or a trunk is there, rather than the server of another pool.
    pub fn is_of_phone(&self) -> bool {
        self.flow().protocol != Protocol::Cluster
    }

    /// The names of all its dialogs.
    pub fn dialog_ids(&self) -> Vec<DialogId> {
        if self.earlies.is_empty() {
            vec![self.dialog.id()]
        } else {
            self.earlies.iter().map(|early| early.dialog.id()).collect()
        }
    }

    /// A request that refreshes the session and the target: a re-INVITE or an UPDATE (RFC 4028 §7.4).
    pub fn refreshing(&mut self, method: Method) -> Draft {
        let mut draft = self.dialog.request(method);
        draft.add(Name::Contact, &self.contact).add(Name::Allow, ALLOW).add(Name::Supported, SUPPORTED);
        if self.session.interval.is_some() {
            self.session.ask(&mut draft, None);
        }
        draft
    }

    /// Whether it stands and nothing changes its session now.
    pub fn is_idle(&self) -> bool {
        self.state == State::Confirmed
            && self.busy.is_none()
            && self.request.is_none()
            && self.await_ack.is_none()
            && self.client.is_none()
    }

    /// The early dialog that stands for `mate`.
    pub fn early_for(&mut self, mate: LegId, tag: &str) -> Option<&mut Early> {
        self.earlies
            .iter_mut()
            .find(|early| early.mate.as_ref().is_some_and(|(leg, t)| *leg == mate && t == tag))
    }

    /// The early dialog with this remote tag.
    pub fn early_from(&mut self, remote_tag: &str) -> Option<&mut Early> {
        self.earlies.iter_mut().find(|early| early.dialog.remote_tag == remote_tag)
    }

    /// The early dialog with this local tag.
    pub fn early_to(&mut self, local_tag: &str) -> Option<&mut Early> {
        self.earlies.iter_mut().find(|early| early.dialog.local_tag == local_tag)
    }
}
