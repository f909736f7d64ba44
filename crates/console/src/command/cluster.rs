//! `sheaf cluster …`

pub mod ca;
pub mod debug;
pub mod token;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt;
use serde::Serialize;
use sheaf_model::view::{ClusterStatus, SnapshotHead};
use sheaf_model::{Bytes, ClusterEpoch, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::cluster::{ChangeSettings, SnapshotPart};

use crate::command::apply::warn;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Options, Wait, label};
use crate::output::{Format, Terminal};
use crate::snapshot;
use crate::table::{self, Column, Listed, Listing};
use crate::text;
use crate::wait::until_none;

/// Between two looks at what is waited for.
const PAUSE: Duration = Duration::from_millis(200);

/// `sheaf cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Show leader, members and counts (exit 1 before there is a quorum)
    Status,
    /// List the members: the nodes that hold a replica of the log
    Members,
    /// Show what holds for all nodes, or change it: KEY=VALUE…
    Settings(Settings),
    /// Hand leadership to another voter
    Transfer(Transfer),
    /// Copies of everything that the cluster has agreed on
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Write everything that somebody needs who is to help, and nothing secret, to a file
    Debug(debug::Debug),
    /// Prepare this node to begin a secured cluster, and print the first administrator's token; asks no cluster
    Init(Init),
    /// Tokens: who may do what, and who may join
    #[command(subcommand)]
    Token(token::Token),
    /// The authority that signs the certificates of nodes
    #[command(subcommand)]
    Ca(ca::Ca),
}

/// `sheaf cluster init`
///
/// For the first node of a cluster, before its agent is started there for the first time. Makes the authority that signs the
/// certificates of all nodes, in the data directory. The token is printed once and kept nowhere.
#[derive(Args, Clone, Debug)]
pub struct Init {
    /// The agent's configuration file [default: /etc/sheaf/agent.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "SHEAF_CONFIG")]
    pub config: Option<PathBuf>,
    /// Override a key, e.g. --set storage.dir=/var/lib/sheaf
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `sheaf cluster snapshot …`
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Write a copy of everything that the cluster has agreed on until now to a file
    Save(SnapshotFile),
    /// Check a snapshot and show what it is of; asks no cluster
    Inspect(SnapshotFile),
    /// Start a cluster of this node alone from a snapshot, in an unused data directory; asks no cluster
    Restore(Restore),
}

/// `sheaf cluster snapshot save` and `inspect`
#[derive(Args, Debug)]
pub struct SnapshotFile {
    /// The snapshot
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `sheaf cluster snapshot restore`
///
/// For when no voter is left. What was agreed on after the snapshot is lost. Nodes of the former cluster that reach this
/// one follow it by themselves. The agent is started afterwards, as ever.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
A snapshot holds no key. If the cluster was secured, first copy the folder trust of a voter's data directory into this one: it has \
the key of the authority that signs the nodes' certificates. If no copy of that is left, --new-authority makes another authority, \
which nobody believes who knew the former one: every other node joins anew, with an empty data directory and a join token, and \
tokens of people are good as soon as they pin it.

Examples:
  sheaf cluster snapshot restore sheaf.snapshot
  sheaf cluster snapshot restore sheaf.snapshot --new-authority")]
pub struct Restore {
    /// The snapshot
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The agent's configuration file [default: /etc/sheaf/agent.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "SHEAF_CONFIG")]
    pub config: Option<PathBuf>,
    /// Override a key, e.g. --set storage.dir=/var/lib/sheaf
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// The new cluster's epoch; above every one that the cluster has had since the snapshot [default: one more than the
    /// highest that the snapshot and the nodes that answer know]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=ClusterEpoch::MAX.0))]
    pub cluster_epoch: Option<u64>,
    /// No copy of the authority's key is left: go on with an authority that is made now. Every other node joins anew then, and
    /// people log in again
    #[arg(long)]
    pub new_authority: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    pub yes: bool,
}

/// What was saved, and where.
#[derive(Serialize)]
struct Saved<'a> {
    file: String,
    #[serde(flatten)]
    head: &'a SnapshotHead,
}

