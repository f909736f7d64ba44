//! `sheaf cluster …`

use clap::{Args, Subcommand};
use serde::Serialize;
use sheaf_model::Timestamp;
use sheaf_model::view::ClusterStatus;
use sheaf_wire::Client;
use sheaf_wire::cluster::ChangeSettings;

use crate::command::apply::warn;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::label;
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::text;

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
}

/// `sheaf cluster settings`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf cluster settings
  sheaf cluster settings lease.ttl=3s lease.kill_margin=1s
  sheaf cluster settings voters=5")]
pub struct Settings {
    /// What to change; without any, all are shown
    #[arg(value_name = "KEY=VALUE", value_parser = label)]
    changes: Vec<(String, String)>,
}

/// `sheaf cluster transfer`
#[derive(Args, Debug)]
pub struct Transfer {
    /// To this voter: its name or its id; without it to the one that lacks the least
    #[arg(long, value_name = "NODE")]
    to: Option<String>,
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
        let ask = ChangeSettings { changes: self.changes, request: connect::request() };
        let all = client.settings(ask).await?;
        if let Some(done) = &all.done {
            warn(out, &done.warnings);
            out.say(if done.unchanged { "unchanged" } else { "changed, for all nodes" });
        }
        let rows: Vec<Setting> =
            all.settings.into_iter().map(|(key, value)| Setting { key, value }).collect();
        Listing::whole(out, format, &rows)?;
        Ok(Exit::Done)
    }
}

impl ClusterVerb {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Status => {
                let status = client.cluster_status().await?;
                print(out, format, &status)?;
                Ok(if status.leader.is_some() { Exit::Done } else { Exit::Error })
            }
            Self::Members => {
                let members = client.members().await?;
                Listing::whole(out, format, &members)?;
                if members.is_empty() {
                    out.say("no cluster yet; `sheaf cluster status` says what is missing");
                }
                Ok(Exit::Done)
            }
            Self::Settings(settings) => settings.run(client, format, out).await,
            Self::Transfer(transfer) => {
                let leader = client.transfer(transfer.to).await?;
                out.line(&leader)?;
                out.say(&format!("{leader} leads"));
                Ok(Exit::Done)
            }
        }
    }
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
        ("in another state", status.buckets.other),
    ];
    vec![
        ("cluster", status.cluster.clone()),
        ("leader", status.leader.clone().unwrap_or_else(|| "none".to_owned())),
        ("term", status.term.to_string()),
        ("commit", status.commit.to_string()),
        ("revision", status.revision.to_string()),
        ("nodes", counts(&nodes)),
        ("buckets", counts(&buckets)),
        ("may fail", text::count(status.fault_tolerance as usize, "voter")),
    ]
}

/// What there is, and the first kind also where there is none.
fn counts(kinds: &[(&str, u32)]) -> String {
    let shown = kinds.iter().enumerate().filter(|(index, (_, count))| *index == 0 || *count > 0);
    shown.map(|(_, (kind, count))| format!("{count} {kind}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::{BucketCounts, MemberRow, NodeCounts};

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
            fault_tolerance: 1,
            cluster: "5d3c".to_owned(),
            revision: 4700,
            message: String::new(),
        };
        insta::assert_snapshot!(printed(&status), @r"
        cluster   5d3c
        leader    import-01
        term      3
        commit    4711
        revision  4700
        nodes     19 ready, 1 lost
        buckets   8 running, 2 unplaced
        may fail  1 voter

        NAME       ROLE      VOTER  LAG  ADDRESS
        import-01  leader    yes      -  10.0.0.11:7420
        import-02  follower  yes      0  10.0.0.12:7420
        import-03  follower  yes     12  10.0.0.13:7420
        ");
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
        may fail  0 voters
        ");
    }
}
