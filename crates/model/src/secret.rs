//! Secrets: what modules must know and nobody else. Plain only where one is set and where it is used; everywhere between,
//! sealed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{BucketScope, BucketSpec, ModuleSpec, ObjectValue, Revision, Scope, SecretName};

/// Longest value of a secret in bytes.
pub const SECRET_MAX: usize = 64 << 10;
/// Secrets of a cluster: each member keeps all of them in memory, sealed.
pub const SECRETS_MAX: usize = 1024;
/// What sealing adds to a value, in bytes.
pub const SEAL_TAG: usize = 16;

/// Which key something is sealed with: the beginning of a hash of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A value that only nodes with the key can read. Of which secret it is, is sealed with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The key.
    pub key: KeyId,
    /// Never used twice with one key.
    pub nonce: [u8; 12],
    /// The value, unreadable, and a tag of [`SEAL_TAG`] bytes that tells whether it is whole.
    pub ciphertext: ObjectValue,
}

/// Why a value cannot be a secret's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing was given.
    #[error("the value is empty")]
    Empty,
    /// It has so many bytes.
    #[error("the value has {0} bytes; at most {SECRET_MAX} are kept")]
    TooLong(usize),
}

impl SecretError {
    /// What would be right.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Empty => "1 to 65536 bytes",
            Self::TooLong(_) => {
                "a key or a token, and what it opens elsewhere: an artifact, or a file of the node"
            }
        }
    }
}

impl Sealed {
    /// What is wrong with its sizes, whichever way it came here.
    pub fn check(&self) -> Result<(), SecretError> {
        sized(self.ciphertext.len().saturating_sub(SEAL_TAG))
    }
}

/// A secret's value, plain. Says itself nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Arc<[u8]>);

impl SecretValue {
    /// Neither empty nor too long.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        sized(bytes.len())?;
        Ok(Self(bytes.into()))
    }

    /// The value itself. Whoever asks answers for where it goes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

fn sized(bytes: usize) -> Result<(), SecretError> {
    match bytes {
        0 => Err(SecretError::Empty),
        SECRET_MAX.. if bytes > SECRET_MAX => Err(SecretError::TooLong(bytes)),
        _ => Ok(()),
    }
}

/// Nothing of it, not even its length.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

impl ModuleSpec {
    /// The secrets that an instance of it may ask for, for this bucket: those under `secrets`, and those that its
    /// templates name. An entry that has no value for the bucket, or whose value is no name, gives none.
    pub fn secrets_for(&self, bucket: &BucketSpec) -> BTreeSet<SecretName> {
        // Parsed only if it may be needed.
        let config = if self.secrets.is_empty() { serde_json::Value::Null } else { bucket.config.value() };
        let bucket =
            BucketScope { name: bucket.name.as_str(), revision: Revision::default(), config: &config };
        let scope = Scope { bucket: Some(bucket), ..Scope::default() };
        let listed =
            self.secrets.iter().filter_map(|entry| SecretName::new(&entry.render(&scope).ok()?).ok());
        listed.chain(self.secrets_in_templates().cloned()).collect()
    }

    /// The secrets that it names whatever its bucket says.
    pub fn secrets_named(&self) -> BTreeSet<SecretName> {
        let listed = self.secrets.iter().filter_map(|entry| SecretName::new(entry.literal()?).ok());
        listed.chain(self.secrets_in_templates().cloned()).collect()
    }

    /// Those in its environment and files.
    pub fn secrets_in_templates(&self) -> impl Iterator<Item = &SecretName> {
        let env = self.exec.iter().flat_map(|exec| exec.env.values());
        env.chain(self.files.values()).flat_map(crate::Template::secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_says_nothing_of_itself_and_has_its_bounds() {
        let value = SecretValue::new(b"hunter2").expect("a value");
        assert_eq!(format!("{value:?} {:?}", Some(&value)), "SecretValue(…) Some(SecretValue(…))");
        assert_eq!(value.reveal(), b"hunter2");
        assert_eq!(SecretValue::new(b""), Err(SecretError::Empty));
        assert!(SecretValue::new(&vec![0; SECRET_MAX]).is_ok());
        let error = SecretValue::new(&vec![0; SECRET_MAX + 1]).expect_err("too long");
        assert_eq!(error.to_string(), "the value has 65537 bytes; at most 65536 are kept");
    }

    #[test]
    fn a_module_names_its_secrets_by_list_by_template_and_by_its_buckets_config() {
        use crate::{
            BucketName, Exec, Json, ModuleName, ModuleRef, ModuleVersion, Runtime, Template, TemplateSet,
        };
        let name = ModuleName::new("m").expect("a name");
        let mut module = ModuleSpec::new(name, ModuleVersion::new("1").expect("a version"), Runtime::Exec);
        let entry = |text| Template::parse(text, TemplateSet::SecretNames).expect("a template");
        module.secrets =
            vec![entry("listed"), entry("${bucket.config.token}"), entry("${bucket.config.none}")];
        let env = Template::parse("x=${secret.in-env}", TemplateSet::Confidential).expect("a template");
        let command = Template::parse("/bin/x", TemplateSet::Instance).expect("a template");
        module.exec = Some(Exec { command, args: vec![], env: [("X".to_owned(), env)].into() });
        let reference = ModuleRef::parse("m@1").expect("a reference");
        let mut bucket = BucketSpec::new(BucketName::new("/a").expect("a name"), reference);
        let names = |set: BTreeSet<SecretName>| set.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(module.secrets_for(&bucket)), ["in-env", "listed"]);
        bucket.config = Json::new(&serde_json::json!({"token": "of-this-bucket"}));
        assert_eq!(names(module.secrets_for(&bucket)), ["in-env", "listed", "of-this-bucket"]);
        bucket.config = Json::new(&serde_json::json!({"token": "no name"}));
        assert_eq!(names(module.secrets_for(&bucket)), ["in-env", "listed"]);
        assert_eq!(names(module.secrets_named()), ["in-env", "listed"]);
    }
}
