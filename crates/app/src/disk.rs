//! How fast the disk is, and what elections must allow for it.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_model::Span;

use crate::config::Raft;

/// Written and synced so often; the shortest time counts, for what else the machine does then is not the disk's fault.
const TRIES: usize = 5;
/// How long a measurement may take.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);
/// What a change writes, about.
const ENTRY: usize = 4096;
/// A vote, or an entry, is a synced write on either side, and several wait for each other at times.
const WRITES_PER_ELECTION: u32 = 10;
/// No measurement makes elections slower than this: a disk that needs more holds no voter.
const SLOWEST: Span = Span::seconds(3);

/// How long one synced write takes in this directory, at best.
pub(crate) fn synced_write(dir: &Path) -> io::Result<Duration> {
    synced_writes(dir, TRIES).map(|times| times[0])
}

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
