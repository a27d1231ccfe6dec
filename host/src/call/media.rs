//! The host's own media towards a leg.

use switchyard_sdk::types::{Code, LegId};

use super::leg::Peer;
use super::{Calls, Failed, OpId};
use crate::engine::Output;
use crate::engine::core::Core;
use crate::media::{Background, Command, Event, Playlist, StreamId};

impl Calls {
    /// Books a port for the leg, or goes on at once if it has one: one RTP stream continues over re-INVITEs.
    pub(super) fn open_stream(&mut self, cx: &mut Core, operation: OpId, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        if leg.stream_address.is_some() {
            self.offer_host_media(cx, operation);
        } else if leg.stream.is_none() {
            let stream = StreamId(cx.fresh_id());
            leg.stream = Some(stream);
            self.streams.insert(stream, id);
            cx.emit(Output::Media(Command::Open { stream }));
        }
    }

    /// The media service says something.
    pub fn on_media(&mut self, cx: &mut Core, event: &Event) {
        match event {
            Event::Opened { stream, local } => {
                let Some(&id) = self.streams.get(stream) else {
                    cx.emit(Output::Media(Command::Close { stream: *stream }));
                    return;
                };
                if let Some(leg) = self.legs.get_mut(&id) {
                    leg.stream_address = Some(*local);
                }
                if let Some(operation) = self.opening_for(id) {
                    self.offer_host_media(cx, operation);
                }
            }
            Event::Failed { stream, reason } => {
                let Some(&id) = self.streams.get(stream) else { return };
                cx.event("media.failed", None, None, serde_json::json!({ "leg": id.0, "reason": reason }));
                if let Some(operation) = self.opening_for(id) {
                    self.streams.remove(stream);
                    if let Some(leg) = self.legs.get_mut(&id) {
                        leg.stream = None;
                    }
                    self.fail(cx, operation, Failed::new(Code::GENERAL, 500, reason.clone()));
                }
            }
            Event::PromptsDone { stream } => {
                if let Some(leg) = self.streams.get(stream).and_then(|id| self.legs.get_mut(id)) {
                    leg.playlist.prompts.clear();
                }
            }
            Event::Digit { stream, digit, duration_ms } => {
                if let Some(&id) = self.streams.get(stream) {
                    let detail =
                        serde_json::json!({ "leg": id.0, "digit": digit.to_string(), "ms": duration_ms });
                    cx.event("media.digit", None, None, detail);
                }
            }
        }
    }

    /// Starts sending to where the leg listens. False if it does not want to hear anything.
    pub(super) fn send_media(&mut self, cx: &mut Core, id: LegId, playlist: &Playlist) -> bool {
        let Some(leg) = self.legs.get_mut(&id) else { return false };
        let Some(stream) = leg.stream else { return false };
        leg.playlist = playlist.clone();
        match leg.negotiation.media_target() {
            Some(target) if target.sends => {
                cx.emit(Output::Media(Command::Send {
                    stream,
                    remote: target.rtp,
                    rtcp: target.rtcp,
                    codec: target.codec,
                    payload_type: target.payload_type,
                    dtmf: target.dtmf,
                    playlist: playlist.clone(),
                }));
                playlist.then != Background::Silence || !playlist.prompts.is_empty()
            }
            _ => {
                cx.emit(Output::Media(Command::Pause { stream }));
                false
            }
        }
    }

    /// The leg's description has changed while the host is its peer: goes on sending, to where it listens now.
    pub(super) fn refresh_media(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get(&id) else { return };
        if leg.peer == Peer::Host && leg.stream.is_some() {
            // A number half spoken is spoken again rather than cut off; music goes on where it was.
            let playlist = leg.playlist.clone();
            self.send_media(cx, id, &playlist);
        }
    }

    /// The leg hears somebody else now.
    pub(super) fn close_stream(&mut self, cx: &mut Core, id: LegId) {
        let Some(leg) = self.legs.get_mut(&id) else { return };
        leg.stream_address = None;
        if let Some(stream) = leg.stream.take() {
            self.streams.remove(&stream);
            cx.emit(Output::Media(Command::Close { stream }));
        }
    }
}
