//! How fast the disk is, and what elections must allow for it.

use std::fs::{File, remove_file};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_model::Span;

use crate::config::Raft;

/// Written and synced so often; the shortest time counts, for what else the machine does then is not the disk's fault.
const TRIES: u32 = 5;
/// A vote, or an entry, is a synced write on either side, and several wait for each other at times.
const WRITES_PER_ELECTION: u32 = 10;
/// No measurement makes elections slower than this: a disk that needs more holds no voter.
const SLOWEST: Span = Span::seconds(3);

/// How long one synced write of 4 KiB takes in this directory, at best.
pub(crate) fn synced_write(dir: &Path) -> io::Result<Duration> {
    let probe = dir.join(format!(".sheaf-probe-{}", std::process::id()));
    let measured = measure(&probe);
    let removed = remove_file(&probe);
    measured.and_then(|best| removed.map(|()| best))
}

fn measure(probe: &Path) -> io::Result<Duration> {
    let mut file = File::create(probe)?;
    let mut best = Duration::MAX;
    for _ in 0..TRIES {
        let begun = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        best = best.min(begun.elapsed());
    }
    Ok(best)
}

/// The timings for a disk that needs this long for a synced write; none: those that are set will do.
pub(crate) fn raised(raft: Raft, synced_write: Duration) -> Option<Raft> {
    let least = u64::try_from(synced_write.saturating_mul(WRITES_PER_ELECTION).as_millis());
    let least = least.map_or(SLOWEST, |least| Span(least).min(SLOWEST));
    let more = Span(least.0.checked_sub(raft.election_min.0).filter(|more| *more > 0)?);
    let election_max = Span(raft.election_max.0.saturating_add(more.0));
    Some(Raft { election_min: least, election_max, ..raft })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAFT: Raft = Raft {
        heartbeat: Span::millis(75),
        election_min: Span::millis(300),
        election_max: Span::millis(500),
    };

    #[test]
    fn only_a_slow_disk_raises_the_timings_and_keeps_their_spread() {
        assert!(raised(RAFT, Duration::from_millis(2)).is_none());
        assert!(raised(RAFT, Duration::from_millis(30)).is_none());
        let slow = raised(RAFT, Duration::from_millis(80)).expect("too slow");
        assert_eq!(
            (slow.heartbeat, slow.election_min, slow.election_max),
            (RAFT.heartbeat, Span::millis(800), Span::millis(1000))
        );
        let slowest = raised(RAFT, Duration::from_secs(9)).expect("too slow");
        assert_eq!(slowest.election_min, SLOWEST);
    }

    #[test]
    fn a_measurement_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(synced_write(dir.path()).expect("it can be written").as_nanos() > 0);
        assert_eq!(std::fs::read_dir(dir.path()).expect("it is there").count(), 0);
    }
}
