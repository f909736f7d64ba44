//! Counts the words of files, for a job: each subtask is about one file, and one process counts many of them.
//!
//! ```yaml
//! kind: Module
//! name: word_counter
//! version: "1"
//! runtime: plugin
//! worker: true
//! exec: {command: /usr/local/bin/word_counter}
//! ---
//! kind: Job
//! name: words
//! module: word_counter
//! subtasks: {items: [{file: /etc/services}, {file: /etc/protocols}]}
//! ```
//!
//! What a subtask prints is shown by `sheaf job logs words 0`. One whose file cannot be read fails with why, is tried again as
//! the job says, and is nobody else's failure.

use std::path::PathBuf;

use serde::Deserialize;
use sheaf_module::{Failure, Module, ServeError, Subtask, serve};

/// What a subtask is about.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    file: PathBuf,
}

struct WordCounter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ServeError> {
    serve(WordCounter).await
}

impl Module for WordCounter {
    async fn on_subtask(&self, subtask: Subtask) -> Result<(), Failure> {
        let item: Item = subtask.item()?;
        // Reading may take long, so it is done beside the answers of others.
        let count = tokio::task::spawn_blocking(move || count(&item)).await??;
        subtask.print(format!("{count} words")).await;
        Ok(())
    }
}

fn count(item: &Item) -> Result<usize, Failure> {
    let text = std::fs::read(&item.file).map_err(|error| format!("{}: {error}", item.file.display()))?;
    Ok(text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count())
}
