//! What must be true afterwards, from what programs have written down, what callers were answered, and what the cluster
//! says of itself.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::callers::{Answers, Seen, value};
use super::{NODES, World};
use crate::beats::{self, one_at_a_time};
use crate::linear;

/// Looks at everything.
///
/// # Errors
/// With all that is wrong.
pub(super) fn check(world: &World, history: &History, answers: &Answers) -> Result<(), String> {
    let mut wrong = answers.wrong.clone();
    for (number, name) in World::singles().enumerate() {
        wrong.extend(single(world, history, number, &name));
    }
    for name in World::multis() {
        wrong.extend(multi(world, &name));
    }
    for name in World::registers() {
        wrong.extend(register(world, &name, answers));
    }
    for (key, operations) in &answers.objects {
        if let Err(found) = linear::check(0, operations) {
            wrong.push(format!("object {key} of {} calls: {found}", operations.len()));
        }
    }
    wrong.extend(acts(history, answers));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// At most one at a time, under epochs that grow and were bound, on nodes that may.
fn single(world: &World, history: &History, number: usize, name: &str) -> Vec<String> {
    let lives = beats::programs(&world.trace(name));
    let mut wrong = Vec::new();
    if lives.is_empty() {
        wrong.push(format!("{name} has never run"));
    }
    if let Err(found) = one_at_a_time(&lives) {
        wrong.push(format!("{name}: {found}"));
    }
    let bound = history.bound(name);
    for life in lives.iter().filter(|life| !bound.contains(&life.epoch)) {
        wrong.push(format!("{name}: an epoch that was never bound: {life:?}"));
    }
    if let Some(allowed) = World::allowed(number).map(|nodes| nodes.map(|node| format!("n{node}"))) {
        for life in lives.iter().filter(|life| !allowed.contains(&life.node)) {
            wrong.push(format!("{name} ran where it may not: {life:?}"));
        }
    }
    wrong
}

/// At most one at a time on each node, and one on each in the end.
fn multi(world: &World, name: &str) -> Vec<String> {
    let lives = beats::programs(&world.trace(name));
    let mut wrong = Vec::new();
    for node in (1..=NODES).map(|number| format!("n{number}")) {
        let here: Vec<_> = lives.iter().filter(|life| life.node == node).collect();
        if here.is_empty() {
            wrong.push(format!("{name} has never run on {node}"));
        }
        if let Err(found) = one_at_a_time(here) {
            wrong.push(format!("{name} on {node}: {found}"));
        }
    }
    wrong
}

/// What has happened, by its subject.
pub(super) struct History(BTreeMap<String, Vec<Value>>);

impl History {
    pub(super) fn of(world: &World) -> Self {
        let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for event in world.cluster.cli(&["events", "--all", "-o", "json"]).ok().json_lines() {
            all.entry(event["subject"].as_str().unwrap_or_default().to_owned()).or_default().push(event);
        }
        Self(all)
    }

    /// The epochs under which a bucket was bound.
    pub(super) fn bound(&self, bucket: &str) -> BTreeSet<u64> {
        let bound = self.events(bucket).filter(|event| event["kind"] == "bucket.bound");
        bound.filter_map(|event| event["after"].as_str()?.parse().ok()).collect()
    }

    fn events(&self, subject: &str) -> impl Iterator<Item = &Value> {
        self.0.get(subject).into_iter().flatten()
    }
}

/// Everything acknowledged is in the history where it was said to be, nothing twice, and the answers fit one order.
fn register(world: &World, name: &str, answers: &Answers) -> Vec<String> {
    let mut wrong = Vec::new();
    let history = world.cluster.json(&["bucket", "history", name, "--limit", "10000", "-o", "json"]);
    let mut releases: BTreeMap<u64, u64> = BTreeMap::new();
    for row in history.as_array().into_iter().flatten() {
        match (row["revision"].as_u64(), value(row["bucket"]["owner"].as_str())) {
            (Some(revision), Some(value)) => {
                releases.insert(revision, value);
            }
            _ => wrong.push(format!("{name}: no release: {row}")),
        }
    }
    let distinct: BTreeSet<u64> = releases.values().copied().collect();
    if distinct.len() != releases.len() {
        wrong.push(format!("{name}: a change was made twice: {releases:?}"));
    }
    for (_, Seen { revision, value }) in answers.seen.iter().filter(|(of, _)| of == name) {
        if releases.get(revision) != Some(value) {
            wrong
                .push(format!("{name}: was {value} at {revision}, history has {:?}", releases.get(revision)));
        }
    }
    let mut operations = answers.histories.get(name).cloned().unwrap_or_default();
    let rows = world.cluster.json(&["bucket", "list", "--where", &format!("name={name}"), "-o", "json"]);
    let last = &rows[0]["owner"];
    let end = operations.iter().map(|operation| operation.returned).max().unwrap_or(0);
    match value(last.as_str()) {
        Some(value) => operations.push(linear::Operation {
            ask: linear::Ask::Read,
            answer: linear::Answer::Value(value),
            called: end + 1,
            returned: end + 2,
        }),
        None => wrong.push(format!("{name}: its owner is {last}")),
    }
    let first = answers.first.get(name).map_or(0, |seen| seen.value);
    if let Err(found) = linear::check(first, &operations) {
        wrong.push(format!("{name} of {} calls: {found}", operations.len()));
    }
    wrong
}

/// Each acknowledged act is in the history of its subject.
fn acts(history: &History, answers: &Answers) -> Vec<String> {
    let mut by_subject: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (subject, revision) in &answers.acts {
        by_subject.entry(subject).or_default().push(*revision);
    }
    let mut wrong = Vec::new();
    for (subject, revisions) in by_subject {
        let events = history.events(subject);
        let recorded: BTreeSet<u64> = events.filter_map(|event| event["revision"].as_u64()).collect();
        for revision in revisions.into_iter().filter(|revision| !recorded.contains(revision)) {
            wrong.push(format!("{subject}: what was acknowledged at {revision} is not in its history"));
        }
    }
    wrong
}
