//! `sheaf bucket explain NAME`: every node, every gate, every reason.

use clap::Args;
use sheaf_model::view::{Explanation, GateView, NodeExplanation};
use sheaf_model::{BucketName, Gate, Timestamp};
use sheaf_wire::Client;

use super::bucket_name;
use crate::command::namesakes;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::{text, when};

/// `sheaf bucket explain`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Shows for every node whether each of the three gates lets the bucket run there: the node's own config \
(local_config), the bucket's rules (node_list_rules) and the module's answer (can_run_on_this_node). Reasons for a \
pass are shown with -o wide. A node that is not eligible is not a failure.

Examples:
  sheaf bucket explain /logs/web
  sheaf bucket explain /logs/web -o name      # the nodes where it may run")]
pub struct Explain {
    /// The bucket's path
    #[arg(value_parser = bucket_name)]
    name: BucketName,
}

impl Explain {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let explanation = client.explain_bucket(&self.name).await?;
        match format {
            Format::Table | Format::Wide => print(out, format, &explanation)?,
            Format::Json => out.json(&table::json(&explanation))?,
            Format::Yaml => out.yaml(&table::json(&explanation))?,
            Format::Name => {
                for node in explanation.nodes.iter().filter(|node| node.is_open()) {
                    out.line(&node.node)?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

impl Listed for NodeExplanation {
    const COLUMNS: &'static [Column] = &[
        Column::new("NODE"),
        Column::new("STATUS"),
        Column::new("RUNS"),
        Column::new("LOCAL_CONFIG"),
        Column::new("NODE_LIST_RULES"),
        Column::new("CAN_RUN"),
    ];

    fn name(&self) -> String {
        self.node.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let runs = if self.running { "yes" } else { "no" };
        let gates = Gate::ALL.into_iter().map(|gate| {
            let answer = self.gates.iter().find(|view| view.gate == gate.as_str());
            word(answer.and_then(|view| view.pass)).to_owned()
        });
        [self.node.clone(), self.status.clone(), runs.to_owned()].into_iter().chain(gates).collect()
    }
}

/// What a gate says, in a word.
pub(crate) const fn word(pass: Option<bool>) -> &'static str {
    match pass {
        Some(true) => "pass",
        Some(false) => "refuse",
        None => "unknown",
    }
}

/// The matrix for eyes: the decision, nodes by gates, then every reason once, with the nodes that give it.
fn print(out: &mut Terminal, format: Format, explanation: &Explanation) -> Result<(), Failure> {
    let state = text::paint(explanation.state.as_str(), out.colour());
    out.line(&format!("{}  {state}: {}", explanation.name, explanation.state.about()))?;
    if !explanation.message.is_empty() && explanation.message != explanation.state.about() {
        paragraph(out, 2, &explanation.message)?;
    }
    if let Some(decision) = &explanation.decision {
        let since = when::age_of(out.now(), Some(&decision.at));
        let chosen = namesakes::called((&decision.chosen, decision.chosen_id), &explanation.nodes);
        let (epoch, why) = (decision.epoch, &decision.why);
        paragraph(out, 2, &format!("chosen: {chosen}, {since} ago, under epoch {epoch}: {why}"))?;
        for other in &decision.runners_up {
            paragraph(out, 2, &format!("not chosen: {other}"))?;
        }
    }
    out.line("")?;
    Listing::whole(out, format, &namesakes::apart(&explanation.nodes))?;
    reasons(out, format, &explanation.nodes)
}

/// A reason, and the nodes that give it.
struct Reason<'a> {
    pass: Option<bool>,
    /// As the first node says it.
    text: &'a str,
    /// The same with that node's name left open: others say it of themselves.
    open: String,
    nodes: Vec<&'a str>,
}

/// Every reason, grouped by gate: what is refused or unknown, and with `-o wide` what passes; then what keeps it from nodes
/// whatever their gates say.
pub(in crate::command) fn reasons(
    out: &mut Terminal,
    format: Format,
    nodes: &[NodeExplanation],
) -> Result<(), Failure> {
    let names = namesakes::names(nodes);
    for gate in Gate::ALL {
        let said = grouped(gate, format == Format::Wide, nodes, &names);
        if said.is_empty() {
            continue;
        }
        out.line(&format!("\n{}", gate.as_str()))?;
        for Reason { pass, text, open, nodes } in said {
            said_on(out, word(pass), (text, &open), &nodes)?;
        }
    }
    let mut kept: Vec<(&str, Vec<&str>)> = Vec::new();
    for (node, name) in nodes.iter().zip(&names).filter(|(node, _)| !node.obstacle.is_empty()) {
        match kept.iter_mut().find(|(obstacle, _)| *obstacle == node.obstacle) {
            Some((_, nodes)) => nodes.push(name.as_str()),
            None => kept.push((node.obstacle.as_str(), vec![name.as_str()])),
        }
    }
    if !kept.is_empty() {
        out.line("\nwhatever the gates say")?;
    }
    for (obstacle, nodes) in kept {
        said_on(out, "not", (obstacle, obstacle), &nodes)?;
    }
    Ok(())
}

/// What is said on one node, or on several with the name left open.
fn said_on(
    out: &mut Terminal,
    word: &str,
    (text, open): (&str, &str),
    nodes: &[&str],
) -> Result<(), Failure> {
    if let [node] = nodes {
        return paragraph(out, 2, &format!("{word} on {node}: {text}"));
    }
    let count = text::count(nodes.len(), "node");
    paragraph(out, 2, &format!("{word} on {count}: {open}"))?;
    paragraph(out, 6, &nodes.join(", "))
}

fn grouped<'a>(
    gate: Gate,
    passes: bool,
    nodes: &'a [NodeExplanation],
    names: &'a [String],
) -> Vec<Reason<'a>> {
    let mut groups: Vec<Reason<'_>> = Vec::new();
    let told = |view: &&GateView| {
        view.gate == gate.as_str() && !view.reason.is_empty() && (passes || view.pass != Some(true))
    };
    for (node, name) in nodes.iter().zip(names) {
        let Some(view) = node.gates.iter().find(told) else { continue };
        let open = view.reason.replace(&format!("\"{}\"", node.node), "<node>");
        match groups.iter_mut().find(|group| group.open == open && group.pass == view.pass) {
            Some(group) => group.nodes.push(name.as_str()),
            None => {
                groups.push(Reason { pass: view.pass, text: &view.reason, open, nodes: vec![name.as_str()] });
            }
        }
    }
    groups
}

