//! A table of bounded size that keeps what was used lately.

use std::collections::HashMap;
use std::hash::Hash;

/// Keys and values, of which at least the `most / 2` used last are kept and never more than `most`.
///
/// Two generations instead of a list in order of use: when the younger is full the older is let go whole, so that
/// neither a look-up nor an insertion ever walks the table. It is never iterated: nothing depends on hash seeds.
#[derive(Clone, Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Hash + Eq, V> Recent<K, V> {
    /// An empty table for `most` entries.
    pub fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (most / 2).max(1) }
    }

    /// What is known under this key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Puts `value` under `key`.
    pub fn insert(&mut self, key: K, value: V) {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// Takes out what is known under this key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Clone, V: Default> Recent<K, V> {
    /// The entry of this key, made if there is none; counts as a use.
    pub fn entry(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) {
            let value = self.remove(&key).unwrap_or_default();
            self.insert(key.clone(), value);
        }
        self.young.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_table_never_grows_beyond_its_bound() {
        let mut table: Recent<u32, u32> = Recent::new(10);
        for number in 0..1000 {
            *table.entry(number) += 1;
            *table.entry(7_000_000) += 1;
            assert!(table.len() <= 10, "{}", table.len());
        }
        assert_eq!(table.get(&7_000_000), Some(&1000), "used all the time");
        assert_eq!((table.get(&999), table.get(&0)), (Some(&1), None));
        assert_eq!((table.remove(&999), table.get(&999)), (Some(1), None));
        table.insert(999, 5);
        assert_eq!(table.get(&999), Some(&5));
    }
}
