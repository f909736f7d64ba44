//! `sheaf bucket logs NAME`

use std::collections::BTreeMap;

use clap::Args;
use futures::TryStreamExt;
use sheaf_model::{BucketName, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::{LogLine, LogPlace, LogStream, LogsOf};

use super::bucket_name;
use crate::command::logs::print;
use crate::command::node::{found, numbered};
use crate::connect::Reconnect;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::wait::or_interrupted;
use crate::when;

/// `sheaf bucket logs`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  sheaf bucket logs /logs/web --tail 20
  sheaf bucket logs /logs/web -f --since 10m
  sheaf bucket logs /logs/web --node import-01 --previous")]
pub struct Logs {
    /// The bucket's path
    #[arg(value_parser = bucket_name)]
    name: BucketName,
    /// Stay, and print what comes, also from nodes that start it later or come back
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only of this node, by name or id or the unique beginning of one
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only lines printed since a time, or so long ago
    #[arg(long, value_name = "TIME|10m")]
    since: Option<String>,
    /// Only the last lines of each node
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    /// Of the run before the present one
    #[arg(long, conflicts_with = "follow")]
    previous: bool,
}

impl Logs {
    pub(super) async fn run(
        mut self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let since = self.since.as_deref().map(|text| when::since_time(text, out.now())).transpose()?;
        if let Some(text) = self.node.take() {
            let row = found(client, &text, async |node| client.node(&node).await).await?.row;
            // By its name it is found again once it is registered anew; a number means this node alone.
            self.node = Some(if row.name == text { text } else { numbered(row.id) });
        }
        let name = self.name.clone();
        let lines = if self.follow {
            or_interrupted(self.stay(client, since, format, out)).await?
        } else {
            or_interrupted(self.once(client, since, format, out)).await?
        };
        if lines == 0 {
            out.say(&format!("nothing was printed; `sheaf bucket status {name}` says what runs where"));
        }
        Ok(Exit::Done)
    }

    fn asks(&self, since: Option<Timestamp>, tail: Option<u32>, after: Vec<LogPlace>) -> BucketLogs {
        let (bucket, follow, previous) = (self.name.clone(), self.follow, self.previous);
        let of = LogsOf { bucket, follow, since, tail, previous };
        BucketLogs { of, node: self.node.clone(), after }
    }

    /// What there is; how many lines.
    async fn once(
        &self,
        client: &Client,
        since: Option<Timestamp>,
        format: Format,
        out: &mut Terminal,
    ) -> Result<u64, Failure> {
        let mut answers = client.bucket_logs(self.asks(since, self.tail, Vec::new())).await?;
        let mut lines = 0;
        while let Some(line) = answers.try_next().await? {
            lines += 1;
            print(out, format, &line)?;
        }
        Ok(lines)
    }

    /// What there is and what comes, for ever; goes on after the last line of each node when the stream breaks off.
    async fn stay(
        &self,
        client: &Client,
        since: Option<Timestamp>,
        format: Format,
        out: &mut Terminal,
    ) -> Result<u64, Failure> {
        let mut reconnect = Reconnect::default();
        let mut read = Read::new(out.now());
        loop {
            let ask = match reconnect.has_begun() {
                false => self.asks(since, self.tail, Vec::new()),
                // Of nodes that printed nothing so far all that they print since then is new.
                true => self.asks(read.since(since, self.tail), None, read.places()),
            };
            let mut answers = match client.bucket_logs(ask).await {
                Ok(answers) => answers,
                Err(error) => {
                    reconnect.again(out, Some(error)).await?;
                    continue;
                }
            };
            reconnect.received();
            let broken = loop {
                match answers.try_next().await {
                    Ok(Some(line)) => {
                        read.take(&line);
                        print(out, format, &line)?;
                        out.flush()?;
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            reconnect.again(out, broken).await?;
        }
    }
}

/// How far each node was read.
struct Read {
    places: BTreeMap<String, LogPlace>,
    /// When this began; no later than the first line, whose time is that of another machine's clock.
    began: Timestamp,
}

impl Read {
    const fn new(began: Timestamp) -> Self {
        Self { places: BTreeMap::new(), began }
    }

    fn take(&mut self, line: &LogLine) {
        // What Sheaf says of a node stands in no output.
        if line.stream == LogStream::Sheaf {
            return;
        }
        self.began = self.began.min(line.at);
        match self.places.get_mut(&line.node) {
            Some(place) => place.read(line.at),
            None => drop(self.places.insert(line.node.clone(), LogPlace::of(line))),
        }
    }

    fn places(&self) -> Vec<LogPlace> {
        self.places.values().cloned().collect()
    }

    /// From when on the others are to be read: from where they were before, unless only a part of that was wanted.
    fn since(&self, asked: Option<Timestamp>, tail: Option<u32>) -> Option<Timestamp> {
        match tail {
            None => asked,
            Some(_) => Some(asked.map_or(self.began, |since| since.max(self.began))),
        }
    }
}
