//! Its history: an event for each revision, and no more than a few.

use sheaf_model::{Cursor, Event, Revision, Timestamp};
use sheaf_wire::event::{EventApi, EventPage, ListEvents, WatchEvents};
use sheaf_wire::{Answers, ApiError, Caller, async_trait};

use super::Fake;

fn event(revision: u64) -> Event {
    let text = |text: &str| text.to_owned();
    Event {
        revision: Revision(revision),
        n: 0,
        step: None,
        at: Timestamp(crate::output::recorded::NOW.0 - 1000),
        kind: text("bucket.updated"),
        subject: text("/logs/web"),
        actor: text("cli:alice@ops1"),
        node: String::new(),
        before: String::new(),
        after: String::new(),
        message: String::new(),
    }
}

#[async_trait]
impl EventApi for Fake {
    async fn list(&self, _: Caller, ask: ListEvents) -> Result<EventPage, ApiError> {
        let beyond = |event: &Event| match ask.after {
            None => true,
            Some(place) if ask.newest_first => place.is_after(event),
            Some(place) => place.is_before(event),
        };
        let mut events: Vec<Event> = (1..=5).map(event).filter(beyond).collect();
        if ask.newest_first {
            events.reverse();
        }
        let more = events.len() > ask.limit as usize;
        events.truncate(ask.limit as usize);
        let next = events.last().filter(|_| more).map(Cursor::of);
        Ok(EventPage { events, next })
    }

    async fn watch(&self, _: Caller, ask: WatchEvents) -> Result<Answers<Event>, ApiError> {
        if ask.filter.kind.as_deref() == Some("quiet") {
            let after = ask.after.map_or_else(|| "now".to_owned(), |place| place.to_string());
            let mut held = self.held();
            held.asked.push(after);
            if held.asked.len() == 1 {
                // Before anything has happened.
                return Ok(Box::pin(futures::stream::iter([Err(ApiError::unavailable("the node stops"))])));
            }
        }
        let from = ask.after.map_or(6, |place| place.revision.0 + 1);
        let events = vec![Ok(event(from)), Err(ApiError::Internal("for the test".to_owned()))];
        Ok(Box::pin(futures::stream::iter(events)))
    }
}
