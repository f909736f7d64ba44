//! The node's ports, the address that others are told, and every entry of the join list.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, SystemTime};

use sheaf_model::{ClusterId, Contact, NodeKey, Timestamp};
use sheaf_wire::Transport;
use sheaf_wire::peer::{Greeting, HelloAsk, PeerClient};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::Finding;
use crate::address;
use crate::config::Config;
use crate::data::Record;

/// How long a name may take.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);
/// How long an entry of the join list may take to accept a connection.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take to say who it is.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// Clocks that are kept are not so many seconds apart.
const APART: u64 = 30;
/// Certificates are good from so many seconds before they are made.
const TOO_FAR: u64 = 3600;

/// `runs` is the agent that has the data directory now.
pub(super) fn ports(config: &Config, runs: Option<u32>) -> Vec<Finding> {
    let mut findings = vec![port("grpc port", &config.grpc, "grpc", runs)];
    findings.extend(config.http.as_deref().map(|http| port("http port", http, "http", runs)));
    findings.extend(advertised(config));
    findings
}

fn port(check: &'static str, address: &str, key: &str, runs: Option<u32>) -> Finding {
    let Err(error) = TcpListener::bind(address) else {
        return Finding::fine(check, format!("{address} is free"));
    };
    match (error.kind(), runs) {
        (ErrorKind::AddrInUse, Some(agent)) => {
            Finding::fine(check, format!("{address} is in use while the agent runs (process {agent})"))
        }
        (ErrorKind::AddrInUse, None) => {
            let remedy = format!("stop what listens there (ss -ltnp shows it), or set [listen] {key}");
            Finding::error(check, format!("{address} is in use by another program"), remedy)
        }
        (ErrorKind::PermissionDenied, _) => {
            let remedy = format!("a port from 1024 up in [listen] {key}, or run as root");
            Finding::error(check, format!("{address}: {error}"), remedy)
        }
        _ => {
            let remedy = format!("set [listen] {key} to an address of this machine");
            Finding::error(check, format!("{address}: {error}"), remedy)
        }
    }
}

/// What others are told must lead here from where they are.
fn advertised(config: &Config) -> Option<Finding> {
    const CHECK: &str = "address";
    let listening = config.grpc.to_socket_addrs().ok()?.next()?;
    let told = address::advertised(config, listening);
    if let Err(error) = told.to_socket_addrs() {
        let message = format!("others are told {told}, which cannot be resolved here: {error}");
        return Some(Finding::warning(CHECK, message, "a name that all nodes know in [listen] advertise"));
    }
    if address::leads_astray(&config.join, &told) {
        let message = format!("others are told {told}, which leads each of them to itself");
        return Some(Finding::error(CHECK, message, address::REMEDY));
    }
    if address::is_cut_off(config, listening, &told) {
        let message = format!("there is no way to other machines, and others are told {told}");
        return Some(Finding::warning(CHECK, message, address::REMEDY_CUT_OFF));
    }
    Some(Finding::fine(CHECK, format!("others are told {told}")))
}

/// What an entry of the list came to.
struct Entry {
    finding: Finding,
    cluster: Option<ClusterId>,
    /// What its clock is beside ours.
    clock: Option<Finding>,
}

impl From<Finding> for Entry {
    fn from(finding: Finding) -> Self {
        Self { finding, cluster: None, clock: None }
    }
}

/// Every entry: resolves, connects, answers as Sheaf, and all those that know a cluster know the same.
pub(super) async fn join(
    config: &Config,
    record: Option<&Record>,
    transport: Option<&Transport>,
) -> Vec<Finding> {
    let asked = config.join.iter().map(|entry| look(config, entry, record, transport));
    let all = futures::future::join_all(asked).await;
    let mut clusters: BTreeMap<ClusterId, Vec<&str>> = BTreeMap::new();
    for (entry, found) in config.join.iter().zip(&all) {
        if let Some(cluster) = &found.cluster {
            clusters.entry(cluster.clone()).or_default().push(entry);
        }
    }
    let mut findings: Vec<Finding> = all.iter().map(|entry| entry.finding.clone()).collect();
    findings.extend(all.iter().filter_map(|entry| entry.clock.clone()));
    findings.extend(torn(&clusters));
    findings.extend(record.and_then(|record| foreign(config, record.cluster.as_ref()?, &clusters)));
    findings
}

