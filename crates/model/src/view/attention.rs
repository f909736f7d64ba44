//! What an operator should look at first, worst first: the same on every screen.

use serde::Serialize;

use super::{BucketRow, BucketState, ClusterStatus, JobRow, NodeRow, SinkRow};

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something does not work.
    Act,
    /// Something works, and would not for long.
    Watch,
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Concern {
    /// How much it matters.
    pub level: Level,
    /// `cluster`, `node`, `bucket`, `job`, `jobs` (all of them) or `sink`.
    pub kind: &'static str,
    /// Its name.
    pub subject: String,
    /// Of a node its number: another may have the name of one that is lost.
    pub number: Option<u64>,
    /// A word for where it stands.
    pub state: String,
    /// For people.
    pub why: String,
}

impl Concern {
    /// One thing to look at.
    pub fn new(level: Level, kind: &'static str, subject: &str, state: &str, why: impl Into<String>) -> Self {
        let (subject, state) = (subject.to_owned(), state.to_owned());
        Self { level, kind, subject, number: None, state, why: why.into() }
    }
}

/// Everything that is not as it should be; `buckets` and `jobs` may leave out what is in order.
pub fn concerns(
    status: &ClusterStatus,
    nodes: &[NodeRow],
    buckets: &[BucketRow],
    jobs: &[JobRow],
    sinks: &[SinkRow],
) -> Vec<Concern> {
    let mut found: Vec<Concern> = cluster(status).into_iter().collect();
    found.extend(nodes.iter().filter_map(node));
    found.extend(buckets.iter().filter_map(bucket));
    found.extend(jobs.iter().filter_map(job));
    found.extend(sinks.iter().filter_map(sink));
    found.extend(failed_jobs(status));
    found.sort_by_key(|concern| concern.level);
    found
}

fn cluster(status: &ClusterStatus) -> Option<Concern> {
    let said = |otherwise: &str| match status.message.as_str() {
        "" => otherwise.to_owned(),
        message => message.to_owned(),
    };
    let voters = status.members.iter().filter(|member| member.voter).count();
    if status.leader.is_none() {
        let why = said("no node leads: nothing can be decided, what runs goes on for as long as its lease");
        return Some(Concern::new(Level::Act, "cluster", "", "no leader", why));
    }
    if status.fault_tolerance == 0 && voters > 1 {
        let why =
            said("the loss of one more voter stops the control plane: bring a lost one back, or forget it");
        return Some(Concern::new(Level::Act, "cluster", "", "no spare voter", why));
    }
    let why = (!status.message.is_empty()).then(|| status.message.clone())?;
    Some(Concern::new(Level::Watch, "cluster", "", "incomplete", why))
}

fn node(row: &NodeRow) -> Option<Concern> {
    let (level, why) = match row.status.as_str() {
        "lost" => (Level::Act, "its lease is over; what could go elsewhere did"),
        "suspect" => (Level::Watch, "heartbeats are missed"),
        "restarting" => (Level::Watch, "its agent is away, a stand-in holds its leases"),
        "draining" => (Level::Watch, "takes no new work"),
        "joining" => (Level::Watch, "has not said what it can yet"),
        _ => return None,
    };
    Some(Concern { number: Some(row.id), ..Concern::new(level, "node", &row.name, &row.status, why) })
}

fn bucket(row: &BucketRow) -> Option<Concern> {
    let level = match row.state {
        BucketState::Failed | BucketState::Unplaced | BucketState::WaitingForNode => Level::Act,
        BucketState::Partial | BucketState::Quarantined => Level::Watch,
        // Under way, or as somebody wanted it.
        BucketState::Placing
        | BucketState::Starting
        | BucketState::Stopping
        | BucketState::Running
        | BucketState::Suspended => return None,
    };
    let count = format!("; {} of {} run", row.running, row.desired);
    let count = if row.state == BucketState::Partial { count.as_str() } else { "" };
    let why = format!("{}{count}", row.state.about());
    Some(Concern::new(level, "bucket", &row.name, row.state.as_str(), why))
}

fn job(row: &JobRow) -> Option<Concern> {
    let running = row.state.as_str() == "running" || row.state.as_str() == "paused";
    if !running || row.counts.failed == 0 {
        return None;
    }
    let why = format!("{} of {} subtasks have failed", row.counts.failed, row.counts.total());
    Some(Concern::new(Level::Watch, "job", &row.name, row.state.as_str(), why))
}

