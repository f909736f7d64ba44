//! Where this node is reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};

use crate::config::Config;

/// What to do about an address that leads others astray.
pub(crate) const REMEDY: &str =
    "[listen] grpc = \"0.0.0.0:7420\", or this machine's address in [listen] advertise";

/// The same where no address is found that others could be told.
pub(crate) const REMEDY_CUT_OFF: &str =
    "this machine's address in [listen] advertise; or start again once it has a network";

/// Addresses for documentation, which nobody has (RFC 5737, RFC 3849): the way there is that to whoever is not near.
const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// The address to give to others: as configured; else the listening address, if it is one; else the local address that is
/// used towards the join list, or towards whoever is far where there is none: it is others that join this node then. Nothing is
/// sent to find out.
pub(crate) fn advertised(config: &Config, listening: SocketAddr) -> String {
    if let Some(address) = &config.advertise {
        return with_port(address, listening.port());
    }
    if !listening.ip().is_unspecified() {
        return listening.to_string();
    }
    let entries = config.join.iter().map(|entry| Entry::new(entry));
    let towards = towards_others(entries, |to| local_address_towards(to, listening));
    let ip = towards.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(ip, listening.port()).to_string()
}

/// Whether those that join this node later are told loopback, although it listens for them: there is no way to other machines.
pub(crate) fn is_cut_off(config: &Config, listening: SocketAddr, told: &str) -> bool {
    let is_settled = config.advertise.is_some() || !config.join.is_empty();
    !is_settled && listening.ip().is_unspecified() && is_loopback(&resolved(told))
}

/// Whether others who are told this address are led to themselves: it is loopback, and the join list has other machines.
pub(crate) fn leads_astray(join: &[String], told: &str) -> bool {
    if join.is_empty() {
        return false;
    }
    let told = resolved(told);
    !told.is_empty() && is_loopback(&told) && join.iter().any(|entry| !is_loopback(&resolved(entry)))
}

/// `host:0` stands for the port that is listened on.
fn with_port(address: &str, port: u16) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{port}"),
        None => address.to_owned(),
    }
}

/// An entry of the join list.
#[derive(Clone, Debug)]
struct Entry {
    /// It is by a name that may be that of another machine, or this one's own for others.
    is_named: bool,
    /// None: it cannot be resolved now.
    found: Vec<SocketAddr>,
}

impl Entry {
    fn new(entry: &str) -> Self {
        Self { is_named: is_named(entry), found: resolved(entry) }
    }
}

fn is_named(entry: &str) -> bool {
    let host = entry.rsplit_once(':').map_or(entry, |(host, _)| host);
    host != "localhost" && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
}

fn is_loopback(found: &[SocketAddr]) -> bool {
    found.iter().all(|address| address.ip().is_loopback())
}

fn resolved(address: &str) -> Vec<SocketAddr> {
    address.to_socket_addrs().into_iter().flatten().collect()
}

/// The first local address towards an entry that is not this machine for itself alone: many systems give their own name a
/// loopback address, and all nodes have the same list, so that one's own entry may be the first. Where there is none but
/// an entry has a name, as when the others' cannot be resolved yet, or where the list is empty, the one towards whoever is far.
fn towards_others(
    entries: impl Iterator<Item = Entry>,
    local: impl Fn(SocketAddr) -> Option<IpAddr>,
) -> Option<IpAddr> {
    let (mut loopback, mut is_named, mut is_empty) = (None, false, true);
    for entry in entries {
        is_empty = false;
        is_named |= entry.is_named;
        for ip in entry.found.into_iter().filter_map(&local) {
            if !ip.is_loopback() {
                return Some(ip);
            }
            loopback = loopback.or(Some(ip));
        }
    }
    let mut far =
        FAR.into_iter().filter(|_| is_named || is_empty).filter_map(|ip| local(SocketAddr::new(ip, 1)));
    far.find(|ip| !ip.is_loopback()).or(loopback)
}

