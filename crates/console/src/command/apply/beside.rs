//! What is applied beside modules and buckets, which go together: backends, sinks and jobs, each by a call of its own.

use sheaf_model::{BackendName, BackendSpec, Document, JobName, ModuleSpec, Revision, SinkSpec};
use sheaf_wire::Client;
use sheaf_wire::backend::ApplyBackend;
use sheaf_wire::sink::ApplySink;

use crate::command::job::{Along, Found, Jobs};
use crate::command::several::applied;
use crate::connect;
use crate::documents::{Source, Written};
use crate::exit::Failure;
use crate::output::Terminal;
use crate::table::Listing;

/// Backends, sinks and jobs, in the order in which they are applied.
#[derive(Default)]
pub(super) struct Beside {
    backends: Vec<BackendSpec>,
    sinks: Vec<SinkSpec>,
    jobs: Jobs,
}

impl Beside {
    /// Those among these documents. What is wrong with them beyond each by itself is a defect more.
    pub(super) fn among(written: &mut Written) -> Self {
        written.each_once();
        let mut beside = Self { jobs: Jobs::among(written), ..Self::default() };
        for (_, document) in written.documents() {
            match document {
                Document::Backend(spec) => beside.backends.push((**spec).clone()),
                Document::Sink(spec) => beside.sinks.push((**spec).clone()),
                Document::Module(_) | Document::Bucket(_) | Document::Job(_) => {}
            }
        }
        beside
    }

    pub(super) fn is_empty(&self) -> bool {
        self.backends.is_empty() && self.sinks.is_empty() && self.jobs.is_empty()
    }

    /// Asks the cluster what is wrong with them, given what comes before them.
    pub(super) async fn check(&mut self, written: &Written, client: &Client) -> Result<Found, Failure> {
        let modules: Vec<&ModuleSpec> = written.sources.iter().flat_map(Source::modules).collect();
        let defective: Vec<BackendName> =
            written.defective("Backend").filter_map(|name| BackendName::new(name).ok()).collect();
        let backends: Vec<&BackendName> =
            self.backends.iter().map(|spec| &spec.name).chain(&defective).collect();
        let along = Along { modules: &modules, backends: &backends, jobs: &[] };
        self.jobs.check(client, &along).await
    }

    /// Asks whether the cluster would take the backends and sinks, with which nothing is wrong.
    pub(super) async fn validate(&self, client: &Client) -> Result<(), Failure> {
        for spec in self.backends.iter().cloned() {
            client.apply_backend(ApplyBackend { spec, request: None, validate_only: true }).await?;
        }
        for spec in self.sinks.iter().cloned() {
            client.apply_sink(ApplySink { spec, request: None, validate_only: true }).await?;
        }
        Ok(())
    }

    /// Applies them, prints what became of each, and adds the jobs to `jobs`.
    pub(super) async fn send(
        self,
        client: &Client,
        out: &mut Terminal,
        listing: &mut Listing,
        jobs: &mut Vec<(JobName, Revision)>,
    ) -> Result<(), Failure> {
        for spec in self.backends {
            let name = spec.name.to_string();
            let ask = ApplyBackend { spec, request: connect::request(), validate_only: false };
            let done = client.apply_backend(ask).await?;
            applied("Backend", &name, &done, out, listing)?;
        }
        for spec in self.sinks {
            let name = spec.name.to_string();
            let ask = ApplySink { spec, request: connect::request(), validate_only: false };
            let done = client.apply_sink(ask).await?;
            applied("Sink", &name, &done, out, listing)?;
        }
        self.jobs.submit(client, out, listing, jobs).await
    }
}
