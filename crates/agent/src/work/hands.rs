//! What one worker has in hand: bundles of subtasks, which of them have begun, which it is to stop. Plain data; time is an
//! argument.
//!
//! A worker runs a bundle's subtasks one after the other, so the first one that is not answered is the one that has begun. A
//! bundle takes one of the node's slots. It holds as many subtasks as may be done in [`BUNDLE`], as far as that is known.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sheaf_model::Timestamp;
use sheaf_model::session::OrderedSubtask;
use sheaf_module::{Subtask, SubtaskResult};
use tokio::time::Instant;

/// How long a bundle is to last: long beside what it costs to hand one over, short beside what people notice.
const BUNDLE: Duration = Duration::from_millis(20);
/// No bundle has more subtasks.
pub(crate) const BUNDLE_MAX: usize = 512;
/// Behind a subtask that takes longer than this none is left that could run elsewhere.
const PATIENCE: Duration = Duration::from_secs(1);
/// How much the newest bundle moves the mean.
const WEIGHT: f64 = 0.3;

/// One moment, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Now {
    /// To measure by.
    pub(crate) at: Instant,
    /// For people.
    pub(crate) wall: Timestamp,
}

/// What is asked of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Bundles at a time.
    pub(crate) at_once: usize,
    /// How long a subtask may take.
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to stop one.
    pub(crate) grace: Duration,
}

/// Why a subtask is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It had not begun, and is wanted back.
    Back,
    /// It runs for longer than it may.
    TimedOut,
    /// It is canceled.
    Canceled,
}

/// A subtask that is in hand no more.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Over {
    pub(crate) subtask: OrderedSubtask,
    /// When it began, if it has.
    pub(crate) begun: Option<Now>,
    /// Why it was to be stopped, if it was.
    pub(crate) why: Option<Why>,
    /// Nothing else was in its bundle: whatever happened, it is known which one ran.
    pub(crate) alone: bool,
}

/// What a worker should not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Strange {
    #[error("its worker answered for subtask id {0}, which it was never given")]
    NeverGiven(u64),
    #[error("its worker answered twice for subtask id {0}")]
    Twice(u64),
    #[error("its worker says that subtask id {0} was stopped, which nobody asked for")]
    NotAsked(u64),
}

/// What is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// To be stopped, by id.
    pub(crate) stop: Vec<u64>,
    /// Something that was to be stopped was not within its grace.
    pub(crate) disobeyed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Hands {
    terms: Terms,
    next: u64,
    /// None is empty.
    bundles: BTreeMap<u64, Bundle>,
    /// By subtask's id: in which bundle it is.
    places: BTreeMap<u64, u64>,
    /// When a subtask must have been stopped, by id.
    stopping: BTreeMap<u64, Instant>,
    /// How long a subtask took lately, in seconds.
    mean: Option<f64>,
    /// So many more are given one by one.
    careful: u32,
}

#[derive(Debug)]
struct Bundle {
    held: VecDeque<Held>,
    since: Instant,
    /// How many of it have run.
    ran: u32,
    /// What had not begun is wanted back.
    broken_up: bool,
}

#[derive(Debug)]
struct Held {
    id: u64,
    subtask: OrderedSubtask,
    begun: Option<Now>,
    why: Option<Why>,
    alone: bool,
}

impl Bundle {
    /// See [`Hands::break_up`].
    fn break_up(&mut self) -> Vec<u64> {
        if std::mem::replace(&mut self.broken_up, true) {
            return Vec::new();
        }
        let rest = self.held.iter_mut().skip(1).filter(|held| held.why.is_none());
        let back = rest.map(|held| {
            held.why = Some(Why::Back);
            held.id
        });
        back.collect()
    }
}

impl From<Held> for Over {
    fn from(held: Held) -> Self {
        let Held { subtask, begun, why, alone, .. } = held;
        Self { subtask, begun, why, alone }
    }
}

impl Hands {
    pub(crate) fn new(terms: Terms) -> Self {
        let (bundles, places, stopping) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { terms, next: 0, bundles, places, stopping, mean: None, careful: 0 }
    }

    /// Gives so many one by one: a worker died of one of many, and which it was is to be found out.
    pub(crate) fn be_careful(&mut self, count: u32) {
        self.careful = count;
    }

    /// How many are still to be given so.
    pub(crate) fn careful(&self) -> u32 {
        self.careful
    }

    /// In which bundle a subtask is: its first id.
    pub(crate) fn bundle_of(&self, id: u64) -> Option<u64> {
        self.places.get(&id).copied()
    }

    /// Whether anything of a bundle is in hand.
    pub(crate) fn has_of(&self, first: u64) -> bool {
        self.bundles.contains_key(&first)
    }

    /// How many slots it takes.
    pub(crate) fn bundles(&self) -> usize {
        self.bundles.len()
    }

    /// Whether it takes another bundle.
    pub(crate) fn has_room(&self) -> bool {
        self.bundles.len() < self.terms.at_once
    }

