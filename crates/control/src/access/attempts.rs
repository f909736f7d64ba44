//! How often a token that is not valid may be shown. A secret of 256 random bits is not guessed; this bounds what trying
//! costs, and it never keeps a valid token out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use sheaf_model::{Moment, Span, remember};
use sheaf_wire::Network;

/// So many may fail at once …
const MOST: u64 = 10;
/// … and one more each time this has passed.
const EACH: Span = Span::seconds(1);
/// Addresses remembered; beyond, those are forgotten of which nothing failed for the longest.
const ADDRESSES_MAX: usize = 4096;

/// Failed attempts by where they came from.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// When all of them will be forgotten. Held for a look-up only.
    until: Mutex<BTreeMap<Network, Moment>>,
}

impl Attempts {
    /// Counts one; false: it is one too many.
    pub(crate) fn take(&self, from: Option<IpAddr>, now: Moment) -> bool {
        let from = Network::from(from.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let mut all = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = all.get(&from).copied().unwrap_or(now).max(now);
        if until.since(now).0 + EACH.0 > MOST * EACH.0 {
            return false;
        }
        if all.len() >= ADDRESSES_MAX {
            all.retain(|_, until| *until > now);
        }
        remember(&mut all, ADDRESSES_MAX, from, until.after(EACH), |until| *until);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn ten_fail_at_once_and_one_more_each_second_from_each_address() {
        let (attempts, now) = (Attempts::default(), Moment(5_000));
        let taken = |address, now| (0..20).filter(|_| attempts.take(from(address), now)).count();
        assert_eq!(taken("10.0.0.1", now), 10);
        assert_eq!(taken("10.0.0.1", now.after(Span::millis(999))), 0);
        assert_eq!(taken("10.0.0.1", now.after(Span::seconds(3))), 3);
        assert_eq!(taken("::ffff:10.0.0.1", now.after(Span::seconds(4))), 1, "the same address");
        assert_eq!(taken("10.0.0.2", now), 10, "another is another's");
        assert_eq!(taken("2001:db8::1", now), 10);
        assert_eq!(taken("2001:db8::2", now), 0, "the same network");
        assert_eq!(taken("10.0.0.1", now.after(Span::seconds(3600))), 10, "no more than at first");
        assert!(attempts.take(None, now));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..=ADDRESSES_MAX as u32 + 10 {
            assert!(attempts.take(Some(IpAddr::V4(n.into())), Moment(u64::from(n) / 100)));
        }
        assert_eq!(attempts.until.lock().map(|all| all.len()).ok(), Some(ADDRESSES_MAX));
    }
}
