//! Gate 3: when which question is asked of the machine, and the newest answers.
//!
//! One answer per (module version, node) serves all buckets, unless a check uses the bucket. Every answer is renewed
//! after the gate interval, at moments spread over it by a hash, with at most [`AT_ONCE`] questions under way. Modules take
//! turns, and none has all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sheaf_model::watch::WatchedBucket;
use sheaf_model::{
    BucketName, BucketSpec, Check, CheckKind, ModuleRef, ModuleSpec, Moment, NodeId, Revision, Span,
};

use super::Action;
use super::artifact::Holdings;
use super::known::Known;
use crate::gates::{self, Answer, Asked, CheckAnswer, Here, Part};
use crate::reconcile::fingerprint;

/// Questions under way at the same time: checks must not load the machine.
pub const AT_ONCE: usize = 4;
/// The same of one module: one whose checks hang must not stop the others.
const OF_ONE: usize = AT_ONCE - 1;

/// How old an answer to the admission checks may be when an instance starts.
const FRESH: Span = Span::seconds(1);

/// Whom an answer serves: all buckets of a module's version, or one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The module, with its version.
    pub module: ModuleRef,
    /// The one bucket, if the checks use it.
    pub bucket: Option<BucketName>,
    /// The leader's question that alone it serves, by a number that is given once in an agent's life.
    pub question: Option<u64>,
}

impl Key {
    /// All buckets of a module's version.
    pub fn of(module: &ModuleRef) -> Self {
        Self { module: module.clone(), bucket: None, question: None }
    }
}

/// Checks to make, and what their templates are filled in from.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Goes back with the answer.
    pub key: Key,
    /// Goes back with the answer.
    pub part: Part,
    /// The checks; empty only if a plugin is asked.
    pub checks: Vec<Check>,
    /// The module that is asked itself, after its checks; its answer is the last one.
    pub plugin: Option<Arc<ModuleSpec>>,
    /// The bucket, if the checks use it; always, if a plugin is asked.
    pub bucket: Option<(Arc<BucketSpec>, Revision)>,
    /// What the node is.
    pub here: Arc<Here>,
    /// Where the module's artifact is, if its version has one.
    pub artifact: Option<String>,
    /// Whom programs run as that are asked; none: as the agent does.
    pub user: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Questions {
    entries: BTreeMap<Key, Entry>,
    /// By module; none is empty.
    queue: BTreeMap<ModuleRef, BTreeSet<(Moment, Key, Part)>>,
    under_way: BTreeSet<(Key, Part)>,
    /// Modules that were asked themselves: somewhere a process may wait for more.
    plugins: BTreeSet<ModuleRef>,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    /// The bucket's revision asked about, where the checks use it.
    revision: Revision,
    lasting: Slot,
    admission: Slot,
    unclear: u32,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    answer: Option<Answer>,
    /// When that was, as long as nothing made it doubtful.
    answered: Option<Moment>,
    /// When it is in the queue for.
    due: Option<Moment>,
    /// What is under way was overtaken: ask again when it comes back.
    again: bool,
    /// A start waits for it.
    awaited: bool,
}

impl Slot {
    /// The same place in the queue, without its answer.
    fn doubted(&self) -> Self {
        Self { answer: None, answered: None, ..self.clone() }
    }
}

impl Entry {
    fn slot(&mut self, part: Part) -> &mut Slot {
        match part {
            Part::Lasting => &mut self.lasting,
            Part::Admission => &mut self.admission,
        }
    }
}

impl Questions {
    /// A bucket is there or changed: its gate 3 must be known.
    pub(super) fn want(&mut self, known: &Known, bucket: &WatchedBucket, now: Moment) {
        let Some(key) = known.key(bucket) else { return };
        let revision = if key.bucket.is_some() { bucket.revision } else { Revision::default() };
        let entry = self.entries.get(&key);
        let same = entry.is_some_and(|entry| entry.revision == revision);
        let refused = entry.is_some_and(|entry| {
            let old = entry.lasting.answered.is_none_or(|at| now.since(at) > FRESH);
            old && !matches!(entry.lasting.answer, None | Some(Answer::Yes))
        });
        if !same {
            self.forget(&key);
            self.entries.insert(key.clone(), Entry { revision, ..Entry::default() });
        }
        if !same || refused {
            self.ask_again(&key, Part::Lasting, now);
            self.ask_again(&key, Part::Admission, now);
        }
    }

