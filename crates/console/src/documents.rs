//! `-f FILE|DIR|-`: reading what people wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sheaf_model::document::{self, FILE_MAX, TRANSACTION_MAX, transaction_bytes};
use sheaf_model::{Defect, Document, ModuleName, ModuleSpec, PutBucket, SubmitJob};

use crate::output::Terminal;

/// Endings of the files that are read from a directory.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// The documents of one file. Its modules and buckets are applied together, or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// As the person named it; `stdin` for `-`.
    pub(crate) file: String,
    /// In the order written.
    pub(crate) documents: Vec<Document>,
}

/// What all files hold, and everything that is wrong with any of them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// One for each file that could be read.
    pub(crate) sources: Vec<Source>,
    /// All defects of all files, in their order.
    pub(crate) defects: Vec<Defect>,
}

/// Reads every file that is named, and every document in the directories that are named. Total: what cannot be
/// read is a defect.
pub(crate) fn read(out: &mut Terminal, named: &[PathBuf]) -> Written {
    let mut written = Written::default();
    for path in named {
        if path.as_os_str() == "-" {
            let bytes = out.input(FILE_MAX as u64 + 1);
            written.add("stdin", bytes);
        } else if path.is_dir() {
            match files_in(path) {
                Ok(files) if files.is_empty() => written.defects.push(defect(
                    path,
                    "there is no document in this directory",
                    "files that end in .yaml, .yml or .json",
                )),
                Ok(files) => files.iter().for_each(|file| written.add_file(file)),
                Err(error) => written.defects.push(unreadable(path, &error)),
            }
        } else {
            written.add_file(path);
        }
    }
    written
}

impl Source {
    /// Its buckets, in the order written.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = &PutBucket> {
        self.documents.iter().filter_map(|document| match document {
            Document::Bucket(put) => Some(&**put),
            Document::Module(_) | Document::Job(_) | Document::Backend(_) | Document::Sink(_) => None,
        })
    }

    /// Its modules, in the order written.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &ModuleSpec> {
        self.documents.iter().filter_map(|document| match document {
            Document::Module(module) => Some(&**module),
            Document::Bucket(_) | Document::Job(_) | Document::Backend(_) | Document::Sink(_) => None,
        })
    }

    /// Whether any of it is applied as one with the rest of the file.
    pub(crate) fn is_transaction(&self) -> bool {
        self.modules().next().is_some() || self.buckets().next().is_some()
    }

    /// Its jobs, in the order written.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &SubmitJob> {
        self.documents.iter().filter_map(|document| match document {
            Document::Job(job) => Some(&**job),
            Document::Module(_) | Document::Bucket(_) | Document::Backend(_) | Document::Sink(_) => None,
        })
    }
}

