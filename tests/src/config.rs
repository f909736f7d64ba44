//! What an agent's config file says.

use std::fmt::Write as _;
use std::path::PathBuf;

/// A lease for clusters in which nothing runs that a silence of some seconds would cost its node: who is lost is known
/// sooner.
pub const BRIEF_TTL: &str = "2500ms";

/// Timing of elections and leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Of Raft.
    pub heartbeat: &'static str,
    /// Shortest and longest wait before an election.
    pub election: (&'static str, &'static str),
    /// How long single-node work may run after a heartbeat was sent.
    pub ttl: &'static str,
}

impl Timing {
    /// Generous enough for so many agents on a machine with two cores.
    pub const fn for_nodes(count: usize) -> Self {
        if count < 10 {
            Self { heartbeat: "100ms", election: ("400ms", "700ms"), ttl: "4s" }
        } else {
            Self { heartbeat: "150ms", election: ("1s", "2s"), ttl: "6s" }
        }
    }
}

/// An agent's config, to be changed by a test before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// `node.name`
    pub name: String,
    /// `node.hostname`
    pub hostname: String,
    /// `node.labels`
    pub labels: Vec<String>,
    /// `listen.grpc`, which others reach it by.
    pub address: String,
    /// `listen.http`
    pub http: String,
    /// `cluster.join`
    pub join: Vec<String>,
    /// `cluster.bootstrap_expect`
    pub expect: usize,
    /// `modules.allow`
    pub allow: Vec<String>,
    /// `modules.deny`
    pub deny: Vec<String>,
    /// `lease` and `raft`
    pub timing: Timing,
    /// `storage.dir`
    pub dir: PathBuf,
    /// Lines put at the end as they are.
    pub more: String,
    /// Variables of the agent's environment, and so of its instances.
    pub environment: Vec<(String, String)>,
    /// The directory of the control group that the agent is started in; none: that of the test.
    pub group: Option<PathBuf>,
    /// The file that the agent is started from; none: the binary under test.
    pub binary: Option<PathBuf>,
    /// Words put at the end of the agent's command line.
    pub args: Vec<String>,
}

impl NodePlan {
    /// A node that allows every module and joins those that listen at `join`, all of which form the cluster; `count` is
    /// how many nodes there are.
    pub fn new(
        name: &str,
        address: String,
        http: String,
        join: Vec<String>,
        count: usize,
        dir: PathBuf,
    ) -> Self {
        Self {
            name: name.to_owned(),
            hostname: name.to_owned(),
            labels: Vec::new(),
            address,
            http,
            expect: join.len().max(1),
            join,
            allow: Vec::new(),
            deny: Vec::new(),
            timing: Timing::for_nodes(count),
            dir,
            more: String::new(),
            environment: Vec::new(),
            group: None,
            binary: None,
            args: Vec::new(),
        }
    }

    /// The config file.
    pub fn toml(&self) -> String {
        let Timing { heartbeat, election: (min, max), ttl } = &self.timing;
        let mut text = String::new();
        let _ = write!(
            text,
            "[node]\nname = {:?}\nhostname = {:?}\nlabels = {:?}\n\
             [listen]\ngrpc = {:?}\nhttp = {:?}\n\
             [cluster]\njoin = {:?}\nbootstrap_expect = {}\n\
             [modules]\nallow = {:?}\ndeny = {:?}\n\
             [lease]\nheartbeat = \"500ms\"\nttl = {ttl:?}\nkill_margin = \"1s\"\n\
             [raft]\nheartbeat = {heartbeat:?}\nelection_min = {min:?}\nelection_max = {max:?}\n\
             [storage]\ndir = {:?}\n{}",
            self.name,
            self.hostname,
            self.labels,
            self.address,
            self.http,
            self.join,
            self.expect,
            self.allow,
            self.deny,
            self.dir.display().to_string(),
            self.more,
        );
        text
    }
}
