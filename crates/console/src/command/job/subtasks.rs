//! `sheaf job subtasks NAME [SELECTOR]`

use clap::Args;
use sheaf_model::view::SubtaskRow;
use sheaf_model::{JobName, Selector, SubtaskState, Timestamp, nearest};
use sheaf_wire::Client;
use sheaf_wire::job::ListSubtasks;

use super::meant::meant;
use super::{SELECTORS, job_name, selector};
use crate::command::page;
use crate::exit::{Exit, Failure};
use crate::options::Page;
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed};
use crate::when;

const EMPTY: &str = "no subtask is like that; `sheaf job status NAME` counts them by state";

/// `sheaf job subtasks`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
{SELECTORS}

Examples:
  sheaf job subtasks ndvi-2024 failed
  sheaf job subtasks ndvi-2024 100-199 --state failed,canceled
  sheaf job subtasks ndvi-2024 --where \"state = 'failed' AND node = 'import-01'\"
  sheaf job subtasks ndvi-2024 --all -o json"))]
pub struct Subtasks {
    /// The job's name, its id or the unique beginning of that
    #[arg(value_parser = job_name)]
    name: JobName,
    /// Only these: 7, 1-10, 1-10:2, failed, last, or several with commas between
    #[arg(value_parser = selector)]
    selector: Option<Selector>,
    /// Only those in one of these states
    #[arg(long = "state", value_name = "STATE", value_parser = state, value_delimiter = ',')]
    states: Vec<SubtaskState>,
    /// Only those for which this holds: SQL over the columns of the table subtasks, see `sheaf query --tables`
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
    #[command(flatten)]
    page: Page,
}

/// Reads a state for clap.
fn state(text: &str) -> Result<SubtaskState, String> {
    let known = SubtaskState::ALL.map(SubtaskState::as_str);
    SubtaskState::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        match nearest(text, &known) {
            Some(word) => format!("did you mean {word}?"),
            None => format!("one of {}", known.join(", ")),
        }
    })
}

impl Subtasks {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let name = meant(client, self.name).await?;
        let fetch = async |page| {
            let ask = ListSubtasks {
                job: name.clone(),
                page,
                states: self.states.clone(),
                selector: self.selector.clone(),
                condition: self.condition.clone(),
            };
            Ok(client.list_subtasks(ask).await?)
        };
        page::print(&self.page, format, out, EMPTY, fetch).await?;
        Ok(Exit::Done)
    }
}

impl Listed for SubtaskRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("SUBTASK").number(),
        Column::new("STATE"),
        Column::new("ATTEMPT").number(),
        Column::new("NODE"),
        Column::new("BACKEND").wide(),
        Column::new("PRIORITY").wide().number(),
        Column::new("STARTED").number(),
        Column::new("TOOK").number(),
        Column::new("EXIT").number(),
        Column::new("FINGERPRINT").wide(),
        Column::new("MESSAGE"),
    ];

    fn name(&self) -> String {
        self.subtask.to_string()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.subtask.to_string(),
            self.state.as_str().to_owned(),
            self.attempt.to_string(),
            dash(self.node.clone()),
            dash(self.backend.clone()),
            self.priority.to_string(),
            when::age_of(now, self.started_at.as_deref()),
            dash(took(self)),
            dash(self.exit_code.map(|code| code.to_string())),
            dash(self.fingerprint.clone()),
            self.message.clone(),
        ]
    }
}

/// From begin to end, if both are known.
fn took(row: &SubtaskRow) -> Option<String> {
    let time = |text: &Option<String>| humantime::parse_rfc3339(text.as_deref()?).ok();
    let (from, to) = (time(&row.started_at)?, time(&row.ended_at)?);
    let took = to.duration_since(from).unwrap_or_default();
    let seconds = took.as_secs();
    Some(if seconds < 10 { format!("{:.1}s", took.as_secs_f64()) } else { when::span(took) })
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded;
    use crate::table::Listing;

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        Listing::whole(&mut out, format, &example::subtasks()).expect("it prints");
        recording.data()
    }

    #[test]
    fn subtasks_are_a_table() {
        insta::assert_snapshot!(printed(Format::Table), @r"
        SUBTASK  STATE     ATTEMPT  NODE       STARTED  TOOK  EXIT  MESSAGE
              0  finished        1  import-01      10m  1.2s     0
              7  failed          3  import-02      10m    3m     2  no such file: /data/T32.tif
              8  ready           0  -                -     -     -
        ");
    }

    #[test]
    fn a_row_has_the_promised_fields() {
        let rows: serde_json::Value = serde_json::from_str(&printed(Format::Json)).expect("JSON");
        let fields: Vec<&str> = rows[0].as_object().expect("an object").keys().map(String::as_str).collect();
        let promised = [
            "subtask",
            "state",
            "attempt",
            "node",
            "backend",
            "priority",
            "started_at",
            "ended_at",
            "exit_code",
            "message",
            "fingerprint",
        ];
        assert_eq!(fields, promised);
    }

    #[test]
    fn a_state_is_one_of_six() {
        assert_eq!(state("failed"), Ok(SubtaskState::Failed));
        assert_eq!(state("faild"), Err("did you mean failed?".to_owned()));
    }
}
