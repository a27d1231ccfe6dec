//! CSeq and version of subscriptions that outlive the process.

use crate::time::Utc;

/// How far CSeq and version jump in a restart if the clock has gone back.
const RESTART_JUMP: u32 = 1 << 16;
/// 2020-01-01T00:00:00Z. Half seconds since then fit a CSeq (below 2^31) until 2054.
const COUNT_FROM: Utc = Utc(1_577_836_800_000);

/// The number to go on with after a restart: above all the old process can have used, whether or not the store took its
/// last record. Half seconds are a counter ahead of notifications, of which there is at most one a second.
pub(super) fn above_all_used(recorded: u32, now: Utc) -> u32 {
    let count = now.0.saturating_sub(COUNT_FROM.0) / 500;
    match u32::try_from(count) {
        Ok(count) if count > recorded && count < 1 << 31 => count,
        Ok(_) | Err(_) => recorded.saturating_add(RESTART_JUMP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_up_with_the_clock_and_without_it() {
        let now = Utc(COUNT_FROM.0 + 86_400_000);
        assert_eq!(above_all_used(7, now), 172_800);
        assert_eq!(above_all_used(172_800, now), 172_800 + RESTART_JUMP);
        assert_eq!(above_all_used(7, Utc(0)), 7 + RESTART_JUMP);
        assert!(above_all_used(7, Utc(u64::MAX)) < 1 << 31);
    }
}
