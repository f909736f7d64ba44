//! The end of the log, looked at before it is opened.
//!
//! A crash leaves a record that does not end, and `raft-log` cuts it off. It takes for one whatever would end behind the end of
//! the newest file: also a record in the middle whose length is damaged. All that follows would go with it, votes and
//! acknowledged entries. Those give it away: nothing is written behind a record that does not end.
//!
//! A loss of power may also leave a file of its new size of which the last blocks were never written: ext4 sets the size while
//! they are on their way, and they read as zeros. Where these begin within a record, `raft-log` takes it for damaged and opens
//! nothing, so it is cut off here.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use raft_log::RaftLogRecord;
use raft_log::codeq::Decode as _;

use super::LogTypes;

/// Of a write that is interrupted, so many bytes are there or are not, at the least.
const SECTOR: usize = 512;
/// No vote is longer as it is written.
const VOTE_MAX: usize = 64;

/// What is cut off when the log is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    file: PathBuf,
    bytes: usize,
}

/// For people.
impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, bytes) = (self.file.display(), self.bytes);
        write!(
            f,
            "{file} ends within a record: its last {bytes} bytes are cut off. So a crash leaves what was being written and not \
             yet promised to anybody"
        )
    }
}

/// What opening the log in `dir` will cut off, or what was cut off here for it, the newest first. To be called by who has the log
/// to itself.
///
/// # Errors
/// A record is damaged that would be taken for the last one, or the files cannot be read or cut.
pub(super) fn look(dir: &Path) -> io::Result<Vec<Cut>> {
    let mut files = Vec::new();
    for file in fs::read_dir(dir)? {
        files.push(file?.path());
    }
    files.retain(|path| path.extension().is_some_and(|end| end == "wal"));
    files.sort(); // their names are where they begin, with leading zeros
    let mut cuts = Vec::new();
    while let Some(file) = files.pop() {
        let bytes = fs::read(&file)?;
        let Some((start, error)) = first_broken(&bytes) else {
            // A file that was just begun is nothing yet.
            if bytes.is_empty() {
                continue;
            }
            break;
        };
        let tail = &bytes[start..];
        let is_cut_off = error.kind() == io::ErrorKind::UnexpectedEof;
        if is_cut_off && let Some(behind) = next_whole(tail) {
            let why = format!(
                "the record at byte {start} of {} has no end, yet a whole one follows at byte {}",
                file.display(),
                start + behind
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if !is_cut_off && tail.iter().any(|byte| *byte != 0) {
            if !goes_on_unwritten(start, tail) || next_whole(tail).is_some() {
                break; // no end of a log, and opening it says so
            }
            cut(&file, start)?;
        }
        cuts.push(Cut { file, bytes: tail.len() });
        // With its first record gone a file goes, and the one before is the newest.
        if start > 0 {
            break;
        }
    }
    Ok(cuts)
}

/// Where the first record begins that cannot be read, and why not.
fn first_broken(bytes: &[u8]) -> Option<(usize, io::Error)> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = bytes.len() - rest.len();
        if let Err(error) = RaftLogRecord::<LogTypes>::decode(&mut rest) {
            return Some((start, error));
        }
    }
    None
}

/// Whether the record that begins there, at `start` of its file, does not end before the zeros begin that no write has replaced.
fn goes_on_unwritten(start: usize, tail: &[u8]) -> bool {
    let written = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let there = (start + written).next_multiple_of(SECTOR) - start;
    let has_no_end = |bytes: &[u8]| {
        let read = RaftLogRecord::<LogTypes>::decode(bytes);
        read.is_err_and(|error| error.kind() == io::ErrorKind::UnexpectedEof)
    };
    there < tail.len() && has_no_end(&tail[..there])
}

fn cut(file: &Path, at: usize) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).open(file)?;
    file.set_len(at as u64)?;
    file.sync_all()
}

/// Where behind its first byte a record begins that is whole.
fn next_whole(tail: &[u8]) -> Option<usize> {
    (1..tail.len()).find(|from| begins_whole(&tail[*from..]))
}

/// Whether a vote, an entry or what is said of entries stands there, with its checksum.
fn begins_whole(bytes: &[u8]) -> bool {
    // Nearly nowhere, and mostly a glance tells: a kind, and a length that fits. Without the latter all that follows would be read
    // from each of the many places of a program's code where one could stand.
    let length_at = match bytes.first_chunk::<4>() {
        Some([0, 0, 0, 0]) => Some((4, VOTE_MAX)),
        Some([0, 0, 0, 1]) => Some((20, bytes.len())),
        Some([0, 0, 0, 2..=4]) => None,
        _ => return false,
    };
    let fits = |(at, most): (usize, usize)| {
        let length =
            bytes.get(at..).and_then(|rest| rest.first_chunk::<4>().copied()).map(u32::from_be_bytes);
        length.is_some_and(|length| {
            let length = length as usize;
            length > 0 && length <= most && length < bytes.len() - at
        })
    };
    length_at.is_none_or(fits) && RaftLogRecord::<LogTypes>::decode(bytes).is_ok()
}
