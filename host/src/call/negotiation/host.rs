//! The host's own audio, as a stream of a session description.

use serde::{Deserialize, Serialize};

use crate::media::Codec;
use crate::sip::body::sdp::{Direction, Line, Media};

/// The payload type of telephone events if the leg has not chosen one; the number most phones use.
pub(super) const TELEPHONE_EVENT: &str = "101";
/// Clock rate of every codec of the host, G.722 included (RFC 3551 §4.5.2).
pub(super) const HOST_CLOCK_HZ: u32 = 8000;

/// A codec of the host, as this leg numbers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) codec: Codec,
    pub(super) format: String,
}

/// The host's codecs that a stream lists, in its order, with its payload types.
pub(super) fn known_formats(media: &Media) -> Vec<Known> {
    let mut known: Vec<Known> = Vec::new();
    for format in &media.formats {
        let Some(encoding) = media.encoding(format) else { continue };
        let codec = Codec::ALL.into_iter().find(|codec| {
            encoding.name.eq_ignore_ascii_case(codec.encoding_name())
                && encoding.clock_hz == HOST_CLOCK_HZ
                && encoding.channels == 1
        });
        if let Some(codec) = codec.filter(|codec| known.iter().all(|known| known.codec != *codec)) {
            known.push(Known { codec, format: format.clone() });
        }
    }
    known
}

/// The host's own audio stream.
pub(super) fn host_audio(port: u16, proto: &str, formats: &[Known], telephone_event: Option<&str>) -> Media {
    // A payload type the leg uses for speech cannot mean digits as well.
    let telephone_event = telephone_event.filter(|pt| formats.iter().all(|known| known.format != *pt));
    let list = formats.iter().map(|known| known.format.clone()).chain(telephone_event.map(str::to_owned));
    let mut media = Media::new("audio", port, proto, list.collect());
    for known in formats {
        let map = format!("rtpmap:{} {}/{HOST_CLOCK_HZ}", known.format, known.codec.encoding_name());
        media.lines.push(Line::new('a', map));
    }
    if let Some(format) = telephone_event {
        media.lines.push(Line::new('a', format!("rtpmap:{format} telephone-event/{HOST_CLOCK_HZ}")));
        media.lines.push(Line::new('a', format!("fmtp:{format} 0-15")));
    }
    media.lines.push(Line::new('a', "ptime:20"));
    media.lines.push(Line::new('a', Direction::SendRecv.as_str()));
    media
}
