//! Sinks: where history is delivered to, event by event, as it is made.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Event, SecretName, SinkName, Span, glob_matches};

/// Sinks of a cluster: the leader delivers to each of them on its own.
pub const SINKS_MAX: usize = 100;
/// Most events of one delivery.
pub const SINK_BATCH_MAX: u32 = 1_000;

/// What a person asks a sink to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkSpec {
    /// Its name.
    pub name: SinkName,
    /// What is done with the events.
    pub target: SinkTarget,
    /// Which events.
    pub filter: SinkFilter,
    /// Nothing is delivered until it is switched on again; then it goes on where it stopped.
    pub suspended: bool,
    /// Free labels for people to select by.
    pub labels: BTreeMap<String, String>,
    /// Who answers for it.
    pub owner: Option<String>,
}

/// What is done with events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SinkTarget {
    /// They are posted to a server.
    Webhook(Webhook),
    /// They are sent by mail, many in one.
    Mail(Mail),
    /// A program is given them.
    Exec(SinkExec),
}

impl SinkTarget {
    /// The word in documents and answers.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Mail(_) => "mail",
            Self::Exec(_) => "exec",
        }
    }

    /// Where events go, for people; of what is secret, only its name.
    pub fn place(&self) -> String {
        match self {
            Self::Webhook(webhook) => webhook.url.to_string(),
            Self::Mail(mail) => format!("{} by {}", mail.to.join(", "), mail.server),
            Self::Exec(exec) => exec.command.clone(),
        }
    }

    /// How long one delivery may take.
    pub const fn timeout(&self) -> Span {
        match self {
            Self::Webhook(Webhook { timeout, .. })
            | Self::Mail(Mail { timeout, .. })
            | Self::Exec(SinkExec { timeout, .. }) => *timeout,
        }
    }
}

/// See [`SinkTarget::Webhook`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where to.
    pub url: Confided,
    /// What the body is signed with; none: it is not signed.
    pub secret: Option<SecretName>,
    /// How long until an answer.
    pub timeout: Span,
    /// No more events than that in one request, 1 to [`SINK_BATCH_MAX`].
    pub batch: u32,
    /// Certificates in PEM that the server's must come from; none: those that the delivering node's system knows.
    pub ca: Option<String>,
}

/// A text that may be a secret, as many a webhook's URL is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confided {
    /// Everybody may know it.
    Plain(String),
    /// It is kept as this secret.
    Secret(SecretName),
}

/// As a document writes it: of a secret only the name.
impl fmt::Display for Confided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Secret(name) => write!(f, "${{secret.{name}}}"),
        }
    }
}

/// See [`SinkTarget::Mail`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// `host:port` of a server that takes mail by SMTP.
    pub server: String,
    /// How the way there is secured.
    pub security: MailSecurity,
    /// Whom to log in as; none: nobody.
    pub user: Option<String>,
    /// With what.
    pub password: Option<SecretName>,
    /// Whom it is from.
    pub from: String,
    /// Whom it is for.
    pub to: Vec<String>,
    /// One mail for each job, and one for all else, in so much time at most.
    pub digest: Span,
    /// How long the server may take.
    pub timeout: Span,
    /// As in [`Webhook::ca`].
    pub ca: Option<String>,
}

/// How the way to a mail server is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MailSecurity {
    /// The connection begins plain and must become TLS before anything is said.
    #[default]
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Not at all.
    None,
}

impl MailSecurity {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::None => "none",
        }
    }
}

/// See [`SinkTarget::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkExec {
    /// The program, by its absolute path. It runs only on a node whose own configuration names it.
    pub command: String,
    /// What it is given.
    pub args: Vec<String>,
    /// How long it may run.
    pub timeout: Span,
    /// As in [`Webhook::batch`].
    pub batch: u32,
}

/// Which events a sink wants: of each field that names any, one must match. Globs: `*` is any run of characters, `?` any one,
/// and case is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkFilter {
    /// Kinds, like `job.*`; none: all.
    pub kinds: Vec<String>,
    /// Subjects, like `/team-a/*` or a job's name; none: all.
    pub subjects: Vec<String>,
    /// Names of nodes; none: all.
    pub nodes: Vec<String>,
}

/// The end of an attempt that failed for good, as an event.
pub const SUBTASK_FAILED: &str = "subtask.failed";
/// The end of an attempt that is tried again, as an event.
pub const SUBTASK_RETRIED: &str = "subtask.retried";

impl SinkFilter {
    /// Whether a sink wants an event.
    pub fn selects(&self, event: &Event) -> bool {
        any(&self.kinds, &event.kind) && any(&self.subjects, &event.subject) && any(&self.nodes, &event.node)
    }

    /// Whether it may want the ends of subtasks, which are told of only to who asks.
    pub fn wants_subtasks(&self) -> bool {
        any(&self.kinds, SUBTASK_FAILED) || any(&self.kinds, SUBTASK_RETRIED)
    }
}

fn any(globs: &[String], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob_matches(glob, text))
}

impl SinkSpec {
    /// Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretName> {
        let (first, second) = match &self.target {
            SinkTarget::Webhook(webhook) => {
                let url = match &webhook.url {
                    Confided::Secret(name) => Some(name),
                    Confided::Plain(_) => None,
                };
                (url, webhook.secret.as_ref())
            }
            SinkTarget::Mail(mail) => (mail.password.as_ref(), None),
            SinkTarget::Exec(_) => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// What is more to say of an event that is the end of a subtask's attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubtaskEnd {
    /// The job's number: names are given again.
    pub job_id: u64,
    /// Which subtask, from 0.
    pub subtask: u32,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// exit, lost, timeout or backend.
    pub class: String,
    /// As a shell gives it: of a signal, 128 more.
    pub exit_code: Option<i32>,
    /// Of the message: alike failures have the same.
    pub fingerprint: String,
}

/// One thing to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deliverable {
    /// What happened.
    pub event: Event,
    /// Of `subtask.…`: which.
    pub end: Option<SubtaskEnd>,
}

