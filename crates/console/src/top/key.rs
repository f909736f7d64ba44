//! Keys: the bytes that a terminal sends, read into what was pressed.
//!
//! Bytes are waited for with a limit, and a terminal that is gone ends the reading; a library's loop would spin there.

use std::io::Stdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// Between looks whether the reading is to end.
const LOOK: Duration = Duration::from_millis(100);
/// After an escape without anything behind it: then it was the key.
const LONE: Duration = Duration::from_millis(30);
/// Longest sequence that is kept until it is whole.
const SEQUENCE: usize = 32;

/// What was pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// With the control key, in small letters.
    Control(char),
    Enter,
    Escape,
    Backspace,
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
}

/// Reads keys out of bytes, whole or in pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Not understood yet: the beginning of a sequence or of a letter.
    rest: Vec<u8>,
}

impl Decoder {
    /// The keys that are whole with these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.rest.extend_from_slice(bytes);
        let mut keys = Vec::new();
        while let Some((length, key)) = next(&self.rest) {
            self.rest.drain(..length);
            keys.extend(key);
        }
        keys
    }

    /// Whether something has begun that more bytes may end.
    pub(super) fn waits(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Nothing came after it: a lone escape was the key, everything else that has begun is nothing.
    pub(super) fn flush(&mut self) -> Option<Key> {
        let lone = self.rest == [0x1b];
        self.rest.clear();
        lone.then_some(Key::Escape)
    }
}

/// The first key, and how many bytes it takes; bytes that are no key are taken, too. None: not whole yet.
fn next(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let first = *bytes.first()?;
    match first {
        0x1b => sequence(bytes),
        b'\r' | b'\n' => Some((1, Some(Key::Enter))),
        b'\t' => Some((1, Some(Key::Tab))),
        0x08 | 0x7f => Some((1, Some(Key::Backspace))),
        0x01..=0x1a => Some((1, Some(Key::Control(char::from(first - 1 + b'a'))))),
        0x20..=0x7e => Some((1, Some(Key::Char(char::from(first))))),
        0xc2..=0xf4 => letter(bytes),
        _ => Some((1, None)),
    }
}

/// A letter of several bytes.
fn letter(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        _ => 4,
    };
    let have = &bytes[..bytes.len().min(length)];
    match std::str::from_utf8(have) {
        Ok(text) => Some((length, text.chars().next().map(Key::Char))),
        Err(error) if error.error_len().is_none() && have.len() < length => None,
        Err(_) => Some((1, None)),
    }
}

/// What begins with an escape.
fn sequence(bytes: &[u8]) -> Option<(usize, Option<Key>)> {
    match *bytes.get(1)? {
        b'[' => {
            let end = bytes.iter().skip(2).position(|byte| (0x40..=0x7e).contains(byte));
            match end {
                Some(end) => Some((end + 3, csi(&bytes[2..end + 2], bytes[end + 2]))),
                None if bytes.len() > SEQUENCE => Some((bytes.len(), None)),
                None => None,
            }
        }
        b'O' => bytes.get(2).map(|last| (3, csi(&[], *last))),
        // Twice: the first was the key, and so with a letter behind it.
        _ => Some((1, Some(Key::Escape))),
    }
}

fn csi(parameters: &[u8], last: u8) -> Option<Key> {
    let number = parameters.split(|byte| *byte == b';').next().unwrap_or_default();
    Some(match (number, last) {
        (_, b'A') => Key::Up,
        (_, b'B') => Key::Down,
        (_, b'C') => Key::Right,
        (_, b'D') => Key::Left,
        (_, b'H') | (b"1" | b"7", b'~') => Key::Home,
        (_, b'F') | (b"4" | b"8", b'~') => Key::End,
        (b"5", b'~') => Key::PageUp,
        (b"6", b'~') => Key::PageDown,
        (_, b'Z') => Key::BackTab,
        (_, b'M') => Key::Enter,
        _ => return None,
    })
}

/// Reads keys from the terminal on a thread of its own until told to stop; it ends the channel when the terminal is gone.
pub(super) fn read(input: &Stdin, keys: &mpsc::Sender<Key>, stop: &Arc<AtomicBool>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 256];
    while !stop.load(Ordering::Relaxed) && !keys.is_closed() {
        let patience = if decoder.waits() { LONE } else { LOOK };
        let found = match ready(input, patience) {
            Ok(true) => match rustix::io::read(input, &mut bytes) {
                Ok(0) => return,
                Ok(length) => decoder.feed(&bytes[..length]),
                Err(Errno::INTR | Errno::AGAIN) => continue,
                Err(_) => return,
            },
            Ok(false) => decoder.flush().into_iter().collect(),
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        for key in found {
            if keys.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

/// Whether there is something to read, or never will be.
fn ready(input: &Stdin, within: Duration) -> Result<bool, Errno> {
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(within.subsec_nanos()) };
    let mut waited = [PollFd::new(input, PollFlags::IN)];
    poll(&mut waited, Some(&limit)).map(|count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Decoder::default().feed(bytes)
    }

    #[test]
    fn keys_of_all_terminals_are_understood() {
        assert_eq!(keys(b"a1\r\x7f\x08\t"), {
            use Key::{Backspace, Char, Enter, Tab};
            [Char('a'), Char('1'), Enter, Backspace, Backspace, Tab]
        });
        assert_eq!(keys(b"\x03\x1a"), [Key::Control('c'), Key::Control('z')]);
        let moves = [Key::Up, Key::Down, Key::Right, Key::Left, Key::Home, Key::End];
        assert_eq!(keys(b"\x1b[A\x1b[B\x1b[C\x1b[D\x1b[H\x1b[F"), moves);
        assert_eq!(keys(b"\x1bOA\x1bOB\x1bOC\x1bOD\x1bOH\x1bOF"), moves);
        assert_eq!(keys(b"\x1b[1;5A\x1b[5~\x1b[6~\x1b[1~\x1b[8~\x1b[Z"), {
            [Key::Up, Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::BackTab]
        });
        assert_eq!(keys("ü日🚀".as_bytes()), ['ü', '日', '🚀'].map(Key::Char));
    }

    #[test]
    fn a_lone_escape_is_a_key_and_a_torn_sequence_is_put_together() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert!(decoder.waits());
        assert_eq!(decoder.flush(), Some(Key::Escape));
        assert_eq!(decoder.feed(b"\x1b"), []);
        assert_eq!(decoder.feed(b"["), []);
        assert_eq!(decoder.feed(b"5"), []);
        assert_eq!(decoder.feed(b"~"), [Key::PageUp]);
        assert_eq!(decoder.feed("日".as_bytes().split_at(1).0), []);
        assert_eq!(decoder.feed("日".as_bytes().split_at(1).1), [Key::Char('日')]);
        assert_eq!(decoder.feed(b"\x1b\x1b"), [Key::Escape]);
        assert_eq!(decoder.flush(), Some(Key::Escape));
        assert_eq!(decoder.feed(b"\x1bq"), [Key::Escape, Key::Char('q')]);
    }

    #[test]
    fn nonsense_is_swallowed() {
        assert_eq!(keys(b"\xff\xc2a\x00\x1b[99~\x1b[?1;2cb"), [Key::Char('a'), Key::Char('b')]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(&[b"\x1b[".as_slice(), &[b'1'; 100]].concat()), []);
        assert!(!decoder.waits(), "it does not grow without end");
    }
}
