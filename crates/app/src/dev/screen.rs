//! What a person sees: progress while it comes up, then one screen.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use sheaf_model::view::{BucketStatus, Explanation, NodeExplanation};

use super::examples::Seen;
use super::layout::{Home, Node, PORT};

/// Width of the column of commands, at most.
const COLUMN: usize = 60;

/// Nodes shown of a bucket, and reasons.
const SHOWN: usize = 4;

/// Said wherever agents run without certificates.
const UNSECURED: &str = "\nNothing is secured: whoever reaches a port of these agents may do everything. They are on loopback alone.\n";

/// A line on stderr that changes; none where stderr is no terminal.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: io::stderr().is_terminal() }
    }

    /// Shows this in place of what was shown before.
    pub(super) fn say(&self, text: &str) {
        self.write(&format!("\r\x1b[2K{text} …"));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.write("\r\x1b[2K");
    }

    fn write(&self, text: &str) {
        if self.shown {
            // A terminal that is gone sees nothing anyway.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
    }
}

/// Everything the screen shows.
pub(super) struct Screen<'a> {
    pub(super) home: &'a Home,
    pub(super) nodes: &'a [Node],
    /// The agents' processes by the node's name.
    pub(super) agents: Vec<(String, u32)>,
    pub(super) seen: &'a Seen,
    pub(super) notes: &'a [String],
}

impl Screen<'_> {
    /// The whole of it.
    pub(super) fn text(&self) -> String {
        let mut text = self.cluster();
        for (status, explanation) in &self.seen.buckets {
            text.push_str(&bucket(status, explanation));
        }
        for note in self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text.push_str(&self.next());
        text
    }

    fn pid(&self, node: &str) -> Option<u32> {
        self.agents.iter().find(|(name, _)| name == node).map(|(_, pid)| *pid)
    }

    fn cluster(&self) -> String {
        let goes = if self.home.is_temporary() { "removed at the end" } else { "kept" };
        let number = match self.nodes.len() {
            1 => "1 node".to_owned(),
            number => format!("{number} nodes"),
        };
        let mut text = format!("Sheaf runs on {number}, in {} ({goes})\n\n", self.home.path().display());
        let mut rows = vec![["NODE", "ADDRESS", "AGENT", "LABELS", "ALLOWS", ""].map(str::to_owned)];
        for node in self.nodes {
            let row = self.seen.nodes.iter().find(|row| row.name == node.name);
            let role = row.map_or("", |row| match (row.leader, row.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "",
            });
            let labels = row.map_or_else(|| node.labels.join(","), |row| row.labels.join(","));
            let allows = match row.map_or(&node.allow, |row| &row.allowed_modules).as_slice() {
                [] => "all modules".to_owned(),
                [all] if all == "*" => "all modules".to_owned(),
                some => some.join(","),
            };
            let agent = self.pid(&node.name).map_or_else(|| "-".to_owned(), |pid| format!("pid {pid}"));
            rows.push([node.name.clone(), node.address(), agent, labels, allows, role.to_owned()]);
        }
        text.push_str(&table(&rows));
        text
    }

    /// What to try.
    fn next(&self) -> String {
        let sheaf = how_to_call();
        let home = self.home.path().display();
        let mut lines = Vec::new();
        let mut line = |command: String, about: &str| lines.push((command, about.to_owned()));
        if let Some(first) = self.nodes.first() {
            line(first.dashboard(), "in a browser: all of this, live");
        }
        if let Some(first) = self.nodes.first().filter(|first| first.port != PORT) {
            line(format!("export SHEAF_ADDRESS={}", first.address()), "where this cluster is");
        }
        line(format!("{sheaf} node affinity"), "what runs where, since when and why");
        line(format!("{sheaf} bucket explain /dev/report"), "every node, every gate, every reason");
        line(format!("{sheaf} bucket logs -f /dev/logs"), "from all its nodes at once");
        line(format!("cat {home}/report/report.txt"), "what /dev/report has counted");
        let (job, subtasks) = &self.seen.job;
        let about = format!("a job: {subtasks} programs' checksums, a subtask each, shared by the nodes");
        line(format!("{sheaf} job submit -f {} --wait", job.display()), &about);
        let counted = "SELECT node, count(*) FROM attempts GROUP BY node";
        line(format!("{sheaf} query '{counted}'"), "which node ran how many of them");
        if let Some(worker) = self.nodes.iter().find(|node| node.labels.iter().any(|label| label == "work")) {
            let about = "/dev/logs asks for that label: it comes there, too";
            line(format!("{sheaf} node label {} collect", worker.name), about);
        }
        if let Some((node, pid)) = self.lost_next() {
            let about = format!("the agent of {node}; /dev/report moves within about {}", self.seen.wait);
            line(format!("kill -9 {pid}"), &about);
            line(format!("{sheaf} agent --config {home}/{node}/agent.toml"), "brings that node back");
        }
        let lengths = lines.iter().map(|(command, _)| command.chars().count());
        let width = lengths.filter(|length| *length <= COLUMN).max().unwrap_or(COLUMN);
        let mut text = "\nTry next, in another terminal:\n".to_owned();
        for (command, about) in lines {
            // What is too long for the column has its explanation below.
            let gap =
                if command.chars().count() > width { format!("\n  {:width$}", "") } else { String::new() };
            text.push_str(&format!("  {command:<width$}{gap}   {about}\n"));
        }
        text.push_str(UNSECURED);
        text.push_str("Ctrl-C stops everything.\n");
        text
    }

    /// The node whose loss is worth watching, with its agent: where /dev/report runs, if it can run elsewhere and a
    /// majority of voters stays.
    fn lost_next(&self) -> Option<(&str, u32)> {
        let (status, explanation) = self.seen.buckets.iter().find(|(status, _)| !status.multi_node)?;
        let others = explanation.nodes.iter().filter(|node| node.is_open()).count();
        let node = status.instances.first().filter(|_| others > 1 && self.nodes.len() > 2)?;
        // To kill 0 would be to kill the shell of whoever tries it.
        Some((&node.node, self.pid(&node.node)?))
    }
}

