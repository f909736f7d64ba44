//! What lies where, and who the nodes are.
//!
//! ```text
//! DIR/dev.lock              held by the one `sheaf dev` that runs here
//! DIR/secrets.key           the cluster's key for secrets, made once
//! DIR/import-01/agent.toml  written once, then the user's to change
//! DIR/import-01/agent.log   what the agent says
//! DIR/import-01/data/       the agent's data directory
//! DIR/collected/, report/   what the examples write
//! DIR/checksums.yaml, .jsonl  a job to try, and its items
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};

/// Nodes when nobody says how many.
const NODES: u16 = 3;
/// The first node's port when nobody says which, as that is where the command line looks.
pub(super) const PORT: u16 = 7420;
/// Between the ports of two nodes.
const STEP: u16 = 10;
/// The file of the cluster's key for secrets.
const KEY: &str = "secrets.key";
/// Nodes that form the cluster and stand in every join list, at most.
const FOUNDERS: usize = 3;
/// How often another's lock is asked for, a quarter of a second apart: a guard may be cleaning up; and free ports.
const TRIES: u32 = 20;

/// The directory, ours as long as this lives.
pub(super) struct Home {
    path: PathBuf,
    temporary: bool,
    _lock: File,
}

impl Home {
    /// Opens the given directory, made if missing, or makes a temporary one.
    pub(super) async fn open(given: Option<&Path>) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
                made.with_context(|| format!("make {}", path.display()))?;
                path.to_owned()
            }
            None => temporary()?,
        };
        let path = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        if path.to_str().is_none_or(|text| text.contains(['"', '\\', '\n', '\t'])) {
            bail!(
                "{} cannot be used: a path without quotes, backslashes and control characters",
                path.display()
            );
        }
        for _ in 0..TRIES {
            if let Some(lock) = lock(&path)? {
                return Ok(Self { path, temporary: given.is_none(), _lock: lock });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        bail!("{} is in use by another sheaf dev; stop that one, or give another --dir", path.display())
    }

    /// Absolute, valid text without quotes.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it goes at the end.
    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Removes it with everything in it if it is temporary.
    pub(super) fn close(self) -> anyhow::Result<()> {
        if self.temporary {
            fs::remove_dir_all(&self.path).with_context(|| format!("remove {}", self.path.display()))?;
        }
        Ok(())
    }
}

