//! Numbered places that are used again, each use with a new generation.

/// A vector of places. A key is generation and slot in one number (`generation << 32 | slot`), never 0: a key
/// of an earlier occupant finds nothing.
pub(crate) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

struct Place<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Puts in what `make` returns for the key it will have.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(u64) -> T) -> u64 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                // 2^32 waits at once would need some 300 GiB of memory first.
                let slot = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
                self.places.push(Place { generation: 1, value: None });
                slot
            }
        };
        let place = &mut self.places[slot as usize];
        let key = (u64::from(place.generation) << 32) | u64::from(slot);
        place.value = Some(make(key));
        key
    }

    pub(crate) fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if u64::from(place.generation) != key >> 32 {
            return None;
        }
        place.value.as_mut()
    }

    pub(crate) fn remove(&mut self, key: u64) -> Option<T> {
        let slot = key as u32;
        let place = self.places.get_mut(slot as usize)?;
        if u64::from(place.generation) != key >> 32 {
            return None;
        }
        let value = place.value.take()?;
        // Generation 0 is left out so that no key is ever 0.
        place.generation = place.generation.checked_add(1).unwrap_or(1);
        self.free.push(slot);
        Some(value)
    }

    /// The keys in use, lowest slot first.
    pub(crate) fn keys(&self) -> Vec<u64> {
        let used = self.places.iter().enumerate().filter(|(_, place)| place.value.is_some());
        used.map(|(slot, place)| (u64::from(place.generation) << 32) | slot as u64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_occupant_finds_nothing() {
        let mut slab = Slab::new();
        let first = slab.insert_with(|_| "first");
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert_with(|_| "second");
        assert_eq!(first as u32, second as u32, "the slot is used again");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
        assert_eq!(slab.keys(), [second]);
    }

    #[test]
    fn no_key_is_zero() {
        let mut slab = Slab::new();
        let key = slab.insert_with(|_| ());
        assert_ne!(key, 0);
        slab.places[0].generation = u32::MAX;
        assert!(slab.remove(u64::from(u32::MAX) << 32).is_some());
        assert_ne!(slab.insert_with(|_| ()), 0);
    }
}
