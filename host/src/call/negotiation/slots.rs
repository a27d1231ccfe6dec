//! Which stream stands in which slot.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sip::body::sdp::{Media, Sdp};

/// One m-line of the session this leg's phone sees.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) kind: String,
    proto: String,
    format: String,
}

impl Slot {
    pub(super) fn of(media: &Media) -> Self {
        let format = media.formats.first().cloned().unwrap_or_else(|| "0".to_owned());
        Self { kind: media.kind.clone(), proto: media.proto.clone(), format }
    }

    /// The slot with nothing in it.
    pub(super) fn unused(&self) -> Media {
        Media::new(&self.kind, 0, &self.proto, vec![self.format.clone()])
    }
}

/// Which of a peer's streams stands in which of our slots, so that a stream stays where it is while the peer stays.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Pairing {
    /// The peer's `o=` line without its version.
    peer: String,
    slots: BTreeMap<usize, usize>,
}

impl Pairing {
    /// In which of `slots` each stream of the peer goes; `None` for a stream that is not in use and has no slot.
    pub(super) fn places_for(&mut self, slots: &[Slot], peer: &Sdp) -> Vec<Option<usize>> {
        let name = peer.origin().map(|o| format!("{} {} {}", o.username, o.session_id, o.address));
        let name = name.unwrap_or_default();
        if self.peer != name {
            *self = Pairing { peer: name, slots: BTreeMap::new() };
        }
        let mut slots: Vec<(String, bool)> =
            slots.iter().map(|slot| (slot.kind.to_ascii_lowercase(), false)).collect();
        let mut places = vec![None; peer.media().len()];
        for (place, (index, stream)) in places.iter_mut().zip(peer.media().iter().enumerate()) {
            let remembered = self.slots.get(&index).copied();
            if let Some((slot, entry)) = remembered.and_then(|slot| Some((slot, slots.get_mut(slot)?)))
                && *entry == (stream.kind.to_ascii_lowercase(), false)
            {
                entry.1 = true;
                *place = Some(slot);
            }
        }
        for (place, stream) in places.iter_mut().zip(peer.media()) {
            if place.is_some() || !stream.is_live() {
                continue;
            }
            let free = (stream.kind.to_ascii_lowercase(), false);
            let slot = slots.iter().position(|slot| *slot == free).unwrap_or(slots.len());
            match slots.get_mut(slot) {
                Some(entry) => entry.1 = true,
                None => slots.push((free.0, true)),
            }
            *place = Some(slot);
        }
        self.slots =
            places.iter().enumerate().filter_map(|(index, place)| Some((index, (*place)?))).collect();
        places
    }
}

/// For each stream of `offer` the stream of `answer` that goes there: the one at the same place among those of its
/// kind, else any other of that kind and transport. Rejected streams stay rejected.
pub(super) fn answer_places(offer: &Sdp, answer: &Sdp) -> Vec<Option<usize>> {
    let fits = |offered: &Media, answered: &Media| {
        offered.is_live()
            && answered.is_live()
            && offered.kind.eq_ignore_ascii_case(&answered.kind)
            && offered.same_transport(answered)
    };
    let rank = |sdp: &Sdp, index: usize| {
        let kind = sdp.media()[index].kind.to_ascii_lowercase();
        sdp.media()[..index].iter().filter(|media| media.kind.eq_ignore_ascii_case(&kind)).count()
    };
    let mut used = vec![false; answer.media().len()];
    let mut places = vec![None; offer.media().len()];
    for same_rank in [true, false] {
        for (index, offered) in offer.media().iter().enumerate() {
            if places[index].is_some() {
                continue;
            }
            let found = answer.media().iter().enumerate().position(|(from, answered)| {
                !used[from]
                    && fits(offered, answered)
                    && (!same_rank || rank(offer, index) == rank(answer, from))
            });
            if let Some(from) = found {
                used[from] = true;
                places[index] = Some(from);
            }
        }
    }
    places
}
