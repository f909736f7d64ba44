//! Releases nodes to the next release of their buckets: so many at a time as the bucket wants, and the next ones only when
//! those before them are well.

use sheaf_model::{Exit, Gate, Instance, Moment, Node, NodeId, NodeStatus, Phase, Span};

use super::Due;
use crate::command::{Command, FinishRollout, ReleaseNodes, StopRollout};
use crate::reconcile;
use crate::sessions::Sessions;
use crate::state::{Bucket, Rollout, State};

/// So long an instance must have run before the next node follows: what cannot start, or does not find what it needs,
/// mostly ends sooner.
pub(crate) const WELL_AFTER: Span = Span::seconds(3);

/// How a node does that was released.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It runs what it should, or nothing if that is what it should.
    Well,
    /// Not known yet; to be looked at again then, or when something changes.
    Open(Option<Moment>),
    /// It does not work there.
    Fails(String),
}

pub(super) fn due(state: &State, sessions: &Sessions, now: Moment, due: &mut Due) {
    for bucket in state.unsettled().filter(|bucket| !bucket.is_off()) {
        if let Some(rollout) = bucket.next.as_ref().filter(|rollout| rollout.stopped.is_none()) {
            go_on(state, sessions, bucket, rollout, now, due);
        }
    }
}

fn go_on(state: &State, sessions: &Sessions, bucket: &Bucket, rollout: &Rollout, now: Moment, due: &mut Due) {
    let (name, release, term) = (bucket.name().clone(), rollout.release.revision, sessions.term);
    let mut open = 0;
    for node in rollout.released.iter().filter_map(|node| state.nodes.get(node)) {
        match standing(state, sessions, bucket, rollout, node, now) {
            Standing::Well => {}
            Standing::Open(at) => {
                open += 1;
                at.into_iter().for_each(|at| due.wake(at));
            }
            Standing::Fails(why) => {
                let stop = StopRollout { bucket: name, release, node: node.id, why, term };
                return due.commands.push(Command::StopRollout(stop));
            }
        }
    }
    let is_next = |node: &&Node| node.status.is_alive() && !rollout.released.contains(&node.id);
    let mut waiting: Vec<&Node> = state.nodes.values().filter(is_next).collect();
    if waiting.is_empty() && open == 0 {
        due.commands.push(Command::FinishRollout(FinishRollout { bucket: name, release, term }));
        return;
    }
    // Where nothing runs well there is nothing to lose.
    waiting.sort_by_key(|node| (runs(state, bucket, node.id), node.id));
    let room = rollout.release.spec.max_parallel.unwrap_or(u32::MAX).saturating_sub(open);
    let answering = waiting.iter().filter(|node| sessions.is_answering(node.id)).map(|node| node.id);
    let nodes: Vec<NodeId> = answering.take(room as usize).collect();
    if !nodes.is_empty() {
        due.commands.push(Command::ReleaseNodes(ReleaseNodes { bucket: name, release, nodes, term }));
    }
}

fn standing(
    state: &State,
    sessions: &Sessions,
    bucket: &Bucket,
    rollout: &Rollout,
    node: &Node,
    now: Moment,
) -> Standing {
    if node.status == NodeStatus::Left {
        return Standing::Well;
    }
    let instance = instance(state, bucket, node.id);
    match instance.filter(|it| it.revision >= bucket.basis_for(node.id)) {
        Some(it) => instance_standing(sessions, bucket, rollout, it, node, now),
        None => without_instance(sessions, bucket, rollout, node, instance.is_some_and(is_process)),
    }
}

/// How a node does whose instance is up to date.
fn instance_standing(
    sessions: &Sessions,
    bucket: &Bucket,
    rollout: &Rollout,
    instance: &Instance,
    node: &Node,
    now: Moment,
) -> Standing {
    match instance.phase {
        Phase::Failed | Phase::Backoff => Standing::Fails(instance.message.clone()),
        Phase::Stopped if instance.exit.is_some_and(Exit::is_success) => Standing::Well,
        // It ran when it was last heard, and the instance was not touched by what is rolled out.
        Phase::Running if !node.status.is_alive() || same_program(bucket, rollout) => Standing::Well,
        Phase::Running => {
            let since = sessions.running_since(bucket.name(), node.id, instance.revision).unwrap_or(now);
            let well = since.after(WELL_AFTER);
            if now >= well { Standing::Well } else { Standing::Open(Some(well)) }
        }
        Phase::Pending | Phase::Starting | Phase::Stopping | Phase::Stopped => Standing::Open(None),
    }
}

/// How a node does that runs nothing of the release; `stopping`: but something of an earlier one.
fn without_instance(
    sessions: &Sessions,
    bucket: &Bucket,
    rollout: &Rollout,
    node: &Node,
    stopping: bool,
) -> Standing {
    let verdict = sessions.verdict(bucket.name(), rollout.release.revision, node.id);
    let Some(verdict) = verdict else { return Standing::Open(None) };
    let is_emptied = node.drain.is_some_and(|drain| !drain.keep_multi_node);
    match verdict.refusal().filter(|(_, outcome)| outcome.pass == Some(false)) {
        Some((Gate::CanRunOnThisNode, outcome)) if rollout.ran.contains(&node.id) => Standing::Fails(
            format!("it ran there, and can_run_on_this_node refuses the new one: {}", outcome.reason),
        ),
        Some(_) if !stopping => Standing::Well,
        None if is_emptied && !stopping => Standing::Well,
        Some(_) | None => Standing::Open(None),
    }
}

/// Whether the release changes only where the bucket runs.
fn same_program(bucket: &Bucket, rollout: &Rollout) -> bool {
    reconcile::content(&bucket.current.spec) == reconcile::content(&rollout.release.spec)
}

fn instance<'a>(state: &'a State, bucket: &Bucket, node: NodeId) -> Option<&'a Instance> {
    Some(&**state.instances.get(bucket.name())?.get(&node)?)
}

fn runs(state: &State, bucket: &Bucket, node: NodeId) -> bool {
    instance(state, bucket, node).is_some_and(|instance| instance.phase == Phase::Running)
}

const fn is_process(instance: &Instance) -> bool {
    !matches!(instance.phase, Phase::Stopped | Phase::Failed)
}
