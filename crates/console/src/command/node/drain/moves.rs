//! What becomes of the buckets of a node that is drained: which leave, where they run then, and which cannot go.

use std::collections::{BTreeMap, BTreeSet};

use sheaf_model::view::AffinityRow;
use sheaf_wire::node::Going;
use tokio::time::Instant;

use super::some;

/// A bucket that is there still.
#[derive(Clone, Copy, Debug, Default)]
struct There {
    leaves_since: Option<Instant>,
    multi_node: bool,
}

/// What was seen of it so far.
#[derive(Debug)]
pub(super) struct Moves {
    /// The drained node, by its name.
    node: String,
    /// Every bucket that was to go.
    all: BTreeSet<String>,
    there: BTreeMap<String, There>,
    /// What has left and is not known to run elsewhere, and since when it leaves.
    gone: BTreeMap<String, Instant>,
    /// Why what is there has no place to go to, as far as it was asked.
    stuck: BTreeMap<String, String>,
    looked_at: Instant,
}

impl Moves {
    /// `going` is what the drain was answered.
    pub(super) fn new(node: &str, going: &[Going], now: Instant) -> Self {
        let all: BTreeSet<String> = going.iter().map(|it| it.bucket.clone()).collect();
        let there = all.iter().map(|bucket| (bucket.clone(), There::default())).collect();
        let mut moves = Self {
            node: node.to_owned(),
            all,
            there,
            gone: BTreeMap::new(),
            stuck: BTreeMap::new(),
            looked_at: now,
        };
        moves.asked(going); // whoever drains has just read that
        moves
    }

    /// These are there now, and are to go.
    pub(super) fn looked(&mut self, rows: &[&AffinityRow], now: Instant) {
        let mut former = std::mem::take(&mut self.there);
        for row in rows {
            let leaves = row.why.starts_with("leaving") || row.phase == "stopping";
            let known = former.remove(&row.bucket).and_then(|there| there.leaves_since);
            let leaves_since = known.or_else(|| leaves.then_some(now));
            self.gone.remove(&row.bucket);
            self.all.insert(row.bucket.clone());
            self.there.insert(row.bucket.clone(), There { leaves_since, multi_node: row.multi_node });
        }
        for (bucket, there) in former {
            self.stuck.remove(&bucket);
            self.gone.insert(bucket, there.leaves_since.unwrap_or(self.looked_at));
        }
        self.looked_at = now;
    }

    /// Buckets that have left, and of which nothing was said since.
    pub(super) fn gone(&self) -> Vec<String> {
        self.gone.keys().cloned().collect()
    }

    /// What there is to say of one of them, by where it is now; `over`: nothing more will be said.
    pub(super) fn arrived(
        &mut self,
        bucket: &str,
        places: &[AffinityRow],
        over: bool,
        now: Instant,
    ) -> Option<String> {
        let began = *self.gone.get(bucket)?;
        let elsewhere: Vec<&AffinityRow> = places.iter().filter(|row| row.node != self.node).collect();
        let running = elsewhere.iter().filter(|row| row.phase == "running");
        let running: Vec<&str> = running.map(|row| row.node.as_str()).collect();
        if running.is_empty() && !over {
            return None;
        }
        self.gone.remove(bucket);
        let took = format!("{:.1}s", now.duration_since(began).as_secs_f64());
        let all = self.all.len();
        let count = format!("({} of {all})", all - self.there.len() - self.gone.len());
        Some(match elsewhere.first() {
            None => format!("{bucket} → nowhere, see `sheaf bucket explain {bucket}`, in {took} {count}"),
            Some(row) if running.is_empty() => {
                format!("{bucket} → {} in {took}, where it is {} {count}", row.node, row.phase)
            }
            Some(row) if row.multi_node => {
                format!("{bucket} stopped here in {took} and runs on {} {count}", some(&running))
            }
            Some(_) => format!("{bucket} → {} in {took} {count}", some(&running)),
        })
    }

    /// Whether anything waits for a place to go to, or for its turn.
    pub(super) fn waits(&self) -> bool {
        self.there.values().any(There::waits)
    }

    /// What becomes of everything now; of what has no place to go to, why, if that is new.
    pub(super) fn asked(&mut self, going: &[Going]) -> Vec<String> {
        let mut said = Vec::new();
        for Going { bucket, to, why } in going {
            if !self.there.get(bucket).is_some_and(There::waits) {
                continue;
            }
            let former = match to.as_str() {
                "" => self.stuck.insert(bucket.clone(), why.clone()),
                _ => {
                    self.stuck.remove(bucket);
                    continue;
                }
            };
            if former.as_ref() != Some(why) {
                said.push(format!("{bucket}: {why}"));
            }
        }
        said
    }