impl Written {
    fn add_file(&mut self, path: &Path) {
        let file = path.display().to_string();
        let bytes = File::open(path).and_then(|open| {
            let mut bytes = Vec::new();
            open.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        self.add(&file, bytes);
    }

    fn add(&mut self, file: &str, bytes: io::Result<Vec<u8>>) {
        let path = Path::new(file);
        let bytes = match bytes {
            Ok(bytes) if bytes.len() > FILE_MAX => {
                let problem = format!("the file is longer than {} MiB", FILE_MAX >> 20);
                return self.defects.push(defect(path, &problem, "several smaller files in a directory"));
            }
            Ok(bytes) => bytes,
            Err(error) => return self.defects.push(unreadable(path, &error)),
        };
        let parsed = document::parse(file, &bytes);
        if parsed.documents.is_empty() && parsed.defects.is_empty() {
            self.defects.push(defect(
                path,
                "there is no document in it",
                "like `kind: Bucket` and its fields",
            ));
        }
        self.defects.extend(parsed.defects);
        self.defects.extend(too_much(path, &parsed.documents));
        self.sources.push(Source { file: file.to_owned(), documents: parsed.documents });
    }

    /// Every document of a kind that is not `wanted` is a defect.
    pub(crate) fn only(&mut self, wanted: &[&str]) {
        let problem = format!("is not of kind {}", wanted.join(" or "));
        for source in &self.sources {
            for document in source.documents.iter().filter(|document| !wanted.contains(&kind(document))) {
                let defect =
                    Defect::new("kind", problem.as_str(), "`sheaf apply` takes documents of every kind");
                self.defects.push(Defect { file: source.file.clone(), ..defect.of(document.label()) });
            }
        }
    }

    /// A backend or a sink that stands in several files is a defect: which of them is meant, nobody knows. Of buckets the
    /// cluster says so, of jobs who submits them.
    pub(crate) fn each_once(&mut self) {
        let mut seen = BTreeMap::new();
        for (place, source) in self.sources.iter().enumerate() {
            for document in &source.documents {
                if !matches!(document, Document::Backend(_) | Document::Sink(_)) {
                    continue;
                }
                let label = document.label();
                if *seen.entry(label.clone()).or_insert(place) != place {
                    let defect = Defect::new("name", "another file has this name too", "each name once");
                    self.defects.push(Defect { file: source.file.clone(), ..defect.of(label) });
                }
            }
        }
    }

    /// What those of one kind are called with which something is wrong, also those that could not be read.
    pub(crate) fn defective(&self, kind: &str) -> impl Iterator<Item = &str> {
        self.defects.iter().filter_map(move |defect| defect.document.strip_prefix(kind)?.strip_prefix(' '))
    }

    /// Every document of every file, with its file.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&str, &Document)> {
        self.sources.iter().flat_map(|source| source.documents.iter().map(|d| (source.file.as_str(), d)))
    }

    /// Every bucket of every file, to be completed by what the command line says.
    pub(crate) fn buckets_mut(&mut self) -> impl Iterator<Item = &mut PutBucket> {
        self.sources.iter_mut().flat_map(|source| source.documents.iter_mut()).filter_map(|document| {
            match document {
                Document::Bucket(put) => Some(&mut **put),
                Document::Module(_) | Document::Job(_) | Document::Backend(_) | Document::Sink(_) => None,
            }
        })
    }

    /// The sources in an order in which each file finds the modules that files further on do not bring: a
    /// transaction sees what was applied before it. Files that need each other stay as they were named.
    pub(crate) fn in_order(self) -> Vec<Source> {
        let mut waiting = self.sources;
        // How often each module stands in the files that wait.
        let mut brought: BTreeMap<ModuleName, usize> = BTreeMap::new();
        for module in waiting.iter().flat_map(Source::modules) {
            *brought.entry(module.name.clone()).or_default() += 1;
        }
        let mut ordered = Vec::new();
        while !waiting.is_empty() {
            let next = waiting.iter().position(|source| {
                source.buckets().map(|put| &put.spec.module.name).all(|needed| {
                    let own = source.modules().filter(|module| module.name == *needed).count();
                    brought.get(needed).copied().unwrap_or_default() <= own
                })
            });
            let source = waiting.remove(next.unwrap_or(0));
            for module in source.modules() {
                brought.entry(module.name.clone()).and_modify(|files| *files -= 1);
            }
            ordered.push(source);
        }
        ordered
    }
}

/// The word after `kind:`.
pub(crate) fn kind(document: &Document) -> &'static str {
    match document {
        Document::Module(_) => "Module",
        Document::Bucket(_) => "Bucket",
        Document::Job(_) => "Job",
        Document::Backend(_) => "Backend",
        Document::Sink(_) => "Sink",
    }
}

fn files_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ENDINGS.contains(&ending) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn defect(file: &Path, problem: &str, remedy: &str) -> Defect {
    Defect { file: file.display().to_string(), ..Defect::new("", problem, remedy) }
}

fn unreadable(file: &Path, error: &io::Error) -> Defect {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "the path of a file or a directory, or - for stdin",
        _ => "",
    };
    let error = error.to_string();
    let plain = error.split(" (os error").next().unwrap_or(&error);
    defect(file, &format!("cannot be read: {plain}"), remedy)
}

