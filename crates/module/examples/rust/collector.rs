//! Collects what is new in the files of a directory: each new line becomes a line of the bucket's output.
//!
//! ```yaml
//! kind: Module
//! name: collector
//! version: "1"
//! runtime: plugin
//! exec: {command: /usr/local/bin/collector}
//! ---
//! kind: Bucket
//! name: /logs/app
//! module: collector
//! config: {directory: /var/log/app, suffix: .log}
//! ```
//!
//! How far it has read is the bucket's checkpoint, so whichever process comes next goes on where this one stopped, on this
//! node or, where the directory is the same, on another. It says a line at least once: what a process said and could not note
//! before it was killed is said again, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sheaf_module::{Bucket, CanRun, Context, ContextError, Failure, Module, Node, ServeError, Why, serve};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Between two looks at the directory.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Read of one file at a look; the rest comes with the next.
const READ_MAX: u64 = 1 << 20;
/// How long the start waits for the checkpoint; it must be over within 30 s.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What to collect; must exist.
    directory: PathBuf,
    /// Only files whose names end so.
    #[serde(default)]
    suffix: String,
}

#[derive(Default)]
struct Collector {
    context: Mutex<Option<Context>>,
    work: Mutex<Option<Work>>,
}

/// What is being collected.
struct Work {
    config: Config,
    task: JoinHandle<()>,
}

impl Work {
    fn begin(config: Config, positions: Positions, context: Context) -> Self {
        Self { config: config.clone(), task: tokio::spawn(collect(config, positions, context)) }
    }

    /// What was said and is not noted yet is not noted any more.
    async fn end(self) -> Config {
        self.task.abort();
        let _ = self.task.await;
        self.config
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), ServeError> {
    serve(Collector::default()).await
}

impl Module for Collector {
    async fn can_run_on_this_node(&self, bucket: Bucket, _node: Node) -> Result<CanRun, Failure> {
        let config: Config = bucket.config()?;
        Ok(match fs::read_dir(&config.directory) {
            Ok(_) => CanRun::Yes,
            Err(error) => CanRun::No(format!("{}: {error}", config.directory.display())),
        })
    }

    async fn on_init(&self, context: Context) -> Result<(), Failure> {
        *self.context.lock().await = Some(context);
        Ok(())
    }

    async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
        let config: Config = bucket.config()?;
        fs::read_dir(&config.directory)
            .map_err(|error| format!("{}: {error}", config.directory.display()))?;
        let context = self.context.lock().await.clone().ok_or("on_init has not been called")?;
        let positions = Positions::load(&context.within(CHECKPOINT_WITHIN)).await?;
        *self.work.lock().await = Some(Work::begin(config, positions, context));
        Ok(())
    }

    /// What was collected is thrown away: all that is there is collected anew.
    async fn on_purge(&self) -> Result<(), Failure> {
        let context = self.context.lock().await.clone().ok_or("on_init has not been called")?;
        let mut work = self.work.lock().await;
        let config = match work.take() {
            Some(work) => Some(work.end().await),
            None => None,
        };
        let forgotten = context.set_checkpoint(Vec::new()).await;
        // Where it could not be forgotten it goes on all the same; whoever purges is told.
        if let Some(config) = config {
            let positions = match &forgotten {
                Ok(()) => Positions::default(),
                Err(_) => Positions::load(&context).await?,
            };
            *work = Some(Work::begin(config, positions, context));
        }
        Ok(forgotten?)
    }

    /// What is there now, from the beginning, and nothing is noted of it.
    async fn on_test_source(&self, bucket: Bucket, objects: u64, _time: Duration) -> Result<(), Failure> {
        let config: Config = bucket.config()?;
        let (mut positions, mut lines) = (Positions::default(), 0);
        while lines < objects {
            match look(&config, &mut positions)? {
                0 => break,
                new => lines += new,
            }
        }
        Ok(())
    }

    async fn on_stop(&self) -> Result<(), Failure> {
        if let Some(work) = self.work.lock().await.take() {
            work.end().await; // what was said and is not noted yet is said again by the next
        }
        Ok(())
    }
}

async fn collect(config: Config, mut positions: Positions, context: Context) {
    let mut lines = 0;
    loop {
        let told = match look(&config, &mut positions) {
            Ok(0) => None,
            Ok(new) => {
                lines += new;
                Some(format!("{lines} lines collected"))
            }
            Err(error) => Some(format!("{}: {error}", config.directory.display())),
        };
        // First what was said is noted, then more is said.
        if let Err(error) = positions.store(&context).await {
            eprintln!("{error}");
            if error.why() == Some(Why::Fenced) {
                return; // Another process has the bucket: not a line more.
            }
        }
        if let Some(told) = told
            && let Err(error) = context.set_status(told).await
        {
            eprintln!("{error}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Says every whole line that is new, and how many these were.
fn look(config: &Config, positions: &mut Positions) -> io::Result<u64> {
    let mut lines = 0;
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(&config.directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(&config.suffix) && entry.file_type()?.is_file() {
            found.insert(name, entry.path());
        }
    }
    let mut out = io::stdout().lock();
    for (name, path) in &found {
        let from = positions.read.entry(name.clone()).or_default();
        let new = whole_lines(path, from)?;
        for line in new.split_inclusive(|&byte| byte == b'\n') {
            out.write_all(line)?;
            lines += 1;
        }
    }
    out.flush()?;
    positions.read.retain(|name, _| found.contains_key(name));
    Ok(lines)
}

/// What a file has from there on, up to its last line feed; moves the place behind it. A file that has become shorter is
/// another one.
fn whole_lines(path: &Path, from: &mut u64) -> io::Result<Vec<u8>> {
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    if file.metadata()?.len() < *from {
        *from = 0;
    }
    file.seek(SeekFrom::Start(*from))?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    // A line longer than a look takes comes in pieces.
    let whole = if whole == 0 && bytes.len() as u64 == READ_MAX { bytes.len() } else { whole };
    bytes.truncate(whole);
    *from += whole as u64;
    Ok(bytes)
}

/// How far each file was read, by name.
#[derive(Default)]
struct Positions {
    read: BTreeMap<String, u64>,
    /// As it was noted last.
    noted: BTreeMap<String, u64>,
}

impl Positions {
    async fn load(context: &Context) -> Result<Self, Failure> {
        let read: BTreeMap<String, u64> = match context.checkpoint().await? {
            Some(text) => {
                serde_json::from_slice(&text).map_err(|error| format!("the checkpoint: {error}"))?
            }
            None => BTreeMap::new(),
        };
        Ok(Self { noted: read.clone(), read })
    }

    async fn store(&mut self, context: &Context) -> Result<(), ContextError> {
        if self.read == self.noted {
            return Ok(());
        }
        let text = serde_json::to_vec(&self.read).expect("names and numbers are always JSON");
        context.set_checkpoint(text).await?;
        self.noted.clone_from(&self.read);
        Ok(())
    }
}
