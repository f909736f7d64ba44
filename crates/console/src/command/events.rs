//! `sheaf events`: what happened, and what happens.

use clap::Args;
use futures::TryStreamExt;
use sheaf_model::view::EventRow;
use sheaf_model::{Cursor, Revision, Timestamp, nearest};
use sheaf_wire::event::{EventFilter, ListEvents, WatchEvents};
use sheaf_wire::{Client, PAGE_MAX};

use crate::connect::Reconnect;
use crate::exit::{Exit, Failure};
use crate::options::Page;
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::wait::or_interrupted;
use crate::when::{self, Since};

/// What an event can be selected by.
const KEYS: [&str; 3] = ["subject", "kind", "node"];

/// `sheaf events`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Without --since, --after and --all the newest events are shown, oldest first. With -o json one object a line.

Examples:
  sheaf events --since 10m
  sheaf events --where subject=/logs/web
  sheaf events --follow --where kind=node -o json
  sheaf events --follow --subtasks --where subject=ndvi-2024
  sheaf events --follow --since 4711          # everything after revision 4711, then what comes")]
pub struct Events {
    /// Stay, and print what happens from now on
    #[arg(short = 'f', long, conflicts_with = "all")]
    follow: bool,
    /// Begin after a revision, at a time, or so long ago
    #[arg(long, value_name = "REV|TIME|10m")]
    since: Option<String>,
    /// Only these: subject=NAME, kind=KIND (`bucket` selects `bucket.bound`), node=NAME (whichever
    /// node had it then)
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    /// What became of subtasks, too, as --where kind=subtask means; of those that lie together in one line
    #[arg(long)]
    subtasks: bool,
    #[command(flatten)]
    page: Page,
}

impl Events {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let mut filter = filter(&self.filter, self.subtasks)?;
        let mut after = self.page.after.as_deref().map(cursor).transpose()?;
        match self.since.as_deref().map(|text| when::since(text, out.now())).transpose()? {
            Some(Since::Revision(revision)) => after = after.or(Some(Cursor::end(revision))),
            Some(Since::Time(time)) => filter.since = Some(time),
            None => {}
        }
        if self.follow {
            if filter.since.is_some() {
                after = after.or(Some(Cursor::end(Revision(0))));
            }
            return or_interrupted(follow(client, format, out, after, filter)).await;
        }
        let ended = if after.is_none() && filter.since.is_none() && !self.page.all {
            newest(client, format, out, limit(&self.page), filter).await?
        } else {
            onward(client, format, out, &self.page, after, filter).await?
        };
        if ended == 0 {
            out.say("nothing of that kind happened");
        }
        Ok(Exit::Done)
    }
}

/// The newest events, oldest first; how many.
async fn newest(
    client: &Client,
    format: Format,
    out: &mut Terminal,
    limit: usize,
    filter: EventFilter,
) -> Result<usize, Failure> {
    let mut rows = Vec::new();
    let mut before = None;
    loop {
        let left = size(limit - rows.len());
        let ask = ListEvents { after: before, limit: left, filter: filter.clone(), newest_first: true };
        let page = client.list_events(ask).await?;
        rows.extend(page.events.into_iter().map(EventRow::from));
        before = page.next;
        if before.is_none() || rows.len() >= limit {
            break;
        }
    }
    rows.reverse();
    let mut printer = Printer::new(format);
    printer.print(out, &rows)?;
    if before.is_some() {
        out.say("older events are left out: --all shows everything, --since what is newer than that");
    }
    printer.end(out)
}

