//! Names people give: buckets, modules, versions, nodes. Each is valid once built, and cheap to copy: names are keys of
//! nearly every map.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::object::OBJECT_KEY_MAX;

/// Longest bucket path in bytes; it must still fit a directory's name.
pub const BUCKET_NAME_MAX: usize = 200;
/// Longest other name in bytes.
pub const NAME_MAX: usize = 100;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps `text`; the error says what is wrong and what would be right.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A bucket's absolute path, e.g. `/logs/web`: segments of `[A-Za-z0-9_.-]`, none `.` or `..`.
    BucketName, check_bucket
}
name! {
    /// A module's name, e.g. `flume`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    ModuleName, check_plain
}
name! {
    /// A node's name, e.g. `import-01`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    NodeName, check_plain
}
name! {
    /// A module's version, e.g. `1.11.0`: `[A-Za-z0-9_.+-]`. Ordered by [`ModuleVersion::newness`].
    ModuleVersion, check_version
}
name! {
    /// A file of a module, rendered into the instance's directory: one path segment, not `.` or `..`.
    FileName, check_plain
}
name! {
    /// A secret's name, e.g. `crawler.token`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    SecretName, check_plain
}
name! {
    /// A token's name, e.g. `alice`, and who acts by it: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    TokenName, check_plain
}

name! {
    /// A job's name, e.g. `ndvi-2024`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    JobName, check_plain
}
name! {
    /// A backend's name, e.g. `vito`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    BackendName, check_plain
}
name! {
    /// A sink's name, e.g. `on-call`: `[A-Za-z0-9_.-]`, starting with a letter or digit.
    SinkName, check_plain
}

name! {
    /// The key of an object, e.g. `offsets/web-3`: visible ASCII, no spaces. What begins with `.` is Sheaf's own.
    ObjectKey, check_key
}

impl ObjectKey {
    /// Where a bucket's checkpoint is kept, as the node named has noted it. None: where earlier versions kept that of a
    /// single-node bucket; all others begin with it.
    pub fn checkpoint(node: Option<&NodeName>) -> Self {
        Self(match node {
            Some(node) => format!(".checkpoint/{node}").into(),
            None => ".checkpoint".into(),
        })
    }

    /// Whether it is Sheaf's own: modules reach it by a call made for it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('.')
    }
}

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct NameError {
    /// What is wrong, with the offending text.
    pub problem: String,
    /// What would be right.
    pub remedy: String,
}

fn error(problem: String, remedy: &str) -> Result<(), NameError> {
    Err(NameError { problem, remedy: remedy.to_owned() })
}

fn segment_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn check_bucket(text: &str) -> Result<(), NameError> {
    const REMEDY: &str = "an absolute path of segments [A-Za-z0-9_.-], like /logs/web";
    let Some(rest) = text.strip_prefix('/') else {
        return error(format!("bucket name {text:?} does not start with /"), REMEDY);
    };
    if text.len() > BUCKET_NAME_MAX {
        return error(
            format!("bucket name of {} bytes is longer than {BUCKET_NAME_MAX}", text.len()),
            "a shorter path",
        );
    }
    if rest.is_empty() || rest.ends_with('/') {
        return error(format!("bucket name {text:?} ends with /"), REMEDY);
    }
    for segment in rest.split('/') {
        if segment.is_empty() {
            return error(format!("bucket name {text:?} has an empty segment"), REMEDY);
        }
        if segment == "." || segment == ".." {
            return error(format!("bucket name {text:?} has the segment {segment:?}"), REMEDY);
        }
        if let Some(c) = segment.chars().find(|&c| !segment_char(c)) {
            return error(format!("bucket name {text:?} contains {c:?}"), REMEDY);
        }
    }
    Ok(())
}

fn check_plain(text: &str) -> Result<(), NameError> {
    const REMEDY: &str = "letters, digits, _ . - with a letter or digit first, like flume";
    if text.is_empty() {
        return error("the name is empty".to_owned(), REMEDY);
    }
    if text.len() > NAME_MAX {
        return error(format!("a name of {} bytes is longer than {NAME_MAX}", text.len()), "a shorter name");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return error(format!("name {text:?} does not start with a letter or digit"), REMEDY);
    }
    match text.chars().find(|&c| !segment_char(c)) {
        Some(c) => error(format!("name {text:?} contains {c:?}"), REMEDY),
        None => Ok(()),
    }
}

fn check_version(text: &str) -> Result<(), NameError> {
    const REMEDY: &str = "letters, digits, _ . + -, like 1.11.0";
    if text.is_empty() {
        return error("the version is empty".to_owned(), REMEDY);
    }
    if text.len() > NAME_MAX {
        return error(
            format!("a version of {} bytes is longer than {NAME_MAX}", text.len()),
            "a shorter version",
        );
    }
    match text.chars().find(|&c| !segment_char(c) && c != '+') {
        Some(c) => error(format!("version {text:?} contains {c:?}"), REMEDY),
        None => Ok(()),
    }
}

fn check_key(text: &str) -> Result<(), NameError> {
    const REMEDY: &str = "visible ASCII characters without spaces, like offsets/web-3";
    if text.is_empty() {
        return error("the key is empty".to_owned(), REMEDY);
    }
    if text.len() > OBJECT_KEY_MAX {
        return error(
            format!("a key of {} bytes is longer than {OBJECT_KEY_MAX}", text.len()),
            "a shorter key",
        );
    }
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => error(format!("key {text:?} contains {c:?}"), REMEDY),
        None => Ok(()),
    }
}