/// The list leads to several clusters that have nothing to do with each other.
fn torn(clusters: &BTreeMap<ClusterId, Vec<&str>>) -> Option<Finding> {
    let mut all = clusters.iter();
    let (first, _) = all.next()?;
    all.clone().find(|(other, _)| !related(first, other))?;
    let shown: Vec<String> =
        clusters.iter().map(|(cluster, entries)| format!("{} of {cluster}", entries.join(", "))).collect();
    Some(Finding::error(
        "join",
        format!("the list leads to several clusters: {}", shown.join("; ")),
        "list nodes of one cluster alone in [cluster] join, the same on every node",
    ))
}

/// The data directory belongs to another cluster than the list leads to.
fn foreign(config: &Config, own: &ClusterId, clusters: &BTreeMap<ClusterId, Vec<&str>>) -> Option<Finding> {
    if clusters.is_empty() || clusters.keys().any(|other| related(own, other)) {
        return None;
    }
    let others: Vec<&str> = clusters.keys().map(|cluster| cluster.0.as_str()).collect();
    Some(Finding::error(
        "join",
        format!(
            "the data directory {} belongs to cluster {own}, but the list leads to {}",
            config.dir.display(),
            others.join(", ")
        ),
        "correct [cluster] join, or give this node another [storage] dir to join there as a new node",
    ))
}

fn related(one: &ClusterId, other: &ClusterId) -> bool {
    one == other || one.succeeds(other) || other.succeeds(one)
}

async fn look(config: &Config, entry: &str, record: Option<&Record>, transport: Option<&Transport>) -> Entry {
    const CHECK: &str = "join";
    let addresses: Vec<SocketAddr> = match timeout(RESOLVED_WITHIN, lookup_host(entry)).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            let remedy = "correct [cluster] join, the DNS, or /etc/hosts";
            return Finding::error(CHECK, format!("{entry} cannot be resolved: {error}"), remedy).into();
        }
        Err(_) => {
            let message = format!("{entry} cannot be resolved: no answer within {RESOLVED_WITHIN:?}");
            return Finding::error(CHECK, message, "correct [cluster] join, or the DNS").into();
        }
    };
    if let Err(why) = connect(&addresses).await {
        return silent(config, entry, &addresses, &why).into();
    }
    let Some(transport) = transport else {
        return Finding::fine(CHECK, format!("{entry} accepts connections")).into();
    };
    let asked = now();
    match hello(entry, transport).await {
        Ok(greeting) => {
            let apart = greeting.wall.map(|said| apart(said, asked, now()));
            Entry { clock: apart.map(|apart| clock(entry, apart)), ..answered(entry, &greeting, record) }
        }
        Err(error) => Finding::error(
            CHECK,
            format!("{entry} accepts connections, but not as an agent that this one could join: {error}"),
            "see which program listens there; if it is an agent: all nodes need the same join secret, or this one a token of \
             its cluster ([security])",
        )
        .into(),
    }
}

async fn connect(addresses: &[SocketAddr]) -> Result<(), String> {
    let mut why = "it has no address".to_owned();
    for address in addresses {
        match timeout(CONNECTED_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no answer within {CONNECTED_WITHIN:?}"),
        }
    }
    Err(why)
}

/// Nobody there: this node itself, one that is not started, or something in between.
fn silent(config: &Config, entry: &str, addresses: &[SocketAddr], why: &str) -> Finding {
    let port = config.grpc.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let is_own = |address: &SocketAddr| Some(address.port()) == port && is_local(address.ip());
    if addresses.iter().any(is_own) {
        return Finding::fine("join", format!("{entry} is this node, which does not run yet"));
    }
    Finding::warning(
        "join",
        format!("{entry} does not accept connections ({why})"),
        "nothing, if its agent is not started yet; else look there, and at firewalls between: port 7420 must be open",
    )
}

