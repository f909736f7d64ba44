//! From a file or a directory to a blob.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sheaf_model::artifact::{BLOB_MAX, ENTRIES_MAX};
use sheaf_model::{Bytes, Digest, FileName, Shape};
use tar::{Builder, EntryType, Header};

/// Why something cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The system's word.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// Something that has no place in an artifact.
    #[error("{path}: {problem}")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// More than is allowed.
    #[error(
        "{path} has more than {limit}; what is so large belongs into a store of its own, from which the module fetches it"
    )]
    TooLarge {
        /// What was to be packed.
        path: PathBuf,
        /// The limit.
        limit: String,
    },
    /// Whoever takes the bytes does not.
    #[error("write the archive: {0}")]
    Out(io::Error),
}

/// What there is to pack, looked at once. Its bytes are made anew each time they are written.
#[derive(Clone, Debug)]
pub struct Packed {
    root: PathBuf,
    entries: Vec<Entry>,
    shape: Shape,
    /// The archive's SHA-256.
    pub digest: Digest,
    /// The archive's length in bytes.
    pub size: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Below the root; in the archive.
    name: PathBuf,
    /// On disk.
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File { size: u64, executable: bool },
    Link(PathBuf),
}

/// Looks at a file or a directory, and reads it once for its digest. May take seconds.
pub fn pack(path: &Path) -> Result<Packed, PackError> {
    let failed = |source| PackError::Io { path: path.to_owned(), source };
    let root = fs::canonicalize(path).map_err(failed)?;
    let found = fs::metadata(&root).map_err(failed)?;
    let mut entries = Vec::new();
    let shape = if found.is_dir() {
        walk(&root, Path::new(""), &root, &mut entries)?;
        Shape::Directory
    } else {
        let name = path.file_name().unwrap_or_default();
        let name = FileName::new(&name.to_string_lossy()).map_err(|error| PackError::Unfit {
            path: path.to_owned(),
            problem: format!(
                "its name cannot be kept: {}; {}, or push a directory with it",
                error.problem, error.remedy
            ),
        })?;
        let kind = kind(&root, &root, &found, path)?;
        entries.push(Entry { name: name.as_str().into(), path: root.clone(), kind });
        Shape::File(name)
    };
    entries.sort_by(|a, b| a.name.as_os_str().cmp(b.name.as_os_str()));
    let bytes: u64 = entries.iter().map(Entry::bytes).sum();
    if bytes > BLOB_MAX {
        return Err(PackError::TooLarge { path: path.to_owned(), limit: Bytes(BLOB_MAX).to_string() });
    }
    let mut packed = Packed { root, entries, shape, digest: Digest([0; 32]), size: 0 };
    let mut sum = Sum { hash: Sha256::new(), size: 0 };
    packed.write(&mut sum)?;
    (packed.digest, packed.size) = (Digest(sum.hash.finalize().into()), sum.size);
    if packed.size > BLOB_MAX {
        return Err(PackError::TooLarge { path: path.to_owned(), limit: Bytes(BLOB_MAX).to_string() });
    }
    Ok(packed)
}

fn walk(root: &Path, below: &Path, dir: &Path, entries: &mut Vec<Entry>) -> Result<(), PackError> {
    let failed = |source| PackError::Io { path: dir.to_owned(), source };
    for child in fs::read_dir(dir).map_err(failed)? {
        let child = child.map_err(failed)?;
        let (path, name) = (child.path(), below.join(child.file_name()));
        let found =
            fs::symlink_metadata(&path).map_err(|source| PackError::Io { path: path.clone(), source })?;
        let kind = kind(root, &path, &found, &path)?;
        if entries.len() as u64 >= ENTRIES_MAX {
            return Err(PackError::TooLarge { path: root.to_owned(), limit: format!("{ENTRIES_MAX} files") });
        }
        let is_directory = matches!(kind, Kind::Directory);
        entries.push(Entry { name: name.clone(), path: path.clone(), kind });
        if is_directory {
            walk(root, &name, &path, entries)?;
        }
    }
    Ok(())
}

fn kind(root: &Path, path: &Path, found: &fs::Metadata, shown: &Path) -> Result<Kind, PackError> {
    let unfit = |problem: &str| PackError::Unfit { path: shown.to_owned(), problem: problem.to_owned() };
    let kind = found.file_type();
    if kind.is_dir() {
        Ok(Kind::Directory)
    } else if kind.is_file() {
        Ok(Kind::File { size: found.len(), executable: found.permissions().mode() & 0o111 != 0 })
    } else if kind.is_symlink() {
        let target =
            fs::read_link(path).map_err(|source| PackError::Io { path: shown.to_owned(), source })?;
        let leads = fs::canonicalize(path).map_err(|_| unfit("a link to nothing; remove it"))?;
        if target.is_absolute() || !leads.starts_with(root) {
            return Err(unfit(
                "a link that leads out of the directory; put a copy of what it leads to in its place",
            ));
        }
        Ok(Kind::Link(target))
    } else {
        Err(unfit("neither a file nor a directory nor a link; only these can be pushed"))
    }
}

impl Entry {
    /// Of its content, and of the header before it.
    fn bytes(&self) -> u64 {
        match &self.kind {
            Kind::File { size, .. } => size.saturating_add(512),
            Kind::Directory | Kind::Link(_) => 512,
        }
    }
}

impl Packed {
    /// What was packed.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Writes the archive. If files changed since, other bytes come than the digest was made of.
    pub fn write(&self, out: &mut impl Write) -> Result<(), PackError> {
        let mut archive = Builder::new(out);
        for entry in &self.entries {
            add(&mut archive, entry)?;
        }
        archive.finish().map_err(PackError::Out)
    }

    /// What was packed, on this machine.
    pub fn path(&self) -> &Path {
        &self.root
    }
}

fn add(archive: &mut Builder<impl Write>, entry: &Entry) -> Result<(), PackError> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o755);
    header.set_size(0);
    let failed = |source| PackError::Io { path: entry.path.clone(), source };
    match &entry.kind {
        Kind::Directory => {
            header.set_entry_type(EntryType::Directory);
            archive.append_data(&mut header, &entry.name, io::empty()).map_err(failed)
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            archive.append_link(&mut header, &entry.name, target).map_err(failed)
        }
        Kind::File { size, executable } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(*size);
            header.set_mode(if *executable { 0o755 } else { 0o644 });
            let file = File::open(&entry.path).map_err(failed)?;
            archive.append_data(&mut header, &entry.name, Exactly { file, missing: *size }).map_err(failed)
        }
    }
}

/// As many bytes of a file as it had: no more, and fewer are an error.
struct Exactly {
    file: File,
    missing: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.missing).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.file.read(&mut into[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile"));
        }
        self.missing -= read as u64;
        Ok(read)
    }
}

struct Sum {
    hash: Sha256,
    size: u64,
}

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