impl ModuleVersion {
    /// Key that orders versions from old to new: runs of digits compare as numbers, anything else as text,
    /// and a pre-release (`1.2-rc1`) comes before its release (`1.2`), as in Semantic Versioning.
    pub fn newness(&self) -> impl Ord + use<> {
        let text = self.0.split('+').next().unwrap_or_default();
        let (release, pre) = text.split_once('-').map_or((text, None), |(r, p)| (r, Some(p)));
        (parts(release), pre.is_none(), parts(pre.unwrap_or_default()), self.0.clone())
    }
}

/// Digits as numbers (longer is larger, so by length and text), the rest as text.
fn parts(text: &str) -> Vec<(u8, usize, String)> {
    text.split(['.', '-'])
        .map(|part| {
            if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
                let digits = part.trim_start_matches('0');
                (1, digits.len(), digits.to_owned())
            } else {
                (0, 0, part.to_owned())
            }
        })
        .collect()
}

/// A module as a bucket asks for it: `flume` (the newest version) or `flume@1.11.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModuleRef {
    /// The module.
    pub name: ModuleName,
    /// The version; absent only in what a person wrote, fixed once the bucket is registered.
    pub version: Option<ModuleVersion>,
}

impl ModuleRef {
    /// Reads `name` or `name@version`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.split_once('@') {
            Some((name, version)) => {
                Ok(Self { name: ModuleName::new(name)?, version: Some(ModuleVersion::new(version)?) })
            }
            None => Ok(Self { name: ModuleName::new(text)?, version: None }),
        }
    }
}

impl fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A21
    #[test]
    fn a21_bad_bucket_names_are_refused_with_one_precise_error() {
        let bad = ["name/x", "/a/../b", "/a//b", "/a/./b", "/a b", "/a:b", "/a;b", "/a,b", "/a/", "", "/"];
        for text in bad {
            let error = BucketName::new(text).expect_err("a bad name must be refused");
            assert!(error.problem.contains(&format!("{text:?}")), "{error}");
            assert!(!error.remedy.is_empty());
        }
        for text in ["/logs/web", "/a", "/a.b/c-d/e_f/0", "/..a/b."] {
            assert_eq!(BucketName::new(text).expect("a good name").as_str(), text);
        }
        assert!(BucketName::new(&format!("/{}", "a".repeat(BUCKET_NAME_MAX))).is_err());
    }

    /// Names are shown on pages and in terminals, stand in commands, and are names of files.
    #[test]
    fn no_name_holds_markup_or_control_characters_or_leads_elsewhere() {
        type Check = fn(&str) -> bool;
        let checks: [(&str, Check); 9] = [
            ("bucket", |text| BucketName::new(&format!("/{text}")).is_ok()),
            ("module", |text| ModuleName::new(text).is_ok()),
            ("node", |text| NodeName::new(text).is_ok()),
            ("version", |text| ModuleVersion::new(text).is_ok()),
            ("file", |text| FileName::new(text).is_ok()),
            ("secret", |text| SecretName::new(text).is_ok()),
            ("token", |text| TokenName::new(text).is_ok()),
            ("job", |text| JobName::new(text).is_ok()),
            ("backend", |text| BackendName::new(text).is_ok()),
        ];
        let bad = ["<b>", "a<b", "a>b", "a&b", "a\"b", "a'b", "a`b", "a$b", "a\u{1b}[2J", "a\0b", "a\nb"];
        for (what, is_good) in checks {
            assert!(is_good("a-1"), "{what}");
            for text in bad {
                assert!(!is_good(text), "{what} {text:?}");
            }
            // A version is no part of a path.
            assert!(what == "version" || !["..", ".", "a/../.."].into_iter().any(is_good), "{what}");
        }
    }

    #[test]
    fn versions_order_by_number_and_pre_releases_come_first() {
        let order = ["1.2-rc1", "1.2", "1.9.0", "1.10.0", "2.0.0", "10.0"];
        for pair in order.windows(2) {
            let [old, new] = pair else { unreachable!("windows of two") };
            let key = |text| ModuleVersion::new(text).expect("a version").newness();
            assert!(key(old) < key(new), "{old} before {new}");
        }
    }

    #[test]
    fn keys_of_objects_are_visible_ascii_of_a_bounded_length() {
        for text in ["a", "offsets/web-3", "~!", ".checkpoint"] {
            assert_eq!(ObjectKey::new(text).expect("a key").as_str(), text);
        }
        for text in ["", "a b", "a\n", "größe", "\u{7f}"] {
            ObjectKey::new(text).expect_err("no key");
        }
        assert!(ObjectKey::new(&"k".repeat(OBJECT_KEY_MAX)).is_ok());
        assert!(ObjectKey::new(&"k".repeat(OBJECT_KEY_MAX + 1)).is_err());
        let node = NodeName::new(&"n".repeat(NAME_MAX)).expect("a name");
        for key in [ObjectKey::checkpoint(None), ObjectKey::checkpoint(Some(&node))] {
            assert!(key.is_reserved() && ObjectKey::new(key.as_str()).is_ok(), "{key}");
        }
    }

    #[test]
    fn a_module_reference_is_read_and_printed() {
        assert_eq!(ModuleRef::parse("flume").expect("a name").to_string(), "flume");
        assert_eq!(ModuleRef::parse("flume@1.11.0").expect("with a version").to_string(), "flume@1.11.0");
        assert!(ModuleRef::parse("flume@").is_err());
        assert!(ModuleRef::parse("@1").is_err());
    }
}
