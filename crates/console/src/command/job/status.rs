//! `sheaf job status [NAME]`

use clap::Args;
use sheaf_model::document::{job_value, yaml};
use sheaf_model::view::{FailureGroup, JobStatus};
use sheaf_model::{JobName, JobSpec, Subtasks, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::job::GotJob;

use super::line::{about, counted, pace};
use super::meant::meant;
use super::{job_name, list};
use crate::command::page::Printed;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::{text, when};

/// `sheaf job status`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Failed subtasks are grouped by fingerprint: a hash of what the attempt said, numbers, paths and ids masked. With -o json the
status; with -o yaml the document, which can be applied again (of a job of items, together with the file of its items).

Examples:
  sheaf job status ndvi-2024
  sheaf job status ndvi-2024 -o json
  sheaf job status ndvi-2024 -o yaml > ndvi.yaml")]
pub struct Status {
    /// The job's name, its id or the unique beginning of that; without it all are listed
    #[arg(value_parser = job_name)]
    name: Option<JobName>,
    #[command(flatten)]
    list: list::List,
}

impl Status {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let Some(name) = self.name else { return self.list.run(client, format, out).await };
        let got = client.job(&meant(client, name).await?).await?;
        match format {
            Format::Table | Format::Wide => print(out, format, &got.status)?,
            Format::Json => out.json(&table::json(&got.status))?,
            Format::Yaml => document(got).print(out)?,
            Format::Name => out.line(&got.status.name)?,
        }
        Ok(Exit::Done)
    }
}

/// Its document, which can be applied again. Items are kept apart from it: it names a file for them.
pub(super) fn document(GotJob { spec, status }: GotJob) -> Printed {
    let items = format!("{}.jsonl", spec.name);
    // It may have another priority by now.
    let spec = JobSpec { priority: status.priority, ..spec };
    let text = yaml(&job_value(&spec, &items));
    if spec.subtasks != Subtasks::Items {
        return Printed::whole(text);
    }
    let (name, count) = (&spec.name, text::thousands(status.count));
    let remark =
        format!("the {count} items of {name} are not printed: its document wants them in {items}, beside it");
    Printed::without(text, remark)
}

impl Listed for FailureGroup {
    const COLUMNS: &'static [Column] =
        &[Column::new("FAILED").number(), Column::new("FINGERPRINT"), Column::new("MESSAGE")];

    fn name(&self) -> String {
        self.fingerprint.clone()
    }

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![self.subtasks.to_string(), self.fingerprint.clone(), self.message.clone()]
    }
}

/// The status for eyes: what it is, then its failures by group.
fn print(out: &mut Terminal, format: Format, status: &JobStatus) -> Result<(), Failure> {
    let state = text::paint(status.state.as_str(), out.colour());
    out.line(&format!("{}  {state}: {}", status.name, about(status.state)))?;
    if !status.message.is_empty() && status.message != about(status.state) {
        out.line(&text::paragraph(&status.message, 2, out.width()))?;
    }
    out.line("")?;
    out.write(&text::facts(&facts(status, out.now())))?;
    if !status.failures.is_empty() {
        out.line("")?;
        Listing::whole(out, format, &status.failures)?;
    }
    let (groups, subtasks) = status.other_failures();
    if groups > 0 {
        let (groups, subtasks) = (text::thousands(groups), text::thousands(subtasks));
        out.line(&format!("\n{groups} more groups, none larger, {subtasks} subtasks in all:"))?;
        out.line(&format!("  sheaf query \"{}\"", FailureGroup::query(&status.name)))?;
    }
    Ok(())
}

fn facts(status: &JobStatus, now: Timestamp) -> Vec<(&'static str, String)> {
    let ago = |time: Option<&str>| match time {
        Some(time) => format!("{} ago", when::age_of(now, Some(time))),
        None => String::new(),
    };
    let over = status.state.is_over();
    vec![
        ("subtasks", text::thousands(status.count)),
        ("progress", format!("{}%: {}", status.progress, counted(&status.counts))),
        ("pace", if over { String::new() } else { pace(status, now) }),
        ("attempts failed", failed(status)),
        ("module", status.module.clone()),
        ("priority", status.priority.to_string()),
        ("at most", status.max_running.map(|most| format!("{most} at a time")).unwrap_or_default()),
        ("submitted", ago(Some(&status.created_at))),
        ("started", ago(status.started_at.as_deref())),
        ("ended", ago(status.ended_at.as_deref())),
        ("owner", status.owner.clone().unwrap_or_default()),
        ("labels", text::labels(&status.labels)),
        ("id", status.id.to_string()),
    ]
}

/// Failed attempts by class; those of no class are left out.
fn failed(status: &JobStatus) -> String {
    let failed = &status.failed_attempts;
    let all = [
        (failed.exit, "by their program"),
        (failed.lost, "with their node"),
        (failed.timeout, "out of time"),
        (failed.backend, "by their backend"),
        (failed.refused, "refused for good"),
    ];
    let said = all.iter().filter(|(count, _)| *count > 0);
    said.map(|(count, how)| format!("{} {how}", text::thousands(*count))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;
    use crate::output::recorded;

    #[test]
    fn a_status_is_read_at_a_glance() {
        let (mut out, recording) = recorded::terminal("");
        print(&mut out, Format::Table, &example::status()).expect("it prints");
        insta::assert_snapshot!(recording.data(), @r"
        ndvi-2024  running: subtasks of it can still run
          500 run, as many as max_running allows

        subtasks         50,000
        progress         45%: 22,500 finished, 12 failed, 500 running, 26,988 ready
        pace             812.5/s, 34s left
        attempts failed  40 by their program, 3 with their node
        module           ndvi@2
        priority         50
        at most          500 at a time
        submitted        10m ago
        started          60s ago
        owner            data-eng
        labels           team=eo
        id               42

        FAILED  FINGERPRINT       MESSAGE
             8  00c0ffee00c0ffee  no such file: <path>
             4  1234567890abcdef  out of memory
        ");
    }

    #[test]
    fn groups_of_failures_that_are_left_out_are_counted_and_found() {
        let (mut out, recording) = recorded::terminal("");
        let mut status = example::status();
        (status.failure_groups, status.counts.failed) = (1_203, 3_012);
        print(&mut out, Format::Table, &status).expect("it prints");
        let said = "\n\n1,201 more groups, none larger, 3,000 subtasks in all:\n  sheaf query \"SELECT fingerprint, count(*) ";
        assert!(recording.data().contains(said), "{}", recording.data());
    }

    #[test]
    fn a_status_has_the_promised_fields() {
        let status = table::json(&example::status());
        let promised = [
            "name",
            "id",
            "state",
            "priority",
            "counts",
            "progress",
            "rate_per_s",
            "eta",
            "created_at",
            "started_at",
            "ended_at",
        ];
        for field in promised {
            assert!(status.get(field).is_some(), "{field}");
        }
        let counts: Vec<&String> = status["counts"].as_object().expect("an object").keys().collect();
        assert_eq!(counts, ["waiting", "ready", "running", "finished", "failed", "canceled"]);
        assert_eq!(status["state"], "running");
    }
}
