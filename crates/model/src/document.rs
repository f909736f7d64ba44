//! The documents people write: YAML or JSON, several in a file.

use crate::{Defect, ModuleSpec, PutBucket};

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
