//! What is under way upstream, as the job's next process on this node finds it: if this one is killed, that one deletes it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Something that is under way upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Under {
    pub(super) subtask: u32,
    pub(super) attempt: u32,
    pub(super) backend: String,
    /// As the backend's document said it. No secret stands in it.
    pub(super) config: String,
    pub(super) item: Value,
    /// What the service calls it.
    pub(super) id: String,
}

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// None: nothing is kept.
    dir: Option<PathBuf>,
}

impl Kept {
    pub(super) const fn new(dir: Option<PathBuf>) -> Self {
        Self { dir }
    }

    fn file(&self, subtask: u32, attempt: u32) -> Option<PathBuf> {
        Some(self.dir.as_ref()?.join(format!("{subtask}.{attempt}")))
    }

    /// Writes it down. What cannot be is only missed if this process is killed.
    pub(super) fn put(&self, under: &Under) -> io::Result<()> {
        let (Some(dir), Some(file)) = (&self.dir, self.file(under.subtask, under.attempt)) else {
            return Ok(());
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let new = file.with_extension(format!("{}.new", under.attempt));
        let mut writing =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        writing.write_all(&serde_json::to_vec(under)?)?;
        fs::rename(new, file)
    }

    /// It is over.
    pub(super) fn remove(&self, subtask: u32, attempt: u32) {
        if let Some(file) = self.file(subtask, attempt) {
            let _ = fs::remove_file(file); // it may never have been there
        }
    }

    /// What a process before this one has left.
    pub(super) fn left(&self) -> Vec<Under> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        let texts = files.filter_map(|file| fs::read(file.path()).ok());
        texts.filter_map(|text| serde_json::from_slice(&text).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_found_until_it_is_over() {
        let place = tempfile::tempdir().unwrap();
        let kept = Kept::new(Some(place.path().join("builtin")));
        assert!(kept.left().is_empty());
        let under = |subtask| Under {
            subtask,
            attempt: 1,
            backend: "b".to_owned(),
            config: "{}".to_owned(),
            item: Value::Null,
            id: format!("u{subtask}"),
        };
        kept.put(&under(3)).unwrap();
        kept.put(&under(4)).unwrap();
        kept.put(&under(4)).unwrap();
        kept.remove(3, 1);
        kept.remove(9, 1);
        assert_eq!(kept.left(), [under(4)]);
        Kept::new(None).put(&under(1)).unwrap();
        assert!(Kept::new(None).left().is_empty());
    }
}
