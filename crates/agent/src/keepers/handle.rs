//! The handle of one keeper, and the task behind it.
//!
//! ```text
//!  executor ──deadline, stop──► watch<Orders> ──► link ──JSON lines──► keeper
//!           ◄─── watch<Status> ────────────────── link ◄──JSON lines── keeper
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::keep::End;
use sheaf_model::{BootId, Call, Epoch, Moment, Phase, Revision};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::KeeperError;
use crate::keeper::layout::{Layout, Lock, SOCKET};
use crate::keeper::{FromKeeper, KeeperProcess, Opened, Status, ToKeeper, clock, proc};

/// How often it is looked whether a keeper that has closed its connection is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often the same is looked of one that has given its lock back: it is, but for a moment.
const LOOKS: u32 = 10;

/// A connection to one keeper, kept up in the background. Dropping it ends the connection, never the keeper.
#[derive(Debug)]
pub struct Handle {
    orders: watch::Sender<Orders>,
    status: watch::Receiver<Status>,
    _link: AbortOnDropHandle<()>,
}

/// What the keeper is to know; said again on every new connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Orders {
    deadline: Option<(Epoch, BootId, Moment)>,
    /// What it goes on with; said until its status is from there.
    update: Option<Revision>,
    /// What that leaves open; said with it.
    opened: Opened,
    /// The same for the program's next start of its keeper's own; said once on a connection.
    renewed: Option<Renewed>,
    /// What it has collected is to be thrown away; said until its status has it.
    purge: Option<Revision>,
    stop: bool,
    /// Said before the stop.
    farewell: Option<Call>,
}

/// Secrets as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Renewed {
    /// To which question of the keeper's; none: it is from before an upgrade, and has not asked.
    asked: Option<u64>,
    opened: Arc<Opened>,
}

impl Handle {
    pub(super) fn new(wire: Wire, first: Status, layout: Layout, child: Option<Child>) -> Self {
        let (orders, theirs) = watch::channel(Orders::default());
        let (status, ours) = watch::channel(first);
        let link = Link { layout, child, orders: theirs, status };
        Self { orders, status: ours, _link: AbortOnDropHandle::new(tokio::spawn(link.run(wire))) }
    }

    /// Tells the keeper a new deadline; the newest one wins. Never waits.
    pub fn deadline(&self, epoch: Epoch, boot: BootId, until: Moment) {
        self.orders.send_modify(|orders| orders.deadline = Some((epoch, boot, until)));
    }

    /// Tells a plugin's keeper to go on with what was laid out for it, which is of this basis. Never waits.
    pub(crate) fn update(&self, basis: Revision, opened: Opened) {
        self.orders.send_modify(|orders| {
            if orders.update < Some(basis) {
                (orders.update, orders.opened) = (Some(basis), opened);
                // These are the newer ones. A keeper that asks does so again.
                if orders.renewed.as_ref().is_some_and(|renewed| renewed.asked.is_none()) {
                    orders.renewed = None;
                }
            }
        });
    }

    /// Gives the keeper these secrets for when it starts its program again, as the answer to this question of it; none: it does
    /// not ask. The newest question counts. Never waits.
    pub(crate) fn renew(&self, asked: Option<u64>, opened: Opened) {
        self.orders.send_modify(|orders| {
            if orders.renewed.as_ref().is_none_or(|former| former.asked <= asked) {
                orders.renewed = Some(Renewed { asked, opened: Arc::new(opened) });
            }
        });
    }

    /// Tells the keeper of a purge; the newest one counts. Never waits.
    pub(crate) fn purge(&self, revision: Revision) {
        self.orders.send_modify(|orders| orders.purge = orders.purge.max(Some(revision)));
    }

    /// Asks for an orderly end. Never waits; see [`Handle::ended`].
    pub fn stop(&self) {
        self.orders.send_if_modified(|orders| !std::mem::replace(&mut orders.stop, true));
    }

    /// The same of a plugin, which is told this before, unless it is asked to stop already.
    pub fn part(&self, farewell: Call) {
        self.orders.send_if_modified(|orders| {
            if orders.stop {
                return false;
            }
            (orders.stop, orders.farewell) = (true, Some(farewell));
            true
        });
    }

    /// Where the instance is. The channel closes when the keeper is gone and its bucket's lock is free; the last
    /// value then has `end` set ([`End::KeeperLost`] if the keeper was killed).
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Waits for that and returns the last status.
    pub async fn ended(&self) -> Status {
        let mut status = self.status();
        while status.changed().await.is_ok() {}
        status.borrow().clone()
    }
}

/// One connection to a keeper.
#[derive(Debug)]
pub(super) struct Wire {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    /// The renewed secrets that were said.
    renewed: Option<Renewed>,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { lines: BufReader::new(reader).lines(), writer, renewed: None }
    }

    /// What the keeper says next; none: it has closed the connection. Dropping the future loses nothing.
    pub(super) async fn hear(&mut self) -> io::Result<Option<FromKeeper>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&line)?))
    }

    pub(super) async fn say(&mut self, message: &ToKeeper) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }

    /// `basis` is the state that the keeper has said its instance is of; `purges`, that it knows of purges.
    async fn order(&mut self, orders: &Orders, (basis, purges): (Revision, bool)) -> io::Result<()> {
        if let Some((epoch, boot, until)) = orders.deadline.clone() {
            self.say(&ToKeeper::Deadline { epoch, boot, until }).await?;
        }
        if orders.update.is_some_and(|update| update > basis) {
            if !orders.opened.is_empty() {
                self.say(&ToKeeper::Secrets(orders.opened.clone())).await?;
            }
            self.say(&ToKeeper::Update).await?;
        }
        if let Some(renewed) = orders.renewed.as_ref().filter(|it| self.renewed.as_ref() != Some(it)) {
            let opened = (*renewed.opened).clone();
            let message = match renewed.asked {
                Some(asked) => ToKeeper::Renewed { asked, opened },
                None => ToKeeper::Secrets(opened),
            };
            self.say(&message).await?;
            self.renewed = Some(renewed.clone());
        }
        if let Some(revision) = orders.purge.filter(|_| purges) {
            self.say(&ToKeeper::Purge(revision)).await?;
        }
        match orders.farewell {
            _ if !orders.stop => Ok(()),
            Some(call) => self.say(&ToKeeper::Part(call)).await,
            None => self.say(&ToKeeper::Stop).await,
        }
    }
}

