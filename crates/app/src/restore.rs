//! `sheaf cluster snapshot restore`: a cluster of this node alone that goes on from a snapshot, when no voter is left.
//!
//! ```text
//!  the snapshot ─► who signs certificates? (`authority`) ─► nobody lives? ─► the operator agrees ─► leases are over
//!    ─► the replica, in a folder of its own ─► keys and this node's certificate ─► node.json: from here on it counts
//! ```

mod authority;

use std::fs::OpenOptions;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sheaf_consensus::{Offline, Peer};
use sheaf_console::command::cluster::Restore;
use sheaf_console::snapshot;
use sheaf_control::Clock;
use sheaf_engine::{Command, Proposal, Register};
use sheaf_model::{Actor, ClusterEpoch, ClusterId, NodeId};

use self::authority::{Placed, Signing};
use crate::address;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::{self, DataDir, replica_dir};
use crate::node;
use crate::recover::{Former, agree, discard, done, random, refound, summary, wait_for_leases};
use crate::secure;

/// The snapshot's database while it is looked at; removed in the end.
struct Unpacked(PathBuf);

impl Unpacked {
    fn of(snapshot: &Path, dir: &Path) -> anyhow::Result<Self> {
        let unpacked = Self(dir.join("restoring.db"));
        unpacked.remove();
        let mut database = OpenOptions::new();
        let database = database.write(true).create_new(true).mode(0o600).open(&unpacked.0);
        let mut database = database.with_context(|| format!("create {}", unpacked.0.display()))?;
        snapshot::read(snapshot, &mut database)?;
        Ok(unpacked)
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.0.as_os_str().to_owned();
            path.push(suffix);
            // Gone already, or in nobody's way: the next restore writes it anew.
            drop(std::fs::remove_file(path));
        }
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes the unused data directory of `config` that of the only member of a cluster that goes on from the snapshot.
///
/// # Errors
/// Whatever speaks against it; the directory stays unused then.
pub(crate) async fn run(config: &Config, ask: &Restore, out: &mut impl Write) -> anyhow::Result<()> {
    let shown = config.dir.display();
    let mut dir = DataDir::open(&config.dir)?;
    if let Some(cluster) = &dir.record.cluster {
        bail!(
            "data directory {shown} is that of a node of cluster {cluster}. A snapshot is restored into an unused one: move \
             this one away, after what it runs was stopped, or name another with --set storage.dir=DIR"
        );
    }
    let unpacked = Unpacked::of(&ask.file, dir.path())?;
    let offline = Offline::open(&unpacked.0, None)?;
    let state = offline.state();
    let signing = Signing::of(dir.path(), &state.access, ask.new_authority)?;
    let cluster = state.cluster.id.clone().unwrap_or_default();
    let key = dir.record.key.clone();
    let (trust, _) = secure::trust(config, dir.path())?;
    let former = Former::of(&offline, &cluster, &key, &trust.transport, config.join.iter().cloned());
    let known = former.refuse_the_living().await?;
    let least = known.max(state.cluster.epoch).0 + 1;
    let epoch = ask.cluster_epoch.unwrap_or(least);
    if epoch < least {
        bail!("--cluster-epoch {epoch} is not above {}, which the cluster had: at least {least}", least - 1);
    }
    writeln!(out, "{}", summary(state))?;
    writeln!(out, "what was agreed on after that is lost; this node will be the only member")?;
    signing.tell(&state.access, SystemClock.wall(), out)?;
    agree(ask.yes, out)?;
    let new = cluster.founded_anew(ClusterEpoch(epoch), &random());
    wait_for_leases(config, state, out).await?;
    // One may have come back while this waited.
    former.refuse_the_living().await?;
    let facts = node::facts(config, &advertised(config)?);
    let address = facts.address.clone();
    let secured = signing.commands(&state.access, offline.term()).into_iter();
    let secured = secured.map(|command| proposed("operator".to_owned(), Command::Access(command)));
    let register = Command::Register(Register { key: key.clone(), facts: facts.clone() });
    let register = proposed(format!("node:{}", config.name), register);
    let proposals: Vec<Proposal> =
        std::iter::once(refound(&new, true)).chain(secured).chain([register]).collect();
    let member = |state: &sheaf_engine::State| {
        let registered = state.nodes.values().find(|node| node.key == key);
        Peer { node: registered.map_or(NodeId(0), |node| node.id), address }
    };
    let folder = replica_dir(dir.path(), &new);
    let founded = offline.found(&folder, &proposals, member).await.inspect_err(|_| discard(&folder));
    let (state, Peer { node, .. }) = founded?;
    let lifetime = config.certificate_lifetime.duration();
    let placed = signing.keep(&state.access, node, facts.hosts(), lifetime);
    let placed = placed.context("make this node's certificate").inspect_err(|_| discard(&folder))?;
    count(&mut dir, &new, node, placed, out)?;
    done(&new, true, out)
}

fn proposed(actor: String, command: Command) -> Proposal {
    Proposal { actor: Actor(actor), at: SystemClock.wall(), request: None, command }
}

/// From here on the data directory is that of a node of the new cluster, and what was put into it stays.
fn count(
    dir: &mut DataDir,
    new: &ClusterId,
    node: NodeId,
    placed: Placed,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let written = dir.update(|record| {
        record.cluster = Some(new.clone());
        record.node = Some(node);
        record.member = true;
    });
    let says_so =
        || data::look(dir.path()).is_ok_and(|it| it.is_some_and(|it| it.cluster.as_ref() == Some(new)));
    // It may be there although it is not sure that it stays: then nothing may be missing that goes with it.
    if written.is_ok() || says_so() {
        placed.counts(out)?;
    } else {
        discard(&replica_dir(dir.path(), new));
    }
    Ok(written?)
}

/// Where this node's agent will be reached, as far as can be told while it does not run; it corrects this when it starts.
fn advertised(config: &Config) -> anyhow::Result<String> {
    let listening = config.grpc.to_socket_addrs().ok().and_then(|mut found| found.next());
    let listening = listening.with_context(|| format!("[listen] grpc {:?} is no address", config.grpc))?;
    Ok(address::advertised(config, listening))
}
