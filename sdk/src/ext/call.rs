//! `switchyard.call/1`: legs. Everything here is a command; those that take a token are answered by an event.

use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::context::Context;
use crate::encode;
use crate::types::{LegId, Party, Refusal};

/// Legs, as a flow handles them: [`Context::calls`](crate::Context::calls).
#[derive(Clone, Copy)]
pub struct Calls<'a>(pub(crate) &'a Context);

impl Calls<'_> {
    /// Takes a leg's media to the host and plays to it. Resolves when the leg has confirmed; if it refuses, it
    /// is as it was.
    pub fn play(&self, leg: LegId, play: &Play) -> Answer<Played> {
        let flow = self.0.flow_number();
        self.0.core().ask("play", |host, token| host.play(flow, token, leg.0, &encode(play)))
    }

    /// Joins two legs, whatever state each is in. Resolves when both have confirmed; after a refusal both are
    /// as they were.
    pub fn join(&self, a: LegId, b: LegId) -> Answer<()> {
        let flow = self.0.flow_number();
        self.0.core().ask("join", |host, token| host.join(flow, token, a.0, b.0))
    }

    /// Rings someone for a waiting leg. Resolves when both are joined; dropping the answer stops the ringing.
    pub fn ring(&self, ring: &Ring) -> Answer<Answered> {
        let flow = self.0.flow_number();
        self.0.core().ask("ring", |host, token| host.ring(flow, token, &encode(ring)))
    }

    /// Ends a leg, as its state demands. Never an error: a leg that is gone is gone.
    pub fn release(&self, leg: LegId, release: &Release) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.release(flow, leg.0, &encode(release));
        self.0.core().tell(flow, "release", status);
    }

    /// Waits for a leg to end. Level-triggered: nothing is missed between two watches.
    pub fn watch(&self, leg: LegId) -> Answer<Ended> {
        let flow = self.0.flow_number();
        self.0.core().ask("watch", |host, token| host.watch(flow, token, leg.0))
    }

    /// Tells whoever made the offer that it worked. Best effort.
    pub fn accept(&self, accept: &Accept) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.accept(flow, &encode(accept));
        self.0.core().tell(flow, "accept", status);
    }

    /// Refuses the offer: the asking phone is told, the caller stays where they are.
    pub fn refuse(&self, refusal: &Refusal) {
        let flow = self.0.flow_number();
        let status = self.0.core().host.refuse(flow, &encode(refusal));
        self.0.core().tell(flow, "refuse", status);
    }
}

/// Takes a leg's media to the host and plays to it (extension function `play`).
///
/// An unanswered leg is answered 200 with the host's media; an established one gets a re-INVITE. If the leg
/// refuses the host's codecs (488, 415, 606) the host tries once more with the leg's own codecs, inactive.
/// Answer: success when the leg has confirmed, [`Played`]; otherwise a refusal and the leg is as it was.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Play {
    /// What to play; silence if absent.
    pub music: Music,
    /// A number to speak first, digit by digit, after "parked on": `7001`.
    pub say_number: Option<String>,
}

/// Music on hold (SET-04).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Music {
    /// Silence.
    #[default]
    Off,
    /// The host's own piece.
    Default,
    /// A file below the music folder.
    File(String),
}

/// Answer to [`Play`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Played {
    /// False when the leg refused the music and is parked in silence.
    pub audible: bool,
}

/// Rings someone on behalf of a waiting leg and joins them when they answer (extension function `ring`).
///
/// Answer: success with [`Answered`] when both legs are joined; otherwise a refusal whose status says how it
/// ended (486 busy, 408 no answer, 487 withdrawn …). Withdrawing the token stops the ringing as answered elsewhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ring {
    /// The leg that waits; it hears music until somebody answers.
    pub leg: LegId,
    /// Whom to ring.
    pub to: Target,
    /// The caller's name as the rung phone shows it: `Parked call 7001: Alice`.
    #[serde(default)]
    pub display: Option<String>,
    /// Value of the Alert-Info header, if one is sent: `<urn:alert:source:parked>` (RFC 7462).
    #[serde(default)]
    pub alert_info: Option<String>,
    /// Give up after this many milliseconds.
    pub timeout_ms: u64,
    /// The orbit whose call this is. The answer is then a claim: if it loses, the answering phone is released
    /// with "Call completed elsewhere" and the refusal is [`Code::LOST_CLAIM`](crate::types::Code::LOST_CLAIM).
    #[serde(default)]
    pub claims: Option<String>,
    /// Which of how many recalls this is, for those who look on: `switchyard orbit occupants`.
    #[serde(default)]
    pub attempt: Option<Attempt>,
}

/// One of several tries; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Which.
    pub number: u32,
    /// Of how many.
    pub of: u32,
}

/// Whom to ring.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// A user of ours. Never through forwarding (CP-10).
    pub user: Option<String>,
    /// That user's device to ring first ([`Party::device`]); the user's other devices follow.
    pub device: Option<String>,
    /// Or any URI: `sip:frontdesk@example.test`.
    pub uri: Option<String>,
}

/// Answer to [`Ring`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answered {
    /// The leg of the phone that answered.
    pub leg: LegId,
    /// Who answered.
    pub party: Party,
}

/// Ends a leg (extension function `release`): BYE, CANCEL or a final response, as its state demands.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Release {
    /// The SIP status put into the Reason header, and answered if the leg is an unanswered INVITE.
    pub status: Option<u16>,
    /// Words for the Reason header.
    pub text: Option<String>,
}

/// Answer to the extension function `watch`, which waits for a leg to end. Level-triggered: if it has ended
/// already, the answer comes at once.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// Who ended it: true if the party hung up, false if the host released it.
    pub by_party: bool,
    /// In words, for a log.
    pub reason: String,
}

/// Tells whoever asked that it worked (extension function `accept`). Best effort, never fails.
///
/// For a REFER: the final NOTIFY 200 with `Contact: <sip:NUMBER@DOMAIN;token=…>`, a MESSAGE where the phone
/// allows it, the connected name, and BYE two seconds later if the phone sends none.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Accept {
    /// The orbit the call is in.
    pub number: Option<String>,
    /// Its token.
    pub token: Option<String>,
    /// Words for the phone's display: `Parked on 7001`.
    pub text: Option<String>,
}
