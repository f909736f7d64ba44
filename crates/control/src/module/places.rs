//! Which version of a module runs on which node, as the state says, and the histories of buckets that change just now.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_engine::Release;
use sheaf_engine::status::Sight;
use sheaf_model::view::ModuleOnNode;
use sheaf_model::{BucketName, ModuleRef, Revision};
use sheaf_wire::ApiError;

use crate::Control;
use crate::event::read;

/// So many histories are looked at; more buckets are between two versions for a moment only.
const HISTORIES: usize = 100;
/// Bytes of each, about: what a bucket was lately.
const HISTORY_BYTES: usize = 256 << 10;

/// Instances by node, version and state; of all versions, or of the one that is asked for.
pub(super) struct Places {
    asked: ModuleRef,
    counts: BTreeMap<(String, String, &'static str), u32>,
    earlier: Vec<Earlier>,
}

/// An instance of a release that its bucket had before those it has now.
struct Earlier {
    bucket: BucketName,
    /// The bucket is of another module now: this may be of the one that is asked for if its history says so.
    moved: bool,
    revision: Revision,
    node: String,
    state: &'static str,
}

impl Places {
    pub(super) fn seen(sight: Sight<'_>, asked: &ModuleRef) -> Self {
        let mut places = Self { asked: asked.clone(), counts: BTreeMap::new(), earlier: Vec::new() };
        for (instance, module) in sight.instances_of(&asked.name) {
            let state = if sight.state.is_alive(instance.node) { instance.phase.as_str() } else { "lost" };
            let node = sight.state.node_name(instance.node);
            match module {
                Some(module) => places.count(node, Some(module), state),
                None => {
                    let (bucket, revision) = (instance.bucket.clone(), instance.revision);
                    let is_of = |release: &Release| release.spec.module.name == asked.name;
                    let now = sight.state.buckets.get(&bucket);
                    let moved = now.is_none_or(|now| !is_of(&now.current) && !is_of(now.newest()));
                    places.earlier.push(Earlier { bucket, moved, revision, node, state });
                }
            }
        }
        places
    }

    /// None: what it is was not found out.
    fn count(&mut self, node: String, module: Option<&ModuleRef>, state: &'static str) {
        let version = match module {
            Some(module) if module.name != self.asked.name => return,
            Some(module) => module.version.clone(),
            None => None,
        };
        if self.asked.version.is_some() && self.asked.version != version {
            return;
        }
        let version = version.map(|version| version.to_string()).unwrap_or_default();
        *self.counts.entry((node, version, state)).or_default() += 1;
    }

    /// Adds those that the state does not say, by what their buckets were.
    fn settle(&mut self, earlier: Vec<Earlier>, histories: &BTreeMap<BucketName, Vec<Release>>) {
        for it in earlier {
            let module = histories.get(&it.bucket).and_then(|history| at(history, it.revision));
            if module.is_some() || !it.moved {
                self.count(it.node, module, it.state);
            }
        }
    }

    fn rows(self) -> Vec<ModuleOnNode> {
        let row = |((node, version, state), instances): ((String, String, &str), u32)| ModuleOnNode {
            node,
            version,
            state: state.to_owned(),
            instances,
        };
        self.counts.into_iter().map(row).collect()
    }
}

/// What a bucket was at a revision, by its releases, newest first.
fn at(history: &[Release], revision: Revision) -> Option<&ModuleRef> {
    history.iter().find(|release| release.revision <= revision).map(|release| &release.spec.module)
}

impl Control {
    /// The rows, after a look at histories where the state does not say it.
    pub(super) async fn rows_of(&self, mut places: Places) -> Result<Vec<ModuleOnNode>, ApiError> {
        let earlier = std::mem::take(&mut places.earlier);
        // Those that are of the module still are looked at first.
        let buckets: BTreeSet<(bool, BucketName)> =
            earlier.iter().map(|it| (it.moved, it.bucket.clone())).collect();
        let histories = self.histories(buckets.into_iter().map(|(_, bucket)| bucket).collect()).await?;
        places.settle(earlier, &histories);
        Ok(places.rows())
    }

    /// Of the first of these buckets.
    async fn histories(
        &self,
        buckets: Vec<BucketName>,
    ) -> Result<BTreeMap<BucketName, Vec<Release>>, ApiError> {
        if buckets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let member = self.member()?;
        read(&member, move |reader| {
            let first = buckets.into_iter().take(HISTORIES);
            let newest = |bucket: BucketName| {
                let found = reader.releases(&bucket, None, usize::MAX, HISTORY_BYTES)?.found;
                Ok((bucket, found))
            };
            first.map(newest).collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_model::{BucketSpec, Timestamp};

    use super::*;

    fn module(text: &str) -> ModuleRef {
        ModuleRef::parse(text).expect("a module")
    }

    fn release(revision: u64, of: &str) -> Release {
        let bucket = BucketName::new("/a").expect("a name");
        let (spec, actor) = (Arc::new(BucketSpec::new(bucket, module(of))), "test".to_owned());
        Release { revision: Revision(revision), spec, at: Timestamp(1), actor }
    }

    fn counted(asked: &str) -> Vec<(String, String, String, u32)> {
        let (asked, counts) = (module(asked), BTreeMap::new());
        let mut places = Places { asked, counts, earlier: Vec::new() };
        let history = [release(20, "m@2"), release(10, "m@1"), release(5, "other@1")];
        for (node, revision, state) in [
            ("b", 20, "running"),
            ("a", 19, "running"),
            ("a", 12, "running"),
            ("a", 25, "failed"),
            ("a", 6, "running"),
            ("c", 4, "starting"),
        ] {
            places.count(node.to_owned(), at(&history, Revision(revision)), state);
        }
        let rows = places.rows().into_iter();
        rows.map(|row| (row.node, row.version, row.state, row.instances)).collect()
    }

    #[test]
    fn each_node_is_shown_with_what_it_runs_and_how() {
        let row = |node: &str, version: &str, state: &str, instances| {
            (node.to_owned(), version.to_owned(), state.to_owned(), instances)
        };
        let unknown = row("c", "", "starting", 1);
        let (first, failed, new) =
            (row("a", "1", "running", 2), row("a", "2", "failed", 1), row("b", "2", "running", 1));
        assert_eq!(counted("m"), [first.clone(), failed, new, unknown]);
        assert_eq!(counted("m@1"), [first]);
        assert!(counted("m@3").is_empty());
    }

    #[test]
    fn what_its_bucket_was_counts_when_that_is_of_another_module_now() {
        let (asked, counts) = (module("m"), BTreeMap::new());
        let mut places = Places { asked, counts, earlier: Vec::new() };
        let name = |name: &str| BucketName::new(name).expect("a name");
        let earlier = |bucket: &str, moved, node: &str| {
            let (bucket, node) = (name(bucket), node.to_owned());
            Earlier { bucket, moved, revision: Revision(12), node, state: "running" }
        };
        let all = vec![
            earlier("/moved", true, "a"),
            earlier("/never", true, "b"),
            earlier("/lost", true, "c"),
            earlier("/still", false, "d"),
        ];
        let histories = [
            (name("/moved"), vec![release(20, "other@1"), release(10, "m@1")]),
            (name("/never"), vec![release(20, "other@2"), release(10, "other@1")]),
        ];
        places.settle(all, &histories.into());
        let rows: Vec<(String, String)> =
            places.rows().into_iter().map(|row| (row.node, row.version)).collect();
        assert_eq!(rows, [("a".to_owned(), "1".to_owned()), ("d".to_owned(), String::new())]);
    }
}
