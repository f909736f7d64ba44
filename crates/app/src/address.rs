//! Where this node is reached.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::config::Config;

/// The address to give to others: as configured; else the listening address, if it is one; else the local address
/// that is used towards the first entry of the join list that can be resolved. Nothing is sent to find out.
pub(crate) fn advertised(config: &Config, listening: SocketAddr) -> String {
    if let Some(address) = &config.advertise {
        return with_port(address, listening.port());
    }
    if !listening.ip().is_unspecified() {
        return listening.to_string();
    }
    let towards = config.join.iter().find_map(|entry| local_address_towards(entry));
    let ip = towards.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    SocketAddr::new(ip, listening.port()).to_string()
}

/// `host:0` stands for the port that is listened on.
fn with_port(address: &str, port: u16) -> String {
    match address.strip_suffix(":0") {
        Some(host) => format!("{host}:{port}"),
        None => address.to_owned(),
    }
}

fn local_address_towards(entry: &str) -> Option<IpAddr> {
    // Connecting a UDP socket only asks the kernel for a route.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(entry).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn towards_a_loopback_entry_the_local_address_is_loopback() {
        assert_eq!(local_address_towards("127.0.0.1:7420"), Some(IpAddr::from([127, 0, 0, 1])));
    }
}
