//! From a blob to files, trusting nothing of it.

mod inspect;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sheaf_model::{Artifact, Digest};
use tar::Archive;

pub use inspect::inspect;
use inspect::{Sums, What, look};

use crate::cache::PIECE;

/// Why a blob is not unpacked. Nothing of it is left then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The system's word.
    #[error("unpack to {path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// It is no archive, or cut short.
    #[error("the artifact is no archive that can be read: {0}")]
    Damaged(io::Error),
    /// Other bytes than those that were pushed.
    #[error("the artifact's digest is {found}, and should be {wanted}")]
    Digest {
        /// Of the bytes that are there.
        found: Digest,
        /// As registered.
        wanted: Digest,
    },
    /// Something in it that must not be there.
    #[error("the artifact holds {name:?}, {problem}")]
    Evil {
        /// The entry's name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// More than is allowed.
    #[error("the artifact holds more than {0}")]
    TooLarge(String),
    /// The one file that was pushed is not in it.
    #[error("the artifact does not hold the file {0}")]
    Missing(String),
}

/// Unpacks a blob into a new directory `to`, which is there only when all of it is, verified and on disk, and which nobody
/// but root may change. May take seconds.
pub fn unpack(mut blob: impl Read + Seek, artifact: &Artifact, to: &Path) -> Result<(), UnpackError> {
    let inspected = inspect(&mut blob, artifact);
    blob.rewind().map_err(UnpackError::Damaged)?;
    if let Err(error) = inspected {
        // Bytes that were lost are told apart from an archive that never was a good one.
        return verify(blob, artifact).and(Err(error));
    }
    let part = to.with_extension("part");
    let failed = |source| UnpackError::Io { path: to.to_owned(), source };
    remove(&part).and_then(|()| fs::create_dir_all(&part)).map_err(failed)?;
    let done = into(io::BufReader::with_capacity(PIECE, blob), artifact, &part).and_then(|()| {
        let dir = File::open(&part).map_err(failed)?;
        // One call for all files; each by itself would take minutes for many.
        rustix::fs::syncfs(&dir).map_err(|error| failed(error.into()))?;
        fs::rename(&part, to).map_err(failed)?;
        File::open(to.parent().unwrap_or(to)).and_then(|parent| parent.sync_all()).map_err(failed)
    });
    if done.is_err() {
        drop(remove(&part)); // the next try begins with it
    }
    done
}

/// Files that nobody is to change, and directories that nobody is to put anything into; everybody may read them.
const READ: u32 = 0o444;
const EXECUTE: u32 = 0o555;

/// Takes from everybody the right to change what is in a directory that was unpacked. (Root needs none.)
pub(crate) fn seal(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let found = entry.metadata()?; // of a link: its own
        if found.is_dir() {
            seal(&entry.path())?;
        } else if found.is_file() {
            let executable = found.permissions().mode() & 0o111 != 0;
            set_mode(&entry.path(), if executable { EXECUTE } else { READ })?;
        }
    }
    set_mode(root, EXECUTE)
}

/// Whether [`seal`] has come to its end there.
pub(crate) fn is_sealed(root: &Path) -> bool {
    fs::metadata(root).is_ok_and(|found| found.permissions().mode() & 0o777 == EXECUTE)
}

/// Removes what was unpacked, sealed or not; nothing there is no error.
pub(crate) fn remove(root: &Path) -> io::Result<()> {
    let removed = match fs::remove_dir_all(root) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unseal(root)?;
            fs::remove_dir_all(root)
        }
        removed => removed,
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn unseal(root: &Path) -> io::Result<()> {
    set_mode(root, 0o700)?;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            unseal(&entry.path())?;
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn into(blob: impl Read, artifact: &Artifact, root: &Path) -> Result<(), UnpackError> {
    let mut hashed = Hashed { blob, hash: Sha256::new() };
    let mut unpacking = Unpacking { root, sums: Sums::default(), links: Vec::new() };
    let mut archive = Archive::new(&mut hashed);
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        unpacking.entry(entry.map_err(UnpackError::Damaged)?)?;
    }
    hashed.verify(artifact)?;
    unpacking.link()?;
    seal(root).map_err(|source| UnpackError::Io { path: root.to_owned(), source })
}

fn verify(blob: impl Read, artifact: &Artifact) -> Result<(), UnpackError> {
    Hashed { blob: io::BufReader::with_capacity(PIECE, blob), hash: Sha256::new() }.verify(artifact)
}

struct Unpacking<'a> {
    root: &'a Path,
    sums: Sums,
    /// Made at the end: no file is ever written through one.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacking<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let (path, what) = look(&entry, &mut self.sums)?;
        let to = self.root.join(path);
        let failed = |source| UnpackError::Io { path: to.clone(), source };
        match what {
            What::Directory => fs::create_dir_all(&to).map_err(failed),
            What::Link(target) => {
                self.links.push((to, target));
                Ok(())
            }
            What::File { executable } => {
                fs::create_dir_all(to.parent().unwrap_or(self.root)).map_err(failed)?;
                let mode = if executable { 0o700 } else { 0o600 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&to);
                let mut file = file.map_err(failed)?;
                let size = entry.size();
                match io::copy(&mut entry, &mut file) {
                    Ok(copied) if copied == size => Ok(()),
                    Ok(_) => Err(UnpackError::Damaged(io::ErrorKind::UnexpectedEof.into())),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }

    /// Makes the links, and sees that each leads to something within.
    fn link(&self) -> Result<(), UnpackError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| UnpackError::Io { path, source }
        };
        let root = fs::canonicalize(self.root).map_err(failed(self.root))?;
        let evil = |at: &Path, problem| {
            let name = at.strip_prefix(self.root).unwrap_or(at).to_string_lossy().into_owned();
            UnpackError::Evil { name, problem }
        };
        for (at, target) in &self.links {
            let parent = at.parent().unwrap_or(self.root);
            // A link made just now may stand in the way of this one.
            fs::create_dir_all(parent).map_err(failed(parent))?;
            let inside = fs::canonicalize(parent).is_ok_and(|parent| parent.starts_with(&root));
            if !inside {
                return Err(evil(at, "a link that leads out of it"));
            }
            symlink(target, at).map_err(failed(at))?;
        }
        for (at, _) in &self.links {
            match fs::canonicalize(at) {
                Ok(leads) if leads.starts_with(&root) => {}
                Ok(_) => return Err(evil(at, "a link that leads out of it")),
                Err(_) => return Err(evil(at, "a link to nothing")),
            }
        }
        Ok(())
    }
}

struct Hashed<R> {
    blob: R,
    hash: Sha256,
}

impl<R: Read> Hashed<R> {
    /// Reads what is left, also what stands after the archive's end.
    fn verify(mut self, artifact: &Artifact) -> Result<(), UnpackError> {
        io::copy(&mut self, &mut io::sink()).map_err(UnpackError::Damaged)?;
        let found = Digest(self.hash.finalize().into());
        if found == artifact.digest {
            return Ok(());
        }
        Err(UnpackError::Digest { found, wanted: artifact.digest })
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}

#[cfg(test)]
pub(crate) mod tests;
