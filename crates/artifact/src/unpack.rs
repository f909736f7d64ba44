//! From a blob to files, trusting nothing of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};
use sheaf_model::artifact::{BLOB_MAX, ENTRIES_MAX};
use sheaf_model::{Artifact, Bytes, Digest, Shape};
use tar::{Archive, EntryType};

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

/// Unpacks a blob into a new directory `to`, which is there only when all of it is, verified and on disk. May take seconds.
pub fn unpack(blob: impl Read, artifact: &Artifact, to: &Path) -> Result<(), UnpackError> {
    let part = to.with_extension("part");
    let failed = |source| UnpackError::Io { path: to.to_owned(), source };
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => fs::create_dir_all(&part).map_err(failed)?,
    }
    let done = into(blob, artifact, &part).and_then(|()| {
        let dir = File::open(&part).map_err(failed)?;
        // One call for all files; each by itself would take minutes for many.
        rustix::fs::syncfs(&dir).map_err(|error| failed(error.into()))?;
        fs::rename(&part, to).map_err(failed)?;
        File::open(to.parent().unwrap_or(to)).and_then(|parent| parent.sync_all()).map_err(failed)
    });
    if done.is_err() {
        drop(fs::remove_dir_all(&part)); // the next try begins with it
    }
    done
}

fn into(blob: impl Read, artifact: &Artifact, root: &Path) -> Result<(), UnpackError> {
    let mut hashed = Hashed { blob, hash: Sha256::new() };
    let mut unpacking = Unpacking { root, entries: 0, bytes: 0, links: Vec::new() };
    let mut archive = Archive::new(&mut hashed);
    for entry in archive.entries().map_err(UnpackError::Damaged)? {
        unpacking.entry(entry.map_err(UnpackError::Damaged)?)?;
    }
    drop(archive);
    // What stands after the archive's end counts as well.
    io::copy(&mut hashed, &mut io::sink()).map_err(UnpackError::Damaged)?;
    let found = Digest(hashed.hash.finalize().into());
    if found != artifact.digest {
        return Err(UnpackError::Digest { found, wanted: artifact.digest });
    }
    unpacking.link()?;
    match &artifact.shape {
        Shape::File(name) if !root.join(name.as_str()).is_file() => {
            Err(UnpackError::Missing(name.to_string()))
        }
        Shape::File(_) | Shape::Directory => Ok(()),
    }
}

struct Unpacking<'a> {
    root: &'a Path,
    entries: u64,
    bytes: u64,
    /// Made at the end: no file is ever written through one.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacking<'_> {
    fn entry(&mut self, mut entry: tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let evil = |problem| UnpackError::Evil { name: name.clone(), problem };
        let path = entry.path().map_err(UnpackError::Damaged)?.into_owned();
        if path.is_absolute() {
            return Err(evil("an absolute path"));
        }
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(evil("a path that leads out of it"));
        }
        let mode = entry.header().mode().map_err(UnpackError::Damaged)?;
        if mode & 0o6000 != 0 {
            return Err(evil("which would run as another user (setuid or setgid)"));
        }
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.entries > ENTRIES_MAX {
            return Err(UnpackError::TooLarge(format!("{ENTRIES_MAX} files")));
        }
        if self.bytes > BLOB_MAX {
            return Err(UnpackError::TooLarge(Bytes(BLOB_MAX).to_string()));
        }
        let to = self.root.join(&path);
        let failed = |source| UnpackError::Io { path: to.clone(), source };
        match entry.header().entry_type() {
            EntryType::Directory => fs::create_dir_all(&to).map_err(failed),
            EntryType::Regular => {
                fs::create_dir_all(to.parent().unwrap_or(self.root)).map_err(failed)?;
                let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
                let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&to);
                let mut file = match file {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(evil("twice")),
                    file => file.map_err(failed)?,
                };
                let size = entry.size();
                match io::copy(&mut entry, &mut file) {
                    Ok(copied) if copied == size => Ok(()),
                    Ok(_) => Err(UnpackError::Damaged(io::ErrorKind::UnexpectedEof.into())),
                    Err(error) => Err(failed(error)),
                }
            }
            EntryType::Symlink => {
                let target = entry
                    .link_name()
                    .map_err(UnpackError::Damaged)?
                    .ok_or_else(|| evil("a link to nothing"))?;
                self.links.push((to, target.into_owned()));
                Ok(())
            }
            EntryType::Link => Err(evil("a hard link")),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Err(evil("a device or pipe")),
            _ => Err(evil("of a kind that is neither file nor directory nor link")),
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
            if target.is_absolute() {
                return Err(evil(at, "a link that leads out of it"));
            }
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

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.blob.read(into)?;
        self.hash.update(&into[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
