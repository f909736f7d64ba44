//! Writes what agents report into the log: many reports, few entries.

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_engine::{Command, RecordPhases};
use sheaf_model::session::ToNode;
use sheaf_model::{Actor, Incarnation, NodeId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Control;

/// How many reports may wait; then sessions wait.
pub(crate) const QUEUE: usize = 1024;
/// How many are taken at once.
const AT_ONCE: usize = 512;
/// How long to wait before trying again what could not be written.
const PAUSE: Duration = Duration::from_millis(100);

/// One report.
pub(crate) struct Record {
    pub(crate) node: NodeId,
    pub(crate) command: Command,
    /// To be said to this life of the node's agent once it is in the log.
    pub(crate) then: Option<(Incarnation, ToNode)>,
}

impl Control {
    /// Runs until told to stop. A report that cannot be written now is dropped: the agent sends it again after a while, to
    /// the next leader, and to this one when its session opens anew. Facts, which an agent says once, its session hands in
    /// again.
    pub(crate) async fn run_recorder(&self, mut records: mpsc::Receiver<Record>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            let taken = tokio::select! {
                () = stop.cancelled() => return,
                // Dropping `recv_many` loses nothing: it takes records only when it is ready.
                taken = records.recv_many(&mut batch, AT_ONCE) => taken,
            };
            if taken == 0 {
                return;
            }
            let reports = merge(batch.drain(..));
            let writes = reports.into_iter().map(|record| self.write(record));
            futures::future::join_all(writes).await;
        }
    }

    async fn write(&self, record: Record) {
        let actor = Actor(format!("node:{}", self.node_name(record.node)));
        match self.propose_as(actor, None, record.command, None).await {
            Ok(_) => {
                if let Some((life, then)) = record.then {
                    self.live.lock().say_to(record.node, &life, then);
                }
            }
            Err(error) => {
                tracing::info!(node = %record.node, %error, "a report was not recorded; it is made again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Phases of one node become one command; later reports of a bucket replace earlier ones of the same phase.
fn merge(records: impl Iterator<Item = Record>) -> Vec<Record> {
    let mut merged: Vec<Record> = Vec::new();
    let mut phases: BTreeMap<NodeId, usize> = BTreeMap::new();
    for record in records {
        let Command::RecordPhases(report) = record.command else {
            merged.push(record);
            continue;
        };
        match phases.get(&record.node).and_then(|at| merged.get_mut(*at)) {
            Some(Record { command: Command::RecordPhases(known), then, .. }) => {
                known.instances.extend(report.instances);
                // Later ones have higher numbers, which stand for those before.
                *then = record.then.or(then.take());
            }
            _ => {
                phases.insert(record.node, merged.len());
                let RecordPhases { node, instances } = report;
                let command = Command::RecordPhases(RecordPhases { node, instances });
                merged.push(Record { command, ..record });
            }
        }
    }
    merged
}
