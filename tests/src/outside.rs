//! Somebody on another machine who asks a node's dashboard, as far as an agent can tell.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use sheaf_wire::outward::{Outward, Wire};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(20);

/// An address of this machine that is not loopback: whoever comes by it comes from elsewhere, for all that can be seen. None: there
/// is none.
pub fn address() -> Option<Ipv4Addr> {
    addresses(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default()).find(|it| !it.is_loopback())
}

/// The machine's own addresses, by the kernel's table.
fn addresses(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut last = None;
    table.lines().filter_map(move |line| match line.trim().strip_prefix("|-- ") {
        Some(address) => {
            last = address.parse().ok();
            None
        }
        None => last.filter(|_| line.trim() == "/32 host LOCAL"),
    })
}

/// By which name a server is asked, and whom the asker believes, in PEM.
#[derive(Clone, Copy, Debug)]
pub struct Believing<'a> {
    /// The name or the address.
    pub name: &'a str,
    /// Certificates of authorities.
    pub authorities: &'a str,
}

/// Head and body of what is answered to a request; without TLS if nobody is believed. The connection must be closed with the answer.
///
/// # Errors
/// Nobody is there, or it is not whom it is asked for.
pub fn ask(at: &str, believing: Option<Believing<'_>>, request: &str) -> Result<(String, String), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a thread's runtime can be made");
    let asking = async {
        let stream = TcpStream::connect(at).await?;
        let mut stream: Box<dyn Wire> = match believing {
            None => Box::new(stream),
            Some(Believing { name, authorities }) => {
                let outward = Outward::trusting(authorities).map_err(std::io::Error::other)?;
                outward.secure(name, stream).await?
            }
        };
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let asked = runtime.block_on(async { tokio::time::timeout(WITHIN, asking).await });
    let answer =
        asked.map_err(|_| format!("no answer within {WITHIN:?}"))?.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no head in {answer:?}"))?;
    Ok((head.to_owned(), body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_machine_are_found() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 127.0.0.1\n        \
                     /32 host LOCAL\n     |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n";
        let found: Vec<String> = addresses(table).map(|it| it.to_string()).collect();
        assert_eq!(found, ["127.0.0.1", "10.0.0.7"]);
    }
}
