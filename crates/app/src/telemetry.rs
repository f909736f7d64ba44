//! Logs: lines on stderr, for people or as JSON.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Starts logging. What is logged: `SHEAF_LOG` in the syntax of `tracing`'s filters, by default `info` of Sheaf and
/// `warn` of what it stands on.
pub(crate) fn init(format: LogFormat) {
    let filter = EnvFilter::try_from_env("SHEAF_LOG").unwrap_or_else(|_| {
        EnvFilter::new(
            // openraft repeats every failed message to a member that is down; what matters of it is said by us.
            "warn,openraft=error,sheaf=info,sheaf_agent=info,sheaf_control=info,sheaf_consensus=info,sheaf_store=info,sheaf_wire=info,sheaf_web=info",
        )
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Setting it twice happens in tests only, and the first one stays.
    let _ = match format {
        LogFormat::Pretty => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
