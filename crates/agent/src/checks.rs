//! Gate 3: the eight checks, made on this machine, and what plugins say themselves, each within its time limit.
//!
//! A check that fails says precisely what is not so. What could not be found out (an error, a time-out, a crash) is
//! unclear, which is not the same: see [`sheaf_engine::gates`]. Whatever a check does, the agent is unharmed.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sheaf_engine::gates::{CheckAnswer, Here};
use sheaf_engine::node::question::Question;
use sheaf_model::rule::glob_matches;
use sheaf_model::{BucketScope, Bytes, Check, CheckKind, RenderError, Scope, Span, Template, clipped};

use crate::facts;

mod command;
mod looks;
mod plugins;

use looks::Looks;
pub(crate) use plugins::{Plugins, ended};

/// How long a check may take that says nothing of it.
pub(crate) const DEFAULT_TIMEOUT: Span = Span::seconds(5);
/// Bytes of a command, or of a value, in a reason: what is said of it is not to be what is left out.
const QUOTED: usize = 300;

/// What checks look at beside the machine.
#[derive(Clone, Debug)]
pub struct Checks {
    /// Where instances are kept.
    pub data_dir: PathBuf,
    /// `${sheaf}`.
    pub binary: String,
    /// Who asks plugins.
    pub(crate) plugins: Plugins,
    /// Who looks at files.
    looks: Looks,
}

impl Checks {
    pub(crate) fn new(data_dir: PathBuf, binary: String, plugins: Plugins) -> Self {
        Self { data_dir, binary, plugins, looks: Looks::default() }
    }

    /// Makes all checks of a question, side by side; one answer each, in their order, and a plugin's after them.
    pub async fn answer(&self, question: &Question) -> Vec<CheckAnswer> {
        let config = question.bucket.as_ref().map(|(spec, _)| spec.config.value());
        let bucket = question.bucket.as_ref().zip(config.as_ref()).map(|((spec, revision), config)| {
            BucketScope { name: spec.name.as_str(), revision: *revision, config }
        });
        let scope = Scope {
            bucket,
            node_name: &question.here.name,
            node_hostname: &question.here.hostname,
            node_labels: &question.here.labels,
            dir: None,
            files: None,
            sheaf: &self.binary,
            artifact: question.artifact.as_deref(),
            subtask: None,
        };
        let user = question.user.as_deref();
        let checks = question.checks.iter().map(|check| self.check(check, &scope, &question.here, user));
        let asked = async {
            match &question.plugin {
                Some(module) => Some(self.plugins.ask(module, question).await),
                None => None,
            }
        };
        let (mut answers, asked) = tokio::join!(futures::future::join_all(checks), asked);
        answers.extend(asked);
        answers
    }

    async fn check(
        &self,
        check: &Check,
        scope: &Scope<'_>,
        here: &Arc<Here>,
        user: Option<&str>,
    ) -> CheckAnswer {
        let limit = check.timeout.unwrap_or(DEFAULT_TIMEOUT);
        let rendered: Result<Vec<String>, RenderError> =
            check.kind.templates().into_iter().map(|template: &Template| template.render(scope)).collect();
        let texts = match rendered {
            Ok(texts) => texts,
            Err(error) => return CheckAnswer::Fails(format!("{}: {error}", check.kind.as_str())),
        };
        let first = texts.first().cloned().unwrap_or_default();
        match &check.kind {
            CheckKind::Command(_) => command::run(&texts, limit, user).await,
            CheckKind::Label(_) => label(&first, &here.labels),
            CheckKind::Env(_) => env(&first),
            CheckKind::File(_) => self.looks.at(&first.clone(), limit, move || file(Path::new(&first))).await,
            CheckKind::Dir(_) => {
                // With a slash it is another look than that for a file.
                let place = format!("{}/", first.trim_end_matches('/'));
                self.looks.at(&place, limit, move || dir(Path::new(&first))).await
            }
            CheckKind::PortFree(_) => port_free(&first),
            CheckKind::MemoryAvailable(wanted) => match facts::memory() {
                Ok(memory) => amount("memory_available", memory.available, *wanted),
                Err(error) => CheckAnswer::Unclear(format!("memory_available: {error}")),
            },
            CheckKind::DiskAvailable(wanted) => {
                let (wanted, data_dir) = (*wanted, self.data_dir.clone());
                let look = move || disk_available(&data_dir, wanted);
                self.looks.at(&format!("disk_available {wanted}"), limit, look).await
            }
        }
    }
}

fn file(path: &Path) -> CheckAnswer {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => CheckAnswer::Fails(format!("{} is a directory", path.display())),
        Ok(_) => CheckAnswer::Holds,
        Err(error) => absent(path, &error),
    }
}

