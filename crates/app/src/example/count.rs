//! `sheaf example count`: an analytic over what was collected, the work of one node.
//!
//! It counts only what came since it last looked: a checkpoint keeps how far it has read and what it has counted. The
//! checkpoint lies beside the report, not in the instance's directory, so another node that takes over goes on from it.
//! The epoch goes into it too, and fences: who finds a higher epoch there than its own has been replaced, and ends.

mod checkpoint;
mod report;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};

use super::source::read_full;
use super::{Pace, durable, duration, pause, several};
use checkpoint::{Checkpoint, Reading};

/// Bytes read at a time; a longer line counts as several.
const CHUNK: usize = 1 << 20;
/// So many bytes before the offset are remembered, to notice that a file was written anew.
const BEFORE: usize = 32;

/// `sheaf example count`
#[derive(clap::Args, Debug)]
pub(crate) struct Count {
    /// The directory of what was collected, one .log file for each node
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The report
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
    /// The checkpoint [default: beside the report, ending in .state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How often to look for what is new
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    every: Duration,
}

/// Counts until it is ended.
pub(super) fn run(count: &Count) -> anyhow::Result<()> {
    let who = Who::of_environment();
    let mut counter = Counter::open(count, who)?;
    let mut say = Pace::new(Duration::from_secs(10));
    let mut unsaid = 0;
    loop {
        let lines = counter.round()?;
        unsaid += lines;
        if unsaid > 0 && say.due() {
            let all = counter.checkpoint.lines();
            let said = several(unsaid, "new line");
            writeln!(io::stdout(), "{said}, {all} in all; the report is {}", counter.into.display())?;
            unsaid = 0;
        }
        if lines == 0 {
            pause(count.every);
        }
    }
}

/// Who counts, for the report and against others.
#[derive(Clone, Debug, Default)]
struct Who {
    node: String,
    /// None when run by hand.
    epoch: Option<u64>,
}

impl Who {
    fn of_environment() -> Self {
        let node = std::env::var("SHEAF_NODE").unwrap_or_else(|_| "no node".to_owned());
        let epoch = std::env::var("SHEAF_EPOCH").ok().and_then(|epoch| epoch.parse().ok());
        Self { node, epoch }
    }
}

struct Counter {
    from: PathBuf,
    into: PathBuf,
    state: PathBuf,
    who: Who,
    checkpoint: Checkpoint,
}

impl Counter {
    fn open(count: &Count, who: Who) -> anyhow::Result<Self> {
        let into = std::path::absolute(&count.into)?;
        let state = count.state.clone().unwrap_or_else(|| {
            let mut path = into.clone().into_os_string();
            path.push(".state");
            path.into()
        });
        for path in [&into, &state] {
            durable::make_room(path).with_context(|| format!("make the directory of {}", path.display()))?;
        }
        let text = durable::text(&state).with_context(|| format!("read {}", state.display()))?;
        let mut checkpoint = match text {
            Some(text) => {
                Checkpoint::read(&text).with_context(|| format!("{} is damaged", state.display()))?
            }
            None => Checkpoint::default(),
        };
        fence(&who, checkpoint.epoch)?;
        let before = match checkpoint.lines() {
            0 => "nothing was counted before".to_owned(),
            lines => format!("{} counted before, under epoch {}", several(lines, "line"), checkpoint.epoch),
        };
        writeln!(io::stdout(), "counting what comes into {}; {before}", count.from.display())?;
        checkpoint.epoch = who.epoch.unwrap_or(checkpoint.epoch);
        let mut counter = Self { from: count.from.clone(), into, state, who, checkpoint };
        // Whoever was here before finds the new epoch at once.
        counter.keep()?;
        Ok(counter)
    }

    /// Counts what is new and writes checkpoint and report if there was any; says how many lines.
    fn round(&mut self) -> anyhow::Result<u64> {
        let mut lines = 0;
        for path in collected(&self.from) {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace(['\n', '\t'], "?");
            let reading = self.checkpoint.readings.entry(name).or_default();
            lines += advance(&path, reading).with_context(|| format!("read {}", path.display()))?;
        }
        if lines > 0 {
            self.keep()?;
        }
        Ok(lines)
    }

    fn keep(&mut self) -> anyhow::Result<()> {
        let text = durable::text(&self.state).with_context(|| format!("read {}", self.state.display()))?;
        fence(&self.who, text.as_deref().map_or(0, Checkpoint::epoch_of))?;
        let kept = durable::replace(&self.state, self.checkpoint.write().as_bytes());
        kept.with_context(|| format!("write {}", self.state.display()))?;
        let now = sheaf_model::Timestamp::from_system(std::time::SystemTime::now());
        let report = report::text(&self.checkpoint, &self.who.node, &now.to_string());
        durable::replace(&self.into, report.as_bytes())
            .with_context(|| format!("write {}", self.into.display()))
    }
}

