//! Where answers go: data to stdout, talk to stderr, and what a terminal gets beyond that.

use std::ffi::OsStr;
use std::io::{self, BufWriter, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use serde_json::Value;
use sheaf_model::{Timestamp, document};

use crate::exit::Failure;

/// In which form an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON with the documented field names.
    Json,
    /// YAML; of a bucket, module, job, backend or sink the document, which can be applied again.
    Yaml,
    /// Names alone, one a line.
    Name,
}

impl Format {
    /// Whether it is meant for eyes.
    pub(crate) const fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// The three streams of the process, and what is known of the person in front of them.
pub struct Terminal {
    data: Box<dyn Write + Send>,
    talk: Box<dyn Write + Send>,
    input: Box<dyn Read + Send>,
    /// Stdin and stderr are a terminal: a question can be asked.
    asks: bool,
    /// Stderr is a terminal: progress may be shown.
    progress: bool,
    /// Stdout is a terminal and colour is wanted.
    colour: bool,
    width: usize,
    clock: fn() -> Timestamp,
}

impl Terminal {
    /// The streams of this process. Colour only on a terminal and unless `NO_COLOR` is set.
    pub fn of_process() -> Self {
        let set = |name: &str| std::env::var_os(name);
        let plain = is_plain(set("NO_COLOR").as_deref(), set("TERM").as_deref());
        let width = terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0));
        Self {
            data: Box::new(BufWriter::new(io::stdout())),
            talk: Box::new(io::stderr()),
            input: Box::new(io::stdin()),
            asks: io::stdin().is_terminal() && io::stderr().is_terminal(),
            progress: io::stderr().is_terminal(),
            colour: io::stdout().is_terminal() && !plain,
            width: width.max(40),
            clock: || Timestamp::from_system(std::time::SystemTime::now()),
        }
    }

    /// Now, for relative times.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Whether words may be coloured on stdout.
    pub(crate) const fn colour(&self) -> bool {
        self.colour
    }

    /// Whether progress may be drawn on stderr.
    pub(crate) const fn progress(&self) -> bool {
        self.progress
    }

    /// Columns there are; 80 where there is no terminal.
    pub(crate) const fn width(&self) -> usize {
        self.width
    }

    /// Writes data as it is.
    pub(crate) fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.data.write_all(text.as_bytes()).map_err(stdout)
    }

    /// Writes a line of data.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.write(text)?;
        self.write("\n")
    }

    /// Makes what was written visible; at the end, and after each line of what is followed.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.data.flush().map_err(stdout)
    }

    /// Says something to the person, after the data that came before it. A stderr that is gone is no reason to stop;
    /// data that cannot be written is noticed when the next of it is.
    pub(crate) fn say(&mut self, text: &str) {
        let _ = self.data.flush();
        let _ = writeln!(self.talk, "{text}");
    }

    /// One object as pretty JSON.
    pub(crate) fn json(&mut self, value: &Value) -> Result<(), Failure> {
        self.line(&format!("{value:#}"))
    }

    /// One value as YAML.
    pub(crate) fn yaml(&mut self, value: &Value) -> Result<(), Failure> {
        self.documents(&document::yaml(value))
    }

    /// A text of YAML that ends its last line.
    pub(crate) fn documents(&mut self, text: &str) -> Result<(), Failure> {
        self.line(text.trim_end_matches('\n'))
    }

    /// Asks before something is gone. Where nobody can be asked the answer is yes: a script has said what it wants.
    pub(crate) fn confirm(&mut self, question: &str) -> bool {
        if !self.asks {
            return true;
        }
        let _ = write!(self.talk, "{question} [y/N] ");
        let _ = self.talk.flush();
        matches!(self.answer().trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }

    /// Whether there is somebody who can be asked.
    pub(crate) const fn asks(&self) -> bool {
        self.asks
    }

    /// Asks for a line of at most `limit` bytes that is not shown as it is typed; none: given up with Ctrl-C.
    pub(crate) fn ask_unseen(&mut self, question: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let _ = self.data.flush();
        let _ = write!(self.talk, "{question}: ");
        let _ = self.talk.flush();
        let unseen = Unseen::begin();
        let mut bytes = Vec::new();
        let mut byte = [0];
        while bytes.len() < limit && self.input.read(&mut byte)? == 1 && byte != *b"\n" {
            if byte == [INTERRUPT] {
                bytes.clear();
                break;
            }
            bytes.push(byte[0]);
        }
        drop(unseen);
        let _ = writeln!(self.talk);
        Ok((byte != [INTERRUPT]).then_some(bytes))
    }

    /// One line of input; read byte by byte, so that nothing after it is taken.
    fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while bytes.len() < 80 && matches!(self.input.read(&mut byte), Ok(1)) && byte != *b"\n" {
            bytes.push(byte[0]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stdin itself, to be read elsewhere; from then on there is nothing in ours.
    pub(crate) fn take_input(&mut self) -> Box<dyn Read + Send> {
        std::mem::replace(&mut self.input, Box::new(io::empty()))
    }

    /// All of stdin, at most `limit` bytes.
    pub(crate) fn input(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (&mut self.input).take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Whether no colour is wanted: `NO_COLOR` is set to anything but nothing, or the terminal knows none.
fn is_plain(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_some_and(|value| !value.is_empty()) || term.is_some_and(|value| value == "dumb")
}

/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// What is typed at the terminal is not shown, for as long as it is held. Ctrl-C is a character then, which ends the line: a
/// signal would leave the terminal as it is.
struct Unseen(Termios);

impl Unseen {
    /// None: stdin is no terminal.
    fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        unseen.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen).ok()?;
        Some(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

fn stdout(source: io::Error) -> Failure {
    Failure::Write { what: "the answer".to_owned(), source }
}

/// A terminal that tests read from.
#[cfg(test)]
pub(crate) mod recorded {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// 2026-01-10T12:00:00Z, the time in every test.
    pub(crate) const NOW: Timestamp = Timestamp(1_768_046_400_000);

    #[derive(Clone, Default)]
    struct Tape(Arc<Mutex<Vec<u8>>>);

    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Tape {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// What was written.
    pub(crate) struct Recording {
        data: Tape,
        talk: Tape,
    }

    impl Recording {
        pub(crate) fn data(&self) -> String {
            self.data.text()
        }

        pub(crate) fn talk(&self) -> String {
            self.talk.text()
        }
    }

    /// A terminal of 80 columns without colour whose input is `input`; questions are asked if there is any.
    pub(crate) fn terminal(input: &str) -> (Terminal, Recording) {
        let (data, talk) = (Tape::default(), Tape::default());
        let terminal = Terminal {
            data: Box::new(data.clone()),
            talk: Box::new(talk.clone()),
            input: Box::new(io::Cursor::new(input.to_owned().into_bytes())),
            asks: !input.is_empty(),
            progress: false,
            colour: false,
            width: 80,
            clock: || NOW,
        };
        (terminal, Recording { data, talk })
    }

    /// A pipe whose reader has left.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    impl Terminal {
        pub(crate) fn closed(mut self) -> Self {
            self.data = Box::new(Closed);
            self
        }

        pub(crate) fn coloured(mut self) -> Self {
            self.colour = true;
            self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_on_a_terminal_only() {
        let (mut terminal, recording) = recorded::terminal("n\n");
        assert!(!terminal.confirm("delete /logs/web?"));
        assert_eq!(recording.talk(), "delete /logs/web? [y/N] ");
        assert!(recorded::terminal("Yes\n").0.confirm("delete?"));
        assert!(!recorded::terminal("\n").0.confirm("delete?"));
        let (mut script, recording) = recorded::terminal("");
        assert!(script.confirm("delete?"));
        assert_eq!(recording.talk(), "");
    }

    #[test]
    fn no_color_is_honoured() {
        let plain = |no_color: Option<&str>, term: Option<&str>| {
            is_plain(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(!plain(None, None) && !plain(None, Some("xterm")) && !plain(Some(""), Some("xterm")));
        assert!(plain(Some("1"), Some("xterm")) && plain(Some("0"), None) && plain(None, Some("dumb")));
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let closed = stdout(io::ErrorKind::BrokenPipe.into());
        let full = stdout(io::ErrorKind::StorageFull.into());
        assert!(closed.is_closed_pipe() && !full.is_closed_pipe());
    }
}
