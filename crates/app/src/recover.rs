//! `sheaf recover --force-new-cluster`, and what it shares with `sheaf cluster snapshot restore`: a cluster of one that goes
//! on from a state that no majority vouches for any more.
//!
//! ```text
//!  who else had a vote? ──answers──► refused: nothing is lost
//!        │ nobody
//!        ▼
//!  wait W: every lease of the former cluster is over
//!        ▼
//!  a replica in a folder of its own, Refound in it ──► node.json names the new cluster; from here on it counts
//! ```

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_consensus::{DATABASE, LOG, Offline, Peer};
use sheaf_control::Clock;
use sheaf_engine::{Command, Proposal, Refound, State};
use sheaf_model::{Actor, ClusterEpoch, ClusterId, NodeKey, Span};
use sheaf_wire::peer::{HelloAsk, PeerClient};

use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::{DataDir, SharedDir, replica_dir};

/// How long a former voter may take to answer.
const WITHIN: Duration = Duration::from_secs(2);

/// Makes this node the only member of a cluster that goes on from what it holds.
///
/// # Errors
/// Whatever speaks against it; nothing is changed then.
pub(crate) async fn run(config: &Config, yes: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let shown = config.dir.display();
    if !config.dir.join("node.json").exists() {
        bail!(
            "no agent ever ran with data directory {shown}; --config or [storage] dir may be meant for another"
        );
    }
    let mut dir = DataDir::open(&config.dir)?;
    let record = dir.record.clone();
    let (Some(cluster), Some(node), true) = (record.cluster, record.node, record.member) else {
        bail!(
            "the node with data directory {shown} holds no replica; run this on one that did (`sheaf cluster members` \
             listed them)"
        );
    };
    let from = replica_dir(dir.path(), &cluster);
    let offline = Offline::open(&from.join(DATABASE), Some(&from.join(LOG)))?;
    let voters = offline.voters();
    let others: Vec<Peer> = voters.iter().filter(|voter| voter.node != node).cloned().collect();
    refuse_the_living(&record.key, &cluster, &others).await?;
    let state = offline.state();
    writeln!(out, "{}", summary(state))?;
    let mut names: Vec<String> = others.iter().map(|voter| state.node_name(voter.node)).collect();
    names.sort();
    let lost = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    writeln!(
        out,
        "other voters, all silent: {lost}. What they acknowledged and this node does not hold is lost. They must stay \
         off until this node's agent runs; then they join again by themselves."
    )?;
    agree(yes, out)?;
    let new = cluster.founded_anew(ClusterEpoch(state.cluster.epoch.0 + 1), &random());
    let address = voters.iter().find(|voter| voter.node == node).map(|voter| voter.address.clone());
    let address = address
        .or_else(|| Some(state.nodes.get(&node)?.facts.address.clone()))
        .context("this node is not registered in its own state")?;
    wait_for_leases(state, out).await?;
    let folder = replica_dir(dir.path(), &new);
    let founded = offline.found(&folder, &[refound(&new)], |_| Peer { node, address }).await;
    let founded = founded.map_err(anyhow::Error::from).and_then(|_| {
        dir.update(|record| record.cluster = Some(new.clone()))?;
        Ok(())
    });
    if founded.is_err() {
        // What cannot be removed is in nobody's way: its name is never used again.
        drop(std::fs::remove_dir_all(&folder));
    }
    founded?;
    writeln!(out, "this node is the only member of cluster {new} now; start its agent")?;
    Ok(())
}

pub(crate) fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}

pub(crate) fn refound(cluster: &ClusterId) -> Proposal {
    let command = Command::Refound(Refound { cluster: cluster.clone() });
    Proposal { actor: Actor("operator".to_owned()), at: SystemClock.wall(), request: None, command }
}

/// While one of them lives, nothing is lost that this would bring back.
pub(crate) async fn refuse_the_living(
    key: &NodeKey,
    cluster: &ClusterId,
    voters: &[Peer],
) -> anyhow::Result<()> {
    let ask = || HelloAsk { instance: random(), key: key.clone(), cluster: Some(cluster.clone()) };
    let asked = voters.iter().map(|voter| async move {
        let greeting = PeerClient::new(&voter.address).ok()?.hello(ask(), WITHIN).await.ok()?;
        let related = greeting.cluster.as_ref().is_some_and(|of| of == cluster || of.succeeds(cluster));
        related.then(|| format!("{} at {}", greeting.name, voter.address))
    });
    let living: Vec<String> = futures::future::join_all(asked).await.into_iter().flatten().collect();
    if living.is_empty() {
        return Ok(());
    }
    bail!(
        "voters of this cluster still answer: {}. With a majority of the voters started again the cluster goes on by itself \
         and loses nothing. If that cannot be, stop those that are left, and run this on the one that holds the most",
        living.join(", ")
    )
}

pub(crate) fn summary(state: &State) -> String {
    let cluster = state.cluster.id.clone().unwrap_or_default();
    let (nodes, buckets) = (state.nodes.len(), state.buckets.len());
    format!("cluster {cluster} at revision {}: {nodes} nodes, {buckets} buckets", state.revision)
}

/// Asks on a terminal; elsewhere only `--yes` will do.
pub(crate) fn agree(yes: bool, out: &mut impl Write) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("not without a yes: there is no terminal to ask on, so give --yes");
    }
    write!(out, "go on? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("read the answer")?;
    if !matches!(answer.trim(), "y" | "Y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

/// The former cluster's majority is silent, so its last acknowledgement lies behind us: after this no lease of it holds, and
/// the new one may bind at once.
pub(crate) async fn wait_for_leases(state: &State, out: &mut impl Write) -> anyhow::Result<()> {
    let former = state.cluster.former.map(|former| former.lease.wait());
    let longest: Span = state.cluster.settings.lease.wait().max(former.unwrap_or_default());
    writeln!(out, "waiting {longest} until no lease of the former cluster can hold any more")?;
    tokio::time::sleep(longest.duration()).await;
    Ok(())
}

/// The data directory belongs to the cluster that its own goes on as, from the next start on. A replica of the former one
/// stays where it is, and is not looked at any more.
pub(crate) fn follow(dir: &SharedDir, successor: &ClusterId) -> anyhow::Result<()> {
    dir.update(|record| {
        record.cluster = Some(successor.clone());
        record.member = false;
    })?;
    Ok(())
}
