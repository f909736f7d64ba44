//! One question to chromedriver at a time, each on a connection of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

/// The driver waits for pages itself; longer than that it has hung.
const LONGEST: Duration = Duration::from_secs(60);

/// A driver, and the window that questions are about.
#[derive(Debug)]
pub(super) struct Wire {
    port: u16,
    session: String,
}

impl Wire {
    /// The driver that listens on a port of loopback.
    pub(super) fn to(port: u16) -> Self {
        Self { port, session: String::new() }
    }

    /// From now on [`Self::within`] asks about this window.
    pub(super) fn enter(&mut self, session: &str) {
        self.session = format!("/session/{session}");
    }

    /// Asks about the window.
    pub(super) fn within(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        if self.session.is_empty() {
            return Err("no window was opened".to_owned());
        }
        self.ask(method, &format!("{}{path}", self.session), body)
    }

    /// Asks; what is answered, or what is wrong.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let (status, text) = self.exchange(method, path, body).map_err(|error| error.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        let value = answer["value"].take();
        if status == 200 {
            return Ok(value);
        }
        let said = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        Err(format!("{}: {}", said("error"), said("message")))
    }

    /// The status and the body of an answer.
    fn exchange(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, String)> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(LONGEST))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        (&stream).write_all(head.as_bytes())?;
        (&stream).write_all(body.as_bytes())?;
        let mut reader = BufReader::new(&stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }
}
