//! The files of the workspace, as git would see them: what `.gitignore` at the root names is left out.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use crate::rust;

/// A text file of the workspace.
pub(crate) struct File {
    /// From the workspace's root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `text` with comments and the inside of literals blanked, byte for byte; the text itself for other languages.
    pub(crate) code: String,
    /// Byte ranges of the items in `code` that exist in tests only.
    pub(crate) test_items: Vec<Range<usize>>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let rust = has_extension(path, "rs");
        let code = if rust || has_extension(path, "proto") { rust::code_only(text) } else { text.to_owned() };
        let test_items = if rust { rust::test_items(&code) } else { Vec::new() };
        Self { path: path.to_owned(), text: text.to_owned(), code, test_items }
    }

    pub(crate) fn has_extension(&self, extension: &str) -> bool {
        has_extension(&self.path, extension)
    }

    /// Whether the byte at `offset` belongs to an item that exists in tests only.
    pub(crate) fn in_test_item(&self, offset: usize) -> bool {
        self.test_items.iter().any(|range| range.contains(&offset))
    }

    /// One violation, for the line that holds the byte at `offset`.
    pub(crate) fn at(&self, offset: usize, what: &str) -> String {
        self.at_line(self.line(offset), what)
    }

    pub(crate) fn at_line(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    /// The line of the byte at `offset`, from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Everything the rules look at.
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
    /// Names at the top level that are not ignored.
    pub(crate) top: Vec<String>,
}

/// The workspace, read once.
pub(crate) fn workspace() -> &'static Tree {
    static TREE: OnceLock<Tree> = OnceLock::new();
    TREE.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies below the root");
        let ignored = fs::read_to_string(root.join(".gitignore")).expect("the root has a .gitignore");
        let mut tree = Tree { files: Vec::new(), top: Vec::new() };
        read_folder(root, "", &patterns(&ignored), &mut tree);
        tree
    })
}

fn read_folder(folder: &Path, prefix: &str, ignored: &[&str], tree: &mut Tree) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("reading {}: {error}", folder.display()));
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if name == ".git" || is_ignored(&path, ignored) {
            continue;
        }
        if prefix.is_empty() {
            tree.top.push(name);
        }
        // A file may vanish while the tree is read, an editor's swap file say: then it is not part of it.
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            read_folder(&entry.path(), &format!("{path}/"), ignored, tree);
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(entry.path())
        {
            tree.files.push(File::new(&path, &text));
        }
    }
}

fn patterns(gitignore: &str) -> Vec<&str> {
    gitignore.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The part of git's rules that the root's `.gitignore` uses: names with `*`, anchored by a slash or not.
fn is_ignored(path: &str, patterns: &[&str]) -> bool {
    patterns.iter().any(|pattern| {
        let pattern = pattern.trim_end_matches('/');
        match pattern.strip_prefix('/') {
            Some(anchored) => matches(anchored, path),
            None if pattern.contains('/') => matches(pattern, path),
            None => matches(pattern, path.rsplit('/').next().unwrap_or(path)),
        }
    })
}

/// Whether `name` is `pattern`, where `*` stands for anything within one name.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            let within = rest.find('/').unwrap_or(rest.len());
            (0..=within).any(|skip| rest.is_char_boundary(skip) && matches(after, &rest[skip..]))
        }),
    }
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

#[test]
fn ignoring_is_like_gits() {
    let patterns = patterns("# built\n/target\n/target-*\n\n*.pyc\n__pycache__/\ndeploy/*/out\n");
    for path in ["target", "target-x86", "tests/a.pyc", "tests/__pycache__", "deploy/images/out"] {
        assert!(is_ignored(path, &patterns), "{path} is ignored");
    }
    for path in ["tests/target", "targets", "a.py", "deploy/out", "deploy/a/b/out"] {
        assert!(!is_ignored(path, &patterns), "{path} is not ignored");
    }
}

#[test]
fn lines_count_from_one() {
    let file = File::new("a.rs", "one\ntwo\n");
    assert_eq!(file.at(0, "x"), "a.rs:1: x");
    assert_eq!(file.at(4, "x"), "a.rs:2: x");
}
