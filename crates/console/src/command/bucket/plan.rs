//! `sheaf bucket plan -f FILE`: what apply would change, and where each bucket would run.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Value, json};
use sheaf_model::view::NodeExplanation;
use sheaf_model::{Difference, Document, ModuleSpec, PutBucket, Timestamp};
use sheaf_wire::bucket::{Plan as Answer, PlanBucket};
use sheaf_wire::{Applied, Client, OutcomeVerb};

use super::explain;
use crate::command::apply::{OutcomeRow, validate, warn};
use crate::command::namesakes;
use crate::documents;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::text;

/// Buckets that are asked about at a time: each is put to every node.
const AT_A_TIME: usize = 8;

/// `sheaf bucket plan`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Changes nothing. Exits with 0 when apply would change nothing, with 10 when it would.

Examples:
  sheaf bucket plan -f buckets/
  sheaf bucket plan -f web.yaml -o json")]
pub struct Plan {
    /// A file, a directory of .yaml, .yml and .json files, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    /// Plan with the newest version of each bucket's module
    #[arg(long)]
    latest: bool,
}

/// What is planned for one document.
#[derive(Debug)]
struct Planned {
    outcome: OutcomeRow,
    differences: Vec<Difference>,
    nodes: Vec<NodeExplanation>,
    warnings: Vec<String>,
    multi_node: bool,
}

impl Plan {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let mut written = documents::read(out, &self.files);
        written.only(&["Module", "Bucket"]);
        for put in written.buckets_mut() {
            put.latest |= self.latest;
        }
        let checked = validate(&written, client, out).await?;
        let brought: Vec<&ModuleSpec> = written.sources.iter().flat_map(documents::Source::modules).collect();
        let planned = written.documents().map(async |(_, document)| {
            let outcome = outcome(document, &checked);
            match document {
                Document::Module(_) | Document::Job(_) | Document::Backend(_) | Document::Sink(_) => {
                    Ok(Planned::bare(outcome, &checked))
                }
                Document::Bucket(put) => {
                    let ask = PlanBucket { put: (**put).clone(), modules: along(put, &brought) };
                    Ok::<_, Failure>(Planned::told(client.plan_bucket(ask).await?, put))
                }
            }
        });
        let mut plans: Vec<Planned> = stream::iter(planned).buffered(AT_A_TIME).try_collect().await?;
        once_each(&mut plans);
        let changes = plans.iter().any(|plan| plan.outcome.outcome != OutcomeVerb::Unchanged.as_str());
        print(out, format, &plans)?;
        Ok(if changes { Exit::Changes } else { Exit::Done })
    }
}

/// What the check said of this document.
fn outcome(document: &Document, checked: &Applied) -> OutcomeRow {
    let title = document.label();
    let found = checked.outcomes.iter().find(|outcome| outcome.document == title);
    found.map_or_else(
        || OutcomeRow::of(documents::kind(document), &title, "unchanged", checked.revision),
        Into::into,
    )
}

/// The versions of the bucket's module that are registered by the very documents that are planned: nodes are asked about
/// one of them as they are about one that is registered.
fn along(put: &PutBucket, brought: &[&ModuleSpec]) -> Vec<ModuleSpec> {
    let mut along: Vec<ModuleSpec> = Vec::new();
    for module in brought.iter().filter(|module| module.name == put.spec.module.name) {
        // The same module may stand in several files.
        if !along.contains(module) {
            along.push((**module).clone());
        }
    }
    along
}

/// What is said of a module is said of each bucket that uses it; people want to read it once.
fn once_each(plans: &mut [Planned]) {
    let mut said = BTreeSet::new();
    for plan in plans {
        plan.warnings.retain(|warning| said.insert(warning.clone()));
    }
}

impl Planned {
    /// A document that no node is asked about.
    fn bare(outcome: OutcomeRow, checked: &Applied) -> Self {
        let title = format!("{} {}: ", outcome.kind, outcome.name);
        let warnings = checked.warnings.iter().filter(|warning| warning.starts_with(&title)).cloned();
        Self {
            outcome,
            differences: Vec::new(),
            nodes: Vec::new(),
            warnings: warnings.collect(),
            multi_node: false,
        }
    }

