//! Artifacts: the program that a module's version brings along, so that no node must have it already.
//!
//! The bytes of one are its *blob*: an archive that is the same for the same files, known by its SHA-256. What is agreed
//! on in the cluster is only which blob belongs to which version; the blobs themselves lie beside the log, on the voters
//! and where they are used.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{FileName, ModuleRef};

/// The largest blob, in bytes: 2 GiB. Every voter keeps every registered one, and a node unpacks what it uses on the disk
/// that its instances write to; what is larger than a whole operating system's image belongs into a store of its own.
pub const BLOB_MAX: u64 = 2 << 30;

/// The most files, directories and links in one artifact: as many as a large interpreter with its packages has.
pub const ENTRIES_MAX: u64 = 100_000;

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Its first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }

    /// Its first eight bytes, where few are told apart.
    pub fn leading(&self) -> u64 {
        self.0.iter().take(8).fold(0, |leading, byte| (leading << 8) | u64::from(*byte))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(NoDigest);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NoDigest);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

/// What was pushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A directory: `${artifact}` is a directory with its content.
    Directory,
    /// One file of this name: `${artifact}` is that file.
    File(FileName),
}

impl Shape {
    /// The name of the one file; empty for a directory.
    pub fn file(&self) -> &str {
        match self {
            Self::Directory => "",
            Self::File(name) => name.as_str(),
        }
    }
}

/// Which blob belongs to a module's version. Never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The module, with its version.
    pub module: ModuleRef,
    /// The blob.
    pub digest: Digest,
    /// How large the blob is, in bytes.
    pub size: u64,
    /// What was pushed.
    pub shape: Shape,
}

/// How much of an artifact a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holding {
    /// All of it, ready to use: `${artifact}` is this path.
    Ready(String),
    /// So many hundredths of its blob, or all of it and it is being unpacked.
    Fetching(u8),
    /// Nothing that can be used, and why; it is tried again.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_and_nothing_else_is_one() {
        let digest = Digest(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let text = digest.to_string();
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &format!("g{}", &text[1..]), &"é".repeat(32)]
        {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }
}
