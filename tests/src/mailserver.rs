//! A mail server that is not ours, in a process of its own, which is killed and started again. It keeps what it took.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::postbox::Letter;
use crate::{Machine, ports, wait_for};

/// How long a Python may take to listen, on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// aiosmtpd; down at first, and killed when it is dropped.
#[derive(Debug)]
pub struct MailServer {
    python: PathBuf,
    port: u16,
    kept: PathBuf,
    running: Option<Child>,
}

impl MailServer {
    /// On a port of its own on loopback, by that Python.
    pub fn planned(machine: &Machine, python: PathBuf) -> Self {
        Self { python, port: ports::free(1)[0], kept: machine.path("mails.jsonl"), running: None }
    }

    /// `host:port`
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    pub fn come_up(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/mailserver.py");
        let mut command = Command::new(&self.python);
        // It writes nothing into the tree.
        command.arg("-B").arg(script).arg(self.port.to_string()).arg(&self.kept).stdin(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let child = self.running.insert(child);
        wait_for("the mail server listens", STARTS_WITHIN, || {
            let ended = child.try_wait().map_err(|error| error.to_string())?;
            assert!(ended.is_none(), "the mail server has ended: {ended:?}");
            TcpStream::connect(("127.0.0.1", self.port)).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Kills it.
    pub fn go_down(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill(); // one that has ended is not there to be killed
            let _ = child.wait();
        }
    }

    /// Every mail that it took, in order.
    ///
    /// # Panics
    /// If its file holds something else.
    pub fn letters(&self) -> Vec<Letter> {
        let text = fs::read_to_string(&self.kept).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(letter).collect()
    }
}

fn letter(line: &str) -> Letter {
    let mail: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Letter {
        from: text(&mail["from"]).unwrap_or_default(),
        to: mail["to"].as_array().into_iter().flatten().filter_map(text).collect(),
        data: text(&mail["data"]).unwrap_or_default(),
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.go_down();
    }
}
