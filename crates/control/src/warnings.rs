//! What is registered as asked, and will not be quite as asked.

use std::collections::BTreeMap;

use sheaf_engine::State;
use sheaf_model::{Limits, ModuleRef, ModuleSpec, PutBucket};

/// What nodes say that they cannot enforce of what these modules ask for.
pub(crate) fn unenforced(modules: &[ModuleSpec], state: &State) -> Vec<String> {
    let mut warnings = Vec::new();
    for module in modules {
        let Limits { memory, cpu_millis, processes, .. } = &module.limits;
        let asked = [
            ("limits.memory", memory.is_some()),
            ("limits.cpu", cpu_millis.is_some()),
            ("limits.processes", processes.is_some() && module.user.is_none()),
            ("user", module.user.is_some()),
        ];
        for (field, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            // The same words of many nodes make one warning.
            let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for node in state.nodes.values().filter(|node| node.status.is_alive()) {
                let said = |note: &&String| note.split_once(' ').is_some_and(|(first, _)| first == field);
                if let Some(note) = node.facts.notes.iter().find(said) {
                    nodes.entry(note).or_default().push(node.facts.name.as_str());
                }
            }
            for (note, nodes) in nodes {
                let (name, version) = (&module.name, &module.version);
                warnings.push(format!("Module {name}@{version}: {note} ({})", some(&nodes)));
            }
        }
    }
    warnings
}

/// A few names, and how many more there are.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// What is registered as asked and has no effect.
pub(crate) fn without_effect(
    buckets: &[PutBucket],
    can_be_polled: impl Fn(&ModuleRef) -> bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for put in buckets {
        let name = &put.spec.name;
        if put.spec.poll_frequency.is_some() && !can_be_polled(&put.spec.module) {
            warnings.push(format!(
                "Bucket {name}: poll_frequency has no effect, module {} gives no command in life_cycle.on_periodic_poll",
                put.spec.module
            ));
        }
        if put.spec.max_parallel.is_some() && !put.spec.multi_node {
            warnings.push(format!("Bucket {name}: max_parallel has no effect, since it runs on one node"));
        }
    }
    warnings
}
