//! Writes what agents report into the log: many reports, few entries.

use std::collections::BTreeMap;
use std::time::Duration;

use sheaf_engine::node::pieces;
use sheaf_engine::{Command, RecordPhases, Reply};
use sheaf_model::session::ToNode;
use sheaf_model::{Actor, Incarnation, Instance, NodeId, Term};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Control;

/// How many reports may wait; then sessions wait.
pub(crate) const QUEUE: usize = 1024;
/// How many are taken at once.
const AT_ONCE: usize = 512;
/// Bytes of phases that are gathered into one entry, which holds twice as much.
const BYTES: usize = 512 << 10;
/// Reports that are gathered into one entry: their answers come at once, and must find room in the session.
const REPORTS: usize = 64;
/// How long to wait before trying again what could not be written.
const PAUSE: Duration = Duration::from_millis(100);

/// One report.
pub(crate) struct Record {
    pub(crate) node: NodeId,
    /// The leadership in which it was made. In a later one it may be older than what another leader has recorded meanwhile.
    pub(crate) term: Term,
    pub(crate) command: Command,
    /// To be said to this life of the node's agent once it is in the log.
    pub(crate) then: Option<(Incarnation, ToNode)>,
}

/// Reports of one node that make one entry.
struct Gathered {
    node: NodeId,
    term: Term,
    command: Command,
    /// What each of them is answered.
    then: Vec<(Incarnation, ToNode)>,
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
            let writes = gather(batch.drain(..)).into_iter().map(|in_turn| self.write_in_turn(in_turn));
            futures::future::join_all(writes).await;
        }
    }

    async fn write_in_turn(&self, all: Vec<Gathered>) {
        for one in all {
            // What is left is said again; others must not wait for each piece of it to fail.
            if !self.write(one).await {
                return;
            }
        }
    }

    /// Whether it was decided on.
    async fn write(&self, Gathered { node, term, command, then }: Gathered) -> bool {
        let actor = Actor(format!("node:{}", self.node_name(node)));
        match self.propose_in(term, actor, command).await {
            Ok(Reply::Refused(refusal)) => {
                tracing::info!(%node, %refusal, "a report was refused");
                true
            }
            Ok(_) => {
                let mut live = self.live.lock();
                then.into_iter().for_each(|(life, message)| live.say_to(node, &life, message));
                true
            }
            Err(error) => {
                tracing::info!(%node, %error, "a report was not recorded; it is made again");
                tokio::time::sleep(PAUSE).await;
                false
            }
        }
    }
}

/// Phases of one node share commands, as long as these are not too large for the log, and are written in the order in which
/// they were reported; everything else is written by itself.
fn gather(records: impl Iterator<Item = Record>) -> Vec<Vec<Gathered>> {
    let mut all: Vec<Vec<Gathered>> = Vec::new();
    // Where a node's phases are, and how many bytes the last of them have.
    let mut phases: BTreeMap<(NodeId, Term), (usize, usize)> = BTreeMap::new();
    for Record { node, term, command, then } in records {
        match command {
            Command::RecordPhases(report) => {
                let (at, bytes) = phases.entry((node, term)).or_insert_with(|| {
                    all.push(Vec::new());
                    (all.len() - 1, 0)
                });
                gather_phases(&mut all[*at], bytes, term, report, then);
            }
            command => all.push(vec![Gathered { node, term, command, then: Vec::from_iter(then) }]),
        }
    }
    all
}

