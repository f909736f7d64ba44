//! The HTTP side of the agent: the port, and what only this process knows for `/metrics`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::BoxFuture;
use sheaf_agent::State;
use sheaf_control::{Control, Place};
use sheaf_model::view::{BucketState, ClusterStatus};
use sheaf_model::{Phase, Queue, Timestamp};
use sheaf_web::metrics::{Metrics, Samples, Source};
use sheaf_web::{Limits, Web};
use sheaf_wire::inward::not_after;
use sheaf_wire::{Client, Refused, Transport};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::https::Https;
use crate::node::Logs;

/// A scrape waits no longer for a part of what it asks for; that part is left out then.
const WITHIN: Duration = Duration::from_secs(2);

/// The port, opened before anything is started: one that is taken ends the agent at once.
pub(crate) struct Port {
    listener: TcpListener,
    address: String,
    /// None: TLS is not spoken there.
    https: Option<Https>,
}

impl Port {
    /// Opens `[listen] http`; none if that is empty.
    pub(crate) async fn open(config: &Config, transport: &Transport) -> anyhow::Result<Option<Self>> {
        let Some(http) = &config.http else { return Ok(None) };
        let https = Https::open(config, transport)?;
        let listener = TcpListener::bind(http).await.with_context(|| {
            format!(
                "listen on {http} for the dashboard: is another agent running here? else set [listen] http, or to \"\" \
                 for none"
            )
        })?;
        let address = listener.local_addr().context("learn the listening address")?;
        Ok(Some(Self { listener, address: address.to_string(), https }))
    }

    /// Where it is, for people; empty: nowhere.
    pub(crate) fn shown(port: Option<&Self>) -> &str {
        port.map_or("", |port| &port.address)
    }
}

/// Serves until `stop`; without a port it only waits for that.
pub(crate) async fn serve(
    port: Option<Port>,
    config: Arc<Config>,
    metrics: Metrics,
    client: Client,
    place: Arc<Place>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(Port { listener, https, .. }) = port else {
        stop.cancelled().await;
        return Ok(());
    };
    let hosts = hosts(&config, &place.identity.address);
    let secured = place.trust.transport.is_secured();
    let awaits = move || {
        let joins = secured && place.registration.borrow().is_none();
        joins.then(|| format!("this node joins: {}", *place.waiting_for.borrow()))
    };
    let strict_transport = config.https.strict_transport.duration();
    let options = sheaf_web::Options {
        node: config.name.to_string(),
        hosts,
        secured,
        strict_transport: Some(strict_transport).filter(|span| !span.is_zero()),
        limits: Limits::default(),
    };
    let mut web = Web::new(options, client, metrics).awaiting(awaits);
    let Some(https) = https else {
        return web.serve(listener, stop).await.context("serve the dashboard");
    };
    web = web.over(https.inward());
    let serving = async { web.serve(listener, stop.clone()).await.context("serve the dashboard") };
    // Whichever fails ends the agent, and the other with it.
    futures::try_join!(serving, https.watch(stop.clone()))?;
    Ok(())
}

/// Names that lead to this node, which others are told to reach at `address`, be it set or found.
fn hosts(config: &Config, address: &str) -> Vec<String> {
    let told = address.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']).to_owned());
    let mut hosts = vec![config.name.to_string(), config.hostname.clone()];
    hosts.extend(told);
    hosts.extend(config.https.names.iter().cloned());
    hosts
}

/// What this agent's process knows.
pub(crate) struct Measured {
    pub(crate) control: Control,
    pub(crate) logs: Arc<Logs>,
    pub(crate) refused: Refused,
    pub(crate) client: Client,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
}

impl Source for Measured {
    fn collect<'a>(&'a self, samples: &'a mut Samples) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let version = [("version", sheaf_model::version())];
            samples.gauge("sheaf_build_info", "The version of this agent; always 1.", &version, 1.0);
            self.disk(samples);
            self.certificate(samples);
            let leads = self.raft(samples);
            self.sinks(samples);
            let (agent, cluster) = futures::join!(self.agent(), self.cluster(leads));
            self.strain(agent.as_ref(), samples);
            if let Some(state) = agent {
                of_agent(&state, samples);
            }
            if let Some(status) = cluster {
                of_cluster(&status, samples);
            }
        })
    }
}

impl Measured {
    fn disk(&self, samples: &mut Samples) {
        // What cannot be read is left out.
        let Ok(space) = rustix::fs::statvfs(&self.dir) else { return };
        let [free, all] =
            [space.f_bavail, space.f_blocks].map(|blocks| blocks as f64 * space.f_frsize as f64);
        let about = "Room that is left where the data directory is.";
        samples.gauge("sheaf_storage_available_bytes", about, &[], free);
        samples.gauge("sheaf_storage_size_bytes", "Size of the disk where the data directory is.", &[], all);
    }

