//! Gate 3 of plugins: one process for each module version, asked about every bucket of it.
//!
//! ```text
//!  ask ── waits for Ready ──► Asker's task ──► a keeper ──► the plugin's process
//!   └────────────── CanRunOnThisNode, within its time limit ──────────►┘
//! ```
//!
//! The keeper is like that of an instance, and ends with this agent. A process that ends, or does not answer any more, is
//! replaced after a pause, which doubles as long as none of them has answered anything. Questions wait for the first pause;
//! in longer ones they are unclear, with that reason.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_engine::gates::{CheckAnswer, Here};
use sheaf_engine::node::question::Question;
use sheaf_model::{BucketName, Call, Exit, ModuleRef, ModuleSpec, NodeName};
use sheaf_module::CanRun;
use sheaf_module::host::{CallError, Host};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use super::DEFAULT_TIMEOUT;
use crate::error::text;
use crate::executor::plan::{self, Place};
use crate::keeper::{Status, caller, clock};
use crate::keepers::{Handle, KeeperError, KeeperOptions, Keepers};

/// Answers in a row that did not come in time, until the process is taken for hung.
const HUNG_AFTER: u32 = 3;
/// The first pause before a process is replaced; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long the end of a process may take to be known after its connection broke.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The processes of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Plugins {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keepers: Keepers,
    node: NodeName,
    binary: PathBuf,
    /// Held only to look one up: never across a wait.
    askers: Mutex<BTreeMap<ModuleRef, Arc<Asker>>>,
}

/// The process of one module version, kept up in the background. Dropping it ends the process.
#[derive(Debug)]
struct Asker {
    /// What it was started from.
    origin: Origin,
    state: watch::Receiver<State>,
    /// How often in a row no answer came in time.
    silent: AtomicU32,
    /// Whether the process that is there has answered anything.
    answered: Arc<AtomicBool>,
    replace: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// A version that was deleted and registered again has another one.
#[derive(Debug, PartialEq)]
struct Origin {
    spec: Arc<ModuleSpec>,
    artifact: Option<String>,
}

#[derive(Clone, Debug)]
enum State {
    Starting,
    Ready(Host),
    /// Why there is none for now, and whether there will be one soon.
    Failed {
        why: String,
        soon: bool,
    },
}

impl Plugins {
    /// Below a data directory; `binary` is the keeper's.
    pub(crate) fn open(data_dir: &Path, binary: &Path, node: &NodeName) -> Result<Self, KeeperError> {
        let options = KeeperOptions { data_dir: data_dir.join("gates"), binary: binary.to_owned() };
        let shared = Shared {
            keepers: Keepers::open(options)?,
            node: node.clone(),
            binary: binary.to_owned(),
            askers: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ends and removes what a former life of the agent may have left.
    pub(crate) async fn sweep(&self) {
        let keepers = self.shared.keepers.clone();
        let sweep = move || {
            for found in keepers.scan()? {
                let bucket = found.bucket();
                if let Err(error) = keepers.kill(bucket).and_then(|_| keepers.remove(bucket)) {
                    tracing::warn!(gate = %bucket, error = text(&error), "what asked gate 3 before is still there");
                }
            }
            Ok::<(), KeeperError>(())
        };
        match tokio::task::spawn_blocking(sweep).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = text(&error), "cannot look at who asked gate 3 before"),
            Err(error) => tracing::warn!(%error, "the look at who asked gate 3 before broke off"),
        }
    }

    /// Asks a module about the question's bucket.
    pub(crate) async fn ask(&self, module: &Arc<ModuleSpec>, question: &Question) -> CheckAnswer {
        let Some((spec, revision)) = &question.bucket else {
            return CheckAnswer::Unclear("the plugin was asked about no bucket".to_owned());
        };
        let until = Instant::now() + DEFAULT_TIMEOUT.duration();
        let asker = self.asker(&question.key.module, module, question);
        let mut state = asker.state.clone();
        let comes = |state: &State| matches!(state, State::Starting | State::Failed { soon: true, .. });
        let waited =
            timeout_at(until, state.wait_for(|state| !comes(state))).await.map(|ready| ready.is_ok());
        let now = state.borrow().clone();
        let host = match (waited, now) {
            (Ok(true), State::Ready(host)) => host,
            (_, State::Failed { why, .. }) => return CheckAnswer::Unclear(why),
            (Ok(false), _) => return CheckAnswer::Unclear("the module's process was ended".to_owned()),
            (_, State::Starting | State::Ready(_)) => {
                return CheckAnswer::Unclear(format!(
                    "the module's program has not answered Hello {DEFAULT_TIMEOUT} after its start"
                ));
            }
        };
        asker.ask(&host, until, plan::bucket(spec, *revision), plan::node(&question.here)).await
    }

    /// Nothing is asked of this module any more.
    pub(crate) fn retire(&self, module: &ModuleRef) {
        if self.askers().remove(module).is_some() {
            tracing::info!(%module, "its process for gate 3 is not needed any more");
        }
    }

    fn asker(&self, module: &ModuleRef, spec: &Arc<ModuleSpec>, question: &Question) -> Arc<Asker> {
        let origin = Origin { spec: spec.clone(), artifact: question.artifact.clone() };
        let mut askers = self.askers();
        if let Some(asker) = askers.get(module).filter(|asker| asker.origin == origin) {
            return asker.clone();
        }
        let (tell, state) = watch::channel(State::Starting);
        let (replace, answered) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let keeping = Keeping {
            shared: self.shared.clone(),
            spec: spec.clone(),
            here: question.here.clone(),
            artifact: question.artifact.clone(),
            tell,
            replace: replace.clone(),
            answered: answered.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(keeping.run()));
        let asker =
            Arc::new(Asker { origin, state, silent: AtomicU32::new(0), answered, replace, _task: task });
        askers.insert(module.clone(), asker.clone());
        asker
    }

