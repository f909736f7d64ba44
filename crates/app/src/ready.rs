//! `sheaf agent ready`: does the agent of this machine reach a leader? For health checks and scripts: it needs no token.

use std::io::{Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::Config;
use crate::data;

/// How long one question may take: the agent itself gives up after two seconds.
const WITHIN: Duration = Duration::from_secs(4);
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(250);
/// No answer is longer.
const ANSWER_MAX: u64 = 64 << 10;

/// Asks until the agent is ready or `timeout` is over, at least once; whether it is.
///
/// # Errors
/// It serves no HTTP, or what it said cannot be printed.
pub(crate) fn run(config: &Config, timeout: Duration, out: &mut impl Write) -> anyhow::Result<bool> {
    let Some(http) = &config.http else {
        anyhow::bail!(
            "this agent answers no such question: [listen] http is \"\"; 127.0.0.1:7421, say, lets it"
        );
    };
    let begun = Instant::now();
    loop {
        let (ready, why) = match ask(http) {
            Ok(answer) => answer,
            Err(error) => (false, format!("no answer from {http}: {error}; is the agent running?")),
        };
        if ready || begun.elapsed() >= timeout {
            writeln!(out, "{why}")?;
            return Ok(ready);
        }
        data::pause(PAUSE);
    }
}

/// Whether it is ready, and what to say of it.
fn ask(http: &str) -> std::io::Result<(bool, String)> {
    let address = http.to_socket_addrs()?.next().map(reached);
    let address = address.ok_or_else(|| std::io::Error::other("it has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, WITHIN)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(understood(&answer))
}

/// From this machine, what listens everywhere is reached on loopback.
fn reached(mut listening: SocketAddr) -> SocketAddr {
    if listening.ip().is_unspecified() {
        listening.set_ip(IpAddr::from(Ipv4Addr::LOCALHOST));
    }
    listening
}

fn understood(answer: &str) -> (bool, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let Ok(Value::Object(said)) = serde_json::from_str::<Value>(body) else {
        return (false, "what listens there is no agent of Sheaf".to_owned());
    };
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let node = text("node");
    if status == "200" && said.get("ready") == Some(&Value::Bool(true)) {
        return (true, format!("{node} is ready; {} leads", text("leader")));
    }
    (false, format!("{node} is not ready: {}", text("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_agent_is_ready() {
        let ready = "HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"ready\":true,\"node\":\"a\",\"leader\":\"b\",\"message\":\"\"}";
        assert_eq!(understood(ready), (true, "a is ready; b leads".to_owned()));
        let waits = ready.replace("200 OK", "503 Service Unavailable").replace("true", "false");
        let (is, why) = understood(&waits.replace("\"message\":\"\"", "\"message\":\"2 of 3 seen\""));
        assert!(!is && why == "a is not ready: 2 of 3 seen");
        for other in ["", "HTTP/1.1 200 OK\r\n\r\nok\n", "SSH-2.0", "HTTP/1.1 200 OK\r\n\r\n[]"] {
            assert!(!understood(other).0, "{other:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        let everywhere: SocketAddr = "0.0.0.0:7421".parse().expect("an address");
        assert_eq!(reached(everywhere).to_string(), "127.0.0.1:7421");
    }
}