    /// Until when the node's own certificate is good, and when it is to be renewed.
    fn certificate(&self, samples: &mut Samples) {
        let keyring = self.control.place().trust.keyring.as_ref();
        let Some(own) = keyring.and_then(|keyring| keyring.own()) else { return };
        let Some(end) = not_after(&own.certificate) else { return };
        let about = "Until when this node's certificate is good, by which other nodes know it.";
        let seconds = |at: Timestamp| (at.0 / 1000) as f64;
        samples.gauge("sheaf_node_certificate_expiry_timestamp_seconds", about, &[], seconds(end));
        let about = "When this node's certificate is to be renewed, which it does by itself.";
        samples.gauge("sheaf_node_certificate_renewal_timestamp_seconds", about, &[], seconds(own.renew_at));
    }

    fn sinks(&self, samples: &mut Samples) {
        let about = "On the leader: events that a sink wants and has not got, 10000 at most.";
        for (sink, lag) in self.control.sink_lags() {
            samples.gauge("sheaf_sink_lag_events", about, &[("sink", &sink)], lag as f64);
        }
    }

    /// What must be seen of a process that cannot keep up; before its agent runs, what the control plane counts.
    fn strain(&self, agent: Option<&State>, samples: &mut Samples) {
        let control = || {
            (self.control.late_timers(), self.control.full_queues().with(Queue::Calls, self.refused.times()))
        };
        let (timers, full) =
            agent.map_or_else(control, |state| (state.load.late_timers, state.load.full_queues));
        let about = "Timers of this agent that came over 50 ms late: its machine is starved.";
        samples.counter("sheaf_late_timers_total", about, &[], timers as f64);
        for queue in Queue::ALL {
            let about =
                "How often a bounded queue of this agent was full: somebody waited, was refused or cut off.";
            let labels = [("queue", queue.as_str())];
            samples.counter("sheaf_queue_full_total", about, &labels, full.times(queue) as f64);
        }
    }

    /// Where this node's replica stands; whether it leads.
    fn raft(&self, samples: &mut Samples) -> bool {
        let place = self.control.place();
        let member = place.member();
        let knows_leader = place.leader_contact().is_some();
        let flag = |yes: bool| if yes { 1.0 } else { 0.0 };
        let about = "Whether this node knows a leader that was heard lately.";
        samples.gauge("sheaf_raft_has_leader", about, &[], flag(knows_leader));
        let about = "Whether this node holds a replica of the log.";
        samples.gauge("sheaf_raft_is_member", about, &[], flag(member.is_some()));
        let leads = place.leads();
        let about = "Whether this node leads, and a majority answered it lately.";
        samples.gauge("sheaf_raft_is_leader", about, &[], flag(leads));
        let Some(member) = member else { return leads };
        let metrics = member.replica.metrics();
        samples.gauge("sheaf_raft_term", "The newest term this member has seen.", &[], metrics.term.0 as f64);
        for (name, about, index) in [
            ("sheaf_raft_last_index", "The last entry of this member's log.", metrics.last),
            (
                "sheaf_raft_committed_index",
                "The last entry that this member knows to be agreed on.",
                metrics.committed,
            ),
            (
                "sheaf_raft_applied_index",
                "The last entry that this member has applied in memory.",
                metrics.applied,
            ),
            (
                "sheaf_raft_durable_index",
                "The last entry whose outcome is in this member's database.",
                metrics.durable,
            ),
            ("sheaf_raft_purged_index", "The last entry that was cut off this member's log.", metrics.purged),
        ] {
            samples.gauge(name, about, &[], index.unwrap_or(0) as f64);
        }
        let voters = metrics.voters().count() as f64;
        samples.gauge("sheaf_raft_voters", "Members that vote, as this one knows.", &[], voters);
        samples.gauge("sheaf_raft_members", "Members, as this one knows.", &[], metrics.members.len() as f64);
        let state = member.replica.state();
        samples.gauge(
            "sheaf_revision",
            "The revision of the state that this member has.",
            &[],
            state.revision.0 as f64,
        );
        for other in &metrics.members {
            let Some(lag) = other.match_lag else { continue };
            let name = state.node_name(other.peer.node);
            let about = "On the leader: entries that a member is not known to have yet.";
            samples.gauge("sheaf_raft_match_lag_entries", about, &[("member", &name)], lag as f64);
        }
        leads
    }

