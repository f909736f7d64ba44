//! The node's side of leases: which single-node epochs may run here, and until when.
//!
//! A lease is for one (bucket, epoch) and counts from the moment the heartbeat was *sent*. Only an acknowledgement
//! that names the epoch prolongs it; what is not named is not prolonged, and a watch prolongs nothing.
//!
//! ```text
//!  Acknowledged{boot, sent_at, ttl, epochs} ──► step ──► Prolonged{bucket, epoch, until} ──► keeper's deadline moves
//!  time passes ───────────────────────────────► step ──► Over{bucket, epoch} ─────────────► everything of it is killed
//! ```

use std::collections::BTreeMap;

use sheaf_model::session::Acknowledged;
use sheaf_model::{BootId, BucketName, Epoch, Moment};

/// All leases this node holds, of this boot of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    boot: BootId,
    held: BTreeMap<BucketName, Lease>,
}

/// The right to run one epoch of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The epoch meant.
    pub epoch: Epoch,
    /// From this moment on nothing of it may be alive.
    pub until: Moment,
}

/// What happens to leases.
#[derive(Clone, Copy, Debug)]
pub enum LeaseInput<'a> {
    /// The leader acknowledged a heartbeat.
    Acknowledged(&'a Acknowledged),
    /// A keeper found after a restart of the agent holds this deadline of this boot.
    Found(&'a BucketName, Lease),
    /// Time passed.
    Tick,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseEvent {
    /// The epoch may run until later than before, or for the first time.
    Prolonged(BucketName, Lease),
    /// The epoch may not run any longer. Said once.
    Over(BucketName, Lease),
}

impl Leases {
    /// No leases, in this boot.
    pub fn new(boot: BootId) -> Self {
        Self { boot, held: BTreeMap::new() }
    }

    /// This boot.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }

    /// Until when exactly this epoch may run; none: it may not.
    pub fn valid(&self, bucket: &BucketName, epoch: Epoch, now: Moment) -> Option<Moment> {
        let lease = self.held.get(bucket)?;
        (lease.epoch == epoch && now < lease.until).then_some(lease.until)
    }

    /// The newest epoch that may run, as far as is known.
    pub fn newest(&self, bucket: &BucketName) -> Option<Epoch> {
        self.held.get(bucket).map(|lease| lease.epoch)
    }

    /// When the next lease ends.
    pub fn next(&self) -> Option<Moment> {
        self.held.values().map(|lease| lease.until).min()
    }
}

/// Takes in what happened; the events are ordered by bucket.
pub fn step(leases: &mut Leases, input: LeaseInput<'_>, now: Moment) -> Vec<LeaseEvent> {
    let mut events = Vec::new();
    match input {
        LeaseInput::Acknowledged(ack) if ack.boot == leases.boot && ack.sent_at <= now => {
            let until = ack.sent_at.after(ack.ttl);
            for (bucket, epoch) in &ack.epochs {
                prolong(leases, bucket, Lease { epoch: *epoch, until }, now, &mut events);
            }
        }
        LeaseInput::Acknowledged(_) | LeaseInput::Tick => {}
        LeaseInput::Found(bucket, lease) => prolong(leases, bucket, lease, now, &mut events),
    }
    leases.held.retain(|bucket, lease| {
        let over = lease.until <= now;
        if over {
            events.push(LeaseEvent::Over(bucket.clone(), *lease));
        }
        !over
    });
    events
}

/// Epochs only grow, and a deadline only moves forward: acknowledgements may overtake each other.
fn prolong(leases: &mut Leases, bucket: &BucketName, new: Lease, now: Moment, events: &mut Vec<LeaseEvent>) {
    if new.until <= now {
        return;
    }
    if let Some(old) = leases.held.get(bucket) {
        if new.epoch < old.epoch || (new.epoch == old.epoch && new.until <= old.until) {
            return;
        }
        if new.epoch > old.epoch {
            events.push(LeaseEvent::Over(bucket.clone(), *old));
        }
    }
    leases.held.insert(bucket.clone(), new);
    events.push(LeaseEvent::Prolonged(bucket.clone(), new));
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Revision, Span};

    use super::*;

    fn bucket(name: &str) -> BucketName {
        BucketName::new(name).expect("a good name")
    }

    fn ack(sent_at: u64, epochs: &[(&str, u64)]) -> Acknowledged {
        Acknowledged {
            boot: "b1".into(),
            sent_at: Moment(sent_at),
            ttl: Span::seconds(3),
            epochs: epochs.iter().map(|(name, epoch)| (bucket(name), Epoch(*epoch))).collect(),
            heartbeat: Span::default(),
            own: Revision::default(),
            traces: Vec::new(),
        }
    }

    fn hear(leases: &mut Leases, ack: &Acknowledged, now: u64) -> Vec<LeaseEvent> {
        step(leases, LeaseInput::Acknowledged(ack), Moment(now))
    }

    fn until(leases: &Leases, name: &str, epoch: u64, now: u64) -> Option<u64> {
        leases.valid(&bucket(name), Epoch(epoch), Moment(now)).map(|moment| moment.0)
    }

    #[test]
    fn a_lease_counts_from_sending_and_ends_by_itself() {
        let mut leases = Leases::new("b1".into());
        let events = hear(&mut leases, &ack(1000, &[("/a", 7)]), 2500);
        assert_eq!(
            events,
            [LeaseEvent::Prolonged(bucket("/a"), Lease { epoch: Epoch(7), until: Moment(4000) })]
        );
        assert_eq!(until(&leases, "/a", 7, 3999), Some(4000));
        assert_eq!(until(&leases, "/a", 7, 4000), None, "the deadline itself is over");
        assert_eq!(until(&leases, "/a", 6, 2500), None, "only exactly this epoch");
        assert_eq!(until(&leases, "/a", 8, 2500), None, "only exactly this epoch");
        assert_eq!(leases.next(), Some(Moment(4000)));
        assert_eq!(step(&mut leases, LeaseInput::Tick, Moment(3999)), []);
        let over = step(&mut leases, LeaseInput::Tick, Moment(4000));
        assert_eq!(over, [LeaseEvent::Over(bucket("/a"), Lease { epoch: Epoch(7), until: Moment(4000) })]);
        assert_eq!(step(&mut leases, LeaseInput::Tick, Moment(4001)), [], "said once");
    }

    #[test]
    fn what_is_not_named_is_not_prolonged() {
        let mut leases = Leases::new("b1".into());
        hear(&mut leases, &ack(1000, &[("/a", 7), ("/b", 8)]), 1001);
        let events = hear(&mut leases, &ack(2000, &[("/b", 8)]), 2001);
        assert_eq!(
            events,
            [LeaseEvent::Prolonged(bucket("/b"), Lease { epoch: Epoch(8), until: Moment(5000) })]
        );
        assert_eq!(until(&leases, "/a", 7, 2001), Some(4000));
    }

    #[test]
    fn another_boot_the_future_and_what_came_too_late_are_ignored() {
        let mut leases = Leases::new("b1".into());
        let other = Acknowledged { boot: "b0".into(), ..ack(1000, &[("/a", 7)]) };
        assert_eq!(hear(&mut leases, &other, 1001), []);
        assert_eq!(hear(&mut leases, &ack(5000, &[("/a", 7)]), 1001), [], "sent in the future");
        assert_eq!(hear(&mut leases, &ack(1000, &[("/a", 7)]), 4000), [], "its time is over");
        assert_eq!(leases.next(), None);
    }

    #[test]
    fn acknowledgements_that_overtake_each_other_shorten_nothing() {
        let mut leases = Leases::new("b1".into());
        hear(&mut leases, &ack(2000, &[("/a", 7)]), 2100);
        assert_eq!(hear(&mut leases, &ack(1500, &[("/a", 7)]), 2200), []);
        assert_eq!(until(&leases, "/a", 7, 2200), Some(5000));
    }

    #[test]
    fn a_newer_epoch_ends_the_older_and_never_the_other_way_round() {
        let mut leases = Leases::new("b1".into());
        hear(&mut leases, &ack(1000, &[("/a", 7)]), 1001);
        let events = hear(&mut leases, &ack(2000, &[("/a", 9)]), 2001);
        assert_eq!(events.len(), 2);
        assert!(matches!(&events[0], LeaseEvent::Over(_, lease) if lease.epoch == Epoch(7)));
        assert_eq!(hear(&mut leases, &ack(2500, &[("/a", 7)]), 2501), []);
        assert_eq!(until(&leases, "/a", 7, 2501), None);
        assert_eq!(until(&leases, "/a", 9, 2501), Some(5000));
    }
}
