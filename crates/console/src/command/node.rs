//! `sheaf node …`

mod drain;

use clap::{Args, Subcommand};
use sheaf_model::view::{NodeDetail, NodeFacts, NodeRow};
use sheaf_wire::node::{Affinity as AffinityOf, LabelNode, ListNodes};
use sheaf_wire::{ApiError, Client};

use crate::command::apply::{OutcomeRow, warn};
use crate::command::{namesakes, page, rows};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page, Wait};
use crate::output::{Format, Terminal};
use crate::table::{self, Listing};
use crate::{text, wait, when};

/// `sheaf node …`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// List nodes
    List(List),
    /// Show one node and what runs there; without a name, list all
    Status(Status),
    /// Show what runs where, since when and why
    Affinity(Affinity),
    /// Give a node labels and take them away
    Label(Label),
    /// Empty a node: show what moves where, then move it
    Drain(drain::Drain),
    /// Let a drained node take work again
    Undrain(drain::Undrain),
    /// Vouch that a lost node will never run again what it ran
    Forget(drain::Forget),
}

/// `sheaf node list`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf node list -l zone=a
  sheaf node list --where status!=ready -o wide")]
pub struct List {
    #[command(flatten)]
    labels: Labels,
    /// Only those: name and hostname (with * and ?), status, voter, label
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf node status`
#[derive(Args, Debug)]
pub struct Status {
    /// The node's name, its id or the unique beginning of one; without it all are listed
    #[arg(value_name = "NODE")]
    name: Option<String>,
    #[command(flatten)]
    list: List,
}

/// `sheaf node affinity`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf node affinity
  sheaf node affinity import-01 -o json")]
pub struct Affinity {
    /// Only of this node: its name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf node label`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Labels of the node's own config file cannot be taken away here. --wait: until the node's gates answer for the new \
labels; `sheaf bucket explain NAME` tells what they say.

Examples:
  sheaf node label import-01 gpu zone=a
  sheaf node label import-01 gpu-               # takes gpu away
  sheaf node label import-01 --remove gpu       # the same")]
pub struct Label {
    /// The node's name, its id or the unique beginning of one
    #[arg(value_name = "NODE")]
    node: String,
    /// Labels to give; with a - at the end to take away
    #[arg(required_unless_present = "remove", value_name = "LABEL")]
    labels: Vec<String>,
    /// A label to take away
    #[arg(long, value_name = "LABEL")]
    remove: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

impl Node {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::List(list) => list.run(client, format, out).await,
            Self::Status(status) => status.run(client, format, out).await,
            Self::Affinity(affinity) => affinity.run(client, format, out).await,
            Self::Label(label) => label.run(client, format, out).await,
            Self::Drain(drain) => drain.run(client, format, out).await,
            Self::Undrain(undrain) => undrain.run(client, format, out).await,
            Self::Forget(forget) => forget.run(client, format, out).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let filter = self.labels.labels.iter().fold(page::filter(&self.filter)?, |filter, (key, value)| {
            filter.with("label", format!("{key}={value}"))
        });
        let fetch = async |page| Ok(client.list_nodes(ListNodes { page, filter: filter.clone() }).await?);
        page::print(&self.page, format, out, "no node is like that", fetch).await?;
        Ok(Exit::Done)
    }
}

impl Status {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let Some(name) = self.name else { return self.list.run(client, format, out).await };
        let detail = found(client, &name, async |name| client.node(&name).await).await?;
        match format {
            Format::Table | Format::Wide => print(out, format, &detail)?,
            Format::Json => out.json(&table::json(&detail))?,
            Format::Yaml => out.yaml(&table::json(&detail))?,
            Format::Name => out.line(&detail.row.name)?,
        }
        Ok(Exit::Done)
    }
}

impl Affinity {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let row = match &self.node {
            Some(name) => Some(found(client, name, async |name| client.node(&name).await).await?.row),
            None => None,
        };
        let node = row.as_ref().map(|row| numbered(row.id));
        let fetch = async |page| {
            let ask = AffinityOf { node: node.clone(), bucket: None, page };
            let mut part = client.affinity(ask).await?;
            if format.is_table() {
                part.rows = namesakes::apart(&part.rows);
            }
            Ok(part)
        };
        let empty = match &row {
            Some(row) => format!("nothing runs on {}; `sheaf bucket explain NAME` says why not", row.name),
            None => "nothing runs; `sheaf bucket list` shows what there is".to_owned(),
        };
        page::print(&self.page, format, out, &empty, fetch).await?;
        Ok(Exit::Done)
    }
}

