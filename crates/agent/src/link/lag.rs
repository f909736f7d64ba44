//! Whether the watch keeps up. A member that is stopped, or cut off, is silent for seconds before a connection shows it; the
//! leader's acknowledgements come all the time, and name what is bound to this node and when the node itself was changed.

use std::time::Duration;

use sheaf_model::Revision;
use sheaf_model::session::Acknowledged;
use tokio::time::Instant;

/// What an acknowledgement named that the watch had not told, and when.
#[derive(Debug, Default)]
pub(super) struct Lag {
    named: Option<(Revision, Instant)>,
}

impl Lag {
    /// Whether the watch, which has told all up to `seen`, has not told for `patience` of something that is bound here, or of a
    /// change of this node. An epoch is the revision at which something was bound.
    pub(super) fn is_behind(
        &mut self,
        ack: &Acknowledged,
        seen: Revision,
        now: Instant,
        patience: Duration,
    ) -> bool {
        let epochs = ack.epochs.iter().map(|(_, epoch)| Revision(epoch.0));
        let newest = epochs.fold(ack.own, Revision::max);
        if let Some((named, at)) = self.named
            && named > seen
        {
            return now.duration_since(at) >= patience;
        }
        self.named = (newest > seen).then_some((newest, now));
        false
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, Epoch, Moment, Span};

    use super::*;

    #[test]
    fn a_watch_is_behind_that_has_not_told_in_time_what_an_acknowledgement_named() {
        let ack = |epochs: &[u64]| {
            let bucket = BucketName::new("/a").expect("a name");
            let epochs = epochs.iter().map(|epoch| (bucket.clone(), Epoch(*epoch))).collect();
            let (boot, sent_at, ttl) = ("b".into(), Moment(0), Span::seconds(3));
            let (heartbeat, own, traces) = (Span::millis(500), Revision(1), Vec::new());
            Acknowledged { boot, sent_at, ttl, epochs, heartbeat, own, traces }
        };
        let start = Instant::now();
        let patience = Duration::from_millis(250);
        let mut lag = Lag::default();
        let mut at = |ms: u64, epochs: &[u64], seen: u64| {
            lag.is_behind(&ack(epochs), Revision(seen), start + Duration::from_millis(ms), patience)
        };
        assert!(!at(0, &[5, 7], 7), "all of it is known");
        assert!(!at(500, &[5, 9], 7), "it may be on its way");
        assert!(!at(600, &[5, 9, 11], 7), "still");
        assert!(!at(1000, &[5, 9, 11], 10), "the one has come, the other may be on its way");
        assert!(!at(1100, &[5, 9, 11], 10));
        assert!(at(1500, &[5, 9, 11], 10), "it has not come");
        assert!(!at(2000, &[5, 9, 11], 11));
    }
}
