//! The documents people write: YAML or JSON, several in a file.

mod word;

pub use word::nearest;

use serde_json::Value;

use crate::{BucketSpec, Defect, ModuleSpec, PutBucket, Revision};

/// Longest file in bytes.
pub const FILE_MAX: usize = 4 << 20;

/// A document of any kind that this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// `kind: Module`
    Module(Box<ModuleSpec>),
    /// `kind: Bucket`
    Bucket(Box<PutBucket>),
}

/// What a text holds: the documents that could be built, and everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// In the order written. A document with defects is here too if enough of it could be read to check the rest
    /// of it elsewhere; nothing may be applied unless `defects` is empty.
    pub documents: Vec<Document>,
    /// All defects of all documents.
    pub defects: Vec<Defect>,
}

/// Reads a text of one or more documents. Total: whatever the bytes, the answer is documents and defects.
/// `file` is only said in the defects; empty if there is none.
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let _ = (file, bytes);
    Parsed::default()
}

/// The same for documents that are values already, e.g. out of a JSON request.
pub fn parse_values(file: &str, values: &[Value]) -> Parsed {
    let _ = (file, values);
    Parsed::default()
}

/// The document of a bucket, its fields in the documented order and those at their defaults left out.
pub fn bucket_value(spec: &BucketSpec, suspended: bool, revision: Option<Revision>) -> Value {
    let _ = (spec, suspended, revision);
    Value::Null
}

/// The document of a module, its fields in the documented order and those at their defaults left out.
pub fn module_value(spec: &ModuleSpec) -> Value {
    let _ = spec;
    Value::Null
}

/// [`bucket_value`] as YAML, which can be applied again.
pub fn bucket_yaml(spec: &BucketSpec, suspended: bool, revision: Option<Revision>) -> String {
    yaml(&bucket_value(spec, suspended, revision))
}

/// [`module_value`] as YAML, which can be applied again.
pub fn module_yaml(spec: &ModuleSpec) -> String {
    yaml(&module_value(spec))
}

/// Any JSON value as YAML 1.2, in block style.
pub fn yaml(value: &Value) -> String {
    value.to_string()
}

/// A field in which two documents differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Field path, e.g. `config.port`.
    pub path: String,
    /// The old value; none: the field was not there.
    pub before: Option<Value>,
    /// The new value; none: the field is gone.
    pub after: Option<Value>,
}

/// The fields in which `new` differs from `old`, the deepest that tell them apart, in the order of `old`.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let _ = (old, new);
    Vec::new()
}
