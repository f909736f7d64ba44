//! The agent's configuration: one file that is the same on every node, then the environment, then flags.
//!
//! Every defect is found before anything is started: unknown keys with the nearest known name, wrong types, values out
//! of range, each with where it comes from.

mod read;
mod show;
mod values;

use std::path::{Path, PathBuf};

use sheaf_model::{Bytes, Defect, LeaseSettings, NodeName, Span, Voters};

/// Where the configuration is looked for when no `--config` is given; it need not exist.
pub(crate) const DEFAULT_FILE: &str = "/etc/sheaf/agent.toml";
/// Prefix of variables that override a key: `SHEAF_CONFIG_<SECTION>_<KEY>`.
pub(crate) const ENVIRONMENT: &str = "SHEAF_CONFIG_";

/// What an agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Unique among nodes that are not lost or left.
    pub(crate) name: NodeName,
    /// What `node_list_rules` match.
    pub(crate) hostname: String,
    pub(crate) labels: Vec<String>,
    /// Where the API, agents and members are served.
    pub(crate) grpc: String,
    /// Where the dashboard, health and metrics are served; none: nowhere.
    pub(crate) http: Option<String>,
    pub(crate) https: Https,
    /// Where others reach `grpc`; none: found out.
    pub(crate) advertise: Option<String>,
    /// The same list on every node; empty: a cluster of one.
    pub(crate) join: Vec<String>,
    /// How many of `join` must see each other to form a cluster; by default all of them.
    pub(crate) bootstrap_expect: u32,
    pub(crate) voters: Voters,
    pub(crate) allow: Vec<String>,
    pub(crate) deny: Vec<String>,
    /// What the forming node brings.
    pub(crate) lease: LeaseSettings,
    pub(crate) raft: Raft,
    /// Subtasks at a time, 0 for the number of cores.
    pub(crate) slots: u32,
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// How much of its disk artifacts may take that nothing here uses.
    pub(crate) artifact_cache: Bytes,
    /// Where the cluster's key for secrets stands; none: this node can neither set nor open any.
    pub(crate) key_file: Option<PathBuf>,
    /// Programs that sinks may run on this node, by their absolute paths.
    pub(crate) exec_allow: Vec<String>,
    /// A secret that nodes of one cluster share to find each other; none: they join by tokens.
    pub(crate) join_secret_file: Option<PathBuf>,
    /// Where a join token stands.
    pub(crate) join_token_file: Option<PathBuf>,
    /// How long the certificates of nodes are good that this one issues while it leads.
    pub(crate) certificate_lifetime: Span,
    /// The collector that traces are sent to, `http://HOST:PORT` or `https://HOST:PORT`; none: where the environment says.
    pub(crate) otlp: Option<String>,
    /// The authorities that are believed for an `https://` collector; none: where the environment says, or as the system trusts.
    pub(crate) otlp_ca_file: Option<PathBuf>,
}

/// How the port of the dashboard speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Https {
    /// Whether it does, where there is a certificate.
    pub(crate) on: bool,
    /// A certificate of the operator's own; none: that of the node.
    pub(crate) certificate_file: Option<PathBuf>,
    /// The key of that one.
    pub(crate) key_file: Option<PathBuf>,
    /// Names that lead here beside the node's own and the certificate's.
    pub(crate) names: Vec<String>,
    /// For how long browsers are to ask this host by TLS alone; zero: they are not told so.
    pub(crate) strict_transport: Span,
}

impl Https {
    /// What is wrong with the combination of values.
    fn defects(&self) -> Vec<Defect> {
        let mut defects = Vec::new();
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => defects.push(Defect::new(
                "http.key_file",
                "is missing, and http.certificate_file is given",
                "the file of that certificate's key, in PEM",
            )),
            (None, Some(_)) => defects.push(Defect::new(
                "http.certificate_file",
                "is missing, and http.key_file is given",
                "the file of that key's certificate, in PEM",
            )),
            (Some(_), Some(_)) if !self.on => defects.push(Defect::new(
                "http.tls",
                "is \"off\", and http.certificate_file is given",
                "\"cluster\", or no certificate",
            )),
            _ => {}
        }
        if self.strict_transport.0 > 0 && self.certificate_file.is_none() {
            defects.push(Defect::new(
                "http.strict_transport",
                "is given without http.certificate_file",
                "a certificate that browsers believe: of others they remember nothing",
            ));
        }
        defects
    }
}

/// Timing of elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Raft {
    pub(crate) heartbeat: Span,
    pub(crate) election_min: Span,
    pub(crate) election_max: Span,
}

impl Config {
    /// Reads the file, then the environment, then `key=value` flags; later ones win.
    ///
    /// # Errors
    /// All defects at once.
    pub(crate) fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, Vec<Defect>> {
        let (path, required) = match file {
            Some(path) => (path.to_owned(), true),
            None => (PathBuf::from(DEFAULT_FILE), false),
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
            Err(error) => {
                let remedy = "a readable TOML file; sheaf help agent shows one";
                return Err(vec![Defect::new("", format!("cannot be read: {error}"), remedy).at(&path)]);
            }
        };
        let mut values = values::Values::from_toml(&path.display().to_string(), &text)?;
        values.override_by_environment(environment);
        values.override_by_flags(flags);
        read::config(values)
    }

    /// What is wrong with the combination of values.
    fn defects(&self) -> Vec<Defect> {
        let mut defects = self.lease.defects();
        defects.extend(self.https.defects());
        let Raft { heartbeat, election_min, election_max } = self.raft;
        if heartbeat.0 == 0 || election_min.0 < heartbeat.0.saturating_mul(3) {
            let problem =
                format!("election_min {election_min} is shorter than three heartbeats of {heartbeat}");
            defects.push(Defect::new("raft.election_min", problem, "at least three times raft.heartbeat"));
        }
        if election_max.0 <= election_min.0 {
            let problem =
                format!("election_max {election_max} is not longer than election_min {election_min}");
            defects.push(Defect::new(
                "raft.election_max",
                problem,
                "well above raft.election_min, to break ties",
            ));
        }
        if !self.join.is_empty() && self.bootstrap_expect as usize > self.join.len() {
            let problem =
                format!("expects {} nodes, but join lists only {}", self.bootstrap_expect, self.join.len());
            defects.push(Defect::new(
                "cluster.bootstrap_expect",
                problem,
                "at most as many as cluster.join lists",
            ));
        }
        defects
    }

    /// What deserves a word in the log though it is allowed.
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let election = self.lease.election_warning(self.raft.election_max);
        let election = election.map(|problem| Warning {
            problem,
            remedy: "a longer lease.ttl, or where disks and network are fast a shorter raft.election_max"
                .to_owned(),
        });
        let mut warnings: Vec<Warning> = election.into_iter().collect();
        let listed = self.join.len();
        if 2 * self.bootstrap_expect as usize <= listed {
            warnings.push(Warning {
                problem: format!(
                    "cluster.bootstrap_expect {} is not more than half of the {listed} nodes in cluster.join: were the \
                     network cut in two while they first start, both halves could form a cluster",
                    self.bootstrap_expect
                ),
                remedy: format!("{} or more of them, the same on all nodes", listed / 2 + 1),
            });
        }
        warnings
    }
}

/// What is allowed, and unlikely to be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub(crate) problem: String,
    /// What would be right.
    pub(crate) remedy: String,
}

/// Where a defect stands.
pub(crate) trait At {
    fn at(self, path: &Path) -> Self;
}

impl At for Defect {
    fn at(mut self, path: &Path) -> Self {
        self.file = path.display().to_string();
        self
    }
}

#[cfg(test)]
mod tests;