    /// What is there, each with why it has no place to go to.
    pub(super) fn left(&self) -> Vec<String> {
        let named = |bucket: &String| match self.stuck.get(bucket) {
            Some(why) => format!("{bucket} ({why})"),
            None => bucket.clone(),
        };
        self.there.keys().map(named).collect()
    }
}

impl There {
    fn waits(&self) -> bool {
        self.leaves_since.is_none() && !self.multi_node
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row(bucket: &str, node: &str, phase: &str, why: &str) -> AffinityRow {
        AffinityRow {
            bucket: bucket.to_owned(),
            node: node.to_owned(),
            hostname: node.to_owned(),
            epoch: None,
            since: None,
            phase: phase.to_owned(),
            why: why.to_owned(),
            multi_node: bucket == "/all",
            node_id: 0,
        }
    }

    fn going(bucket: &str, to: &str, why: &str) -> Going {
        Going { bucket: bucket.to_owned(), to: to.to_owned(), why: why.to_owned() }
    }

    #[test]
    fn each_bucket_that_has_left_is_told_with_where_it_runs() {
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        let asked = [going("/a", "n3", "free"), going("/all", "", "multi-node"), going("/b", "n2", "free")];
        let mut moves = Moves::new("n1", &asked, at(0));
        let (a, b) = (row("/a", "n1", "running", "leaving: drained"), row("/b", "n1", "running", "free"));
        let all = row("/all", "n1", "running", "");
        moves.looked(&[&a, &b, &all], at(200));
        assert_eq!(moves.gone(), Vec::<String>::new());
        moves.looked(&[&b, &all], at(400));
        assert_eq!(moves.gone(), ["/a"]);
        assert_eq!(moves.arrived("/a", &[], false, at(400)), None, "it runs nowhere yet");
        let starting = [row("/a", "n3", "starting", "free")];
        assert_eq!(moves.arrived("/a", &starting, false, at(500)), None);
        moves.looked(&[&b], at(1200));
        assert_eq!(moves.gone(), ["/a", "/all"]);
        let runs = [row("/a", "n3", "running", "free")];
        let said = moves.arrived("/a", &runs, false, at(1400));
        assert_eq!(said.as_deref(), Some("/a → n3 in 1.2s (1 of 3)"));
        assert_eq!(moves.arrived("/a", &runs, false, at(1400)), None, "once");
        let runs = ["n1", "n2", "n3"].map(|node| row("/all", node, "running", ""));
        let said = moves.arrived("/all", &runs, false, at(1400));
        assert_eq!(said.as_deref(), Some("/all stopped here in 1.0s and runs on n2, n3 (2 of 3)"));
        moves.looked(&[], at(1600));
        let late = [row("/b", "n2", "starting", "free")];
        let said = moves.arrived("/b", &late, true, at(1700));
        assert_eq!(said.as_deref(), Some("/b → n2 in 0.5s, where it is starting (3 of 3)"));
        moves.looked(&[&b], at(2000));
        moves.looked(&[], at(2200));
        let said = moves.arrived("/b", &[], true, at(2200));
        assert_eq!(said.as_deref(), Some("/b → nowhere, see `sheaf bucket explain /b`, in 0.2s (3 of 3)"));
    }

    #[test]
    fn what_cannot_go_is_told_with_why_and_again_when_that_changes() {
        let now = Instant::now();
        let (none, full) = ("no other node is available", "the others are full");
        let mut moves = Moves::new("n1", &[going("/a", "", none), going("/b", "n2", "free")], now);
        let (a, b) = (row("/a", "n1", "running", "free"), row("/b", "n1", "running", "free"));
        moves.looked(&[&a, &b], now);
        assert!(moves.waits());
        assert_eq!(moves.left(), ["/a (no other node is available)", "/b"]);
        assert_eq!(
            moves.asked(&[going("/a", "", none), going("/b", "", none)]),
            ["/b: no other node is available"]
        );
        assert_eq!(
            moves.asked(&[going("/a", "", full), going("/b", "n2", "free")]),
            ["/a: the others are full"]
        );
        assert_eq!(moves.left(), ["/a (the others are full)", "/b"]);
        let leaves = row("/b", "n1", "running", "leaving: drained");
        moves.looked(&[&leaves], now);
        assert!(!moves.waits(), "one has left, and the other one is about to");
        assert_eq!(moves.asked(&[going("/b", "", "leaving already: drained")]), Vec::<String>::new());
        assert_eq!(moves.left(), ["/b"]);
    }
}
