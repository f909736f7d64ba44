//! History over the wire.

mod client;
mod convert;
mod serve;

use sheaf_model::{Cursor, Event, Timestamp};

pub(crate) use client::answers;
pub(crate) use serve::{Serve, probes};

use crate::{Answers, ApiError, Caller, async_trait};

/// Which events; what is none selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Exactly this subject.
    pub subject: Option<String>,
    /// This kind, or all that begin with it and a dot.
    pub kind: Option<String>,
    /// Exactly this node's name.
    pub node: Option<String>,
    /// Not before this time.
    pub since: Option<Timestamp>,
    /// What became of subtasks, too.
    pub subtasks: bool,
}

impl EventFilter {
    /// Whether it may select any of what became of subtasks.
    pub fn takes_subtasks(&self) -> bool {
        self.subtasks && (self.kind.is_none() || self.is_about_subtasks())
    }

    /// The same with what became of subtasks, if that is `wanted` or its kind is of them: who names such a kind means them.
    #[must_use]
    pub fn with_subtasks(self, wanted: bool) -> Self {
        Self { subtasks: wanted || self.is_about_subtasks(), ..self }
    }

    /// Whether its kind is of what becomes of subtasks, and of nothing else.
    pub fn is_about_subtasks(&self) -> bool {
        let rest = self.kind.as_deref().and_then(|kind| kind.strip_prefix("subtask"));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Whether it selects `event`.
    pub fn selects(&self, event: &Event) -> bool {
        let kind = |kind: &str| {
            event.kind.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.subject.as_ref().is_none_or(|subject| *subject == event.subject)
            && self.node.as_ref().is_none_or(|node| *node == event.node)
            && self.since.is_none_or(|since| event.at >= since)
            && self.kind.as_deref().is_none_or(kind)
    }
}

/// See `EventService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListEvents {
    /// Only events after this place, or before it if `newest_first`.
    pub after: Option<Cursor>,
    /// At most so many, 1 to [`crate::PAGE_MAX`]; 0 from a client: the most.
    pub limit: u32,
    /// Which.
    pub filter: EventFilter,
    /// The other way round.
    pub newest_first: bool,
}

/// See `EventService.List`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventPage {
    /// In the order asked for.
    pub events: Vec<Event>,
    /// To go on with; none: that was all.
    pub next: Option<Cursor>,
}

/// See `EventService.Watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchEvents {
    /// History after this place comes first; none: only what happens from now on.
    pub after: Option<Cursor>,
    /// Which.
    pub filter: EventFilter,
}

/// What answers `sheaf.v1.EventService`. The errors of each call are those of its comment in the proto file.
#[async_trait]
pub trait EventApi: Send + Sync + 'static {
    /// A page of history.
    async fn list(&self, caller: Caller, ask: ListEvents) -> Result<EventPage, ApiError>;
    /// History from a place on, then what happens.
    async fn watch(&self, caller: Caller, ask: WatchEvents) -> Result<Answers<Event>, ApiError>;
}