    async fn agent(&self) -> Option<State> {
        let agent = self.logs.agent()?;
        tokio::time::timeout(WITHIN, agent.state()).await.ok()?.ok()
    }

    /// How the cluster stands; only from the leader, or each node would tell the same.
    async fn cluster(&self, leads: bool) -> Option<ClusterStatus> {
        if !leads {
            return None;
        }
        let status = self.client.with_deadline(WITHIN).cluster_status().await.ok()?;
        Some(status).filter(|status| status.leader.as_ref() == Some(&self.name))
    }
}

fn of_agent(state: &State, samples: &mut Samples) {
    let session = if state.has_session { 1.0 } else { 0.0 };
    samples.gauge("sheaf_session_open", "Whether this node has a session with the leader.", &[], session);
    let seen = state.seen.0 as f64;
    samples.gauge(
        "sheaf_agent_seen_revision",
        "The newest revision that this node's agent has acted on.",
        &[],
        seen,
    );
    for phase in Phase::ALL {
        let count = state.instances.iter().filter(|instance| instance.phase == phase).count();
        let about = "Instances of buckets on this node, by phase.";
        samples.gauge("sheaf_instances", about, &[("phase", phase.as_str())], count as f64);
    }
    let about =
        "Instances of buckets on this node that were started again three times or more within half an hour.";
    samples.gauge("sheaf_instances_restarting", about, &[], state.restarting as f64);
    let eligible = state.verdicts.iter().filter(|verdict| verdict.eligible()).count();
    let about = "Buckets that this node asked its gates about, by outcome.";
    samples.gauge("sheaf_verdicts", about, &[("outcome", "eligible")], eligible as f64);
    let refused = state.verdicts.len() - eligible;
    samples.gauge("sheaf_verdicts", about, &[("outcome", "not_eligible")], refused as f64);
}

fn of_cluster(status: &ClusterStatus, samples: &mut Samples) {
    let spare = f64::from(status.fault_tolerance);
    let about = "On the leader: voters that may fail now with the control plane still working.";
    samples.gauge("sheaf_fault_tolerance", about, &[], spare);
    let ClusterStatus { nodes, buckets, jobs, .. } = status;
    let mut all = |name, about, counts: &[(&str, u32)], label| {
        for (word, count) in counts {
            samples.gauge(name, about, &[(label, word)], f64::from(*count));
        }
    };
    let counts = [("ready", nodes.ready), ("lost", nodes.lost), ("draining", nodes.draining)];
    all("sheaf_nodes", "On the leader: nodes by status.", &counts, "status");
    let counts = BucketState::ALL.map(|state| (state.as_str(), buckets.of(state)));
    all("sheaf_buckets", "On the leader: buckets by state.", &counts, "state");
    let counts = [
        ("running", jobs.running),
        ("paused", jobs.paused),
        ("finished", jobs.finished),
        ("failed", jobs.failed),
        ("canceled", jobs.canceled),
    ];
    all("sheaf_jobs", "On the leader: jobs by state.", &counts, "state");
    let about = "On the leader: subtasks of running jobs that could start and wait for room.";
    samples.gauge("sheaf_subtasks_ready", about, &[], jobs.subtasks_ready as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_told_by_each_of_their_states() {
        let mut status = ClusterStatus::default();
        for state in [BucketState::Placing, BucketState::WaitingForNode, BucketState::WaitingForNode] {
            status.buckets.add(state);
        }
        let mut samples = Samples::default();
        of_cluster(&status, &mut samples);
        let text = samples.to_string();
        for state in BucketState::ALL {
            let count = status.buckets.of(state);
            let line = format!("sheaf_buckets{{state=\"{}\"}} {count}\n", state.as_str());
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(!text.contains("other"), "{text}");
    }

    #[test]
    fn a_node_is_asked_by_the_address_that_was_found_as_by_one_that_is_set() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("agent.toml");
        let text =
            "[node]\nname = \"a\"\nhostname = \"a.example.org\"\n[http]\nnames = [\"sheaf.example.org\"]\n";
        std::fs::write(&file, text).expect("the test's own file");
        let config = Config::load(Some(&file), [], &[]).expect("a good config");
        assert_eq!(config.advertise, None);
        let of = |address: &str| hosts(&config, address);
        assert_eq!(of("198.51.100.1:7420"), ["a", "a.example.org", "198.51.100.1", "sheaf.example.org"]);
        assert_eq!(of("[2001:db8::1]:7420")[2], "2001:db8::1", "as a browser's question is read");
    }
}