    fn told(answer: Answer, put: &PutBucket) -> Self {
        Self {
            outcome: OutcomeRow::from(&answer.outcome),
            differences: answer.differences,
            nodes: answer.nodes,
            warnings: answer.warnings,
            multi_node: put.spec.multi_node,
        }
    }

    fn json(&self) -> Value {
        let differences: Vec<Value> = self
            .differences
            .iter()
            .map(|field| json!({"path": field.path, "before": field.before, "after": field.after}))
            .collect();
        json!({
            "kind": self.outcome.kind,
            "name": self.outcome.name,
            "outcome": self.outcome.outcome,
            "revision": self.outcome.revision,
            "differences": differences,
            "nodes": self.nodes,
            "warnings": self.warnings,
        })
    }
}

fn print(out: &mut Terminal, format: Format, plans: &[Planned]) -> Result<(), Failure> {
    let changed = |plan: &&Planned| plan.outcome.outcome != OutcomeVerb::Unchanged.as_str();
    match format {
        Format::Json => out.json(&plans.iter().map(Planned::json).collect()),
        Format::Yaml => out.yaml(&plans.iter().map(Planned::json).collect()),
        Format::Name => plans.iter().filter(changed).try_for_each(|plan| out.line(&plan.outcome.name)),
        Format::Table | Format::Wide => {
            for (index, plan) in plans.iter().enumerate() {
                if index > 0 {
                    out.line("")?;
                }
                plan.print(out, format)?;
            }
            Ok(())
        }
    }
}

impl Planned {
    /// What would change, then where it would run.
    fn print(&self, out: &mut Terminal, format: Format) -> Result<(), Failure> {
        let OutcomeRow { kind, name, outcome, revision } = &self.outcome;
        let would = match outcome.as_str() {
            "unchanged" => format!("unchanged at revision {revision}"),
            "updated" => {
                format!("would be {}, is at revision {revision}", text::paint("updated", out.colour()))
            }
            other => format!("would be {}", text::paint(other, out.colour())),
        };
        out.line(&format!("{kind} {name}: {would}"))?;
        for field in &self.differences {
            let line = format!("{}: {} → {}", field.path, value(&field.before), value(&field.after));
            out.line(&text::paragraph(&line, 2, out.width()))?;
        }
        warn(out, &self.warnings);
        if self.nodes.is_empty() {
            return Ok(());
        }
        let eligible = self.nodes.iter().filter(|node| node.is_open()).count();
        let of = text::count(self.nodes.len(), "node");
        out.line(&match (self.multi_node, eligible) {
            (_, 0) => format!("\n  would run nowhere: none of {of} is available"),
            (true, all) => format!("\n  would run on {all} of {of}"),
            (false, all) => format!("\n  would run on one of the {all} available of {of}"),
        })?;
        out.line("")?;
        let nodes = namesakes::apart(&self.nodes);
        let rows: Vec<PlannedNode<'_>> =
            nodes.iter().map(|node| PlannedNode { node, multi_node: self.multi_node }).collect();
        Listing::whole(out, format, &rows)?;
        explain::reasons(out, format, &self.nodes)
    }
}

/// A field's value on one line; strings as they are where that is plain.
fn value(value: &Option<Value>) -> String {
    value.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string)
}

/// A node in a plan: whether it runs the bucket now, and whether it would.
#[derive(Debug, Serialize)]
struct PlannedNode<'a> {
    node: &'a NodeExplanation,
    multi_node: bool,
}

