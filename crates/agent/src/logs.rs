//! Reading what instances have written, over rotated files and while they write.

use std::path::Path;

use sheaf_model::Timestamp;

/// A line of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it was read from the program.
    pub at: Timestamp,
    /// Which stream it was written to.
    pub stream: Stream,
    /// Without its line end; bytes that are no UTF-8 are replaced. Lines over 16 KiB come in pieces.
    pub text: String,
}

/// The two streams of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Which lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Only so many of the last ones; none: all that are kept.
    pub tail: Option<usize>,
    /// Only those from this moment on.
    pub since: Option<Timestamp>,
    /// Only those of the run before the last start. Not to be followed.
    pub previous: bool,
}

/// A place in an instance's output from which lines are read in their order, in bounded memory.
#[derive(Debug)]
pub struct LogReader {}

impl LogReader {
    /// Finds the first line asked for in the output directory `dir`
    /// ([`crate::keepers::Keepers::output_dir`]). No output yet is no error. Blocks on the disk.
    pub fn open(_dir: &Path, _query: &LogQuery) -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// The next lines, at most 1000 or 1 MiB of them. Empty: there is no more now (ask again to follow, or use
    /// [`LogReader::follow`]). Blocks on the disk.
    pub fn batch(&mut self) -> std::io::Result<Vec<Line>> {
        Ok(Vec::new())
    }

    /// Waits for the next lines, for ever if need be. Dropping the future loses nothing.
    pub async fn follow(&mut self) -> std::io::Result<Vec<Line>> {
        self.batch()
    }
}