/// Where a bucket runs, why, and why not elsewhere; the first few of each.
fn bucket(status: &BucketStatus, explanation: &Explanation) -> String {
    let kind = if status.multi_node { "every available node" } else { "one node" };
    let mut text = format!("\n{}: {} on {kind}, {}", status.name, status.module, status.state.as_str());
    let mut places: Vec<String> = status
        .instances
        .iter()
        .map(|instance| match instance.pid {
            Some(pid) => format!("{} (pid {pid})", instance.node),
            None => format!("{} ({})", instance.node, instance.phase),
        })
        .collect();
    places.sort();
    if places.is_empty() {
        text.push_str(&format!(": {}\n", or(&status.message, status.state.about())));
    } else {
        let more = more(&mut places);
        text.push_str(&format!(" on {}{more}\n", places.join(", ")));
    }
    if let Some(decision) = &explanation.decision {
        text.push_str(&format!("  {} under epoch {}: {}\n", decision.chosen, decision.epoch, decision.why));
    }
    let mut refusals: Vec<String> =
        explanation.nodes.iter().filter(|node| !node.is_open()).map(refusal).collect();
    refusals.sort();
    let more = more(&mut refusals);
    for refusal in refusals {
        text.push_str(&format!("  not on {refusal}\n"));
    }
    if !more.is_empty() {
        text.push_str(&format!("  not on{more}\n"));
    }
    text
}

/// A node and the first gate that does not let the bucket run there, or what else keeps it away.
fn refusal(node: &NodeExplanation) -> String {
    let gate = node.gates.iter().find(|gate| gate.pass != Some(true));
    let otherwise = || or(&node.obstacle, &node.status).to_owned();
    let why = gate.map_or_else(otherwise, |gate| format!("{}: {}", gate.gate, gate.reason));
    format!("{}: {why}", node.node)
}

/// Leaves the first few, and says how many more there were.
fn more(all: &mut Vec<String>) -> String {
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    if more == 0 { String::new() } else { format!(" and {more} more") }
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// Columns as wide as their widest cell.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()).replace("  \n", "\n"));
    }
    text
}

/// How this binary is called from a shell here: by its name if `PATH` leads to it, else by its path.
fn how_to_call() -> String {
    let Ok(binary) = std::env::current_exe() else { return "sheaf".to_owned() };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join("sheaf")).find(|path| path.is_file());
    if found.and_then(|path| path.canonicalize().ok()).is_some_and(|path| path == binary) {
        return "sheaf".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    shortest(&binary, &here).display().to_string()
}

fn shortest<'a>(binary: &'a Path, here: &Path) -> &'a Path {
    binary.strip_prefix(here).ok().filter(|rest| rest.components().count() > 1).unwrap_or(binary)
}

#[cfg(test)]
mod tests {
    use sheaf_model::view::{BucketState, DecisionView, GateView, InstanceView};

    use super::*;

