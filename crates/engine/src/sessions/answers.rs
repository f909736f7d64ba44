//! What nodes answered for buckets, and which epochs they gave up. What a node says counts for that node alone, whatever
//! it names: revisions are those that this leader has applied, and whose a binding is stands in the state.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_model::{BucketName, Epoch, Moment, NodeId, NodeStatus, Revision, Verdict};

use super::{Heard, Sessions};
use crate::state::State;

/// Verdicts of one node that wait for this leader to apply what they are about. A member that has applied it shows it to
/// nodes, so that they may answer first; beyond this the session is to end, and all is said again in the next one.
const EARLY: usize = 1024;

/// Verdicts on one bucket.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// The newest of each node.
    verdicts: BTreeMap<NodeId, Arc<Verdict>>,
    /// The bucket's revision for which there is an answer, and since when there is one.
    first: Option<(Revision, Moment)>,
    /// What [`super::Heard::verdicts`] was when the newest of them came.
    told: u64,
}

impl Answers {
    /// Whether the first about this revision is known.
    fn have_begun(&self, revision: Revision) -> bool {
        self.first.is_some_and(|(about, _)| about == revision)
    }
}

impl Sessions {
    /// Verdicts came. During a rollout they are about different revisions; of each node the newest word counts. False: too many are
    /// about what is not applied here. An agent says each once in a session, so that one must end.
    pub fn answered(
        &mut self,
        node: NodeId,
        verdicts: Vec<Arc<Verdict>>,
        state: &State,
        now: Moment,
    ) -> bool {
        let Self { nodes, early, answers, told, .. } = self;
        // One that has none says it all again once it has.
        let Some(session) = nodes.get_mut(&node) else { return true };
        let mut waiting = early.remove(&node).unwrap_or_default();
        let mut are_kept = true;
        for mut verdict in verdicts {
            if verdict.is_long() {
                Arc::make_mut(&mut verdict).clip();
            }
            session.share(&mut verdict);
            waiting.remove(&verdict.bucket); // the newest word counts
            if verdict.revision <= state.revision {
                take(answers, told, (node, verdict), state, now);
            } else if waiting.len() < EARLY {
                waiting.insert(verdict.bucket.clone(), verdict);
            } else {
                are_kept = false;
            }
        }
        if !waiting.is_empty() {
            early.insert(node, waiting);
        }
        are_kept
    }

    /// A node reported that it gave up an epoch, durably, with nothing of it alive. It says so again until the binding is
    /// gone, so what this leader has not applied yet is heard then.
    pub fn gave_up(&mut self, node: NodeId, bucket: BucketName, epoch: Epoch, state: &State) {
        if state.bindings.get(&bucket).is_some_and(|binding| binding.node == node) {
            self.given_up.insert(bucket, (node, epoch));
        }
    }

    /// Takes up answers about what was not applied here when they came, and forgets those of buckets and nodes that are
    /// gone.
    pub(super) fn observe_answers(&mut self, state: &State, now: Moment) {
        for (node, mut early) in std::mem::take(&mut self.early) {
            let due = early.extract_if(.., |_, verdict| verdict.revision <= state.revision);
            let due: Vec<Arc<Verdict>> = due.map(|(_, verdict)| verdict).collect();
            for verdict in due {
                take(&mut self.answers, &mut self.told, (node, verdict), state, now);
            }
            if !early.is_empty() {
                self.early.insert(node, early);
            }
        }
        // A revision that was answered for may have become the present one only now.
        for bucket in state.unsettled().filter(|bucket| !bucket.current.spec.multi_node) {
            let current = bucket.current.revision;
            let answers = self.answers.get_mut(bucket.name()).filter(|it| !it.have_begun(current));
            let Some(answers) = answers else { continue };
            if answers.verdicts.values().any(|verdict| verdict.revision == current) {
                answers.first = Some((current, now));
            }
        }
        if self.answers.len() > state.buckets.len() {
            self.answers.retain(|name, _| state.buckets.contains_key(name));
        }
        for node in state.nodes.values().filter(|node| node.status == NodeStatus::Left) {
            if self.nodes.get_mut(&node.id).and_then(|session| session.said.take()).is_some() {
                self.early.remove(&node.id);
                self.answers.values_mut().for_each(|answers| drop(answers.verdicts.remove(&node.id)));
            }
        }
    }

    /// Buckets about which a node answered after [`super::Heard::verdicts`] was so much.
    pub fn answered_since(&self, verdicts: u64) -> impl Iterator<Item = &BucketName> {
        self.answers.iter().filter(move |(_, answers)| answers.told > verdicts).map(|(name, _)| name)
    }

    /// The node's newest answer for a bucket, if it is about `revision`.
    pub fn verdict(&self, bucket: &BucketName, revision: Revision, node: NodeId) -> Option<&Verdict> {
        let answers = self.answers.get(bucket)?;
        answers.verdicts.get(&node).map(|verdict| &**verdict).filter(|verdict| verdict.revision == revision)
    }

    /// The newest answers for a bucket that are about `revision`, by node.
    pub(crate) fn verdicts(
        &self,
        bucket: &BucketName,
        revision: Revision,
    ) -> impl Iterator<Item = (NodeId, &Verdict)> {
        let answers = self.answers.get(bucket).into_iter().flat_map(|answers| &answers.verdicts);
        answers.map(|(node, verdict)| (*node, &**verdict)).filter(move |(_, it)| it.revision == revision)
    }

