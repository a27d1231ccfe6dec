//! What two offers have in common. Two phones that both offer (the caller and whoever picks up) cannot answer each
//! other, so the host answers both; each learns of the other exactly what fits its own offer.
//!
//! Every choice here comes out the same whichever of the two is asked first, or one phone would send what the other
//! does not expect.

use std::cmp::Ordering;

use super::move_direction;
use crate::sip::body::sdp::{Encoding, Line, Media, Sdp};

/// Encodings that accompany speech but are none: an answer of these alone would be a silent call.
const COMPANIONS: [&str; 6] = ["telephone-event", "CN", "red", "rtx", "ulpfec", "flexfec-03"];

/// The slot of `offer` to answer, and the stream of `peer` to put there, cut down to what both offered.
pub(super) fn audio(offer: &Sdp, peer: &Sdp) -> Option<(usize, Media)> {
    let offer_first = order(offer, peer).is_le();
    let mut pairs: Vec<(usize, usize)> = (0..offer.media().len())
        .flat_map(|slot| (0..peer.media().len()).map(move |from| (slot, from)))
        .collect();
    pairs.sort_by_key(|&(slot, from)| (slot + from, if offer_first { slot } else { from }));
    pairs.into_iter().find_map(|(slot, from)| {
        let (ours, theirs) = (&offer.media()[slot], &peer.media()[from]);
        let fits = ours.is_live() && theirs.is_live() && ours.is_audio() && theirs.is_audio();
        (fits && ours.same_transport(theirs)).then_some(())?;
        Some((slot, cut(offer, ours, peer, theirs, offer_first)?))
    })
}

/// Which of two offers counts as the first; only that it is the same from either side matters.
fn order(one: &Sdp, other: &Sdp) -> Ordering {
    let key = |sdp: &Sdp| sdp.to_string();
    key(one).cmp(&key(other))
}

/// `theirs`, without what `ours` does not have.
fn cut(offer: &Sdp, ours: &Media, peer: &Sdp, theirs: &Media, ours_first: bool) -> Option<Media> {
    let mut stream = theirs.clone();
    stream.proto.clone_from(&ours.proto);
    stream.formats = formats(ours, theirs, ours_first)?;
    let kept = stream.formats.clone();
    let dropped = |line: &Line| {
        line.attribute().is_some_and(|(name, value)| {
            let format = value.split_ascii_whitespace().next().unwrap_or_default();
            matches!(name, "rtpmap" | "fmtp" | "rtcp-fb")
                && format != "*"
                && kept.iter().all(|kept| kept != format)
        })
    };
    stream.lines.retain(|line| !dropped(line));
    keys(ours, &mut stream, ours_first)?;
    setup(offer, ours, peer, &mut stream, ours_first)?;
    let direction = theirs.direction().answering(ours.direction());
    move_direction(&mut stream, direction);
    Some(stream)
}

/// The payload types of `theirs` that `ours` has as well, those best for both first; at least one of them speech.
fn formats(ours: &Media, theirs: &Media, ours_first: bool) -> Option<Vec<String>> {
    let mut common = Vec::new();
    for (rank, format) in theirs.formats.iter().enumerate() {
        let Some(encoding) = theirs.encoding(format) else { continue };
        let same = |format: &String| ours.encoding(format).is_some_and(|ours| ours == encoding);
        let Some(our_rank) = ours.formats.iter().position(same) else { continue };
        let companion = is_companion(&encoding);
        let first_rank = if ours_first { our_rank } else { rank };
        common.push(((companion, our_rank + rank, first_rank), format.clone()));
    }
    common.sort();
    common.first().is_some_and(|((companion, ..), _)| !companion).then_some(())?;
    Some(common.into_iter().map(|(_, format)| format).collect())
}

fn is_companion(encoding: &Encoding<'_>) -> bool {
    COMPANIONS.iter().any(|name| name.eq_ignore_ascii_case(encoding.name))
}

/// SDES keys (RFC 4568 §5.1.2): an answer has one `a=crypto`, of a suite that was offered, under the offer's tag.
fn keys(ours: &Media, stream: &mut Media, ours_first: bool) -> Option<()> {
    fn parts(value: &str) -> Option<(&str, &str, &str)> {
        let (tag, rest) = value.trim().split_once(' ')?;
        let (suite, key) = rest.trim_start().split_once(' ')?;
        Some((tag, suite, key))
    }
    let offered: Vec<_> = ours.attributes("crypto").filter_map(parts).collect();
    let theirs: Vec<_> = stream.attributes("crypto").filter_map(parts).collect();
    if offered.is_empty() && theirs.is_empty() {
        return Some(());
    }
    let choice = theirs.iter().enumerate().filter_map(|(rank, (_, suite, key))| {
        let our_rank = offered.iter().position(|(_, offered, _)| offered == suite)?;
        let first_rank = if ours_first { our_rank } else { rank };
        Some(((our_rank + rank, first_rank), format!("crypto:{} {suite} {key}", offered[our_rank].0)))
    });
    let (_, line) = choice.min()?;
    stream.lines.retain(|line| line.attribute().is_none_or(|(name, _)| name != "crypto"));
    stream.lines.push(Line::new('a', line));
    Some(())
}

/// DTLS (RFC 5763 §5): of two that offer, one must be told that the other opens the connection.
fn setup(offer: &Sdp, ours: &Media, peer: &Sdp, stream: &mut Media, ours_first: bool) -> Option<()> {
    let said = |sdp: &Sdp, media: &Media| {
        media.attribute("setup").or_else(|| sdp.attribute("setup")).map(|value| value.trim().to_owned())
    };
    let role = match (said(offer, ours).as_deref(), said(peer, stream).as_deref()) {
        (None, None) => return Some(()),
        (Some("actpass"), Some("actpass")) if ours_first => "passive",
        (Some("actpass" | "passive"), Some("active" | "actpass")) => "active",
        (Some("actpass" | "active"), Some("passive" | "actpass")) => "passive",
        _ => return None,
    };
    stream.lines.retain(|line| line.attribute().is_none_or(|(name, _)| name != "setup"));
    stream.lines.push(Line::new('a', format!("setup:{role}")));
    Some(())
}
