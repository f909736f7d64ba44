//! Files that are there whole or as they were before, whatever happens meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Puts `content` in the place of the file at `path`; on disk when this returns.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(folder(path))?.sync_all()
}

/// Makes the directory that `path` lies in, for its owner alone.
pub(super) fn make_room(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder(path))
}

/// The directory that `path` lies in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The text of a file; none if there is no such file.
pub(super) fn text(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("a/b/state");
        make_room(&path).expect("made");
        assert_eq!(text(&path).expect("no file is no error"), None);
        replace(&path, b"a longer text").expect("written");
        replace(&path, b"short").expect("replaced");
        assert_eq!(text(&path).expect("read").as_deref(), Some("short"));
        assert_eq!(std::fs::read_dir(place.path().join("a/b")).expect("read").count(), 1);
    }
}
