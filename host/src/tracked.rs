//! A map that remembers what may have changed.
//!
//! Whoever tells others about its entries asks now and then which ones to look at again. Since every way to change an
//! entry goes through here, none can be missed.

use std::collections::BTreeMap;
use std::ops::Deref;

/// A `BTreeMap` that notes the key of every entry handed out to be changed.
#[derive(Debug)]
pub(crate) struct Tracked<K, V> {
    entries: BTreeMap<K, V>,
    touched: Vec<K>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), touched: Vec::new() }
    }
}

impl<K, V> Deref for Tracked<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<K: Ord + Copy, V> Tracked<K, V> {
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.touch(key);
        self.entries.insert(key, value)
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.entries.get_mut(key)?;
        // The same entry is changed many times in a row.
        if self.touched.last() != Some(key) {
            self.touched.push(*key);
        }
        Some(entry)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let removed = self.entries.remove(key)?;
        self.touch(*key);
        Some(removed)
    }

    /// The keys of all entries that may have changed, come or gone since the last call. Some may be named twice.
    pub(crate) fn take_touched(&mut self) -> Vec<K> {
        std::mem::take(&mut self.touched)
    }

    fn touch(&mut self, key: K) {
        if self.touched.last() != Some(&key) {
            self.touched.push(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_have_changed_is_named_once_asked() {
        let mut map = Tracked::default();
        map.insert(1, "a");
        map.insert(2, "b");
        assert_eq!(map.take_touched(), [1, 2]);
        assert_eq!(map.get(&1), Some(&"a"));
        assert_eq!(map.take_touched(), [0; 0], "reading changes nothing");
        assert_eq!(map.get_mut(&3), None);
        assert_eq!(map.remove(&3), None);
        assert_eq!(map.take_touched(), [0; 0], "what is not there cannot change");
        if let Some(value) = map.get_mut(&1) {
            *value = "c";
        }
        map.remove(&2);
        assert_eq!(map.take_touched(), [1, 2]);
        assert_eq!(map.take_touched(), [0; 0]);
    }
}
