//! What the cluster shows as a whole: the same that lists show.

use std::io;
use std::time::Duration;

use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::{Value, json};
use sheaf_model::BucketName;
use sheaf_model::view::{BackendRow, BucketRow, BucketState, EventRow, NodeRow, SinkRow};
use sheaf_wire::backend::ListBackends;
use sheaf_wire::bucket::ListBuckets;
use sheaf_wire::cluster::ChangeSettings;
use sheaf_wire::event::ListEvents;
use sheaf_wire::job::ListJobs;
use sheaf_wire::module::ListModules;
use sheaf_wire::node::{Affinity, ListNodes};
use sheaf_wire::sink::ListSinks;
use sheaf_wire::{ApiError, Client, Filter, PAGE_MAX, Page, PageOf};

use super::collected::Collected;
use super::plain;
use crate::command::node::numbered;
use crate::table;

/// How many things are asked for here.
pub(super) const STEPS: u64 = 13;
/// How long one answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Rows of a list, at most.
const ROWS: usize = 10_000;
/// Events, the last ones.
const EVENTS: u32 = 1000;
/// Buckets that do not run whose explanations are asked for.
const EXPLAINED: usize = 100;
/// How a sink says that its program has ended badly.
const ENDED: &str = " ended with ";

/// Asks for one thing after the other. An error is the bundle's.
pub(super) async fn gather(
    client: &Client,
    collected: &mut Collected,
    progress: &ProgressBar,
) -> io::Result<()> {
    // One answer that does not come must not keep all others waiting.
    let client = &client.with_deadline(WITHIN);
    let asked = json!({"sheaf": sheaf_model::version(), "asked": client.address()});
    put(collected, progress, "version", Ok(asked))?;
    put(collected, progress, "status", client.cluster_status().await.map(|it| table::json(&it)))?;
    put(collected, progress, "members", client.members().await.map(|it| table::json(&it)))?;
    put(collected, progress, "settings", settings(client).await)?;
    let nodes = rows(collected, "nodes", async |page| {
        client.list_nodes(ListNodes { page, filter: Filter::default() }).await
    })
    .await;
    details(client, nodes.as_deref().unwrap_or_default(), collected).await?;
    put(collected, progress, "nodes", nodes.map(|it| table::json(&it)))?;
    let buckets = rows(collected, "buckets", async |page| {
        client.list_buckets(ListBuckets { page, filter: Filter::default() }).await
    })
    .await;
    explanations(client, buckets.as_deref().unwrap_or_default(), collected).await?;
    put(collected, progress, "buckets", buckets.map(|it| table::json(&it)))?;
    let affinity = rows(collected, "affinity", async |page| {
        client.affinity(Affinity { page, ..Affinity::default() }).await
    })
    .await;
    put(collected, progress, "affinity", affinity.map(|it| table::json(&it)))?;
    let modules = rows(collected, "modules", async |page| {
        client.list_modules(ListModules { page, filter: Filter::default() }).await
    })
    .await;
    put(collected, progress, "modules", modules.map(|it| table::json(&it)))?;
    let jobs = rows(collected, "jobs", async |page| {
        client.list_jobs(ListJobs { page, filter: Filter::default() }).await
    })
    .await;
    put(collected, progress, "jobs", jobs.map(|it| table::json(&it)))?;
    let backends = rows(collected, "backends", async |page| {
        client.list_backends(ListBackends { page, filter: Filter::default() }).await
    })
    .await;
    put(collected, progress, "backends", backends.map(|it| table::json(&without_answers(it))))?;
    let sinks = rows(collected, "sinks", async |page| {
        client.list_sinks(ListSinks { page, filter: Filter::default() }).await
    })
    .await;
    put(collected, progress, "sinks", sinks.map(|it| table::json(&without_places(it))))?;
    put(collected, progress, "events", events(client).await)?;
    progress.inc(1);
    Ok(())
}

fn put(
    collected: &mut Collected,
    progress: &ProgressBar,
    name: &str,
    value: Result<Value, ApiError>,
) -> io::Result<()> {
    progress.inc(1);
    progress.set_message(name.to_owned());
    let path = format!("cluster/{name}.json");
    match value {
        Ok(value) => collected.add_json(&path, value),
        Err(error) => {
            collected.lacks(&path, &error.to_string());
            Ok(())
        }
    }
}

/// A list, or the beginning of one that is very long, which the bundle then says.
async fn rows<T: Serialize>(
    collected: &mut Collected,
    name: &str,
    mut ask: impl AsyncFnMut(PageOf) -> Result<Page<T>, ApiError>,
) -> Result<Vec<T>, ApiError> {
    let mut all = Vec::new();
    let mut token = String::new();
    loop {
        let page = ask(PageOf { size: PAGE_MAX, token }).await?;
        all.extend(page.rows);
        if page.next.is_empty() {
            return Ok(all);
        }
        if all.len() >= ROWS {
            let why = format!("there are more: these are the first {}", all.len());
            collected.lacks(&format!("cluster/{name}.json: the rest"), &why);
            return Ok(all);
        }
        token = page.next;
    }
}

