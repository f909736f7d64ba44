//! What is registered as asked, and will not be quite as asked.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_engine::State;
use sheaf_model::{Limits, ModuleRef, ModuleSpec, PutBucket};

use crate::secret;

/// What nodes say that they cannot enforce of what these modules ask for, and those that these buckets are of.
pub(crate) fn unenforced(modules: &[ModuleSpec], buckets: &[PutBucket], state: &State) -> Vec<String> {
    let known = buckets.iter().filter_map(|put| secret::module_of(&put.spec.module, modules, state));
    let all: BTreeMap<_, _> =
        modules.iter().chain(known).map(|module| ((&module.name, &module.version), module)).collect();
    let mut warnings = Vec::new();
    for module in all.values() {
        let Limits { memory, cpu_millis, processes, open_files } = &module.limits;
        let asked = [
            ("limits.memory", memory.is_some(), None),
            ("limits.cpu", cpu_millis.is_some(), None),
            ("limits.processes", processes.is_some() && module.user.is_none(), None),
            ("limits.open_files", open_files.is_some(), *open_files),
            ("user", module.user.is_some(), None),
        ];
        for (field, _, wanted) in asked.into_iter().filter(|(_, asked, _)| *asked) {
            // The same words of many nodes make one warning.
            let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for node in state.nodes.values().filter(|node| node.status.is_alive()) {
                let said = |note: &&String| lacks(note, field, wanted);
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

/// Whether a node's note is of this field, and of so much.
fn lacks(note: &str, field: &str, wanted: Option<u64>) -> bool {
    let Some(rest) = note.strip_prefix(field).and_then(|rest| rest.strip_prefix(' ')) else { return false };
    let most = rest.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    most.zip(wanted).is_none_or(|(most, wanted)| wanted > most)
}

/// A few names, and how many more there are.
pub(crate) fn some(names: &[&str]) -> String {
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

/// Artifacts that nobody has pushed and without which these modules do not start.
pub(crate) fn unpushed<'a>(modules: impl IntoIterator<Item = &'a ModuleSpec>, state: &State) -> Vec<String> {
    let lacking = modules.into_iter().filter(|module| {
        let version = ModuleRef { name: module.name.clone(), version: Some(module.version.clone()) };
        module.uses_artifact() && !state.artifacts.contains_key(&version)
    });
    let named: BTreeSet<String> =
        lacking.map(|module| format!("{}@{}", module.name, module.version)).collect();
    let warning = |named: String| {
        let push = format!("`sheaf module push {named} PATH`");
        format!("module {named} uses ${{artifact}}, and none was pushed: it starts after {push}")
    };
    named.into_iter().map(warning).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::{Change, Pushed};
    use sheaf_model::{
        Artifact, Digest, Exec, ModuleName, ModuleVersion, Revision, Runtime, Shape, Template, TemplateSet,
        Timestamp,
    };

    use super::*;

    #[test]
    fn an_artifact_that_is_missing_is_told_once_and_not_when_it_is_there() {
        let module = |name: &str, command: &str| {
            let (name, version) =
                (ModuleName::new(name).expect("a name"), ModuleVersion::new("2").expect("one"));
            let command = Template::parse(command, TemplateSet::Instance).expect("a template");
            let exec = Some(Exec { command, args: Vec::new(), env: BTreeMap::new() });
            ModuleSpec { exec, ..ModuleSpec::new(name, version, Runtime::Exec) }
        };
        let (brings, has) = (module("brings", "${artifact}/run"), module("has", "/bin/run"));
        let mut state = State::default();
        let told = unpushed([&brings, &has, &brings], &state);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("starts after `sheaf module push brings@2 PATH`"), "{told:?}");
        let module = ModuleRef::parse("brings@2").expect("a version of a module");
        let artifact = Artifact { module, digest: Digest([7; 32]), size: 1, shape: Shape::Directory };
        let artifact = Arc::new(artifact);
        state.put(&Change::Artifact(Pushed { artifact, revision: Revision(1), at: Timestamp(0) }));
        assert_eq!(unpushed([&brings], &state), Vec::<String>::new());
    }

    #[test]
    fn a_note_is_of_its_field_and_of_more_than_can_be_had() {
        let (cpu, files) = ("limits.cpu is not enforced: why", "limits.open_files 4096 is the most here");
        assert!(lacks(cpu, "limits.cpu", None) && !lacks(cpu, "limits", None));
        assert!(!lacks(cpu, "limits.memory", None));
        let asks = |wanted| lacks(files, "limits.open_files", Some(wanted));
        assert_eq!((asks(77), asks(4096), asks(4097)), (false, false, true));
    }
}
