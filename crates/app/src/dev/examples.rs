//! The examples: their documents, and how they came to run.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_model::document::{self, Document};
use sheaf_model::view::{BucketState, BucketStatus, Explanation, NodeRow};
use sheaf_model::{BucketName, Json, LeaseSettings, Voters};
use sheaf_wire::cluster::Apply;
use sheaf_wire::node::ListNodes;
use sheaf_wire::{ApiError, Client, Options};
use tokio::time::{Instant, sleep};

use super::job;
use super::layout::{Home, Node};
use super::leftovers::runs_below;
use super::screen::Progress;

/// Modules and buckets.
const DOCUMENTS: &str = include_str!("examples.yaml");
/// How long agents may take to form a cluster: with twenty of them on a small machine, this long.
const READY: Duration = Duration::from_secs(90);
/// Until those that are to vote do. Not longer: in a kept directory somebody may have wanted fewer.
const VOTES: Duration = Duration::from_secs(10);
/// How long the examples may take to run before it is shown how far they are.
const RUN: Duration = Duration::from_secs(30);
/// Between two looks; short beside what a start takes.
const PAUSE: Duration = Duration::from_millis(100);

/// What is there to be shown.
pub(super) struct Seen {
    pub(super) nodes: Vec<NodeRow>,
    pub(super) voters: Vec<String>,
    pub(super) buckets: Vec<(BucketStatus, Explanation)>,
    /// The document of a job that can be submitted, and how many subtasks it has.
    pub(super) job: (PathBuf, usize),
    /// How long a lost node's single-node work takes to be free.
    pub(super) wait: String,
}

/// Waits until every node is ready and those vote that should, so that one of them may be killed, and returns a client of
/// the first one.
pub(super) async fn ready(nodes: &[Node], progress: &Progress) -> anyhow::Result<Client> {
    let first = nodes.first().context("there is no node")?;
    let options = Options { actor: Some("dev".to_owned()), ..Options::default() };
    let client = Client::lazy(&first.address(), options)?;
    let deadline = Instant::now() + READY;
    let wanted = Voters::Auto.among(nodes.len());
    let mut all_ready = None;
    loop {
        let seen = match client.list_nodes(ListNodes::default()).await {
            Ok(page) => {
                let is_ready =
                    |node: &&Node| page.rows.iter().any(|row| row.name == node.name && row.status == "ready");
                let ready = nodes.iter().filter(is_ready).count();
                let vote = page.rows.iter().filter(|row| row.voter).count();
                if ready < nodes.len() {
                    format!("{ready} of {} nodes are ready", nodes.len())
                } else if vote >= wanted || all_ready.get_or_insert_with(Instant::now).elapsed() > VOTES {
                    return Ok(client);
                } else {
                    format!("{vote} of {wanted} voters are in")
                }
            }
            Err(error) if error.can_retry() || matches!(error, ApiError::Precondition(_)) => {
                format!("waiting for a cluster of {}", nodes.len())
            }
            Err(error) => return Err(error).context("ask for the nodes"),
        };
        if Instant::now() > deadline {
            bail!(
                "{seen} after {} s; the agents' logs say more, as {}",
                READY.as_secs(),
                first.log().display()
            );
        }
        progress.say(&seen);
        sleep(PAUSE).await;
    }
}

/// The documents, with this directory in their configuration.
fn documents(home: &Home) -> anyhow::Result<Apply> {
    let parsed = document::parse("examples.yaml", DOCUMENTS.as_bytes());
    if let Some(defect) = parsed.defects.first() {
        bail!("{defect}");
    }
    let mut apply = Apply::default();
    for document in parsed.documents {
        match document {
            Document::Module(module) => apply.modules.push(*module),
            Document::Bucket(mut put) => {
                put.spec.config = Json::new(&serde_json::json!({ "home": home.path() }));
                apply.buckets.push(*put);
            }
            Document::Job(job) => bail!("the examples have a job, {}", job.spec.name),
            Document::Backend(spec) => bail!("the examples have a backend, {}", spec.name),
            Document::Sink(spec) => bail!("the examples have a sink, {}", spec.name),
        }
    }
    Ok(apply)
}

/// Registers them. A directory of an earlier time may hold others of the same names; they stay, and a note says so.
pub(super) async fn apply(client: &Client, home: &Home) -> anyhow::Result<Vec<String>> {
    let deadline = Instant::now() + RUN;
    loop {
        match client.apply(documents(home)?).await {
            Ok(applied) => return Ok(applied.warnings),
            Err(error @ (ApiError::Conflict(_) | ApiError::Precondition(_) | ApiError::Invalid(_))) => {
                return Ok(vec![format!("The examples stay as they were: {error}")]);
            }
            // Applying the same again changes nothing, so this is safe.
            Err(error) if error.can_retry() && Instant::now() < deadline => sleep(PAUSE).await,
            Err(error) => return Err(error).context("register the examples"),
        }
    }
}

