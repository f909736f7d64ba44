//! `sheaf bucket status [NAME]`

use clap::Args;
use sheaf_model::view::{BucketStatus, InstanceView, PurgeView, RolloutView};
use sheaf_model::{BucketName, Timestamp, document};
use sheaf_wire::Client;
use sheaf_wire::bucket::GotBucket;

use super::{bucket_name, list};
use crate::command::namesakes;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::{text, when};

/// `sheaf bucket status`
#[derive(Args, Debug)]
#[command(after_long_help = "\
With -o json the status; with -o yaml the document, which can be applied again.

Examples:
  sheaf bucket status /logs/web
  sheaf bucket status /logs/web -o json")]
pub struct Status {
    /// The bucket's path; without it all are listed
    #[arg(value_parser = bucket_name)]
    name: Option<BucketName>,
    #[command(flatten)]
    list: list::List,
}

impl Status {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Some(name) = self.name else { return self.list.run(client, format, out).await };
        let GotBucket { spec, status } = client.bucket(&name).await?;
        match format {
            Format::Table | Format::Wide => print(out, format, &status)?,
            Format::Json => out.json(&table::json(&status))?,
            Format::Yaml => out.documents(&document::bucket_yaml(&spec, status.suspended, None))?,
            Format::Name => out.line(&status.name)?,
        }
        Ok(Exit::Done)
    }
}

impl Listed for InstanceView {
    const COLUMNS: &'static [Column] = &[
        Column::new("NODE"),
        Column::new("PHASE"),
        Column::new("PID").number(),
        Column::new("STARTED").number(),
        Column::new("RESTARTS").number(),
        Column::new("EPOCH").wide(),
        Column::new("REVISION").wide().number(),
        Column::new("MESSAGE"),
    ];

    fn name(&self) -> String {
        self.node.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.node.clone(),
            self.phase.clone(),
            self.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            when::age_of(now, self.started_at.as_deref()),
            self.restarts.to_string(),
            self.epoch.map_or_else(|| "-".to_owned(), |epoch| epoch.to_string()),
            self.revision.to_string(),
            self.message.clone(),
        ]
    }
}

/// The status for eyes: what it is, then its instances.
fn print(out: &mut Terminal, format: Format, status: &BucketStatus) -> Result<(), Failure> {
    let state = text::paint(status.state.as_str(), out.colour());
    out.line(&format!("{}  {state}: {}", status.name, status.state.about()))?;
    if !status.message.is_empty() && status.message != status.state.about() {
        out.line(&text::paragraph(&status.message, 2, out.width()))?;
    }
    out.line("")?;
    out.write(&text::facts(&facts(status, out.now())))?;
    if !status.instances.is_empty() {
        out.line("")?;
        Listing::whole(out, format, &namesakes::apart(&status.instances))?;
    }
    Ok(())
}

/// How far a purge is; one that is done is not worth a line.
fn purge(purge: &PurgeView) -> String {
    let waits = (!purge.waiting.is_empty()).then(|| format!("waits for {}", purge.waiting.join(", ")));
    let failed = purge.failed.iter().map(|it| format!("failed on {}: {}", it.node, it.message));
    waits.into_iter().chain(failed).collect::<Vec<_>>().join("; ")
}

/// What it is, in pairs of a word and what it says.
pub(crate) fn facts(status: &BucketStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let affinity = match (status.affinity_epoch, &status.affinity_since) {
        _ if status.node_affinity.is_empty() => "none".to_owned(),
        (Some(epoch), since) => {
            let since = when::age_of(now, since.as_deref());
            format!("{}, since {since}, epoch {epoch}", status.node_affinity.join(", "))
        }
        (None, _) => status.node_affinity.join(", "),
    };
    let rules = match status.node_list_rules.as_slice() {
        [] => "none: every node".to_owned(),
        rules => rules.join("  "),
    };
    vec![
        ("module", status.module.clone()),
        ("type", status.kind.clone()),
        (
            "nodes",
            format!("{}, runs on {} of {}", list::nodes(status.multi_node), status.running, status.desired),
        ),
        ("rules", rules),
        ("affinity", affinity),
        ("revision", status.revision.to_string()),
        ("rollout", status.rollout.as_ref().map(rollout).unwrap_or_default()),
        ("purge", status.purge.as_ref().map(purge).unwrap_or_default()),
        ("suspended", if status.suspended { "yes".to_owned() } else { String::new() }),
        ("objects", objects(status)),
        ("owner", status.owner.clone().unwrap_or_default()),
        ("labels", text::labels(&status.labels)),
    ]
}

fn rollout(rollout: &RolloutView) -> String {
    let RolloutView { revision, released, nodes, stopped, .. } = rollout;
    let how = if stopped.is_some() { "stopped" } else { "under way" };
    format!("to revision {revision}, {how}: {} of {nodes} nodes ({})", released.len(), released.join(", "))
}

/// What its module keeps in the cluster; nothing to say where that is nothing.
fn objects(status: &BucketStatus) -> String {
    match status.objects {
        0 => String::new(),
        count => format!("{count}, {}", text::size(status.object_bytes)),
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::BucketState;

    use super::super::example;
    use super::*;
    use crate::output::recorded;

    fn printed(status: &BucketStatus) -> String {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, status).expect("it prints");
        recording.data()
    }

    #[test]
    fn a_status_says_what_runs_where() {
        insta::assert_snapshot!(printed(&example::status()), @r"
        /logs/web  running: runs on every node it should

        module     flume@1.11.0
        type       harvest
        nodes      multi-node, runs on 2 of 2
        rules      +import-*  -import-03
        affinity   import-01, import-02
        revision   7
        owner      data-eng
        labels     team=web

        NODE       PHASE     PID  STARTED  RESTARTS  MESSAGE
        import-01  running  4711       5m         0
        import-02  running   812       5m         0
        ");
    }

    #[test]
    fn a_status_says_why_nothing_runs() {
        let status = BucketStatus {
            state: BucketState::Unplaced,
            multi_node: false,
            node_affinity: Vec::new(),
            node_list_rules: Vec::new(),
            instances: Vec::new(),
            desired: 1,
            running: 0,
            message: "none of 5 nodes is available".to_owned(),
            ..example::status()
        };
        insta::assert_snapshot!(printed(&status), @r"
        /logs/web  unplaced: no node is available
          none of 5 nodes is available

        module     flume@1.11.0
        type       harvest
        nodes      single-node, runs on 0 of 1
        rules      none: every node
        affinity   none
        revision   7
        owner      data-eng
        labels     team=web
        ");
    }
}
