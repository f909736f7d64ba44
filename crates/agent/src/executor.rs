//! Carries out what the node decides about instances: keepers spawned, stopped and killed, things sworn, directories
//! removed. Never waits: everything that takes time is a task, and its end is an [`Outcome`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use sheaf_engine::keep::Fence;
use sheaf_engine::node::{Action, Birth, Done, Found as NodeFound, Input, Seen};
use sheaf_engine::reconcile::Origin;
use sheaf_model::{BootId, BucketName, Epoch, LeaseSettings, NodeName, Phase, Span};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::error::{AgentError, text};
use crate::keeper::{Opened, Plan, Status, clock};
use crate::keepers::{Found, Handle, KeeperError, Keepers};
use crate::secrets::Secrets;

mod lease;
mod living;
mod origin;
pub(crate) mod plan;
mod remove;
mod renew;
mod start;
mod task;
#[cfg(test)]
mod tests;

pub(crate) use origin::StartedFrom;
use task::{blocking, listen, patiently};

/// Keepers spawned, fences written and directories removed at a time: enough for any disk, gentle to a small machine.
const AT_ONCE: usize = 32;
/// Instances that are told their end at a time although nothing of them runs: each may be a plugin that is started for it.
const TOLD_AT_ONCE: usize = 8;
/// Beyond its grace, until a keeper that was told to stop is taken for hung.
const HUNG_AFTER: Span = Span::seconds(5);
/// How long a keeper may take to answer an agent that has just started: other instances' leases are running out.
const ADOPT_WITHIN: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Executor {
    shared: Arc<Shared>,
    held: BTreeMap<BucketName, Held>,
    tasks: JoinSet<Outcome>,
    /// What is being started: its keeper may not hold the bucket yet.
    starting: BTreeSet<BucketName>,
    /// How long a lease lasts, as far as is known.
    ttl: Span,
    serial: u64,
}

/// What every task may use.
#[derive(Debug)]
struct Shared {
    keepers: Keepers,
    node: NodeName,
    boot: BootId,
    binary: PathBuf,
    /// None: it starts nothing.
    secrets: Option<Secrets>,
    /// Closed when nothing more is to be begun.
    slots: Semaphore,
    /// Of those that are only told their end.
    farewells: Semaphore,
}

impl Shared {
    /// The secrets that a plan leaves open, for an instance of this epoch (none: all nodes run it). The error is for people.
    async fn open(&self, plan: &Plan, epoch: Option<Epoch>) -> Result<Opened, String> {
        match &self.secrets {
            Some(secrets) => secrets.of_plan(plan, epoch).await.map_err(|error| error.to_string()),
            None => Ok(Opened::default()),
        }
    }
}

/// A keeper that lives.
#[derive(Clone, Debug)]
struct Held {
    handle: Arc<Handle>,
    birth: Birth,
    /// What it ran before it was told of the last change, which it may not have taken.
    former: Origin,
    grace: Span,
    /// Whether its program is told things.
    speaks: bool,
    /// The newest question for secrets that is being answered.
    asked: u64,
    /// Tells it apart from a former keeper of the bucket, whose last words may come late.
    serial: u64,
}

/// What a task ended with.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An action is done.
    Done(BucketName, Done),
    /// A start is done: its keeper is there.
    Started(BucketName, Box<Fresh>),
    /// A keeper said something new, or (closed) is gone.
    Said { bucket: BucketName, serial: u64, status: watch::Receiver<Status>, closed: bool },
    /// Its keeper did not answer, and now does or is gone.
    Adopted(BucketName, Option<Box<Fresh>>),
    /// Nothing that the node must know; its keeper says the rest.
    Nothing,
}

/// A keeper that was just spawned or adopted.
#[derive(Debug)]
pub(crate) struct Fresh {
    handle: Handle,
    birth: Birth,
    grace: Span,
    speaks: bool,
}

impl Executor {
    /// Over the keepers of one data directory. `binary` is `${sheaf}`.
    pub(crate) fn new(keepers: Keepers, node: NodeName, boot: BootId, binary: PathBuf) -> Self {
        Self::over(keepers, node, boot, binary, None)
    }

    /// The same, which can give secrets to what it starts.
    pub(crate) fn opening(self, secrets: Secrets) -> Self {
        let Shared { keepers, node, boot, binary, .. } = &*self.shared;
        let (keepers, node, boot, binary) = (keepers.clone(), node.clone(), boot.clone(), binary.clone());
        Self::over(keepers, node, boot, binary, Some(secrets))
    }

    fn over(
        keepers: Keepers,
        node: NodeName,
        boot: BootId,
        binary: PathBuf,
        secrets: Option<Secrets>,
    ) -> Self {
        let (slots, farewells) = (Semaphore::new(AT_ONCE), Semaphore::new(TOLD_AT_ONCE));
        let shared = Shared { keepers, node, boot, binary, secrets, slots, farewells };
        Self {
            shared: Arc::new(shared),
            held: BTreeMap::new(),
            tasks: JoinSet::new(),
            starting: BTreeSet::new(),
            ttl: LeaseSettings::default().ttl,
            serial: 0,
        }
    }

