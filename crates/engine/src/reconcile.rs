//! The difference between what a node should run of a bucket and what it runs: ordered steps, none when equal.
//!
//! The list leads all the way from what is to what shall be and prints on one line, e.g.
//! `stop (its binding is leaving), give up epoch 7, remove`. Who carries it out does the first step, waits for its
//! end, and asks again: nothing is remembered between two differences.

use std::fmt;

use sheaf_model::{BucketSpec, Digest, Epoch, Revision};

/// By which right an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Single-node: under this epoch, as long as its lease lasts.
    Single(Epoch),
    /// Multi-node: from the replicated state at this revision.
    Multi(Revision),
}

impl Mode {
    /// The epoch, if it is single-node.
    pub const fn epoch(self) -> Option<Epoch> {
        match self {
            Self::Single(epoch) => Some(epoch),
            Self::Multi(_) => None,
        }
    }
}

/// What an instance is started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The bucket's revision.
    pub revision: Revision,
    /// The newest state of intent; an instance from an earlier one may have to be started anew.
    pub basis: Revision,
    /// [`content`] of the bucket's spec.
    pub content: u64,
    /// What runs while its bucket changes: the [`program`], if it takes changes of its bucket as it runs; the `content`, if
    /// only how often it is polled can change so. None: nothing of it can, or it is not known.
    pub live: Option<u64>,
    /// Its module's artifact, which is not removed while it runs.
    pub artifact: Option<Digest>,
}

impl Origin {
    /// Whether an instance started from `self` must be started anew to be as `wanted`.
    ///
    /// A new release that changes only where the bucket runs (its rules, say) leaves its instances alone; a restart
    /// that was asked for does not.
    pub fn outdated(self, wanted: Self) -> bool {
        let same_but_released = wanted.basis == wanted.revision && wanted.content == self.content;
        wanted.basis > self.basis && !same_but_released
    }

    /// Whether an instance started from `self` is to be told of `wanted` as it runs: the same that runs, a later release, and
    /// no restart that was asked for.
    pub fn is_told(self, wanted: Self) -> bool {
        let released = wanted.basis > self.basis && wanted.basis == wanted.revision;
        released && wanted.live.is_some() && wanted.live == self.live
    }
}

/// A number that tells apart what an instance of the bucket would run: its module's version and its config.
/// Equal specs give equal numbers on every node and in every version (FNV-1a).
pub fn content(spec: &BucketSpec) -> u64 {
    let module = spec.module.to_string();
    fingerprint(&[module.as_bytes(), spec.config.as_str().as_bytes()])
}

/// A number that tells apart which program a bucket runs: its module's version. As for [`content`].
pub fn program(spec: &BucketSpec) -> u64 {
    fingerprint(&[spec.module.to_string().as_bytes()])
}

/// FNV-1a of all parts, each ended by a byte that no UTF-8 text has.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().chain(&[0xff]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What shall be of a bucket on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// What shall run; the reason says why nothing shall.
    pub run: Run,
    /// This epoch is to be given up once nothing of it is alive.
    pub give_up: Option<Epoch>,
    /// That nothing multi-node is left up to here is to be confirmed, before anything else is started.
    pub confirm: Option<Revision>,
    /// The instance's directory is of no more use.
    pub remove: bool,
    /// Why nothing may be started just now; what runs goes on.
    pub hold: Option<&'static str>,
}

/// See [`Desired::run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Nothing, and why.
    Nothing(&'static str),
    /// This.
    Want(Mode, Origin),
}

impl Default for Run {
    fn default() -> Self {
        Self::Nothing("the bucket is gone")
    }
}

/// What there is of a bucket on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// By which right it runs or ran.
    pub mode: Mode,
    /// What it was started from.
    pub origin: Origin,
    /// Where it is in its life.
    pub life: Life,
}

/// See [`Observed::life`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its keeper is there; the program runs, or will again.
    Alive,
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// Nothing of it is alive.
    Dead(Ended),
}