/// Whether it is an address of this machine: only then can it be bound.
fn is_local(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Asks who it is, as somebody that it need not remember: whoever belongs nowhere could be meant to form a cluster with.
async fn hello(entry: &str, transport: &Transport) -> Result<Greeting, String> {
    let ask = HelloAsk {
        instance: uuid::Uuid::new_v4().to_string(),
        key: NodeKey("check".to_owned()),
        cluster: Some(ClusterId("check".to_owned())),
        node: None,
        nonce: None,
    };
    let peer = PeerClient::new(&Contact::anyone(entry), transport).map_err(|error| error.to_string())?;
    peer.hello(ask, ANSWERED_WITHIN).await.map_err(|error| error.to_string())
}

fn answered(entry: &str, greeting: &Greeting, record: Option<&Record>) -> Entry {
    let name = &greeting.name;
    let own = record.is_some_and(|record| record.key == greeting.key);
    let who = if own { format!("this node, {name}, which runs") } else { name.to_string() };
    let message = match (&greeting.cluster, &greeting.leader) {
        (Some(cluster), Some(leader)) => {
            format!("{entry} is {who}, of cluster {cluster}, led from {}", leader.address)
        }
        (Some(cluster), None) => format!("{entry} is {who}, of cluster {cluster}, which has no leader now"),
        (None, _) => format!("{entry} is {who}, and belongs to no cluster yet"),
    };
    Entry { cluster: greeting.cluster.clone(), ..Finding::fine("join", message).into() }
}

fn now() -> Timestamp {
    Timestamp::from_system(SystemTime::now())
}

/// How far a clock is from ours at least that said this between these two times of ours.
fn apart(said: Timestamp, asked: Timestamp, heard: Timestamp) -> Duration {
    if said < asked { said.until(asked) } else { heard.until(said) }
}

/// Certificates, tokens and quarantines end at some wall time, and history is told by it.
fn clock(entry: &str, apart: Duration) -> Finding {
    let remedy = "set the one that is wrong, and have both kept: systemd-timesyncd or chrony";
    let seconds = apart.as_secs();
    match seconds {
        ..APART => Finding::fine("clock", format!("as that of {entry}")),
        APART..TOO_FAR => {
            let message =
                format!("{seconds} s from that of {entry}: times in history, and ends of tokens, differ");
            Finding::warning("clock", message, remedy)
        }
        _ => {
            let message =
                format!("{seconds} s from that of {entry}: certificates that are new are not valid for both");
            Finding::error("clock", message, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    fn clusters<'a>(of: &[(&str, &'a str)]) -> BTreeMap<ClusterId, Vec<&'a str>> {
        let mut clusters: BTreeMap<ClusterId, Vec<&str>> = BTreeMap::new();
        for (cluster, entry) in of {
            clusters.entry(ClusterId((*cluster).to_owned())).or_default().push(entry);
        }
        clusters
    }

    #[test]
    fn a_list_that_leads_to_two_clusters_is_an_error() {
        assert_eq!(torn(&clusters(&[])), None);
        assert_eq!(torn(&clusters(&[("a", "n1:1"), ("a", "n2:1")])), None);
        assert_eq!(torn(&clusters(&[("a", "n1:1"), ("a+1-x", "n2:1")])), None, "one goes on from the other");
        let found = torn(&clusters(&[("a", "n1:1"), ("b", "n2:1")])).expect("two clusters");
        assert!(found.level == Level::Error && found.message.contains("n1:1 of a; n2:1 of b"), "{found:?}");
    }

    #[test]
    fn clocks_that_differ_are_a_warning_and_at_last_an_error() {
        let level = |said: u64, asked: u64, heard: u64| {
            let [said, asked, heard] = [said, asked, heard].map(|seconds| Timestamp(seconds * 1000));
            clock("n1:1", apart(said, asked, heard)).level
        };
        assert_eq!(level(10_000, 9_999, 10_002), Level::Fine);
        for (near, far, too_far) in [(9_975, 9_960, 6_000), (10_030, 10_050, 14_000)] {
            assert_eq!(level(near, 10_000, 10_003), Level::Fine, "the way may take its time");
            assert_eq!(level(far, 10_000, 10_003), Level::Warning);
            assert_eq!(level(too_far, 10_000, 10_003), Level::Error);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_unless_the_own_agent_has_it() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it has one").to_string();
        assert_eq!(port("grpc port", &address, "grpc", None).level, Level::Error);
        assert_eq!(port("grpc port", &address, "grpc", Some(7)).level, Level::Fine);
        let foreign = port("grpc port", "192.0.2.1:7420", "grpc", None);
        assert!(foreign.remedy.contains("an address of this machine"), "{foreign:?}");
    }

    #[test]
    fn addresses_of_this_machine_are_known() {
        assert!(is_local([127, 0, 0, 1].into()) && !is_local([192, 0, 2, 1].into()));
    }
}
