//! `sheaf sink …`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use sheaf_model::document::{sink_value, yaml};
use sheaf_model::view::SinkRow;
use sheaf_model::{Document, NameError, SinkName, SinkSpec, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::sink::{ApplySink, DeleteSink, GotSink, ListSinks, TestedSink};

use crate::command::page::{self, Printed};
use crate::command::several;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Labels, Page, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{Column, Listed, Listing};
use crate::text::labels;

/// What to do when there is nothing to list.
const EMPTY: &str = "no sinks yet; register one: sheaf sink apply -f FILE";
const NONE_SUCH: &str = "no sink is like that; `sheaf sink list` shows all";
/// A test may take as long as a sink's longest timeout, and a little.
const TEST_WITHIN: Duration = Duration::from_secs(310);

/// `sheaf sink …`
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
A sink is where events are delivered to as they happen: those of `sheaf events`, and each failed attempt of a subtask as an event \
of kind subtask.failed, or subtask.retried if another follows. The leader delivers, in order and at least once, and goes on where \
it was after a change of leaders; an event has the same `id` whenever it is delivered again. A sink that is down is tried again, \
ever less often, and stops nothing else. History that was dropped for its age before it was delivered is counted as missed.

Documents, one target each:
  kind: Sink
  name: hook
  webhook: {url: \"https://hooks.example.org/sheaf\", secret: \"${secret.hook}\", timeout: 10s}
  filter: {kinds: [\"job.*\", subtask.failed], subjects: [\"ndvi-*\"]}    # globs; nodes, too; left out: all
  ---
  kind: Sink
  name: ops
  mail: {server: \"mail.example.org:587\", from: sheaf@example.org, to: [ops@example.org], digest: 1m,
         user: sheaf, password: \"${secret.mail}\"}                       # security: starttls, tls or none
  filter: {kinds: [job.failed, subtask.failed, node.lost]}
  ---
  kind: Sink
  name: pager
  exec: {command: /usr/local/bin/page, args: [--team, web]}             # events on stdin, a line of JSON each

A webhook is posted {sink, cluster, delivery, test, events: [{id, revision, at, kind, subject, …}]} with the headers Sheaf-Delivery, \
and with a secret Sheaf-Signature: t=SECONDS,v1=HEX, where HEX is HMAC-SHA256(secret, SECONDS + \".\" + body). Mails are digests: \
one for each job and one for all else in each `digest`. Programs run on the node that leads, if its own configuration names them \
in [sinks] exec_allow. Secrets are set with `sheaf secret set NAME`.")]
pub enum Sink {
    /// Register sinks, or change them
    Apply(Apply),
    /// List sinks
    List(List),
    /// How a sink stands; without a name, all of them
    Status(Status),
    /// Deliver one event that says it is a test, and say how that went (exit 1: not delivered)
    Test(Test),
    /// Delete sinks
    Delete(Delete),
}

/// `sheaf sink apply`
#[derive(Args, Debug)]
pub struct Apply {
    /// Files with documents of kind: Sink, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf sink list`
#[derive(Args, Debug)]
pub struct List {
    #[command(flatten)]
    labels: Labels,
    /// Only those: name (with * and ?), target, state, owner, label.KEY
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf sink status`
#[derive(Args, Debug)]
pub struct Status {
    /// The sink
    #[arg(value_parser = sink_name, value_name = "NAME")]
    name: Option<SinkName>,
    #[command(flatten)]
    list: List,
}

/// `sheaf sink test`
#[derive(Args, Debug)]
pub struct Test {
    /// The sink
    #[arg(value_parser = sink_name, value_name = "NAME")]
    name: SinkName,
}

/// `sheaf sink delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// The sinks
    #[arg(value_parser = sink_name, required = true, value_name = "NAME")]
    names: Vec<SinkName>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

fn sink_name(text: &str) -> Result<SinkName, String> {
    SinkName::new(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}

impl Sink {
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
            Self::Status(Status { name: Some(name), .. }) => status(&client.sink(&name).await?, format, out),
            Self::Test(test) => test.run(client, format, out).await,
            Self::Delete(delete) => delete.run(client, format, out).await,
        }
    }
}

impl Apply {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        // Whoever is asked next knows it: there is nothing to wait for, here and at the end.
        self.wait.already_so();
        let ask = async |spec, validate_only| {
            let ask = ApplySink { spec, request: connect::request(), validate_only };
            client.apply_sink(ask).await
        };
        several::apply("Sink", &self.files, format, out, spec, ask).await
    }
}

fn spec(document: &Document) -> Option<&SinkSpec> {
    match document {
        Document::Sink(spec) => Some(spec),
        Document::Module(_) | Document::Bucket(_) | Document::Job(_) | Document::Backend(_) => None,
    }
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let fetch = async |page, filter| client.list_sinks(ListSinks { page, filter }).await;
        let document = |row: SinkRow| async move {
            let name = sink_name(&row.name).map_err(Failure::Refused)?;
            let got = page::there(client.sink(&name).await)?;
            Ok::<_, Failure>(got.map(|got| Printed::whole(yaml(&sink_value(&got.spec)))))
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
fn status(got: &GotSink, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    let GotSink { spec, row } = got;
    match format {
        Format::Yaml => out.yaml(&sink_value(spec))?,
        Format::Json => out.json(&got.json())?,
        Format::Name => out.line(&row.name)?,
        Format::Table | Format::Wide => {
            let mut listing = Listing::new(format);
            listing.page(out, std::slice::from_ref(row))?;
            listing.end(out)?;
            out.line(&format!(
                "delivers to {} {}; everything up to revision {}",
                row.target, row.place, row.cursor
            ))?;
            if let Some(since) = &row.failing_since {
                out.line(&format!("fails since {since}, {} times in a row", row.failures))?;
            }
            if !row.last_error.is_empty() {
                out.line(&format!("last error: {}", row.last_error))?;
            }
            if let Some(next) = &row.next_try {
                out.line(&format!("next try: {next}"))?;
            }
            if let Some(missed) = &row.missed_last {
                let text = "history was dropped before it was delivered";
                out.line(&format!("{text}, {} times; last {missed}", row.missed))?;
            }
        }
    }
    Ok(Exit::Done)
}

impl Listed for SinkRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("TARGET"),
        Column::new("STATE"),
        Column::new("LAG").number(),
        Column::new("BEHIND"),
        Column::new("DELIVERED").number(),
        Column::new("MISSED").number(),
        Column::new("LAST SUCCESS"),
        Column::new("LAST ERROR").wide(),
        Column::new("CURSOR").wide().number(),
        Column::new("OWNER").wide(),
        Column::new("LABELS").wide(),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let dash =
            |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        vec![
            self.name.clone(),
            self.target.clone(),
            self.state.clone(),
            dash(self.lag_events.map(|lag| lag.to_string())),
            dash(self.lag_seconds.map(|seconds| format!("{seconds}s"))),
            self.delivered.to_string(),
            self.missed.to_string(),
            dash(self.last_success.clone()),
            dash(Some(self.last_error.clone())),
            self.cursor.to_string(),
            dash(self.owner.clone()),
            labels(&self.labels),
            self.revision.to_string(),
        ]
    }
}

/// What came of a test.
#[derive(Debug, Serialize)]
struct TestRow {
    name: String,
    /// delivered or failed.
    outcome: String,
    took_ms: u64,
    /// Which node delivered.
    node: String,
    message: String,
}

impl Listed for TestRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("OUTCOME"),
        Column::new("TOOK").number(),
        Column::new("BY NODE"),
        Column::new("MESSAGE"),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let took = format!("{}ms", self.took_ms);
        vec![self.name.clone(), self.outcome.clone(), took, self.node.clone(), self.message.clone()]
    }
}

impl Test {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let TestedSink { delivered, message, took, node } =
            client.with_deadline(TEST_WITHIN).test_sink(&self.name).await?;
        if !delivered {
            out.say(&format!("sink {} was not delivered to: {message}", self.name));
        }
        let outcome = if delivered { "delivered" } else { "failed" }.to_owned();
        let row = TestRow { name: self.name.to_string(), outcome, took_ms: took.0, node, message };
        let mut listing = Listing::new(format);
        listing.page(out, &[row])?;
        listing.end(out)?;
        Ok(if delivered { Exit::Done } else { Exit::Error })
    }
}

impl Delete {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        self.wait.already_so();
        let ask = async |name| client.delete_sink(DeleteSink { name, request: connect::request() }).await;
        several::delete("Sink", self.names, ("", self.yes), format, out, ask).await
    }
}