/// A report behind those of its node, the last of which has so many `bytes`. Agents of the former release neither cut what is
/// said of an instance nor count bytes: what no entry would take comes in several, and is answered with the last of them.
fn gather_phases(
    of_node: &mut Vec<Gathered>,
    bytes: &mut usize,
    term: Term,
    report: RecordPhases,
    answer: Option<(Incarnation, ToNode)>,
) {
    let node = report.node;
    let cut = report.instances.into_iter().map(|mut instance| {
        instance.cut();
        instance
    });
    for mut instances in pieces(cut, Instance::weight) {
        let more: usize = instances.iter().map(Instance::weight).sum();
        match of_node.last_mut() {
            Some(Gathered { command: Command::RecordPhases(known), then, .. })
                if *bytes + more <= BYTES && then.len() < REPORTS =>
            {
                *bytes += more;
                known.instances.append(&mut instances);
            }
            _ => {
                *bytes = more;
                let command = Command::RecordPhases(RecordPhases { node, instances });
                of_node.push(Gathered { node, term, command, then: Vec::new() });
            }
        }
    }
    if let Some(last) = of_node.last_mut() {
        last.then.extend(answer);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sheaf_engine::{Proposal, Register};
    use sheaf_model::{BucketName, NodeKey, Phase, Revision, Timestamp};

    use super::*;
    use crate::propose::tests::{One, Still, facts};

    fn instance(node: u64, bucket: &str, message: &str) -> Instance {
        Instance {
            bucket: BucketName::new(bucket).expect("a name"),
            node: NodeId(node),
            phase: Phase::Running,
            epoch: None,
            revision: Revision(1),
            pid: None,
            started_at: None,
            restarts: 0,
            exit: None,
            message: message.to_owned(),
        }
    }

    fn phases(node: u64, seq: u64, bucket: &str) -> Record {
        report(node, seq, vec![instance(node, bucket, "")])
    }

    fn report(node: u64, seq: u64, instances: Vec<Instance>) -> Record {
        let report = RecordPhases { node: NodeId(node), instances };
        let then = Some((Incarnation("a".to_owned()), ToNode::Recorded { seq }));
        Record { node: NodeId(node), term: Term(1), command: Command::RecordPhases(report), then }
    }

    /// The node, the buckets of its instances, and the numbers that are answered.
    type Entry<'a> = (u64, Vec<&'a str>, Vec<u64>);

    fn read(gathered: &[Vec<Gathered>]) -> Vec<Vec<Entry<'_>>> {
        fn seq((_, message): &(Incarnation, ToNode)) -> u64 {
            match message {
                ToNode::Recorded { seq } => *seq,
                other => panic!("{other:?}"),
            }
        }
        fn one(it: &Gathered) -> Entry<'_> {
            let Command::RecordPhases(report) = &it.command else { panic!("phases") };
            let buckets = report.instances.iter().map(|it| it.bucket.as_str()).collect();
            (it.node.0, buckets, it.then.iter().map(seq).collect())
        }
        gathered.iter().map(|all| all.iter().map(one).collect()).collect()
    }

    #[test]
    fn phases_of_one_node_share_an_entry_and_each_report_is_answered() {
        let records = [phases(1, 1, "/a"), phases(2, 1, "/a"), phases(1, 2, "/b"), phases(1, 3, "/a")];
        let gathered = gather(records.into_iter());
        let expected = vec![vec![(1, vec!["/a", "/b", "/a"], vec![1, 2, 3])], vec![(2, vec!["/a"], vec![1])]];
        assert_eq!(read(&gathered), expected);
    }

    #[test]
    fn so_many_reports_share_an_entry_that_a_session_takes_their_answers() {
        let gathered = gather((1..=150).map(|seq| phases(1, seq, "/a")));
        let counts: Vec<usize> = gathered.iter().flatten().map(|it| it.then.len()).collect();
        assert_eq!(counts, [REPORTS, REPORTS, 150 - 2 * REPORTS]);
    }

    #[test]
    fn what_would_be_too_large_for_an_entry_comes_in_several_one_after_the_other() {
        let long = vec![instance(1, "/a", &"x".repeat(4_000)); 50];
        let gathered = gather((1..=5).map(|seq| report(1, seq, long.clone())));
        let expected = [
            (1, vec!["/a"; 100], vec![1, 2]),
            (1, vec!["/a"; 100], vec![3, 4]),
            (1, vec!["/a"; 50], vec![5]),
        ];
        assert_eq!(read(&gathered), [expected.to_vec()]);
    }

    #[test]
    fn a_report_that_no_entry_would_take_comes_in_several_and_is_answered_with_the_last() {
        let uncut = (0..500).map(|n| instance(1, &format!("/b{n}"), &"ä".repeat(5_000)));
        let gathered = gather([report(1, 7, uncut.collect()), phases(1, 8, "/c")].into_iter());
        let entries = read(&gathered).pop().expect("those of one node");
        let answered: Vec<&[u64]> = entries.iter().map(|(.., answered)| answered.as_slice()).collect();
        let (last, before) = answered.split_last().expect("an entry");
        assert!(*last == [7, 8] && before.len() > 1 && before.iter().all(|it| it.is_empty()), "{answered:?}");
        let names: Vec<String> = (0..500).map(|n| format!("/b{n}")).chain(["/c".to_owned()]).collect();
        assert_eq!(entries.iter().flat_map(|(_, names, _)| names).copied().collect::<Vec<_>>(), names);
        for Gathered { command, .. } in gathered.into_iter().flatten() {
            let (actor, at) = (Actor::from("node:n1"), Timestamp::default());
            sheaf_consensus::fits(&Proposal { actor, at, request: None, command })
                .expect("an entry takes it");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_reported_in_a_former_leadership_is_not_written_in_this_one() {
        let one = One::formed().await;
        let control = one.control(Arc::new(Still));
        let term = one.member.replica.leadership().borrow().term;
        let register = Command::Register(Register { key: NodeKey::from("n1"), facts: facts("n1") });
        let of = |term| Gathered { node: NodeId(1), term, command: register.clone(), then: Vec::new() };
        assert!(!control.write(of(Term(term.0 - 1))).await);
        assert!(one.member.replica.state().nodes.is_empty());
        assert!(control.write(of(term)).await);
        assert_eq!(one.member.replica.state().nodes.len(), 1);
    }
}
