//! `sheaf job list`

use clap::Args;
use sheaf_model::Timestamp;
use sheaf_model::view::JobRow;
use sheaf_wire::Client;
use sheaf_wire::job::ListJobs;

use super::job_name;
use super::status::document;
use crate::command::page;
use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed};
use crate::text::labels;
use crate::when;

/// What to do when there is nothing to list.
const EMPTY: &str = "no jobs yet; submit one: sheaf job submit -f FILE";
const NONE_SUCH: &str = "no job is like that; `sheaf job list` shows all";

/// `sheaf job list`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf job list --where state=running
  sheaf job list --where 'state!=finished,module=ndvi' -o wide
  sheaf job list -l team=eo --all -o name
  sheaf job list --where state=failed -o yaml > failed.yaml")]
pub struct List {
    #[command(flatten)]
    labels: Labels,
    /// Only those: name (with * and ?), state, module, priority, owner, label.KEY
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

impl List {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let filter = page::labelled(&self.labels, &self.filter)?;
        let fetch = async |page, filter| client.list_jobs(ListJobs { page, filter }).await;
        let printed = |row: JobRow| async move {
            let name = job_name(&row.name).map_err(Failure::Refused)?;
            Ok::<_, Failure>(page::there(client.job(&name).await)?.map(document))
        };
        page::documented(&filter, &self.page, format, out, (EMPTY, NONE_SUCH), fetch, printed).await
    }
}

impl Listed for JobRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("PROGRESS").number(),
        Column::new("SUBTASKS").number(),
        Column::new("RUNNING").number(),
        Column::new("FAILED").number(),
        Column::new("PRIORITY").number(),
        Column::new("MODULE"),
        Column::new("AGE").number(),
        Column::new("ID").wide().number(),
        Column::new("WAITING").wide().number(),
        Column::new("READY").wide().number(),
        Column::new("FINISHED").wide().number(),
        Column::new("CANCELED").wide().number(),
        Column::new("OWNER").wide(),
        Column::new("LABELS").wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let counts = &self.counts;
        vec![
            self.name.clone(),
            self.state.as_str().to_owned(),
            format!("{}%", self.progress),
            counts.total().to_string(),
            counts.running.to_string(),
            counts.failed.to_string(),
            self.priority.to_string(),
            self.module.clone(),
            when::age_of(now, Some(&self.created_at)),
            self.id.to_string(),
            counts.waiting.to_string(),
            counts.ready.to_string(),
            counts.finished.to_string(),
            counts.canceled.to_string(),
            self.owner.clone().unwrap_or_default(),
            labels(&self.labels),
        ]
    }
}
