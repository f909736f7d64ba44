//! What holds the node's leases while its agent restarts: a small process of the same binary.
//!
//! ```text
//!  agent that stops ──spawns, Orders──► stand-in ──ready──► the agent ends
//!                                         ├── heartbeats of the same life ──► the leader
//!                                         └── acknowledged deadlines ───────► keepers
//!  its next life ───stand-in.sock──────►  stops sending ──gone──► the next life begins
//! ```
//!
//! It is the second enforcer of every lease, as the agent was. It starts nothing, gives nothing up and watches nothing;
//! for the cluster the node goes on as it was, with the same ttl, and fails over as ever if the machine dies.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use sheaf_engine::gates::Here;
use sheaf_engine::node::{self, Action, Identity, Input, NodeState};
use sheaf_model::session::ToLeader;
use sheaf_model::{BootId, ClusterId, Contact, Facts, Incarnation, NodeId, NodeKey, Revision, Span};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::alarm::Alarm;
use crate::credentials;
use crate::error::AgentError;
use crate::executor::Executor;
use crate::facts::{LoadMeter, Strain};
use crate::given::NOTIFY_SOCKET;
use crate::keeper::clock;
use crate::keepers::{self, KeeperOptions, Keepers};
use crate::link::{self, Link, Signals};

/// Its socket, in the data directory.
const SOCKET: &str = "stand-in.sock";
/// What it complained of, in the data directory.
const LOG: &str = "stand-in.log";
/// How long the agent waits until its stand-in has a session; then it ends all the same.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long a stand-in may take to stop sending; then it is killed.
const GONE_WITHIN: Duration = Duration::from_secs(3);
/// For the session's farewell.
const FAREWELL: Duration = Duration::from_secs(1);
/// Inputs that wait; who has more waits too.
const INPUTS: usize = 256;

/// What a stand-in must know, as JSON on its standard input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) key: NodeKey,
    pub(crate) boot: BootId,
    pub(crate) incarnation: Incarnation,
    /// The process it stands in for.
    pub(crate) agent: u32,
    pub(crate) facts: Facts,
    /// Where members are; for a binary of an earlier version.
    pub(crate) members: Vec<String>,
    /// The same, and who they are. An agent of an earlier version does not say.
    #[serde(default)]
    pub(crate) contacts: Vec<Contact>,
    pub(crate) binary: PathBuf,
    /// The newest state that the node has seen.
    pub(crate) seen: Revision,
    /// How long it stays when no agent comes.
    pub(crate) lasts: Span,
}

/// Leaves a stand-in, and returns when it has a session, or should have had one.
pub(crate) async fn leave(data_dir: &Path, orders: &Orders) -> io::Result<()> {
    let log = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(data_dir.join(LOG))?;
    let mut child = Command::new(&orders.binary)
        .arg("stand-in")
        .arg(data_dir)
        .current_dir(data_dir)
        .env_remove(NOTIFY_SOCKET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(&serde_json::to_vec(orders)?).await?;
    }
    let Some(output) = child.stdout.take() else { return Ok(()) };
    let mut ready = String::new();
    match timeout(READY_WITHIN, BufReader::new(output).read_line(&mut ready)).await {
        Ok(Ok(0)) => Err(io::Error::other(format!("it ended at once; see {LOG} in the data directory"))),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            tracing::warn!("the stand-in has no session yet; it goes on trying");
            Ok(())
        }
    }
}

/// Ends the stand-in of a former life, if there is one: when this returns it sends nothing more.
pub(crate) async fn relieve(data_dir: &Path) {
    let Ok(mut stream) = keepers::connect(data_dir, SOCKET).await else { return };
    let mut said = Vec::new();
    if let Ok(Ok(_)) = timeout(GONE_WITHIN, stream.read_to_end(&mut said)).await {
        tracing::info!("the stand-in has handed over");
        return;
    }
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
    tracing::warn!(pid = ?pid.map(Pid::as_raw_nonzero), "the stand-in does not hand over; killing it");
    if let Some(pid) = pid {
        // It may have ended by itself just now.
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        // Its end closes the connection.
        let _ = timeout(GONE_WITHIN, stream.read_to_end(&mut said)).await;
    }
}

