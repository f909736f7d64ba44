//! What somebody needs to see who is to help: collected on each node (`sheaf.peer.v1.DebugService`), gathered by a member
//! (`sheaf.v1.ClusterService.Debug`).
//!
//! ```text
//!  console ──Debug──► a member ──Collect──► every node: its files, without anything secret
//!          ◄── Nodes, File …, End, … ───────────┘
//! ```

mod convert;
mod serve;

use bytes::Bytes;
use sheaf_model::ClusterId;

pub(crate) use serve::Serve;

use crate::{Answers, ApiError, Caller, async_trait};

/// Longest file in bytes.
pub const FILE_MAX: usize = 4 << 20;
/// Longest name of a file in bytes.
const NAME_MAX: usize = 64;

/// See `ClusterService.Debug`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskDebug {
    /// Only of this node, by name or number; none: of every node that has not left.
    pub node: Option<String>,
}

/// What answers it, in this order: the nodes once, then the files of each, which end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DebugPart {
    /// Names of the nodes that are asked.
    Nodes(Vec<String>),
    /// A file of one of them.
    File(DebugFile),
    /// Nothing more comes of a node.
    End {
        /// Its name.
        node: String,
        /// Why not all of it came.
        failure: Option<String>,
    },
}

/// A text of a node, as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugFile {
    /// Name of the node.
    pub node: String,
    /// Such as `log.txt`; see [`is_file_name`].
    pub name: String,
    /// All of it, at most [`FILE_MAX`]; or why it could not be collected.
    pub content: Result<Bytes, String>,
}

/// Whether a file may have this name, which leads nowhere else: at most 64 of `[A-Za-z0-9._-]`, not starting with a dot.
pub fn is_file_name(name: &str) -> bool {
    let fits = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('.') && name.bytes().all(fits)
}

/// What answers `sheaf.peer.v1.DebugService`: every node, for itself, and to members alone.
#[async_trait]
pub trait DebugApi: Send + Sync + 'static {
    /// Its files. What could not be collected says why, in place of its content.
    async fn collect(&self, caller: Caller, cluster: ClusterId) -> Result<Answers<DebugFile>, ApiError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_lead_nowhere_else() {
        for good in ["log.txt", "a", "A-1_b.json", "x".repeat(64).as_str()] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in
            ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a b", "é", "a\0", "x".repeat(65).as_str()]
        {
            assert!(!is_file_name(bad), "{bad:?}");
        }
    }
}
