//! The file of a snapshot, which `cluster snapshot save` writes and `restore` reads.
//!
//! ```text
//! "SHEAF SNAPSHOT" · version u8 · length of the head u32 LE · head, JSON · the SQLite database · CRC-32 u32 LE of all before
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sheaf_model::view::SnapshotHead;

const MAGIC: &[u8] = b"SHEAF SNAPSHOT";
/// The version that this build writes, and the only one that it reads.
const VERSION: u8 = 1;
/// Longest head: a torn file must not make anybody reserve 4 GiB.
const HEAD_MAX: u32 = 1 << 20;
const CHUNK: usize = 256 << 10;

/// Why a file is not a snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The system's word.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is no snapshot; `sheaf cluster snapshot save FILE` makes one")]
    Other(PathBuf),
    /// Written by another build.
    #[error(
        "{path} is a snapshot of version {found}, this build reads {VERSION}; use the sheaf that made it"
    )]
    Version {
        /// Which file.
        path: PathBuf,
        /// What it says of itself.
        found: u8,
    },
    /// Cut short, or changed.
    #[error("{path} is damaged: {why}; use another copy")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// Writes a snapshot. Under another name until it is whole and on disk: a file of the name asked for is always complete.
pub(crate) struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    crc: crc32fast::Hasher,
    missing: u64,
}

impl Writer {
    pub(crate) fn new(path: &Path, head: &SnapshotHead) -> io::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.part", std::process::id()));
        let partial = PathBuf::from(partial);
        // What it holds is for nobody but who may read the data directory.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let crc = crc32fast::Hasher::new();
        let mut writer = Self { path: path.to_owned(), partial, file, crc, missing: head.bytes };
        let text = serde_json::to_vec(head)?;
        writer.put(MAGIC)?;
        writer.put(&[VERSION])?;
        writer.put(&(text.len() as u32).to_le_bytes())?;
        writer.put(&text)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.crc.update(bytes);
        self.file.write_all(bytes)
    }

    /// The next bytes of the database.
    pub(crate) fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.missing = self.missing.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "more bytes came than the head announced")
        })?;
        self.put(bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.missing > 0 {
            let why = format!("{} bytes are missing at the end", self.missing);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        let crc = self.crc.clone().finalize();
        self.file.write_all(&crc.to_le_bytes())?;
        self.file.sync_all()?;
        std::fs::rename(&self.partial, &self.path)?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already when it is whole.
        drop(std::fs::remove_file(&self.partial));
    }
}

/// Reads the snapshot at `path` whole, copies its database to `to`, and returns its head. What is in `to` is worth nothing
/// when this fails.
///
/// # Errors
/// What is wrong with the file, or with writing.
pub fn read(path: &Path, to: &mut impl Write) -> Result<SnapshotHead, SnapshotError> {
    let failed = |source| SnapshotError::Io { path: path.to_owned(), source };
    let damaged = |why: String| SnapshotError::Damaged { path: path.to_owned(), why };
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let mut file = Checked { file: BufReader::with_capacity(CHUNK, file), crc: crc32fast::Hasher::new() };
    let short = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("it ends too early".to_owned()),
        _ => failed(error),
    };
    let mut magic = [0; MAGIC.len()];
    if file.read_exact(&mut magic).is_err() || magic != MAGIC {
        return Err(SnapshotError::Other(path.to_owned()));
    }
    let [found] = file.array().map_err(short)?;
    if found != VERSION {
        return Err(SnapshotError::Version { path: path.to_owned(), found });
    }
    let length = u32::from_le_bytes(file.array().map_err(short)?);
    if length > HEAD_MAX {
        return Err(damaged(format!("a head of {length} bytes")));
    }
    let mut text = vec![0; length as usize];
    file.read_exact(&mut text).map_err(short)?;
    let head: SnapshotHead =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("its head: {error}")))?;
    let expected = (MAGIC.len() as u64 + 1 + 4 + u64::from(length) + 4).saturating_add(head.bytes);
    if size != expected {
        return Err(damaged(format!("it is {size} bytes long, and should be {expected}")));
    }
    io::copy(&mut file.by_ref().take(head.bytes), to).map_err(failed)?;
    let found = file.crc.clone().finalize();
    let noted = u32::from_le_bytes(file.array().map_err(short)?);
    if found != noted {
        return Err(damaged(format!("its checksum is {found:08x}, and should be {noted:08x}")));
    }
    Ok(head)
}

/// Counts what is read into a checksum.
struct Checked {
    file: BufReader<File>,
    crc: crc32fast::Hasher,
}

impl Checked {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Checked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.crc.update(&into[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &Path) -> SnapshotHead {
        let bytes = 300_000;
        let head = SnapshotHead { cluster: "c1".to_owned(), revision: 7, bytes, ..SnapshotHead::default() };
        let mut writer = Writer::new(path, &head).unwrap();
        writer.data(&[1; 200_000]).unwrap();
        writer.data(&[2; 100_000]).unwrap();
        writer.finish().unwrap();
        head
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let head = written(&path);
        let mut database = Vec::new();
        assert_eq!(read(&path, &mut database).unwrap(), head);
        assert_eq!((database.len(), database[199_999], database[200_000]), (300_000, 1, 2));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it");
    }

    #[test]
    fn what_is_not_whole_never_gets_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        let head = SnapshotHead { bytes: 10, ..SnapshotHead::default() };
        let mut writer = Writer::new(&path, &head).unwrap();
        writer.data(&[1; 9]).unwrap();
        assert!(writer.finish().unwrap_err().to_string().contains("1 bytes are missing"));
        assert!(Writer::new(&path, &head).unwrap().data(&[1; 11]).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn damage_and_other_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot");
        written(&path);
        let whole = std::fs::read(&path).unwrap();
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path, &mut io::sink()).unwrap_err().to_string()
        };
        for length in [whole.len() - 1, whole.len() / 2, MAGIC.len() + 3, MAGIC.len()] {
            assert!(told(&whole[..length]).contains("is damaged"), "{length}");
        }
        for length in [MAGIC.len() - 1, 0] {
            assert!(told(&whole[..length]).contains("is no snapshot"), "{length}");
        }
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        assert!(told(&changed(whole.len() / 2)).contains("its checksum is"));
        assert!(told(&changed(MAGIC.len())).contains("is a snapshot of version 0"));
        assert!(told(&changed(0)).contains("is no snapshot"));
        assert!(told(b"kind: Bucket").contains("is no snapshot"));
    }
}
