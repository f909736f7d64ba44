//! `sheaf agent ready`: does the agent of this machine reach a leader? For health checks and scripts: it needs no token.

use std::io::{Read as _, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use sheaf_console::Format;
use sheaf_model::document;

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
pub(crate) fn run(
    config: &Config,
    timeout: Duration,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let Some(http) = &config.http else {
        anyhow::bail!(
            "this agent answers no such question: [listen] http is \"\"; 127.0.0.1:7421, say, lets it"
        );
    };
    let begun = Instant::now();
    loop {
        let said = ask(http).unwrap_or_else(|error| {
            Said::no(format!("no answer from {http}: {error}; is the agent running?"))
        });
        if said.ready || begun.elapsed() >= timeout {
            match format {
                Format::Table | Format::Wide => writeln!(out, "{}", said.text())?,
                Format::Json => writeln!(out, "{:#}", json!(said))?,
                Format::Yaml => write!(out, "{}", document::yaml(&json!(said)))?,
                Format::Name => writeln!(out, "{}", said.node.as_deref().unwrap_or_default())?,
            }
            return Ok(said.ready);
        }
        data::pause(PAUSE);
    }
}

/// What an agent says of itself, or what there is to say where none does.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Said {
    ready: bool,
    /// None: it did not say so.
    node: Option<String>,
    leader: Option<String>,
    message: String,
}

impl Said {
    const fn no(message: String) -> Self {
        Self { ready: false, node: None, leader: None, message }
    }

    /// In a sentence.
    fn text(&self) -> String {
        let leader = self.leader.as_deref().unwrap_or_default();
        match &self.node {
            Some(node) if self.ready => format!("{node} is ready; {leader} leads"),
            Some(node) => format!("{node} is not ready: {}", self.message),
            None => self.message.clone(),
        }
    }
}

fn ask(http: &str) -> std::io::Result<Said> {
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

fn understood(answer: &str) -> Said {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    let Ok(Value::Object(said)) = serde_json::from_str::<Value>(body) else {
        return Said::no("what listens there is no agent of Sheaf".to_owned());
    };
    let text = |key: &str| said.get(key).and_then(Value::as_str).map(str::to_owned);
    Said {
        ready: status == "200" && said.get("ready") == Some(&Value::Bool(true)),
        node: Some(text("node").unwrap_or_default()),
        leader: text("leader").filter(|leader| !leader.is_empty()),
        message: text("message").unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_agent_is_ready() {
        let ready = "HTTP/1.1 200 OK\r\na: b\r\n\r\n{\"ready\":true,\"node\":\"a\",\"leader\":\"b\",\"message\":\"\"}";
        let said = understood(ready);
        assert_eq!((said.ready, said.text().as_str()), (true, "a is ready; b leads"));
        assert_eq!(json!(said), json!({"ready": true, "node": "a", "leader": "b", "message": ""}));
        let waits = ready.replace("200 OK", "503 Service Unavailable").replace("true", "false");
        let said = understood(&waits.replace("\"message\":\"\"", "\"message\":\"2 of 3 seen\""));
        assert!(!said.ready && said.text() == "a is not ready: 2 of 3 seen");
        for other in ["", "HTTP/1.1 200 OK\r\n\r\nok\n", "SSH-2.0", "HTTP/1.1 200 OK\r\n\r\n[]"] {
            assert!(!understood(other).ready, "{other:?}");
        }
    }

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        let everywhere: SocketAddr = "0.0.0.0:7421".parse().expect("an address");
        assert_eq!(reached(everywhere).to_string(), "127.0.0.1:7421");
    }
}
