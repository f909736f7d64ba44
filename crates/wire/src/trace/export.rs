//! Where spans go: through a bounded queue to a collector, by OTLP over gRPC.

use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracerProvider, Span as Recording, SpanData, SpanExporter as _, SpanProcessor,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

use super::span;
use crate::outward::{Outward, OutwardError};

/// Spans that wait; further ones are dropped.
const QUEUE: usize = 4096;
/// Spans of one call, at most.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a call may take; what it was to take is dropped then.
const WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(3);
/// For what is left when the process ends.
const LAST: Duration = Duration::from_secs(2);

/// Where to, and who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// As [`check_endpoint`] wants it.
    pub endpoint: String,
    /// Whose certificates the collector's may come from where it is reached by `https://`, in PEM; none: as the machine's system
    /// trusts.
    pub authorities: Option<String>,
    /// What the collector calls the program: `service.name`.
    pub service: String,
    /// Which of them: a node's name, `service.instance.id`.
    pub instance: String,
    /// Of the program.
    pub version: String,
}

/// Why nothing is sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// That is no place for traces.
    #[error("{endpoint:?} is no collector's address: {problem}; http://HOST:PORT or https://HOST:PORT")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody can be trusted.
    #[error("prepare TLS for traces: {0}")]
    Outward(#[from] OutwardError),
    /// What the environment's `OTEL_` variables say cannot be used.
    #[error("prepare to send traces: {0}")]
    Settings(#[from] ExporterBuildError),
    /// A process does it once.
    #[error("traces are sent already")]
    Twice,
}

/// Whether traces can go there: `http://HOST:PORT` or `https://HOST:PORT`.
///
/// # Errors
/// What is wrong with it.
pub fn check_endpoint(endpoint: &str) -> Result<(), TraceError> {
    parts(endpoint).map(drop)
}

/// Whether it is by TLS, and `HOST:PORT`.
fn parts(endpoint: &str) -> Result<(bool, &str), TraceError> {
    let wrong = |problem| TraceError::Endpoint { endpoint: sheaf_model::redacted(endpoint), problem };
    let (secure, rest) = match endpoint.trim().split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        _ => return Err(wrong("it begins with neither http:// nor https://")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err(wrong("user and password have no place in it"));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(wrong("gRPC knows no path"));
    }
    let uri: Result<Uri, _> = format!("http://{authority}").parse();
    let uri = uri.map_err(|_| wrong("it cannot be read"))?;
    if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
        return Err(wrong("host and port must be there"));
    }
    Ok((secure, authority))
}

/// Begins to keep spans; whoever calls it runs the exporter. To be called within a runtime, once. May read files.
///
/// # Errors
/// Nothing is kept then.
pub fn start(settings: &Settings) -> Result<Exporter, TraceError> {
    let resource = Resource::builder()
        .with_service_name(settings.service.clone())
        .with_attributes([
            KeyValue::new("service.instance.id", settings.instance.clone()),
            KeyValue::new("service.version", settings.version.clone()),
        ])
        .build();
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_channel(channel(settings)?)
        .with_timeout(WITHIN)
        .with_retry_policy(RetryPolicy::disabled())
        .build()?;
    exporter.set_resource(&resource);
    let (sender, spans) = mpsc::channel(QUEUE);
    let provider =
        SdkTracerProvider::builder().with_resource(resource).with_span_processor(Queue(sender)).build();
    if !span::install(provider.tracer("sheaf")) {
        return Err(TraceError::Twice);
    }
    // So that both are there before anything is.
    exported(0);
    dropped(0);
    Ok(Exporter { spans, exporter, fails: false })
}

/// A connection that is made when the first spans go.
fn channel(Settings { endpoint, authorities, .. }: &Settings) -> Result<Channel, TraceError> {
    let (secure, authority) = parts(endpoint)?;
    let unreadable = |_| TraceError::Endpoint { endpoint: endpoint.clone(), problem: "it cannot be read" };
    // Plain for the library: TLS is the connector's.
    let to = Endpoint::from_shared(format!("http://{authority}")).map_err(unreadable)?;
    let to = to.connect_timeout(CONNECT).timeout(WITHIN).tcp_nodelay(true);
    if !secure {
        return Ok(to.connect_lazy());
    }
    let origin: Result<Uri, _> = format!("https://{authority}").parse();
    let to = match origin {
        Ok(origin) => to.origin(origin),
        Err(_) => to,
    };
    let outward = match authorities {
        Some(authorities) => Outward::trusting(authorities)?,
        None => Outward::system()?,
    };
    let outward = outward.for_http2();
    Ok(to.connect_with_connector_lazy(tower::service_fn(move |uri: Uri| {
        let outward = outward.clone();
        async move {
            let host =
                uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
            let stream = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(0))).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(outward.secure(&host, stream).await?))
        }
    })))
}

