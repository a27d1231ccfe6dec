//! How many descriptors the process may have: each TCP connection and each RTP port takes one.
#![expect(unsafe_code, reason = "getrlimit and setrlimit are C, and nothing else offers them")]

use std::io;

/// Raises the soft limit to the hard one, and returns it. The soft limit of 1024 is kept low by distributions for
/// programs that use `select`; we don't.
pub fn raise_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit for the whole call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit that the call only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_once_and_stays() {
        let limit = raise_limit().unwrap();
        assert!(limit >= 256, "{limit}");
        assert_eq!(raise_limit().unwrap(), limit);
    }
}