/// Events from a place on, page by page; how many.
async fn onward(
    client: &Client,
    format: Format,
    out: &mut Terminal,
    page: &Page,
    mut after: Option<Cursor>,
    filter: EventFilter,
) -> Result<usize, Failure> {
    let limit = if page.all { usize::MAX } else { limit(page) };
    let mut printer = Printer::new(format);
    loop {
        let left = size(limit - printer.rows);
        let ask = ListEvents { after, limit: left, filter: filter.clone(), newest_first: false };
        let answer = client.list_events(ask).await?;
        let rows: Vec<EventRow> = answer.events.into_iter().map(EventRow::from).collect();
        printer.print(out, &rows)?;
        let Some(next) = answer.next else { return printer.end(out) };
        if printer.rows >= limit {
            let rows = printer.end(out)?;
            out.say(&format!("there are more: go on with --after {next}, or ask for --all"));
            return Ok(rows);
        }
        after = Some(next);
    }
}

/// The end of history as it is now.
async fn end(client: &Client, subtasks: bool) -> Result<Cursor, Failure> {
    let filter = EventFilter { subtasks, ..EventFilter::default() };
    let newest = ListEvents { limit: 1, newest_first: true, filter, after: None };
    let events = client.list_events(newest).await?.events;
    Ok(events.first().map_or(Cursor::end(Revision(0)), Cursor::of))
}

