//! The whole command line, and the way from it to what it asks for.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use sheaf_agent::Leaving;
use sheaf_console::command::cluster::{ClusterVerb, Init, Restore, Snapshot};
use sheaf_console::command::module::Module;
use sheaf_console::command::module::attempt::Try;
use sheaf_console::{ClientCommand, Format, Terminal};
use sheaf_model::Span;
use tokio::runtime::Runtime;

use crate::agent::Refounded;
use crate::config::Config;
use crate::dev::Dev;
use crate::example::Example;
use crate::signals::{Departure, Signals};
use crate::telemetry::{self, LogFormat, Recent};

/// Sheaf runs harvest and analytic technologies across a fleet of nodes
#[derive(Debug, Parser)]
#[command(name = "sheaf", version = sheaf_model::version(), propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: sheaf_console::Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole cluster on this machine, with examples, to try things
    Dev(Dev),
    /// Run the node agent
    Agent(Agent),
    #[command(flatten)]
    Client(ClientCommand),
    /// After a disaster: make this node the only member of a new cluster that goes on from what it holds
    Recover(Recover),
    /// The programs of the examples
    #[command(subcommand, hide = true)]
    Example(Example),
    /// The keeper of one instance; started by the agent
    #[command(hide = true)]
    Keep,
    /// What runs the subtasks of a node; started by the agent
    #[command(hide = true)]
    Runner,
    /// A module that is part of the binary; started by the agent
    #[command(hide = true)]
    Builtin,
    /// What holds a node's leases while its agent restarts; started by the agent
    #[command(hide = true)]
    StandIn,
}

/// Run the node agent
///
/// The same configuration file serves every node. Without one, the agent is a cluster of one. Keys are overridden by
/// `SHEAF_CONFIG_SECTION_KEY` and by --set.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLE_CONFIG, args_conflicts_with_subcommands = true)]
struct Agent {
    #[command(flatten)]
    how: AgentOptions,
    #[command(subcommand)]
    verb: Option<AgentVerb>,
}

#[derive(Clone, Debug, clap::Args)]
struct AgentOptions {
    /// The configuration file [default: /etc/sheaf/agent.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "SHEAF_CONFIG")]
    config: Option<PathBuf>,
    /// Override a key, e.g. --set lease.ttl=6s
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// How log lines on stderr look
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
    /// End when the parent process ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

#[derive(Debug, Subcommand)]
enum AgentVerb {
    /// Check configuration and surroundings, start nothing: exit 1 when something keeps the agent from starting
    Check(AgentOptions),
    /// Is the agent of this machine ready, that is: does it reach a leader? Exit 1 if not; needs no token
    Ready(ReadyOptions),
    /// Clear the way for the next agent of a service that was stopped; its unit runs it
    #[command(hide = true)]
    Vacate,
    /// Stop the agent of this machine; what it runs goes on, and waits for it for a minute
    Stop(StopOptions),
}

#[derive(Clone, Debug, clap::Args)]
struct ReadyOptions {
    #[command(flatten)]
    how: AgentOptions,
    /// Wait until it is, at most so long (exit 4 when that is over) [default: one look]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().map_err(|error| format!("{}; {}", error.problem, error.remedy))?;
    Ok(span.duration())
}

#[derive(Clone, Debug, clap::Args)]
struct StopOptions {
    #[command(flatten)]
    how: AgentOptions,
    /// Let the single-node buckets of this node go to others first: it will be away for longer
    #[arg(long)]
    release: bool,
}

/// After a disaster: make this node the only member of a new cluster that goes on from what it holds
///
/// For when a majority of the voters is lost for good. Run it on one of those that are left, with its agent stopped, on
/// the one that holds the most (`sheaf cluster status` showed the log's position). What the lost voters acknowledged and
/// this one does not hold is lost. Everything is started anew; nodes that reach this one follow by themselves.
#[derive(Debug, clap::Args)]
struct Recover {
    #[command(flatten)]
    how: AgentOptions,
    /// Say that you mean it
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// Do not ask
    #[arg(long, short = 'y')]
    yes: bool,
}

/// How long what blocks a thread may take before the agent starts again.
const LAST_WORK: Duration = Duration::from_secs(2);

const EXAMPLE_CONFIG: &str = include_str!("../../../deploy/agent.toml");

/// Parses the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Client(ClientCommand::Cluster(ClusterVerb::Snapshot(Snapshot::Restore(restore)))) => {
            restored(&restore)
        }
        Command::Client(ClientCommand::Cluster(ClusterVerb::Init(init))) => initialized(&init),
        Command::Client(ClientCommand::Module(Module::Try(ask))) => attempt(&ask, &cli.options),
        Command::Client(command) => client(command, &cli.options),
        Command::Agent(Agent { how, verb: None }) => begin(how),
        Command::Agent(Agent { verb: Some(verb), .. }) => verb.run(cli.options.output),
        Command::Dev(dev) => match runtime() {
            Ok(runtime) => match runtime.block_on(crate::dev::run(dev)) {
                Ok(code) => code,
                Err(error) => failed(&error),
            },
            Err(error) => failed(&error),
        },
        Command::Recover(Recover { how, yes, .. }) => match load(&how) {
            Ok(config) => here(crate::recover::run(&config, yes, &mut std::io::stdout()), report),
            Err(code) => code,
        },
        Command::Example(example) => example.run(),
        Command::Keep => sheaf_agent::keeper::keep_main(std::env::args_os().skip(2)),
        Command::Builtin => sheaf_builtins::builtin_main(std::env::args_os().skip(2)),
        Command::Runner => sheaf_agent::runner::runner_main(std::env::args_os().skip(2)),
        Command::StandIn => sheaf_agent::stand_in_main(std::env::args_os().skip(2)),
    }
}

