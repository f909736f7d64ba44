//! `/metrics`, as Prometheus reads it.
//!
//! ```text
//!  where something happens ── metrics::counter!, histogram! ──► the recorder ─┐
//!  what stands somewhere ◄── asked when scraped ─── Source ──► Samples ──────┴─► text
//! ```
//!
//! What happens is counted where it happens, and its names stand in [`CATALOGUE`] with what they mean. What stands is asked
//! for when somebody looks, so that a node that leads no more does not go on telling what it knew. Names end in their
//! unit; counters in `_total`.

mod process;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use metrics::Unit;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use samples::Samples;

use crate::fresh::Lately;
use crate::serve::Shared;

/// How often what was counted is put together, scraped or not: unread it would grow.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);
/// Upper bounds of histograms in seconds: a call that is read from memory, one fsync, an election, a deadline.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What kind of thing a name of the [`CATALOGUE`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Seconds, in buckets.
    Histogram,
}

/// Everything that is counted where it happens: name, kind, meaning.
pub const CATALOGUE: [(&str, Kind, &str); 14] = [
    (
        "sheaf_api_request_duration_seconds",
        Kind::Histogram,
        "How long public gRPC calls took that are no streams, by service, method and code, where they were asked.",
    ),
    (
        "sheaf_api_streams_total",
        Kind::Counter,
        "Public gRPC streams that were opened, by service and method.",
    ),
    (
        "sheaf_http_request_duration_seconds",
        Kind::Histogram,
        "How long HTTP requests took until their answer began, by route and status.",
    ),
    (
        "sheaf_raft_proposal_duration_seconds",
        Kind::Histogram,
        "How long changes took from this leader until they were agreed on and applied, by result.",
    ),
    ("sheaf_raft_leaderships_total", Kind::Counter, "How often this node began to lead."),
    (
        "sheaf_late_heartbeats_total",
        Kind::Counter,
        "Heartbeats that this node, leading, heard later than half a lease after the one before.",
    ),
    (
        "sheaf_placements_total",
        Kind::Counter,
        "Single-node buckets that this node, leading, bound to a node.",
    ),
    (
        "sheaf_lease_expirations_total",
        Kind::Counter,
        "Instances that this node killed because their lease was over.",
    ),
    ("sheaf_sink_delivered_total", Kind::Counter, "Events that this node, leading, delivered, by sink."),
    ("sheaf_sink_failures_total", Kind::Counter, "Deliveries that failed on this node, leading, by sink."),
    (
        "sheaf_impostors_total",
        Kind::Counter,
        "Connections that this node gave up as another node answered than the one it dialled.",
    ),
    ("sheaf_session_losses_total", Kind::Counter, "How often this node's session with the leader was over."),
    ("sheaf_trace_spans_exported_total", Kind::Counter, "Spans of traces that a collector took."),
    (
        "sheaf_trace_spans_dropped_total",
        Kind::Counter,
        "Spans of traces that found no room or whose collector did not take them.",
    ),
];

/// What only the agent knows, asked when it is scraped, but not for every one of many scrapes: nobody shows a token for it, and
/// what it asks the leader for costs something.
pub trait Source: Send + Sync + 'static {
    /// Adds what stands now. Must be quick: it is waited for.
    fn collect<'a>(&'a self, samples: &'a mut Samples) -> BoxFuture<'a, ()>;
}

/// Everything that is measured in this process. Clones are the same.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    source: Arc<dyn Source>,
    /// What it said lately.
    standing: Arc<Lately<String>>,
}

impl Metrics {
    /// Counts from now on in this process.
    ///
    /// # Errors
    /// Somebody counts already.
    pub fn install(source: Arc<dyn Source>) -> Result<Self, BuildError> {
        let recorder = builder()?.install_recorder()?;
        describe();
        Ok(Self { recorder, source, standing: Arc::default() })
    }

    /// Counts nothing, for tests: a process has one recorder.
    #[cfg(test)]
    pub(crate) fn silent(source: Arc<dyn Source>) -> Self {
        let recorder = builder().expect("bounds that are not empty").build_recorder();
        Self { recorder: recorder.handle(), source, standing: Arc::default() }
    }

    /// All of it, as Prometheus reads it, without what the dashboard's port adds.
    pub async fn text(&self) -> String {
        self.text_with(Samples::default()).await
    }

    async fn text_with(&self, mut samples: Samples) -> String {
        process::collect(&mut samples);
        let source = self.source.clone();
        let standing = self.standing.look(async move {
            let mut standing = Samples::default();
            source.collect(&mut standing).await;
            standing.to_string()
        });
        let standing = standing.await.unwrap_or_default();
        format!("{}{samples}{standing}", self.recorder.render())
    }

    pub(crate) fn upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BOUNDS)
}

fn describe() {
    for (name, kind, about) in CATALOGUE {
        match kind {
            Kind::Counter => {
                metrics::describe_counter!(name, about);
                // There from the start, so that the first one is an increase.
                if !about.contains(", by ") {
                    metrics::counter!(name).absolute(0);
                }
            }
            Kind::Histogram => metrics::describe_histogram!(name, Unit::Seconds, about),
        }
    }
}

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/metrics", get(scrape))
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    let mut samples = Samples::default();
    let open = shared.options.limits.streams - shared.streams.available_permits();
    samples.gauge(
        "sheaf_http_streams",
        "Streams of events and output that browsers hold open.",
        &[],
        open as f64,
    );
    if let Some(tls) = &shared.tls
        && let Some(end) = tls.not_after()
    {
        let about = "Until when the certificate is good that this port shows; its source is the cluster or the operator.";
        let labels = [("source", if tls.is_operators() { "operator" } else { "cluster" })];
        let name = "sheaf_http_certificate_expiry_timestamp_seconds";
        samples.gauge(name, about, &labels, (end.0 / 1000) as f64);
    }
    let text = shared.metrics.text_with(samples).await;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], Body::from(text)).into_response()
}

/// Counts an answer; what leads nowhere has no route of its own, or names would be without number.
pub(crate) fn served(route: Option<&str>, status: StatusCode, took: Duration) {
    let route = route.unwrap_or("none").to_owned();
    let status = status.as_str().to_owned();
    metrics::histogram!("sheaf_http_request_duration_seconds", "route" => route, "status" => status)
        .record(took);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Source for Counting {
        fn collect<'a>(&'a self, samples: &'a mut Samples) -> BoxFuture<'a, ()> {
            let asked = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            samples.gauge("sheaf_test", "A test.", &[], asked as f64);
            Box::pin(tokio::task::yield_now())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_scrapes_ask_once() {
        let metrics = Metrics::silent(Arc::new(Counting::default()));
        let texts = futures::future::join_all((0..100).map(|_| metrics.text())).await;
        assert!(texts.iter().all(|text| text.contains("\nsheaf_test 1\n")), "{}", texts[0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(metrics.text().await.contains("\nsheaf_test 2\n"));
    }
}
