//! Says in the log that leases are so short that an election would cost single-node work: when this node has become a member,
//! and whenever the settings change. How long elections are allowed to take is each member's own, by its disk.

use std::time::Duration;

use sheaf_consensus::Replica;
use sheaf_model::{LeaseSettings, Span};
use tokio_util::sync::CancellationToken;

/// Looks are at least so far apart: every change of anything wakes this.
const SPACING: Duration = Duration::from_secs(1);

/// How long members wait at most before they stand for election, as this one does while its disk has room.
pub(crate) fn longest(replica: &Replica) -> Span {
    Span::millis(u64::try_from(replica.longest_election().as_millis()).unwrap_or(u64::MAX))
}

/// Runs until told to stop.
pub(crate) async fn warn_of_short_leases(replica: Replica, stop: CancellationToken) {
    let longest = longest(&replica);
    let mut revision = replica.revision();
    let mut known = None;
    loop {
        revision.mark_unchanged();
        let lease = {
            let state = replica.state();
            state.cluster.id.is_some().then_some(state.cluster.settings.lease)
        };
        if let Some(warning) = news(&mut known, lease, longest) {
            tracing::warn!("{warning}");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            // Dropping `changed` loses nothing: the value stays.
            changed = revision.changed() => if changed.is_err() { return },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SPACING) => {} // dropping a wait loses nothing
        }
    }
}

/// What is wrong with settings that are other ones than those `known`.
fn news(known: &mut Option<LeaseSettings>, lease: Option<LeaseSettings>, longest: Span) -> Option<String> {
    let lease = lease.filter(|lease| *known != Some(*lease))?;
    *known = Some(lease);
    lease.election_warning(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_too_short_for_elections_on_this_disk_are_told_of_once_per_change() {
        let (fast, slow) = (Span::millis(500), Span::millis(2200));
        let (short, long) =
            (LeaseSettings::default(), LeaseSettings { ttl: Span::seconds(6), ..LeaseSettings::default() });
        let mut known = None;
        assert_eq!(news(&mut known, None, slow), None, "there is no cluster yet");
        let warning = news(&mut known, Some(short), slow);
        assert!(warning.is_some_and(|text| text.contains("lease.ttl 3s") && text.contains("(4s 900ms)")));
        assert_eq!(news(&mut known, Some(short), slow), None, "told already");
        assert_eq!(news(&mut known, Some(long), slow), None);
        assert!(news(&mut known, Some(short), slow).is_some(), "short again");
        assert_eq!(news(&mut None, Some(short), fast), None);
    }
}
