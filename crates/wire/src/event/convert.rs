//! History, to and from messages.

use sheaf_model::{Behind, Cursor, CursorError, Event, Revision, Timestamp};

use super::{EventFilter, EventPage, ListEvents, WatchEvents};
use crate::change::{page_of, timestamp, timestamp_from};
use crate::proto::v1;
use crate::{ApiError, PAGE_MAX};

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            cursor: Cursor::of(&event).to_string(),
            revision: event.revision.0,
            n: event.n,
            at: Some(timestamp(event.at)),
            kind: event.kind,
            subject: event.subject,
            actor: event.actor,
            node: event.node,
            before: event.before,
            after: event.after,
            message: event.message,
        }
    }
}

impl From<v1::Event> for Event {
    fn from(event: v1::Event) -> Self {
        let step = match event.cursor.parse() {
            Ok(Cursor { behind: Behind::Step(step), .. }) => Some(step),
            _ => None,
        };
        Self {
            revision: Revision(event.revision),
            n: event.n,
            step,
            at: event.at.as_ref().map_or(Timestamp(0), timestamp_from),
            kind: event.kind,
            subject: event.subject,
            actor: event.actor,
            node: event.node,
            before: event.before,
            after: event.after,
            message: event.message,
        }
    }
}

fn cursor(field: &str, text: &str) -> Result<Option<Cursor>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |error: CursorError| {
        ApiError::invalid(field, error.to_string(), "the cursor of an event, or a revision")
    };
    text.parse().map(Some).map_err(wrong)
}

fn filter(message: Option<v1::EventFilter>) -> EventFilter {
    let message = message.unwrap_or_default();
    let some = |text: String| (!text.is_empty()).then_some(text);
    EventFilter {
        subject: some(message.subject),
        kind: some(message.kind),
        node: some(message.node),
        since: message.since.as_ref().map(timestamp_from),
        subtasks: message.subtasks,
    }
}

impl From<EventFilter> for v1::EventFilter {
    fn from(filter: EventFilter) -> Self {
        Self {
            subject: filter.subject.unwrap_or_default(),
            kind: filter.kind.unwrap_or_default(),
            node: filter.node.unwrap_or_default(),
            since: filter.since.map(timestamp),
            subtasks: filter.subtasks,
        }
    }
}

pub(super) fn list(message: v1::ListEventsRequest) -> Result<ListEvents, ApiError> {
    // Its own words came first; what is said in those of other lists counts.
    let (size, most) = match message.page_size {
        0 => ("limit", message.limit),
        most => ("page_size", most),
    };
    let limit = page_of(most, String::new(), PAGE_MAX)
        .map_err(|_| ApiError::invalid(size, most.to_string(), format!("at most {PAGE_MAX}")))?;
    let (place, after) = match message.page_token.as_str() {
        "" => ("after", message.after.as_str()),
        token => ("page_token", token),
    };
    Ok(ListEvents {
        after: cursor(place, after)?,
        limit: limit.size,
        filter: filter(message.filter),
        newest_first: message.newest_first,
    })
}

impl From<ListEvents> for v1::ListEventsRequest {
    fn from(ask: ListEvents) -> Self {
        Self {
            after: ask.after.map(|cursor| cursor.to_string()).unwrap_or_default(),
            limit: ask.limit,
            filter: Some(ask.filter.into()),
            newest_first: ask.newest_first,
            // The words that every version of the other side knows.
            page_size: 0,
            page_token: String::new(),
        }
    }
}

impl From<EventPage> for v1::ListEventsResponse {
    fn from(page: EventPage) -> Self {
        let next = page.next.map(|cursor| cursor.to_string()).unwrap_or_default();
        Self {
            events: page.events.into_iter().map(Into::into).collect(),
            next_page_token: next.clone(),
            next,
        }
    }
}

impl TryFrom<v1::ListEventsResponse> for EventPage {
    type Error = ApiError;

    fn try_from(page: v1::ListEventsResponse) -> Result<Self, ApiError> {
        Ok(Self {
            events: page.events.into_iter().map(Into::into).collect(),
            next: cursor("next", &page.next)?,
        })
    }
}