impl Label {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let (mut add, mut remove) = (Vec::new(), self.remove);
        for label in self.labels {
            match label.strip_suffix('-') {
                Some(gone) => remove.push(gone.to_owned()),
                None => add.push(label),
            }
        }
        let request = connect::request();
        let labelled = found(client, &self.node, async |node| {
            let (add, remove) = (add.clone(), remove.clone());
            client.label_node(LabelNode { node, add, remove, request: request.clone() }).await
        });
        let labelled = labelled.await?;
        warn(out, &labelled.done.warnings);
        let outcome = if labelled.done.unchanged { "unchanged" } else { "labelled" };
        let row = OutcomeRow::of("Node", &self.node, outcome, labelled.done.revision);
        Listing::whole(out, format, &[row])?;
        if format.is_table() {
            out.say(&format!("labels: {}", labelled.labels.join(", ")));
        }
        out.flush()?;
        if self.wait.wait {
            let node = found(client, &self.node, async |name| client.node(&name).await).await?.row.id;
            wait::answered(client, out, self.wait, &numbered(node), labelled.done.revision).await?;
        }
        Ok(Exit::Done)
    }
}

/// What means the node of this number and no other: a lost one may have the name of the next, and a name may be digits, but
/// begins with no `+`.
pub(crate) fn numbered(id: u64) -> String {
    format!("+{id}")
}

/// Asks of a node that is named by its name or number, or by the unique beginning of one.
pub(super) async fn found<T>(
    client: &Client,
    text: &str,
    ask: impl AsyncFn(String) -> Result<T, ApiError>,
) -> Result<T, Failure> {
    match ask(text.to_owned()).await {
        Err(ApiError::NotFound(said)) => match beginning_with(client, text).await? {
            Some(name) => Ok(ask(name).await?),
            None => Err(Failure::NotFound(format!("{said}; `sheaf node list` shows all"))),
        },
        other => Ok(other?),
    }
}

/// The one node whose name or id begins so.
async fn beginning_with(client: &Client, text: &str) -> Result<Option<String>, Failure> {
    let list = async |page| client.list_nodes(ListNodes { page, ..ListNodes::default() }).await;
    unique(text, page::fitting(list, |row| begins(row, text)).await?)
}

fn begins(row: &NodeRow, text: &str) -> bool {
    row.name.starts_with(text) || row.id.to_string().starts_with(text)
}

/// The only one of these; none if there is none, wrong usage if there are several.
fn unique(text: &str, fitting: Vec<NodeRow>) -> Result<Option<String>, Failure> {
    if fitting.len() > 1 {
        let some: Vec<String> =
            fitting.iter().take(5).map(|row| format!("{} (id {})", row.name, row.id)).collect();
        let problem = format!("{} begin with {text:?}", text::count(fitting.len(), "node"));
        return Err(Failure::usage(problem, format!("more of it: {}", some.join(", "))));
    }
    Ok(fitting.into_iter().next().map(|row| numbered(row.id)))
}

fn print(out: &mut Terminal, format: Format, detail: &NodeDetail) -> Result<(), Failure> {
    let NodeDetail { row, facts, affinity, subtasks } = detail;
    let status = text::paint(&row.status, out.colour());
    let since = when::age_of(out.now(), Some(&row.since));
    out.line(&format!("{}  {status} since {since}", row.name))?;
    if !facts.reason.is_empty() {
        out.line(&text::paragraph(&facts.reason, 2, out.width()))?;
    }
    out.line("")?;
    out.write(&text::facts(&said(row, facts)))?;
    out.line("")?;
    match (affinity.is_empty(), *subtasks as usize) {
        (true, 0) => out.line("nothing runs here")?,
        (false, 0) => {}
        (_, subtasks) => out.line(&format!("{} of jobs here", text::count(subtasks, "subtask")))?,
    }
    Listing::whole(out, format, affinity)
}

/// What a node is, in pairs of a word and what it says.
pub(crate) fn said(row: &NodeRow, facts: &NodeFacts) -> Vec<(&'static str, String)> {
    let modules = match (facts.allow.as_slice(), facts.deny.as_slice()) {
        ([], []) => "all".to_owned(),
        ([], deny) => format!("all but {}", deny.join(", ")),
        (allow, []) => allow.join(", "),
        (allow, deny) => format!("{} but not {}", allow.join(", "), deny.join(", ")),
    };
    let late = if facts.late_timers == 0 { String::new() } else { facts.late_timers.to_string() };
    let full: Vec<String> =
        facts.full_queues.iter().map(|(queue, times)| format!("{queue} {times}")).collect();
    let memory = format!("{} of {} used", text::size(row.memory_used), text::size(row.memory_total));
    vec![
        ("id", row.id.to_string()),
        ("hostname", row.hostname.clone()),
        ("address", row.address.clone()),
        ("role", rows::role(row).to_owned()),
        ("version", row.version.clone()),
        ("modules", modules),
        ("labels", facts.config_labels.join(", ")),
        ("given labels", facts.given_labels.join(", ")),
        ("cpu", format!("{}, load {:.2}", text::count(row.cpu as usize, "core"), row.load)),
        ("memory", if row.memory_total == 0 { String::new() } else { memory }),
        ("disk", format!("{} available", text::size(facts.disk_available))),
        ("late timers", late),
        ("full queues", full.join(", ")),
        ("notes", facts.notes.join("; ")),
    ]
}

