//! `sheaf cluster debug`
//!
//! ```text
//!  nodes ──Debug──► files of each ─┐
//!  public calls ──► rows ──────────┼──► redacted ──► Collected ──► a bundle, with a manifest of what is there and what is not
//! ```
//!
//! What cannot be collected is noted and keeps nothing else out: a bundle is most wanted when things are down.

mod cluster;
mod collected;

use std::path::{Path, PathBuf};

use clap::Args;
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use sheaf_artifact::Bundle;
use sheaf_model::{Bytes, Timestamp};
use sheaf_wire::debug::{AskDebug, DebugFile, DebugPart, is_file_name};
use sheaf_wire::{ApiError, Client};

use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::{Format, Terminal};
use crate::text;

use collected::Collected;

/// `sheaf cluster debug`
#[derive(Args, Debug)]
#[command(after_long_help = "\
For whoever is to help: versions; status, members, settings; nodes with their facts, configuration, metrics, last log lines, \
disks and how their replica stands; what runs where, and why what does not run does not; counts of jobs; the last events. \
Works with nodes that are down and without a leader: manifest.json in it lists what is there, and what could not be collected \
and why.

Nothing secret is collected: no values of secrets, tokens, keys or documents, and of what programs printed no more than \
messages quote on their first line. Names of buckets, nodes and people are in it; look into it before it leaves the house. Needs \
the role admin.

Examples:
  sheaf cluster debug
  sheaf cluster debug /tmp/bundle.tar.gz --address import-02:7420
  sheaf cluster debug --node import-03")]
pub struct Debug {
    /// Where it is written [default: sheaf-debug-TIME.tar.gz, here]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Of the nodes only this one, by name or id
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl Debug {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let client = connect::connect(options, out).await?;
        let now = out.now();
        let name = format!("sheaf-debug-{}", stamp(now));
        let path = self.file.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
        let folder = folder(&path, &name);
        let progress = if out.progress() { bar() } else { ProgressBar::hidden() };
        let asked = client.debug(AskDebug { node: self.node }).await;
        // Who may not have it gets nothing at all; and nothing is of use from somebody who does not know the node.
        if let Err(error @ (ApiError::Forbidden(_) | ApiError::Unauthenticated(_) | ApiError::NotFound(_))) =
            asked
        {
            return Err(error.into());
        }
        let failed = |source| Failure::Write { what: path.display().to_string(), source };
        let bundle = Bundle::create(&path, &folder, now.0 / 1000).map_err(failed)?;
        let mut collected = Collected::new(bundle);
        let gathered = gather(&client, asked, &mut collected, &progress).await;
        progress.finish_and_clear();
        gathered.map_err(failed)?;
        let manifest = collected.manifest(client.address(), now);
        let size = collected.finish(&manifest).map_err(failed)?;
        match options.output {
            Format::Json => out.json(&manifest.json())?,
            Format::Yaml => out.yaml(&manifest.json())?,
            Format::Table | Format::Wide | Format::Name => out.line(&path.display().to_string())?,
        }
        out.say(&said(&path, manifest.files.len(), manifest.missing.len(), size));
        Ok(Exit::Done)
    }
}

/// Everything, as far as it can be had. An error is the bundle's.
async fn gather(
    client: &Client,
    asked: Result<sheaf_wire::Answers<DebugPart>, ApiError>,
    collected: &mut Collected,
    progress: &ProgressBar,
) -> std::io::Result<()> {
    match asked {
        Ok(parts) => nodes(parts, collected, progress).await?,
        Err(error) => collected.lacks("nodes", &error.to_string()),
    }
    cluster::gather(client, collected, progress).await
}

