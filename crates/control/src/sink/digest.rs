//! Events as mails: one for each job, its failures grouped by what they have in common, and one for all else. What is kept is
//! bounded however much happened: counts are of all, lists of the first.

use std::collections::BTreeMap;

use sheaf_model::sink::SUBTASK_RETRIED;
use sheaf_model::{Deliverable, SinkName, Timestamp};

use super::body;

/// Jobs that get a mail of their own; all further ones share one.
const JOBS: usize = 20;
/// Kinds of failures told apart in a job.
const GROUPS: usize = 50;
/// Subtasks named in a group.
const SUBTASKS: usize = 10;
/// Lines of history in a mail.
const LINES: usize = 100;
/// Characters of a message.
const MESSAGE: usize = 300;

/// One mail, before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) sink: String,
    pub(super) cluster: String,
    /// In one line; any characters.
    pub(super) subject: String,
    /// Any text.
    pub(super) text: String,
    /// The same for the same mail, also when another leader sends it again. To one that has got more events until then it is
    /// another mail, which has another: who has had the first must not take it for that.
    pub(super) id: String,
}

/// What happened, folded.
#[derive(Debug, Default)]
pub(super) struct Digest {
    jobs: BTreeMap<String, Part>,
    /// Jobs beyond the first, and what is about no job.
    others: Part,
    events: u64,
}

/// What happened to one job, or to all else.
#[derive(Debug, Default)]
struct Part {
    failed: u64,
    retried: u64,
    /// By fingerprint.
    groups: BTreeMap<String, Group>,
    /// Failures of kinds beyond those told apart.
    ungrouped: u64,
    lines: Vec<String>,
    unlisted: u64,
    /// The kind of the last line of history.
    last_kind: String,
    /// Which events these are: the first and the last, and when they happened.
    span: Option<[(String, Timestamp); 2]>,
}

#[derive(Debug)]
struct Group {
    count: u64,
    class: String,
    message: String,
    subtasks: Vec<u32>,
}

impl Digest {
    /// Adds an event, after those that came before it.
    pub(super) fn add(&mut self, it: &Deliverable) {
        self.events += 1;
        let part = match body::job(it) {
            Some(job) if self.jobs.contains_key(job) || self.jobs.len() < JOBS => {
                self.jobs.entry(job.to_owned()).or_default()
            }
            _ => &mut self.others,
        };
        part.add(it);
    }

    /// How many were added.
    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// The mails: jobs by name, then all else.
    pub(super) fn letters(&self, sink: &SinkName, cluster: &str) -> Vec<Letter> {
        let letter = |part: &Part, about: &str, subject: String, text: String| {
            let [(first, from), (last, to)] = part.span.as_ref()?;
            Some(Letter {
                sink: sink.to_string(),
                cluster: cluster.to_owned(),
                subject: format!("[sheaf] {subject}"),
                text: format!("{text}\nFrom {from} to {to}, by sink {sink} of cluster {cluster}.\n"),
                id: format!("{sink}.{first}.{last}.{about}"),
            })
        };
        let mut letters = Vec::new();
        for (job, part) in &self.jobs {
            let mut text = format!("Job {}\n\n{}", one_line(job), part.text());
            text.push_str(&format!(
                "\nMore: sheaf job status {job}; sheaf job subtasks {job} --state failed\n"
            ));
            let (about, subject) = (format!("job-{}", one_line(job)), format!("job {}", one_line(job)));
            letters.extend(letter(part, &about, part.subject(&subject), text));
        }
        let text = self.others.text() + "\nMore: sheaf events\n";
        letters.extend(letter(&self.others, "events", self.others.subject("events"), text));
        letters
    }
}