/// A file is applied as one transaction, which takes less than a file may hold.
fn too_much(path: &Path, documents: &[Document]) -> Option<Defect> {
    let bytes = transaction_bytes(documents);
    (bytes > TRANSACTION_MAX).then(|| {
        let problem = format!(
            "its {} documents take {bytes} bytes in one transaction, {TRANSACTION_MAX} is the most",
            documents.len()
        );
        defect(path, &problem, "several smaller files: `sheaf apply -f DIR` takes all of a directory")
    })
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, BucketSpec, ModuleRef, ModuleVersion, Runtime};

    use super::*;
    use crate::output::recorded;

    fn bucket(name: &str, module: &str) -> Document {
        let module = ModuleRef::parse(module).expect("a module");
        let spec = BucketSpec::new(BucketName::new(name).expect("a name"), module);
        Document::Bucket(Box::new(PutBucket { spec, suspended: None, base: None, latest: false }))
    }

    fn module(name: &str) -> Document {
        let name = ModuleName::new(name).expect("a name");
        let version = ModuleVersion::new("1").expect("a version");
        Document::Module(Box::new(ModuleSpec::new(name, version, Runtime::Exec)))
    }

    fn written(files: &[(&str, Vec<Document>)]) -> Written {
        let source = |(file, documents): &(&str, Vec<Document>)| Source {
            file: (*file).to_owned(),
            documents: documents.clone(),
        };
        Written { sources: files.iter().map(source).collect(), defects: Vec::new() }
    }

    #[test]
    fn files_that_bring_modules_come_before_those_that_need_them() {
        let order = |files: &[(&str, Vec<Document>)]| {
            written(files).in_order().into_iter().map(|source| source.file).collect::<Vec<_>>()
        };
        let files = [
            ("buckets", vec![bucket("/a", "flume"), bucket("/b", "rsyslog")]),
            ("flume", vec![module("flume")]),
            ("both", vec![module("rsyslog"), bucket("/c", "flume")]),
        ];
        assert_eq!(order(&files), ["flume", "both", "buckets"]);
        let ring = [("a", vec![module("a"), bucket("/a", "b")]), ("b", vec![module("b"), bucket("/b", "a")])];
        assert_eq!(order(&ring), ["a", "b"]);
        let own = [("b", vec![bucket("/b", "b"), module("b")]), ("a", vec![module("a")])];
        assert_eq!(order(&own), ["b", "a"]);
    }

    #[test]
    fn documents_of_another_kind_are_defects() {
        let mut written = written(&[("x.yaml", vec![module("flume"), bucket("/a", "flume")])]);
        written.only(&["Bucket"]);
        let texts: Vec<String> = written.defects.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "x.yaml: Module flume@1: kind: is not of kind Bucket; `sheaf apply` takes documents of every kind"
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_a_defect_and_the_rest_is_read() {
        let place = tempfile::tempdir().expect("a directory");
        let path = |name: &str| place.path().join(name);
        fs::write(path("long.yaml"), vec![b'#'; FILE_MAX + 1]).expect("written");
        fs::create_dir(path("empty")).expect("made");
        let (mut out, _) = recorded::terminal("");
        let read = read(&mut out, &[path("missing.yaml"), path("long.yaml"), path("empty")]);
        let problems: Vec<&str> = read.defects.iter().map(|defect| defect.problem.as_str()).collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("cannot be read: No such file"), "{problems:?}");
        assert_eq!(problems[1], "the file is longer than 4 MiB");
        assert_eq!(problems[2], "there is no document in this directory");
    }

    #[test]
    fn a_directory_is_read_in_the_order_of_its_names() {
        let place = tempfile::tempdir().expect("a directory");
        for name in ["b.yml", "a.yaml", "c.json", "README.md", "x.yaml.bak"] {
            fs::write(place.path().join(name), "").expect("written");
        }
        let files = files_in(place.path()).expect("it is there");
        let names: Vec<_> = files.iter().filter_map(|file| file.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.yaml", "b.yml", "c.json"]);
    }
}