fn failed_jobs(status: &ClusterStatus) -> Option<Concern> {
    let failed = status.jobs.failed;
    let why = "not all their subtasks ended well; they stay here until they are retried or deleted";
    (failed > 0).then(|| Concern::new(Level::Watch, "jobs", "", &format!("{failed} failed"), why))
}

/// One failure alone is often nothing.
fn sink(row: &SinkRow) -> Option<Concern> {
    let since = row.failing_since.as_ref()?;
    let why = format!("nothing is delivered since {since}: {}", row.last_error);
    Some(Concern::new(Level::Act, "sink", &row.name, &row.state, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(leader: Option<&str>, tolerance: u32) -> ClusterStatus {
        let member = |id: u64| json!({"name": format!("n{id}"), "id": id, "voter": true, "role": "voter", "match_lag": 0, "address": ""});
        let members = (1..=3).map(|id| serde_json::from_value(member(id)).expect("a member")).collect();
        let leader = leader.map(str::to_owned);
        ClusterStatus { leader, members, fault_tolerance: tolerance, ..ClusterStatus::default() }
    }

    fn node_row(name: &str, status: &str) -> NodeRow {
        serde_json::from_value(json!({
            "name": name, "id": 1, "hostname": name, "address": "", "status": status, "voter": false, "leader": false,
            "labels": [], "allowed_modules": [], "version": "", "cpu": 1, "memory_used": 0, "memory_total": 0,
            "load": 0.0, "buckets": 0, "since": ""
        }))
        .expect("a row")
    }

    fn bucket_row(name: &str, state: &str) -> BucketRow {
        serde_json::from_value(json!({
            "name": name, "state": state, "type": "harvest", "module": "m@1", "multi_node": true, "suspended": false,
            "node_affinity": [], "affinity_epoch": null, "affinity_since": null, "desired": 3, "running": 2,
            "revision": 1, "owner": null, "labels": {}
        }))
        .expect("a row")
    }

    #[test]
    fn a_cluster_in_order_needs_nobody() {
        let nodes = [node_row("n1", "ready")];
        let buckets =
            [bucket_row("/a", "running"), bucket_row("/b", "suspended"), bucket_row("/c", "starting")];
        assert_eq!(concerns(&status(Some("n1"), 1), &nodes, &buckets, &[], &[]), []);
    }

    #[test]
    fn the_worst_comes_first() {
        let nodes = [node_row("n1", "draining"), node_row("n2", "lost")];
        let buckets = [bucket_row("/a", "partial"), bucket_row("/b", "unplaced")];
        let found = concerns(&status(Some("n1"), 0), &nodes, &buckets, &[], &[]);
        let shown: Vec<String> =
            found.iter().map(|it| format!("{:?} {} {}", it.level, it.subject, it.state)).collect();
        let expected = [
            "Act  no spare voter",
            "Act n2 lost",
            "Act /b unplaced",
            "Watch n1 draining",
            "Watch /a partial",
        ];
        assert_eq!(shown, expected);
        assert_eq!((found[1].number, found[2].number), (Some(1), None), "of nodes");
        assert_eq!(found[4].why, "runs on some of the nodes it should; 2 of 3 run");
        assert_eq!(concerns(&status(None, 0), &[], &[], &[], &[])[0].state, "no leader");
    }

    #[test]
    fn what_is_wrong_with_voters_that_are_there_is_said_in_place_of_what_to_do_about_lost_ones() {
        let full = "n2 and n3 have no room";
        for (tolerance, expected) in [(0, (Level::Act, "no spare voter")), (1, (Level::Watch, "incomplete"))]
        {
            let status = ClusterStatus { message: full.to_owned(), ..status(Some("n1"), tolerance) };
            let found = concerns(&status, &[], &[], &[], &[]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].level, found[0].state.as_str()), expected);
            assert_eq!(found[0].why, full);
        }
    }

    #[test]
    fn jobs_that_failed_are_something_to_look_at() {
        let mut failing = status(Some("n1"), 1);
        failing.jobs.failed = 2;
        let found = concerns(&failing, &[], &[], &[], &[]);
        assert_eq!((found.len(), found[0].kind, found[0].state.as_str()), (1, "jobs", "2 failed"));
    }
}
