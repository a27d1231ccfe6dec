//! Who made a tag or a branch: so that a message which reaches any host of the cluster finds the one it is for.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Hexadecimal digits of a code: 24 bits, far more than there are hosts.
const CODE: usize = 6;
/// Of the chance that follows the mark, in tags and in branches alike.
const CHANCE: usize = 16;

/// Numbers a host may give in one life: 2^28, of the 2^53 that are exact in JSON.
const ID_BITS: u32 = 28;

/// A host, or a pool, in few letters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Code([u8; CODE]);

impl Code {
    /// The code of a name.
    pub fn of(name: &str) -> Self {
        let mut text = String::with_capacity(2 * CODE);
        for byte in Sha256::digest(name).iter().take(CODE / 2) {
            let _ = write!(text, "{byte:02x}");
        }
        let mut code = [0; CODE];
        code.copy_from_slice(text.as_bytes());
        Self(code)
    }

    /// The first of the numbers with which a host names its legs: no other host gives the same, and all are exact in JSON.
    pub fn first_id(&self) -> u64 {
        u64::from_str_radix(self.as_str(), 16).unwrap_or_default() << ID_BITS
    }

    /// The host that gave a number; `None` for one of a host alone.
    pub fn of_id(id: u64) -> Option<Self> {
        Self::read(&format!("{:06x}", id >> ID_BITS)).filter(|_| id >> ID_BITS != 0)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn read(text: &str) -> Option<Self> {
        let code: [u8; CODE] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_hexdigit).then_some(Self(code))
    }
}

/// The host that made a tag or branch, and the pool it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The host.
    pub host: Code,
    /// Its pool.
    pub pool: Code,
}

impl Mark {
    /// The mark of a host of a pool.
    pub fn of(host: &str, pool: &str) -> Self {
        Self { host: Code::of(host), pool: Code::of(pool) }
    }

    /// What tags and branches begin with.
    pub fn text(&self) -> String {
        format!("{}{}", self.host.as_str(), self.pool.as_str())
    }

    /// Who made this tag, if it is one of a host in a cluster.
    pub fn of_tag(tag: &str) -> Option<Self> {
        if tag.len() != 2 * CODE + CHANCE {
            return None;
        }
        Some(Self { host: Code::read(tag.get(..CODE)?)?, pool: Code::read(tag.get(CODE..2 * CODE)?)? })
    }

    /// Who made this branch.
    pub fn of_branch(branch: &str) -> Option<Self> {
        Self::of_tag(branch.split_once('.')?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_branches_say_who_made_them() {
        let mark = Mark::of("fe1", "east");
        let tag = format!("{}{:016x}", mark.text(), 7);
        assert_eq!(Mark::of_tag(&tag), Some(mark));
        assert_eq!(Mark::of_branch(&format!("z9hG4bK2a.{tag}")), Some(mark));
        assert_eq!(Code::of_id(mark.host.first_id() + 77), Some(mark.host));
        assert_eq!(Code::of_id(77), None);
        assert!(mark.host.first_id() < 1 << 52);
        assert_ne!(mark.host, Mark::of("fe2", "east").host);
        for foreign in
            ["", "0123456789abcdef", "not-hexadecimal-but-as-long!", "é123456789012345678901234567"]
        {
            assert_eq!(Mark::of_tag(foreign), None, "{foreign}");
        }
    }
}