/// The files of the nodes as they come.
async fn nodes(
    mut parts: sheaf_wire::Answers<DebugPart>,
    collected: &mut Collected,
    progress: &ProgressBar,
) -> std::io::Result<()> {
    while let Some(part) = parts.next().await {
        match part {
            Ok(DebugPart::Nodes(nodes)) => {
                progress.set_length(nodes.len() as u64 + cluster::STEPS);
                collected.nodes = nodes;
            }
            Ok(DebugPart::File(DebugFile { node, name, content })) => {
                // Both lead nowhere else, whatever a node says.
                let (node, name) = (plain(&node), plain(&name));
                let path = format!("nodes/{node}/{name}");
                match content {
                    Ok(data) => collected.add(&path, &String::from_utf8_lossy(&data))?,
                    Err(why) => collected.lacks(&path, &why),
                }
            }
            Ok(DebugPart::End { node, failure }) => {
                progress.inc(1);
                progress.set_message(node.clone());
                if let Some(why) = failure {
                    collected.lacks(&format!("nodes/{}", plain(&node)), &why);
                }
            }
            Err(error) => {
                collected.lacks("nodes", &error.to_string());
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A part of a path.
fn plain(text: &str) -> String {
    if is_file_name(text) {
        return text.to_owned();
    }
    let kept = text.chars().map(|c| if c.is_ascii_alphanumeric() || "_-".contains(c) { c } else { '_' });
    let kept: String = kept.take(60).collect();
    if kept.is_empty() { "unnamed".to_owned() } else { kept }
}

/// `20260110T120000Z`, which sorts and fits into any file system.
fn stamp(at: Timestamp) -> String {
    let text = at.to_string();
    let seconds = text.split('.').next().unwrap_or_default().trim_end_matches('Z');
    format!("{}Z", seconds.replace(['-', ':'], ""))
}

/// The directory that everything in it lies in: as the file is called.
fn folder(path: &Path, name: &str) -> String {
    let file = path.file_name().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = [".tar.gz", ".tgz"].into_iter().find_map(|ending| file.strip_suffix(ending)).unwrap_or(&file);
    if is_file_name(stem) { stem.to_owned() } else { name.to_owned() }
}

fn said(path: &Path, files: usize, missing: usize, size: u64) -> String {
    let mut said = format!("{}: {}, {}", path.display(), text::count(files, "file"), Bytes(size));
    if missing > 0 {
        let what = if missing == 1 { "1 thing was".to_owned() } else { format!("{missing} things were") };
        said.push_str(&format!("; {what} not to be had, manifest.json says what and why"));
    }
    said.push_str("\nlook into it before you give it away: it names buckets, nodes and people");
    said
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("collecting [{bar:30}] {pos}/{len} {msg}")
        .expect("a template of known names");
    ProgressBar::new(cluster::STEPS).with_style(style)
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use clap::{Parser, Subcommand};
    use serde_json::Value;

    use super::*;
    use crate::command::ClientCommand;
    use crate::command::fake::Fake;
    use crate::output::recorded;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        #[command(flatten)]
        Client(ClientCommand),
    }

    /// What `cluster debug` prints and says, against a cluster that is made up.
    async fn ran(more: &[&str]) -> (Exit, String, String) {
        let (address, _fake) = Fake::serve().await;
        let line = [&["sheaf", "--address", &address, "cluster", "debug"], more].concat();
        let Cli { options, command: Command::Client(command) } =
            Cli::try_parse_from(line).expect("a good line");
        let (mut out, recording) = recorded::terminal("");
        let root = <Cli as clap::CommandFactory>::command();
        let exit = crate::command::run(command, &options, root, &mut out).await;
        (exit, recording.data(), recording.talk())
    }

    /// The text of a file in a bundle.
    fn unpacked(bundle: &Path, file: &str) -> String {
        let done =
            Process::new("tar").arg("-xzOf").arg(bundle).arg(file).output().expect("tar is everywhere");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("a text")
    }

    #[tokio::test]
    async fn a_bundle_has_what_could_be_had_and_says_what_not() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("bundle.tar.gz");
        let (exit, data, talk) = ran(&[&path.display().to_string(), "-o", "json"]).await;
        assert_eq!(exit, Exit::Done, "{talk}");
        let manifest: Value = serde_json::from_str(&data).expect("JSON");
        let texts = |list: &str, key: &str| -> Vec<String> {
            let all = manifest[list].as_array().into_iter().flatten();
            all.filter_map(|entry| entry[key].as_str()).map(str::to_owned).collect()
        };
        let files = texts("files", "path");
        for file in
            ["nodes/import-01/log.txt", "cluster/status.json", "cluster/buckets.json", "cluster/events.json"]
        {
            assert!(files.iter().any(|path| path == file), "{file} in {files:?}");
        }
        assert!(files.iter().all(|path| !path.contains("..")), "{files:?}");
        let missing = texts("missing", "what");
        for what in ["nodes/import-01/disk.json", "nodes/import-02"] {
            assert!(missing.iter().any(|path| path == what), "{what} in {missing:?}");
        }
        assert!(texts("missing", "why").iter().any(|why| why == "connection refused"));
        assert!(talk.contains("manifest.json says what and why"), "{talk}");
        let log = unpacked(&path, "bundle/nodes/import-01/log.txt");
        assert_eq!(log, "shown: sheaf_abababababab.[redacted]");
        let within: Value = serde_json::from_str(&unpacked(&path, "bundle/manifest.json")).expect("JSON");
        assert_eq!(within, manifest);
    }

    #[tokio::test]
    async fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("mine.tar.gz");
        std::fs::write(&path, "mine").expect("written");
        let (exit, _, talk) = ran(&[&path.display().to_string()]).await;
        assert_eq!(exit, Exit::Error);
        assert!(talk.contains("mine.tar.gz"), "{talk}");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "mine");
    }

    #[test]
    fn names_fit_into_paths() {
        assert_eq!(stamp(recorded::NOW), "20260110T120000Z");
        assert_eq!(folder(Path::new("/tmp/a.tar.gz"), "b"), "a");
        assert_eq!(folder(Path::new("/tmp/a b.tgz"), "b"), "b");
        assert_eq!(folder(Path::new(".."), "b"), "b");
        for (text, kept) in [("import-01", "import-01"), ("../x", "___x"), ("", "unnamed"), ("é", "_")] {
            assert_eq!(plain(text), kept);
        }
    }
}
