//! What is in an archive, looked at before any of it is written, in memory that does not grow with its files.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use sheaf_model::artifact::{BLOB_MAX, ENTRIES_MAX};
use sheaf_model::{Artifact, Bytes, Shape};
use tar::{Archive, Entry, EntryType};

use super::UnpackError;

/// Longest path of an entry, and longest target of a link, in bytes.
const PATH_MAX: usize = 1024;
/// Longest part of one, as file systems have it.
const NAME_MAX: usize = 255;
/// Most directories one within the other, the file itself counted: each of them is held in memory, whether it has an entry or
/// not.
const DEPTH_MAX: usize = 100;
/// Longest extension of a header in bytes; whoever reads an archive holds it in memory.
const EXTENSION_MAX: u64 = 16 << 10;
/// So many links may lead to each other.
const HOPS: u32 = 40;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Directory,
    File { executable: bool },
    Link(PathBuf),
}

/// How much there was so far.
#[derive(Debug, Default)]
pub(super) struct Sums {
    entries: u64,
    bytes: u64,
}

impl Sums {
    /// One more file, directory or link, of its own or implied by what lies below it.
    fn one_more(&mut self) -> Result<(), UnpackError> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(UnpackError::TooLarge(format!("{ENTRIES_MAX} files")));
        }
        Ok(())
    }
}

/// Whether an archive holds nothing but what may be unpacked. Reads its headers only, not its files.
pub fn inspect(mut blob: impl Read + Seek, artifact: &Artifact) -> Result<(), UnpackError> {
    extensions(&mut blob)?;
    let length = blob.seek(SeekFrom::End(0)).map_err(UnpackError::Damaged)?;
    blob.rewind().map_err(UnpackError::Damaged)?;
    let mut tree = BTreeMap::new();
    let mut sums = Sums::default();
    let mut archive = Archive::new(blob);
    for entry in archive.entries_with_seek().map_err(UnpackError::Damaged)? {
        let entry = entry.map_err(UnpackError::Damaged)?;
        let (path, what) = look(&entry, &mut sums)?;
        if entry.raw_file_position().saturating_add(entry.size()) > length {
            return Err(UnpackError::Damaged(ErrorKind::UnexpectedEof.into()));
        }
        place(&mut tree, path, what, &mut sums)?;
    }
    for (at, what) in &tree {
        if let What::Link(target) = what {
            leads(&tree, at, target).map_err(|problem| evil(at, problem))?;
        }
    }
    match &artifact.shape {
        Shape::File(name) if !matches!(tree.get(Path::new(name.as_str())), Some(What::File { .. })) => {
            Err(UnpackError::Missing(name.to_string()))
        }
        Shape::File(_) | Shape::Directory => Ok(()),
    }
}

/// Refuses headers that claim to be followed by more than any name is long: reading on would take that much memory.
fn extensions(blob: impl Read + Seek) -> Result<(), UnpackError> {
    let mut archive = Archive::new(blob);
    for entry in archive.entries_with_seek().map_err(UnpackError::Damaged)?.raw(true) {
        let entry = entry.map_err(UnpackError::Damaged)?;
        let kind = entry.header().entry_type();
        let extends = kind.is_gnu_longname()
            || kind.is_gnu_longlink()
            || kind.is_pax_local_extensions()
            || kind.is_pax_global_extensions();
        if extends && entry.size() > EXTENSION_MAX {
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            return Err(UnpackError::Evil { name, problem: "a header that is too long" });
        }
    }
    Ok(())
}

fn evil(path: &Path, problem: &'static str) -> UnpackError {
    UnpackError::Evil { name: path.to_string_lossy().into_owned(), problem }
}

