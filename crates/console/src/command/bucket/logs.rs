//! `sheaf bucket logs NAME`

use clap::Args;
use futures::TryStreamExt;
use sheaf_model::BucketName;
use sheaf_wire::Client;
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::LogsOf;

use super::bucket_name;
use crate::command::logs::print;
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
    /// Stay, and print what comes, also from nodes that start it later
    #[arg(short = 'f', long)]
    follow: bool,
    /// Only of this node
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
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let since = self.since.as_deref().map(|text| when::since_time(text, out.now())).transpose()?;
        let of = LogsOf {
            bucket: self.name,
            follow: self.follow,
            since,
            tail: self.tail,
            previous: self.previous,
        };
        let name = of.bucket.clone();
        let lines = or_interrupted(async {
            let mut answers = client.bucket_logs(BucketLogs { of, node: self.node }).await?;
            let mut lines = 0_u64;
            while let Some(line) = answers.try_next().await? {
                lines += 1;
                print(out, format, &line)?;
                if self.follow {
                    out.flush()?;
                }
            }
            Ok(lines)
        });
        if lines.await? == 0 {
            out.say(&format!("nothing was printed; `sheaf bucket status {name}` says what runs where"));
        }
        Ok(Exit::Done)
    }
}
