//! `sheaf backend …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sheaf_model::document::{backend_value, yaml};
use sheaf_model::view::BackendRow;
use sheaf_model::{BackendName, BackendSpec, Document, NameError, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::backend::{ApplyBackend, DeleteBackend, GotBackend, ListBackends};

use crate::command::page::{self, Printed};
use crate::command::several;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::text::labels;

/// What to do when there is nothing to list.
const EMPTY: &str = "no backends yet; register one: sheaf backend apply -f FILE";
const NONE_SUCH: &str = "no backend is like that; `sheaf backend list` shows all";

/// `sheaf backend …`
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
A backend is an external system that subtasks are sent to, as a pool with a name: no more than `max_running` subtasks of all jobs \
are there at a time, no more than `rate` are begun, and after failures in a row its breaker leaves it alone for a while. A job \
names those that its subtasks may go through in `backends`; each attempt goes through one that has room. A failure of class \
`backend` (said by the module) counts against the backend, and is tried again as the job's `retry` says.

A document:
  kind: Backend
  name: vito
  max_running: 20
  rate: 10 in 1s
  breaker: {failures: 5, pause: 30s..10m}
  config: {url: \"https://openeo.example.org\"}")]
pub enum Backend {
    /// Register backends, or change them
    Apply(Apply),
    /// List backends
    List(List),
    /// How a backend stands; without a name, all of them
    Status(Status),
    /// Delete backends that no job needs any more
    Delete(Delete),
}

/// `sheaf backend apply`
#[derive(Args, Debug)]
pub struct Apply {
    /// Files with documents of kind: Backend, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf backend list`
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    labels: Labels,
    /// Only those: name (with * and ?), state, owner, label.KEY
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf backend status`
#[derive(Args, Debug)]
pub struct Status {
    /// The backend
    #[arg(value_parser = backend_name, value_name = "NAME")]
    name: Option<BackendName>,
    #[command(flatten)]
    list: List,
}

/// `sheaf backend delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// The backends
    #[arg(value_parser = backend_name, required = true, value_name = "NAME")]
    names: Vec<BackendName>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

fn backend_name(text: &str) -> Result<BackendName, String> {
    BackendName::new(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}

impl Backend {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Apply(apply) => apply.run(client, format, out).await,
            Self::List(list) | Self::Status(Status { name: None, list }) => {
                list.run(client, format, out).await
            }
            Self::Status(Status { name: Some(name), .. }) => {
                status(&client.backend(&name).await?, format, out)
            }
            Self::Delete(delete) => delete.run(client, format, out).await,
        }
    }
}

impl Apply {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        // Whoever is asked next knows it: there is nothing to wait for, here and at the end.
        self.wait.already_so();
        let ask = async |spec, validate_only| {
            let ask = ApplyBackend { spec, request: connect::request(), validate_only };
            client.apply_backend(ask).await
        };
        several::apply("Backend", &self.files, format, out, spec, ask).await
    }
}

fn spec(document: &Document) -> Option<&BackendSpec> {
    match document {
        Document::Backend(spec) => Some(spec),
        Document::Module(_) | Document::Bucket(_) | Document::Job(_) | Document::Sink(_) => None,
    }
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let fetch = async |page, filter| client.list_backends(ListBackends { page, filter }).await;
        let document = |row: BackendRow| async move {
            let name = backend_name(&row.name).map_err(Failure::Refused)?;
            let got = page::there(client.backend(&name).await)?;
            Ok::<_, Failure>(got.map(|got| Printed::whole(yaml(&backend_value(&got.spec)))))
        };
        page::documented(
            &page::labelled(&self.labels, &self.filter)?,
            &self.page,
            format,
            out,
            (EMPTY, NONE_SUCH),
            fetch,
            document,
        )
        .await
    }
}

/// What `-o yaml` prints can be applied again.
fn status(got: &GotBackend, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    let GotBackend { spec, row, jobs } = got;
    match format {
        Format::Yaml => out.yaml(&backend_value(spec))?,
        Format::Json => out.json(&got.json())?,
        Format::Name => out.line(&row.name)?,
        Format::Table | Format::Wide => {
            let mut listing = Listing::new(format);
            listing.page(out, std::slice::from_ref(row))?;
            listing.end(out)?;
            if !row.message.is_empty() {
                out.line(&format!("it failed last with: {}", row.message))?;
            }
            if !jobs.is_empty() {
                out.line(&format!("jobs: {}", jobs.join(", ")))?;
            }
        }
    }
    Ok(Exit::Done)
}

impl Listed for BackendRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("STATE"),
        Column::new("RUNNING").number(),
        Column::new("MAX").number(),
        Column::new("RATE"),
        Column::new("FAILURES").number(),
        Column::new("OPEN UNTIL"),
        Column::new("OWNER").wide(),
        Column::new("LABELS").wide(),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            self.state.clone(),
            self.running.to_string(),
            dash(self.max_running.map(|most| most.to_string())),
            dash(self.rate.clone()),
            self.failures.to_string(),
            dash(self.open_until.clone()),
            dash(self.owner.clone()),
            labels(&self.labels),
            self.revision.to_string(),
        ]
    }
}

impl Delete {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        self.wait.already_so();
        let ask =
            async |name| client.delete_backend(DeleteBackend { name, request: connect::request() }).await;
        several::delete("Backend", self.names, ("", self.yes), format, out, ask).await
    }
}