/// Nodes as a cluster shows them, for tests.
#[cfg(test)]
pub(super) mod example {
    use sheaf_model::view::AffinityRow;

    use super::{NodeDetail, NodeFacts, NodeRow};

    fn row(id: u64, name: &str) -> NodeRow {
        NodeRow {
            name: name.to_owned(),
            id,
            hostname: name.to_owned(),
            address: format!("10.0.0.{id}:7420"),
            status: "ready".to_owned(),
            voter: id < 14,
            leader: id == 12,
            labels: vec!["import".to_owned(), "zone=a".to_owned()],
            allowed_modules: vec!["flume".to_owned()],
            version: "0.1.0".to_owned(),
            cpu: 4,
            memory_used: 1_610_612_736,
            memory_total: 8 << 30,
            load: 0.25,
            buckets: 2,
            since: "2026-01-10T10:00:00.000Z".to_owned(),
        }
    }

    pub(crate) fn nodes() -> Vec<NodeRow> {
        vec![row(12, "import-01"), row(13, "import-02"), row(140, "web-01")]
    }

    pub(crate) fn detail() -> NodeDetail {
        let facts = NodeFacts {
            allow: vec!["flume".to_owned()],
            deny: Vec::new(),
            config_labels: vec!["import".to_owned()],
            given_labels: vec!["zone=a".to_owned()],
            disk_available: 50 << 30,
            late_timers: 0,
            full_queues: [("watches".to_owned(), 3), ("proposals".to_owned(), 1)].into(),
            notes: vec!["limits: memory not enforceable (no cgroup)".to_owned()],
            reason: String::new(),
            seen: 4711,
        };
        let affinity = AffinityRow {
            bucket: "/logs/web".to_owned(),
            node: "import-01".to_owned(),
            hostname: "import-01".to_owned(),
            epoch: Some(42),
            since: Some("2026-01-10T11:00:00.000Z".to_owned()),
            phase: "running".to_owned(),
            why: "least_loaded: load 0.10".to_owned(),
            multi_node: false,
            node_id: 12,
        };
        NodeDetail { row: row(12, "import-01"), facts, affinity: vec![affinity], subtasks: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::example::{detail, nodes};
    use super::*;
    use crate::output::recorded;

    #[test]
    fn nodes_are_a_table() {
        let (mut out, recording) = recorded::terminal("");
        Listing::whole(&mut out, Format::Table, &nodes()).expect("it prints");
        insta::assert_snapshot!(recording.data(), @r"
        NAME       STATUS  ROLE    ADDRESS          BUCKETS  LOAD         MEMORY  SINCE
        import-01  ready   leader  10.0.0.12:7420         2  0.25  1.5GiB/8.0GiB     2h
        import-02  ready   voter   10.0.0.13:7420         2  0.25  1.5GiB/8.0GiB     2h
        web-01     ready   -       10.0.0.140:7420        2  0.25  1.5GiB/8.0GiB     2h
        ");
    }

    #[test]
    fn a_node_says_what_it_is_and_what_runs_there() {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, &detail()).expect("it prints");
        insta::assert_snapshot!(recording.data(), @r"
        import-01  ready since 2h

        id            12
        hostname      import-01
        address       10.0.0.12:7420
        role          leader
        version       0.1.0
        modules       flume
        labels        import
        given labels  zone=a
        cpu           4 cores, load 0.25
        memory        1.5GiB of 8.0GiB used
        disk          50.0GiB available
        full queues   proposals 1, watches 3
        notes         limits: memory not enforceable (no cgroup)

        BUCKET     NODE       PHASE    SINCE  EPOCH  WHY
        /logs/web  import-01  running    60m     42  least_loaded: load 0.10
        ");
        let value = table::json(&detail());
        assert_eq!((&value["name"], &value["affinity"][0]["epoch"]), (&"import-01".into(), &42.into()));
    }

    #[test]
    fn a_unique_beginning_is_enough() {
        let chosen = |text: &str| {
            let fitting = nodes().into_iter().filter(|row| begins(row, text)).collect();
            unique(text, fitting)
        };
        assert_eq!(chosen("web").expect("one"), Some("+140".to_owned()));
        assert_eq!(chosen("14").expect("one"), Some("+140".to_owned()));
        assert_eq!(chosen("import-02").expect("one"), Some("+13".to_owned()));
        assert_eq!(chosen("db").expect("none"), None);
        let error = chosen("import").expect_err("two");
        assert_eq!(error.exit().code(), 2);
        assert_eq!(
            error.to_string(),
            "2 nodes begin with \"import\"; more of it: import-01 (id 12), import-02 (id 13)"
        );
        assert!(chosen("1").is_err());
    }
}
