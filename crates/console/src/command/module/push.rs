//! `sheaf module push`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sheaf_artifact::{PackError, Packed, pack};
use sheaf_model::view::{ArtifactOnNode, Holds};
use sheaf_model::{Artifact, ModuleRef};
use sheaf_wire::module::{FinishPush, PushPiece};
use sheaf_wire::{ApiError, Client, Done};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::module_ref;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Wait;
use crate::output::{Format, Terminal};
use crate::table;
use crate::wait::until_none;

/// One piece: large enough that calls do not count.
const PIECE: usize = 1 << 20;
/// Pieces made ahead while one is under way.
const AHEAD: usize = 2;
/// How long one piece may take: a disk may be slow.
const PIECE_WITHIN: Duration = Duration::from_secs(30);
/// The voters copy at least so many bytes a second, or the push fails and can be gone on with.
const SLOWEST: u64 = 4 << 20;
/// A cluster that cannot take the next piece is tried again for so long: an election is over by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Between two looks of the bar at how far it is.
const TICK: Duration = Duration::from_millis(100);

/// `sheaf module push`
#[derive(Args, Debug)]
#[command(after_long_help = "\
The file or directory is packed, sent to the cluster, and kept by its voters under its SHA-256. Every node that may run a
bucket of this version fetches it from there before it is asked whether it can, and unpacks it. The module's document
names it ${artifact}, which is the file or the directory on the node; the program also finds it as SHEAF_ARTIFACT.

The version is registered first, and its artifact never changes: pushing other content is refused with exit code 6. What
was cut off goes on where it was when it is pushed again. Modes are kept as far as executable or not; links must stay within
the directory; at most 2GiB and 100000 files. With --wait until every voter that answers holds it, and every node that is fetching it has it.

Examples:
  sheaf module apply -f crawler.yaml
  sheaf module push crawler@1.0 target/release/crawler
  sheaf module push flume@1.11.0 ./apache-flume-1.11.0-bin
  sheaf module status flume@1.11.0")]
pub struct Push {
    /// The version, which is registered already
    #[arg(value_parser = module_ref, value_name = "NAME@VERSION")]
    module: ModuleRef,
    /// A file, or a directory whose content is pushed
    path: PathBuf,
    #[command(flatten)]
    wait: Wait,
}

impl Push {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Self { module, path, wait } = self;
        if module.version.is_none() {
            let remedy =
                format!("like {module}@1.0; `sheaf module list --where name={module}` shows its versions");
            return Err(Failure::usage(format!("{module} has no version"), remedy));
        }
        let progress = if out.progress() { bar() } else { ProgressBar::hidden() };
        progress.set_message(format!("reading {}", path.display()));
        let packing = tokio::task::spawn_blocking(move || pack(&path));
        let packed = packing.await.unwrap_or_else(|_| Err(broke_off())).map_err(|error| unfit(&error))?;
        let artifact =
            Artifact { module, digest: packed.digest, size: packed.size, shape: packed.shape().clone() };
        progress.set_length(artifact.size);
        let pushed = push(client, &artifact, &packed, &progress).await;
        progress.finish_and_clear();
        let done = pushed?;
        let outcome = if done.as_ref().is_some_and(|done| !done.unchanged) { "pushed" } else { "unchanged" };
        let (name, sha256) = (artifact.module.to_string(), artifact.digest.to_string());
        let row = PushedRow { name, outcome, sha256, bytes: artifact.size };
        match format {
            Format::Json => out.json(&table::json(&row))?,
            Format::Yaml => out.yaml(&table::json(&row))?,
            Format::Name => out.line(&row.name)?,
            Format::Table | Format::Wide => {
                let PushedRow { name, outcome, sha256, bytes } = &row;
                out.line(&format!("Module {name} {outcome}, sha256 {sha256}, {bytes} bytes"))?;
            }
        }
        out.flush()?;
        if wait.wait {
            let client = client.at_least(done.map(|done| done.revision).unwrap_or_default());
            everywhere(&client, &artifact.module, wait.timeout).await?;
        }
        Ok(Exit::Done)
    }
}

/// What became of a program that was pushed.
#[derive(Serialize)]
struct PushedRow {
    name: String,
    outcome: &'static str,
    sha256: String,
    bytes: u64,
}

