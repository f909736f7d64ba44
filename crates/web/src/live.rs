//! Server-sent events: answers that keep on coming.
//!
//! ```text
//!  retry: 2000        at once, so that a page knows that it is connected
//!  event: ready
//!  event: NAME        id: where to go on, data: JSON
//!  event: trouble     the stream broke (a leader's change, say); it ends, and the browser asks again from the last id
//!  event: end         that was all; a page closes
//! ```
//!
//! A reader that does not keep up is cut off, see [`crate::stall`].

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sheaf_wire::{Answers, ApiError};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::answer::{Answer, Failed};
use crate::serve::Shared;

/// When nothing happens a line is sent all the same: who is gone is noticed by it.
const BEAT: Duration = Duration::from_secs(15);
const BEGIN: &str = "retry: 2000\nevent: ready\ndata: {}\n\n";

/// One event for a browser.
pub(crate) struct Sent {
    pub(crate) id: Option<String>,
    pub(crate) name: &'static str,
    pub(crate) data: Value,
}

impl Sent {
    pub(crate) fn new(name: &'static str, data: Value) -> Self {
        Self { id: None, name, data }
    }

    fn bytes(&self) -> Bytes {
        let id = self.id.as_ref().map(|id| format!("id: {id}\n")).unwrap_or_default();
        // Compact JSON has no line ends.
        format!("{id}event: {}\ndata: {}\n\n", self.name, self.data).into()
    }
}

/// Where a browser that lost its connection wants to go on.
pub(crate) fn last_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty())
}

/// Answers of the node, each as an event. What does not come now and may come later is trouble, said within the stream:
/// a browser asks again only then.
pub(crate) fn answers<T: Send + 'static>(
    shared: &Shared,
    opened: Result<Answers<T>, ApiError>,
    mut write: impl FnMut(T) -> Sent + Send + 'static,
) -> Answer {
    let items: BoxStream<'static, Sent> = match opened {
        Ok(answers) => {
            let events = answers.map(move |answer| match answer {
                Ok(answer) => write(answer),
                Err(error) => trouble(error),
            });
            until_trouble(events).boxed()
        }
        Err(error) if error.can_retry() => stream::once(std::future::ready(trouble(error))).boxed(),
        Err(error) => return Err(error.into()),
    };
    events(shared, items)
}

/// What comes, and then that it was all. After trouble comes nothing that could be trusted, nor that it was all: who looks
/// asks again.
fn until_trouble(events: impl Stream<Item = Sent>) -> impl Stream<Item = Sent> {
    let end = stream::once(std::future::ready(Sent::new("end", json!({}))));
    let mut broken = false;
    events.chain(end).take_while(move |sent| {
        let go_on = !broken;
        broken = sent.name == "trouble";
        std::future::ready(go_on)
    })
}

pub(crate) fn trouble(error: ApiError) -> Sent {
    Sent::new("trouble", Failed::from(error).json())
}

/// Events until they end, the reader goes, or the node stops.
pub(crate) fn events(shared: &Shared, items: impl Stream<Item = Sent> + Send + 'static) -> Answer {
    let Ok(slot) = shared.streams.clone().try_acquire_owned() else {
        let most = shared.options.limits.streams;
        let why = format!(
            "{most} live streams are open on this node, the most it takes; close some, or ask another"
        );
        return Err(ApiError::Busy(why).into());
    };
    let mut beat = interval_at(Instant::now() + BEAT, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reading = (Box::pin(items), beat, shared.stop.clone(), slot);
    let body = stream::unfold(reading, |(mut items, mut beat, stop, slot)| async move {
        let bytes = tokio::select! {
            () = stop.cancelled() => return None,
            // Dropping `next` or `tick` loses nothing.
            next = items.next() => next?.bytes(),
            _ = beat.tick() => Bytes::from_static(b": still here\n\n"),
        };
        Some((bytes, (items, beat, stop, slot)))
    });
    let begin = stream::once(std::future::ready(Bytes::from_static(BEGIN.as_bytes())));
    Ok(response(Body::from_stream(begin.chain(body).map(Ok::<_, Infallible>))))
}

fn response(body: Body) -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    ([kind], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_trouble_a_page_is_not_told_that_it_was_all() {
        let names = async |sent: Vec<Sent>| -> Vec<&'static str> {
            until_trouble(stream::iter(sent)).map(|sent| sent.name).collect().await
        };
        let event = || Sent::new("event", json!({}));
        let broken = || trouble(ApiError::unavailable("another node leads now"));
        assert_eq!(names(vec![event(), event()]).await, ["event", "event", "end"]);
        assert_eq!(names(vec![event(), broken(), event()]).await, ["event", "trouble"]);
        assert_eq!(names(vec![broken()]).await, ["trouble"]);
        assert_eq!(names(vec![]).await, ["end"]);
    }

    #[test]
    fn an_event_is_a_block_of_lines() {
        let sent = Sent { id: Some("7.1".to_owned()), ..Sent::new("event", json!({ "text": "a\nb" })) };
        assert_eq!(sent.bytes(), "id: 7.1\nevent: event\ndata: {\"text\":\"a\\nb\"}\n\n");
    }
}