/// What an entry is and where it belongs, if it may be there at all.
pub(super) fn look(entry: &Entry<'_, impl Read>, sums: &mut Sums) -> Result<(PathBuf, What), UnpackError> {
    let path = entry.path().map_err(UnpackError::Damaged)?.into_owned();
    let evil = |problem| evil(&path, problem);
    if path.is_absolute() {
        return Err(evil("an absolute path"));
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(evil("a path that leads out of it"));
    }
    if path.as_os_str().len() > PATH_MAX || path.iter().any(|name| name.len() > NAME_MAX) {
        return Err(UnpackError::Evil {
            name: path.to_string_lossy().chars().take(40).chain("…".chars()).collect(),
            problem: "a path that is too long",
        });
    }
    let mode = entry.header().mode().map_err(UnpackError::Damaged)?;
    if mode & 0o6000 != 0 {
        return Err(evil("which would run as another user (setuid or setgid)"));
    }
    if path.components().count() > DEPTH_MAX {
        return Err(evil("which lies too deep"));
    }
    sums.one_more()?;
    sums.bytes = sums.bytes.saturating_add(entry.size());
    if sums.bytes > BLOB_MAX {
        return Err(UnpackError::TooLarge(Bytes(BLOB_MAX).to_string()));
    }
    let what = match entry.header().entry_type() {
        EntryType::Directory => What::Directory,
        EntryType::Regular => What::File { executable: mode & 0o111 != 0 },
        EntryType::Symlink => {
            let target = entry.link_name().map_err(UnpackError::Damaged)?;
            let target = target.ok_or_else(|| evil("a link to nothing"))?;
            if target.is_absolute() {
                return Err(evil("a link that leads out of it"));
            }
            if target.as_os_str().len() > PATH_MAX {
                return Err(evil("a link to a path that is too long"));
            }
            What::Link(target.into_owned())
        }
        EntryType::Link => return Err(evil("a hard link")),
        EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(evil("a device or pipe")),
        _ => return Err(evil("of a kind that is neither file nor directory nor link")),
    };
    // "./a/./b" and "a/b" are the same place.
    Ok((path.components().filter(|part| *part != Component::CurDir).collect(), what))
}

/// Puts an entry to the others, with the directories above it, which count as well.
fn place(
    tree: &mut BTreeMap<PathBuf, What>,
    path: PathBuf,
    what: What,
    sums: &mut Sums,
) -> Result<(), UnpackError> {
    for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
        match tree.get(above) {
            Some(What::Directory) => break,
            Some(What::File { .. }) => return Err(evil(&path, "which lies below a file")),
            Some(What::Link(_)) => return Err(evil(&path, "which lies below a link")),
            None => {
                sums.one_more()?;
                tree.insert(above.to_owned(), What::Directory);
            }
        }
    }
    match tree.get(&path) {
        Some(What::Directory) if what == What::Directory => Ok(()),
        Some(_) => Err(evil(&path, "twice")),
        None if path.as_os_str().is_empty() => match what {
            What::Directory => Ok(()), // the root itself
            What::File { .. } | What::Link(_) => {
                Err(UnpackError::Evil { name: String::new(), problem: "which has no name" })
            }
        },
        None => {
            tree.insert(path, what);
            Ok(())
        }
    }
}

/// Follows a link, as the system would; an error if it does not end at something within.
fn leads(tree: &BTreeMap<PathBuf, What>, at: &Path, target: &Path) -> Result<(), &'static str> {
    const OUT: &str = "a link that leads out of it";
    const NOTHING: &str = "a link to nothing";
    let mut here = at.parent().unwrap_or(Path::new("")).to_owned();
    let mut ahead: Vec<Component<'_>> = target.components().rev().collect();
    let mut hops = 0;
    while let Some(part) = ahead.pop() {
        match part {
            Component::CurDir => continue,
            Component::ParentDir if here.pop() => continue,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(OUT),
            Component::Normal(name) => here.push(name),
        }
        match tree.get(&here) {
            Some(What::Directory) => {}
            Some(What::File { .. }) if ahead.is_empty() => {}
            Some(What::File { .. }) | None => return Err(NOTHING),
            Some(What::Link(next)) => {
                hops += 1;
                if hops > HOPS {
                    return Err(NOTHING);
                }
                here.pop();
                ahead.extend(next.components().rev());
            }
        }
    }
    Ok(())
}