fn dir(path: &Path) -> CheckAnswer {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => CheckAnswer::Holds,
        Ok(_) => CheckAnswer::Fails(format!("{} is not a directory", path.display())),
        Err(error) => absent(path, &error),
    }
}

fn absent(path: &Path, error: &std::io::Error) -> CheckAnswer {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            CheckAnswer::Fails(format!("{} does not exist", path.display()))
        }
        ErrorKind::PermissionDenied => {
            CheckAnswer::Fails(format!("{} cannot be seen: permission denied", path.display()))
        }
        _ => CheckAnswer::Unclear(format!("{}: {error}", path.display())),
    }
}

fn env(text: &str) -> CheckAnswer {
    let (name, wanted) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    match (std::env::var_os(name), wanted) {
        (None, _) => CheckAnswer::Fails(format!("environment variable {name} is not set")),
        (Some(value), Some(wanted)) if value != wanted => {
            let value = value.to_string_lossy();
            let value = clipped(&value, QUOTED);
            CheckAnswer::Fails(format!("environment variable {name} is {value:?}, not {wanted:?}"))
        }
        (Some(_), _) => CheckAnswer::Holds,
    }
}

fn label(glob: &str, labels: &[String]) -> CheckAnswer {
    if labels.iter().any(|label| glob_matches(glob, label)) {
        return CheckAnswer::Holds;
    }
    let has = if labels.is_empty() { "it has none".to_owned() } else { labels.join(", ") };
    CheckAnswer::Fails(format!("no label of this node matches {glob:?} ({has})"))
}

/// Whether nothing listens: the port can be taken on all addresses of this machine. It is let go at once.
fn port_free(text: &str) -> CheckAnswer {
    let Ok(port) = text.trim().parse::<u16>() else {
        return CheckAnswer::Fails(format!("port_free: {text:?} is no port"));
    };
    // One after the other: whoever listens on all addresses of IPv6 mostly has those of IPv4, too.
    let all = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let not_taken = |ip: IpAddr| not_taken(ip, port, &TcpListener::bind((ip, port)).err()?);
    all.into_iter().find_map(not_taken).unwrap_or(CheckAnswer::Holds)
}

/// What it means that a port was not taken; none: nothing, since the machine has no such addresses, or nobody has it.
fn not_taken(on: IpAddr, port: u16, error: &std::io::Error) -> Option<CheckAnswer> {
    let unsupported = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    let in_use = || CheckAnswer::Fails(format!("port {port} is in use"));
    match error.kind() {
        ErrorKind::AddrInUse => Some(in_use()),
        // This agent may not have it; a program with a privilege of its own may. The kernel says whether another has it.
        ErrorKind::PermissionDenied => match listeners(on) {
            Ok(table) => is_listened(&table, port).then(in_use),
            Err(error) => {
                Some(CheckAnswer::Unclear(format!("port {port}: who listens is not known: {error}")))
            }
        },
        ErrorKind::AddrNotAvailable if on.is_ipv6() => None,
        _ if on.is_ipv6() && unsupported => None,
        _ => Some(CheckAnswer::Unclear(format!("port {port}: {error}"))),
    }
}

/// The kernel's table of sockets for addresses of this kind.
fn listeners(on: IpAddr) -> std::io::Result<String> {
    let table = if on.is_ipv4() { "/proc/self/net/tcp" } else { "/proc/self/net/tcp6" };
    std::fs::read_to_string(table)
        .map_err(|error| std::io::Error::new(error.kind(), format!("{table}: {error}")))
}

/// Whether in such a table some socket listens at this port: its second column is `ADDRESS:PORT` in hex, its fourth `0A`.
fn is_listened(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, state) = (columns.next(), columns.nth(1));
        let at =
            local.and_then(|local| local.rsplit(':').next()).and_then(|at| u16::from_str_radix(at, 16).ok());
        state == Some("0A") && at == Some(port)
    })
}

fn disk_available(data_dir: &Path, wanted: Bytes) -> CheckAnswer {
    match facts::disk_available(data_dir) {
        Ok(available) => amount("disk_available", available, wanted),
        Err(error) => CheckAnswer::Unclear(format!("disk_available: {}: {error}", data_dir.display())),
    }
}

fn amount(what: &str, available: Bytes, wanted: Bytes) -> CheckAnswer {
    if available >= wanted {
        return CheckAnswer::Holds;
    }
    let whole = Bytes(available.0 >> 20 << 20); // MiB: a reason that changes with every byte is no reason
    CheckAnswer::Fails(format!("{what}: {wanted} wanted, {whole} available"))
}

/// For time limits of what a check starts.
fn remaining(limit: Span, since: std::time::Instant) -> Duration {
    limit.duration().saturating_sub(since.elapsed())
}

#[cfg(test)]
mod tests;
