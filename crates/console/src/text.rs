//! Text for eyes: words of state, facts, and lines that fit.

use std::collections::BTreeMap;

/// A cell without the line breaks and control characters that would break the table, or the terminal.
pub(crate) fn one_line(cell: &str) -> String {
    let clean: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    clean.trim().to_owned()
}

/// A word of state in its colour, if it has one.
pub(crate) fn paint(word: &str, on: bool) -> String {
    match colour(word).filter(|_| on) {
        Some(code) => format!("\x1b[{code}m{word}\x1b[0m"),
        None => word.to_owned(),
    }
}

/// The colour of a word of state, as a terminal numbers them: green is well, yellow is on its way, red needs somebody.
pub(crate) fn colour(word: &str) -> Option<u8> {
    match word {
        "running" | "ready" | "created" | "finished" | "submitted" => Some(32),
        "placing" | "starting" | "stopping" | "pending" | "backoff" | "partial" | "joining"
        | "restarting" | "draining" | "suspect" | "updated" | "waiting_for_node" | "quarantined"
        | "waiting" | "paused" => Some(33),
        "failed" | "unplaced" | "lost" => Some(31),
        "suspended" | "stopped" | "left" | "unchanged" | "canceled" => Some(2),
        _ => None,
    }
}

/// Pairs of a word and what it says, one a line, the words padded; those without a text are left out.
pub(crate) fn facts(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(word, _)| word.len()).max().unwrap_or_default();
    let said = pairs.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(word, text)| format!("{word:width$}  {}\n", one_line(text))).collect()
}

/// The words of `text` in lines of at most `width` columns, the first after `indent` blanks and the others after two
/// more; a word that is longer than a line has one of its own.
pub(crate) fn paragraph(text: &str, indent: usize, width: usize) -> String {
    let mut lines = " ".repeat(indent);
    let (mut column, mut fresh) = (indent, true);
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if !fresh && column + 1 + length > width {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent + 2));
            (column, fresh) = (indent + 2, true);
        }
        if !fresh {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        (column, fresh) = (column + length, false);
    }
    lines
}

/// `a=b,c=d`
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// `1 node`, `2 nodes`.
pub(crate) fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// A number with commas between its thousands: `49,998`.
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes in three digits: `7.6GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    let whole = tenths / 10;
    if unit == 0 || whole >= 100 {
        format!("{whole}{}", UNITS[unit])
    } else {
        format!("{whole}.{}{}", tenths % 10, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_wrapped_between_words() {
        assert_eq!(paragraph("one two three four", 1, 10), " one two\n   three\n   four");
        assert_eq!(paragraph("incomprehensibility is long", 0, 8), "incomprehensibility\n  is\n  long");
        assert_eq!(paragraph("", 2, 9), "  ");
    }

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 40 << 20, 1_610_612_736, 200 << 30].map(size);
        assert_eq!(sizes, ["0B", "1023B", "1.0KiB", "40.0MiB", "1.5GiB", "200GiB"]);
    }

    #[test]
    fn thousands_stand_apart() {
        let texts = [0, 999, 1000, 49_998, 1_000_000].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "49,998", "1,000,000"]);
    }

    #[test]
    fn colour_is_for_terminals() {
        assert_eq!(paint("running", false), "running");
        assert_eq!(paint("running", true), "\x1b[32mrunning\x1b[0m");
        assert_eq!(paint("harvest", true), "harvest");
    }

    #[test]
    fn facts_leave_out_what_is_not_said() {
        let text =
            facts(&[("state", "running".to_owned()), ("owner", String::new()), ("revision", "7".to_owned())]);
        assert_eq!(text, "state     running\nrevision  7\n");
    }
}
