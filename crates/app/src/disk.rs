//! How fast the disk is, and what elections must allow for it.

use std::fmt;
use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_model::Span;

use crate::config::Raft;

/// Enough synced writes to judge a disk by at a start.
pub(crate) const FEW: usize = 5;
/// How long a measurement may take.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);
/// What a change writes, about.
const ENTRY: usize = 4096;
/// A vote, or an entry, is a synced write on either side, and several wait for each other at times.
const WRITES_PER_ELECTION: u32 = 10;
/// No measurement makes elections slower than this: a disk that needs more holds no voter.
const SLOWEST: Span = Span::seconds(3);

/// Appends to a file of its own and syncs it, again and again, but no longer than for [`MEASURED_WITHIN`]; how long each
/// took, sorted, at least one. The file is removed.
pub(crate) fn synced_writes(dir: &Path, most: usize) -> io::Result<Vec<Duration>> {
    let probe = dir.join(format!(".sheaf-check-{}", std::process::id()));
    // What a life with this number has left, and never a link's end.
    let _ = remove_file(&probe);
    let file = OpenOptions::new().create_new(true).write(true).open(&probe)?;
    let measured = sync_often(file, most);
    remove_file(&probe)?;
    let mut times = measured?;
    times.sort_unstable();
    Ok(times)
}

fn sync_often(mut file: File, most: usize) -> io::Result<Vec<Duration>> {
    let (begun, mut times) = (Instant::now(), Vec::with_capacity(most));
    while times.len() < most && (times.is_empty() || begun.elapsed() < MEASURED_WITHIN) {
        let at = Instant::now();
        file.write_all(&[0x5a; ENTRY])?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    Ok(times)
}

/// What a disk is that is too slow for the elections that the config says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSlow {
    /// How long a synced write takes.
    synced_write: Duration,
    configured: Raft,
    /// What elections are given instead.
    pub(crate) raised: Raft,
}

/// Whether a disk of these measurements is too slow; none: the timings that are set will do. The shortest time counts, for
/// what else the machine does then is not the disk's fault.
pub(crate) fn too_slow(configured: Raft, times: &[Duration]) -> Option<TooSlow> {
    let synced_write = times.iter().min().copied()?;
    let least = u64::try_from(synced_write.saturating_mul(WRITES_PER_ELECTION).as_millis());
    let least = least.map_or(SLOWEST, |least| Span(least).min(SLOWEST));
    let more = Span(least.0.checked_sub(configured.election_min.0).filter(|more| *more > 0)?);
    let election_max = Span(configured.election_max.0.saturating_add(more.0));
    let raised = Raft { election_min: least, election_max, ..configured };
    Some(TooSlow { synced_write, configured, raised })
}

/// For people.
impl fmt::Display for TooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { synced_write, configured, raised } = self;
        write!(
            f,
            "a synced write takes {synced_write:.1?} at best, and an election waits for up to {WRITES_PER_ELECTION}: elections are \
             given {} to {}, not the {} to {} that [raft] says, so that the disk does not cause some",
            raised.election_min, raised.election_max, configured.election_min, configured.election_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAFT: Raft = Raft {
        heartbeat: Span::millis(75),
        election_min: Span::millis(300),
        election_max: Span::millis(500),
    };

    fn of(times: &[u64]) -> Option<TooSlow> {
        let times: Vec<Duration> = times.iter().map(|ms| Duration::from_millis(*ms)).collect();
        too_slow(RAFT, &times)
    }

    #[test]
    fn only_a_slow_disk_raises_the_timings_and_keeps_their_spread() {
        assert_eq!((of(&[]), of(&[2]), of(&[30])), (None, None, None));
        let slow = of(&[80]).expect("too slow");
        assert_eq!(
            (slow.raised.heartbeat, slow.raised.election_min, slow.raised.election_max),
            (RAFT.heartbeat, Span::millis(800), Span::millis(1000))
        );
        assert_eq!(of(&[9000]).expect("too slow").raised.election_min, SLOWEST);
    }

    #[test]
    fn elections_on_a_very_slow_disk_are_too_long_for_the_shortest_leases() {
        let lease = sheaf_model::LeaseSettings::default();
        let told = |ms| lease.election_warning(of(&[ms]).expect("too slow").raised.election_max);
        assert_eq!(told(80), None);
        assert!(told(200).is_some_and(|text| text.contains("an election would cost single-node work")));
    }

    #[test]
    fn the_shortest_write_counts_and_the_text_says_what_follows() {
        assert_eq!(of(&[2, 2, 900]), None);
        assert_eq!(
            of(&[80, 90, 900]).expect("too slow").to_string(),
            "a synced write takes 80.0ms at best, and an election waits for up to 10: elections are given 800ms to 1s, not the \
             300ms to 500ms that [raft] says, so that the disk does not cause some"
        );
    }

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let times = synced_writes(dir.path(), FEW).expect("it can be written");
        assert!(!times.is_empty() && times.is_sorted());
        assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
    }
}
