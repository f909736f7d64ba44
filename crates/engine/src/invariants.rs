//! What must hold of the replicated state after every command. The simulation and the tests call it.

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
