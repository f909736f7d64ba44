//! History: `sheaf.v1.EventService`. Read from SQLite, then followed as it is made.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use futures::{StreamExt, stream};
use sheaf_consensus::{ChangeSet, Changes, Replica};
use sheaf_engine::Change;
use sheaf_engine::job::step::{Transitions, What};
use sheaf_model::{Behind, Cursor, Event, JobId, NodeId, Revision};
use sheaf_store::{EventFilter as StoreFilter, Reader, StoreError, steps_of};
use sheaf_wire::event::{EventApi, EventFilter, EventPage, ListEvents, WatchEvents};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};

use crate::Control;
use crate::place::Member;

/// Events read at once.
const PAGE: usize = 1000;
/// Changes followed at once where each may be some thousands of events: what became of subtasks.
const EXPANDED: usize = 32;
/// How long a reader of history waits for SQLite.
const STORED_WITHIN: Duration = Duration::from_secs(2);

#[async_trait]
impl EventApi for Control {
    async fn list(&self, caller: Caller, ask: ListEvents) -> Result<EventPage, ApiError> {
        self.caught_up(&caller).await?;
        let member = self.member()?;
        let limit = if ask.limit == 0 { sheaf_wire::PAGE_MAX } else { ask.limit };
        let limit = usize::try_from(limit).unwrap_or(PAGE).min(PAGE);
        let now = member.replica.state().revision;
        stored(&member.replica, now).await;
        let mut events =
            self.page(member.reader, ask.after, &ask.filter, limit + 1, ask.newest_first).await?;
        let more = events.len() > limit;
        events.truncate(limit);
        let next = if more { events.last().map(Cursor::of) } else { None };
        Ok(EventPage { events, next })
    }

    async fn watch(&self, caller: Caller, ask: WatchEvents) -> Result<Answers<Event>, ApiError> {
        self.caught_up(&caller).await?;
        let member = self.member()?;
        let now = member.replica.state().revision;
        let changes = member.replica.changes(now);
        let place = ask.after.unwrap_or(Cursor::end(now));
        let watch = Watch {
            control: self.clone(),
            replica: member.replica,
            reader: member.reader,
            filter: ask.filter,
            ready: VecDeque::new(),
            place,
            history_until: (place.revision < now || place.behind != Behind::All).then_some(now),
            changes,
        };
        let events = stream::try_unfold(watch, |mut watch| async move {
            let event = watch.next().await?;
            Ok(Some((event, watch)))
        });
        Ok(events.boxed())
    }
}

/// One follower of history.
struct Watch {
    control: Control,
    replica: Replica,
    reader: Reader,
    filter: EventFilter,
    ready: VecDeque<Event>,
    place: Cursor,
    /// History up to here comes from SQLite before changes are followed.
    history_until: Option<Revision>,
    changes: Changes,
}

impl Watch {
    async fn next(&mut self) -> Result<Event, ApiError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.place = Cursor::of(&event);
                return Ok(event);
            }
            match self.history_until {
                Some(until) => self.read_history(until).await?,
                None => self.follow().await?,
            }
        }
    }

    async fn read_history(&mut self, until: Revision) -> Result<(), ApiError> {
        stored(&self.replica, until).await;
        let reader = self.reader.clone();
        let events = self.control.page(reader, Some(self.place), &self.filter, PAGE, false).await?;
        let full = events.len() == PAGE;
        self.ready = events.into_iter().filter(|event| event.revision <= until).collect();
        if self.ready.is_empty() || !full {
            self.history_until = None;
        }
        Ok(())
    }

    async fn follow(&mut self) -> Result<(), ApiError> {
        let rows = if self.filter.takes_subtasks() { EXPANDED } else { PAGE };
        match self.changes.next(rows).await {
            Ok(sets) => {
                let names = match self.filter.takes_subtasks() {
                    true => Names::of(&self.replica, &sets),
                    false => Names::default(),
                };
                let events = sets.iter().flat_map(|set| told(&names, set, &self.filter));
                let wanted = |event: &Event| self.place.is_before(event) && self.filter.selects(event);
                self.ready = events.filter(wanted).collect();
            }
            Err(_) => {
                // Too slow for memory: SQLite has what was missed.
                let member = self.control.member()?;
                let now = member.replica.state().revision;
                if self.place.revision <= self.changes.position() {
                    self.place = Cursor::end(self.changes.position());
                }
                self.changes = member.replica.changes(now);
                self.history_until = Some(now);
            }
        }
        Ok(())
    }
}

/// What those are called that became of subtasks is about. Looked up at once: what follows takes a while, for which nothing is
/// to wait.
#[derive(Default)]
struct Names {
    jobs: BTreeMap<JobId, String>,
    nodes: BTreeMap<NodeId, String>,
}

impl Names {
    fn of(replica: &Replica, sets: &[ChangeSet]) -> Self {
        let changes = sets.iter().flat_map(|set| set.changes.iter());
        let pieces: Vec<&Transitions> = changes
            .filter_map(|change| match change {
                Change::Transitions(all) => Some(&**all),
                _ => None,
            })
            .collect();
        let jobs: BTreeSet<JobId> = pieces.iter().map(|all| all.job).collect();
        let granted = pieces.iter().flat_map(|all| &all.steps).filter_map(|step| match step.what {
            What::Granted(node, _) => Some(node),
            _ => None,
        });
        let nodes: BTreeSet<NodeId> = granted.collect();
        let state = replica.state();
        let job = |id: JobId| {
            let job = state.jobs.get(id);
            (id, job.map_or_else(|| format!("job {id}"), |job| job.spec.name.to_string()))
        };
        let node = |id: NodeId| (id, state.node_name(id));
        Self { jobs: jobs.into_iter().map(job).collect(), nodes: nodes.into_iter().map(node).collect() }
    }

