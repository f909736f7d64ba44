//! Output that is followed, whatever becomes of the nodes meanwhile.
//!
//! ```text
//!  every second: nodes there are ──new, or broken off──► open, after the last line read ──► lines ──merged──► the caller
//!                                        ▲───────────── it ends ─────────────────────────────┘
//! ```
//!
//! A node that breaks off is opened again after its last line: no line comes twice and none is left out, as long as the
//! node keeps it. Of one that comes later everything is read that it printed since this began.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, stream};
use sheaf_model::{Contact, Timestamp};
use sheaf_wire::bucket::BucketLogs;
use sheaf_wire::logs::{LogLine, LogPlace, LogsOf};
use sheaf_wire::{Answers, ApiError};
use tokio::time::Instant;

use super::{BEGIN_WITHIN, Source, said, trouble};
use crate::Control;

/// How often nodes are listed anew, and how long one that broke off is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What comes of a node, with its name.
type Heard = (String, Word);

enum Word {
    /// Its output is being read.
    Opened,
    Line(LogLine),
    /// It is not read any more, and why. The last word of a stream.
    Ended(ApiError),
}

struct Followed {
    control: Control,
    ask: BucketLogs,
    /// When it began, by this node's clock.
    began: Timestamp,
    nodes: BTreeMap<String, Reading>,
    words: SelectAll<BoxStream<'static, Heard>>,
    look_at: Instant,
}

/// How far a node was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    /// A stream of it stands or is being opened.
    busy: bool,
    /// It was read once.
    was_open: bool,
    /// It was not there when this began.
    came_later: bool,
    /// Its last line; none: none was read.
    place: Option<LogPlace>,
    /// So many lines printed when that one was are to come that were read already.
    skip: u32,
    /// Whoever follows was told that it cannot be read.
    troubled: bool,
}

impl Reading {
    /// Of a node that was not there when this began.
    fn later() -> Self {
        Self { came_later: true, ..Self::default() }
    }

    /// What to ask it for now.
    fn next(&mut self, of: &LogsOf, began: Timestamp) -> LogsOf {
        self.busy = true;
        self.skip = self.place.as_ref().map_or(0, |place| place.lines);
        let late = Some(of.since.map_or(began, |since| since.max(began)));
        let (since, tail) = match &self.place {
            Some(place) => (Some(place.at), None),
            None if self.came_later => (late, None),
            // It had printed nothing that was asked for; all that it has now is new. Unless nothing old was asked for.
            None if self.was_open && of.tail != Some(0) => (of.since, None),
            None if self.was_open => (late, None),
            None => (of.since, of.tail),
        };
        LogsOf { since, tail, ..of.clone() }
    }

    /// Whether the line is new.
    fn takes(&mut self, line: &LogLine) -> bool {
        match &mut self.place {
            Some(place) if place.at == line.at && self.skip > 0 => {
                self.skip -= 1;
                return false;
            }
            Some(place) => place.read(line.at),
            None => self.place = Some(LogPlace::of(line)),
        }
        true
    }
}

impl Control {
    /// `lost`: names of nodes that cannot be read until they are back.
    pub(super) fn follow_logs(
        &self,
        sources: Vec<Source>,
        lost: Vec<String>,
        mut ask: BucketLogs,
    ) -> Answers<LogLine> {
        // Whoever goes on after a break knows.
        let told = if ask.after.is_empty() { self.told(&lost) } else { self.told(&[]) };
        let places = std::mem::take(&mut ask.after).into_iter();
        let known = |place: LogPlace| {
            let reading = Reading { was_open: true, place: Some(place.clone()), ..Reading::default() };
            (place.node, reading)
        };
        let mut nodes: BTreeMap<String, Reading> = places.map(known).collect();
        for name in lost {
            nodes.entry(name).or_insert_with(Reading::later).troubled = true;
        }
        let (began, look_at) = (self.clock.wall(), Instant::now() + LOOK_EVERY);
        let mut followed =
            Followed { control: self.clone(), ask, began, nodes, words: SelectAll::new(), look_at };
        followed.open(sources, false);
        let lines = stream::try_unfold(followed, |mut followed| async move {
            let line = followed.next().await?;
            Ok(Some((line, followed)))
        });
        told.chain(lines).boxed()
    }

    /// The output of one node, from its opening to its end.
    fn words_of(&self, source: Source, of: LogsOf) -> BoxStream<'static, Heard> {
        enum At {
            Closed(Contact),
            Open(Answers<LogLine>),
            Over,
        }
        let (control, name) = (self.clone(), source.name);
        let words = stream::unfold(At::Closed(source.contact), move |at| {
            let (control, of) = (control.clone(), of.clone());
            async move {
                match at {
                    At::Closed(contact) => match control.readers.logs(&contact, of, BEGIN_WITHIN).await {
                        Ok(lines) => Some((Word::Opened, At::Open(lines))),
                        Err(error) => Some((Word::Ended(error), At::Over)),
                    },
                    At::Open(mut lines) => match lines.next().await {
                        Some(Ok(line)) => Some((Word::Line(line), At::Open(lines))),
                        Some(Err(error)) => Some((Word::Ended(error), At::Over)),
                        None => {
                            let error = ApiError::unavailable("its agent has closed the stream");
                            Some((Word::Ended(error), At::Over))
                        }
                    },
                    At::Over => None,
                }
            }
        });
        words.map(move |word| (name.clone(), word)).boxed()
    }
}