/// None: there is no way there, or nobody who comes from there is heard where this node listens.
fn local_address_towards(to: SocketAddr, listening: SocketAddr) -> Option<IpAddr> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) if listening.is_ipv4() => return None,
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    // Connecting a UDP socket only asks the kernel for a route.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn entry(is_named: bool, found: &[&str]) -> Entry {
        Entry { is_named, found: found.iter().map(|text| SocketAddr::new(ip(text), 7420)).collect() }
    }

    /// On a machine with 10.0.0.1 and 198.51.100.1 beside loopback; the latter leads to whoever is far.
    fn local(to: SocketAddr) -> Option<IpAddr> {
        match to.ip() {
            to if to.is_loopback() => Some(LOOPBACK),
            IpAddr::V4(to) if to.octets()[0] == 10 => Some(ip("10.0.0.1")),
            IpAddr::V4(_) => Some(ip("198.51.100.1")),
            IpAddr::V6(_) => None,
        }
    }

    fn found(entries: &[Entry]) -> Option<IpAddr> {
        towards_others(entries.iter().cloned(), local)
    }

    #[test]
    fn a_loopback_address_of_the_own_name_is_not_what_others_are_told() {
        let own = entry(true, &["127.0.1.1"]);
        assert_eq!(found(&[own.clone(), entry(true, &["10.0.0.2"])]), Some(ip("10.0.0.1")));
        assert_eq!(found(&[own.clone(), entry(false, &["10.0.0.2"])]), Some(ip("10.0.0.1")));
        assert_eq!(found(&[entry(true, &["::1", "127.0.0.1", "10.0.0.2"])]), Some(ip("10.0.0.1")));
        assert_eq!(found(&[entry(true, &["10.0.0.2"]), own.clone()]), Some(ip("10.0.0.1")));
        // The others are not known to the DNS yet.
        assert_eq!(found(&[own.clone(), entry(true, &[])]), Some(ip("198.51.100.1")));
        assert_eq!(found(std::slice::from_ref(&own)), Some(ip("198.51.100.1")));
        let cut_off = |to: SocketAddr| to.ip().is_loopback().then_some(LOOPBACK);
        assert_eq!(towards_others([own].into_iter(), cut_off), Some(LOOPBACK), "there is no other way");
    }

    #[test]
    fn a_cluster_on_loopback_stays_there() {
        let entries = [entry(false, &["127.0.0.1"]), entry(false, &["127.0.0.1"])];
        assert_eq!(found(&entries), Some(LOOPBACK));
        assert!(!["127.0.0.1:7420", "[::1]:7420", "localhost:7420"].into_iter().any(is_named));
        assert!(is_named("import-01:7420"));
    }

    #[test]
    fn whom_others_are_to_join_tells_them_the_address_towards_whoever_is_far() {
        assert_eq!(found(&[]), Some(ip("198.51.100.1")));
        let cut_off = |to: SocketAddr| to.ip().is_loopback().then_some(LOOPBACK);
        assert_eq!(towards_others(std::iter::empty(), cut_off), None);
    }

    #[test]
    fn who_listens_on_loopback_says_so_and_who_is_cut_off_is_known() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "[node]\nname = \"a\"\n").expect("the test's own file");
        let config = |flags: &[&str]| {
            let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
            Config::load(Some(&file), [], &flags).expect("a good config")
        };
        let (everywhere, here) = (SocketAddr::new(ip("0.0.0.0"), 7420), SocketAddr::new(LOOPBACK, 7420));
        let plain = config(&[]);
        assert_eq!(advertised(&plain, here), "127.0.0.1:7420");
        assert!(!is_cut_off(&plain, here, "127.0.0.1:7420"), "nobody is to come");
        assert!(is_cut_off(&plain, everywhere, "127.0.0.1:7420"));
        assert!(!is_cut_off(&plain, everywhere, "198.51.100.1:7420"));
        let named = config(&["listen.advertise=127.0.0.1:7420"]);
        assert_eq!(advertised(&named, everywhere), "127.0.0.1:7420");
        assert!(!is_cut_off(&named, everywhere, "127.0.0.1:7420"), "it is meant");
        let joins = config(&["cluster.join=127.0.0.1:7421"]);
        assert_eq!(advertised(&joins, everywhere), "127.0.0.1:7420");
        assert!(!is_cut_off(&joins, everywhere, "127.0.0.1:7420"));
    }

    #[test]
    fn the_kernel_says_which_address_is_used() {
        let listening = |text: &str| SocketAddr::new(ip(text), 7420);
        let local = local_address_towards(listening("127.0.0.1"), listening("0.0.0.0"));
        assert_eq!(local, Some(LOOPBACK));
        assert_eq!(
            local_address_towards(listening("::1"), listening("0.0.0.0")),
            None,
            "nobody listens there"
        );
    }

    #[test]
    fn others_are_led_astray_by_loopback_alone_and_only_if_there_are_others() {
        let join = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        let (here, there) = (join(&["127.0.0.1:1", "[::1]:2"]), join(&["127.0.0.1:1", "192.0.2.1:1"]));
        assert!(leads_astray(&there, "127.0.0.1:7420") && leads_astray(&there, "[::1]:7420"));
        assert!(!leads_astray(&there, "192.0.2.2:7420"));
        assert!(!leads_astray(&here, "127.0.0.1:7420") && !leads_astray(&[], "127.0.0.1:7420"));
    }
}
