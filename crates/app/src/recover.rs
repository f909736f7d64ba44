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

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_consensus::{DATABASE, LOG, Offline, Peer};
use sheaf_control::Clock;
use sheaf_engine::{Command, Proposal, Refound, State};
use sheaf_model::{Actor, ClusterEpoch, ClusterId, Contact, NodeKey, Span};
use sheaf_wire::peer::{Greeting, HelloAsk, PeerClient};
use sheaf_wire::{ApiError, Transport};

use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::{DataDir, SharedDir, replica_dir};
use crate::secure;

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
    let (trust, _) = secure::trust(config, dir.path())?;
    let from = replica_dir(dir.path(), &cluster);
    let offline = Offline::open(&from.join(DATABASE), Some(&from.join(LOG)))?;
    for cut in offline.cuts() {
        writeln!(out, "{cut}")?;
    }
    let known = config.join.iter().chain(&record.members).cloned();
    let mut former = Former::of(&offline, &cluster, &record.key, &trust.transport, known);
    let own = former.voters.iter().find(|voter| voter.node == node).map(|voter| voter.address.clone());
    former.voters.retain(|voter| voter.node != node);
    let known_epoch = former.refuse_the_living().await?;
    let state = offline.state();
    if known_epoch > state.cluster.epoch {
        bail!(
            "cluster {cluster} was founded anew elsewhere already; start this node's agent, and it joins that one"
        );
    }
    writeln!(out, "{}", summary(state))?;
    let mut names: Vec<String> = former.voters.iter().map(|voter| state.node_name(voter.node)).collect();
    names.sort();
    let lost = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    writeln!(
        out,
        "other voters, all silent: {lost}. What they acknowledged and this node does not hold is lost. They must stay \
         off until this node's agent runs; then they join again by themselves."
    )?;
    agree(yes, out)?;
    let new = cluster.founded_anew(ClusterEpoch(state.cluster.epoch.0 + 1), &random());
    let address = own
        .or_else(|| Some(state.nodes.get(&node)?.facts.address.clone()))
        .context("this node is not registered in its own state")?;
    wait_for_leases(config, state, out).await?;
    // One may have come back while this waited.
    former.refuse_the_living().await?;
    let folder = replica_dir(dir.path(), &new);
    // Others may have agreed on more than this node holds. One that votes alone has it all: nothing is agreed on without it,
    // and nobody else comes to vote either.
    let may_be_behind = !former.voters.is_empty();
    let proposals = [refound(&new, may_be_behind)];
    offline.found(&folder, &proposals, |_| Peer { node, address }).await.inspect_err(|_| discard(&folder))?;
    dir.update(|record| record.cluster = Some(new.clone()))?;
    done(&new, may_be_behind, out)
}

/// What the new cluster is called, and what it needs.
pub(crate) fn done(new: &ClusterId, may_be_behind: bool, out: &mut impl Write) -> anyhow::Result<()> {
    writeln!(out, "this node is the only member of cluster {new} now; start its agent")?;
    if may_be_behind {
        writeln!(
            out,
            "single-node work waits until every node has confirmed that it runs nothing of it: name those that are gone for \
             good with sheaf node forget"
        )?;
    }
    Ok(())
}

/// A replica that never counted. What cannot be removed is in nobody's way: its name is never used again.
pub(crate) fn discard(folder: &Path) {
    drop(std::fs::remove_dir_all(folder));
}

pub(crate) fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string().chars().take(8).collect()
}

pub(crate) fn refound(cluster: &ClusterId, may_be_behind: bool) -> Proposal {
    let command = Command::Refound(Refound { cluster: cluster.clone(), may_be_behind });
    Proposal { actor: Actor("operator".to_owned()), at: SystemClock.wall(), request: None, command }
}

/// Whoever may still be part of the cluster that is to be succeeded.
pub(crate) struct Former<'a> {
    pub(crate) cluster: &'a ClusterId,
    pub(crate) key: &'a NodeKey,
    /// How they are reached.
    pub(crate) transport: &'a Transport,
    /// Who voted, as the state says.
    pub(crate) voters: Vec<Peer>,
    /// Where nodes, members and entries of `join` may be.
    pub(crate) addresses: BTreeSet<String>,
}

impl<'a> Former<'a> {
    pub(crate) fn of(
        offline: &Offline,
        cluster: &'a ClusterId,
        key: &'a NodeKey,
        transport: &'a Transport,
        known: impl IntoIterator<Item = String>,
    ) -> Self {
        let voters = offline.voters();
        let mut addresses: BTreeSet<String> = known.into_iter().collect();
        addresses.extend(voters.iter().map(|voter| voter.address.clone()));
        addresses.extend(offline.state().nodes.values().map(|node| node.facts.address.clone()));
        Self { cluster, key, transport, voters, addresses }
    }