/// Ends what another epoch has replaced.
fn fence(who: &Who, found: u64) -> anyhow::Result<()> {
    match who.epoch {
        Some(own) if own < found => {
            bail!("epoch {own} on {} is over: epoch {found} has taken over", who.node)
        }
        _ => Ok(()),
    }
}

/// The files to count, in the order of their names.
fn collected(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "log") && path.is_file());
    files.sort();
    files
}

/// Counts what is new in a file. One that was written anew is counted anew.
fn advance(path: &Path, reading: &mut Reading) -> io::Result<u64> {
    let file = File::open(path)?;
    if !goes_on(&file, reading)? {
        *reading = Reading::default();
    }
    let mut counted = 0;
    loop {
        let mut chunk = vec![0; CHUNK];
        let length = read_full(&file, &mut chunk, reading.offset)?;
        chunk.truncate(length);
        let whole = match chunk.iter().rposition(|&byte| byte == b'\n') {
            Some(last) => last + 1,
            None if length == CHUNK => length,
            None => return Ok(counted),
        };
        for line in chunk[..whole].split_inclusive(|&byte| byte == b'\n') {
            reading.line(line);
            counted += 1;
        }
        reading.offset += whole as u64;
        let before = chunk[..whole].len().min(BEFORE);
        reading.before = chunk[whole - before..whole].to_vec();
    }
}

/// Whether the file still is what was read of it.
fn goes_on(file: &File, reading: &Reading) -> io::Result<bool> {
    let mut before = vec![0; reading.before.len()];
    let Some(start) = reading.offset.checked_sub(before.len() as u64) else { return Ok(false) };
    let length = read_full(file, &mut before, start)?;
    Ok(length == before.len() && before == reading.before)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            fs::create_dir(directory.path().join("in")).expect("made");
            Self { directory }
        }

        fn node(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join("in").join(name), text).expect("written");
        }

        fn counter(&self, epoch: u64) -> anyhow::Result<Counter> {
            let count = Count {
                from: self.directory.path().join("in"),
                into: self.directory.path().join("out/report.txt"),
                state: None,
                every: Duration::from_secs(1),
            };
            Counter::open(&count, Who { node: "work-01".to_owned(), epoch: Some(epoch) })
        }

        fn report(&self) -> String {
            fs::read_to_string(self.directory.path().join("out/report.txt")).expect("there is a report")
        }
    }

    #[test]
    fn only_what_is_new_is_counted_also_by_the_next_node() {
        let place = Place::new();
        place.node("import-01.log", "/a.log\tone\n/b.log\ttwo three\n/a.log\thal");
        let mut first = place.counter(7).expect("opened");
        assert_eq!(first.round().expect("a round"), 2);
        assert_eq!(first.round().expect("a round"), 0);
        place.node("import-01.log", "/a.log\tone\n/b.log\ttwo three\n/a.log\thalf\n");
        place.node("import-02.log", "/a.log\tfour\n");
        let mut second = place.counter(9).expect("opened");
        assert_eq!(second.round().expect("a round"), 2);
        assert_eq!(second.checkpoint.lines(), 4);
        assert!(place.report().contains("under epoch 9"), "{}", place.report());
    }

    #[test]
    fn a_former_epoch_is_fenced() {
        let place = Place::new();
        place.node("a.log", "/a\tone\n");
        let mut former = place.counter(7).expect("opened");
        let _later = place.counter(9).expect("opened");
        let error = former.round().expect_err("it was replaced").to_string();
        assert_eq!(error, "epoch 7 on work-01 is over: epoch 9 has taken over");
        assert!(place.counter(8).is_err());
        assert!(place.counter(9).is_ok(), "a restart under the same epoch goes on");
    }

    #[test]
    fn a_file_written_anew_is_counted_anew() {
        let place = Place::new();
        place.node("a.log", "/a\tone\n/a\ttwo\n");
        let mut counter = place.counter(1).expect("opened");
        counter.round().expect("a round");
        for other in ["/a\tone\n", "/a\tanother\n/a\tand longer than before\n"] {
            place.node("a.log", other);
            counter.round().expect("a round");
            assert_eq!(counter.checkpoint.lines(), other.lines().count() as u64);
        }
    }
}