    /// Looks at what an earlier life of the agent has left, and takes over the keepers that live.
    pub(crate) async fn find(&mut self) -> Result<Vec<NodeFound>, AgentError> {
        let shared = self.shared.clone();
        let look = move || -> Result<(Span, Vec<(Found, Fence)>), KeeperError> {
            let all = shared.keepers.scan()?.into_iter();
            let all = all.map(|found| shared.keepers.fence(found.bucket()).map(|fence| (found, fence)));
            Ok((lease::read(shared.keepers.data_dir()), all.collect::<Result<_, _>>()?))
        };
        let looked = blocking(look).await.ok_or(AgentError::Ended("look at the disk"))?;
        let (ttl, all) = looked.map_err(AgentError::Instances)?;
        self.ttl = ttl;
        let alive = all.iter().filter(|(found, _)| matches!(found, Found::Alive { .. }));
        let alive: Vec<BucketName> = alive.map(|(found, _)| found.bucket().clone()).collect();
        let shared = self.shared.clone();
        // Side by side: leases are running out, and one that does not answer must not hold up the others.
        let mut adopting = stream::iter(alive)
            .map(|bucket| {
                let shared = shared.clone();
                async move {
                    let adopted = timeout(ADOPT_WITHIN, start::adopt(&shared, &bucket)).await;
                    let silent = |_| Err(KeeperError::Silent { bucket: bucket.clone() });
                    (adopted.unwrap_or_else(silent), bucket)
                }
            })
            .buffer_unordered(AT_ONCE);
        let mut adopted = BTreeMap::new();
        while let Some((fresh, bucket)) = adopting.next().await {
            let seen = self.adopted(&bucket, fresh);
            adopted.insert(bucket, seen);
        }
        drop(adopting);
        let found = all.into_iter().map(|(found, fence)| {
            let bucket = found.bucket().clone();
            let seen = match found {
                Found::Alive { .. } => adopted.remove(&bucket),
                Found::Dead { plan, status, .. } => {
                    let birth = plan.map_or_else(Birth::unknown, |plan| self.birth(&bucket, &plan));
                    Some(birth.dead(status.as_deref().map(Status::told).as_ref()))
                }
            };
            NodeFound { bucket, seen, fence }
        });
        Ok(found.collect())
    }

    fn birth(&self, bucket: &BucketName, plan: &crate::keeper::Plan) -> Birth {
        origin::read(&self.shared.keepers, bucket).birth(plan, &self.shared.boot)
    }

    fn adopted(&mut self, bucket: &BucketName, fresh: Result<Fresh, KeeperError>) -> Seen {
        let error = match fresh {
            Ok(fresh) => return self.hold(bucket, fresh),
            Err(error) => error,
        };
        let (plan, status) = self.shared.keepers.last(bucket);
        let birth = plan.map_or_else(Birth::unknown, |plan| self.birth(bucket, &plan));
        let told = status.as_ref().map(Status::told);
        if matches!(error, KeeperError::Gone { .. }) {
            return birth.dead(told.as_ref());
        }
        // Nobody else knows its deadline: it may have as long as a lease lasts, or its keeper is hung.
        let birth = Birth { until: birth.until.max(Some(clock::now().after(self.ttl))), ..birth };
        tracing::warn!(%bucket, %error, "its keeper lives and does not answer; asking again");
        self.tasks.spawn(start::adopt_again(self.shared.clone(), bucket.clone()));
        birth.silent(told.as_ref())
    }

    /// Keeps the connection, and listens to what its keeper says.
    fn hold(&mut self, bucket: &BucketName, fresh: Fresh) -> Seen {
        self.serial += 1;
        let Fresh { handle, birth, grace, speaks } = fresh;
        let mut status = handle.status();
        let said = status.borrow_and_update().clone();
        let (handle, former, serial) = (Arc::new(handle), birth.origin, self.serial);
        let held = Held { handle, birth, former, grace, speaks, asked: 0, serial };
        self.tasks.spawn(listen(bucket.clone(), self.serial, status));
        self.held.insert(bucket.clone(), held);
        self.renew(bucket, &said);
        birth.seen(&said.told())
    }

    /// Has a keeper that is about to start its program again given the secrets as they are now, if it asks for them. One from
    /// before an upgrade does not: it is given them as soon as it waits.
    fn renew(&mut self, bucket: &BucketName, said: &Status) {
        let Some(held) = self.held.get_mut(bucket).filter(|_| said.phase == Phase::Backoff) else { return };
        if let Some(asked) = said.asked {
            if asked <= held.asked {
                return;
            }
            held.asked = asked;
        }
        let (handle, epoch) = (held.handle.clone(), held.birth.mode.epoch());
        self.tasks.spawn(renew::renew(self.shared.clone(), handle, bucket.clone(), (epoch, said.asked)));
    }

