//! A plugin that asks of Sheaf what it is told to, by files in a directory that its bucket's config names. For tests only.
//!
//! `DIR/NODE/NAME.ask` holds what to ask; `DIR/NODE/NAME.answer` is what was answered.
#![expect(clippy::print_stdout, reason = "what a module prints is the output of its bucket")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use sheaf_module::{Bucket, Context, ContextError, Failure, Module, ObjectChange, serve};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

#[derive(Default)]
struct Asking {
    context: Mutex<Option<Context>>,
    work: Mutex<JoinSet<()>>,
}

impl Module for Asking {
    async fn on_init(&self, context: Context) -> Result<(), Failure> {
        *self.context.lock().await = Some(context);
        Ok(())
    }

    async fn on_new_source(&self, bucket: Bucket) -> Result<(), Failure> {
        let config: serde_json::Value = bucket.config()?;
        let dir = PathBuf::from(config["dir"].as_str().ok_or("no dir")?).join(std::env::var("SHEAF_NODE")?);
        fs::create_dir_all(&dir)?;
        let context = self.context.lock().await.clone().ok_or("no context")?;
        self.work.lock().await.spawn(work(dir, context));
        Ok(())
    }

    /// Shows what is kept under its name before it keeps something, and then.
    async fn on_test_source(&self, _: Bucket, _: u64, _: Duration) -> Result<(), Failure> {
        let context = self.context.lock().await.clone().ok_or("no context")?;
        for question in ["get k", "checkpoint", "put k tested", "note tested", "get k", "checkpoint"] {
            let answer = ask(question, &context).await?;
            println!("{question} [{answer}]");
        }
        Ok(())
    }
}

async fn work(dir: PathBuf, context: Context) {
    let mut under_way = JoinSet::new();
    loop {
        for path in fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "ask") {
                let Ok(question) = fs::read_to_string(&path) else { continue };
                if fs::remove_file(&path).is_ok() {
                    under_way.spawn(answer(path, question, context.clone()));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn answer(path: PathBuf, question: String, context: Context) {
    let answer = match ask(&question, &context).await {
        Ok(answer) => format!("ok {answer}"),
        Err(error) => format!("{:?} {error}", error.why()),
    };
    let written = write(&path.with_extension("answer"), answer.trim());
    if let Err(error) = written {
        eprintln!("{}: {error}", path.display());
    }
}

/// As a whole, so that nobody reads half of it.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

async fn ask(question: &str, context: &Context) -> Result<String, ContextError> {
    let mut words = question.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, first, rest) = (word(), word(), word());
    let number = first.parse().unwrap_or_default();
    Ok(match verb {
        "get" => match context.get(first).await? {
            Some(object) => format!("{} {}", object.version, String::from_utf8_lossy(&object.value)),
            None => "none".to_owned(),
        },
        "put" => context.put(first, rest).await?.to_string(),
        "set" => {
            let (expected, value) = rest.split_once(' ').unwrap_or_default();
            context.compare_and_set(first, expected.parse().unwrap_or_default(), value).await?.to_string()
        }
        "big" => context.put(first, vec![7; rest.parse().unwrap_or_default()]).await?.to_string(),
        "delete" => context.delete(first).await.map(|()| String::new())?,
        "list" => {
            let keys: Vec<String> = context.list(first).await?.into_iter().map(|head| head.key).collect();
            keys.join(" ")
        }
        "follow" => follow(context, first, rest).await?,
        "checkpoint" => {
            let checkpoint = context.checkpoint().await?.unwrap_or_default();
            String::from_utf8_lossy(&checkpoint).into_owned()
        }
        "note" => context.set_checkpoint(first).await.map(|()| String::new())?,
        "line" => context.add_status_line(first, rest).await.map(|()| String::new())?,
        "disable" => context.emergency_disable(rest).await.map(|()| String::new())?,
        "quarantine" => {
            let until = SystemTime::now() + Duration::from_millis(number);
            context.emergency_quarantine(until, rest).await.map(|()| String::new())?
        }
        "peers" => {
            let names: Vec<String> = context.peers().await?.into_iter().map(|node| node.name).collect();
            names.join(" ")
        }
        // Turned round: an answer is written down, and the value must be nowhere.
        "secret" => {
            let secret = context.secret(first).await?;
            secret.text().unwrap_or_default().chars().rev().collect()
        }
        other => format!("what is {other:?}?"),
    })
}

/// Watches a prefix while an object below it is written and deleted; what is seen, in words.
async fn follow(context: &Context, prefix: &str, key: &str) -> Result<String, ContextError> {
    let mut watch = context.watch(prefix);
    let (mut seen, mut synced) = (Vec::new(), 0);
    while synced < 3 {
        seen.push(match watch.next().await?.change {
            ObjectChange::Reset => "reset".to_owned(),
            ObjectChange::Put(head) => format!("put:{}", head.key),
            ObjectChange::Gone(key) => format!("gone:{key}"),
            ObjectChange::Synced => {
                synced += 1;
                match synced {
                    1 => drop(context.put(key, "x").await?),
                    2 => context.delete(key).await?,
                    _ => {}
                }
                "synced".to_owned()
            }
        });
    }
    Ok(seen.join(" "))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match serve(Asking::default()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
