//! `sheaf bucket test -f FILE`: what comes of a bucket, apart from the real one.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures::TryStreamExt;
use serde_json::{Value, json};
use sheaf_model::{BucketName, PutBucket, Span};
use sheaf_wire::Client;
use sheaf_wire::bucket::{OnBucket, TestBucket, TestEnd, TestResult, TestStep};
use sheaf_wire::logs::{LogLine, LogStream};

use crate::connect;
use crate::documents::{self, Source};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::wait::or_interrupted;
use crate::when;

/// `sheaf bucket test`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Runs the bucket once, on one available node, whether one of its name is registered or not and without touching that one: \
under a name, in a directory and with objects of its own. What it prints on standard output are its objects, one a line. It \
ends after --max-objects or --max-time, or by itself, and then everything of it is removed. Exits with 0 if that went well, \
with 1 if it failed or did not start in time, with 5 if no node is available for it.

Examples:
  sheaf bucket test -f web.yaml
  sheaf bucket test -f web.yaml --max-objects 100 --max-time 1m -o json")]
pub struct Test {
    /// A file with one bucket, or - for stdin
    #[arg(short = 'f', long = "file", value_name = "FILE|-", required = true)]
    files: Vec<PathBuf>,
    /// Which bucket of the file, if there are several
    #[arg(value_name = "NAME", value_parser = super::bucket_name)]
    name: Option<BucketName>,
    /// End after so many objects
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    max_objects: u64,
    /// End after so long a run
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = when::duration)]
    max_time: Duration,
    /// Fail unless it runs so soon
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = when::duration)]
    start_within: Duration,
    /// Test with the newest version of the bucket's module
    #[arg(long)]
    latest: bool,
}

/// What is answered as one object.
#[derive(Debug, Default)]
struct Answer {
    bucket: String,
    node: String,
    result: &'static str,
    message: String,
    objects: Vec<String>,
}

impl Answer {
    fn json(&self) -> Value {
        let Self { bucket, node, result, message, objects } = self;
        json!({"bucket": bucket, "node": node, "result": result, "message": message, "objects": objects})
    }
}

impl Test {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let put = self.bucket(out)?;
        let ask = TestBucket {
            spec: put.spec,
            latest: self.latest || put.latest,
            max_objects: self.max_objects,
            max_time: span(self.max_time),
            start_within: span(self.start_within),
        };
        let mut answer = Answer::default();
        let followed = or_interrupted(follow(client, ask, format, out, &mut answer)).await;
        match followed {
            Ok(end) => finish(&end, answer, format, out),
            Err(error) => {
                // Its time to live would do the same, later.
                if let Ok(bucket) = BucketName::new(&answer.bucket) {
                    let on = OnBucket { bucket, base: None, request: connect::request() };
                    let _ = client.delete_bucket(on).await;
                }
                Err(error)
            }
        }
    }

    fn bucket(&self, out: &mut Terminal) -> Result<PutBucket, Failure> {
        let written = documents::read(out, &self.files);
        if !written.defects.is_empty() {
            return Err(Failure::Defects(written.defects));
        }
        let buckets: Vec<&PutBucket> = written.sources.iter().flat_map(Source::buckets).collect();
        let meant = |put: &&PutBucket| self.name.as_ref().is_none_or(|name| *name == put.spec.name);
        let mut meant = buckets.iter().copied().filter(meant);
        match (meant.next(), meant.next()) {
            (Some(put), None) => Ok(put.clone()),
            (None, _) => Err(match &self.name {
                Some(name) => Failure::NotFound(format!("there is no bucket {name} in what was given")),
                None => Failure::Usage {
                    problem: "there is no bucket in what was given".to_owned(),
                    remedy: "a document of kind: Bucket".to_owned(),
                },
            }),
            (Some(_), Some(_)) => {
                let names: Vec<&str> = buckets.iter().map(|put| put.spec.name.as_str()).collect();
                Err(Failure::Usage {
                    problem: format!("there are {} buckets in what was given", names.len()),
                    remedy: format!("say which one is to be tested: {}", names.join(", ")),
                })
            }
        }
    }
}

fn span(duration: Duration) -> Span {
    Span::millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Until its end, printing what comes.
async fn follow(
    client: &Client,
    ask: TestBucket,
    format: Format,
    out: &mut Terminal,
    answer: &mut Answer,
) -> Result<TestEnd, Failure> {
    let name = ask.spec.name.clone();
    let mut steps = client.test_bucket(ask).await?;
    while let Some(step) = steps.try_next().await? {
        match step {
            TestStep::Started { bucket, node } => {
                out.say(&format!("testing {name} on {node}, as {bucket}"));
                (answer.bucket, answer.node) = (bucket.to_string(), node);
            }
            TestStep::Line(line) => print(line, format, out, answer)?,
            TestStep::Ended(end) => return Ok(end),
        }
    }
    Err(Failure::Refused(format!("the test of {name} broke off; what is left of it is removed by itself")))
}

fn print(line: LogLine, format: Format, out: &mut Terminal, answer: &mut Answer) -> Result<(), Failure> {
    match (line.stream, format) {
        (LogStream::Stdout, Format::Json | Format::Yaml) => answer.objects.push(line.text),
        (LogStream::Stdout, _) => {
            out.line(&line.text)?;
            out.flush()?;
        }
        (LogStream::Stderr | LogStream::Sheaf, _) => out.say(&format!("{}: {}", line.node, line.text)),
    }
    Ok(())
}

fn finish(end: &TestEnd, answer: Answer, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    let result = match end.result {
        TestResult::Passed => "passed",
        TestResult::Failed => "failed",
        TestResult::NotPlaced => "not_placed",
    };
    let answer = Answer { result, message: end.message.clone(), ..answer };
    match format {
        Format::Json => out.json(&answer.json())?,
        Format::Yaml => out.yaml(&answer.json())?,
        Format::Table | Format::Wide | Format::Name => {}
    }
    match end.result {
        TestResult::Passed => {
            out.say(&format!("passed: {}", end.message));
            Ok(Exit::Done)
        }
        TestResult::Failed => Err(Failure::Refused(format!("the test failed: {}", end.message))),
        TestResult::NotPlaced => {
            Err(Failure::Unplaceable(format!("no node is available for the test: {}", end.message)))
        }
    }
}