impl Listed for PlannedNode<'_> {
    const COLUMNS: &'static [Column] = &[
        Column::new("NODE"),
        Column::new("STATUS"),
        Column::new("NOW"),
        Column::new("THEN"),
        Column::new("LOCAL_CONFIG"),
        Column::new("NODE_LIST_RULES"),
        Column::new("CAN_RUN"),
    ];

    fn name(&self) -> String {
        self.node.node.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let then = match (self.node.is_open(), self.multi_node) {
            (false, _) => "no",
            (true, true) => "runs",
            (true, false) => "may",
        };
        let mut cells = self.node.cells(now);
        cells[2] = if self.node.running { "runs" } else { "no" }.to_owned();
        cells.insert(3, then.to_owned());
        cells
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Revision;

    use super::super::example;
    use super::*;
    use crate::output::recorded;

    fn planned(outcome: &str) -> Planned {
        let field = |path: &str, before: Option<Value>, after: Option<Value>| Difference {
            path: path.to_owned(),
            before,
            after,
        };
        Planned {
            outcome: OutcomeRow::of("Bucket", "/logs/web", outcome, Revision(7)),
            differences: vec![
                field("config.port", Some(json!(5140)), Some(json!(5141))),
                field("node_list_rules[1]", None, Some(json!("-import-03"))),
                field("owner", Some(json!("data-eng")), None),
            ],
            nodes: example::explanation().nodes.into_iter().take(3).collect(),
            multi_node: true,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_plan_shows_what_changes_and_where_it_would_run() {
        let (mut out, recording) = recorded::terminal("");
        let module = OutcomeRow::of("Module", "flume@1.11.0", "unchanged", Revision(3));
        let module = Planned::bare(module, &Applied::default());
        print(&mut out, Format::Table, &[module, planned("updated")]).expect("it prints");
        insta::assert_snapshot!(recording.data(), @r#"
        Module flume@1.11.0: unchanged at revision 3

        Bucket /logs/web: would be updated, is at revision 7
          config.port: 5140 → 5141
          node_list_rules[1]: (none) → "-import-03"
          owner: "data-eng" → (none)

          would run on 1 of 3 nodes

        NODE       STATUS  NOW   THEN  LOCAL_CONFIG  NODE_LIST_RULES  CAN_RUN
        import-01  ready   runs  runs  pass          pass             pass
        import-03  ready   no    no    pass          refuse           refuse
        web-01     ready   no    no    refuse        refuse           unknown

        local_config
          refuse on web-01: module "flume" is not in this node's [modules] allow list
            (webcrawl)

        node_list_rules
          refuse on import-03: excluded by rule "-import-03"
          refuse on web-01: hostname "web-01" matches no include rule of ["+import-*"]

        can_run_on_this_node
          refuse on import-03: /opt/flume/bin/flume-ng does not exist
          unknown on web-01: not asked: refused by local_config
        "#);
    }

    #[test]
    fn what_keeps_it_from_a_node_whatever_its_gates_say_counts_and_is_said() {
        let mut plan = planned("updated");
        for (place, multi_node) in [(0, true), (1, false)] {
            plan.multi_node = multi_node;
            for node in &mut plan.nodes {
                node.eligible = true;
                node.obstacle.clear();
            }
            plan.nodes[place].obstacle = "the node is being drained".to_owned();
            let (mut out, recording) = recorded::terminal("");
            plan.print(&mut out, Format::Table).expect("it prints");
            let (text, node) = (recording.data(), &plan.nodes[place].node);
            let row = text.lines().find(|line| line.starts_with(node)).expect("its row");
            let words: Vec<&str> = row.split_whitespace().collect();
            assert_eq!((words[1], words[3]), ("ready", "no"), "{row}");
            assert!(text.contains(&format!("not on {node}: the node is being drained")), "{text}");
            let would =
                if multi_node { "would run on 2 of 3 nodes" } else { "one of the 2 available of 3 nodes" };
            assert!(text.contains(would), "{text}");
        }
        for node in &mut plan.nodes {
            node.obstacle = "the bucket is suspended".to_owned();
        }
        let (mut out, recording) = recorded::terminal("");
        plan.print(&mut out, Format::Table).expect("it prints");
        let text = recording.data();
        assert!(text.contains("would run nowhere: none of 3 nodes is available"), "{text}");
        assert!(text.contains("not on 3 nodes: the bucket is suspended"), "{text}");
    }

    #[test]
    fn names_are_those_that_change() {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Name, &[planned("unchanged"), planned("created")]).expect("it prints");
        assert_eq!(recording.data(), "/logs/web\n");
    }

    #[test]
    fn json_has_every_field() {
        let value = planned("created").json();
        assert_eq!(
            value["differences"][1],
            json!({"path": "node_list_rules[1]", "before": null, "after": "-import-03"})
        );
        assert_eq!(value["nodes"][1]["gates"][1]["pass"], false);
    }
}