impl Part {
    fn add(&mut self, it: &Deliverable) {
        let event = &it.event;
        let last = (it.id(), event.at);
        match &mut self.span {
            Some(span) => span[1] = last,
            None => self.span = Some([last.clone(), last]),
        }
        let Some(end) = &it.end else {
            self.last_kind.clone_from(&event.kind);
            if self.lines.len() >= LINES {
                self.unlisted += 1;
                return;
            }
            let went = match (event.before.as_str(), event.after.as_str()) {
                ("", "") => String::new(),
                (before, after) => format!(" {before} → {after}"),
            };
            let node = if event.node.is_empty() { String::new() } else { format!(" on {}", event.node) };
            let said = if event.message.is_empty() { String::new() } else { format!(": {}", event.message) };
            let line = format!("{} {}{went}{node}{said}", event.kind, event.subject);
            self.lines.push(format!("{}  {}", event.at, one_line(&line)));
            return;
        };
        *(if event.kind == SUBTASK_RETRIED { &mut self.retried } else { &mut self.failed }) += 1;
        if !self.groups.contains_key(&end.fingerprint) && self.groups.len() >= GROUPS {
            self.ungrouped += 1;
            return;
        }
        let group = self.groups.entry(end.fingerprint.clone()).or_insert_with(|| Group {
            count: 0,
            class: end.class.clone(),
            message: one_line(&event.message),
            subtasks: Vec::new(),
        });
        group.count += 1;
        if group.subtasks.len() < SUBTASKS && !group.subtasks.contains(&end.subtask) {
            group.subtasks.push(end.subtask);
        }
    }

    fn subject(&self, what: &str) -> String {
        let mut said = Vec::new();
        if self.failed > 0 {
            said.push(format!("{} failed", counted(self.failed, "subtask")));
        }
        if self.retried > 0 {
            said.push(format!("{} tried again", counted(self.retried, "attempt")));
        }
        match self.lines.len() as u64 + self.unlisted {
            0 => {}
            1 => said.push(self.last_kind.clone()),
            many => said.push(format!("{many} events, last {}", self.last_kind)),
        }
        format!("{what}: {}", said.join(", "))
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if self.failed + self.retried > 0 {
            let (failed, retried) = (counted(self.failed, "subtask"), counted(self.retried, "attempt"));
            text.push_str(&format!("{failed} failed for good; {retried} failed and are tried again.\n\n"));
        }
        let mut groups: Vec<(&String, &Group)> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        for (fingerprint, group) in groups {
            let named: Vec<String> = group.subtasks.iter().map(u32::to_string).collect();
            let more = if group.count > named.len() as u64 { " and more" } else { "" };
            text.push_str(&format!(
                "{} × {}: {}\n    fingerprint {fingerprint}; subtasks {}{more}\n",
                group.count,
                group.class,
                group.message,
                named.join(", ")
            ));
        }
        if self.ungrouped > 0 {
            text.push_str(&format!("{} × of further kinds\n", self.ungrouped));
        }
        if !self.lines.is_empty() && !text.is_empty() {
            text.push('\n');
        }
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        if self.unlisted > 0 {
            text.push_str(&format!("and {} more\n", self.unlisted));
        }
        text
    }
}

impl Letter {
    /// A mail that says it is a test.
    pub(super) fn test(sink: &SinkName, cluster: &str, it: &Deliverable) -> Self {
        let at = it.event.at;
        Self {
            sink: sink.to_string(),
            cluster: cluster.to_owned(),
            subject: format!("[sheaf] test of sink {sink}"),
            text: format!("A test of sink {sink} of cluster {cluster}, at {at}: nothing has happened.\n"),
            id: format!("{sink}.test.{}", at.0),
        }
    }
}

fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A text as a part of one line, not too long.
fn one_line(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line: String = plain.take(MESSAGE).collect();
    if text.chars().nth(MESSAGE).is_some() {
        line.push('…');
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::{event_of, failure_of};
    use super::*;

    fn sink() -> SinkName {
        SinkName::new("ops").unwrap()
    }

    /// J23
    #[test]
    fn j23_thousands_of_failures_are_one_mail_with_their_groups() {
        let mut digest = Digest::default();
        for n in 0..2_500 {
            let message = match n % 5 {
                0 => "no licence".to_owned(),
                _ => format!("cannot read /data/{n}.tif"),
            };
            digest.add(&failure_of("ndvi", n, &message));
        }
        digest.add(&event_of("job.failed", "ndvi", ""));
        let letters = digest.letters(&sink(), "c");
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!(letter.subject, "[sheaf] job ndvi: 2500 subtasks failed, job.failed");
        assert!(letter.text.contains("2000 × exit: cannot read /data/1.tif"), "{}", letter.text);
        assert!(letter.text.contains("500 × exit: no licence"), "{}", letter.text);
        assert!(
            letter.text.contains("subtasks 0, 5, 10, 15, 20, 25, 30, 35, 40, 45 and more"),
            "{}",
            letter.text
        );
        assert!(letter.text.len() < 5_000 && digest.events() == 2_501);
    }

    #[test]
    fn each_job_has_its_mail_and_all_else_shares_one_whatever_their_number() {
        let mut digest = Digest::default();
        for n in 0..50 {
            digest.add(&failure_of(&format!("job-{n:02}"), 1, "no licence"));
        }
        for n in 0..500 {
            digest.add(&event_of("bucket.bound", &format!("/logs/{n}"), "least loaded"));
        }
        let letters = digest.letters(&sink(), "c");
        assert_eq!(letters.len(), JOBS + 1);
        let last = &letters[JOBS];
        assert_eq!(last.subject, "[sheaf] events: 30 subtasks failed, 500 events, last bucket.bound");
        assert!(last.text.contains("and 400 more") && last.text.len() < 20_000);
        let mut ids: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
        ids.dedup();
        assert_eq!(ids.len(), letters.len());
        assert!(Digest::default().letters(&sink(), "c").is_empty());
    }

    #[test]
    fn a_mail_that_is_made_again_is_the_same_unless_it_has_more_events() {
        let numbered = |mut it: Deliverable, revision: u64| {
            it.event.revision = sheaf_model::Revision(revision);
            it
        };
        let mut digest = Digest::default();
        digest.add(&numbered(failure_of("b", 1, "no licence"), 5));
        digest.add(&numbered(event_of("bucket.bound", "/logs", ""), 6));
        let before = digest.letters(&sink(), "c");
        // The leader went before it had noted that they were sent, and this happened until the next one makes them.
        digest.add(&numbered(failure_of("a", 1, "no licence"), 7));
        digest.add(&numbered(event_of("bucket.freed", "/logs", ""), 8));
        let after = digest.letters(&sink(), "c");
        assert_eq!(after.len(), 3);
        assert!(after.contains(&before[0]), "whatever job comes before it, and whatever else happened");
        assert!(
            after.iter().all(|letter| letter.id != before[1].id),
            "who has it would miss what is new in it"
        );
        let mut ids: Vec<&str> = after.iter().map(|letter| letter.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3);
    }

    #[test]
    fn more_kinds_of_failures_than_are_told_apart_are_counted() {
        let mut digest = Digest::default();
        for n in 0..100_u32 {
            let word: String = std::iter::repeat_n('x', n as usize + 1).collect();
            digest.add(&failure_of("a", n, &format!("{word} failed")));
        }
        let text = digest.letters(&sink(), "c")[0].text.clone();
        assert!(text.contains("50 × of further kinds"), "{text}");
    }

    #[test]
    fn a_message_stays_in_its_line() {
        let mut digest = Digest::default();
        digest.add(&event_of("job.failed", "a", "x\r\nBcc: everybody@example.org\r\n\r\nhello\u{0}"));
        let letter = &digest.letters(&sink(), "c")[0];
        let line = letter.text.lines().find(|line| line.contains("Bcc")).unwrap();
        assert!(line.contains("job.failed a") && !letter.text.contains('\u{0}'), "{line}");
    }
}