/// What happened after a place, then what happens, until Ctrl-C.
async fn follow(
    client: &Client,
    format: Format,
    out: &mut Terminal,
    after: Option<Cursor>,
    filter: EventFilter,
) -> Result<Exit, Failure> {
    let mut printer = Printer::new(format);
    let mut reconnect = Reconnect::default();
    // A stream that breaks off before anything has happened goes on from here, too.
    let mut after = match after {
        Some(after) => after,
        None => end(client, filter.subtasks).await?,
    };
    loop {
        let ask = WatchEvents { after: Some(after), filter: filter.clone() };
        let mut events = match client.watch_events(ask).await {
            Ok(events) => events,
            Err(error) => {
                reconnect.again(out, Some(error)).await?;
                continue;
            }
        };
        reconnect.received();
        let broken = loop {
            match events.try_next().await {
                Ok(Some(event)) => {
                    reconnect.received();
                    after = Cursor::of(&event);
                    printer.print(out, &[EventRow::from(event)])?;
                    out.flush()?;
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        reconnect.again(out, broken).await?;
    }
}

/// Prints events: with `-o json` one object a line, so that they can be followed; else as any list.
struct Printer {
    format: Format,
    listing: Listing,
    rows: usize,
}

impl Printer {
    const fn new(format: Format) -> Self {
        Self { format, listing: Listing::new(format), rows: 0 }
    }

    fn print(&mut self, out: &mut Terminal, rows: &[EventRow]) -> Result<(), Failure> {
        self.rows += rows.len();
        match self.format {
            Format::Json => rows.iter().try_for_each(|row| out.line(&table::json(row).to_string())),
            _ => self.listing.page(out, rows),
        }
    }

    fn end(self, out: &mut Terminal) -> Result<usize, Failure> {
        match self.format {
            Format::Json => Ok(self.rows),
            _ => self.listing.end(out),
        }
    }
}

fn limit(page: &Page) -> usize {
    usize::try_from(page.limit).unwrap_or(usize::MAX)
}

/// So many as one page, at most.
fn size(rows: usize) -> u32 {
    u32::try_from(rows).unwrap_or(PAGE_MAX).min(PAGE_MAX)
}

fn cursor(text: &str) -> Result<Cursor, Failure> {
    text.parse()
        .map_err(|error| Failure::usage(format!("--after: {error}"), "as an answer before said, like 4711.0"))
}

/// Reads `--where`: each key once.
fn filter(terms: &[String], subtasks: bool) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter::default();
    for term in terms {
        let Some((key, value)) = term.split_once('=') else {
            let remedy = "KEY=VALUE, like subject=/logs/web";
            return Err(Failure::usage(format!("--where {term:?} has no value"), remedy));
        };
        let field = match key {
            "subject" => &mut filter.subject,
            "kind" => &mut filter.kind,
            "node" => &mut filter.node,
            _ => {
                let remedy = match nearest(key, &KEYS) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("one of {}", KEYS.join(", ")),
                };
                return Err(Failure::usage(format!("--where: unknown key {key:?}"), remedy));
            }
        };
        if field.replace(value.to_owned()).is_some() {
            return Err(Failure::usage(format!("--where: {key} is given twice"), "each key once"));
        }
    }
    Ok(filter.with_subtasks(subtasks))
}

impl Listed for EventRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("REVISION").number(),
        Column::new("AGO").number(),
        Column::new("KIND"),
        Column::new("SUBJECT"),
        Column::new("NODE"),
        Column::new("BEFORE").wide(),
        Column::new("AFTER").wide(),
        Column::new("ACTOR"),
        Column::new("MESSAGE"),
    ];

    fn name(&self) -> String {
        self.subject.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.revision.to_string(),
            when::age_of(now, Some(&self.at)),
            self.kind.clone(),
            self.subject.clone(),
            if self.node.is_empty() { "-".to_owned() } else { self.node.clone() },
            self.before.clone(),
            self.after.clone(),
            self.actor.clone(),
            self.message.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Event;

    use super::*;
    use crate::output::recorded::{self, NOW};

    fn event() -> Event {
        Event {
            revision: Revision(4711),
            n: 1,
            step: None,
            at: Timestamp(NOW.0 - 90_000),
            kind: "bucket.bound".to_owned(),
            subject: "/logs/web".to_owned(),
            actor: "leader:1".to_owned(),
            node: "import-01".to_owned(),
            before: "placing".to_owned(),
            after: "starting".to_owned(),
            message: "least loaded".to_owned(),
        }
    }

    fn printed(format: Format) -> String {
        let (mut out, recording) = recorded::terminal("");
        let mut printer = Printer::new(format);
        printer.print(&mut out, &[EventRow::from(event())]).expect("it prints");
        printer.print(&mut out, &[EventRow::from(event())]).expect("it prints");
        assert_eq!(printer.end(&mut out).expect("it ends"), 2);
        recording.data()
    }

    #[test]
    fn an_event_is_one_line() {
        insta::assert_snapshot!(printed(Format::Json), @r#"
        {"revision":4711,"at":"2026-01-10T11:58:30.000Z","kind":"bucket.bound","subject":"/logs/web","actor":"leader:1","node":"import-01","before":"placing","after":"starting","message":"least loaded"}
        {"revision":4711,"at":"2026-01-10T11:58:30.000Z","kind":"bucket.bound","subject":"/logs/web","actor":"leader:1","node":"import-01","before":"placing","after":"starting","message":"least loaded"}
        "#);
        insta::assert_snapshot!(printed(Format::Table), @r"
        REVISION  AGO  KIND          SUBJECT    NODE       ACTOR     MESSAGE
            4711  90s  bucket.bound  /logs/web  import-01  leader:1  least loaded
            4711  90s  bucket.bound  /logs/web  import-01  leader:1  least loaded
        ");
    }

    #[test]
    fn a_filter_is_read_and_what_it_cannot_be_is_said() {
        let read =
            |terms: &[&str]| filter(&terms.iter().map(|term| (*term).to_owned()).collect::<Vec<_>>(), false);
        let good = read(&["subject=/a", "kind=bucket"]).expect("a filter");
        assert_eq!(
            (good.subject.as_deref(), good.kind.as_deref(), good.node),
            (Some("/a"), Some("bucket"), None)
        );
        for bad in [&["subject"][..], &["colour=red"], &["node=a", "node=b"]] {
            assert_eq!(read(bad).expect_err("a bad filter").exit().code(), 2);
        }
        for (kind, subtasks) in [("kind=subtask.failed", true), ("kind=subtask", true), ("kind=job", false)] {
            assert_eq!(read(&[kind]).expect("a filter").subtasks, subtasks, "{kind}");
        }
        assert_eq!(cursor("x").expect_err("no cursor").exit().code(), 2);
        assert_eq!(cursor("12.3").expect("a cursor").to_string(), "12.3");
    }
}
