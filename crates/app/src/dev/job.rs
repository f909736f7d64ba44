//! The example of a job: files of this machine, a subtask for each. It is written, and whoever tries things submits it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::layout::Home;

/// Where programs lie; the job reads the first of them.
const PROGRAMS: &str = "/usr/bin";
/// Its subtasks, at most.
const MOST: usize = 300;
/// The job's name.
const NAME: &str = "checksums";

/// Writes the document and its items, unless they are there, and returns where the document is and how many items.
pub(super) fn write(home: &Home) -> anyhow::Result<(PathBuf, usize)> {
    let (document, items) =
        (home.path().join(format!("{NAME}.yaml")), home.path().join(format!("{NAME}.jsonl")));
    if !items.exists() {
        let lines: String = files(Path::new(PROGRAMS))
            .iter()
            .map(|path| format!("{}\n", serde_json::json!({ "path": path })))
            .collect();
        fs::write(&items, lines).with_context(|| format!("write {}", items.display()))?;
    }
    if !document.exists() {
        let text = format!(
            "# Written by sheaf dev and never again: change what you like.\n\
             kind: Job\nname: {NAME}\nmodule: checksum\nsubtasks: {{file: \"{}\"}}\n\
             retry: {{max_attempts: 3, backoff: 1s..10s}}\nowner: dev\n",
            items.display()
        );
        fs::write(&document, text).with_context(|| format!("write {}", document.display()))?;
    }
    let known = fs::read_to_string(&items).with_context(|| format!("read {}", items.display()))?;
    Ok((document, known.lines().count()))
}

/// Some regular files, by name.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let regular = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let mut paths: Vec<String> =
        regular.filter_map(|entry| entry.path().to_str().map(str::to_owned)).collect();
    paths.sort();
    paths.truncate(MOST);
    paths
}

#[cfg(test)]
mod tests {
    use sheaf_model::ItemSource;
    use sheaf_model::document::{self, Document};

    use super::*;

    #[tokio::test]
    async fn the_job_is_without_defects_and_stays_as_it_was_changed() {
        let place = tempfile::tempdir().expect("a directory");
        let home = Home::open(Some(place.path())).await.expect("opened");
        let (path, number) = write(&home).expect("written");
        assert!((1..=MOST).contains(&number), "{number}");
        let parsed = document::parse("job", &fs::read(&path).expect("a file"));
        assert!(parsed.defects.is_empty(), "{:?}", parsed.defects);
        let [Document::Job(job)] = parsed.documents.as_slice() else { panic!("{:?}", parsed.documents) };
        assert_eq!(job.spec.name.as_str(), NAME);
        let ItemSource::File(items) = &job.items else { panic!("{:?}", job.items) };
        fs::write(items, "{\"path\": \"/etc/hostname\"}\n").expect("written");
        assert_eq!(write(&home).expect("written"), (path, 1));
    }
}