struct Link {
    layout: Layout,
    /// The keeper's process, if it is a child of ours.
    child: Option<Child>,
    orders: watch::Receiver<Orders>,
    status: watch::Sender<Status>,
}

impl Link {
    async fn run(mut self, mut wire: Wire) {
        loop {
            if let Err(error) = self.talk(&mut wire).await {
                debug!(%error, bucket = %self.status.borrow().bucket, "connection to a keeper");
            }
            match self.gone_or_again().await {
                Ok(lock) => return self.settle(lock).await,
                Err(again) => wire = again,
            }
        }
    }

    /// What the keeper's last status says of its basis, and of purges.
    fn known(&self) -> (Revision, bool) {
        let status = self.status.borrow();
        (status.basis, status.purges)
    }

    /// Until the connection ends.
    async fn talk(&mut self, wire: &mut Wire) -> io::Result<()> {
        let orders = self.orders.borrow_and_update().clone();
        let known = self.known();
        wire.order(&orders, known).await?;
        loop {
            tokio::select! {
                // Both keep what they have when dropped: a line in the reader, a change as not yet seen.
                heard = wire.hear() => match heard? {
                    Some(FromKeeper::Status(status)) => {
                        self.status.send_replace(*status);
                    }
                    Some(FromKeeper::Busy | FromKeeper::Failed(_)) => {}
                    None => return Ok(()),
                },
                changed = self.orders.changed() => {
                    // The handle is gone; so are we at the next turn.
                    if changed.is_err() { return Ok(()) }
                    let orders = self.orders.borrow_and_update().clone();
                    let known = self.known();
                    wire.order(&orders, known).await?;
                }
            }
        }
    }

    /// The lock, if the keeper is gone; else another connection.
    async fn gone_or_again(&self) -> Result<Lock, Wire> {
        loop {
            match self.layout.try_lock() {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(error) => warn!(%error, "looking after a keeper"),
            }
            if let Ok(stream) = super::connect(&self.layout.instance, SOCKET).await {
                return Err(Wire::new(stream));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The last word: the keeper's, or, if it was killed, ours, after the end of all that it has left.
    async fn settle(mut self, lock: Lock) {
        if let Some(child) = &mut self.child
            && let Err(error) = child.wait().await
        {
            warn!(%error, "waiting for a keeper's process");
        }
        let said = self.status.borrow().clone();
        if self.child.is_none() {
            reap(said.keeper).await;
        }
        let written = self.layout.read_status().ok().flatten().filter(|status| status.keeper == said.keeper);
        let mut last = if said.end.is_some() { said } else { written.unwrap_or(said) };
        if last.end.is_none() {
            self.sweep(&last).await;
            if let Ok(Some(plan)) = self.layout.read_plan() {
                super::conceal_what_is_left(&self.layout, &plan);
            }
            last.phase = Phase::Failed;
            last.message = "its keeper was killed, and the program with it".to_owned();
            last.pid = None;
            last.end = Some(End::KeeperLost);
            last.at = clock::wall();
            if let Err(error) = self.layout.write_status(&last, true) {
                warn!(%error, bucket = %last.bucket, "writing a killed keeper's last status");
            }
        }
        drop(lock);
        self.status.send_replace(last);
    }
}

/// A keeper gives its lock back a moment before it is gone.
async fn reap(keeper: KeeperProcess) {
    for _ in 0..LOOKS {
        if proc::reap_keeper(keeper) {
            return;
        }
        sleep(LOOK_AGAIN).await;
    }
}

impl Link {
    /// Until nothing of what the killed keeper has started is left.
    async fn sweep(&self, last: &Status) {
        loop {
            let (layout, last) = (self.layout.clone(), last.clone());
            let look = move || Ok(super::sweep_once(&layout, Some(&last)));
            match super::off_the_runtime(&self.layout, look).await {
                Ok(left) if left.is_empty() => return,
                Ok(_) => {}
                Err(error) => warn!(%error, "ending what a killed keeper has left"),
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Waits for the first thing a keeper says, which is its status.
pub(super) async fn greet(wire: &mut Wire, layout: &Layout) -> Result<Greeting, KeeperError> {
    let heard = wire.hear().await.map_err(|source| KeeperError::Io {
        operation: "listen to",
        path: layout.socket(),
        source,
    })?;
    Ok(match heard {
        Some(FromKeeper::Status(status)) => Greeting::Status(status),
        Some(FromKeeper::Busy) => Greeting::Busy,
        Some(FromKeeper::Failed(reason)) => Greeting::Failed(reason),
        None => Greeting::Closed,
    })
}

/// See [`greet`].
pub(super) enum Greeting {
    Status(Box<Status>),
    Busy,
    Failed(String),
    Closed,
}

/// Whether a process of an instance's keeper is alive.
pub(super) fn keeper_lives(status: &Status) -> bool {
    status.boot == clock::boot_id() && proc::is_alive(status.keeper)
}
