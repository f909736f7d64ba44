//! The keeper's line to a plugin: a thread with a small runtime of its own, in keepers of plugins only.
//!
//! ```text
//!  keeper's loop ── Call ──► Caller's thread ── one call at a time ──► the module's socket
//!        ▲                        │
//!        └── Heard, and a byte ◄──┴──── context socket ◄── SetStatus ─────── the module's process
//!                                            └── objects, checkpoint … ──► the agent's socket, byte for byte
//! ```
//!
//! There is one for each start of the program, and what it says of a former start is never heard: it is dropped first.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sheaf_model::{Call, Span, Trial};
use sheaf_module::host::{CallError, ContextServer, Host, Said};
use sheaf_module::{Bucket, Instance};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::change::differences;
use super::layout::Sockets;

/// Calls that wait: the engine makes one after the other.
const CALLS: usize = 2;
/// What was heard of calls and not taken: at most one end of each call, so that none is ever lost.
const HEARD: usize = 2 * CALLS + 2;
/// Between two tries to reach a socket that is not there yet.
const CONNECT_AGAIN: Duration = Duration::from_millis(10);
/// Between two lines of status that are passed on.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// A connection that breaks usually does so because the program ended: that is said first, then.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What comes from a plugin.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The call under way has ended.
    Called(Result<(), String>),
    /// It has no answer in time.
    NotAnswered,
    /// The change of its bucket is not for the process that runs.
    NotTaken,
    /// The newest line of status.
    Said(String),
}

/// A call to be made, which it is, how long it may take, and the bucket as it is now.
#[derive(Debug)]
struct Asked {
    number: u64,
    call: Call,
    limit: Span,
    bucket: Bucket,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Caller {
    calls: mpsc::Sender<Asked>,
    /// Of the newest call; the first is 1.
    number: u64,
    /// Calls up to this number are hung up.
    hung_up: watch::Sender<u64>,
    /// With the number of the call that it is about.
    heard: Receiver<(u64, Heard)>,
    /// The newest line of status, until it is taken.
    said: Arc<Mutex<Option<String>>>,
    /// Readable when something was heard.
    wake: UnixStream,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    sockets: Sockets,
}

impl Caller {
    /// Serves the context and is ready to call. Before the program is started.
    pub(crate) fn start(sockets: Sockets, instance: Instance, trial: Option<Trial>) -> io::Result<Self> {
        sockets.clear();
        let listener = UnixListener::bind(&sockets.context)?;
        listener.set_nonblocking(true)?;
        let (calls, asked) = mpsc::channel(CALLS);
        let (tell, heard) = sync_channel(HEARD);
        let (hung_up, hangs_up) = watch::channel(0);
        let said = Arc::new(Mutex::new(None));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        let stop = CancellationToken::new();
        let (socket, agent) = (sockets.module.clone(), sockets.agent.clone());
        let teller = Teller { tell, said: said.clone(), waker };
        let line = Line { socket, agent, instance, trial, hangs_up, teller };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("caller".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    // Everything under way is to end with the start it belongs to.
                    () = stopped.cancelled() => {}
                    () = line.run(listener, asked) => {}
                }
            });
        })?;
        Ok(Self { calls, number: 0, hung_up, heard, said, wake, stop, thread: Some(thread), sockets })
    }

    /// Begins a call about the bucket as it is now; its end is heard.
    pub(crate) fn call(&mut self, call: Call, limit: Span, bucket: Bucket) {
        self.number += 1;
        // A thread that is gone answers nothing; the engine gives the call up by itself.
        let _ = self.calls.try_send(Asked { number: self.number, call, limit, bucket });
    }

    /// Cancels the call under way, if there is one: nothing is heard of it any more.
    pub(crate) fn hang_up(&self) {
        self.hung_up.send_replace(self.number);
    }

    /// What to poll.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What was heard since, without waiting.
    pub(crate) fn hear(&mut self) -> Vec<Heard> {
        let mut buffer = [0; 64];
        while matches!((&self.wake).read(&mut buffer), Ok(read) if read > 0) {}
        let hung_up = *self.hung_up.borrow();
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).take().map(Heard::Said);
        let calls = self.heard.try_iter().filter(|(number, _)| *number > hung_up).map(|(_, heard)| heard);
        said.into_iter().chain(calls).collect()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it has ended; a panic of it was said on stderr
        }
        self.sockets.leave();
    }
}

/// The thread's side.
struct Line {
    socket: PathBuf,
    agent: PathBuf,
    instance: Instance,
    trial: Option<Trial>,
    hangs_up: watch::Receiver<u64>,
    teller: Teller,
}

struct Teller {
    tell: SyncSender<(u64, Heard)>,
    said: Arc<Mutex<Option<String>>>,
    waker: UnixStream,
}

impl Teller {
    /// How a call ended. Never waits.
    fn tell(&self, number: u64, heard: Heard) {
        if self.tell.try_send((number, heard)).is_ok() {
            self.wake();
        }
    }

    /// A line of status, in place of one that was not taken yet.
    fn say(&self, line: String) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
        self.wake();
    }

    fn wake(&self) {
        let _ = (&self.waker).write(&[1]); // a full socket wakes as well
    }
}