async fn settings(client: &Client) -> Result<Value, ApiError> {
    let all = client.settings(ChangeSettings::default()).await?;
    Ok(Value::Object(all.settings.into_iter().map(|(key, value)| (key, value.into())).collect()))
}

/// What each node says of itself, as the leader knows it, or whoever answers.
async fn details(client: &Client, nodes: &[NodeRow], collected: &mut Collected) -> io::Result<()> {
    for row in nodes {
        let path = format!("nodes/{}/facts.json", plain(&row.name));
        match client.node(&numbered(row.id)).await {
            // What runs there is in the list of all.
            Ok(detail) => collected.add_json(&path, table::json(&detail.facts))?,
            Err(error) => collected.lacks(&path, &error.to_string()),
        }
    }
    Ok(())
}

/// Why what does not run does not, and what its instances say.
async fn explanations(client: &Client, buckets: &[BucketRow], collected: &mut Collected) -> io::Result<()> {
    let stuck: Vec<&BucketRow> = buckets.iter().filter(|row| !is_well(row.state)).collect();
    if stuck.len() > EXPLAINED {
        let why = format!("{} buckets do not run; the first {EXPLAINED} are explained", stuck.len());
        collected.lacks("cluster/explain", &why);
    }
    let mut explained = Vec::new();
    for row in stuck.into_iter().take(EXPLAINED) {
        // A row's name is one.
        let Ok(name) = BucketName::new(&row.name) else { continue };
        match (client.explain_bucket(&name).await, client.bucket(&name).await) {
            (Ok(explanation), Ok(got)) => explained.push(json!({
                "explanation": explanation,
                "message": got.status.message,
                "instances": got.status.instances,
            })),
            (Err(error), _) | (_, Err(error)) => {
                collected.lacks(&format!("cluster/explain: {name}"), &error.to_string());
            }
        }
    }
    collected.add_json("cluster/explain.json", Value::Array(explained))
}

const fn is_well(state: BucketState) -> bool {
    matches!(state, BucketState::Running | BucketState::Suspended)
}

async fn events(client: &Client) -> Result<Value, ApiError> {
    let ask = ListEvents { limit: EVENTS, newest_first: true, ..ListEvents::default() };
    let page = client.list_events(ask).await?;
    let rows = page.events.into_iter().rev().map(|event| {
        // What a module says of itself, and what a backend answered.
        let quotes = event.kind == "bucket.line" || event.kind.starts_with("backend.");
        let mut row = EventRow::from(event);
        if quotes {
            row.message.clear();
        } else {
            cut_words(&mut row.message);
        }
        row
    });
    Ok(table::json(&rows.collect::<Vec<_>>()))
}

/// Why a backend is left alone is what it answered.
fn without_answers(mut rows: Vec<BackendRow>) -> Vec<BackendRow> {
    rows.iter_mut().for_each(|row| row.message.clear());
    rows
}

/// Where sinks deliver to, up to the host: what follows may be what lets somebody in. And how their programs end, without
/// what these say.
fn without_places(mut rows: Vec<SinkRow>) -> Vec<SinkRow> {
    for row in &mut rows {
        cut_words(&mut row.last_error);
        if let Some((scheme, rest)) = row.place.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let host = host.rsplit('@').next().unwrap_or_default();
            row.place = format!("{scheme}://{host}/…");
        }
    }
    rows
}

/// What a sink's program has printed last follows how it ended.
fn cut_words(text: &mut String) {
    let words = text.find(ENDED).and_then(|at| text[at..].find(": ").map(|end| at + end));
    if let Some(words) = words {
        text.truncate(words);
        text.push_str(" …");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sinks_program_prints_is_cut_off() {
        for (text, left) in [
            (
                "/bin/page on node n1 ended with exit code 3: hunter2: x",
                "/bin/page on node n1 ended with exit code 3 …",
            ),
            ("/bin/page on node n1 ended with exit code 3", "/bin/page on node n1 ended with exit code 3"),
            ("connect to h: refused", "connect to h: refused"),
        ] {
            let mut cut = text.to_owned();
            cut_words(&mut cut);
            assert_eq!(cut, left);
        }
    }

    fn sink(place: &str) -> SinkRow {
        serde_json::from_value(json!({
            "name": "ops", "target": "webhook", "place": place, "state": "failing", "cursor": 1, "lag_events": 0,
            "lag_seconds": 0, "delivered": 0, "last_success": null, "failing_since": null, "failures": 1,
            "last_error": "500", "next_try": null, "missed": 0, "missed_last": null, "revision": 1,
            "labels": {}, "owner": null
        }))
        .expect("a row")
    }

    #[test]
    fn a_place_ends_with_its_host() {
        let rows = [
            "https://hooks.example/T0/B1/hunter2",
            "https://me:hunter2@h:8443?token=hunter2",
            "ops@example.org by mail:25",
            "/usr/local/bin/notify",
        ];
        let places: Vec<String> =
            without_places(rows.map(sink).into()).into_iter().map(|row| row.place).collect();
        let expected = [
            "https://hooks.example/…",
            "https://h:8443/…",
            "ops@example.org by mail:25",
            "/usr/local/bin/notify",
        ];
        assert_eq!(places, expected);
    }
}
