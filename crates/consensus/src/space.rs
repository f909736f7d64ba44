//! Watches the free space of the data directory's file system, so that entries are refused while there is still room for
//! votes, and accepted again when there is room again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

/// How often it is looked at: even a fast disk writes little beside the reserve in this time.
const EVERY: Duration = Duration::from_millis(250);

/// Whether entries may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    Enough,
    Short { free_bytes: u64 },
}

/// Looks until the task is dropped.
pub(crate) async fn watch(dir: PathBuf, reserve: u64, space: watch::Sender<Space>) {
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
        tokio::time::sleep(EVERY).await;
    }
}

/// One look. A file system that does not answer counts as having room: its errors show where it is written to.
pub(crate) fn look(dir: &std::path::Path, reserve: u64) -> Space {
    let Ok(found) = rustix::fs::statvfs(dir) else { return Space::Enough };
    let free_bytes = found.f_bavail.saturating_mul(found.f_frsize);
    if free_bytes < reserve { Space::Short { free_bytes } } else { Space::Enough }
}