impl SnapshotFile {
    async fn save(&self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let failed = |source| Failure::Write { what: self.file.display().to_string(), source };
        let mut parts = client.save_snapshot().await?;
        let Some(SnapshotPart::Head(head)) = parts.next().await.transpose()? else {
            return Err(Failure::Refused("the node sent no head of a snapshot".to_owned()));
        };
        let mut writer = snapshot::Writer::new(&self.file, &head).map_err(failed)?;
        while let Some(part) = parts.next().await.transpose()? {
            if let SnapshotPart::Data(bytes) = part {
                writer.data(&bytes).map_err(failed)?;
            }
        }
        writer.finish().map_err(failed)?;
        let SnapshotHead { cluster, revision, bytes, .. } = &head;
        let file = self.file.display();
        match format {
            Format::Json => out.json(&table::json(&Saved { file: file.to_string(), head: &head }))?,
            Format::Yaml => out.yaml(&table::json(&Saved { file: file.to_string(), head: &head }))?,
            Format::Name => out.line(&file.to_string())?,
            Format::Table | Format::Wide => {
                out.say(&format!("{file}: cluster {cluster} at revision {revision}, {}", Bytes(*bytes)));
            }
        }
        Ok(Exit::Done)
    }

    fn inspect(&self, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let head = snapshot::read(&self.file, &mut std::io::sink());
        let head = head.map_err(|error| Failure::Refused(error.to_string()))?;
        match format {
            Format::Json => out.json(&table::json(&head))?,
            Format::Yaml => out.yaml(&table::json(&head))?,
            Format::Name => out.line(&head.cluster)?,
            Format::Table | Format::Wide => out.write(&text::facts(&[
                ("Cluster", head.cluster.clone()),
                ("Cluster epoch", head.cluster_epoch.to_string()),
                ("Revision", head.revision.to_string()),
                ("Nodes", head.nodes.to_string()),
                ("Modules", head.modules.to_string()),
                ("Buckets", head.buckets.to_string()),
                ("Taken", format!("{} from {}", head.taken_at, head.node)),
                ("Sheaf", head.version.clone()),
                ("Size", Bytes(head.bytes).to_string()),
            ]))?,
        }
        Ok(Exit::Done)
    }
}

/// `sheaf cluster settings`
#[derive(Args, Debug)]
#[command(after_long_help = "\
What is changed holds from the answer on. With --wait and voters=N until there are so many; of everything else --wait has nothing
to wait for.

Examples:
  sheaf cluster settings
  sheaf cluster settings lease.ttl=3s lease.kill_margin=1s
  sheaf cluster settings voters=5
  sheaf cluster settings jobs.max_subtasks=50000
  sheaf cluster settings history.age=90d history.events=50000000")]