/// Waits until the examples run as they should, or long enough, and looks at everything.
pub(super) async fn look(client: &Client, home: &Home, progress: &Progress) -> anyhow::Result<Seen> {
    let names = names();
    let deadline = Instant::now() + RUN;
    let mut buckets = Vec::new();
    for name in &names {
        let status = loop {
            let found = client.bucket(name).await;
            match found {
                Ok(got) if settled(&got.status, home) || Instant::now() > deadline => break got.status,
                Ok(got) => progress.say(&format!("{name} is {}", got.status.state.as_str())),
                Err(ApiError::NotFound(_)) if Instant::now() > deadline => bail!("there is no bucket {name}"),
                Err(error) if !error.can_retry() || Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("ask for {name}"));
                }
                Err(_) => {}
            }
            sleep(PAUSE).await;
        };
        let explanation = client.explain_bucket(name).await.with_context(|| format!("explain {name}"))?;
        buckets.push((status, explanation));
    }
    let nodes = client.list_nodes(ListNodes::default()).await.context("ask for the nodes")?.rows;
    let voters = nodes.iter().filter(|row| row.voter).map(|row| row.name.clone()).collect();
    let wait = LeaseSettings::default().wait().to_string();
    Ok(Seen { nodes, voters, buckets, job: job::write(home)?, wait })
}

/// Runs wherever it should, or is not to. What a node has reported before it was stopped does not count.
fn settled(status: &BucketStatus, home: &Home) -> bool {
    let still = matches!(status.state, BucketState::Running | BucketState::Suspended | BucketState::Failed);
    let mut pids =
        status.instances.iter().filter(|instance| instance.phase == "running").map(|instance| instance.pid);
    let is_there = |pid: Option<u32>| pid.is_some_and(|pid| runs_below(home.path(), pid));
    still && status.running == status.desired && pids.all(is_there)
}

fn names() -> Vec<BucketName> {
    let parsed = document::parse("examples.yaml", DOCUMENTS.as_bytes());
    let names = parsed.documents.into_iter().filter_map(|document| match document {
        Document::Bucket(put) => Some(put.spec.name),
        Document::Module(_) | Document::Job(_) | Document::Backend(_) | Document::Sink(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn the_examples_are_without_defects_and_point_to_the_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let home = Home::open(Some(place.path())).await.expect("opened");
        let apply = documents(&home).expect("good documents");
        assert_eq!((apply.modules.len(), apply.buckets.len()), (3, 2));
        for put in &apply.buckets {
            assert_eq!(put.spec.config.value()["home"], home.path().to_str().expect("text"));
        }
        assert_eq!(names().iter().map(BucketName::as_str).collect::<Vec<_>>(), ["/dev/logs", "/dev/report"]);
    }

    #[test]
    fn the_examples_to_deploy_are_without_defects() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
        let documents_of = |path: &Path| {
            let parsed = document::parse(&path.display().to_string(), &std::fs::read(path).expect("a file"));
            let defects: Vec<String> = parsed.defects.iter().map(ToString::to_string).collect();
            assert_eq!(defects, [""; 0]);
            parsed.documents.len()
        };
        let within = |folder: &Path| -> Vec<_> {
            let entries = std::fs::read_dir(folder).expect("a folder of examples");
            entries.map(|entry| entry.expect("an entry").path()).collect()
        };
        let (folders, files): (Vec<_>, Vec<_>) = within(&folder).into_iter().partition(|it| it.is_dir());
        assert_eq!(files.iter().map(|path| documents_of(path)).collect::<Vec<_>>(), [2; 4]);
        // Where each document has a verb of its own, it has a file of its own.
        let apart: Vec<_> = folders.iter().flat_map(|folder| within(folder)).collect();
        assert_eq!(apart.iter().map(|path| documents_of(path)).collect::<Vec<_>>(), [1; 3]);
    }

    #[test]
    fn the_configuration_to_deploy_is_without_defects() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/agent.toml");
        let config = crate::config::Config::load(Some(&path), [], &[]).expect("a good file");
        assert_eq!((config.join.len(), config.bootstrap_expect), (3, 3));
        // What is commented out shows the defaults: with it, the configuration is the same.
        let text = std::fs::read_to_string(&path).expect("a file");
        let uncommented: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") && !rest.starts_with(char::is_uppercase) => {
                    format!("{rest}\n")
                }
                _ => format!("{line}\n"),
            })
            .filter(|line| !["name", "hostname", "advertise"].iter().any(|key| line.starts_with(key)))
            .collect();
        let place = tempfile::tempdir().expect("a directory");
        let full = place.path().join("agent.toml");
        std::fs::write(&full, uncommented).expect("written");
        assert_eq!(crate::config::Config::load(Some(&full), [], &[]).expect("a good file"), config);
    }
}
