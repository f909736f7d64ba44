//! Reading Rust without a parser: blank what is not code, then look at words, brackets and paths.
//!
//! All offsets are bytes into the text that was given; blanking keeps them and the lines as they are.

use std::ops::Range;

/// The text with comments and the inside of string and character literals replaced by spaces.
pub(crate) fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (blank, next) = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => {
                let end = find(bytes, at, b"\n");
                (at..end, end)
            }
            b'/' if bytes[at..].starts_with(b"/*") => {
                let end = block_comment_end(bytes, at);
                (at..end, end)
            }
            b'r' if raw_hashes(bytes, at).is_some() => {
                let hashes = raw_hashes(bytes, at).expect("the guard has just found it");
                let start = at + 2 + hashes;
                let closing = format!("\"{}", "#".repeat(hashes));
                let end = find(bytes, start, closing.as_bytes());
                (start..end, end + closing.len())
            }
            b'"' => {
                let end = quoted_end(bytes, at + 1, b'"');
                (at + 1..end, end + 1)
            }
            b'\'' if is_character(text, at) => {
                let end = quoted_end(bytes, at + 1, b'\'');
                (at + 1..end, end + 1)
            }
            _ => (at..at, at + 1),
        };
        for byte in &mut code[blank] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = next;
    }
    String::from_utf8(code).expect("whole characters were blanked, the rest is as it was")
}

/// Where `what` begins at or after `from`, or the end.
fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let from = from.min(bytes.len());
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map_or(bytes.len(), |found| from + found)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

