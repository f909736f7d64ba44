//! What must hold of the replicated state after every command. The simulation and the tests call it.

use crate::job::progress::Place;
use crate::state::State;

/// Every broken rule, in words; empty when all hold.
pub fn check(state: &State) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, binding) in &state.bindings {
        if *name != binding.bucket {
            broken.push(format!("binding of {} is kept under {name}", binding.bucket));
        }
        if !state.nodes.contains_key(&binding.node) {
            broken.push(format!("{name} is bound to node {}, which never registered", binding.node));
        }
        let multi = state.buckets.get(name).is_some_and(|bucket| bucket.current.spec.multi_node);
        if binding.leaving.is_none() && (multi || !state.buckets.contains_key(name)) {
            broken.push(format!("{name} is bound for good but is not a single-node bucket"));
        }
        if binding.epoch.0 & ((1 << 48) - 1) != binding.revision.0 || binding.revision > state.revision {
            broken.push(format!("{name} has epoch {} from revision {}", binding.epoch, binding.revision));
        }
        let off = state.buckets.get(name).is_some_and(|bucket| bucket.is_off());
        if off && binding.leaving.is_none() {
            broken.push(format!("{name} is switched off but its binding is not leaving"));
        }
    }
    for (name, bucket) in &state.buckets {
        if name != bucket.name() {
            broken.push(format!("bucket {} is kept under {name}", bucket.name()));
        }
        if state.module(&bucket.current.spec.module).is_none() {
            broken.push(format!("{name} uses module {}, which is gone", bucket.current.spec.module));
        }
        if bucket.revision > state.revision || bucket.current.revision > bucket.revision {
            broken.push(format!("{name} is at revision {} of {}", bucket.revision, state.revision));
        }
    }
    for (name, nodes) in &state.instances {
        for (node, instance) in nodes {
            let bound = state.bindings.get(name);
            let stands = match instance.epoch {
                Some(epoch) => bound.is_some_and(|b| b.epoch == epoch && b.node == *node),
                None => true,
            };
            if !stands {
                broken
                    .push(format!("{name} has an instance on node {node} under an epoch that is not bound"));
            }
        }
    }
    for name in state.objects.keys().filter(|name| !state.buckets.contains_key(*name)) {
        broken.push(format!("{name} has objects and is gone"));
    }
    broken.extend(jobs(state));
    let mut names: Vec<_> = state.nodes.values().filter(|n| n.status.is_alive()).collect();
    names.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
    for pair in names.windows(2) {
        if let [a, b] = pair
            && a.facts.name == b.facts.name
        {
            broken.push(format!("nodes {} and {} are both named {}", a.id, b.id, a.facts.name));
        }
    }
    broken
}

/// Each subtask stands in one place, counts and indexes are what the rows make, and nothing runs where nobody takes it.
fn jobs(state: &State) -> Vec<String> {
    let mut broken = state.jobs.contradictions();
    for job in state.jobs.iter() {
        let name = &job.spec.name;
        if state.module(&job.spec.module).is_none() {
            broken.push(format!("job {name} uses module {}, which is gone", job.spec.module));
        }
        for (subtask, running) in job.progress.running() {
            if !state.is_alive(running.node) || state.jobs.runner(running.node).is_none() {
                broken.push(format!(
                    "job {name}: subtask {subtask} runs on node {}, which takes none",
                    running.node
                ));
            }
        }
        let hopeless = state.jobs.dependencies(job.id).and_then(|all| {
            let ends = |on: &u32| job.progress.place(*on).is_some_and(Place::is_unfinished_end);
            let waits = |subtask: &u32| job.progress.place(*subtask) == Some(Place::Waiting);
            all.dependents().map(|(it, _)| it).find(|it| waits(it) && all.needs(*it).iter().any(ends))
        });
        if let Some(subtask) = hopeless {
            broken.push(format!("job {name}: subtask {subtask} waits for what will not finish"));
        }
    }
    broken
}
