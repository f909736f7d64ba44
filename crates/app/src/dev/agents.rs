//! The agents, each a child process.

use std::fs::{self, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use futures::future::{join_all, select_all};
use rustix::process::{Pid, Signal, kill_process};
use sheaf_model::LeaseSettings;
use tokio::process::{Child, Command};

use super::layout::Node;

/// How long agents may take to end in their own way: a little more than the examples' subtasks have to end.
const GRACE: Duration = Duration::from_secs(12);
/// Lines of a log that are shown when an agent failed.
const LINES: usize = 8;

/// Those that run. When this is dropped they are killed.
pub(super) struct Agents {
    binary: PathBuf,
    running: Vec<Agent>,
}

struct Agent {
    node: Node,
    pid: u32,
    child: Child,
}

/// An agent that has ended.
pub(super) struct Ended {
    node: Node,
    pid: u32,
    status: Option<ExitStatus>,
}

impl Agents {
    pub(super) const fn new(binary: PathBuf) -> Self {
        Self { binary, running: Vec::new() }
    }

    /// Starts the agent of a node, in a process group of its own: what the terminal sends is for us.
    pub(super) fn start(&mut self, node: &Node) -> anyhow::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(node.log());
        let log = log.with_context(|| format!("open {}", node.log().display()))?;
        let mut command = Command::new(&self.binary);
        // What configures an agent of this shell must not configure ours.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("SHEAF_CONFIG")) {
                command.env_remove(name);
            }
        }
        // What they run is not to do without cores because we do.
        command.envs(sheaf_agent::handed_on()).env_remove(sheaf_agent::NOTIFY_SOCKET);
        command.arg("agent").arg("--with-parent").arg("--config").arg(node.config());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("start the agent of {}", node.name))?;
        let pid = child.id().with_context(|| format!("start the agent of {}", node.name))?;
        self.running.push(Agent { node: node.clone(), pid, child });
        Ok(())
    }

    /// Which runs as which process.
    pub(super) fn pids(&self) -> Vec<(String, u32)> {
        self.running.iter().map(|agent| (agent.node.name.clone(), agent.pid)).collect()
    }

    /// Waits until one of them ends; for ever if none runs. Dropping the future loses nothing.
    pub(super) async fn ended(&mut self) -> Ended {
        if self.running.is_empty() {
            return std::future::pending().await;
        }
        let waits = self.running.iter_mut().map(|agent| Box::pin(agent.child.wait()));
        let (status, index, _) = select_all(waits).await;
        let Agent { node, pid, .. } = self.running.remove(index);
        Ended { node, pid, status: status.ok() }
    }

    /// Asks all to end and waits until they have, or have had their time.
    pub(super) async fn stop(&mut self) {
        for agent in &self.running {
            // One that has ended just now cannot be asked any more.
            let _ = signal(agent.pid, Signal::TERM);
        }
        let all = async {
            while !self.running.is_empty() {
                self.ended().await;
            }
        };
        // What is left then is killed.
        let _ = tokio::time::timeout(GRACE, all).await;
    }

    /// Kills those that still run.
    pub(super) async fn kill(&mut self) {
        // An error says that it has ended already.
        join_all(self.running.iter_mut().map(|agent| agent.child.kill())).await;
        self.running.clear();
    }
}

/// Sends a signal to a process.
pub(super) fn signal(pid: u32, signal: Signal) -> rustix::io::Result<()> {
    match i32::try_from(pid).ok().and_then(Pid::from_raw) {
        Some(pid) => kill_process(pid, signal),
        None => Err(rustix::io::Errno::SRCH),
    }
}

impl Ended {
    /// In a sentence without its end.
    fn how(&self) -> String {
        let how = match self.status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => format!("ended with exit code {code}"),
            Some((None, Some(signal))) => format!("was ended by signal {signal}"),
            _ => "ended".to_owned(),
        };
        format!("{} (pid {}) {how}", self.node.name, self.pid)
    }

    /// The error of an agent that did not even come up.
    pub(super) fn before_ready(&self) -> anyhow::Error {
        anyhow::anyhow!("{} before the cluster was ready:\n{}", self.how(), self.last_lines())
    }

    /// What it means for what ran there.
    pub(super) fn told(&self, voters: &[String], running: &[(String, u32)]) -> String {
        let alive = voters.iter().filter(|voter| running.iter().any(|(name, _)| name == *voter)).count();
        let means = if alive > voters.len() / 2 {
            format!("its single-node buckets move within about {}", LeaseSettings::default().wait())
        } else {
            format!(
                "{alive} of {} voters are left, no majority: nothing moves until one is back",
                voters.len()
            )
        };
        let mut text = format!("{}; {means}\n", self.how());
        if self.status.is_none_or(|status| status.signal().is_none()) {
            text.push_str(&self.last_lines());
        }
        text
    }

    /// The end of its log.
    fn last_lines(&self) -> String {
        let text = fs::read(self.node.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let mut text = String::new();
        for line in last {
            text.push_str(&format!("  {line}\n"));
        }
        format!("{text}  ({})\n", self.node.log().display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: i32) -> Ended {
        let node = Node {
            name: "import-02".to_owned(),
            labels: Vec::new(),
            allow: Vec::new(),
            port: 1,
            dir: PathBuf::from("/nowhere"),
        };
        Ended { node, pid: 7, status: Some(ExitStatus::from_raw(status)) }
    }

    #[test]
    fn an_end_says_what_follows() {
        let voters = ["a", "b", "import-02"].map(str::to_owned);
        let left = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 1)).collect::<Vec<_>>();
        assert_eq!(
            ended(9).told(&voters, &left(&["a", "b"])),
            "import-02 (pid 7) was ended by signal 9; its single-node buckets move within about 4s\n"
        );
        assert_eq!(
            ended(9).told(&voters, &left(&["a", "c"])),
            "import-02 (pid 7) was ended by signal 9; 1 of 3 voters are left, no majority: nothing moves until one is \
             back\n"
        );
        let text = ended(1 << 8).told(&voters, &left(&["a", "b"]));
        assert!(text.starts_with("import-02 (pid 7) ended with exit code 1;"), "{text}");
        assert!(text.contains("/nowhere/agent.log"), "{text}");
    }
}
