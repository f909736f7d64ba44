//! `sheaf example collect`: follows log files and appends what is new to one file.
//!
//! A round reads what is new of every file, appends it to the output, each line after the path it comes from, and
//! syncs it; then it puts the offsets reached into the state file, with the length that the output has by now. Ended in
//! between, it finds more output than the state knows of, cuts that off and reads it again: nothing twice, nothing lost.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::source::{Mark, Source, is_log};
use super::{Pace, durable, duration, pause, several, size};

/// Bytes read of one file in a round, so that no file keeps the others waiting.
const ROUND: usize = 4 << 20;
/// First line of the state file.
const HEAD: &str = "sheaf collect 1";

/// `sheaf example collect`
#[derive(clap::Args, Debug)]
pub(crate) struct Collect {
    /// A log file, or a directory whose log files are followed; may be given more than once
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    from: Vec<PathBuf>,
    /// The file to append to
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
    /// Where offsets are kept [default: beside the output, ending in .state]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// How often to look for what is new
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "DURATION")]
    every: Duration,
}

/// Collects until it is ended.
pub(super) fn run(collect: &Collect) -> anyhow::Result<()> {
    let mut collector = Collector::open(collect)?;
    let mut find = Pace::new(Duration::from_secs(5));
    let mut say = Pace::new(Duration::from_secs(10));
    let mut unsaid = Round::default();
    loop {
        if find.due() {
            collector.find()?;
        }
        let round = collector.round()?;
        unsaid.add(&round);
        if unsaid.lines > 0 && say.due() {
            writeln!(
                io::stdout(),
                "{} ({}) from {}; {} in {}",
                several(unsaid.lines, "new line"),
                size(unsaid.bytes),
                several(unsaid.files.len() as u64, "file"),
                size(collector.length),
                collect.into.display()
            )?;
            unsaid = Round::default();
        }
        if round.lines == 0 {
            pause(collect.every);
        }
    }
}

/// What a round brought.
#[derive(Debug, Default)]
struct Round {
    lines: u64,
    bytes: u64,
    files: std::collections::BTreeSet<PathBuf>,
}

impl Round {
    fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.bytes += other.bytes;
        self.files.extend(other.files.iter().cloned());
    }
}

/// The files followed and the file they go into.
struct Collector {
    from: Vec<PathBuf>,
    into: PathBuf,
    state: PathBuf,
    output: File,
    /// Length of the output, all of it accounted for in the state.
    length: u64,
    /// What earlier runs have read, also of files that are not there now.
    marks: BTreeMap<PathBuf, Vec<Mark>>,
    sources: BTreeMap<PathBuf, Source>,
    /// Files that could not be read, each said once.
    refused: BTreeMap<PathBuf, String>,
}

impl Collector {
    fn open(collect: &Collect) -> anyhow::Result<Self> {
        let into = std::path::absolute(&collect.into)?;
        let state = collect.state.clone().unwrap_or_else(|| {
            let mut path = into.clone().into_os_string();
            path.push(".state");
            path.into()
        });
        let state = std::path::absolute(state)?;
        for path in [&into, &state] {
            durable::make_room(path).with_context(|| format!("make the directory of {}", path.display()))?;
        }
        let text = durable::text(&state).with_context(|| format!("read {}", state.display()))?;
        let (known, marks) = match text {
            Some(text) => read_state(&text).with_context(|| format!("{} is damaged", state.display()))?,
            None => (0, BTreeMap::new()),
        };
        let output = OpenOptions::new().create(true).append(true).mode(0o600).open(&into);
        let output = output.with_context(|| format!("open {}", into.display()))?;
        let found = output.metadata()?.len();
        if found > known {
            output.set_len(known).with_context(|| format!("shorten {}", into.display()))?;
        }
        let (sources, refused) = (BTreeMap::new(), BTreeMap::new());
        let length = found.min(known);
        Ok(Self { from: collect.from.clone(), into, state, output, length, marks, sources, refused })
    }

    /// Looks for files that were not there before.
    fn find(&mut self) -> anyhow::Result<()> {
        let same = |found: fs::Metadata| self.output.metadata().is_ok_and(|own| own.ino() == found.ino());
        if !fs::metadata(&self.into).is_ok_and(same) {
            bail!("{} was removed or replaced; it is begun anew after a restart", self.into.display());
        }
        let mut found = Vec::new();
        for path in &self.from {
            let path = std::path::absolute(path)?;
            if path.is_dir() {
                found.extend(logs_in(&path));
            } else {
                found.push(path);
            }
        }
        for path in found {
            if self.sources.contains_key(&path) || path == self.into || path == self.state {
                continue;
            }
            let marks = self.marks.get(&path).map_or(&[][..], Vec::as_slice);
            match Source::open(&path, marks, Instant::now()) {
                Ok(source) => {
                    let offset = source.marks().first().map_or(0, |mark| mark.offset);
                    writeln!(io::stdout(), "following {} from byte {offset}", path.display())?;
                    self.refused.remove(&path);
                    self.sources.insert(path, source);
                }
                Err(error) => self.refuse(&path, &error)?,
            }
        }
        Ok(())
    }

