//! The documents people write: YAML or JSON, several in a file.
//!
//! ```text
//!  bytes ──text──► values ──reader, bucket, module, …──► specs ──sense──► documents
//!             └─────────────────┴── defects, all of them ──┴─────────► and what is wrong
//!  specs ──write──► values ──► YAML that reads back as the same specs; difference compares two values
//! ```

mod backend;
mod bucket;
mod difference;
mod job;
mod module;
mod reader;
mod sense;
mod sink;
#[cfg(test)]
mod tests;
mod text;
mod word;
mod write;

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use serde_json::Value;

pub use backend::backend_defects;
pub use bucket::bucket_defects;
pub use difference::{Difference, differences};
pub use job::{item_line, job_defects, job_module_defects, module_for_buckets};
pub use sense::module_defects;
pub use sink::sink_defects;
pub use word::nearest;
pub use write::{
    backend_value, bucket_value, bucket_yaml, job_value, module_value, module_yaml, sink_value, yaml,
};

use crate::measure::quoted;
use crate::{BackendSpec, Bytes, Defect, ModuleSpec, PutBucket, SinkSpec, SubmitJob};

/// Longest text in bytes.
pub const FILE_MAX: usize = 4 << 20;
/// Longest document in bytes of JSON: it must fit one entry of the log.
pub const DOCUMENT_MAX: usize = 512 << 10;
/// Most bytes of modules and buckets that are applied as one, as [`transaction_bytes`] counts them: an entry of the log
/// holds 1 MiB, of which a little is for who asked, and when.
pub const TRANSACTION_MAX: usize = (1 << 20) - (1 << 10);
/// Most documents in a text.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Most defects in an answer; nobody reads more, and a bad text must not make a far larger answer.
pub const DEFECTS_MAX: usize = 1_000;

/// A document of any kind that this version knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// `kind: Module`
    Module(Box<ModuleSpec>),
    /// `kind: Bucket`
    Bucket(Box<PutBucket>),
    /// `kind: Job`
    Job(Box<SubmitJob>),
    /// `kind: Backend`
    Backend(Box<BackendSpec>),
    /// `kind: Sink`
    Sink(Box<SinkSpec>),
}

impl Document {
    /// What it is called in defects, e.g. `Bucket /logs/web`; no two documents of a text share it.
    pub fn label(&self) -> String {
        match self {
            Self::Module(spec) => format!("Module {}@{}", spec.name, spec.version),
            Self::Bucket(put) => format!("Bucket {}", put.spec.name),
            Self::Job(job) => format!("Job {}", job.spec.name),
            Self::Backend(spec) => format!("Backend {}", spec.name),
            Self::Sink(spec) => format!("Sink {}", spec.name),
        }
    }
}

/// How many bytes these documents take in the log when they are applied as one. Jobs, backends and sinks, which are not, count
/// nothing.
pub fn transaction_bytes<'a>(documents: impl IntoIterator<Item = &'a Document>) -> usize {
    fn size(value: &impl serde::Serialize) -> usize {
        // The flavor only counts: what is plain data cannot fail.
        postcard::serialize_with_flavor(value, postcard::ser_flavors::Size::default()).unwrap_or_default()
    }
    let bytes = documents.into_iter().map(|document| match document {
        Document::Module(spec) => size(&**spec),
        Document::Bucket(put) => size(&**put),
        Document::Job(_) | Document::Backend(_) | Document::Sink(_) => 0,
    });
    bytes.sum()
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
    let mut reading = Reading::new(DOCUMENT_MAX);
    let values = text::values(file, bytes);
    for (number, value) in (1..).zip(values) {
        match value {
            Ok(value) => reading.document(number, &value),
            Err(defect) if number == 1 => reading.parsed.defects.push(defect),
            Err(defect) => reading.parsed.defects.push(defect.of(format!("document {number}"))),
        }
    }
    reading.finish(file)
}

/// The same for documents that are values already, e.g. out of a JSON request.
pub fn parse_values(file: &str, values: &[Value]) -> Parsed {
    Reading::new(DOCUMENT_MAX).values(file, values)
}

/// The same for documents that were accepted before, and are written out by who keeps them. How long they are
/// is not judged again: what was left out stands in them now, and the version of a bucket's module.
pub fn parse_accepted(values: &[Value]) -> Parsed {
    Reading::new(usize::MAX).values("", values)
}

struct Reading {
    parsed: Parsed,
    /// The documents so far by what they are called, each with its number.
    seen: BTreeMap<String, usize>,
    /// Most bytes of JSON that a document may have.
    longest: usize,
}

impl Reading {
    fn new(longest: usize) -> Self {
        Self { parsed: Parsed::default(), seen: BTreeMap::new(), longest }
    }

    fn values(mut self, file: &str, values: &[Value]) -> Parsed {
        for (number, value) in (1..).zip(values) {
            self.document(number, value);
        }
        self.finish(file)
    }

    fn document(&mut self, number: usize, value: &Value) {
        if self.full() {
            return;
        }
        let mut defects = Vec::new();
        let mut document = None;
        if number > DOCUMENTS_MAX {
            let problem = format!("there are more than {DOCUMENTS_MAX} documents");
            defects.push(Defect::new("", problem, "several smaller files"));
        } else {
            document = read(value, self.longest, &mut defects);
        }
        if let Some(document) = &document {
            let first = *self.seen.entry(document.label()).or_insert(number);
            if first != number {
                let problem = format!("document {first} has this name already");
                defects.push(Defect::new("name", problem, "each name once"));
            }
        }
        if !defects.is_empty() {
            let label = document.as_ref().map_or_else(|| label_of(number, value), Document::label);
            self.parsed.defects.extend(defects.into_iter().map(|defect| defect.of(label.as_str())));
        }
        self.parsed.documents.extend(document);
    }

