//! `sheaf job explain NAME [INDEX]`

use clap::Args;
use sheaf_model::JobName;
use sheaf_model::view::JobExplanation;
use sheaf_wire::Client;
use sheaf_wire::job::ExplainJob;

use super::job_name;
use super::line::about;
use super::meant::meant;
use crate::command::bucket::reasons;
use crate::command::namesakes;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{self, Listing};
use crate::text;

/// `sheaf job explain`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Says what keeps a job, or one subtask of it, from running, or from running faster: what it depends on, what goes before it,
its limit, the wait for its next attempt, its backends; and for every node whether each of the three gates lets the job run
there. Reasons for a pass are shown with -o wide. A node that is not eligible is not a failure. Of what has ended it says what
became of it: when, how many subtasks ended how, and in which ways they failed.

Examples:
  sheaf job explain ndvi-2024
  sheaf job explain ndvi-2024 4711
  sheaf job explain ndvi-2024 -o name      # the nodes where it may run")]
pub struct Explain {
    /// The job's name, its id or the unique beginning of that
    #[arg(value_parser = job_name)]
    name: JobName,
    /// One subtask, by its number from 0; without it the job as a whole
    #[arg(value_name = "INDEX")]
    subtask: Option<u32>,
}

impl Explain {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let job = meant(client, self.name).await?;
        let explanation = client.explain_job(ExplainJob { job, subtask: self.subtask }).await?;
        match format {
            Format::Table | Format::Wide => print(out, format, &explanation)?,
            Format::Json => out.json(&table::json(&explanation))?,
            Format::Yaml => out.yaml(&table::json(&explanation))?,
            Format::Name => {
                for node in explanation.nodes.iter().filter(|node| node.eligible) {
                    out.line(&node.node)?;
                }
            }
        }
        Ok(Exit::Done)
    }
}

/// For eyes: where it stands, why, nodes by gates, then every reason once.
fn print(out: &mut Terminal, format: Format, explanation: &JobExplanation) -> Result<(), Failure> {
    let state = text::paint(explanation.state.as_str(), out.colour());
    out.line(&format!("{}  {state}: {}", explanation.name, about(explanation.state)))?;
    if let Some(row) = &explanation.subtask {
        let state = text::paint(row.state.as_str(), out.colour());
        let tried = match row.attempt {
            0 => "not tried yet".to_owned(),
            attempt => format!("attempt {attempt}"),
        };
        let node = row.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
        out.line(&format!("  subtask {}  {state}, {tried}{node}", row.subtask))?;
        if !row.message.is_empty() {
            out.line(&text::paragraph(&row.message, 4, out.width()))?;
        }
    }
    for why in &explanation.why {
        out.line(&text::paragraph(&format!("- {why}"), 2, out.width()))?;
    }
    if explanation.nodes.is_empty() {
        return Ok(());
    }
    out.line("")?;
    Listing::whole(out, format, &namesakes::apart(&explanation.nodes))?;
    reasons(out, format, &explanation.nodes)
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded;

    #[test]
    fn why_it_does_not_run_fits_in_80_columns() {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, &example::explanation()).expect("it prints");
        let text = recording.data();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text, @r#"
        ndvi-2024  running: subtasks of it can still run
          subtask 8  ready, not tried yet
          - 500 of its subtasks run, as many as max_running allows
          - 6,100 subtasks of 2 other jobs have a higher priority, the highest of them
            90, and are ready

        NODE    STATUS  RUNS  LOCAL_CONFIG  NODE_LIST_RULES  CAN_RUN
        gpu-01  ready   yes   pass          pass             pass
        web-01  ready   no    pass          refuse           unknown

        node_list_rules
          refuse on web-01: no label matches "$gpu"

        can_run_on_this_node
          unknown on web-01: not asked
        "#);
    }
}
