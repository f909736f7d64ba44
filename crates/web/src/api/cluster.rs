//! The cluster as a whole.

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sheaf_model::view::{Concern, EventRow, Level, concerns};
use sheaf_wire::bucket::ListBuckets;
use sheaf_wire::cluster::ChangeSettings;
use sheaf_wire::event::ListEvents;
use sheaf_wire::job::ListJobs;
use sheaf_wire::node::ListNodes;
use sheaf_wire::sink::ListSinks;
use sheaf_wire::{ApiError, Client, Filter, PageOf, Term};

use crate::answer::{self, Answer};
use crate::ask::{Ask, Change};
use crate::serve::Shared;

/// Rows of each kind that are looked through for what needs attention.
const LOOKED_AT: u32 = 1000;
/// Concerns that are told.
const TOLD: usize = 100;
/// Events that are told.
const LATELY: u32 = 8;

/// How the cluster stands, what needs attention first, and what happened last.
pub(super) async fn overview(State(shared): State<Arc<Shared>>, ask: Ask) -> Answer {
    let ask = ask.only(&[])?;
    let question = ask.question("overview");
    Ok(answer::made(Box::pin(shared.fresh.look(question, overlook(ask.client))).await?))
}

async fn overlook(client: Client) -> Result<Value, ApiError> {
    let status = client.cluster_status().await?;
    let page = || PageOf { size: LOOKED_AT, ..PageOf::default() };
    let other_than =
        |states: &[&str]| Filter { terms: states.iter().map(|state| not("state", state)).collect() };
    let nodes = client.list_nodes(ListNodes { page: page(), filter: Filter::default() });
    let buckets =
        client.list_buckets(ListBuckets { page: page(), filter: other_than(&["running", "suspended"]) });
    let jobs = other_than(&["finished", "failed", "canceled"]);
    let jobs = client.list_jobs(ListJobs { page: page(), filter: jobs });
    let failing = Filter::default().with("state", "failing");
    let sinks = client.list_sinks(ListSinks { page: page(), filter: failing });
    let events =
        client.list_events(ListEvents { limit: LATELY, newest_first: true, ..ListEvents::default() });
    let (asked, events) = futures::join!(async { futures::try_join!(nodes, buckets, jobs, sinks) }, events);
    let mut cut = false;
    let mut found = match asked {
        Ok((nodes, buckets, jobs, sinks)) => {
            cut = [&nodes.next, &buckets.next, &jobs.next, &sinks.next].iter().any(|next| !next.is_empty());
            concerns(&status, &nodes.rows, &buckets.rows, &jobs.rows, &sinks.rows)
        }
        // Without a leader this is still an answer, and just then it is needed.
        Err(error) => {
            let mut found = concerns(&status, &[], &[], &[], &[]);
            found.push(Concern::new(Level::Act, "cluster", "", "not answered", error.to_string()));
            found
        }
    };
    let events = events.map(|page| page.events).unwrap_or_default();
    let events: Vec<EventRow> = events.into_iter().map(EventRow::from).collect();
    let act = found.iter().filter(|concern| concern.level == Level::Act).count();
    let (watch, more) = (found.len() - act, found.len().saturating_sub(TOLD));
    found.truncate(TOLD);
    // Of very many not all are looked at: then the counts are at least so.
    let counts = json!({ "act": act, "watch": watch, "cut": cut });
    Ok(json!({ "cluster": status, "attention": found, "counts": counts, "more": more, "events": events }))
}

fn not(key: &str, value: &str) -> Term {
    Term { key: key.to_owned(), not: true, value: value.to_owned() }
}

/// `cluster status`
pub(super) async fn status(ask: Ask) -> Answer {
    let ask = ask.only(&[])?;
    Ok(answer::view(&ask.client.cluster_status().await?))
}

/// `cluster members`
pub(super) async fn members(ask: Ask) -> Answer {
    let ask = ask.only(&[])?;
    Ok(answer::view(&ask.client.members().await?))
}

/// `cluster settings`
pub(super) async fn settings(ask: Ask) -> Answer {
    let ask = ask.only(&[])?;
    let all = ask.client.settings(ChangeSettings::default()).await?;
    let settings: Map<String, Value> =
        all.settings.into_iter().map(|(key, value)| (key, value.into())).collect();
    Ok(answer::value(&Value::Object(settings)))
}

/// To whom leadership goes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: Option<String>,
}

/// `cluster transfer`
pub(super) async fn transfer(change: Change<Transfer>) -> Answer {
    let leader = change.client.transfer(change.ask.to.filter(|to| !to.is_empty())).await?;
    Ok(answer::value(&json!({ "leader": leader })))
}