fn initialized(ask: &Init) -> ExitCode {
    match load(&offline(ask.config.clone(), ask.set.clone())) {
        Ok(config) => report(crate::init::run(&config, &mut std::io::stdout(), &mut std::io::stderr())),
        Err(code) => code,
    }
}

/// How an agent would be started, for what is done while it is not.
fn offline(config: Option<PathBuf>, set: Vec<String>) -> AgentOptions {
    AgentOptions { config, set, log_format: LogFormat::default(), with_parent: false }
}

fn restored(ask: &Restore) -> ExitCode {
    let how = offline(ask.config.clone(), ask.set.clone());
    match load(&how) {
        Ok(config) => here(crate::restore::run(&config, ask, &mut std::io::stdout()), report),
        Err(code) => code,
    }
}

/// Runs what needs no more than this thread.
fn here<T>(work: impl Future<Output = T>, code: impl FnOnce(T) -> ExitCode) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => code(runtime.block_on(work)),
        Err(error) => failed(&error.into()),
    }
}

fn client(command: ClientCommand, options: &sheaf_console::Options) -> ExitCode {
    let mut terminal = Terminal::of_process();
    let work = async {
        let traces = telemetry::trace_command();
        let ended = sheaf_console::run(command, options, Cli::command(), &mut terminal).await;
        telemetry::farewell(traces).await;
        ended
    };
    here(work, Into::into)
}

fn attempt(ask: &Try, options: &sheaf_console::Options) -> ExitCode {
    let mut terminal = Terminal::of_process();
    match std::env::current_exe().context("find this binary") {
        Ok(binary) => here(crate::attempt::run(ask, &binary, options.output, &mut terminal), Into::into),
        Err(error) => failed(&error),
    }
}

fn begin(how: AgentOptions) -> ExitCode {
    let recent = telemetry::init(how.log_format);
    // Before the configuration is read: what is told from now on is heeded.
    let (runtime, signals) = match attentive() {
        Ok(both) => both,
        Err(error) => return failed(&error),
    };
    match load(&how) {
        Ok(config) => report(agent(runtime, signals, config, recent, how)),
        Err(code) => code,
    }
}

/// A runtime in which signals are listened to.
fn attentive() -> anyhow::Result<(Runtime, Signals)> {
    let runtime = runtime()?;
    let within = runtime.enter();
    let signals = Signals::new()?;
    drop(within);
    Ok((runtime, signals))
}

fn agent(
    runtime: Runtime,
    signals: Signals,
    config: Config,
    recent: Recent,
    how: AgentOptions,
) -> anyhow::Result<()> {
    if how.with_parent {
        sheaf_agent::end_with_parent()?;
    }
    let departure = match (std::process::id(), how.with_parent) {
        (1, _) => Departure::Release(Leaving::Everything),
        (_, true) => Departure::End,
        (_, false) => Departure::Restart,
    };
    let reload = Box::new(move || read(&how));
    // Now: an upgrade may replace it while it runs.
    let program = std::env::current_exe().context("find this binary")?;
    let ended = runtime.block_on(crate::agent::run(config, recent, reload, departure, signals));
    match ended {
        Err(error) if error.is::<Refounded>() => {
            tracing::warn!("{error:#}");
            runtime.shutdown_timeout(LAST_WORK);
            Err(sheaf_agent::run_again(&program)).context("start this program again")
        }
        ended => ended,
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn read(how: &AgentOptions) -> Result<Config, Vec<sheaf_model::Defect>> {
    // A value that is no text cannot be meant for us.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(how.config.as_deref().map(Path::new), environment, &how.set)
}

fn load(how: &AgentOptions) -> Result<Config, ExitCode> {
    read(how).map_err(|defects| {
        let mut stderr = std::io::stderr().lock();
        for defect in defects {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(stderr, "sheaf: {defect}");
        }
        ExitCode::from(2)
    })
}

impl AgentVerb {
    fn run(self, format: Format) -> ExitCode {
        let out = &mut std::io::stdout();
        let how = match &self {
            Self::Check(how)
            | Self::Ready(ReadyOptions { how, .. })
            | Self::Stop(StopOptions { how, .. }) => how,
            Self::Vacate => {
                return report(sheaf_agent::vacate().context("free the control group of the service"));
            }
        };
        let config = match load(how) {
            Ok(config) => config,
            Err(code) => return code,
        };
        match self {
            Self::Check(_) => here(crate::check::run(&config, format, out), |done| match done {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::from(1),
                Err(error) => failed(&error.into()),
            }),
            Self::Ready(ReadyOptions { timeout, .. }) => {
                match crate::ready::run(&config, timeout.unwrap_or_default(), format, out) {
                    Ok(true) => ExitCode::SUCCESS,
                    // As every command says it that has waited in vain.
                    Ok(false) => ExitCode::from(if timeout.is_some() { 4 } else { 1 }),
                    Err(error) => failed(&error),
                }
            }
            Self::Stop(StopOptions { release, .. }) => {
                report(crate::stop::run(&config, release, format, out))
            }
            // Done above: it needs no configuration.
            Self::Vacate => ExitCode::SUCCESS,
        }
    }
}

fn report(result: anyhow::Result<()>) -> ExitCode {
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // The whole chain on one line; no stack trace.
    let _ = writeln!(std::io::stderr().lock(), "sheaf: {error:#}");
    ExitCode::from(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
