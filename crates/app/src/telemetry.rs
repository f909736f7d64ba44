//! What the agent tells of itself: lines on stderr, for people or as JSON; the last of them once more in memory, for a support
//! bundle; and traces, where a collector is named.

mod recent;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use sheaf_wire::outward::Outward;
use sheaf_wire::trace::{self, Exporter, Settings};
use tokio_util::sync::CancellationToken;
use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config::Config;

pub(crate) use recent::Recent;

/// Where programs of OpenTelemetry are told to send traces, the more precise one first.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// In which file they find the authorities whose certificates collectors show, the same way.
const CERTIFICATES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];
/// How, the more precise one first; nothing but `grpc` is spoken here.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
/// How long a command waits for its traces to be taken, after all is done.
const FAREWELL: Duration = Duration::from_millis(700);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Starts logging; the last lines are in what is returned. What is logged: `SHEAF_LOG` in the syntax of `tracing`'s filters,
/// by default `info` of Sheaf and `warn` of what it stands on.
pub(crate) fn init(format: LogFormat) -> Recent {
    let filter = EnvFilter::try_from_env("SHEAF_LOG").unwrap_or_else(|_| {
        EnvFilter::new(
            // openraft repeats every failed message to a member that is down; what matters of it is said by us.
            "warn,openraft=error,sheaf=info,sheaf_agent=info,sheaf_control=info,sheaf_consensus=info,sheaf_store=info,sheaf_wire=info,sheaf_web=info",
        )
    });
    let recent = Recent::default();
    let kept = fmt::layer().with_ansi(false).with_writer(recent.clone());
    // Setting it twice happens in tests only, and the first one stays.
    let _ = tracing_subscriber::registry().with(filter).with(shown(format)).with(kept).try_init();
    recent
}

/// What is written to stderr.
fn shown<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Pretty => Box::new(layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))),
        LogFormat::Json => Box::new(layer.json().flatten_event(true)),
    }
}

/// Where the environment sends traces of this process; none: nowhere, or in a way that is not spoken here.
fn of_environment() -> Option<String> {
    let speaks = set(&PROTOCOLS).is_none_or(|it| it == "grpc");
    set(&ENDPOINTS).filter(|_| speaks && !is_disabled())
}

/// The first of these variables that says something.
fn set(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()))
}

/// Whether the environment wants no traces at all, whatever a file says.
fn is_disabled() -> bool {
    std::env::var("OTEL_SDK_DISABLED").is_ok_and(|it| it.eq_ignore_ascii_case("true"))
}

/// Where to, who sends, and in which file the authorities are that are believed; none: where the environment says.
fn settings(endpoint: String, instance: String, ca_file: Option<PathBuf>) -> anyhow::Result<Settings> {
    let ca_file = ca_file.or_else(|| set(&CERTIFICATES).map(PathBuf::from));
    // A machine may name them for all its programs: without TLS they are nothing to us, whatever is wrong with them.
    let ca_file = ca_file.filter(|_| endpoint.trim_start().starts_with("https://"));
    let authorities = ca_file.as_deref().map(authorities).transpose()?;
    let service = set(&["OTEL_SERVICE_NAME"]).unwrap_or_else(|| "sheaf".to_owned());
    Ok(Settings { endpoint, authorities, service, instance, version: sheaf_model::version().to_owned() })
}

/// The authorities in a file, in PEM, if they can be used.
///
/// # Errors
/// They cannot.
pub(crate) fn authorities(file: &Path) -> anyhow::Result<String> {
    let what = || format!("the authorities that are believed for traces, {}", file.display());
    let pem = std::fs::read_to_string(file).with_context(what)?;
    Outward::trusting(&pem).with_context(what)?;
    Ok(pem)
}

/// Sends the agent's traces until `stop`, if a collector is named. One that cannot be used is no reason not to start.
pub(crate) async fn trace_agent(
    config: Arc<Config>,
    stop: CancellationToken,
) -> (&'static str, anyhow::Result<()>) {
    let stopped = stop.cancelled_owned();
    let wanted = config.otlp.clone().or_else(of_environment).filter(|_| !is_disabled());
    let begun = wanted.map(|to| {
        let settings = settings(to, config.name.to_string(), config.otlp_ca_file.clone())?;
        let exporter = trace::start(&settings)?;
        tracing::info!(to = settings.endpoint, "traces are sent");
        anyhow::Ok(exporter)
    });
    match begun {
        Some(Ok(exporter)) => exporter.run(stopped).await,
        Some(Err(error)) => {
            tracing::warn!("no traces are sent: {error:#}");
            stopped.await;
        }
        None => stopped.await,
    }
    ("traces", Ok(()))
}

/// Keeps the traces of a command, if the environment names a collector. One that cannot be used is not worth a word: it was
/// not asked for by whoever runs the command.
pub(crate) fn trace_command() -> Option<Exporter> {
    let machine = hostname::get().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    trace::start(&settings(of_environment()?, format!("cli@{machine}"), None).ok()?).ok()
}

/// Has them sent.
pub(crate) async fn farewell(exporter: Option<Exporter>) {
    if let Some(exporter) = exporter {
        exporter.finish(FAREWELL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_matter_where_a_collector_is_reached_by_tls() {
        let of = |endpoint: &str| {
            settings(endpoint.to_owned(), "n1".to_owned(), Some(PathBuf::from("/no/such/file.pem")))
        };
        let plain = of("http://localhost:4317").expect("nothing is read");
        assert_eq!(plain.authorities, None);
        let error = of("https://localhost:4317").expect_err("it cannot be read");
        assert!(format!("{error:#}").contains("/no/such/file.pem"), "{error:#}");
    }
}