fn paragraph(out: &mut Terminal, indent: usize, line: &str) -> Result<(), Failure> {
    let text = text::paragraph(line, indent, out.width());
    out.line(&text)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded;

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, format, &example::explanation()).expect("it prints");
        recording.data()
    }

    #[test]
    fn every_node_every_gate_and_every_reason_fit_in_80_columns() {
        let text = printed(Format::Table);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @r#"
        /logs/web  running: runs on every node it should
          chosen: import-01, 3h ago, under epoch 42: least_loaded: 0 single-node
            instances, load 0.10
          not chosen: import-02: 3 single-node instances, load 1.20

        NODE       STATUS   RUNS  LOCAL_CONFIG  NODE_LIST_RULES  CAN_RUN
        import-01  ready    yes   pass          pass             pass
        import-03  ready    no    pass          refuse           refuse
        web-01     ready    no    refuse        refuse           unknown
        web-02     ready    no    refuse        refuse           unknown
        web-03     ready    no    refuse        refuse           unknown
        web-04     ready    no    refuse        refuse           unknown
        web-05     ready    no    refuse        refuse           unknown
        web-06     ready    no    refuse        refuse           unknown
        web-07     ready    no    refuse        refuse           unknown
        web-08     ready    no    refuse        refuse           unknown
        web-09     ready    no    refuse        refuse           unknown
        web-10     ready    no    refuse        refuse           unknown
        web-11     ready    no    refuse        refuse           unknown
        web-12     ready    no    refuse        refuse           unknown
        web-13     ready    no    refuse        refuse           unknown
        web-14     ready    no    refuse        refuse           unknown
        web-15     ready    no    refuse        refuse           unknown
        web-16     suspect  no    refuse        refuse           unknown

        local_config
          refuse on 16 nodes: module "flume" is not in this node's [modules] allow list
            (webcrawl)
              web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-08, web-09,
                web-10, web-11, web-12, web-13, web-14, web-15, web-16

        node_list_rules
          refuse on import-03: excluded by rule "-import-03"
          refuse on 16 nodes: hostname <node> matches no include rule of ["+import-*"]
              web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-08, web-09,
                web-10, web-11, web-12, web-13, web-14, web-15, web-16

        can_run_on_this_node
          refuse on import-03: /opt/flume/bin/flume-ng does not exist
          unknown on 16 nodes: not asked: refused by local_config
              web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-08, web-09,
                web-10, web-11, web-12, web-13, web-14, web-15, web-16
        "#);
    }

    #[test]
    fn a_node_where_it_gave_up_says_so_although_its_gates_pass() {
        let mut explanation = example::explanation();
        explanation.nodes[0].obstacle = "its instance there gave up: exit code 3".to_owned();
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, &explanation).expect("it prints");
        let text = recording.data();
        let said = "\nwhatever the gates say\n  not on import-01: its instance there gave up: exit code 3\n";
        assert!(text.contains(said), "{text}");
        assert!(!explanation.nodes[0].is_open());
    }

    #[test]
    fn nodes_that_share_a_name_are_told_apart() {
        let mut explanation = example::explanation();
        for (id, node) in (1..).zip(&mut explanation.nodes) {
            node.node_id = id;
        }
        explanation.nodes[1].node = "import-01".to_owned();
        let printed = |explanation: &Explanation| {
            let (mut out, recording) = recorded::terminal("");
            print(&mut out, Format::Table, explanation).expect("it prints");
            recording.data()
        };
        explanation.decision.as_mut().expect("it was placed").chosen_id = 1;
        let text = printed(&explanation);
        for part in [
            "chosen: import-01 (node 1), 3h ago",
            "\nimport-01 (node 1)  ready    yes ",
            "\nimport-01 (node 2)  ready    no ",
            "refuse on import-01 (node 2): excluded by rule",
            "refuse on 16 nodes: hostname <node> matches",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("web-01 ("), "{text}");
    }

    #[test]
    fn wide_says_why_it_passes_too() {
        let text = printed(Format::Wide);
        assert!(text.contains("pass on import-01: hostname \"import-01\" matches \"+import-*\""), "{text}");
    }
}
