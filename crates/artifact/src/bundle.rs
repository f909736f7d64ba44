//! Texts as one file that other tools open: a compressed archive, in a directory of its own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

/// A `.tar.gz` that is being written. Under another name until it is whole and on disk; gone if it is dropped before.
pub struct Bundle {
    path: PathBuf,
    partial: PathBuf,
    /// The directory that everything in it lies in.
    folder: String,
    /// Seconds since the epoch, of all that is in it.
    at: u64,
    archive: Builder<GzEncoder<File>>,
}

impl Bundle {
    /// Begins one at `path`, which must not be there, for its owner alone to read.
    ///
    /// # Errors
    /// That it is there, or cannot be made.
    pub fn create(path: &Path, folder: &str, at: u64) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.part", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let archive = Builder::new(GzEncoder::new(file, Compression::default()));
        Ok(Self { path: path.to_owned(), partial, folder: folder.to_owned(), at, archive })
    }

    /// Adds a file, `name` with slashes between its directories.
    ///
    /// # Errors
    /// The disk's.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(self.at);
        header.set_size(content.len() as u64);
        self.archive.append_data(&mut header, format!("{}/{name}", self.folder), content)
    }

    /// Ends it; its size in bytes.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(mut self) -> io::Result<u64> {
        self.archive.finish()?;
        let packed = self.archive.get_mut();
        packed.try_finish()?;
        packed.get_ref().sync_all()?;
        let size = packed.get_ref().metadata()?.len();
        fs::rename(&self.partial, &self.path)?;
        Ok(size)
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // Gone already when it is whole.
        drop(fs::remove_file(&self.partial));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use flate2::read::GzDecoder;
    use tar::Archive;

    use super::*;

    #[test]
    fn what_is_added_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        let long = format!("nodes/{}/log.txt", "n".repeat(150));
        let mut bundle = Bundle::create(&path, "a", 1_700_000_000).unwrap();
        bundle.add("manifest.json", b"{}").unwrap();
        bundle.add(&long, &vec![b'x'; 100_000]).unwrap();
        assert!(!path.exists(), "not before it is whole");
        let size = bundle.finish().unwrap();
        assert_eq!(size, fs::metadata(&path).unwrap().len());
        assert!(size < 10_000, "{size}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut archive = Archive::new(GzDecoder::new(File::open(&path).unwrap()));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((name, content.len()));
        }
        assert_eq!(found, [("a/manifest.json".to_owned(), 2), (format!("a/{long}"), 100_000)]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn what_is_there_stays_and_what_is_not_whole_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar.gz");
        fs::write(&path, "mine").unwrap();
        let error = Bundle::create(&path, "a", 0).err().expect("it is there");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        let other = folder.path().join("b.tar.gz");
        drop(Bundle::create(&other, "b", 0).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