    /// What all answers depend on changed: they are not believed any more.
    pub(super) fn ask_all_again(&mut self, now: Moment) {
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        for key in keys {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.lasting = entry.lasting.doubted();
                entry.admission = entry.admission.doubted();
                entry.unclear = 0;
            }
            self.ask_again(&key, Part::Lasting, now);
            self.ask_again(&key, Part::Admission, now);
        }
    }

    /// A module can be asked now that could not before.
    pub(super) fn ask_module(&mut self, module: &ModuleRef, now: Moment) {
        let keys: Vec<Key> = self.entries.keys().filter(|key| key.module == *module).cloned().collect();
        for key in keys {
            self.ask_again(&key, Part::Lasting, now);
            self.ask_again(&key, Part::Admission, now);
        }
    }

    fn ask_again(&mut self, key: &Key, part: Part, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let slot = entry.slot(part);
        slot.answered = None;
        if self.under_way.contains(&(key.clone(), part)) {
            slot.again = true;
            return;
        }
        if let Some(due) = slot.due.replace(now) {
            self.unqueue(due, key, part);
        }
        self.enqueue(now, key, part);
    }

    /// Answers are to be renewed every `interval` from now on: what waits for longer, or not for so long, waits as if that had
    /// held before.
    pub(super) fn renew_every(&mut self, interval: Span, node: NodeId, now: Moment) {
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        for key in keys {
            let due = next_due(node, &key, interval, now);
            for part in [Part::Lasting, Part::Admission] {
                let Some(slot) = self.entries.get_mut(&key).map(|entry| entry.slot(part)) else { continue };
                // What is asked by now, or is about to be, comes back with its answer.
                let Some(former) = slot.due.filter(|former| *former > now) else { continue };
                slot.due = Some(due);
                self.unqueue(former, &key, part);
                self.enqueue(due, &key, part);
            }
        }
    }

    fn enqueue(&mut self, due: Moment, key: &Key, part: Part) {
        self.queue.entry(key.module.clone()).or_default().insert((due, key.clone(), part));
    }

    fn unqueue(&mut self, due: Moment, key: &Key, part: Part) {
        let Some(queue) = self.queue.get_mut(&key.module) else { return };
        queue.remove(&(due, key.clone(), part));
        if queue.is_empty() {
            self.queue.remove(&key.module);
        }
    }

    /// When each module may be asked next that may be asked now, and how many questions of it are under way.
    fn turns(&self) -> impl Iterator<Item = (usize, Moment, &ModuleRef)> {
        let turns = self.queue.iter().filter_map(move |(module, queue)| {
            let busy = self.under_way.iter().filter(|(key, _)| key.module == *module).count();
            let (due, ..) = queue.first()?;
            (busy < OF_ONE).then_some((busy, *due, module))
        });
        turns.filter(move |_| self.has_room(AT_ONCE))
    }

    /// What is to be asked now: of the module that has the least under way, what was due first.
    fn pop(&mut self, now: Moment) -> Option<(Key, Part)> {
        let (.., module) = self.turns().filter(|(_, due, _)| *due <= now).min()?;
        let module = module.clone();
        let (due, key, part) = self.queue.get(&module)?.first()?.clone();
        self.unqueue(due, &key, part);
        Some((key, part))
    }

    /// What is known for a bucket.
    pub(super) fn asked(&self, key: Option<&Key>, running: bool) -> Asked<'_> {
        match key.and_then(|key| self.entries.get(key)) {
            Some(entry) => Asked {
                lasting: entry.lasting.answer.as_ref(),
                admission: entry.admission.answer.as_ref(),
                unclear: entry.unclear,
                running,
                ..Asked::default()
            },
            None => Asked { running, ..Asked::default() },
        }
    }

    /// Whether the admission checks were answered just now; if not, they are asked.
    pub(super) fn is_admission_fresh(&mut self, key: &Key, now: Moment) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        let slot = &mut entry.admission;
        if slot.answered.is_some_and(|at| now.since(at) <= FRESH) {
            return true;
        }
        if !slot.awaited {
            slot.awaited = true;
            if !self.under_way.contains(&(key.clone(), Part::Admission)) {
                self.ask_again(key, Part::Admission, now);
            }
        }
        false
    }

    /// An instance starts: if it takes a port, what was answered before holds for no other start.
    pub(super) fn started(&mut self, key: &Key, checks: &[Check]) {
        if !checks.iter().any(|check| matches!(check.kind, CheckKind::PortFree(_))) {
            return;
        }
        let under_way = self.under_way.contains(&(key.clone(), Part::Admission));
        if let Some(entry) = self.entries.get_mut(key) {
            entry.admission.answered = None;
            entry.admission.again |= under_way;
        }
    }

    /// An instance ended: what was said while it was there (its own port, taken) holds no longer.
    pub(super) fn ended(&mut self, key: &Key, now: Moment) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.admission = entry.admission.doubted();
            self.ask_again(key, Part::Admission, now);
        }
    }

    /// Whether one more question may be under way.
    pub(super) fn has_room(&self, at_once: usize) -> bool {
        self.under_way.len() < at_once
    }

    /// A question that has no place in the queue is under way.
    pub(super) fn is_asked(&mut self, question: &Question) {
        self.under_way.insert((question.key.clone(), question.part));
        self.note_plugin(question);
    }

    fn note_plugin(&mut self, question: &Question) {
        if question.plugin.is_some() && !self.plugins.contains(&question.key.module) {
            self.plugins.insert(question.key.module.clone());
        }
    }

    /// Modules that were asked themselves, and will not be again as things stand.
    pub(super) fn retire(&mut self, is_used: impl Fn(&ModuleRef) -> bool) -> Vec<ModuleRef> {
        let retired: Vec<ModuleRef> =
            self.plugins.iter().filter(|module| !is_used(module)).cloned().collect();
        self.plugins.retain(|module| !retired.contains(module));
        retired
    }

    /// Its answer came.
    pub(super) fn is_answered(&mut self, key: &Key, part: Part) {
        self.under_way.remove(&(key.clone(), part));
    }

    /// When the next question is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.turns().map(|(_, due, _)| due).min()
    }

    /// Asks what is due. What no bucket needs any more is forgotten, what cannot be asked without its artifact waits for it.
    pub(super) fn ask(
        &mut self,
        known: &Known,
        holdings: &Holdings,
        here: &Arc<Here>,
        now: Moment,
        out: &mut Vec<Action>,
    ) {
        while let Some((key, part)) = self.pop(now) {
            let bucket = known.users(&key).next().and_then(|name| known.buckets.get(name));
            let (Some(bucket), Some(module)) = (bucket, known.module(&key.module)) else {
                self.forget(&key);
                continue;
            };
            let allowed = gates::local_config(&key.module.name, here).pass == Some(true);
            let checks: Vec<Check> = gates::checks(&module.spec, part, allowed).cloned().collect();
            let plugin = gates::asks_plugin(&module.spec, part, allowed).then(|| module.spec.clone());
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            let slot = entry.slot(part);
            slot.due = None;
            let Ok(artifact) = holdings.path(known, &key.module, module.uses_artifact) else { continue };
            if checks.is_empty() && plugin.is_none() {
                slot.answer = Some(Answer::Yes);
                continue;
            }
            self.under_way.insert((key.clone(), part));
            let bucket = key.bucket.is_some().then(|| (bucket.watched.spec.clone(), bucket.watched.revision));
            let user = module.spec.user.clone();
            let question = Question { key, part, checks, plugin, bucket, here: here.clone(), artifact, user };
            self.note_plugin(&question);
            out.push(Action::Ask(question));
        }
    }

    fn forget(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        for (part, due) in [(Part::Lasting, entry.lasting.due), (Part::Admission, entry.admission.due)] {
            if let Some(due) = due {
                self.unqueue(due, key, part);
            }
        }
    }

    /// Takes in an answer, and says whether anybody must look at it.
    pub(super) fn answered(
        &mut self,
        key: &Key,
        part: Part,
        answers: &[CheckAnswer],
        node: NodeId,
        interval: Span,
        now: Moment,
    ) -> bool {
        let expected = self.under_way.remove(&(key.clone(), part));
        let Some(entry) = self.entries.get_mut(key).filter(|_| expected) else { return false };
        let slot = entry.slot(part);
        if std::mem::take(&mut slot.again) {
            self.ask_again(key, part, now);
            return false;
        }
        let answer = Answer::of(answers);
        let is_unclear = matches!(answer, Answer::Unclear(_));
        let awaited = std::mem::take(&mut slot.awaited);
        let mut changed = awaited || slot.answer.as_ref() != Some(&answer);
        slot.answer = Some(answer);
        slot.answered = Some(now);
        let due = next_due(node, key, interval, now);
        slot.due = Some(due);
        if part == Part::Lasting {
            let unclear = if is_unclear { entry.unclear.saturating_add(1) } else { 0 };
            changed |= std::mem::replace(&mut entry.unclear, unclear) != unclear;
        }
        self.enqueue(due, key, part);
        changed
    }
}

/// The next moment after now that this key has of every interval, by a hash: never further away than one interval.
fn next_due(node: NodeId, key: &Key, interval: Span, now: Moment) -> Moment {
    let interval = interval.0.max(1);
    let bucket = key.bucket.as_ref().map_or("", BucketName::as_str);
    let hash = fingerprint(&[&node.0.to_be_bytes(), key.module.to_string().as_bytes(), bucket.as_bytes()]);
    let offset = hash % interval;
    let base = now.0 - now.0 % interval + offset;
    Moment(if base > now.0 { base } else { base.saturating_add(interval) })
}

#[cfg(test)]
impl Questions {
    pub(super) fn under_way_now(&self) -> Vec<(Key, Part)> {
        self.under_way.iter().cloned().collect()
    }
}