    /// Refuses while it lives: then nothing is lost that a new one would bring back. Returns the highest epoch that anybody
    /// knows of.
    pub(crate) async fn refuse_the_living(&self) -> anyhow::Result<ClusterEpoch> {
        let mut greetings = self.greet(&self.addresses).await?;
        let leaders: BTreeSet<String> =
            greetings.values().filter_map(|greeting| Some(greeting.leader.clone()?.address)).collect();
        let unasked = leaders.difference(&self.addresses).cloned().collect();
        greetings.extend(self.greet(&unasked).await?);
        let votes = |address: &String, greeting: &Greeting| {
            let is = |voter: &Peer| voter.address == *address || Some(voter.node) == greeting.node;
            self.voters.iter().any(is)
        };
        let leads = |greeting: &Greeting| {
            greeting.leader.as_ref().is_some_and(|leader| leader.address == greeting.address)
        };
        // A learner of a majority that is gone is no sign of life; a member that came after this state is.
        let living = greetings.iter().filter(|(address, greeting)| {
            greeting.member
                && (votes(address, greeting) || leads(greeting) || !self.addresses.contains(*address))
        });
        let living: Vec<String> =
            living.map(|(address, greeting)| format!("{} at {address}", greeting.name)).collect();
        if !living.is_empty() {
            bail!(
                "voters of this cluster still answer: {}. With a majority of the voters started again the cluster goes on \
                 by itself and loses nothing. If that cannot be, stop those that are left, and run this on the one that \
                 holds the most",
                living.join(", ")
            );
        }
        let foundings = greetings.values().filter_map(|greeting| Some(greeting.cluster.as_ref()?.founding()));
        Ok(foundings.max().unwrap_or_default())
    }

    /// Those that answer and belong to this cluster, or to one founded from it. Silence is only where nothing takes a
    /// connection: whatever takes one and does not say who it is may be a voter that lives.
    async fn greet(&self, addresses: &BTreeSet<String>) -> anyhow::Result<BTreeMap<String, Greeting>> {
        let asked = addresses.iter().map(|address| async move {
            match self.hello(address).await {
                Ok(greeting) => Ok(Some((address.clone(), greeting))),
                Err(_) if is_silent(address).await => Ok(None),
                Err(error) => Err(format!("{address} ({error})")),
            }
        });
        let (mut greetings, mut unclear) = (BTreeMap::new(), Vec::new());
        for answer in futures::future::join_all(asked).await {
            match answer {
                Ok(greeting) => greetings.extend(greeting),
                Err(why) => unclear.push(why),
            }
        }
        if !unclear.is_empty() {
            bail!(
                "something takes connections and does not say who it is: {}. It may be a voter of this cluster that lives. If \
                 the cluster is secured, this node needs what the others know it by: [security] join_secret_file, or the \
                 folder trust of a voter's data directory, copied into this one's, with a certificate that is still valid. If \
                 it is a process that hangs, none of this cluster, or the agent of a node that is to join anew, stop it",
                unclear.join(", ")
            );
        }
        let related = |greeting: &Greeting| {
            greeting.cluster.as_ref().is_some_and(|of| {
                of == self.cluster || of.succeeds(self.cluster) || self.cluster.succeeds(of)
            })
        };
        greetings.retain(|_, greeting| related(greeting));
        Ok(greetings)
    }

    async fn hello(&self, address: &str) -> Result<Greeting, ApiError> {
        let ask =
            HelloAsk { instance: random(), key: self.key.clone(), cluster: None, node: None, nonce: None };
        // Whoever is there: one that has taken the place of another is no less alive.
        PeerClient::new(&Contact::anyone(address), self.transport)?.hello(ask, WITHIN).await
    }
}

/// Whether nothing takes a connection there; a name that is not known any more is nobody's.
async fn is_silent(address: &str) -> bool {
    let connect = tokio::net::TcpStream::connect(address);
    !matches!(tokio::time::timeout(WITHIN, connect).await, Ok(Ok(_)))
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
/// the new one may bind at once. Its settings may be newer than this state: the config file's count too.
pub(crate) async fn wait_for_leases(
    config: &Config,
    state: &State,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let former = state.cluster.former.map(|former| former.lease.wait());
    let settings = state.cluster.settings.lease.wait().max(config.lease.wait());
    let longest: Span = settings.max(former.unwrap_or_default());
    writeln!(
        out,
        "waiting {longest} until no lease of the former cluster can hold any more (if its lease.ttl was longer than known \
         here, set [lease] ttl in the config file)"
    )?;
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