    /// How long a lease lasts from now on; later lives of the agent must know, too.
    pub(crate) fn lease_lasts(&mut self, ttl: Span) {
        if std::mem::replace(&mut self.ttl, ttl) == ttl {
            return;
        }
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            if let Some(Err(error)) = blocking(move || lease::write(shared.keepers.data_dir(), ttl)).await {
                tracing::warn!(error = text(&error), "how long leases last was not written down");
            }
            Outcome::Nothing
        });
    }

    /// From now on nothing is begun that is not under way.
    pub(crate) fn begin_no_more(&self) {
        self.shared.slots.close();
        self.shared.farewells.close();
    }

    /// Whether keepers are on their way that neither a stand-in nor a later life of the agent could find.
    pub(crate) fn is_starting(&self) -> bool {
        !self.starting.is_empty()
    }

    /// Begins what the node asks for. Some things are done at once.
    pub(crate) fn perform(&mut self, action: Action) -> Option<Input> {
        match action {
            Action::Start(start) => {
                self.starting.insert(start.bucket.name.clone());
                self.tasks.spawn(start::start(self.shared.clone(), start));
            }
            Action::Update(start) => return self.update(start),
            Action::Stop(bucket, why, farewell) => return self.stop(bucket, why, farewell),
            Action::BecomeMulti(bucket, state, epoch) => {
                return Some(self.become_multi(bucket, state, epoch));
            }
            Action::GiveUp(bucket, epoch) => {
                let done = Done::GaveUp(epoch);
                let swear = move |keepers: &Keepers, bucket: &BucketName| keepers.give_up(bucket, epoch);
                self.tasks.spawn(patiently(self.shared.clone(), bucket, done, swear));
            }
            Action::Confirm(bucket, revision) => {
                let done = Done::Confirmed(revision);
                let swear =
                    move |keepers: &Keepers, bucket: &BucketName| keepers.give_up_multi(bucket, revision);
                self.tasks.spawn(patiently(self.shared.clone(), bucket, done, swear));
            }
            Action::Remove(bucket, call) => {
                self.tasks.spawn(remove::remove(self.shared.clone(), bucket, call));
            }
            // One that is not there any more is told when it is again.
            Action::Purge(bucket, revision) => {
                if let Some(held) = self.held.get(&bucket) {
                    held.handle.purge(revision);
                }
            }
            Action::Kill(bucket, epoch) => self.kill(bucket, epoch),
            Action::MoveDeadline(bucket, epoch, until) => self.move_deadline(&bucket, epoch, until),
            Action::Ask(_)
            | Action::WantArtifacts(_)
            | Action::Retire(_)
            | Action::HeartbeatNow
            | Action::Say(_)
            | Action::Note(..) => {}
        }
        None
    }

    /// The next end of a task, as what the node must hear of it. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Input> {
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok(outcome) => {
                    if let Some(input) = self.take(outcome) {
                        return Some(input);
                    }
                }
                Err(error) => tracing::error!(%error, "an action broke off"),
            }
        }
        // Nothing is under way, so nothing will ever come until something is begun.
        std::future::pending().await
    }

    fn take(&mut self, outcome: Outcome) -> Option<Input> {
        match outcome {
            Outcome::Nothing => None,
            Outcome::Done(bucket, done) => {
                self.starting.remove(&bucket);
                let done = match done {
                    Done::Updated(seen) => self.updated(&bucket, seen.observed.origin),
                    done => done,
                };
                Some(Input::Done(bucket, done))
            }
            Outcome::Started(bucket, fresh) => {
                self.starting.remove(&bucket);
                let seen = Box::new(self.hold(&bucket, *fresh));
                Some(Input::Done(bucket, Done::Started(seen)))
            }
            Outcome::Adopted(bucket, fresh) => {
                let seen = match fresh {
                    Some(fresh) => self.hold(&bucket, *fresh),
                    None => {
                        let (plan, status) = self.shared.keepers.last(&bucket);
                        let birth = plan.map_or_else(Birth::unknown, |plan| self.birth(&bucket, &plan));
                        birth.dead(status.as_ref().map(Status::told).as_ref())
                    }
                };
                Some(Input::Seen(bucket, Some(Box::new(seen))))
            }
            Outcome::Said { bucket, serial, mut status, closed } => {
                let held = self.held.get(&bucket).filter(|held| held.serial == serial)?;
                let said = status.borrow_and_update().clone();
                let seen = if closed { held.dead(&said) } else { held.birth.seen(&said.told()) };
                if closed {
                    self.held.remove(&bucket);
                } else {
                    self.renew(&bucket, &said);
                    self.tasks.spawn(listen(bucket.clone(), serial, status));
                }
                Some(Input::Seen(bucket, Some(Box::new(seen))))
            }
        }
    }
}
