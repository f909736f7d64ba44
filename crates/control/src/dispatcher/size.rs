//! How large orders are, and what becomes of attempts that no message takes to their node.

use std::collections::BTreeSet;
use std::sync::Arc;

use sheaf_engine::dispatch::runs;
use sheaf_engine::{Command, RecordResults, State};
use sheaf_model::document::json_length;
use sheaf_model::session::{Order, OrderedSubtask};
use sheaf_model::{
    Attempt, AttemptEnd, Defect, Ending, Exit, Failure, FailureClass, JobId, JobSpec, ModuleSpec, NodeId,
    Span, Term,
};
use sheaf_wire::MESSAGE_MAX;

use super::without_subtasks;
use crate::Control;
use crate::conductor::Decided;
use crate::place::Member;

/// What a message has beside an order, at most.
const FRAME: usize = 1 << 10;
/// What a subtask has in it beside its item and the name of its backend, at most.
const NUMBERS: usize = 96;
/// Ends in one entry of the log, each with its message: well below what it takes.
const ENDS: usize = 1000;

impl Control {
    /// Ends attempts that no message takes to their node as failed: it never hears of them, so they would run until their job is
    /// canceled. As those whose program cannot be started: they are tried again as often as the job says, since what is too long
    /// may be set anew meanwhile. The order has so many bytes without subtasks.
    pub(super) async fn end_unsent(
        &self,
        member: &Member,
        term: Term,
        (node, session): (NodeId, Option<u64>),
        (order, rest): (&Order, usize),
        unsent: &[OrderedSubtask],
    ) {
        let ends: Vec<AttemptEnd> = {
            let state = member.replica.state();
            // In another session this comes again, with what the node holds then.
            if session.is_none() || self.floor.lock().session(node) != session {
                return;
            }
            let at = self.clock.wall();
            let is_due = |it: &&OrderedSubtask| {
                runs(&state, node, Attempt { job: order.job, subtask: it.subtask, number: it.attempt })
            };
            let end = |it: &OrderedSubtask| AttemptEnd {
                subtask: it.subtask,
                attempt: it.attempt,
                started_at: at,
                took: Span(0),
                ending: Ending::Failed(Failure {
                    class: FailureClass::Exit,
                    exit: Some(Exit::NotStarted),
                    message: too_long(order, rest, weight(it)),
                }),
            };
            unsent.iter().filter(is_due).map(end).collect()
        };
        for some in ends.chunks(ENDS) {
            let attempts = some.len();
            tracing::warn!(job = %order.job, %node, attempts, "attempts that no message takes are ended");
            let results = vec![(order.job, some.to_vec())];
            let command = Command::RecordResults(RecordResults { node, results });
            match self.decided(&member.replica, term, command).await {
                Decided::Holds | Decided::Overtaken => {}
                // The session begins anew, and what the node lacks comes here again.
                Decided::Never | Decided::Unsure => return self.live.lock().cut(node),
            }
        }
    }
}

/// Bytes of a message for what the job, its module, its secrets and its backends are.
pub(super) fn rest(order: &Order) -> usize {
    json_length(order).map_or(MESSAGE_MAX, |bytes| bytes + FRAME)
}

/// Bytes of a subtask there, at most: an item is JSON, of which no byte becomes more than two in a text.
pub(super) fn weight(subtask: &OrderedSubtask) -> usize {
    let backend = subtask.backend.as_ref().map_or(0, |name| name.as_str().len());
    2 * subtask.item.as_str().len() + backend + NUMBERS
}

fn too_long(order: &Order, rest: usize, weight: usize) -> String {
    let (job, module) = (&order.spec.name, &order.spec.module);
    format!(
        "it cannot be sent to its node: with the secrets that module {module} names, and what its backends say in config, job \
         {job} has {rest} bytes, this subtask {weight}, and a message takes {MESSAGE_MAX}; set shorter secrets, or let a new \
         version of the module name fewer"
    )
}

/// What is wrong with a job of which no message takes any subtask, as secrets and backends are now.
pub(crate) fn unsendable(spec: &JobSpec, module: &ModuleSpec, state: &State) -> Option<Defect> {
    let used: BTreeSet<_> = spec.backends.iter().collect();
    let (spec, module) = (Arc::new(spec.clone()), Arc::new(module.clone()));
    let order = without_subtasks(state, JobId(u64::MAX), (&spec, &module), &used);
    let rest = rest(&order);
    (rest + NUMBERS > MESSAGE_MAX).then(|| {
        let problem = format!(
            "with the secrets that module {} names, and what the job's backends say in config, it has {rest} bytes, and a message \
             to a node takes {MESSAGE_MAX}",
            spec.module
        );
        Defect::new("module", problem, "a module that names fewer or shorter secrets")
    })
}

/// As many of them at a time as one message has room for.
pub(super) fn messages(subtasks: Vec<OrderedSubtask>, room: usize) -> Vec<Vec<OrderedSubtask>> {
    let (mut all, mut some, mut bytes) = (Vec::new(), Vec::new(), 0);
    for subtask in subtasks {
        let more = weight(&subtask);
        if !some.is_empty() && bytes + more > room {
            all.push(std::mem::take(&mut some));
            bytes = 0;
        }
        bytes += more;
        some.push(subtask);
    }
    all.extend((!some.is_empty()).then_some(some));
    all
}