    /// Of jobs that were not looked up: nothing.
    fn takes(&self, job: JobId, filter: &EventFilter) -> bool {
        let named = self.jobs.get(&job);
        named.is_some_and(|name| filter.subject.as_ref().is_none_or(|subject| subject == name))
    }
}

/// The events of one command, in order.
fn told(names: &Names, set: &ChangeSet, filter: &EventFilter) -> Vec<Event> {
    let (mut events, mut pieces) = (Vec::new(), Vec::new());
    for change in set.changes.iter() {
        match change {
            Change::Event(event) => events.push(event.clone()),
            Change::Transitions(all) if names.takes(all.job, filter) => pieces.push(all.clone()),
            _ => {}
        }
    }
    let job = |id: JobId| names.jobs.get(&id).cloned().unwrap_or_default();
    let node = |id: NodeId| names.nodes.get(&id).cloned().unwrap_or_default();
    events.extend(steps_of(pieces, job, node));
    events
}

/// Waits, for a moment at most, until SQLite has what memory has: a caller that was told of a change finds it.
pub(crate) async fn stored(replica: &Replica, revision: Revision) {
    let _ = tokio::time::timeout(STORED_WITHIN, replica.stored(revision)).await; // a full disk keeps nobody waiting
}

/// Reads what SQLite has, once it has what memory has now. Blocks nobody.
pub(crate) async fn read<T: Send + 'static>(
    member: &Member,
    query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let now = member.replica.state().revision;
    stored(&member.replica, now).await;
    read_at_once(member, query).await
}

/// Reads what SQLite has by now, which may be some commands behind. Blocks nobody.
pub(crate) async fn read_at_once<T: Send + 'static>(
    member: &Member,
    query: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ApiError> {
    let reader = member.reader.clone();
    let read = tokio::task::spawn_blocking(move || query(&reader)).await;
    read.map_err(|error| ApiError::Internal(error.to_string()))?.map_err(store_error)
}

impl Control {
    async fn page(
        &self,
        reader: Reader,
        after: Option<Cursor>,
        filter: &EventFilter,
        limit: usize,
        newest_first: bool,
    ) -> Result<Vec<Event>, ApiError> {
        // What is said of subtasks may be a little among much, so it is a query as any other.
        let subtasks = filter.takes_subtasks();
        let permit = if subtasks { Some(self.query_turn().await?) } else { None };
        let EventFilter { subject, kind, node, since, .. } = filter.clone();
        let filter = StoreFilter { subject, kind, node, since, subtasks };
        let read = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            if newest_first {
                reader.tail(after, &filter, limit)
            } else {
                reader.events(after, &filter, limit)
            }
        });
        read.await.map_err(|error| ApiError::Internal(error.to_string()))?.map_err(store_error)
    }
}

/// A failed read of history.
#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
pub(crate) fn store_error(error: StoreError) -> ApiError {
    let why = error.to_string();
    match &error {
        // Asked again it would take as long.
        StoreError::TooLong { .. } => ApiError::Exhausted(why),
        _ => ApiError::unavailable(why),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::job::step::Step;
    use sheaf_model::{Actor, Run, Timestamp};

    use super::*;

    #[test]
    fn of_what_became_of_subtasks_only_that_is_told_which_is_wanted() {
        let granted = |job: u64, node: u64| {
            let mut all = Transitions::new(JobId(job), Revision(7), Timestamp(3), Actor::default());
            for subtask in [2, 4] {
                let what = What::Granted(NodeId(node), None);
                all.steps.push(Step { what, run: Run::one(subtask), attempt: 1 });
            }
            Change::Transitions(Arc::new(all))
        };
        let set = ChangeSet { revision: Revision(7), changes: [granted(1, 1), granted(2, 2)].into() };
        let names = Names {
            jobs: [(JobId(1), "a".to_owned()), (JobId(2), "b".to_owned())].into(),
            nodes: [(NodeId(1), "n1".to_owned()), (NodeId(2), "n2".to_owned())].into(),
        };
        let places = |filter: &EventFilter| -> Vec<(String, String, u32)> {
            let events = told(&names, &set, filter).into_iter();
            events.map(|event| (event.subject, event.node, event.n - (1 << 25))).collect()
        };
        let all = EventFilter { subtasks: true, ..EventFilter::default() };
        let of = |job: &str, node: &str, n| (job.to_owned(), node.to_owned(), n);
        assert_eq!(places(&all), [of("a", "n1", 0), of("a", "n1", 1), of("b", "n2", 2), of("b", "n2", 3)]);
        // As a reader of history numbers them, who reads no other job.
        let one = EventFilter { subject: Some("b".to_owned()), ..all.clone() };
        assert_eq!(places(&one), [of("b", "n2", 0), of("b", "n2", 1)]);
        assert!(told(&Names::default(), &set, &all).is_empty(), "nothing was looked up");

        let kind = |kind: &str| EventFilter { kind: Some(kind.to_owned()), ..all.clone() };
        for (filter, takes, is_about) in [
            (all.clone(), true, false),
            (kind("subtask"), true, true),
            (kind("subtask.failed"), true, true),
            (kind("sub"), false, false),
            (kind("job"), false, false),
            (EventFilter { subtasks: false, ..kind("subtask.failed") }, false, true),
        ] {
            assert_eq!(
                (filter.takes_subtasks(), filter.is_about_subtasks()),
                (takes, is_about),
                "{filter:?}"
            );
        }
    }
}