/// How many `#` stand before the quote, if a raw string begins with the `r` at `at`.
fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let before = if at > 0 && matches!(bytes[at - 1], b'b' | b'c') { at - 1 } else { at };
    if before > 0 && is_word(bytes[before - 1]) {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Whether the quote at `at` begins a character and not a lifetime or a label.
fn is_character(text: &str, at: usize) -> bool {
    let mut after = text[at + 1..].chars();
    match after.next() {
        Some('\\') => true,
        Some(_) => after.next() == Some('\''),
        None => false,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Words with the offsets where they begin; numbers count as words.
pub(crate) fn words(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = word_end(code, at);
        if end > at {
            words.push((at, &code[at..end]));
        }
        at = end.max(at + 1);
    }
    words
}

/// Where the word at `at` ends; `at` itself if there is none.
pub(crate) fn word_end(code: &str, at: usize) -> usize {
    at + code.as_bytes()[at..].iter().take_while(|byte| is_word(**byte)).count()
}

/// The first byte from `at` on that is not white space.
pub(crate) fn skip_space(code: &str, at: usize) -> usize {
    at + code.as_bytes()[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where the bracket at `open` is closed: the offset after it.
pub(crate) fn after_bracket(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

/// Where the item at `start` ends: after its block, or after its semicolon.
pub(crate) fn item_end(code: &str, start: usize) -> usize {
    let mut at = start;
    while at < code.len() {
        match code.as_bytes()[at] {
            b'{' => return after_bracket(code, at),
            b';' => return at + 1,
            b'(' | b'[' => at = after_bracket(code, at),
            _ => at += 1,
        }
    }
    code.len()
}

/// The items that exist in tests only, attribute included.
pub(crate) fn test_items(code: &str) -> Vec<Range<usize>> {
    if code.contains("#![cfg(test)]") {
        return std::iter::once(0..code.len()).collect();
    }
    let marks = ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test", "#[test]", "#[tokio::test"];
    let mut items: Vec<Range<usize>> = Vec::new();
    for mark in marks {
        items.extend(
            code.match_indices(mark).map(|(start, _)| start..item_end(code, after_attributes(code, start))),
        );
    }
    items
}

/// Where the item itself begins, after the attributes at `start`.
pub(crate) fn after_attributes(code: &str, start: usize) -> usize {
    let mut at = start;
    while code[at..].starts_with("#[") {
        at = skip_space(code, after_bracket(code, at + 1));
    }
    at
}

/// Every path in the code, the leaves of `use` groups written out, with the offset of its last part.
pub(crate) fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let end = word_end(code, at);
        if end == at {
            at += 1;
            continue;
        }
        if &code[at..end] == "use" && !code[skip_space(code, end)..].starts_with('<') {
            at = use_tree(code, end, "", &mut found);
        } else {
            at = inline_path(code, at, &mut found);
        }
    }
    found
}

/// Reads the path that begins with the word at `start`; a lone word is none.
fn inline_path(code: &str, start: usize, found: &mut Vec<(usize, String)>) -> usize {
    let (mut last, mut end) = (start, word_end(code, start));
    let mut path = code[start..end].to_owned();
    while code[end..].starts_with("::") {
        let next = end + 2;
        let next_end = word_end(code, next);
        if next_end == next {
            break;
        }
        path = format!("{path}::{}", &code[next..next_end]);
        (last, end) = (next, next_end);
    }
    if path.contains("::") {
        found.push((last, path));
    }
    end
}

/// Reads one tree of a `use` declaration below `prefix`; returns where it ends.
fn use_tree(code: &str, start: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let mut at = skip_space(code, start);
    if code[at..].starts_with("::") {
        at += 2;
    }
    if code[at..].starts_with('{') {
        let end = after_bracket(code, at);
        at += 1;
        while at + 1 < end {
            at = skip_space(code, use_tree(code, at, prefix, found));
            // A comma, or whatever else stands there: the group goes on until its bracket.
            at += usize::from(at + 1 < end);
            at = skip_space(code, at);
        }
        return end;
    }
    let end = if code[at..].starts_with('*') { at + 1 } else { word_end(code, at) };
    let path =
        if prefix.is_empty() { code[at..end].to_owned() } else { format!("{prefix}::{}", &code[at..end]) };
    if code[end..].starts_with("::") {
        return use_tree(code, end + 2, &path, found);
    }
    if !path.is_empty() {
        found.push((at, path));
    }
    let next = skip_space(code, end);
    if code[next..].starts_with("as ") { word_end(code, skip_space(code, next + 2)) } else { end }
}

#[test]
fn comments_and_literals_are_blanked() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("x{\"}") + 1"#, r#"f("     ") + 1"#),
        (r##"f(r#"a"b"#, br"c\") + 1"##, r##"f(r#"   "#, br"  ") + 1"##),
        ("match c { '{' => 1, '\\'' => 2, 'ä' => 3 }", "match c { ' ' => 1, '  ' => 2, '  ' => 3 }"),
        ("fn f<'a>(x: &'a str) -> &'a str { x }", "fn f<'a>(x: &'a str) -> &'a str { x }"),
        ("r#type; for_r\"{\"", "r#type; for_r\" \""),
    ];
    for (text, code) in cases {
        assert_eq!(code_only(text), code);
    }
    assert_eq!(code_only("open \"ended\\"), "open \"      ");
}

#[test]
fn items_of_tests_are_found_with_their_attributes() {
    let code =
        "fn a() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests { fn b() { {} } }\nfn c(x: [u8; 2]) {}\n";
    let items = test_items(code);
    assert_eq!(items.len(), 1);
    assert!(
        code[items[0].clone()].starts_with("#[cfg(test)]") && code[items[0].clone()].ends_with("{ {} } }")
    );
    assert_eq!(test_items("#[cfg(test)]\nmod tests;\nfn a() {}")[0].end, "#[cfg(test)]\nmod tests;".len());
    assert!(test_items("#[cfg(feature = \"\")] mod a {}").is_empty());
}

#[test]
fn paths_are_written_out() {
    let code = "use a::{b, c::{self, D as E}, f::*};\nuse ::g;\nfn h() { i::j::<u8>(); k; }";
    let paths: Vec<String> = paths(code).into_iter().map(|(_, path)| path).collect();
    assert_eq!(paths, ["a::b", "a::c::self", "a::c::D", "a::f::*", "g", "i::j"]);
}