    /// When the first answer about this revision of a bucket came, which is its present one; if it came before this leader
    /// had applied that, when the leader took it up.
    pub fn first_answer(&self, bucket: &BucketName, revision: Revision) -> Option<Moment> {
        let (about, first) = self.answers.get(bucket)?.first?;
        (about == revision).then_some(first)
    }
}

/// Takes a node's answer about what is applied here. Of a node that has not answered anew the old one still tells people
/// something.
fn take(
    answers: &mut BTreeMap<BucketName, Answers>,
    told: &mut Heard,
    (node, verdict): (NodeId, Arc<Verdict>),
    state: &State,
    now: Moment,
) {
    let Some(bucket) = state.buckets.get(&verdict.bucket) else { return };
    told.verdicts += 1;
    let answers = answers.entry(verdict.bucket.clone()).or_default();
    answers.told = told.verdicts;
    let current = bucket.current.revision;
    if verdict.revision == current && !answers.have_begun(current) {
        answers.first = Some((current, now));
    }
    answers.verdicts.insert(node, verdict);
}

#[cfg(test)]
mod tests {
    use sheaf_model::verdict::REASON_MAX;
    use sheaf_model::{GateOutcome, Term};

    use super::*;
    use crate::testing::World;

    const NODE: NodeId = NodeId(1);

    fn sessions(world: &World, nodes: u64) -> Sessions {
        let mut sessions = Sessions::new(Term(1), Moment(0));
        for node in 1..=nodes {
            let opened = sessions.opened(&world.hello(node, "i"), &world.state, Moment(0));
            opened.expect("nobody else is live as this node");
        }
        sessions
    }

    fn about(like: &Verdict, bucket: &str, revision: u64) -> Arc<Verdict> {
        let bucket = BucketName::new(bucket).expect("a bucket's name");
        Arc::new(Verdict { bucket, revision: Revision(revision), ..like.clone() })
    }

    #[test]
    fn answers_for_buckets_that_are_not_there_are_not_kept_and_early_ones_are_few() {
        let mut world = World::with_nodes(1);
        world.apply_bucket("/a", |_| {});
        let (mut sessions, like) = (sessions(&world, 1), world.verdict("/a", None));
        for (revision, kept) in [(world.state.revision.0, 0), (u64::MAX, EARLY)] {
            for n in 0..3 * EARLY {
                let verdict = about(&like, &format!("/none/{n}"), revision);
                let is_kept = sessions.answered(NODE, vec![verdict], &world.state, Moment(0));
                assert_eq!(is_kept, kept == 0 || n < EARLY, "beyond that the session is to end");
            }
            assert!(sessions.answers.is_empty());
            assert_eq!(sessions.early.values().map(BTreeMap::len).sum::<usize>(), kept);
        }
        sessions.answered(NodeId(9), vec![like.into()], &world.state, Moment(0));
        assert!(sessions.answers.is_empty(), "it has no session");
    }

    #[test]
    fn an_answer_that_outran_the_leader_counts_once_that_has_caught_up_unless_another_followed() {
        let mut world = World::with_nodes(2);
        world.apply_bucket("/a", |_| {});
        let (mut sessions, like) = (sessions(&world, 2), world.verdict("/a", None));
        let next = world.state.revision.0 + 1;
        for node in [1, 2] {
            sessions.answered(NodeId(node), vec![about(&like, "/b", next)], &world.state, Moment(0));
        }
        sessions.answered(NODE, vec![about(&like, "/b", next + 9)], &world.state, Moment(0));
        let revision = world.apply_bucket("/b", |_| {}).revision;
        assert_eq!(revision, Revision(next));
        sessions.observe(&world.state, Moment(7000));
        let name = world.name("/b");
        let by: Vec<NodeId> = sessions.verdicts(&name, revision).map(|(node, _)| node).collect();
        assert_eq!(by, [NodeId(2)], "node 1 has said another thing since");
        assert_eq!(
            sessions.first_answer(&name, revision),
            Some(Moment(7000)),
            "nobody answers ahead of time"
        );
    }

    #[test]
    fn what_is_kept_of_a_node_ends_when_it_is_forgotten() {
        let mut world = World::with_nodes(2);
        world.apply_bucket("/a", |_| {});
        let (mut sessions, like) = (sessions(&world, 2), world.verdict("/a", None));
        for node in [1, 2] {
            let all = vec![Arc::new(like.clone()), about(&like, "/b", u64::MAX)];
            sessions.answered(NodeId(node), all, &world.state, Moment(0));
        }
        world.set_status(1, NodeStatus::Left);
        sessions.observe(&world.state, Moment(0));
        let by: Vec<NodeId> = sessions.verdicts(&like.bucket, like.revision).map(|(node, _)| node).collect();
        assert_eq!(by, [NodeId(2)]);
        assert_eq!(sessions.early.keys().copied().collect::<Vec<_>>(), [NodeId(2)]);
    }

    #[test]
    fn a_reason_without_an_end_is_cut() {
        let mut world = World::with_nodes(1);
        world.apply_bucket("/a", |_| {});
        let (mut sessions, mut verdict) = (sessions(&world, 1), world.verdict("/a", None));
        verdict.gates[2] = GateOutcome { pass: Some(false), reason: "é".repeat(1 << 20).into() };
        let (name, revision) = (verdict.bucket.clone(), verdict.revision);
        sessions.answered(NODE, vec![verdict.into()], &world.state, Moment(0));
        let kept = sessions.verdict(&name, revision, NODE).expect("its answer");
        assert!(kept.gates[2].reason.len() <= REASON_MAX && kept.gates[2].reason.starts_with("éé"));
    }
}
