//! One start of the module's program, and the calls to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, kill_process};
use sheaf_model::{BucketName, Call, Span, Timestamp};
use sheaf_module::host::{CallError, ContextServer, Host};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Seen, Workbench, WorkbenchError};
use crate::checks::ended;
use crate::executor::plan::{self, Place};
use crate::keeper::{Opened, Status, caller, clock, layout, proc};
use crate::keepers::Handle;
use crate::logs::{LogQuery, LogReader, Stream};

/// The epoch of a single-node bucket's process.
const EPOCH: u64 = 1;
/// How long the end of a process may take to be known after its connection broke.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Between two looks at what it has written.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Which of the two kinds of processes of a module it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// To be asked gate 3.
    Gate,
    /// To run the bucket.
    Bucket,
    /// To take a job's subtasks.
    Job,
}

/// A process that has answered Hello.
pub(super) struct Process<'a> {
    bench: &'a Workbench,
    pub(super) host: Host,
    pub(super) handle: Handle,
    name: BucketName,
    /// Its own directory.
    pub(super) dir: PathBuf,
    reader: Reader,
    _context: Option<AbortOnDropHandle<()>>,
}

impl Workbench {
    /// Starts the program and shakes hands.
    pub(super) async fn start(&self, what: For) -> Result<Process<'_>, WorkbenchError> {
        let name = match what {
            For::Gate => BucketName::new("/gate").expect("a path of one word"),
            For::Job => BucketName::new("/job").expect("a path of one word"),
            For::Bucket => self.bucket.name.clone(),
        };
        let (dir, boot) = (self.keepers.program_dir(&name), clock::boot_id());
        let binary = self.binary.to_string_lossy();
        let place = Place { node: &self.node, boot: &boot, dir: &dir, binary: &binary };
        // What is tried lies where it was built: there is no artifact of it yet.
        let mut plan = plan::gate(&self.module, name.clone(), &self.here, None, &place)
            .map_err(|error| WorkbenchError::Module(error.to_string()))?;
        let mut context = None;
        if what == For::Bucket {
            let (socket, task) = self.serve_context(&dir)?;
            context = Some(task);
            let variables = [
                (sheaf_module::CONTEXT, Some(socket.to_string_lossy().into_owned())),
                ("SHEAF_BUCKET", Some(name.to_string())),
                ("SHEAF_REVISION", Some(self.told().revision.to_string())),
                ("SHEAF_EPOCH", self.instance(&dir).epoch.map(|epoch| epoch.to_string())),
            ];
            let set = variables.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            plan.env.extend(set);
        }
        if let (For::Job, Some(job)) = (what, &self.job) {
            plan.env.push(("SHEAF_JOB".to_owned(), job.name.to_string()));
        }
        let reader = Reader::start(self.keepers.output_dir(&name), self.seen.clone());
        let opened = match what {
            For::Gate => Opened::default(),
            For::Bucket | For::Job => {
                self.memory.open(&plan).map_err(|refused| WorkbenchError::Module(refused.text))?
            }
        };
        let plan = if what == For::Gate { plan.without_secrets() } else { plan };
        let handle = self.keepers.spawn_with(plan, opened).await?;
        let socket = self.keepers.module_socket(&handle.status().borrow());
        let until = Instant::now() + Call::Hello.limit().duration();
        let greeted = tokio::select! {
            // Both are looked at anew at the next start.
            greeted = caller::greet(&socket, Call::Hello.limit(), until) => greeted,
            last = handle.ended() => Err(ended(&last)),
        };
        match greeted {
            Ok(host) => Ok(Process { bench: self, host, handle, name, dir, reader, _context: context }),
            Err(why) => {
                // That it ended says more than that the connection broke.
                let last = timeout(LAST_WORDS, handle.ended()).await;
                handle.stop();
                handle.ended().await;
                reader.end().await;
                Err(WorkbenchError::Module(last.map_or(why, |last| ended(&last))))
            }
        }
    }

    /// Who the bucket's process is.
    pub(super) fn instance(&self, dir: &Path) -> sheaf_module::Instance {
        sheaf_module::Instance {
            bucket: self.told(),
            node: plan::node(&self.here),
            epoch: (!self.bucket.multi_node).then_some(EPOCH),
            dir: dir.to_owned(),
        }
    }

    fn serve_context(&self, dir: &Path) -> Result<(PathBuf, AbortOnDropHandle<()>), WorkbenchError> {
        let agent = layout::agent_socket(self.keepers.data_dir());
        let socket = agent.with_file_name("context");
        let _ = std::fs::remove_file(&socket); // of the process before
        let listener = UnixListener::bind(&socket).map_err(|source| WorkbenchError::Io {
            operation: "listen at",
            path: socket.clone(),
            source,
        })?;
        let (server, mut said) = ContextServer::new(self.instance(dir), agent);
        let seen = self.seen.clone();
        let task = tokio::spawn(async move {
            let serve = async {
                if let Err(error) = server.serve(listener).await {
                    let _ = seen.send(Seen::Did(format!("its context ended: {error}"))).await;
                }
            };
            let tell = async {
                while said.changed().await.is_ok() {
                    let status = said.borrow_and_update().status.clone();
                    let _ = seen.send(Seen::Status(status)).await;
                }
            };
            tokio::join!(serve, tell);
        });
        Ok((socket, AbortOnDropHandle::new(task)))
    }
}