    /// Says once that a file cannot be read; it is tried again.
    fn refuse(&mut self, path: &Path, error: &io::Error) -> anyhow::Result<()> {
        let why = error.to_string();
        if self.refused.get(path) != Some(&why) {
            writeln!(io::stderr(), "cannot read {}: {why}", path.display())?;
            self.refused.insert(path.to_owned(), why);
        }
        Ok(())
    }

    /// Reads what is new of every file and has it on disk when this returns.
    fn round(&mut self) -> anyhow::Result<Round> {
        let mut round = Round::default();
        let mut failed = Vec::new();
        for (path, source) in &mut self.sources {
            let mut read = 0;
            while read < ROUND {
                let lines = match source.read(Instant::now()) {
                    Ok(lines) if lines.is_empty() => break,
                    Ok(lines) => lines,
                    Err(error) => {
                        failed.push((path.clone(), error));
                        break;
                    }
                };
                read += lines.len();
                let (labelled, number) = labelled(path, &lines);
                let written = self.output.write_all(&labelled);
                written.with_context(|| format!("append to {}", self.into.display()))?;
                self.length += labelled.len() as u64;
                round.lines += number;
                round.bytes += lines.len() as u64;
                round.files.insert(path.clone());
            }
            self.marks.insert(path.clone(), source.marks());
        }
        for (path, error) in failed {
            self.sources.remove(&path);
            self.refuse(&path, &error)?;
        }
        if round.lines > 0 {
            self.output.sync_data().with_context(|| format!("sync {}", self.into.display()))?;
            let text = write_state(self.length, &self.marks);
            let kept = durable::replace(&self.state, text.as_bytes());
            kept.with_context(|| format!("write {}", self.state.display()))?;
        }
        Ok(round)
    }
}

/// The log files directly in a directory, in the order of their names.
fn logs_in(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_log(path)).collect();
    files.sort();
    files
}

/// Each line after the path that it comes from and a tab; and how many there are.
fn labelled(path: &Path, lines: &[u8]) -> (Vec<u8>, u64) {
    let label = path.to_string_lossy().replace(['\n', '\t'], "?");
    let mut text = Vec::with_capacity(lines.len() * 2);
    let mut number = 0;
    for line in lines.split_inclusive(|&byte| byte == b'\n') {
        text.extend_from_slice(label.as_bytes());
        text.push(b'\t');
        text.extend_from_slice(line);
        number += 1;
    }
    (text, number)
}

/// The state file: the output's length, then a line for each file with device, inode, offset and path. Files that were put
/// aside have the path that they had, and come before the one that has it.
fn write_state(length: u64, marks: &BTreeMap<PathBuf, Vec<Mark>>) -> String {
    let mut text = format!("{HEAD}\noutput {length}\n");
    for (path, marks) in marks {
        // A path that is no line of text is not remembered: it is read from its end part again after a restart.
        let Some(path) = path.to_str().filter(|path| !path.contains('\n')) else { continue };
        for Mark { device, inode, offset } in marks {
            text.push_str(&format!("file {device} {inode} {offset} {path}\n"));
        }
    }
    text
}

fn read_state(text: &str) -> anyhow::Result<(u64, BTreeMap<PathBuf, Vec<Mark>>)> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        bail!("its first line is not {HEAD:?}; remove it to begin anew");
    }
    let (mut length, mut marks) = (0, BTreeMap::<PathBuf, Vec<Mark>>::new());
    for line in lines {
        let mut words = line.splitn(5, ' ');
        match words.next() {
            Some("output") => length = number(words.next(), line)?,
            Some("file") => {
                let device = number(words.next(), line)?;
                let inode = number(words.next(), line)?;
                let offset = number(words.next(), line)?;
                let path = words.next().with_context(|| format!("line {line:?} names no file"))?;
                marks.entry(PathBuf::from(path)).or_default().push(Mark { device, inode, offset });
            }
            _ => bail!("line {line:?} is none of its lines; remove it to begin anew"),
        }
    }
    Ok((length, marks))
}

