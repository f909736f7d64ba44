//! Watches the free space of the data directory's file system, so that entries are refused while there is still room for
//! votes, and accepted again when there is room again.
//!
//! Others may fill the disk to the last byte, past what is reserved. For then a file lies ready that only takes up room:
//! it is given up when next to nothing is free, and made again when there is plenty.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FallocateFlags;
use tokio::sync::watch;

/// How often it is looked at: even a fast disk writes little beside the reserve in this time.
const EVERY: Duration = Duration::from_millis(250);
/// The ballast's size: thousands of votes, and what a restart writes before it can vote. Below the reserve, so that entries
/// are still refused when it has been given up.
const BALLAST: u64 = 16 << 20;
/// It is given up when less is free.
const TOO_LITTLE: u64 = 4 << 20;
/// It is made when so much more is free than it and the reserve need, or it would come and go.
const PLENTY: u64 = 8 << 20;

/// Whether entries may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Enough,
    Short { free_bytes: u64 },
}

/// Looks until the task is dropped. `ballast`: where that file is; none: there is none.
pub(crate) async fn watch(dir: PathBuf, reserve: u64, ballast: Option<PathBuf>, space: watch::Sender<Space>) {
    loop {
        let now = look(&dir, reserve);
        space.send_if_modified(|known| {
            let turned = matches!((&known, &now), (Space::Enough, Space::Short { .. }) | (Space::Short { .. }, Space::Enough));
            if turned {
                match now {
                    Space::Enough => tracing::info!("there is room on the disk again: entries are accepted"),
                    Space::Short { free_bytes } => tracing::error!(
                        "{} has only {free_bytes} bytes free, {reserve} are reserved: entries are refused until there is room",
                        dir.display()
                    ),
                }
            }
            *known = now;
            turned
        });
        if let Some(ballast) = ballast.clone() {
            let tended = tokio::task::spawn_blocking(move || tend(&ballast, reserve)).await;
            if let Ok(Err(error)) = tended {
                tracing::debug!(%error, "the ballast is not as it should be; trying again");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// One look. A file system that does not answer counts as having room: its errors show where it is written to.
pub(crate) fn look(dir: &Path, reserve: u64) -> Space {
    match free(dir) {
        Some(free_bytes) if free_bytes < reserve => Space::Short { free_bytes },
        _ => Space::Enough,
    }
}

fn free(dir: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Gives the ballast up if next to nothing is free beside it, so that a process can begin. To be called before anything is
/// written there.
///
/// # Errors
/// That it cannot be removed.
pub fn make_room(ballast: &Path) -> io::Result<()> {
    let dir = ballast.parent().unwrap_or(Path::new("."));
    match (free(dir), is_there(ballast)) {
        (Some(free), true) if free < TOO_LITTLE => give_up(ballast, free),
        _ => Ok(()),
    }
}

/// One look at the ballast.
fn tend(ballast: &Path, reserve: u64) -> io::Result<()> {
    let dir = ballast.parent().unwrap_or(Path::new("."));
    let Some(free) = free(dir) else { return Ok(()) };
    match act(free, is_there(ballast), reserve) {
        None => Ok(()),
        Some(Act::GiveUp) => give_up(ballast, free),
        Some(Act::Make) => make(ballast).inspect_err(|_| drop(fs::remove_file(ballast))),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    GiveUp,
    Make,
}

const fn act(free: u64, is_there: bool, reserve: u64) -> Option<Act> {
    if is_there && free < TOO_LITTLE {
        Some(Act::GiveUp)
    } else if !is_there && free >= reserve.saturating_add(BALLAST + PLENTY) {
        Some(Act::Make)
    } else {
        None
    }
}

/// One that was not finished is none.
fn is_there(ballast: &Path) -> bool {
    fs::symlink_metadata(ballast).is_ok_and(|found| found.is_file() && found.len() == BALLAST)
}

fn give_up(ballast: &Path, free: u64) -> io::Result<()> {
    fs::remove_file(ballast)?;
    tracing::warn!(
        "{} is given up: only {free} bytes were free, and a vote needs its place on the disk",
        ballast.display()
    );
    Ok(())
}

fn make(ballast: &Path) -> io::Result<()> {
    // What is left of one that was not finished, or what somebody has put in its place.
    match fs::remove_file(ballast) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(ballast)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, BALLAST) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => fill(file),
        Err(error) => Err(error.into()),
    }
}

/// Where a file system cannot set room aside.
fn fill(mut file: File) -> io::Result<()> {
    // Not zeros, which some file systems do not store.
    let piece = [0xa5; 64 << 10];
    for _ in 0..BALLAST / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 32 << 20;

    #[test]
    fn the_ballast_goes_when_next_to_nothing_is_free_and_comes_back_when_there_is_plenty() {
        assert_eq!(act(TOO_LITTLE - 1, true, RESERVE), Some(Act::GiveUp));
        assert_eq!(act(TOO_LITTLE, true, RESERVE), None);
        // What giving it up has freed does not bring it back, nor are entries accepted for it.
        assert_eq!(act(TOO_LITTLE + BALLAST, false, RESERVE), None);
        const { assert!(TOO_LITTLE + BALLAST < RESERVE) };
        assert_eq!(act(RESERVE + BALLAST, false, RESERVE), None);
        assert_eq!(act(RESERVE + BALLAST + PLENTY, false, RESERVE), Some(Act::Make));
        assert_eq!(act(u64::MAX, true, RESERVE), None);
    }

    #[test]
    fn it_takes_up_its_room_and_one_that_was_not_finished_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = dir.path().join("ballast");
        fs::write(&ballast, "half").unwrap();
        assert!(!is_there(&ballast));
        make(&ballast).unwrap();
        assert!(is_there(&ballast));
        let taken = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&ballast).unwrap()) * 512;
        assert!(taken >= BALLAST, "{taken} bytes are set aside");
        make_room(&ballast).unwrap();
        give_up(&ballast, 0).unwrap();
        assert!(!ballast.exists());
        fill(File::create(&ballast).unwrap()).unwrap();
        assert!(is_there(&ballast));
    }
}