impl Line {
    async fn run(self, listener: UnixListener, asked: mpsc::Receiver<Asked>) {
        let listener = match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return self.teller.tell(1, Heard::Called(Err(format!("its context: {error}")))),
        };
        let (server, said) = ContextServer::new(self.instance.clone(), self.agent.clone());
        tokio::join!(
            async {
                if let Err(error) = server.serve(listener).await {
                    eprintln!("sheaf keep {}: its context ended: {error}", self.instance.bucket.name);
                }
            },
            self.pass_on(said),
            self.speak(asked),
        );
    }

    async fn pass_on(&self, mut said: watch::Receiver<Said>) {
        while said.changed().await.is_ok() {
            let status = said.borrow_and_update().status.clone();
            self.teller.say(status);
            sleep(STATUS_EVERY).await;
        }
    }

    async fn speak(&self, mut asked: mpsc::Receiver<Asked>) {
        let mut host = None;
        let mut told = self.instance.bucket.clone();
        let mut hangs_up = self.hangs_up.clone();
        while let Some(Asked { number, call, limit, bucket }) = asked.recv().await {
            let until = Instant::now() + limit.duration();
            let answered = async {
                match (call, &host) {
                    (Call::Hello, _) => {
                        greet(&self.socket, limit, until).await.map(|host| Answer::Greeted(Box::new(host)))
                    }
                    (_, None) => Err(format!("{call}: there was no handshake")),
                    (_, Some(host)) => {
                        match timeout_at(until, self.make(host, call, &told, bucket.clone())).await {
                            Ok(Ok(())) => Ok(Answer::Done),
                            Ok(Err(CallError::Unimplemented { .. })) => Ok(Answer::NotTaken),
                            Ok(Err(error)) => Err(after_last_words(&error).await),
                            Err(_) => Ok(Answer::Late),
                        }
                    }
                }
            };
            let answer = tokio::select! {
                answer = answered => answer,
                // The call ends with what waits for its answer. Nobody wants to hear of it.
                _ = hangs_up.wait_for(|hung_up| *hung_up >= number) => continue,
            };
            let heard = match answer {
                Ok(Answer::NotTaken) => Heard::NotTaken,
                Ok(Answer::Late) => Heard::NotAnswered,
                Ok(Answer::Greeted(found)) => {
                    host = Some(*found);
                    Heard::Called(Ok(()))
                }
                Ok(Answer::Done) => {
                    if call == Call::UpdatedSource {
                        told = bucket;
                    }
                    Heard::Called(Ok(()))
                }
                Err(why) => Heard::Called(Err(why)),
            };
            self.teller.tell(number, heard);
        }
    }

    /// `told` is what the process was told of its bucket, `bucket` what it is now.
    async fn make(&self, host: &Host, call: Call, told: &Bucket, bucket: Bucket) -> Result<(), CallError> {
        match call {
            Call::Hello => Ok(()),
            Call::Init => host.on_init(self.instance.clone()).await,
            Call::NewSource => host.on_new_source(told.clone()).await,
            Call::Resume => host.on_resume(told.clone()).await,
            Call::UpdatedSource => {
                let differences = differences(told, &bucket);
                host.on_updated_source(told.clone(), bucket, differences).await
            }
            Call::PeriodicPoll => host.on_periodic_poll(told.clone()).await,
            Call::Suspend => host.on_suspend().await,
            Call::Delete => host.on_delete().await,
            Call::Decommission => host.on_decommission().await,
            Call::Stop => host.on_stop().await,
            Call::Purge => host.on_purge().await,
            Call::TestSource => {
                let (objects, time) = self.trial.map_or((1, Span(0)), |it| (it.max_objects, it.max_time));
                host.on_test_source(told.clone(), objects, time.0).await
            }
        }
    }
}

/// How a call went that was not hung up.
enum Answer {
    Greeted(Box<Host>),
    Done,
    NotTaken,
    Late,
}

/// Connects as soon as the program listens, and shakes hands. The error is for people.
pub(crate) async fn greet(socket: &Path, limit: Span, until: Instant) -> Result<Host, String> {
    let listening = async {
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            sleep(CONNECT_AGAIN).await;
        }
    };
    if timeout_at(until, listening).await.is_err() {
        let variable = sheaf_module::SOCKET;
        return Err(format!("Hello: nothing listens at {variable} {limit} after its start"));
    }
    let hello = async {
        let host = Host::connect(socket).await?;
        host.hello(sheaf_model::version()).await.map(|()| host)
    };
    match timeout_at(until, hello).await {
        Ok(Ok(host)) => Ok(host),
        Ok(Err(error)) => Err(after_last_words(&error).await),
        Err(_) => Err(format!("Hello: no answer within {limit} of its start")),
    }
}

async fn after_last_words(error: &CallError) -> String {
    if matches!(error, CallError::Broken { .. }) {
        sleep(LAST_WORDS).await;
    }
    error.to_string()
}

impl Sockets {
    /// Takes away all of it.
    pub(crate) fn leave(&self) {
        self.clear();
        let _ = fs::remove_dir(self.dir()); // the program may have left something there
    }

    /// Takes away what a former start, or a former process of this number, has left.
    fn clear(&self) {
        for socket in [&self.module, &self.context] {
            // Nothing is there, or binding says what is wrong.
            let _ = fs::remove_file(socket);
        }
    }
}
