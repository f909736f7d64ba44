//! `sheaf agent check`: is everything in place to start the agent here? Looks, changes nothing that stays.

use std::io::Write;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_seal::Key;

use crate::config::Config;

/// How long an entry of the join list may take to accept a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A disk that takes longer for one synced write is too slow for the default elections.
const SLOW_SYNC: Duration = Duration::from_millis(50);
/// Less free space than this deserves a warning.
const LITTLE_SPACE: u64 = 1 << 30;

/// What was found out about one thing.
enum Finding {
    /// In order, with what was seen.
    Fine(String),
    /// The agent would start, but.
    Warning(String),
    /// The agent would not start, or not work.
    Wrong(String),
}

/// Looks at everything and prints a line for each; whether the agent can start.
pub(crate) fn run(config: &Config, out: &mut impl Write) -> std::io::Result<bool> {
    let mut findings = vec![
        ("config", Finding::Fine(format!("node {} ({})", config.name, config.hostname))),
        ("data directory", data_dir(&config.dir)),
        ("grpc port", port(&config.grpc, "grpc")),
        ("clock", clock()),
    ];
    findings.extend(config.http.as_deref().map(|http| ("http port", port(http, "http"))));
    findings.extend(config.key_file.as_deref().map(|path| ("secrets", key(path))));
    findings.extend(config.join.iter().map(|entry| ("join", reachable(entry))));
    findings.extend(config.warnings().into_iter().map(|warning| ("config", Finding::Warning(warning))));
    let mut startable = true;
    for (what, finding) in findings {
        let (word, text) = match finding {
            Finding::Fine(text) => ("ok", text),
            Finding::Warning(text) => ("warning", text),
            Finding::Wrong(text) => {
                startable = false;
                ("wrong", text)
            }
        };
        writeln!(out, "{word:<8} {what:<15} {text}")?;
    }
    Ok(startable)
}

fn data_dir(dir: &Path) -> Finding {
    let shown = dir.display();
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    let Some(existing) = existing else { return Finding::Wrong(format!("{shown}: no such place")) };
    let probe = existing.join(format!(".sheaf-check-{}", std::process::id()));
    let begun = Instant::now();
    let written = std::fs::File::create(&probe).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let took = begun.elapsed();
    let removed = std::fs::remove_file(&probe);
    if let Err(error) = written.and(removed) {
        let remedy = "run as a user that may write there, or set another [storage] dir";
        return Finding::Wrong(format!("{shown}: cannot write: {error}; {remedy}"));
    }
    let space = rustix::fs::statvfs(existing).map_or(u64::MAX, |stat| stat.f_bavail * stat.f_frsize);
    let text = format!("{shown}: a synced write takes {took:.1?}, {} MiB free", space >> 20);
    if space < LITTLE_SPACE {
        return Finding::Warning(format!("{text}; little space"));
    }
    if took > SLOW_SYNC {
        return Finding::Warning(format!("{text}; slow disk: raise raft.election_min and raft.election_max"));
    }
    Finding::Fine(text)
}

fn port(address: &str, key: &str) -> Finding {
    match TcpListener::bind(address) {
        Ok(_) => Finding::Fine(format!("{address} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::Wrong(format!(
            "{address} is in use; is an agent running already? else set [listen] {key}"
        )),
        Err(error) => {
            Finding::Wrong(format!("{address}: {error}; set [listen] {key} to an address of this machine"))
        }
    }
}

fn key(path: &Path) -> Finding {
    match Key::read(path) {
        Ok(key) => Finding::Fine(format!("key {} in {}", key.id(), path.display())),
        Err(error) => Finding::Wrong(error.to_string()),
    }
}

fn clock() -> Finding {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    // Leases use the boot clock; wall time only dates history, so a wrong one is no obstacle.
    if now < Duration::from_secs(1_704_067_200) {
        return Finding::Warning(
            "the wall clock is before 2024; dates in the history will be wrong".to_owned(),
        );
    }
    Finding::Fine("plausible".to_owned())
}

fn reachable(entry: &str) -> Finding {
    let addresses = match entry.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => {
            return Finding::Wrong(format!(
                "{entry} cannot be resolved: {error}; correct [cluster] join or the DNS"
            ));
        }
    };
    for address in addresses {
        if TcpStream::connect_timeout(&address, CONNECT_WITHIN).is_ok() {
            return Finding::Fine(format!("{entry} accepts connections"));
        }
    }
    Finding::Warning(format!(
        "{entry} does not accept connections (yet); it may be this node, or not started"
    ))
}
