//! The loop around the pure middle: keys, answers, signals and the clock go in, the screen comes out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sheaf_model::Timestamp;
use sheaf_wire::Client;
use signal_hook::consts::{SIGCONT, SIGTSTP};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::ask::{Answer, Ask, Piece};
use super::fetch::{self, News};
use super::key::{self, Key};
use super::link::Link;
use super::state::State;
use super::tty::Tty;
use crate::exit::{Exit, Failure};

/// Between two drawings, however much happens.
const BREATH: Duration = Duration::from_millis(40);
/// Ages on the screen grow by the second.
const SECOND: Duration = Duration::from_secs(1);
/// Keys and answers that wait, at most; whoever brings more waits, too.
const WAITING: usize = 64;

/// Takes the terminal over until somebody has had enough, or a signal comes.
pub(super) async fn run(link: Link, colour: bool) -> Result<Exit, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let tty = Tty::take(colour).map_err(screen)?;
    let (pressed, keys) = mpsc::channel(WAITING);
    let reader = {
        let stop = Arc::clone(&stop);
        tokio::task::spawn_blocking(move || key::read(&io::stdin(), &pressed, &stop))
    };
    let ended = match Shell::new(link, tty) {
        Ok(mut shell) => {
            let ended = shell.run(keys).await;
            shell.fetches.shutdown().await;
            ended
        }
        Err(failure) => Err(failure),
    };
    stop.store(true, Ordering::Relaxed);
    match reader.await {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => ended,
    }
}

fn screen(source: io::Error) -> Failure {
    Failure::Write { what: "the screen".to_owned(), source }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

struct Shell {
    state: State,
    tty: Tty,
    link: Link,
    client: Client,
    /// What is being asked.
    asked: Vec<(Ask, AbortHandle)>,
    fetches: JoinSet<()>,
    send: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
}

impl Shell {
    fn new(link: Link, tty: Tty) -> Result<Self, Failure> {
        let state = State::new(link.address(), now(), tty.size().map_err(screen)?);
        let client = link.client()?;
        let (send, news) = mpsc::channel(WAITING);
        Ok(Self { state, tty, link, client, asked: Vec::new(), fetches: JoinSet::new(), send, news })
    }

    async fn run(&mut self, mut keys: mpsc::Receiver<Key>) -> Result<Exit, Failure> {
        let Signals { mut ends, mut resized, mut resumed } = Signals::new().map_err(screen)?;
        let mut second = interval(SECOND);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut dirty, mut due) = (true, Instant::now());
        loop {
            self.follow();
            // Every arm only waits: what it would have taken stays where it is.
            tokio::select! {
                biased;
                () = end(&mut ends) => return Err(Failure::Interrupted),
                _ = resumed.recv() => {
                    self.tty.again().map_err(screen)?;
                    self.resize()?;
                }
                _ = resized.recv() => self.resize()?,
                key = keys.recv() => {
                    // The terminal is gone.
                    let Some(key) = key else { return Err(Failure::Interrupted) };
                    self.press(key)?;
                    if self.state.done {
                        return Ok(Exit::Done);
                    }
                    due = Instant::now();
                }
                () = sleep_until(due), if dirty => {
                    self.state.now = now();
                    self.tty.draw(&self.state).map_err(screen)?;
                    (dirty, due) = (false, Instant::now() + BREATH);
                    continue;
                }
                Some(news) = self.news.recv() => self.take(news),
                Some(Err(ended)) = self.fetches.join_next(), if !self.fetches.is_empty() => {
                    if ended.is_panic() {
                        std::panic::resume_unwind(ended.into_panic());
                    }
                }
                _ = second.tick() => {}
            }
            dirty = true;
        }
    }

    /// Asks what is wanted now, and nothing else.
    fn follow(&mut self) {
        let wanted = self.state.wanted();
        self.asked.retain(|(ask, fetch)| {
            let stays = wanted.contains(ask);
            if !stays {
                fetch.abort();
            }
            stays
        });
        for ask in wanted {
            if !self.asked.iter().any(|(asked, _)| *asked == ask) {
                let fetch =
                    fetch::keep(self.client.clone(), ask.clone(), self.link.number, self.send.clone());
                self.asked.push((ask, self.fetches.spawn(fetch)));
            }
        }
    }

    fn take(&mut self, news: News) {
        let News { ask, found, link } = news;
        if link != self.link.number {
            return;
        }
        self.state.now = now();
        let moved = match (&ask, &found) {
            (Ask::Cluster, Ok(Piece::Whole(Answer::Cluster(status)))) => {
                self.link.answered(status);
                false
            }
            (Ask::Cluster, Err(error)) => self.link.missed(error),
            _ => false,
        };
        self.state.fold(&ask, found);
        if moved && let Ok(client) = self.link.client() {
            self.client = client;
            self.state.moved(self.link.address());
            self.asked.drain(..).for_each(|(_, fetch)| fetch.abort());
        }
    }

    fn press(&mut self, key: Key) -> Result<(), Failure> {
        self.state.now = now();
        self.state.press(key);
        if std::mem::take(&mut self.state.away) {
            self.tty.leave();
            // Stops here until the shell lets it go on; without a shell it goes on at once.
            let stopped = signal_hook::low_level::raise(SIGTSTP);
            self.tty.again().and(stopped).map_err(screen)?;
            self.resize()?;
        }
        Ok(())
    }

    fn resize(&mut self) -> Result<(), Failure> {
        self.state.size = self.tty.size().map_err(screen)?;
        Ok(())
    }
}

/// The signals that matter here.
struct Signals {
    ends: [Signal; 3],
    resized: Signal,
    resumed: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            ends: [
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
                signal(SignalKind::hangup())?,
            ],
            resized: signal(SignalKind::window_change())?,
            resumed: signal(SignalKind::from_raw(SIGCONT))?,
        })
    }
}

/// One came that ends this.
async fn end([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        // Which of them came first makes no difference.
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
