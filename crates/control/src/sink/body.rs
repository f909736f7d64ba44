//! Events as JSON, as webhooks and programs get them.

use serde::Serialize;
use sheaf_model::view::EventRow;
use sheaf_model::{Deliverable, SinkName, Timestamp};

/// The body of a webhook's request.
pub(super) struct Envelope<'a> {
    pub(super) sink: String,
    pub(super) cluster: String,
    /// The same when the same events are delivered again by the same leader.
    pub(super) delivery: String,
    pub(super) test: bool,
    pub(super) events: &'a [Deliverable],
}

/// A name for a delivery of these events.
pub(super) fn delivery_id(sink: &SinkName, events: &[Deliverable], test: bool, now: Timestamp) -> String {
    match (events.first(), events.last()) {
        _ if test => format!("{sink}-test-{}", now.0),
        (Some(first), Some(last)) => format!("{sink}-{}-{}", first.id(), last.id()),
        _ => format!("{sink}-none"),
    }
}

/// One event. What an event is not about is left out.
#[derive(Serialize)]
struct EventJson<'a> {
    id: String,
    #[serde(flatten)]
    row: EventRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtask: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<&'a str>,
}

/// The name of the job that an event is about.
pub(super) fn job(it: &Deliverable) -> Option<&str> {
    (it.end.is_some() || it.event.kind.starts_with("job.")).then_some(it.event.subject.as_str())
}

fn event(it: &Deliverable) -> EventJson<'_> {
    let end = it.end.as_ref();
    EventJson {
        id: it.id(),
        row: EventRow::from(it.event.clone()),
        job: job(it),
        bucket: it.event.subject.starts_with('/').then_some(it.event.subject.as_str()),
        subtask: end.map(|end| end.subtask),
        attempt: end.map(|end| end.attempt),
        class: end.map(|end| end.class.as_str()),
        exit_code: end.and_then(|end| end.exit_code),
        fingerprint: end.map(|end| end.fingerprint.as_str()),
    }
}

impl Envelope<'_> {
    /// All of it, in one line.
    pub(super) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            sink: &'a str,
            cluster: &'a str,
            delivery: &'a str,
            test: bool,
            events: Vec<EventJson<'a>>,
        }
        let body = Body {
            sink: &self.sink,
            cluster: &self.cluster,
            delivery: &self.delivery,
            test: self.test,
            events: self.events.iter().map(event).collect(),
        };
        json(&body)
    }

    /// The events alone, each in a line.
    pub(super) fn lines(&self) -> String {
        self.events.iter().map(|it| json(&event(it)) + "\n").collect()
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers in structs are always JSON")
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;
    use sheaf_model::{Event, Revision, SubtaskEnd};

    use super::*;

    pub(in super::super) fn event_of(kind: &str, subject: &str, message: &str) -> Deliverable {
        let event = Event {
            revision: Revision(7),
            n: 1,
            step: None,
            at: Timestamp(1_700_000_000_000),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            actor: "cli:alice".to_owned(),
            node: "n1".to_owned(),
            before: "running".to_owned(),
            after: "failed".to_owned(),
            message: message.to_owned(),
        };
        Deliverable { event, end: None }
    }

    pub(in super::super) fn failure_of(job: &str, subtask: u32, message: &str) -> Deliverable {
        let end = SubtaskEnd {
            job_id: 5,
            subtask,
            attempt: 3,
            class: "exit".to_owned(),
            exit_code: Some(2),
            fingerprint: sheaf_model::Fingerprint::of(message).to_string(),
        };
        Deliverable { end: Some(end), ..event_of("subtask.failed", job, message) }
    }

    #[test]
    fn a_body_says_what_happened_to_what() {
        let events =
            [failure_of("ndvi", 9, "no licence"), event_of("bucket.bound", "/logs/web", "a \"quote\"\n")];
        let name = SinkName::new("hook").unwrap();
        let delivery = delivery_id(&name, &events, false, Timestamp(5));
        assert_eq!(delivery, "hook-7.job5.9.3-7.1");
        assert_eq!(delivery_id(&name, &events, true, Timestamp(5)), "hook-test-5");
        let envelope = Envelope {
            sink: "hook".to_owned(),
            cluster: "c".to_owned(),
            delivery,
            test: false,
            events: &events,
        };
        let body: Value = serde_json::from_str(&envelope.json()).unwrap();
        assert_eq!((body["test"].as_bool(), body["events"].as_array().unwrap().len()), (Some(false), 2));
        let (failed, bound) = (&body["events"][0], &body["events"][1]);
        assert_eq!((failed["job"].as_str(), failed["subtask"].as_u64()), (Some("ndvi"), Some(9)));
        assert_eq!((failed["class"].as_str(), failed["exit_code"].as_i64()), (Some("exit"), Some(2)));
        assert_eq!((bound["bucket"].as_str(), bound["id"].as_str()), (Some("/logs/web"), Some("7.1")));
        assert!(bound.get("job").is_none() && bound.get("subtask").is_none());
        assert_eq!(bound["at"], "2023-11-14T22:13:20.000Z");
        let lines = envelope.lines();
        assert_eq!(lines.lines().count(), 2, "a line feed in a message makes no line");
    }
}