impl Deliverable {
    /// The same for the same event whoever delivers it and however often, and no other event's.
    pub fn id(&self) -> String {
        let Event { revision, n, .. } = self.event;
        match &self.end {
            None => format!("{revision}.{n}"),
            Some(end) => format!("{revision}.job{}.{}.{}", end.job_id, end.subtask, end.attempt),
        }
    }
}

/// Where a webhook posts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// By TLS.
    pub tls: bool,
    /// A name or an address; one of version 6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// With the query, beginning with `/`.
    pub path: String,
}

/// Longest URL in bytes.
const URL_MAX: usize = 2_000;

impl HttpUrl {
    /// Reads `https://host[:port][/path]`. The error says what is wrong and nothing of the text, which may be a secret.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_MAX {
            return Err("it is longer than 2000 bytes");
        }
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(if c.is_ascii() {
                "it has a space or a control character in it"
            } else {
                "it has a character in it that must be written as %XX"
            });
        }
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err("it does not begin with https:// or http://"),
        };
        if rest.contains('#') {
            return Err("it has a # in it, and what follows that is never sent");
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("it has a user's name in it, which would stand in plain");
        }
        let (host, port) = host_and_port(authority, if tls { 443 } else { 80 })
            .ok_or("it names no host, or no port from 1 to 65535")?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { tls, host, port, path })
    }

    /// As the header `Host` has it.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

/// Reads `host`, `host:port`, `[address]` or `[address]:port`; without a port it is `default`, and if that is 0, nothing.
pub fn host_and_port(text: &str, default: u16) -> Option<(String, u16)> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(bracketed) => {
            let (host, rest) = bracketed?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let named = text.starts_with('[') || (!host.is_empty() && host.len() <= 253 && host.chars().all(plain));
    let port = match port {
        // Digits alone: a sign would be read, too.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok()?,
        Some(_) => return None,
        None => default,
    };
    (named && port > 0).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Revision, Timestamp};

    fn event(kind: &str, subject: &str, node: &str) -> Event {
        Event {
            revision: Revision(7),
            n: 2,
            step: None,
            at: Timestamp(1),
            kind: kind.to_owned(),
            subject: subject.to_owned(),
            actor: "cli".to_owned(),
            node: node.to_owned(),
            before: String::new(),
            after: String::new(),
            message: String::new(),
        }
    }

    #[test]
    fn a_filter_selects_by_globs_of_each_field() {
        let globs = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let all = SinkFilter::default();
        assert!(all.selects(&event("job.failed", "x", "")) && all.wants_subtasks());
        let jobs = SinkFilter { kinds: globs(&["job.*"]), subjects: globs(&["ndvi-*", "x"]), ..all };
        assert!(jobs.selects(&event("job.failed", "ndvi-2024", "n1")));
        assert!(
            !jobs.selects(&event("bucket.bound", "x", "n1")) && !jobs.selects(&event("job.failed", "y", ""))
        );
        assert!(!jobs.wants_subtasks());
        let nodes = SinkFilter { nodes: globs(&["import-*"]), ..SinkFilter::default() };
        assert!(nodes.selects(&event("node.lost", "import-1", "import-1")));
        assert!(!nodes.selects(&event("cluster.formed", "c", "")), "of no node");
    }

    #[test]
    fn an_event_has_one_name_however_often_it_is_delivered() {
        let plain = Deliverable { event: event("job.failed", "x", ""), end: None };
        assert_eq!(plain.id(), "7.2");
        let end = SubtaskEnd {
            job_id: 5,
            subtask: 9,
            attempt: 3,
            class: "exit".to_owned(),
            exit_code: Some(1),
            fingerprint: String::new(),
        };
        assert_eq!(Deliverable { end: Some(end), ..plain }.id(), "7.job5.9.3");
    }

    #[test]
    fn urls_are_read_and_what_is_none_is_not_repeated() {
        let url = HttpUrl::parse("https://hooks.example.org/a?b=c").expect("a URL");
        assert_eq!(
            (url.tls, url.host.as_str(), url.port, url.path.as_str()),
            (true, "hooks.example.org", 443, "/a?b=c")
        );
        assert_eq!(url.authority(), "hooks.example.org");
        let url = HttpUrl::parse("http://[::1]:8080").expect("a URL");
        assert_eq!(
            (url.host.as_str(), url.path.as_str(), url.authority().as_str()),
            ("::1", "/", "[::1]:8080")
        );
        assert_eq!(HttpUrl::parse("http://h?x").expect("a URL").path, "/?x");
        let bad = [
            "ftp://x/",
            "https://",
            "https://:1/",
            "https://h:0/",
            "https://h:99999/",
            "https://h:+80/",
            "https://u:hunter2@h/",
            "https://h/a b",
            "https://h/\r\nX: y",
            "https://h/ä",
            "https://h/#x",
            "https://[::1/",
            "https://h:1:2/",
            "https://h\u{0}/",
        ];
        for text in bad {
            let problem = HttpUrl::parse(text).expect_err(text);
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        assert!(HttpUrl::parse(&format!("https://h/{}", "a".repeat(URL_MAX))).is_err());
        assert_eq!(host_and_port("mail:25", 0), Some(("mail".to_owned(), 25)));
        assert_eq!(host_and_port("mail", 0), None);
    }
}