/// Takes spans as they end.
#[derive(Debug)]
struct Queue(mpsc::Sender<SpanData>);

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Recording, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.0.try_send(span).is_err() {
            dropped(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn exported(spans: usize) {
    metrics::counter!("sheaf_trace_spans_exported_total").increment(spans as u64);
}

fn dropped(spans: usize) {
    metrics::counter!("sheaf_trace_spans_dropped_total").increment(spans as u64);
}

/// Sends what has ended.
#[derive(Debug)]
pub struct Exporter {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    /// The last call failed.
    fails: bool,
}

impl Exporter {
    /// Sends batches until `stop`, then what is left. A collector that does not answer costs spans, and nothing else.
    pub fn run(self, stop: impl Future<Output = ()> + Send + 'static) -> BoxFuture<'static, ()> {
        Box::pin(self.run_until(Box::pin(stop)))
    }

    async fn run_until(mut self, mut stop: BoxFuture<'static, ()>) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let taken = tokio::select! {
                () = &mut stop => break,
                // Dropped, it has taken nothing.
                taken = self.spans.recv_many(&mut batch, BATCH) => taken,
            };
            // Nobody is left who could send any.
            if taken == 0 {
                return;
            }
            if batch.len() < BATCH {
                tokio::select! {
                    () = &mut stop => break,
                    () = sleep(LINGER) => {} // dropping a wait loses nothing
                }
                self.fill(&mut batch);
            }
            let count = batch.len();
            let sent = tokio::select! {
                () = &mut stop => {
                    dropped(count);
                    break;
                }
                // Dropped, nobody knows what of it has arrived: it counts as lost.
                sent = self.send(std::mem::take(&mut batch)) => sent,
            };
            self.said(sent);
        }
        self.rest(batch, LAST).await;
    }

    /// Sends what there is, and no more, for so long at most.
    pub fn finish(mut self, within: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.rest(Vec::new(), within).await })
    }

    async fn rest(&mut self, mut batch: Vec<SpanData>, within: Duration) {
        let all = async {
            loop {
                self.fill(&mut batch);
                if batch.is_empty() {
                    return;
                }
                // Nobody hears of it any more.
                let _ = self.send(std::mem::take(&mut batch)).await;
            }
        };
        // What is not sent by then goes with the process.
        let _ = timeout(within, all).await;
    }

    /// Takes what waits, as long as it fits.
    fn fill(&mut self, batch: &mut Vec<SpanData>) {
        while batch.len() < BATCH
            && let Ok(span) = self.spans.try_recv()
        {
            batch.push(span);
        }
    }

    async fn send(&self, batch: Vec<SpanData>) -> Result<(), String> {
        let count = batch.len();
        let sent = match timeout(WITHIN, self.exporter.export(batch)).await {
            Ok(Ok(())) => {
                exported(count);
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {WITHIN:?}"),
        };
        dropped(count);
        Err(sent)
    }

    /// One line when it begins to fail, one when it goes on.
    fn said(&mut self, sent: Result<(), String>) {
        match sent {
            Err(why) if !self.fails => {
                tracing::warn!(why, "traces do not reach their collector; they are dropped until they do");
                self.fails = true;
            }
            Ok(()) if self.fails => {
                tracing::info!("traces reach their collector again");
                self.fails = false;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_traces_are_told_from_others() {
        for (good, secure) in [
            ("http://localhost:4317", false),
            ("http://localhost:4317/", false),
            ("https://otel.example:443", true),
            ("http://[::1]:4317", false),
            (" http://10.0.0.9:4317 ", false),
        ] {
            assert_eq!(parts(good).map(|(is, _)| is).expect(good), secure, "{good}");
        }
        for (bad, why) in [
            ("localhost:4317", "neither http://"),
            ("grpc://localhost:4317", "neither http://"),
            ("http://localhost", "host and port"),
            ("http://:4317", "http"),
            ("http://localhost:4317/v1/traces", "no path"),
            ("http://me:hunter2@localhost:4317", "user and password"),
        ] {
            let said = check_endpoint(bad).expect_err(bad).to_string();
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }
}