pub struct Settings {
    /// What to change; without any, all are shown
    #[arg(value_name = "KEY=VALUE", value_parser = label)]
    changes: Vec<(String, String)>,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf cluster transfer`
#[derive(Args, Debug)]
#[command(after_long_help = "\
The answer comes when the other one leads, so that --wait has nothing to wait for.")]
pub struct Transfer {
    /// To this voter: its name or its id; without it to the one that lacks the least
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Who leads now.
#[derive(Serialize)]
struct Transferred {
    leader: String,
}

impl Transfer {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        self.wait.already_so();
        let now = Transferred { leader: client.transfer(self.to).await? };
        match format {
            Format::Json => out.json(&table::json(&now))?,
            Format::Yaml => out.yaml(&table::json(&now))?,
            Format::Name | Format::Table | Format::Wide => out.line(&now.leader)?,
        }
        out.say(&format!("{} leads", now.leader));
        Ok(Exit::Done)
    }
}

/// One setting.
#[derive(Serialize)]
struct Setting {
    key: String,
    value: String,
}

impl Listed for Setting {
    const COLUMNS: &'static [Column] = &[Column::new("KEY"), Column::new("VALUE")];

    fn name(&self) -> String {
        self.key.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![self.key.clone(), self.value.clone()]
    }
}

impl Settings {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        // `auto` is as many as the cluster wants; of a number it is known when there are so many.
        let voters = self.changes.iter().rev().find(|(key, _)| key == "voters");
        let voters = voters.and_then(|(_, number)| number.parse().ok()).filter(|_| self.wait.wait);
        let ask = ChangeSettings { changes: self.changes, request: connect::request() };
        let all = client.settings(ask).await?;
        if let Some(done) = &all.done {
            warn(out, &done.warnings);
            out.say(if done.unchanged { "unchanged" } else { "changed, for all nodes" });
        }
        let rows: Vec<Setting> =
            all.settings.into_iter().map(|(key, value)| Setting { key, value }).collect();
        Listing::whole(out, format, &rows)?;
        out.flush()?;
        if let (Some(voters), Some(done)) = (voters, &all.done) {
            voting(&client.at_least(done.revision), voters, self.wait.timeout).await?;
        }
        Ok(Exit::Done)
    }
}

/// Returns once there are so many voters.
async fn voting(client: &Client, voters: usize, timeout: Duration) -> Result<(), Failure> {
    let late = |left: &str| format!("the time to wait is over; it goes on. {left}");
    let look = async || {
        let count = client.members().await?.iter().filter(|member| member.voter).count();
        Ok((count != voters).then(|| format!("{} of {voters}", text::count(count, "voter"))))
    };
    until_none((timeout, PAUSE), late, look).await
}

impl ClusterVerb {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let format = options.output;
        match self {
            Self::Status => {
                let status = connect::connect(options, out).await?.cluster_status().await?;
                print(out, format, &status)?;
                Ok(if status.leader.is_some() { Exit::Done } else { Exit::Error })
            }
            Self::Members => {
                let members = connect::connect(options, out).await?.members().await?;
                Listing::whole(out, format, &members)?;
                if members.is_empty() {
                    out.say("no cluster yet; `sheaf cluster status` says what is missing");
                }
                Ok(Exit::Done)
            }
            Self::Settings(settings) => {
                settings.run(&connect::connect(options, out).await?, format, out).await
            }
            Self::Snapshot(Snapshot::Save(file)) => {
                file.save(&connect::connect(options, out).await?, format, out).await
            }
            Self::Snapshot(Snapshot::Inspect(file)) => file.inspect(format, out),
            Self::Snapshot(Snapshot::Restore(_)) | Self::Init(_) => Err(offline()),
            Self::Debug(debug) => debug.run(options, out).await,
            Self::Token(token) => token.run(options, out).await,
            Self::Ca(ca) => ca.run(options, out).await,
            Self::Transfer(transfer) => {
                transfer.run(&connect::connect(options, out).await?, format, out).await
            }
        }
    }
}

/// What needs no cluster and no connection is done by the binary itself.
fn offline() -> Failure {
    Failure::usage("this works on a data directory", "run it with the sheaf binary of that node")
}

fn print(out: &mut Terminal, format: Format, status: &ClusterStatus) -> Result<(), Failure> {
    match format {
        Format::Json => return out.json(&table::json(status)),
        Format::Yaml => return out.yaml(&table::json(status)),
        Format::Name => return out.line(&status.cluster),
        Format::Table | Format::Wide => {}
    }
    if !status.message.is_empty() {
        out.line(&text::paragraph(&status.message, 0, out.width()))?;
        out.line("")?;
    }
    out.write(&text::facts(&facts(status)))?;
    if !status.members.is_empty() {
        out.line("")?;
        Listing::whole(out, format, &status.members)?;
    }
    Ok(())
}

fn facts(status: &ClusterStatus) -> Vec<(&'static str, String)> {
    let nodes =
        [("ready", status.nodes.ready), ("lost", status.nodes.lost), ("draining", status.nodes.draining)];
    let buckets = [
        ("running", status.buckets.running),
        ("partial", status.buckets.partial),
        ("unplaced", status.buckets.unplaced),
        ("suspended", status.buckets.suspended),
        ("failed", status.buckets.failed),
        ("placing", status.buckets.placing),
        ("starting", status.buckets.starting),
        ("stopping", status.buckets.stopping),
        ("quarantined", status.buckets.quarantined),
        ("waiting_for_node", status.buckets.waiting_for_node),
        ("in another state", status.buckets.untold()),
    ];
    let jobs = [
        ("running", status.jobs.running),
        ("paused", status.jobs.paused),
        ("finished", status.jobs.finished),
        ("failed", status.jobs.failed),
        ("canceled", status.jobs.canceled),
    ];
    vec![
        ("cluster", status.cluster.clone()),
        ("leader", status.leader.clone().unwrap_or_else(|| "none".to_owned())),
        ("term", status.term.to_string()),
        ("commit", status.commit.to_string()),
        ("revision", status.revision.to_string()),
        ("nodes", counts(&nodes)),
        ("buckets", counts(&buckets)),
        ("jobs", counts(&jobs)),
        ("may fail", text::count(status.fault_tolerance as usize, "voter")),
        ("security", if status.secured { "on" } else { "off (loopback only)" }.to_owned()),
    ]
}

/// What there is, and the first kind also where there is none.
fn counts(kinds: &[(&str, u32)]) -> String {
    let shown = kinds.iter().enumerate().filter(|(index, (_, count))| *index == 0 || *count > 0);
    shown.map(|(_, (kind, count))| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::{BucketCounts, BucketState, JobCounts, MemberRow, NodeCounts};

    use super::*;
    use crate::output::recorded;

    fn printed(status: &ClusterStatus) -> String {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, status).expect("it prints");
        recording.data()
    }

    #[test]
    fn a_cluster_says_who_leads_and_what_may_fail() {
        let member = |id, role: &str, match_lag| MemberRow {
            name: format!("import-0{id}"),
            id,
            voter: true,
            role: role.to_owned(),
            match_lag,
            address: format!("10.0.0.1{id}:7420"),
        };
        let status = ClusterStatus {
            leader: Some("import-01".to_owned()),
            term: 3,
            commit: 4711,
            members: vec![
                member(1, "leader", None),
                member(2, "follower", Some(0)),
                member(3, "follower", Some(12)),
            ],
            nodes: NodeCounts { ready: 19, lost: 1, draining: 0 },
            buckets: BucketCounts { running: 8, unplaced: 2, ..BucketCounts::default() },
            jobs: JobCounts { running: 1, finished: 30, failed: 2, ..JobCounts::default() },
            fault_tolerance: 1,
            cluster: "5d3c".to_owned(),
            revision: 4700,
            message: String::new(),
            secured: true,
            asker: None,
        };
        insta::assert_snapshot!(printed(&status), @r"
        cluster   5d3c
        leader    import-01
        term      3
        commit    4711
        revision  4700
        nodes     19 ready, 1 lost
        buckets   8 running, 2 unplaced
        jobs      1 running, 30 finished, 2 failed
        may fail  1 voter
        security  on

        NAME       ROLE      VOTER  LAG  ADDRESS
        import-01  leader    yes      -  10.0.0.11:7420
        import-02  follower  yes      0  10.0.0.12:7420
        import-03  follower  yes     12  10.0.0.13:7420
        ");
    }

    #[test]
    fn buckets_are_counted_by_each_of_their_states() {
        let said = |buckets| {
            let facts = facts(&ClusterStatus { buckets, ..ClusterStatus::default() });
            facts.into_iter().find(|(word, _)| *word == "buckets").expect("they are counted").1
        };
        let mut counts = BucketCounts { running: 8, ..BucketCounts::default() };
        for state in [BucketState::WaitingForNode, BucketState::Placing, BucketState::WaitingForNode] {
            counts.add(state);
        }
        assert_eq!(said(counts), "8 running, 1 placing, 2 waiting_for_node");
        let former = BucketCounts { other: 3, ..BucketCounts::default() };
        assert_eq!(said(former), "0 running, 3 in another state");
    }

    #[test]
    fn before_a_quorum_it_says_what_is_missing() {
        let message = "2 of 3 seen, waiting for 10.0.0.13".to_owned();
        insta::assert_snapshot!(printed(&ClusterStatus { message, ..ClusterStatus::default() }), @r"
        2 of 3 seen, waiting for 10.0.0.13

        leader    none
        term      0
        commit    0
        revision  0
        nodes     0 ready
        buckets   0 running
        jobs      0 running
        may fail  0 voters
        security  off (loopback only)
        ");
    }
}