    fn full(&self) -> bool {
        self.parsed.defects.len() > DEFECTS_MAX
    }

    fn finish(self, file: &str) -> Parsed {
        let mut parsed = self.parsed;
        if parsed.documents.is_empty() && parsed.defects.is_empty() {
            parsed.defects.push(Defect::new(
                "",
                "there is no document",
                "kind: Bucket or kind: Module, and so on",
            ));
        }
        if parsed.defects.len() > DEFECTS_MAX {
            parsed.defects.truncate(DEFECTS_MAX);
            parsed.defects.push(Defect::new(
                "",
                "there is more wrong than is said here",
                "correct these first",
            ));
        }
        for defect in &mut parsed.defects {
            defect.file = file.to_owned();
            for text in [&mut defect.problem, &mut defect.remedy, &mut defect.path] {
                clip(text);
            }
        }
        parsed
    }
}

/// What is wrong need not be said at any length, even where what is quoted has one.
fn clip(text: &mut String) {
    const LONGEST: usize = 1_000;
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
}

/// What to call a document that could not be built: by its kind and name where they are there.
fn label_of(number: usize, value: &Value) -> String {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    match (text("kind"), text("name")) {
        (Some(kind @ ("Backend" | "Bucket" | "Job" | "Module" | "Sink")), Some(name))
            if !name.is_empty() && name.len() <= 200 && !name.contains(char::is_control) =>
        {
            format!("{kind} {name}")
        }
        _ => format!("document {number}"),
    }
}

fn read(value: &Value, longest: usize, defects: &mut Vec<Defect>) -> Option<Document> {
    const REMEDY: &str = "kind: Backend, kind: Bucket, kind: Job, kind: Module or kind: Sink";
    let Value::Object(fields) = value else {
        let mut defect = reader::wrong_type("a mapping", value);
        defect.remedy = match value {
            Value::Array(_) => "documents one after the other, with a line --- between them",
            _ => REMEDY,
        }
        .to_owned();
        defects.push(defect);
        return None;
    };
    // Infallible: it only counts.
    let length = json_length(value).unwrap_or_default();
    if length > longest {
        let problem = format!("the document has {length} bytes, more than {}", Bytes(longest as u64));
        defects.push(Defect::new("", problem, "less in it"));
        return None;
    }
    if is_deeper(value, text::DEPTH_MAX) {
        let problem = format!("nested deeper than {}", text::DEPTH_MAX);
        defects.push(Defect::new("", problem, "less nesting"));
        return None;
    }
    match fields.get("kind") {
        None | Some(Value::Null) => defects.push(Defect::new("kind", "this field is missing", REMEDY)),
        Some(Value::String(kind)) => match kind.as_str() {
            "Bucket" => {
                let put = bucket::read(value, defects)?;
                add(defects, bucket_defects(&put.spec));
                return Some(Document::Bucket(Box::new(put)));
            }
            "Module" => {
                let spec = module::read(value, defects)?;
                add(defects, module_defects(&spec));
                return Some(Document::Module(Box::new(spec)));
            }
            "Job" => {
                let job = job::read(value, defects)?;
                add(defects, job_defects(&job.spec));
                return Some(Document::Job(Box::new(job)));
            }
            "Backend" => {
                let spec = backend::read(value, defects)?;
                add(defects, backend_defects(&spec));
                return Some(Document::Backend(Box::new(spec)));
            }
            "Sink" => {
                let spec = sink::read(value, defects)?;
                add(defects, sink_defects(&spec));
                return Some(Document::Sink(Box::new(spec)));
            }
            "Thread" => {
                defects.push(Defect::new("kind", format!("this version does not know kind {kind}"), REMEDY));
            }
            other => {
                let remedy = nearest(other, &["Backend", "Bucket", "Job", "Module", "Sink"])
                    .map(|kind| format!("did you mean {kind}?"));
                let problem = format!("unknown kind {}", quoted(other));
                defects.push(Defect::new("kind", problem, remedy.as_deref().unwrap_or(REMEDY)));
            }
        },
        Some(other) => {
            defects.push(reader::wrong_type("Backend, Bucket, Job, Module or Sink", other).under("kind"));
        }
    }
    None
}

/// Whether mappings and lists stand in one another more than `most` deep.
pub fn is_deeper(value: &Value, most: usize) -> bool {
    let inner = |inner: &Value| is_deeper(inner, most - 1);
    match value {
        Value::Array(items) => most == 0 || items.iter().any(inner),
        Value::Object(map) => most == 0 || map.values().any(inner),
        _ => false,
    }
}

/// How many bytes a value has as JSON, without making that.
///
/// # Errors
/// What has no form in JSON.
pub fn json_length(value: &impl Serialize) -> serde_json::Result<usize> {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value)?;
    Ok(count.0)
}

/// Adds what makes no sense, but for fields that could not be read and so stand at a default of ours.
fn add(defects: &mut Vec<Defect>, more: Vec<Defect>) {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let related = |a: &Defect, b: &Defect| within(&a.path, &b.path) || within(&b.path, &a.path);
    // Each is compared with each, and nobody reads more.
    defects.truncate(DEFECTS_MAX + 1);
    let more = more.into_iter().take(DEFECTS_MAX + 1);
    let more: Vec<Defect> =
        more.filter(|defect| !defects.iter().any(|known| related(known, defect))).collect();
    defects.extend(more);
}