impl Followed {
    async fn next(&mut self) -> Result<LogLine, ApiError> {
        loop {
            let heard = tokio::select! {
                // Dropping `next` loses nothing: a word is handed out whole or not at all.
                Some(heard) = self.words.next(), if !self.words.is_empty() => Some(heard),
                // It is only a time.
                () = tokio::time::sleep_until(self.look_at) => None,
            };
            match heard {
                Some((name, word)) => {
                    if let Some(line) = self.take(&name, word) {
                        return Ok(line);
                    }
                }
                None => self.look()?,
            }
        }
    }

    /// The line that follows from what a node said.
    fn take(&mut self, name: &str, word: Word) -> Option<LogLine> {
        let now = self.control.clock.wall();
        let reading = self.nodes.get_mut(name)?;
        match word {
            Word::Opened => {
                reading.was_open = true;
                let back = std::mem::take(&mut reading.troubled);
                back.then(|| said(name, now, "its output is read again".to_owned()))
            }
            Word::Line(line) => reading.takes(&line).then_some(line),
            Word::Ended(error) => {
                reading.busy = false;
                let quiet = matches!(error, ApiError::NotFound(_)) || reading.troubled;
                reading.troubled |= !quiet;
                (!quiet).then(|| trouble(name, now, &error.to_string()))
            }
        }
    }

    /// Lists the nodes anew.
    fn look(&mut self) -> Result<(), ApiError> {
        self.look_at = Instant::now() + LOOK_EVERY;
        match self.control.sources(&self.ask) {
            Ok(sources) => self.open(sources, true),
            // It is deleted; what it printed last may still come, and it may be registered again.
            Err(ApiError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Opens those of which no stream stands.
    fn open(&mut self, sources: Vec<Source>, came_later: bool) {
        for source in sources {
            let fresh = if came_later { Reading::later } else { Reading::default };
            let reading = self.nodes.entry(source.name.clone()).or_insert_with(fresh);
            if !reading.busy {
                let of = reading.next(&self.ask.of, self.began);
                self.words.push(self.control.words_of(source, of));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::BucketName;
    use sheaf_wire::logs::LogStream;

    use super::*;

    fn of(since: Option<u64>, tail: Option<u32>) -> LogsOf {
        let bucket = BucketName::new("/a").expect("a name");
        LogsOf { bucket, follow: true, since: since.map(Timestamp), tail, previous: false }
    }

    fn asked(reading: &mut Reading, of: &LogsOf) -> (Option<Timestamp>, Option<u32>) {
        let of = reading.next(of, Timestamp(100));
        (of.since, of.tail)
    }

    fn line(at: u64) -> LogLine {
        LogLine { node: "n1".to_owned(), at: Timestamp(at), stream: LogStream::Stdout, text: String::new() }
    }

    #[test]
    fn a_node_that_broke_off_goes_on_after_its_last_line() {
        let (mut reading, of) = (Reading::default(), of(Some(5), Some(3)));
        assert_eq!(asked(&mut reading, &of), (Some(Timestamp(5)), Some(3)));
        let first = [7, 8, 8].map(|at| reading.takes(&line(at)));
        assert_eq!(first, [true; 3]);
        assert_eq!(asked(&mut reading, &of), (Some(Timestamp(8)), None));
        // What it read comes again, and then what is new, of the same moment, too.
        let again = [8, 8, 8, 9].map(|at| reading.takes(&line(at)));
        assert_eq!(again, [false, false, true, true]);
        assert_eq!(asked(&mut reading, &of), (Some(Timestamp(9)), None));
        assert_eq!([9, 9].map(|at| reading.takes(&line(at))), [false, true]);
    }

    #[test]
    fn a_node_of_which_nothing_was_read_is_asked_for_what_is_new() {
        let silent = || Reading { was_open: true, ..Reading::default() };
        assert_eq!(asked(&mut silent(), &of(Some(5), Some(3))), (Some(Timestamp(5)), None), "it had nothing");
        assert_eq!(
            asked(&mut silent(), &of(None, Some(0))),
            (Some(Timestamp(100)), None),
            "or nothing wanted"
        );
        assert_eq!(asked(&mut Reading::default(), &of(None, Some(3))), (None, Some(3)), "not reached before");
        assert_eq!(asked(&mut Reading::later(), &of(None, Some(3))), (Some(Timestamp(100)), None));
        assert_eq!(asked(&mut Reading::later(), &of(Some(200), None)), (Some(Timestamp(200)), None));
    }
}