/// Returns once every voter holds it, and no node is on the way of fetching it.
async fn everywhere(client: &Client, module: &ModuleRef, timeout: Duration) -> Result<(), Failure> {
    let late = |left: &str| format!("the time to wait is over: {left}");
    let look = async || {
        let Some(artifact) = client.module(module).await?.artifact else {
            return Ok(Some(format!("{module} has no artifact yet")));
        };
        let lacks = |on: &&ArtifactOnNode| matches!(on.state, Holds::Fetching | Holds::Missing);
        let lacking: Vec<&str> = artifact.nodes.iter().filter(lacks).map(|on| on.node.as_str()).collect();
        let is_whole = lacking.is_empty() && !artifact.nodes.is_empty();
        Ok((!is_whole).then(|| format!("{module} is not yet whole on {}", lacking.join(", "))))
    };
    until_none((timeout, AGAIN), late, look).await
}

/// Sends what is missing and has it registered; none: it was already.
async fn push(
    client: &Client,
    artifact: &Artifact,
    packed: &Packed,
    progress: &ProgressBar,
) -> Result<Option<Done>, Failure> {
    let request = connect::request();
    let mut patience = Instant::now() + PATIENCE;
    let mut furthest = 0;
    loop {
        let tried = try_push(client, artifact, packed, progress, request.clone()).await;
        let error = match tried {
            Ok(done) => return Ok(done),
            Err(Stopped::Here(failure)) => return Err(failure),
            Err(Stopped::There(error)) => error,
        };
        // What got further deserves new patience.
        if progress.position() > furthest {
            furthest = progress.position();
            patience = Instant::now() + PATIENCE;
        }
        if !error.can_retry() || Instant::now() >= patience {
            return Err(error.into());
        }
        progress.set_message("waiting for the cluster");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Why a try ended.
enum Stopped {
    There(ApiError),
    Here(Failure),
}

impl From<ApiError> for Stopped {
    fn from(error: ApiError) -> Self {
        Self::There(error)
    }
}

async fn try_push(
    client: &Client,
    artifact: &Artifact,
    packed: &Packed,
    progress: &ProgressBar,
    request: Option<sheaf_model::RequestId>,
) -> Result<Option<Done>, Stopped> {
    let begun = client.begin_push(artifact).await?;
    if begun.registered {
        return Ok(None);
    }
    progress.set_message("sending");
    progress.set_position(begun.received);
    let sender = client.with_deadline(PIECE_WITHIN);
    let mut have = begun.received;
    let (pieces, mut made) = mpsc::channel(AHEAD);
    let packed = packed.clone();
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = Pieces { skip: have, piece: Vec::with_capacity(PIECE), pieces };
        packed.write(&mut out).and_then(|()| out.send().map_err(PackError::Out))
    });
    while let Some(data) = made.recv().await {
        let end = have + data.len() as u64;
        let state = sender.push_piece(PushPiece { artifact: artifact.clone(), offset: have, data }).await?;
        have = state.received;
        progress.set_position(have);
        if have != end {
            return Err(ApiError::unavailable("another node leads now, which has less of it").into());
        }
    }
    let packed = packing.await.unwrap_or_else(|_| Err(broke_off()));
    packed.map_err(|error| Stopped::Here(unfit(&error)))?;
    progress.set_message("copying to the voters");
    let copying = client.with_deadline(PIECE_WITHIN + Duration::from_secs(artifact.size / SLOWEST));
    Ok(Some(copying.finish_push(FinishPush { artifact: artifact.clone(), request }).await?))
}

fn broke_off() -> PackError {
    PackError::Out(io::Error::other("the thread that packs broke off"))
}

fn unfit(error: &PackError) -> Failure {
    Failure::Refused(format!("nothing was pushed: {error}"))
}

/// Cuts an archive into pieces, without its first bytes.
struct Pieces {
    skip: u64,
    piece: Vec<u8>,
    pieces: mpsc::Sender<Bytes>,
}

impl Pieces {
    fn send(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        // Nobody takes it any more when the push has failed.
        self.pieces.blocking_send(piece.into()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let mut rest = &bytes[usize::try_from(skipped).unwrap_or(bytes.len())..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(now);
            rest = later;
            if self.piece.len() == PIECE {
                self.send()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}")
            .expect("a template of known names");
    let bar = ProgressBar::no_length().with_style(style);
    // What is waited for is drawn however often the position was before, and goes on moving while nothing comes back.
    bar.enable_steady_tick(TICK);
    bar
}
