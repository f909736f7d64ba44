//! Text that others wrote, made harmless: what reaches the screen moves no cursor, changes no colour and hides nothing.

use unicode_width::UnicodeWidthChar as _;

/// Columns between the stops of a tab.
const TAB: usize = 8;
/// Marks that are put on one letter, at most: more of them would grow over the lines above.
const MARKS: usize = 4;

/// For what reorders or hides text. Not U+FFFD, which some terminals leave out.
const SIGN: char = '␦';

/// The text on one line, with a sign for every character that would do something to a terminal: `␛` for an escape, `␦`
/// for what reorders or hides text. Tabs become blanks, a line end a blank.
pub(super) fn clean(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let (mut column, mut marks) = (0, 0);
    for c in text.chars() {
        if c == '\t' {
            let blanks = TAB - column % TAB;
            cleaned.extend(std::iter::repeat_n(' ', blanks));
            (column, marks) = (column + blanks, 0);
            continue;
        }
        let Some(c) = shown(c) else { continue };
        match columns(c) {
            0 if marks == MARKS || cleaned.is_empty() => {}
            0 => {
                marks += 1;
                cleaned.push(c);
            }
            width => {
                (column, marks) = (column + width, 0);
                cleaned.push(c);
            }
        }
    }
    cleaned
}

/// The sign for a character; none: it is left out.
fn shown(c: char) -> Option<char> {
    match c {
        '\n' => Some(' '),
        '\0'..='\u{1f}' => char::from_u32(0x2400 + u32::from(c)),
        '\u{7f}' => Some('\u{2421}'),
        // How the letter before is drawn; terminals do not agree on the width that it gets by that.
        '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => None,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => Some(SIGN),
        c => Some(c),
    }
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// How many columns a cleaned text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// As much of a cleaned text as fits into so many columns; `…` at the end says that there was more.
pub(super) fn fit(text: &str, room: usize) -> String {
    if width(text) <= room {
        return text.to_owned();
    }
    let mut left = room.saturating_sub(1);
    let mut fitting = String::new();
    for c in text.chars() {
        let Some(rest) = left.checked_sub(columns(c)) else { break };
        left = rest;
        fitting.push(c);
    }
    if room > 0 {
        fitting.push('…');
    }
    fitting
}

/// A cleaned text in lines of at most `room` columns: broken between words where there are any, else anywhere. The lines
/// after the first begin with `indent` blanks.
pub(super) fn wrap(text: &str, room: usize, indent: usize) -> Vec<String> {
    let (room, indent) = (room.max(2), indent.min(room / 2));
    let mut lines = Vec::new();
    let mut rest = text;
    loop {
        let before = if lines.is_empty() { 0 } else { indent };
        let end = line_end(rest, room - before);
        let (line, after) = rest.split_at(end);
        lines.push(format!("{}{}", " ".repeat(before), line.trim_end()));
        rest = if after.len() < rest.len() { after.trim_start_matches(' ') } else { after };
        if rest.is_empty() {
            return lines;
        }
    }
}

/// Where the first line of a text ends: all of it, or after a blank, or in the midst of a word that is longer than a line.
fn line_end(text: &str, room: usize) -> usize {
    let (mut column, mut blank) = (0, None);
    for (at, c) in text.char_indices() {
        let next = column + columns(c);
        if next > room {
            let first = text.chars().next().map_or(0, char::len_utf8);
            return blank.unwrap_or(at).max(first);
        }
        if c == ' ' && at > 0 {
            blank = Some(at + 1);
        }
        column = next;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(clean("a\x1b[2J\x1b]0;own\x07b"), "a␛[2J␛]0;own␇b");
        assert_eq!(clean("100%\r  7%"), "100%␍  7%");
        assert_eq!(clean("\u{9b}31mred\u{7f}"), "␦31mred␡");
        assert_eq!(clean("user\u{202e}txt.exe\u{200b}"), "user␦txt.exe␦");
        assert_eq!(clean("a\tb\n"), "a       b ");
        let all: String = ('\0'..='\u{10ffff}').collect();
        let cleaned = clean(&all);
        assert!(!cleaned.chars().any(char::is_control));
        assert_eq!(clean(&cleaned), cleaned, "what is clean stays as it is");
    }

    #[test]
    fn letters_of_all_kinds_stay() {
        for text in ["Straße", "日本語", "naïve", "🚀 lift", "e\u{301}"] {
            assert_eq!(clean(text), text);
        }
        let heap: String = std::iter::once('a').chain(std::iter::repeat_n('\u{301}', 50)).collect();
        assert_eq!(clean(&heap).chars().count(), 1 + MARKS);
    }

    #[test]
    fn widths_are_those_of_a_terminal() {
        assert_eq!([width("abc"), width("日本"), width("e\u{301}"), width("🚀")], [3, 4, 1, 2]);
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 6), "日本語");
        assert_eq!([fit("abcdef", 4), fit("abc", 0), fit("abc", 1)], ["abc…", "", "…"]);
    }

    #[test]
    fn long_text_is_broken_between_words_or_anywhere() {
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrap("abcdefgh", 3, 0), ["abc", "def", "gh"]);
        assert_eq!(wrap("日本語", 4, 0), ["日本", "語"]);
        assert_eq!(wrap("", 10, 2), [""]);
        assert_eq!(wrap("  at a stack frame", 10, 0), ["  at a", "stack", "frame"]);
        assert_eq!(wrap("日", 1, 0), ["日"], "wider than there is room");
    }
}