    fn askers(&self) -> std::sync::MutexGuard<'_, BTreeMap<ModuleRef, Arc<Asker>>> {
        self.shared.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    async fn ask(
        &self,
        host: &Host,
        until: Instant,
        bucket: sheaf_module::Bucket,
        node: sheaf_module::Node,
    ) -> CheckAnswer {
        let answer = timeout_at(until, host.can_run_on_this_node(bucket, node)).await;
        if answer.is_ok() {
            self.silent.store(0, Ordering::Relaxed);
        } else if self.silent.fetch_add(1, Ordering::Relaxed) + 1 >= HUNG_AFTER {
            self.silent.store(0, Ordering::Relaxed);
            self.replace.notify_one();
        }
        if matches!(answer, Ok(Ok(_))) {
            self.answered.store(true, Ordering::Relaxed);
        }
        match answer {
            Ok(Ok(CanRun::Yes)) => CheckAnswer::Holds,
            Ok(Ok(CanRun::No(reason))) => CheckAnswer::Fails(reason),
            Ok(Err(error @ CallError::Broken { .. })) => CheckAnswer::Unclear(self.why_broken(&error).await),
            Ok(Err(error)) => CheckAnswer::Unclear(error.to_string()),
            Err(_) => CheckAnswer::Unclear(format!("CanRunOnThisNode: no answer within {DEFAULT_TIMEOUT}")),
        }
    }

    /// A connection that breaks usually does so because the process ended, and that says more.
    async fn why_broken(&self, error: &CallError) -> String {
        let mut state = self.state.clone();
        let failed = state.wait_for(|state| matches!(state, State::Failed { .. }));
        match timeout(LAST_WORDS, failed).await.map(|state| state.map(|state| state.clone())) {
            Ok(Ok(State::Failed { why, .. })) => why,
            _ => error.to_string(),
        }
    }
}

/// The background of an [`Asker`].
struct Keeping {
    shared: Arc<Shared>,
    spec: Arc<ModuleSpec>,
    here: Arc<Here>,
    artifact: Option<String>,
    tell: watch::Sender<State>,
    replace: Arc<Notify>,
    answered: Arc<AtomicBool>,
}

impl Keeping {
    async fn run(self) {
        let mut pause = PAUSE_MIN;
        loop {
            self.answered.store(false, Ordering::Relaxed);
            self.tell.send_replace(State::Starting);
            let why = match self.start().await {
                Ok((handle, host)) => {
                    self.tell.send_replace(State::Ready(host));
                    self.until_it_ends(&handle).await
                }
                Err(why) => why,
            };
            if self.answered.load(Ordering::Relaxed) {
                pause = PAUSE_MIN;
            }
            tracing::warn!(module = %self.spec.name, version = %self.spec.version, why, "cannot be asked gate 3");
            self.tell.send_replace(State::Failed { why, soon: pause == PAUSE_MIN });
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The error is for people.
    async fn start(&self) -> Result<(Handle, Host), String> {
        let name = directory(&self.spec).ok_or("the module's version cannot be a directory's name")?;
        let keepers = &self.shared.keepers;
        let (dir, boot) = (keepers.program_dir(&name), clock::boot_id());
        let binary = self.shared.binary.to_string_lossy();
        let place = Place { node: &self.shared.node, boot: &boot, dir: &dir, binary: &binary };
        let plan = plan::gate(&self.spec, name, &self.here, self.artifact.as_deref(), &place);
        let plan = plan.map_err(|error| error.to_string())?.without_secrets();
        let handle = keepers.spawn(plan).await.map_err(|error| text(&error))?;
        let mut status = handle.status();
        let until = Instant::now() + Call::Hello.limit().duration();
        let socket = keepers.module_socket(&status.borrow_and_update());
        tokio::select! {
            // Both are looked at anew at the next start.
            greeted = caller::greet(&socket, Call::Hello.limit(), until) => match greeted {
                Ok(host) => Ok((handle, host)),
                Err(why) if status.borrow().end.is_none() => {
                    handle.stop();
                    Err(why)
                }
                Err(_) => Err(ended(&handle.ended().await)),
            },
            last = handle.ended() => Err(ended(&last)),
        }
    }

    async fn until_it_ends(&self, handle: &Handle) -> String {
        tokio::select! {
            last = handle.ended() => ended(&last),
            () = self.replace.notified() => {
                handle.stop();
                handle.ended().await;
                format!("CanRunOnThisNode: {HUNG_AFTER} answers in a row did not come within {DEFAULT_TIMEOUT}")
            }
        }
    }
}

/// How a process ended, with its last lines of output.
pub(crate) fn ended(last: &Status) -> String {
    let (first, lines) = last.message.split_once('\n').unwrap_or((&last.message, ""));
    let how = match last.exit {
        Some(exit) if exit != Exit::NotStarted => format!("the module's program ended: {exit}"),
        _ => format!("the module's program could not be started: {first}"),
    };
    let lines: Vec<&str> = lines.lines().collect();
    let tail = &lines[lines.len().saturating_sub(3)..];
    if tail.is_empty() { how } else { format!("{how}; it said last: {}", tail.join("; ")) }
}

/// Its process's directory is named like a bucket's: after the module and its version, whose `+` no bucket may have.
fn directory(spec: &ModuleSpec) -> Option<BucketName> {
    let version = spec.version.as_str();
    let version = if version.contains('+') {
        version.bytes().fold("x".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    } else {
        format!("v{version}")
    };
    BucketName::new(&format!("/{}/{version}", spec.name)).ok()
}