pub(super) fn watch(message: v1::WatchEventsRequest) -> Result<WatchEvents, ApiError> {
    Ok(WatchEvents { after: cursor("after", &message.after)?, filter: filter(message.filter) })
}

impl From<WatchEvents> for v1::WatchEventsRequest {
    fn from(ask: WatchEvents) -> Self {
        let after = ask.after.map(|cursor| cursor.to_string()).unwrap_or_default();
        Self { after, filter: Some(ask.filter.into()) }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{JobId, StepPlace};

    use super::*;

    #[test]
    fn cursors_are_read_and_refused() {
        for text in ["7", "7.0", "7.3", "7.3.12.0"] {
            let read = cursor("after", text).expect("a cursor").expect("one");
            assert_eq!(read.to_string(), text);
        }
        for text in ["x", "7.", ".1", "7.x", "-1", "7.1.1"] {
            assert!(matches!(cursor("after", text), Err(ApiError::Invalid(_))), "{text}");
        }
        assert_eq!(cursor("after", ""), Ok(None));
    }

    #[test]
    fn a_page_is_asked_for_in_the_words_of_all_lists_or_in_its_own() {
        let asked = |page_size, page_token: &str, limit, after: &str| {
            let (page_token, after) = (page_token.to_owned(), after.to_owned());
            let read =
                list(v1::ListEventsRequest { page_size, page_token, limit, after, ..Default::default() })?;
            Ok::<_, ApiError>((read.limit, read.after.map(|place| place.to_string())))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(asked(0, "", 0, ""), Ok((PAGE_MAX, None)));
        assert_eq!(asked(0, "", 5, "7.1"), Ok((5, some("7.1"))), "as before");
        assert_eq!(asked(3, "9.0", 0, ""), Ok((3, some("9.0"))));
        assert_eq!(asked(3, "9.0", 5, "7.1"), Ok((3, some("9.0"))), "the words of all lists count");
        let place = |error: ApiError| match error {
            ApiError::Invalid(defects) => defects[0].path.clone(),
            other => panic!("{other:?}"),
        };
        for (size, token, limit, after, wrong) in [
            (PAGE_MAX + 1, "", 0, "", "page_size"),
            (0, "", PAGE_MAX + 1, "", "limit"),
            (0, "x", 0, "", "page_token"),
            (0, "", 0, "x", "after"),
        ] {
            assert_eq!(asked(size, token, limit, after).map_err(place), Err(wrong.to_owned()));
        }
        let next = "7.1".parse().ok();
        let answer = v1::ListEventsResponse::from(EventPage { events: Vec::new(), next });
        assert_eq!((answer.next.as_str(), answer.next_page_token.as_str()), ("7.1", "7.1"));
    }

    #[test]
    fn a_kind_selects_what_begins_with_it_and_a_dot() {
        let event = Event {
            revision: Revision(1),
            n: 0,
            step: None,
            at: Timestamp(5),
            kind: "bucket.bound".to_owned(),
            subject: "/a".to_owned(),
            actor: "cli".to_owned(),
            node: String::new(),
            before: String::new(),
            after: String::new(),
            message: String::new(),
        };
        let of = |kind: &str| EventFilter { kind: Some(kind.to_owned()), ..EventFilter::default() };
        assert!(of("bucket").selects(&event) && of("bucket.bound").selects(&event));
        assert!(!of("buck").selects(&event) && !of("node").selects(&event));
        assert_eq!(Event::from(v1::Event::from(event.clone())), event);
        let place = StepPlace { job: JobId(3), piece: 12, step: 0 };
        let step = Event { n: 1 << 25, step: Some(place), kind: "subtask.failed".to_owned(), ..event };
        let sent = v1::Event::from(step.clone());
        assert_eq!(sent.cursor, "1.3.12.0");
        assert_eq!(Event::from(sent.clone()), step);
        let former = v1::Event { cursor: "1.33554432".to_owned(), ..sent };
        assert_eq!(Cursor::of(&Event::from(former)).to_string(), "1.33554432");
    }
}