impl Drop for Home {
    /// For ways out that do not come by [`Home::close`].
    fn drop(&mut self) {
        if self.temporary {
            // It is gone already, or nobody is left to tell.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The lock of a directory; none while another holds it.
pub(super) fn lock(directory: &Path) -> anyhow::Result<Option<File>> {
    let path = directory.join("dev.lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => Ok(None),
        Err(error) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn temporary() -> anyhow::Result<PathBuf> {
    let (place, own) = (std::env::temp_dir(), std::process::id());
    for number in 0..1000 {
        let path = place.join(format!("sheaf-dev-{own}-{number}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("make {}", path.display())),
        }
    }
    bail!("{} is full of directories of sheaf dev; remove some", place.display())
}

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Also its hostname.
    pub(super) name: String,
    pub(super) labels: Vec<String>,
    /// Modules it allows; empty: all.
    pub(super) allow: Vec<String>,
    /// On loopback.
    pub(super) port: u16,
    /// Its part of the directory.
    pub(super) dir: PathBuf,
}

impl Node {
    /// `host:port`.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where its dashboard is.
    pub(super) fn dashboard(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port + 1)
    }

    /// Its configuration file.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// What it says goes here.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Number `index` of a cluster: two import nodes, then one for other work, and so on. The first one is where
    /// people look from, so it is not to be killed: it has no single-node work, as it does not allow the module.
    fn new(index: usize, number: usize, home: &Path) -> Self {
        let (round, place) = (index / 3, index % 3);
        let zone = ["zone=a", "zone=b"][index % 2];
        let (name, role) = match place {
            2 => (format!("work-{:02}", round + 1), "work"),
            _ => (format!("import-{:02}", round * 2 + place + 1), "import"),
        };
        let allow = if index == 0 && number > 1 { vec!["collect".to_owned()] } else { Vec::new() };
        let dir = home.join(&name);
        Self { name, labels: vec![role.to_owned(), zone.to_owned()], allow, port: 0, dir }
    }

    fn toml(&self, join: &[String], key: &Path) -> String {
        let list = |texts: &[String]| {
            let quoted: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
            quoted.join(", ")
        };
        let Self { name, port, .. } = self;
        format!(
            "# Written by sheaf dev and never again: change what you like. On SIGHUP the agent reads labels and [modules].\n\
             [node]\nname = \"{name}\"\nhostname = \"{name}\"\nlabels = [{}]\n\
             [listen]\ngrpc = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{}\"\nadvertise = \"127.0.0.1:{port}\"\n\
             [cluster]\njoin = [{}]\nbootstrap_expect = {}\n\
             [modules]\nallow = [{}]\n\
             [storage]\ndir = \"{}\"\n\
             [secrets]\nkey_file = \"{}\"\n",
            list(&self.labels),
            port + 1,
            list(join),
            join.len(),
            list(&self.allow),
            self.dir.join("data").display(),
            key.display(),
        )
    }
}

/// Decides who the nodes are and where they listen, and has a configuration file for each.
pub(super) fn plan(home: &Home, wanted: Option<u16>, first: Option<u16>) -> anyhow::Result<Vec<Node>> {
    let known = (0..).take_while(|index| Node::new(*index, 1, home.path()).config().exists()).count();
    let number = wanted.map_or(known.max(usize::from(if known == 0 { NODES } else { 0 })), usize::from);
    if number < known {
        bail!("{} holds {known} nodes; --nodes {known} or more, or another --dir", home.path().display());
    }
    let mut nodes: Vec<Node> = (0..number).map(|index| Node::new(index, number, home.path())).collect();
    for node in &mut nodes[..known] {
        node.port = port_of(&node.config())?;
        if pair(node.port).is_err() {
            bail!(
                "port {0} of {1} is taken, or the one after it; stop what listens there",
                node.port,
                node.name
            );
        }
        if first.is_some() {
            bail!("{} has its ports already; leave --port out", home.path().display());
        }
    }
    let ports = ports(number - known, known, first)?;
    for (node, port) in nodes[known..].iter_mut().zip(ports) {
        node.port = port;
    }
    let join: Vec<String> = nodes.iter().take(FOUNDERS).map(Node::address).collect();
    let key = home.path().join(KEY);
    if !key.exists() {
        sheaf_seal::make(&key)?;
    }
    for node in &nodes[known..] {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&node.dir);
        made.and_then(|()| fs::write(node.config(), node.toml(&join, &key)))
            .with_context(|| format!("write {}", node.config().display()))?;
    }
    Ok(nodes)
}

/// Ports for `number` new nodes after `known` others: the usual ones, or free ones where they are taken. The port after
/// each is its dashboard's.
fn ports(number: usize, known: usize, first: Option<u16>) -> anyhow::Result<Vec<u16>> {
    let usual = |index: usize| {
        let distance = u16::try_from(known + index).ok()?.checked_mul(STEP)?;
        first.unwrap_or(PORT).checked_add(distance).filter(|port| *port < u16::MAX)
    };
    // Held until all are chosen, or two nodes could be given the same one.
    let mut held = Vec::new();
    for index in 0..number {
        let bound = usual(index).and_then(|port| pair(port).ok());
        held.push(match (bound, first) {
            (Some(pair), _) => pair,
            (None, Some(first)) => match usual(index) {
                Some(port) => {
                    bail!(
                        "port {port} is taken, or the one after it; another --port than {first}, or none to take free ones"
                    )
                }
                None => bail!("there are not enough ports from {first} on; a lower --port"),
            },
            (None, None) => free_pair().context("find free ports")?,
        });
    }
    held.iter().map(|(listener, _)| Ok(listener.local_addr().context("find a free port")?.port())).collect()
}

/// A port and the one after it.
fn pair(port: u16) -> io::Result<(TcpListener, TcpListener)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let after = listener.local_addr()?.port().checked_add(1).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((listener, TcpListener::bind((Ipv4Addr::LOCALHOST, after))?))
}

/// Two that nobody listens on, wherever the system finds the first.
fn free_pair() -> io::Result<(TcpListener, TcpListener)> {
    (0..TRIES)
        .find_map(|_| pair(0).ok())
        .ok_or_else(|| pair(0).err().unwrap_or(io::ErrorKind::AddrInUse.into()))
}

/// The port that a configuration file names.
fn port_of(config: &Path) -> anyhow::Result<u16> {
    let text = fs::read_to_string(config).with_context(|| format!("read {}", config.display()))?;
    let table: toml::Table = text.parse().with_context(|| format!("{} is no TOML", config.display()))?;
    let address = table.get("listen").and_then(|listen| listen.get("grpc")).and_then(toml::Value::as_str);
    let port = address.and_then(|address| address.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
    port.with_context(|| format!("{} has no [listen] grpc = \"127.0.0.1:PORT\"", config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_of_two_kinds_and_one_allows_less() {
        let nodes: Vec<Node> = (0..6).map(|index| Node::new(index, 6, Path::new("/d"))).collect();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["import-01", "import-02", "work-01", "import-03", "import-04", "work-02"]);
        assert_eq!(nodes[0].allow, ["collect"]);
        assert!(Node::new(0, 1, Path::new("/d")).allow.is_empty(), "alone it does everything");
        assert_eq!(nodes.iter().filter(|node| !node.allow.is_empty()).count(), 1);
        assert_eq!(nodes[2].labels, ["work", "zone=a"]);
    }

    #[tokio::test]
    async fn a_directory_is_gone_on_with() {
        let place = tempfile::tempdir().expect("a directory");
        let home = Home::open(Some(place.path())).await.expect("opened");
        assert!(lock(place.path()).expect("asked").is_none(), "it is held");
        let first = plan(&home, Some(2), None).expect("planned");
        assert_eq!(plan(&home, None, None).expect("planned"), first);
        let more = plan(&home, Some(4), None).expect("planned");
        assert_eq!(more[..2], first);
        assert!(plan(&home, Some(3), None).is_err(), "one would be left out");
        let mut ports: Vec<u16> = more.iter().map(|node| node.port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 4);
    }

    #[tokio::test]
    async fn every_configuration_is_accepted() {
        let place = tempfile::tempdir().expect("a directory");
        let home = Home::open(Some(place.path())).await.expect("opened");
        for node in plan(&home, Some(4), None).expect("planned") {
            let config = crate::config::Config::load(Some(&node.config()), [], &[]).expect("a good file");
            assert_eq!((config.name.as_str(), config.grpc), (node.name.as_str(), node.address()));
            assert_eq!((config.join.len(), config.bootstrap_expect), (3, 3));
            assert_eq!(config.allow, node.allow);
            sheaf_seal::Key::read(&config.key_file.expect("a key file")).expect("a key");
        }
    }

    #[test]
    fn a_taken_port_is_replaced_unless_it_was_asked_for() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("bound").port();
        for first in [port, port - 1] {
            let error = ports(1, 0, Some(first)).expect_err("taken").to_string();
            assert!(error.starts_with(&format!("port {first} is taken")), "{error}");
        }
        assert_eq!(ports(3, 0, None).expect("free ones").len(), 3);
    }
}
