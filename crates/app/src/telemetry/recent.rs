//! The last lines of the log, in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// What is kept, in bytes.
const KEPT: usize = 1 << 20;
/// A line feed in a quoted text.
const LINE_FEED: &str = "\\n";

/// Shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    /// Each ended by a line feed, oldest first.
    lines: VecDeque<Box<str>>,
    bytes: usize,
    /// Some were too many.
    cut: bool,
}

impl Recent {
    /// The lines, oldest first.
    pub(crate) fn text(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text =
            if kept.cut { "… (what came before is not kept)\n".to_owned() } else { String::new() };
        kept.lines.iter().for_each(|line| text.push_str(line));
        text
    }
}

impl Lines {
    fn push(&mut self, event: &[u8]) {
        // One alone that is too long is not worth the others.
        let line = first_line(&String::from_utf8_lossy(&event[..event.len().min(KEPT / 16)]));
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.bytes > KEPT {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len();
            self.cut = true;
        }
    }
}

/// An event in one line. Of texts that have more only the first line, also where they are quoted: what follows in them is what
/// a program printed, and this is to be shown to others.
fn first_line(event: &str) -> String {
    let (first, more) = event.split_once('\n').unwrap_or((event, ""));
    let mut line = String::with_capacity(first.len() + 1);
    let mut rest = first;
    while let Some(at) = rest.find(LINE_FEED) {
        let (before, found) = rest.split_at(at);
        line.push_str(before);
        let (shown, end) = quote_end(found).map_or((LINE_FEED, LINE_FEED.len()), |end| (" …", end));
        line.push_str(shown);
        rest = &found[end..];
    }
    line.push_str(rest);
    line.push_str(if more.trim().is_empty() { "\n" } else { " …\n" });
    line
}

/// Where a quoted text ends, if it does.
fn quote_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// Each write is an event: the layer writes them whole.
impl io::Write for Recent {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Recent {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let recent = Recent::default();
        writeln!(recent.make_writer(), "first").expect("memory");
        assert_eq!(recent.text(), "first\n");
        let long = format!("{}\n", "x".repeat(1023));
        for _ in 0..2048 {
            recent.make_writer().write_all(long.as_bytes()).expect("memory");
        }
        let text = recent.text();
        assert!(text.starts_with("… (what came before is not kept)\nxxx"), "{}", &text[..80]);
        assert!(text.len() <= KEPT + 64, "{}", text.len());
        recent.make_writer().write_all(&vec![b'y'; 4 * KEPT]).expect("memory");
        assert!(recent.text().matches('y').count() == KEPT / 16 && recent.text().contains('x'));
    }

    #[test]
    fn what_a_program_printed_is_not_kept() {
        for (event, line) in [
            ("plain\n", "plain\n"),
            ("it ended: gave up\nhunter2\n", "it ended: gave up …\n"),
            (r#"why="gave \"up\"\nhunter2 \"x\"" b="c""#, "why=\"gave \\\"up\\\" …\" b=\"c\"\n"),
            (r"a\nb", "a\\nb\n"),
        ] {
            assert_eq!(first_line(event), line);
        }
    }
}
