//! Compare-and-set of objects, as a module sees it: 3 members, one write at a time and many.
//!
//! This program is the module as well: started with `race` it writes for as long as its bucket's config says, each writer its
//! own object at the version of its last write, and leaves the times in a file. (For `modules` it only runs.)

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sheaf_module::{Bucket, Context, Failure, Module, serve};
use sheaf_tests::{Cluster, Machine, wait_for};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times};
use crate::scene;

/// Writes that do not count: connections are made.
const WARM: Duration = Duration::from_secs(1);
/// Bytes of each value: about a checkpoint's.
const VALUE: usize = 100;
/// Beyond the time that is measured.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let seconds = ask.seconds(5);
    let cluster = scene::cluster(machine, "o-", 3);
    let program = std::env::current_exe().expect("this program has a path");
    let program = program.display();
    cluster.apply(&format!(
        "kind: Module\nname: race\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}', args: [race]}}\n---\n"
    ));
    for writers in ask.writers(&[1, 64]) {
        let file = machine.path(&format!("race.{writers}"));
        let (times, took) = race(&cluster, &file, writers, seconds);
        let per_second = times.count() as f64 / took.as_secs_f64();
        let figure = format!("{per_second:.0} per s, {times}");
        let name = format!("compare and set from a module, {writers} at a time");
        match writers {
            1 => figures.figure(
                &name,
                &figure,
                &Goal::within("p50 5 ms", times.median(), Duration::from_millis(5)),
            ),
            64 => {
                let goal = Goal { text: "3,000 per s", reached: Some(per_second >= 3000.0) };
                figures.figure(&name, &figure, &goal);
            }
            _ => figures.aside(&name, &figure),
        }
    }
    scene::end(cluster);
}

/// The times of all writes that counted, and how long they went on.
fn race(cluster: &Cluster, file: &Path, writers: usize, seconds: u64) -> (Times, Duration) {
    let bucket = format!("/race/{writers}");
    let config = json!({"file": file, "writers": writers, "seconds": seconds});
    let document = json!({"kind": "Bucket", "name": bucket, "module": "race", "config": config});
    cluster.apply_and_wait(&document.to_string());
    let within = Duration::from_secs(seconds) + WARM + PATIENCE;
    let said = wait_for("the race is over", within, || {
        let text = fs::read(file).map_err(|error| error.to_string())?;
        serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
    });
    cluster.delete(&[&bucket]);
    assert!(said["error"].is_null(), "{said}");
    let micros = |value: &Value| Duration::from_micros(value.as_u64().unwrap_or_default());
    let times = said["times"].as_array().into_iter().flatten().map(micros).collect();
    (times, micros(&said["took"]))
}

#[derive(Default)]
struct Race {
    context: Mutex<Option<Context>>,
    work: Mutex<JoinSet<()>>,
}

impl Module for Race {
    async fn on_init(&self, context: Context) -> Result<(), Failure> {
        *self.context.lock().await = Some(context);
        Ok(())
    }

    async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
        let config: Value = bucket.config()?;
        // One that is told nothing only runs.
        let Some(file) = config["file"].as_str().map(PathBuf::from) else { return Ok(()) };
        let writers = config["writers"].as_u64().ok_or("no writers")?;
        let lasts = Duration::from_secs(config["seconds"].as_u64().ok_or("no seconds")?);
        let context = self.context.lock().await.clone().ok_or("no context")?;
        self.work.lock().await.spawn(async move {
            let result = write_all(&context, writers, lasts).await;
            let said = match result {
                Ok((times, took)) => json!({"times": times, "took": took}),
                Err(error) => json!({"error": error.to_string()}),
            };
            let new = file.with_extension("new");
            if let Err(error) = fs::write(&new, said.to_string()).and_then(|()| fs::rename(&new, &file)) {
                eprintln!("{}: {error}", file.display());
            }
        });
        Ok(())
    }
}

/// Microseconds of each write, and of all.
async fn write_all(
    context: &Context,
    writers: u64,
    lasts: Duration,
) -> Result<(Vec<u128>, u128), sheaf_module::ContextError> {
    let (begin, end) = (Instant::now() + WARM, Instant::now() + WARM + lasts);
    let mut running = JoinSet::new();
    for writer in 0..writers {
        let context = context.clone();
        running.spawn(async move {
            let (key, mut version, mut times) = (format!("of/{writer}"), 0, Vec::new());
            while Instant::now() < end {
                let begun = Instant::now();
                version = context.compare_and_set(key.as_str(), version, vec![7; VALUE]).await?;
                if begun >= begin {
                    times.push(begun.elapsed().as_micros());
                }
            }
            Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        all.extend(times.expect("a writer does not panic")?);
    }
    Ok((all, begin.elapsed().as_micros()))
}

/// The module's process.
pub(crate) fn module() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map(|runtime| runtime.block_on(serve(Race::default())));
    if matches!(served, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
