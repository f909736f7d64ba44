//! `sheaf job watch NAME`

use std::time::Duration;

use clap::Args;
use futures::TryStreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use sheaf_model::JobName;
use sheaf_model::view::JobStatus;
use sheaf_wire::Client;
use tokio::time::Instant;

use super::job_name;
use super::line::line;
use super::meant::meant;
use crate::connect::Reconnect;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};
use crate::table;
use crate::wait::or_interrupted;

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(1);

/// `sheaf job watch`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Shows where the job stands until it is over: on a terminal one line that changes, elsewhere a line when something has changed,
at most one a second. With -o json one status a line, whenever it changes. However the job ends, the exit code is 0;
`sheaf job submit --wait` tells by its exit code.

Examples:
  sheaf job watch ndvi-2024
  sheaf job watch ndvi-2024 -o json | jq .progress")]
pub struct Watch {
    /// The job's name, its id or the unique beginning of that
    #[arg(value_parser = job_name)]
    name: JobName,
}

impl Watch {
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        let watch = Self { name: meant(client, self.name).await? };
        let mut shown = Shown::new(format, out);
        let ended = or_interrupted(watch.follow(client, out, &mut shown)).await;
        shown.clear();
        shown.last(out)?;
        ended.map(|()| Exit::Done)
    }

    async fn follow(self, client: &Client, out: &mut Terminal, shown: &mut Shown) -> Result<(), Failure> {
        let mut reconnect = Reconnect::default();
        loop {
            let mut steps = match client.watch_job(&self.name).await {
                Ok(steps) => steps,
                Err(error) => {
                    reconnect.again(out, Some(error)).await?;
                    continue;
                }
            };
            let broken = loop {
                match steps.try_next().await {
                    Ok(Some(status)) => {
                        reconnect.received();
                        let over = status.state.is_over();
                        shown.status(out, status)?;
                        if over {
                            return Ok(());
                        }
                    }
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            reconnect.again(out, broken).await?;
        }
    }
}

/// What is on the screen.
struct Shown {
    format: Format,
    /// The line that changes; none: there is no terminal.
    bar: Option<ProgressBar>,
    /// The last status, until it is printed.
    pending: Option<JobStatus>,
    printed: String,
    at: Option<Instant>,
}

impl Shown {
    fn new(format: Format, out: &Terminal) -> Self {
        let bar = (out.progress() && format.is_table()).then(|| {
            let style =
                ProgressStyle::with_template("{spinner} {wide_msg}").expect("a template of known names");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { format, bar, pending: None, printed: String::new(), at: None }
    }

    fn status(&mut self, out: &mut Terminal, status: JobStatus) -> Result<(), Failure> {
        match (self.format, &self.bar) {
            (Format::Json, _) => {
                out.line(&table::json(&status).to_string())?;
                return out.flush();
            }
            (Format::Yaml, _) => {
                out.line("---")?;
                out.yaml(&table::json(&status))?;
                return out.flush();
            }
            (_, Some(bar)) => {
                bar.set_message(line(&status, out.now()));
                self.pending = Some(status);
                return Ok(());
            }
            (_, None) => {}
        }
        self.pending = Some(status);
        if self.at.is_none_or(|at| at.elapsed() >= PAUSE) { self.last(out) } else { Ok(()) }
    }

    /// Prints the last status, if it is another than before.
    fn last(&mut self, out: &mut Terminal) -> Result<(), Failure> {
        let Some(status) = self.pending.take() else { return Ok(()) };
        let text = match self.format {
            Format::Name => format!("{} {}", status.name, status.state.as_str()),
            _ => line(&status, out.now()),
        };
        if text != self.printed {
            out.line(&text)?;
            out.flush()?;
            self.printed = text;
            self.at = Some(Instant::now());
        }
        Ok(())
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
