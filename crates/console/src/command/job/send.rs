//! A job on its way to the cluster, with its items.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use indicatif::{ProgressBar, ProgressStyle};
use sheaf_model::{Defect, JobSpec};
use sheaf_wire::job::{Chunks, SubmitPart, Submitted};
use sheaf_wire::{ApiError, Client};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::items::{self, Items, Lines};
use crate::exit::Failure;
use crate::output::Terminal;

/// Chunks that are read ahead while one is under way.
const AHEAD: usize = 4;
/// A cluster that cannot take it is tried again for so long: an election is over by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Submits a job. What can be read twice is sent again when it broke off; the id of the request keeps it one job.
pub(super) async fn send(
    client: &Client,
    out: &mut Terminal,
    spec: &JobSpec,
    items: &Items,
    count: Option<u32>,
) -> Result<Submitted, Failure> {
    let progress = if out.progress() { bar(spec, count) } else { ProgressBar::hidden() };
    let mut pipe = matches!(items, Items::Stream(_)).then(|| stream(out, items)).transpose()?;
    let patience = Instant::now() + PATIENCE;
    let submitted = loop {
        progress.set_position(0);
        let (parts, problems) = match (items, &mut pipe) {
            (Items::Stream(name), pipe) => match pipe.take() {
                Some(from) => read(name.clone(), from, progress.clone()),
                None => break Err(Failure::Refused("the items can be read once only".to_owned())),
            },
            (Items::File(path), _) => {
                let file = path.display().to_string();
                let open = File::open(path).map_err(|error| Failure::Refused(format!("{file}: {error}")))?;
                read(file, open, progress.clone())
            }
            (Items::Listed(listed), _) => (listed_parts(listed.clone()), Problems::default()),
            (Items::Array(count), _) => {
                (futures::stream::iter([SubmitPart::Done { count: *count }]).boxed(), Problems::default())
            }
        };
        let error = match client.submit_job(spec.clone(), parts).await {
            Ok(submitted) => break Ok(submitted),
            Err(error) => error,
        };
        // What was found here is why it ended there.
        let found =
            std::mem::take(&mut *problems.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        if !found.is_empty() {
            break Err(Failure::Defects(found));
        }
        let once = matches!(items, Items::Stream(_));
        if once || !error.can_retry() || Instant::now() >= patience {
            break Err(because(error, once));
        }
        progress.set_message("waiting for the cluster");
        tokio::time::sleep(AGAIN).await;
    };
    progress.finish_and_clear();
    submitted
}

/// A failure in words; of what came by a pipe nothing may be left to be sent again.
fn because(error: ApiError, once: bool) -> Failure {
    match error {
        error if once && error.can_retry() => {
            Failure::Refused(format!("{error}; the items came by a pipe, so submit it again"))
        }
        error => error.into(),
    }
}

/// What was wrong with what was read while it was sent.
#[derive(Clone, Default)]
struct Problems(Arc<Mutex<Vec<Defect>>>);

fn stream(out: &mut Terminal, items: &Items) -> Result<Box<dyn Read + Send>, Failure> {
    match items {
        Items::Stream(name) if name != "stdin" => match File::open(name) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::Refused(format!("{name}: {error}"))),
        },
        _ => Ok(out.take_input()),
    }
}

fn listed_parts(items: Vec<sheaf_model::Item>) -> BoxStream<'static, SubmitPart> {
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut chunks = Chunks::default();
    let mut parts: Vec<SubmitPart> =
        items.into_iter().filter_map(|item| chunks.push(item)).map(SubmitPart::Items).collect();
    parts.extend(chunks.rest().map(SubmitPart::Items));
    parts.push(SubmitPart::Done { count });
    futures::stream::iter(parts).boxed()
}

/// Lines read by a thread of their own, a few chunks ahead. The first bad one ends them, without `Done`.
fn read(
    file: String,
    from: impl Read + Send + 'static,
    progress: ProgressBar,
) -> (BoxStream<'static, SubmitPart>, Problems) {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let problems = Problems::default();
    let found = problems.clone();
    // A thread of its own and not the runtime's, which would wait for it at the end: a pipe may never say any more. It ends
    // with the lines, or as soon as nobody takes them. All that is wrong is known before it drops the sender, and so
    // before the call ends.
    std::thread::spawn(move || {
        let mut lines = Lines::new(&file, from);
        if let Err(bad) = push(&mut lines, &sender, &progress) {
            let all = items::rest(&mut lines, bad);
            *found.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = all;
        }
        drop(sender);
    });
    let parts = futures::stream::unfold(receiver, |mut receiver| async move {
        let part = receiver.recv().await?;
        Some((part, receiver))
    });
    (parts.boxed(), problems)
}

fn push<R: Read>(
    lines: &mut Lines<R>,
    sender: &mpsc::Sender<SubmitPart>,
    progress: &ProgressBar,
) -> Result<(), Vec<Defect>> {
    let mut chunks = Chunks::default();
    let mut count = 0_u32;
    let send = |chunk: Option<Vec<sheaf_model::Item>>| match chunk {
        Some(chunk) => {
            let more = chunk.len() as u64;
            let taken = sender.blocking_send(SubmitPart::Items(chunk)).is_ok();
            progress.inc(more);
            taken
        }
        None => true,
    };
    while let Some(item) = lines.next() {
        let chunk = chunks.push(item?);
        count = count.saturating_add(1);
        // Nobody takes it any more once the submit has failed.
        if !send(chunk) {
            return Ok(());
        }
    }
    if send(chunks.rest()) {
        let _ = sender.blocking_send(SubmitPart::Done { count });
    }
    Ok(())
}

fn bar(spec: &JobSpec, count: Option<u32>) -> ProgressBar {
    let (bar, template) = match count {
        Some(count) => {
            let template = "{msg} [{bar:30}] {human_pos}/{human_len} items {per_sec} {eta}";
            (ProgressBar::new(count.into()), template)
        }
        None => (ProgressBar::no_length(), "{msg} {spinner} {human_pos} items {per_sec}"),
    };
    let style = ProgressStyle::with_template(template).expect("a template of known names");
    let bar = bar.with_style(style);
    bar.set_message(format!("submitting {}", spec.name));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
