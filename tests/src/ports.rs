//! Ports that stay ours.

use std::fs;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// So many TCP ports of loopback that nobody listens on, each given out once by this process.
///
/// They lie below the range out of which the system takes ports for outgoing connections: a port out of that range
/// may be taken by such a connection while its agent is down, and could then not be listened on again.
///
/// # Panics
/// If there are not so many.
pub fn free(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = range();
    let begin = u16::try_from(std::process::id() % u32::from(range.end - range.start)).unwrap_or(0);
    let mut ports = Vec::new();
    for _ in range.clone() {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (u32::from(begin) + u32::from(step)) % u32::from(range.end - range.start);
        let port = range.start + u16::try_from(offset).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            ports.push(port);
        }
        if ports.len() == count {
            return ports;
        }
    }
    panic!("found {} of {count} free ports in {range:?}", ports.len());
}

/// From the last well-known server's ports up to the first of outgoing connections.
fn range() -> Range<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let low = text.split_whitespace().next().and_then(|low| low.parse().ok()).unwrap_or(32_768);
    if low > 12_000 { 10_000..low } else { 61_000..65_000 }
}
