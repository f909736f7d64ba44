//! Documents as messages. What comes in becomes the value of a document and is read by the one reader of documents,
//! `sheaf_model::document`, so that YAML and gRPC are judged alike.

mod bucket;
mod config;
mod module;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::slice;

use prost::Message;
use prost_types::Struct;
use serde_json::{Map, Value};
use sheaf_model::document::{DOCUMENT_MAX, DOCUMENTS_MAX, Document, parse_accepted, parse_values};
use sheaf_model::{Bytes, Defect, ModuleSpec, PutBucket};

pub(crate) use bucket::{bucket_answer, bucket_request, bucket_spec};
pub(crate) use module::{module_answer, module_request, module_spec};

use crate::ApiError;
use crate::proto::v1;

/// Longest message of a document in bytes, as [`length`] counts them. It has as many at most as its JSON, but for
/// white space in what stands there as text; the values that it becomes take many times as much.
const SPEC_MAX: usize = 3 * DOCUMENT_MAX;

/// A bucket's document as every message has it.
#[derive(Debug, Default)]
pub(crate) struct BucketMessage {
    pub(crate) bucket: Option<v1::BucketSpec>,
    pub(crate) base_revision: Option<u64>,
    pub(crate) latest: bool,
    pub(crate) suspended: Option<bool>,
}

/// Everything in a request that is a document.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) modules: Vec<ModuleSpec>,
    pub(crate) buckets: Vec<PutBucket>,
}

/// Reads all documents of a request; the error has the defects of all.
pub(crate) fn read(
    modules: Vec<Option<v1::ModuleSpec>>,
    buckets: Vec<BucketMessage>,
) -> Result<Documents, ApiError> {
    if modules.len() + buckets.len() > DOCUMENTS_MAX {
        let problem = format!("there are more than {DOCUMENTS_MAX} documents");
        return Err(ApiError::invalid("", problem, "several requests"));
    }
    let mut defects = Vec::new();
    let mut values = Vec::with_capacity(modules.len() + buckets.len());
    let latest: Vec<bool> = buckets.iter().map(|bucket| bucket.latest).collect();
    for module in modules {
        match module {
            Some(module) => match too_long(&module, module.config_schema.as_ref()) {
                Some(defect) => {
                    let document = format!("Module {}@{}", short(&module.name), short(&module.version));
                    defects.push(defect.of(document));
                }
                None => values.push(module::value(module, &mut defects)),
            },
            None => defects.push(Defect::new("module", "missing", "a ModuleSpec")),
        }
    }
    let many = buckets.len() > 1;
    for (index, message) in buckets.into_iter().enumerate() {
        if let Some(bucket) = message.bucket {
            if let Some(defect) = too_long(&bucket, bucket.config.as_ref()) {
                defects.push(defect.of(format!("Bucket {}", short(&bucket.name))));
            } else {
                let value = bucket::value(bucket, message.suspended, message.base_revision, &mut defects);
                values.push(value);
            }
        } else {
            let path = if many { format!("buckets[{index}].bucket") } else { "bucket".to_owned() };
            defects.push(Defect::new(path, "missing", "a BucketSpec"));
        }
    }
    if values.is_empty() && !defects.is_empty() {
        return Err(ApiError::Invalid(defects));
    }
    let parsed = parse_values("", &values);
    defects.extend(parsed.defects.into_iter().map(as_field));
    if !defects.is_empty() {
        return Err(ApiError::Invalid(defects));
    }
    let mut documents = Documents::default();
    let mut latest = latest.into_iter();
    for document in parsed.documents {
        match document {
            Document::Module(module) => documents.modules.push(*module),
            Document::Bucket(mut put) => {
                put.latest = latest.next().unwrap_or_default();
                documents.buckets.push(*put);
            }
            // Jobs have messages of their own, and none is among these values.
            Document::Job(_) | Document::Backend(_) | Document::Sink(_) => {}
        }
    }
    if documents.modules.len() + documents.buckets.len() == values.len() {
        Ok(documents)
    } else {
        Err(ApiError::Internal("the documents were read as fewer than there are".to_owned()))
    }
}

/// What to say of a message that is not even made into values; `object` is the JSON in it.
fn too_long(message: &impl Message, object: Option<&Struct>) -> Option<Defect> {
    let length = length(message, object);
    if length <= SPEC_MAX {
        return None;
    }
    let problem = format!("the document has {length} bytes, more than {}", Bytes(DOCUMENT_MAX as u64));
    Some(Defect::new("", problem, "less in it"))
}

/// How many bytes a message has, its object counted as text: a number of a list may take two there, and takes
/// eleven in a message.
fn length(message: &impl Message, object: Option<&Struct>) -> usize {
    let more = object.map_or(0, |object| object.encoded_len().saturating_sub(config::length(object)));
    message.encoded_len().saturating_sub(more)
}

/// The beginning of a text that nobody has checked yet.
pub(crate) fn short(text: &str) -> Cow<'_, str> {
    const LONGEST: usize = 200;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// Fields that a document writes as one text have names of their own in messages.
fn as_field(mut defect: Defect) -> Defect {
    const NAMES: [(&str, &str); 5] = [
        ("poll_frequency", "poll_frequency_ms"),
        ("stop.grace", "stop.grace_ms"),
        ("restart.backoff", "restart.backoff_min_ms"),
        ("restart.give_up_after", "restart.give_up_count"),
        ("limits.cpu", "limits.cpu_millis"),
    ];
    if let Some((_, name)) = NAMES.iter().find(|(path, _)| *path == defect.path) {
        defect.path = (*name).to_owned();
    } else if (defect.path.starts_with("can_run_on_this_node[") && defect.path.ends_with("].timeout"))
        || (defect.path.starts_with("life_cycle.") && defect.path.ends_with(".timeout"))
    {
        defect.path.push_str("_ms");
    }
    defect
}

/// A document under construction.
struct Fields(Map<String, Value>);

impl Fields {
    fn new(kind: &'static str) -> Self {
        let mut fields = Self(Map::new());
        fields.put("kind", kind);
        fields
    }

    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn put_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// Messages cannot tell an empty text from one that is not there.
    fn put_text(&mut self, name: &'static str, value: String) {
        if !value.is_empty() {
            self.put(name, value);
        }
    }
}

/// Milliseconds as documents write a length of time.
fn millis(ms: u64) -> String {
    format!("{ms}ms")
}

/// The number of an enum that nobody knows.
fn unknown_number(path: &str, number: i32, known: impl Into<Cow<'static, str>>, document: &str) -> Defect {
    Defect::new(path, format!("{number} has no meaning"), known.into()).of(document)
}

/// A document out of an answer. How long it may be was said when it was applied. What the server sent must be
/// right, or it is of another version.
fn answered(value: &Value, mut defects: Vec<Defect>) -> Result<Document, ApiError> {
    let mut parsed = parse_accepted(slice::from_ref(value));
    defects.append(&mut parsed.defects);
    match parsed.documents.pop() {
        Some(document) if defects.is_empty() => Ok(document),
        _ => {
            let defects: Vec<_> = defects.iter().map(ToString::to_string).collect();
            Err(ApiError::Internal(format!(
                "the answer holds a document that is not valid here: {}",
                defects.join(", ")
            )))
        }
    }
}

fn no_spec() -> ApiError {
    ApiError::Internal("the answer has no spec".to_owned())
}