    /// How many subtasks the next bundle should have.
    pub(crate) fn bundle_size(&self) -> usize {
        let Some(mean) = self.mean.filter(|_| self.careful == 0) else { return 1 };
        let fits = (BUNDLE.as_secs_f64() / mean.max(1e-6)).clamp(1.0, BUNDLE_MAX as f64);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is small and positive"
        )]
        let fits = fits as usize;
        fits
    }

    /// Takes a bundle in hand: what the worker is to be given.
    pub(crate) fn take(&mut self, subtasks: Vec<OrderedSubtask>, now: Now) -> Vec<Subtask> {
        let first = self.next;
        let alone = subtasks.len() == 1;
        let mut given = Vec::with_capacity(subtasks.len());
        let mut held = VecDeque::with_capacity(subtasks.len());
        for subtask in subtasks {
            let id = self.next;
            self.next += 1;
            self.places.insert(id, first);
            let mut it = Subtask::new(id, subtask.subtask, subtask.attempt, subtask.item.as_str());
            it.backend = subtask.backend.as_ref().map(ToString::to_string).unwrap_or_default();
            given.push(it);
            held.push_back(Held { id, subtask, begun: (id == first).then_some(now), why: None, alone });
        }
        if !held.is_empty() {
            self.bundles.insert(first, Bundle { held, since: now.at, ran: 0, broken_up: false });
        }
        given
    }

    /// A bundle that could not be given to it after all, by its first id.
    pub(crate) fn take_back(&mut self, first: u64) -> Vec<OrderedSubtask> {
        let Some(bundle) = self.bundles.remove(&first) else { return Vec::new() };
        for held in &bundle.held {
            self.places.remove(&held.id);
        }
        bundle.held.into_iter().map(|held| held.subtask).collect()
    }

    /// A worker's answer for one of them.
    pub(crate) fn ended(&mut self, id: u64, result: SubtaskResult, now: Now) -> Result<Over, Strange> {
        let strange = if id < self.next { Strange::Twice(id) } else { Strange::NeverGiven(id) };
        let place = *self.places.get(&id).ok_or(strange)?;
        let bundle = self.bundles.get_mut(&place).ok_or(strange)?;
        let index = bundle.held.iter().position(|held| held.id == id).ok_or(strange)?;
        let was_stopped = matches!(result, SubtaskResult::Stopped | SubtaskResult::NotBegun);
        if was_stopped && bundle.held[index].why.is_none() {
            return Err(Strange::NotAsked(id));
        }
        let mut held = bundle.held.remove(index).ok_or(strange)?;
        self.places.remove(&id);
        self.stopping.remove(&id);
        self.careful = self.careful.saturating_sub(1);
        if result == SubtaskResult::NotBegun {
            held.begun = None;
        } else {
            bundle.ran += 1;
        }
        if let Some(next) = bundle.held.front_mut() {
            next.begun.get_or_insert(now);
        } else if let Some(over) = self.bundles.remove(&place) {
            self.learn(&over, now);
        }
        Ok(held.into())
    }

    fn learn(&mut self, bundle: &Bundle, now: Now) {
        if bundle.ran > 0 {
            let took = now.at.duration_since(bundle.since).as_secs_f64() / f64::from(bundle.ran);
            self.mean = Some(self.mean.map_or(took, |mean| mean + (took - mean) * WEIGHT));
        }
    }

    /// Those that are canceled, by id, as far as it was not asked to stop them already.
    pub(crate) fn cancel(&mut self, is_meant: impl Fn(&OrderedSubtask) -> bool, now: Now) -> Vec<u64> {
        let held = self.bundles.values_mut().flat_map(|bundle| &mut bundle.held);
        let mut stop = Vec::new();
        for it in held.filter(|it| it.why < Some(Why::Canceled) && is_meant(&it.subtask)) {
            it.why = Some(Why::Canceled);
            self.stopping.entry(it.id).or_insert(now.at + self.terms.grace);
            stop.push(it.id);
        }
        stop
    }

    /// When [`Hands::tick`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        let timeouts = self.bundles.values().filter_map(|bundle| {
            let first = bundle.held.front()?;
            let begun = first.begun?.at;
            let over = self.terms.timeout.filter(|_| first.why < Some(Why::TimedOut)).map(|it| begun + it);
            let back = (bundle.held.len() > 1 && !bundle.broken_up).then_some(begun + PATIENCE);
            over.into_iter().chain(back).min()
        });
        timeouts.chain(self.stopping.values().copied()).min()
    }

    /// Notes what is due.
    pub(crate) fn tick(&mut self, now: Now) -> Due {
        let mut due = Due { disobeyed: self.stopping.values().any(|at| *at <= now.at), stop: Vec::new() };
        let Terms { timeout, grace, .. } = self.terms;
        for bundle in self.bundles.values_mut() {
            let Some(first) = bundle.held.front_mut() else { continue };
            let Some(begun) = first.begun else { continue };
            let takes = now.at.duration_since(begun.at);
            if timeout.is_some_and(|timeout| takes >= timeout) && first.why < Some(Why::TimedOut) {
                first.why = Some(Why::TimedOut);
                self.stopping.insert(first.id, now.at + grace);
                due.stop.push(first.id);
            }
            if takes >= PATIENCE {
                due.stop.extend(bundle.break_up());
            }
        }
        due
    }

    /// What has not begun is wanted back: what it is to stop, by id, as far as it was not asked already.
    pub(crate) fn break_up(&mut self) -> Vec<u64> {
        self.bundles.values_mut().flat_map(Bundle::break_up).collect()
    }

    /// Everything, when the worker has ended.
    pub(crate) fn drain(&mut self) -> Vec<Over> {
        self.places.clear();
        self.stopping.clear();
        let bundles = std::mem::take(&mut self.bundles);
        bundles.into_values().flat_map(|bundle| bundle.held).map(Over::from).collect()
    }
}

#[cfg(test)]
mod tests;
