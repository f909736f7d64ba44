//! Rules are made ready once for all buckets that have the same ones: a fleet has many buckets and few kinds of nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{CompiledRules, NodeListRules};

/// Rules that no bucket has any longer are looked for when this many more were added than were left the last time.
const SPARE: usize = 64;

/// The rules of all buckets that a node knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    compiled: BTreeMap<NodeListRules, Arc<CompiledRules>>,
    /// How many there were when those that are not used were dropped.
    kept: usize,
}

impl Rules {
    /// These rules, ready to be checked.
    pub(super) fn compiled(&mut self, rules: &NodeListRules) -> Arc<CompiledRules> {
        if let Some(compiled) = self.compiled.get(rules) {
            return compiled.clone();
        }
        if self.compiled.len() >= 2 * self.kept + SPARE {
            self.compiled.retain(|_, compiled| Arc::strong_count(compiled) > 1);
            self.kept = self.compiled.len();
        }
        let compiled = Arc::new(rules.compile());
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

    #[test]
    fn the_same_rules_are_compiled_once_and_kept_while_a_bucket_has_them() {
        let mut book = Rules::default();
        let first = book.compiled(&rules("+/^a/i"));
        for number in 0..10 * SPARE {
            assert!(
                book.compiled(&rules(&format!("+/^b{number}$/"))).check(&format!("b{number}"), &[]).is_ok()
            );
        }
        assert!(Arc::ptr_eq(&first, &book.compiled(&rules("+/^a/i"))));
        assert!(first.check("A1", &[]).is_ok() && first.check("b1", &[]).is_err());
        assert!(book.compiled.len() <= 2 * SPARE, "{}", book.compiled.len());
    }
}