/// The process: stands in for an agent until the next one comes. `args` are `DATA_DIR`; the orders come on standard
/// input.
pub fn stand_in_main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.map(PathBuf::from);
    let (Some(data_dir), None) = (args.next(), args.next()) else {
        eprintln!("sheaf stand-in: expected DATA_DIR");
        return ExitCode::FAILURE;
    };
    if begin(&data_dir) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn begin(data_dir: &Path) -> bool {
    // Already the leader of a group: then started by hand, and not worth a failure.
    let _ = rustix::process::setsid();
    let orders: Orders = match serde_json::from_reader(io::stdin()) {
        Ok(orders) => orders,
        Err(error) => {
            eprintln!("sheaf stand-in: its orders cannot be read: {error}");
            return false;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stood = runtime.map_err(|source| AgentError::Alarm { source }).and_then(|runtime| {
        let stood = runtime.block_on(stand(data_dir, orders));
        runtime.shutdown_background(); // a disk that hangs must not keep it
        stood
    });
    if let Err(error) = &stood {
        eprintln!("sheaf stand-in: {}", crate::error::text(error));
    }
    stood.is_ok()
}

async fn stand(data_dir: &Path, orders: Orders) -> Result<(), AgentError> {
    let boot = clock::boot_id();
    let listener = listen(data_dir).map_err(|source| AgentError::StandIn { source })?;
    // From here on the next agent finds it. One that came before has said so in the lock, and asks no more.
    if holder(data_dir).is_some_and(|agent| agent != orders.agent) {
        return Ok(());
    }
    let keeper = KeeperOptions { data_dir: data_dir.to_owned(), binary: orders.binary.clone() };
    let keepers = Keepers::open(keeper).map_err(AgentError::Instances)?;
    let mut executor = Executor::new(keepers, orders.facts.name.clone(), boot.clone(), orders.binary.clone());
    let found = executor.find().await?;
    let (inputs_in, inputs) = mpsc::channel(INPUTS);
    let (say, said) = link::messages();
    let signals = Arc::new(Signals::of_a_welcomed_life(orders.seen));
    let (_facts, facts) = watch::channel(orders.facts);
    let members: Vec<Contact> = match orders.contacts {
        contacts if contacts.is_empty() => orders.members.into_iter().map(Contact::anyone).collect(),
        contacts => contacts,
    };
    let transport = credentials::of_node(data_dir)?;
    let link = Link {
        cluster: orders.cluster,
        node: orders.node,
        key: orders.key,
        boot: boot.clone(),
        incarnation: orders.incarnation,
        own: None,
        members: Arc::new(move || members.clone()),
        transport,
        meter: Arc::new(LoadMeter::new(data_dir.to_owned(), Arc::new(Strain::default))),
        facts,
        inputs: inputs_in,
        signals: signals.clone(),
        stand_in: true,
        desk: None,
    };
    let stop = CancellationToken::new();
    let session = tokio::spawn(link::session(link, said, CancellationToken::new(), stop.clone()));
    let mut holder = Holder {
        node: NodeState::new(Identity { node: orders.node, boot }, Here::default()),
        executor,
        say,
        signals,
        alarm: Alarm::new().map_err(|source| AgentError::Alarm { source })?,
        inputs,
        is_ready: false,
    };
    holder.step(Input::Found(found));
    let relieved = holder.hold(&listener, orders.lasts.duration()).await;
    stop.cancel();
    drop(holder); // whoever still sends into it finds nobody there
    let _ = timeout(FAREWELL, session).await; // what still hangs ends with the process
    let _ = fs::remove_file(data_dir.join(SOCKET)); // the next one would remove it
    if let Some(mut agent) = relieved? {
        // It learns it from the end of the connection as well.
        let _ = agent.write_all(b"gone\n").await;
    }
    Ok(())
}

/// Only one agent at a time has the data directory, so a socket that is there is a dead one's.
fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    // A socket's path is short; this one's is relative.
    std::env::set_current_dir(data_dir)?;
    match fs::remove_file(SOCKET) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(SOCKET)
}

/// The agent that has the data directory, or had it last: it writes its process into the directory's lock.
fn holder(data_dir: &Path) -> Option<u32> {
    fs::read_to_string(data_dir.join("lock")).ok()?.trim().parse().ok()
}

/// Leases, and the keepers that have them.
struct Holder {
    node: NodeState,
    executor: Executor,
    say: mpsc::Sender<ToLeader>,
    signals: Arc<Signals>,
    alarm: Alarm,
    inputs: mpsc::Receiver<Input>,
    is_ready: bool,
}

impl Holder {
    /// Until an agent comes, whose connection is returned, or for as long as it may.
    async fn hold(
        &mut self,
        listener: &UnixListener,
        lasts: Duration,
    ) -> Result<Option<UnixStream>, AgentError> {
        let over = tokio::time::sleep(lasts);
        tokio::pin!(over);
        loop {
            self.alarm.set(self.node.next_wake()).map_err(|source| AgentError::Alarm { source })?;
            let input = tokio::select! {
                () = &mut over => return Ok(None),
                // Dropped, it has accepted nobody.
                accepted = listener.accept() => {
                    let (agent, _) = accepted.map_err(|source| AgentError::StandIn { source })?;
                    return Ok(Some(agent));
                }
                // A channel keeps what was not taken, and so does the executor.
                Some(input) = self.inputs.recv() => input,
                Some(input) = self.executor.next() => input,
                fired = self.alarm.fired() => {
                    fired.map_err(|source| AgentError::Alarm { source })?;
                    Input::Tick
                }
            };
            if matches!(input, Input::SessionOpened { .. }) && !self.is_ready {
                self.is_ready = true;
                let mut stdout = io::stdout();
                // The agent may not have waited.
                let _ = stdout.write_all(b"ready\n").and_then(|()| stdout.flush());
            }
            self.step(input);
        }
    }

    fn say(&self, message: ToLeader) {
        if self.say.try_send(message).is_err() {
            self.signals.reset.notify_one();
        }
    }

    /// One input, and what a stand-in does about it. The node has seen no state, so it decides about leases only.
    fn step(&mut self, input: Input) {
        for action in node::step(&mut self.node, input, clock::now()) {
            match action {
                Action::MoveDeadline(..) | Action::Kill(..) => drop(self.executor.perform(action)),
                Action::Say(message) => self.say(message),
                _ => {}
            }
        }
    }
}