    fn gates(refused: Option<(&str, &str)>) -> Vec<GateView> {
        let gate = |gate: &str| {
            let reason = refused.filter(|(name, _)| *name == gate).map(|(_, reason)| reason);
            GateView {
                gate: gate.to_owned(),
                pass: Some(reason.is_none()),
                reason: reason.unwrap_or_default().to_owned(),
            }
        };
        ["local_config", "node_list_rules", "can_run_on_this_node"].map(gate).to_vec()
    }

    fn report() -> (BucketStatus, Explanation) {
        let status = serde_json::json!({
            "name": "/dev/report", "revision": 5, "type": "analytic", "module": "count@1", "multi_node": false,
            "suspended": false, "node_list_rules": [], "node_affinity": ["work-01"], "affinity_epoch": 9,
            "affinity_since": null, "state": "running", "desired": 1, "running": 1, "owner": null, "labels": {},
            "message": "", "instances": [], "quarantined_until": null, "emergency": null, "objects": 0, "object_bytes": 0,
        });
        let mut status: BucketStatus = serde_json::from_value(status).expect("a status");
        status.instances.push(InstanceView {
            node: "work-01".to_owned(),
            phase: "running".to_owned(),
            epoch: Some(9),
            pid: Some(4711),
            started_at: None,
            restarts: 0,
            message: String::new(),
            revision: 5,
            node_id: 3,
        });
        let node = |name: &str, refused: Option<(&str, &str)>| NodeExplanation {
            node: name.to_owned(),
            status: "ready".to_owned(),
            eligible: refused.is_none(),
            running: name == "work-01",
            gates: gates(refused),
            obstacle: String::new(),
            node_id: 0,
        };
        let reason = "module \"count\" is not in this node's [modules] allow list (collect)";
        let explanation = Explanation {
            name: "/dev/report".to_owned(),
            state: BucketState::Running,
            nodes: vec![
                node("import-01", None),
                node("import-02", Some(("local_config", reason))),
                node("work-01", None),
            ],
            decision: Some(DecisionView {
                chosen: "work-01".to_owned(),
                epoch: 9,
                at: String::new(),
                why: "least loaded of 2".to_owned(),
                runners_up: Vec::new(),
                chosen_id: 3,
            }),
            message: String::new(),
        };
        (status, explanation)
    }

    #[test]
    fn a_bucket_says_where_and_why_and_why_not_elsewhere() {
        let (status, explanation) = report();
        assert_eq!(
            bucket(&status, &explanation),
            "\n/dev/report: count@1 on one node, running on work-01 (pid 4711)\n\
             \x20 work-01 under epoch 9: least loaded of 2\n\
             \x20 not on import-02: local_config: module \"count\" is not in this node's [modules] allow list (collect)\n"
        );
    }

    #[tokio::test]
    async fn the_screen_names_what_to_try() {
        let place = tempfile::tempdir().expect("a directory");
        let home = Home::open(Some(place.path())).await.expect("opened");
        let nodes = super::super::layout::plan(&home, Some(3), None).expect("planned");
        let seen = Seen {
            nodes: Vec::new(),
            voters: Vec::new(),
            buckets: vec![report()],
            job: ("/d/checksums.yaml".into(), 300),
            wait: "4s".to_owned(),
        };
        let mut screen = Screen { home: &home, nodes: &nodes, agents: Vec::new(), seen: &seen, notes: &[] };
        let text = screen.text();
        assert!(!text.contains("kill -9") && !text.contains("pid 0"), "no agent is known:\n{text}");
        screen.agents.push(("work-01".to_owned(), 42));
        let text = screen.text();
        assert!(text.starts_with("Sheaf runs on 3 nodes, in "), "{text}");
        for expected in [
            "kill -9 42 ",
            "/dev/report moves within about 4s",
            "node label work-01 collect",
            "pid 42",
            "http://127.0.0.1:",
            "Nothing is secured: whoever reaches a port",
        ] {
            assert!(text.contains(expected), "{expected} is missing:\n{text}");
        }
        assert_eq!(text.contains("SHEAF_ADDRESS"), nodes[0].port != PORT);
    }

    #[test]
    fn a_binary_below_this_directory_is_called_by_its_short_path() {
        let binary = Path::new("/src/sheaf/target/release/sheaf");
        assert_eq!(shortest(binary, Path::new("/src/sheaf")), Path::new("target/release/sheaf"));
        assert_eq!(shortest(binary, Path::new("/src/sheaf/target/release")), binary);
        assert_eq!(shortest(binary, Path::new("/home")), binary);
    }
}
