//! History, and what happens.

use std::sync::Arc;

use axum::extract::State;
use http::HeaderMap;
use serde_json::json;
use sheaf_model::Cursor;
use sheaf_model::view::EventRow;
use sheaf_wire::PAGE_MAX;
use sheaf_wire::event::{EventFilter, ListEvents, WatchEvents};

use crate::answer::{self, Answer, Failed};
use crate::ask::{Ask, read};
use crate::hint;
use crate::live::{self, Sent, last_id};
use crate::serve::Shared;

/// `events`, a page: the newest first unless `oldest_first`.
pub(super) async fn list(ask: Ask) -> Answer {
    let ask = ask.only(&["subject", "kind", "node", "limit", "after", "oldest_first", "subtasks"])?;
    let limit = ask.page()?.size.min(PAGE_MAX);
    let page = ask.client.list_events(ListEvents {
        after: ask.text("after").map(|text| read("after", text)).transpose()?,
        limit,
        filter: filter(&ask)?,
        newest_first: !ask.flag("oldest_first")?,
    });
    let page = page.await?;
    let rows: Vec<EventRow> = page.events.into_iter().map(EventRow::from).collect();
    Ok(answer::rows(&rows, &page.next.map(|next| next.to_string()).unwrap_or_default()))
}

/// `events --follow`: from a place on, or from now on; a browser that lost its connection goes on where it was.
pub(super) async fn watch(State(shared): State<Arc<Shared>>, headers: HeaderMap, ask: Ask) -> Answer {
    let ask = ask.only(&["subject", "kind", "node", "after", "subtasks"])?;
    let place = last_id(&headers).or(ask.text("after"));
    let after = place.map(|text| read::<Cursor>("after", text)).transpose()?;
    let opened = ask.client.watch_events(WatchEvents { after, filter: filter(&ask)? }).await;
    live::answers(&shared, opened, |event| {
        let id = Some(Cursor::of(&event).to_string());
        Sent { id, ..Sent::new("event", json!(EventRow::from(event))) }
    })
}

/// That something happened, now and then: a page that shows something else than history needs no more.
pub(super) async fn changes(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&[])?;
    let hints = hint::of(&shared, &ask.client).await?;
    live::events(&shared, hints)
}

fn filter(ask: &Ask) -> Result<EventFilter, Failed> {
    let text = |name| ask.text(name).map(str::to_owned);
    let (subject, kind, node) = (text("subject"), text("kind"), text("node"));
    let filter = EventFilter { subject, kind, node, ..EventFilter::default() };
    Ok(filter.with_subtasks(ask.flag("subtasks")?))
}
