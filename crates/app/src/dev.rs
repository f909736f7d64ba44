//! `sheaf dev`: a whole cluster on this machine, with examples, to try things.
//!
//! ```text
//!  run ──► layout (directory, nodes, ports) ──► agents (child processes, one for each node)
//!   │                                             │ ready
//!   │      examples (documents) ──apply──► any node ──► where it runs and why ──► screen
//!   ├──► guard (a child that cleans up if we are killed)
//!   └──► at a signal: agents end, then leftovers (keepers, instances, strays), then the directory if it was temporary
//! ```
//!
//! Nothing here is known to the agents: they are those of any cluster, with a configuration file each.

mod agents;
mod examples;
mod guard;
mod job;
mod layout;
mod leftovers;
mod screen;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use agents::Agents;
use guard::Guard;
use layout::{Home, Node};
use screen::Progress;

/// Run a whole cluster on this machine, with examples, to try things
#[derive(clap::Args, Debug)]
#[command(after_long_help = "\
Ctrl-C stops everything and leaves no process.

Examples:
  sheaf dev
  sheaf dev --nodes 5
  sheaf dev --dir ~/sheaf-dev     # keeps everything; the same command goes on from there")]
pub(crate) struct Dev {
    /// How many nodes [default: 3, or as many as the directory holds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=50))]
    nodes: Option<u16>,
    /// Where everything is kept [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Port of the first node; the others take every tenth after it [default: 7420, or free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65000))]
    port: Option<u16>,
    /// Wait for the end of stdin, then end what is left over in --dir
    #[arg(long, hide = true, requires = "dir")]
    guard: bool,
    /// The guarded directory goes, too
    #[arg(long, hide = true, requires = "guard")]
    temporary: bool,
}

/// Runs until a signal ends it. Call it on the runtime's `block_on` thread, which is the main one: agents get a signal
/// when the thread ends that started them.
///
/// # Errors
/// The cluster does not come up; nothing of it is left then.
pub(crate) async fn run(dev: Dev) -> anyhow::Result<ExitCode> {
    let binary = std::env::current_exe().context("find this binary")?;
    if let (true, Some(dir)) = (dev.guard, &dev.dir) {
        return guard::serve(dir, dev.temporary, &binary).await;
    }
    let mut stops = Stops::new()?;
    let home = Home::open(dev.dir.as_deref()).await?;
    let nodes = layout::plan(&home, dev.nodes, dev.port)?;
    let guard = Guard::start(&binary, &home)?;
    let mut agents = Agents::new(binary.clone());
    let session = Box::pin(session(&home, &nodes, &mut agents));
    let ran = tokio::select! {
        () = stops.next() => Ok(()),
        // What it has started is kept in `agents` and ended below.
        ran = session => ran,
    };
    let ended = end(&home, agents, &binary, &mut stops).await;
    guard.done().await;
    ran.and(ended).and(home.close())?;
    Ok(ExitCode::SUCCESS)
}

/// From the first agent to the screen, then follows the agents; ends with an error only.
async fn session(home: &Home, nodes: &[Node], agents: &mut Agents) -> anyhow::Result<()> {
    let progress = Progress::new();
    for node in nodes {
        agents.start(node)?;
    }
    let client = {
        let ready = Box::pin(examples::ready(nodes, &progress));
        tokio::select! {
            ready = ready => ready?,
            // A start that failed; nothing else is under way.
            ended = agents.ended() => return Err(ended.before_ready()),
        }
    };
    progress.say("registering the examples");
    let notes = examples::apply(&client, home).await?;
    let seen = Box::pin(examples::look(&client, home, &progress)).await?;
    progress.clear();
    let screen = screen::Screen { home, nodes, agents: agents.pids(), seen: &seen, notes: &notes };
    say(&screen.text())?;
    loop {
        let ended = agents.ended().await;
        say(&ended.told(&seen.voters, &agents.pids()))?;
    }
}

/// Ends everything that runs, whoever started it; a second signal makes it quick.
async fn end(
    home: &Home,
    mut agents: Agents,
    binary: &std::path::Path,
    stops: &mut Stops,
) -> anyhow::Result<()> {
    let progress = Progress::new();
    progress.say("stopping the agents, Ctrl-C again kills them");
    tokio::select! {
        () = agents.stop() => {}
        // Those that are left are killed next.
        () = stops.next() => {}
    }
    agents.kill().await;
    progress.say("stopping what they ran, Ctrl-C again kills it");
    let left = {
        let gently = Box::pin(leftovers::end(home.path(), binary));
        tokio::select! {
            left = gently => Some(left?),
            // It can be begun again at any point.
            () = stops.next() => None,
        }
    };
    let left = match left {
        Some(left) => left,
        None => leftovers::kill(home.path(), binary).await,
    };
    progress.clear();
    if !left.is_empty() {
        anyhow::bail!("these processes could not be ended: {left:?}");
    }
    say(&match home.is_temporary() {
        true => "Everything has ended; nothing is left.\n".to_owned(),
        false => format!("Everything has ended; {} is kept.\n", home.path().display()),
    })
}

/// To stdout, at once.
fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Nobody reads any more; the cluster runs on all the same.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write to stdout"),
    }
}

/// The signals that end it.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

impl Stops {
    fn new() -> anyhow::Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("wait for SIGINT")?;
        let terminate = signal(SignalKind::terminate()).context("wait for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    async fn next(&mut self) {
        // Dropping `recv` loses no signal.
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