/// Why a call came to nothing.
#[derive(Clone, Debug)]
pub(super) struct Wrong {
    /// For people.
    pub(super) why: String,
    /// There was no answer in time.
    pub(super) late: bool,
    /// It was answered, as failed.
    pub(super) answered: bool,
}

impl Process<'_> {
    /// The node, as it is told.
    pub(super) fn node(&self) -> sheaf_module::Node {
        plan::node(&self.bench.here)
    }

    /// The module with its version.
    pub(super) fn module(&self) -> String {
        format!("{}@{}", self.bench.module.name, self.bench.module.version)
    }

    /// A call within its time limit. None: the module does not know it.
    pub(super) async fn within<T>(
        &self,
        call: &str,
        limit: Span,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<Option<T>, Wrong> {
        let wrong = |why, late, answered| Err(Wrong { why, late, answered });
        match timeout(limit.duration(), work).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(CallError::Unimplemented { .. })) => Ok(None),
            Ok(Err(error @ CallError::Broken { .. })) => {
                let last = timeout(LAST_WORDS, self.handle.ended()).await;
                let why = last.map_or_else(|_| error.to_string(), |last| format!("{call}: {}", ended(&last)));
                wrong(why, false, false)
            }
            Ok(Err(error)) => wrong(error.to_string(), false, true),
            Err(_) => wrong(format!("{call}: no answer within {limit}"), true, false),
        }
    }

    /// The limit that the module's document gives a call, or its own.
    pub(super) fn limit(&self, call: Call) -> Span {
        self.bench.module.limit(call)
    }

    /// OnStop, then the signal, within one grace: how the call went, and how the process ended.
    pub(super) async fn stop(self) -> (Result<(), String>, Result<Status, String>) {
        let grace = self.bench.module.stop.grace;
        let until = Instant::now() + grace.duration();
        let told = self.within("OnStop", grace, self.host.on_stop()).await;
        let told = told.map(drop).map_err(|wrong| wrong.why);
        (told, self.end(until).await)
    }

    /// The signal, to the program alone: what it has started is its own to end. At last everything is killed.
    pub(super) async fn end(self, until: Instant) -> Result<Status, String> {
        let stop = self.bench.module.stop;
        let pid = self.handle.status().borrow().pid;
        if let Some(pid) = pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended already; that is what is waited for.
            let _ = kill_process(pid, proc::kernel_signal(stop.signal));
        }
        let last = timeout_at(until, self.handle.ended()).await;
        if last.is_err() {
            let (keepers, name) = (self.bench.keepers.clone(), self.name.clone());
            // What is still alive then is killed by the keeper's own end.
            let _ = tokio::task::spawn_blocking(move || keepers.kill(&name)).await;
            self.handle.ended().await;
        }
        self.reader.end().await;
        last.map_err(|_| {
            format!("it had not ended when its grace of {} was over, and was killed", stop.grace)
        })
    }
}

/// Passes on what the process writes.
struct Reader {
    stop: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Reader {
    fn start(dir: PathBuf, seen: mpsc::Sender<Seen>) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(read(dir, clock::wall(), seen, stop.clone()));
        Self { stop, task: AbortOnDropHandle::new(task) }
    }

    /// When nothing is written any more: the rest.
    async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await; // its panic was said
    }
}

async fn read(dir: PathBuf, since: Timestamp, seen: mpsc::Sender<Seen>, stop: CancellationToken) {
    let query = LogQuery { since: Some(since), ..LogQuery::default() };
    let mut reader = None;
    loop {
        let last = stop.is_cancelled();
        if reader.is_none() {
            reader = LogReader::open(&dir, &query).ok();
        }
        let lines = reader.as_mut().and_then(|reader| reader.batch().ok()).unwrap_or_default();
        if lines.is_empty() {
            if last {
                return;
            }
            tokio::select! {
                // Either way everything is looked at again.
                () = sleep(LOOK_AGAIN) => {}
                () = stop.cancelled() => {}
            }
        }
        for line in lines {
            let it = match line.stream {
                Stream::Stdout => Seen::Output(line.text),
                Stream::Stderr => Seen::Errors(line.text),
            };
            if seen.send(it).await.is_err() {
                return;
            }
        }
    }
}
