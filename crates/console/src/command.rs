//! The commands, one file each, and the way to them.

pub mod apply;
pub mod backend;
pub mod bucket;
pub mod cluster;
pub mod completions;
pub mod events;
pub mod job;
pub mod login;
mod logs;
pub mod man;
pub mod module;
pub(crate) mod namesakes;
pub mod node;
mod page;
pub mod query;
mod rows;
pub mod secret;
mod several;
pub mod sink;
pub mod version;

use clap::Subcommand;
use futures::future::LocalBoxFuture;
use sheaf_wire::trace::{self, Kind, Span};

use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::Terminal;
use crate::top::Top;

/// The commands that this crate carries out: those that talk to a cluster, and those about the command line itself.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register documents of any kind
    Apply(apply::Apply),
    /// Buckets: long-running work, on one node or on every available one
    #[command(subcommand)]
    Bucket(bucket::Bucket),
    /// Modules: the technologies that buckets run
    #[command(subcommand)]
    Module(module::Module),
    /// Secrets: what modules must know and nobody else
    #[command(subcommand)]
    Secret(secret::Secret),
    /// Jobs: finite work of many subtasks, each tried until it succeeds
    #[command(subcommand)]
    Job(job::Job),
    /// Backends: external systems that subtasks are sent to
    #[command(subcommand)]
    Backend(backend::Backend),
    /// Sinks: where what happens is delivered to: webhooks, mail, programs
    #[command(subcommand)]
    Sink(sink::Sink),
    /// Nodes: the machines that run the agent
    #[command(subcommand)]
    Node(node::Node),
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(cluster::ClusterVerb),
    /// Show a cluster a token from now on: write it into a profile
    Login(login::Login),
    /// What happened, and what happens
    Events(events::Events),
    /// Watch the cluster on the whole screen: what needs attention, buckets, nodes, jobs, events, logs
    Top(Top),
    /// Ask with SQL: nodes, buckets, jobs, subtasks, attempts, events, sinks
    Query(query::Query),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them into a directory
    Man(man::Man),
    /// Print the version
    Version,
}

/// Carries out a command and says how it ended. `root` is the whole command line of the binary, for completions and
/// the manual; what went wrong has been said on stderr when this returns.
///
/// Boxed, so that all commands are compiled here, and not once more with whoever waits for them.
pub fn run<'a>(
    command: ClientCommand,
    options: &'a Options,
    root: clap::Command,
    out: &'a mut Terminal,
) -> LocalBoxFuture<'a, Exit> {
    Box::pin(run_traced(command, options, root, out))
}

async fn run_traced(
    command: ClientCommand,
    options: &Options,
    root: clap::Command,
    out: &mut Terminal,
) -> Exit {
    let mut span = traced(&command);
    let options = Options { trace: span.as_ref().and_then(Span::context), ..options.clone() };
    let ended = Box::pin(carry_out(command, &options, root, out)).await;
    if let (Some(span), Err(failure)) = (&mut span, &ended) {
        // Its text may quote what is in a document.
        span.failed(&format_args!("exit {}", failure.exit().code()));
    }
    drop(span);
    end(ended, out)
}

/// A trace of the command, or a part of the one that `TRACEPARENT` names, as what runs builds sets it. Nothing of what only
/// looks, or may go on for ever.
fn traced(command: &ClientCommand) -> Option<Span> {
    let name = match command {
        ClientCommand::Apply(_) => "sheaf apply",
        ClientCommand::Bucket(_) => "sheaf bucket",
        ClientCommand::Module(_) => "sheaf module",
        ClientCommand::Secret(_) => "sheaf secret",
        ClientCommand::Job(_) => "sheaf job",
        ClientCommand::Backend(_) => "sheaf backend",
        ClientCommand::Sink(_) => "sheaf sink",
        ClientCommand::Node(_) => "sheaf node",
        ClientCommand::Cluster(_) => "sheaf cluster",
        ClientCommand::Login(_)
        | ClientCommand::Events(_)
        | ClientCommand::Top(_)
        | ClientCommand::Query(_)
        | ClientCommand::Completions(_)
        | ClientCommand::Man(_)
        | ClientCommand::Version => return None,
    };
    let parent = std::env::var("TRACEPARENT").ok().and_then(|text| text.parse().ok());
    Some(trace::begin_as(Kind::Client, name, parent))
}

/// Says on stderr what went wrong, if something did, and how the command ended.
pub fn end(ended: Result<Exit, Failure>, out: &mut Terminal) -> Exit {
    match ended.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe() => Exit::Done,
        Err(Failure::Interrupted) => Exit::Interrupted,
        Err(failure) => {
            out.say(&failure.message());
            failure.exit()
        }
    }
}

async fn carry_out(
    command: ClientCommand,
    options: &Options,
    root: clap::Command,
    out: &mut Terminal,
) -> Result<Exit, Failure> {
    match command {
        ClientCommand::Completions(completions) => completions.run(root, out),
        ClientCommand::Man(man) => man.run(root, out),
        ClientCommand::Version => version::run(options.output, out),
        ClientCommand::Apply(apply) => apply.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Bucket(bucket) => bucket.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Module(module) => module.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Secret(secret) => secret.run(options, out).await,
        ClientCommand::Job(job) => job.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Backend(backend) => {
            backend.run(&connect(options, out).await?, options.output, out).await
        }
        ClientCommand::Sink(sink) => sink.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Node(node) => node.run(&connect(options, out).await?, options.output, out).await,
        ClientCommand::Cluster(verb) => verb.run(options, out).await,
        ClientCommand::Login(login) => login.run(options, out).await,
        ClientCommand::Top(top) => top.run(options, out).await,
        ClientCommand::Query(query) => query.run(options, out).await,
        ClientCommand::Events(events) => events.run(&connect(options, out).await?, options.output, out).await,
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