/// Why nothing of an instance is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop: wanted again, it is started again.
    Stopped,
    /// Its lease ended, its keeper or its machine died, the check at exec said no: the same, but not at once.
    Lost,
    /// The program ended and is not to be started again as things stand: it had done its work, or it gave up.
    Finished,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Stop it, gracefully, and why.
    Stop(&'static str),
    /// It goes on without interruption as multi-node from this state, and no longer under this epoch.
    BecomeMulti(Revision, Epoch),
    /// Write down that this epoch is given up.
    GiveUp(Epoch),
    /// Write down that nothing multi-node is left up to this revision.
    Confirm(Revision),
    /// Tell it that it runs this from now on.
    Update(Mode, Origin),
    /// Start it.
    Start(Mode, Origin),
    /// Remove its directory.
    Remove,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stop(why) => write!(f, "stop ({why})"),
            Self::BecomeMulti(state, epoch) => {
                write!(f, "go on as multi-node from state {state}, not under epoch {epoch}")
            }
            Self::GiveUp(epoch) => write!(f, "give up epoch {epoch}"),
            Self::Confirm(revision) => write!(f, "confirm that nothing multi-node is left up to {revision}"),
            Self::Update(_, to) => write!(f, "tell it of revision {}", to.revision),
            Self::Start(Mode::Single(epoch), from) => {
                write!(f, "start revision {} under epoch {epoch}", from.revision)
            }
            Self::Start(Mode::Multi(_), from) => write!(f, "start revision {}", from.revision),
            Self::Remove => f.write_str("remove"),
        }
    }
}

/// The steps from `observed` to `desired`, in order.
pub fn diff(desired: &Desired, observed: Option<&Observed>) -> Steps {
    let mut steps = Vec::new();
    let alive = observed.filter(|it| it.is_alive());
    let finished = |mode, origin| observed.is_some_and(|it| it.is_finished(mode, origin));
    let mut stays = false;
    if let Some(it) = alive {
        match fate(desired, it) {
            Fate::Stays => stays = true,
            Fate::Becomes(state, epoch) => {
                stays = true;
                steps.push(Step::BecomeMulti(state, epoch));
            }
            Fate::Stops(_) if it.life == Life::Stopping => return Steps(steps), // it is under way
            Fate::Stops(why) => steps.push(Step::Stop(why)),
        }
    }
    if stays {
        if let (Run::Want(mode, origin), Some(it), None) = (desired.run, alive, desired.hold)
            && it.origin.is_told(origin)
        {
            steps.push(Step::Update(mode, origin));
        }
        return Steps(steps);
    }
    steps.extend(desired.give_up.map(Step::GiveUp));
    steps.extend(desired.confirm.map(Step::Confirm));
    match desired.run {
        Run::Want(mode, origin) if desired.hold.is_none() && !finished(mode, origin) => {
            steps.push(Step::Start(mode, origin));
        }
        Run::Nothing(_) if desired.remove && observed.is_some() => steps.push(Step::Remove),
        Run::Want(..) | Run::Nothing(_) => {}
    }
    Steps(steps)
}

/// What becomes of an instance that is alive.
enum Fate {
    Stays,
    Becomes(Revision, Epoch),
    Stops(&'static str),
}

fn fate(desired: &Desired, it: &Observed) -> Fate {
    let (mode, origin) = match desired.run {
        Run::Nothing(why) => return Fate::Stops(why),
        Run::Want(mode, origin) => (mode, origin),
    };
    if let (Mode::Multi(state), Some(ending)) = (it.mode, desired.confirm)
        && state <= ending
    {
        return Fate::Stops("multi-node has ended");
    }
    if it.life == Life::Stopping {
        return Fate::Stops("it is stopping");
    }
    match (it.mode, mode) {
        (Mode::Single(has), Mode::Single(wants)) if has != wants => Fate::Stops("another epoch"),
        (Mode::Multi(_), Mode::Single(_)) => Fate::Stops("the bucket is single-node now"),
        _ if it.origin.outdated(origin) && !it.origin.is_told(origin) && desired.hold.is_none() => {
            Fate::Stops("changed")
        }
        (Mode::Single(_), Mode::Multi(_)) if desired.confirm.is_some() => Fate::Stops("multi-node has ended"),
        (Mode::Single(epoch), Mode::Multi(state)) => Fate::Becomes(state, epoch),
        (Mode::Single(_), Mode::Single(_)) | (Mode::Multi(_), Mode::Multi(_)) => Fate::Stays,
    }
}

impl Observed {
    /// Whether anything of it may be alive.
    pub const fn is_alive(&self) -> bool {
        !matches!(self.life, Life::Dead(_))
    }

    /// Whether what is wanted has run already and ended for good.
    pub fn is_finished(&self, mode: Mode, origin: Origin) -> bool {
        let same_right = match (self.mode, mode) {
            (Mode::Single(had), Mode::Single(wants)) => had == wants,
            (Mode::Multi(_), Mode::Multi(_)) => true,
            (Mode::Single(_), Mode::Multi(_)) | (Mode::Multi(_), Mode::Single(_)) => false,
        };
        self.life == Life::Dead(Ended::Finished) && same_right && !self.origin.outdated(origin)
    }
}

/// Ordered steps; printed on one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub Vec<Step>);

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("as it shall be");
        }
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