fn number(word: Option<&str>, line: &str) -> anyhow::Result<u64> {
    word.and_then(|word| word.parse().ok()).with_context(|| format!("line {line:?} lacks a number"))
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
            fs::create_dir(directory.path().join("log")).expect("made");
            Self { directory }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn log(&self, name: &str, text: &str) {
            let path = self.path("log").join(name);
            let mut file = OpenOptions::new().create(true).append(true).open(path).expect("opened");
            file.write_all(text.as_bytes()).expect("written");
        }

        fn collector(&self) -> Collector {
            let collect = Collect {
                from: vec![self.path("log"), self.path("log/extra.txt")],
                into: self.path("out/node.log"),
                state: None,
                every: Duration::from_secs(1),
            };
            let mut collector = Collector::open(&collect).expect("opened");
            collector.find().expect("found");
            collector
        }

        /// The output, with the directory left out of it.
        fn output(&self) -> String {
            let text = fs::read_to_string(self.path("out/node.log")).expect("there is output");
            text.replace(&format!("{}/", self.path("log").display()), "")
        }
    }

    #[test]
    fn what_is_new_is_appended_with_its_path() {
        let place = Place::new();
        place.log("a.log", "one\n");
        place.log("extra.txt", "named\n");
        place.log("other.txt", "not named\n");
        let mut collector = place.collector();
        assert_eq!(collector.round().expect("a round").lines, 2);
        assert_eq!(collector.round().expect("a round").lines, 0);
        place.log("a.log", "two\nthree\n");
        place.log("b.log", "four\n");
        collector.find().expect("found");
        assert_eq!(collector.round().expect("a round").lines, 3);
        assert_eq!(place.output(), "a.log\tone\nextra.txt\tnamed\na.log\ttwo\na.log\tthree\nb.log\tfour\n");
    }

    #[test]
    fn a_restart_goes_on_where_it_was() {
        let place = Place::new();
        place.log("a.log", "one\n");
        place.collector().round().expect("a round");
        place.log("a.log", "two\n");
        place.collector().round().expect("a round");
        assert_eq!(place.output(), "a.log\tone\na.log\ttwo\n");
    }

    #[test]
    fn a_file_that_was_put_aside_is_known_over_a_restart() {
        let place = Place::new();
        place.log("a.log", "one\n");
        let mut collector = place.collector();
        collector.round().expect("a round");
        fs::rename(place.path("log/a.log"), place.path("log/a.log.1")).expect("renamed");
        place.log("a.log", "two\n");
        collector.round().expect("a round");
        // Its writer was told late.
        place.log("a.log.1", "three\n");
        collector.round().expect("a round");
        drop(collector);
        place.log("a.log.1", "four\n");
        place.log("a.log", "five\n");
        place.collector().round().expect("a round");
        let lines = ["one", "two", "three", "four", "five"].map(|word| format!("a.log\t{word}\n"));
        assert_eq!(place.output(), lines.concat());
    }

    #[test]
    fn what_was_appended_and_not_accounted_for_is_read_again() {
        let place = Place::new();
        place.log("a.log", "one\n");
        let mut collector = place.collector();
        collector.round().expect("a round");
        let before = fs::read(place.path("out/node.log.state")).expect("a state");
        place.log("a.log", "two\n");
        collector.round().expect("a round");
        // As if it had been killed between the output and the state, in the middle of a line.
        fs::write(place.path("out/node.log.state"), before).expect("written");
        let mut output = OpenOptions::new().append(true).open(place.path("out/node.log")).expect("opened");
        output.write_all(b"a.log\tha").expect("written");
        place.collector().round().expect("a round");
        assert_eq!(place.output(), "a.log\tone\na.log\ttwo\n");
    }

    #[test]
    fn an_output_that_was_removed_is_begun_anew() {
        let place = Place::new();
        place.log("a.log", "one\n");
        place.collector().round().expect("a round");
        fs::remove_file(place.path("out/node.log")).expect("removed");
        place.log("a.log", "two\n");
        place.collector().round().expect("a round");
        place.log("a.log", "three\n");
        place.collector().round().expect("a round");
        assert_eq!(place.output(), "a.log\ttwo\na.log\tthree\n");
    }

    #[test]
    fn the_state_reads_back() {
        let marks = [2, 3].map(|inode| Mark { device: 1, inode, offset: 3 });
        let marks = BTreeMap::from([(PathBuf::from("/var/log/with space.log"), marks.to_vec())]);
        assert_eq!(read_state(&write_state(7, &marks)).expect("read"), (7, marks));
        for bad in ["", "something else", "sheaf collect 1\nfile 1 2 3", "sheaf collect 1\nwhat"] {
            assert!(read_state(bad).is_err(), "{bad:?}");
        }
    }
}
