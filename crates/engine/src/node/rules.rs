//! Rules are made ready once for all buckets that have the same ones: a fleet has many buckets and few kinds of nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use sheaf_model::{CompiledRules, GateOutcome, NodeListRules};

use crate::gates::{self, Here};

/// Rules that no bucket has any longer are looked for when this many more were added than were left the last time.
const SPARE: usize = 64;

/// Rules ready to be checked, and what gate 2 says by them on this node, as it was when it was first asked.
#[derive(Debug)]
pub(super) struct Ready {
    rules: CompiledRules,
    said: OnceLock<GateOutcome>,
}

impl Ready {
    /// What gate 2 says.
    pub(super) fn said(&self, here: &Here) -> &GateOutcome {
        self.said.get_or_init(|| gates::node_list_rules(&self.rules, here))
    }
}

/// The rules of all buckets that a node knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    compiled: BTreeMap<NodeListRules, Arc<Ready>>,
    /// How many there were when those that are not used were dropped.
    kept: usize,
}

impl Rules {
    /// These rules, ready to be checked.
    pub(super) fn compiled(&mut self, rules: &NodeListRules) -> Arc<Ready> {
        if let Some(compiled) = self.compiled.get(rules) {
            return compiled.clone();
        }
        if self.compiled.len() >= 2 * self.kept + SPARE {
            self.compiled.retain(|_, compiled| Arc::strong_count(compiled) > 1);
            self.kept = self.compiled.len();
        }
        let compiled = Arc::new(Ready { rules: rules.compile(), said: OnceLock::new() });
        self.compiled.insert(rules.clone(), compiled.clone());
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str) -> NodeListRules {
        NodeListRules::parse(&[text]).expect("a good rule")
    }

    fn passes(ready: &Ready, hostname: &str) -> bool {
        ready.said(&Here { hostname: hostname.to_owned(), ..Here::default() }).pass == Some(true)
    }

    #[test]
    fn the_same_rules_are_compiled_once_and_kept_while_a_bucket_has_them() {
        let mut book = Rules::default();
        let first = book.compiled(&rules("+/^a/i"));
        for number in 0..10 * SPARE {
            let other = book.compiled(&rules(&format!("+/^b{number}$/")));
            assert!(passes(&other, &format!("b{number}")));
        }
        assert!(Arc::ptr_eq(&first, &book.compiled(&rules("+/^a/i"))));
        assert!(passes(&first, "A1"));
        assert!(passes(&first, "b1"), "what was said stays");
        assert!(!passes(&Rules::default().compiled(&rules("+/^a/i")), "b1"));
        assert!(book.compiled.len() <= 2 * SPARE, "{}", book.compiled.len());
    }
}
