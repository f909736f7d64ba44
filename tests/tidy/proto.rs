//! The proto files are the documentation of the API: everything in them has a comment.

use crate::tree::File;

/// What a bracket has opened.
#[derive(Clone, Copy, PartialEq)]
enum Block {
    /// A message, or a oneof in one: its statements are fields.
    Fields,
    Values,
    Calls,
    /// Options, and the inside of a call: nothing in it is declared.
    Other,
}

/// A statement up to its `;` or `{`, as offsets, and the block it stands in.
struct Statement<'text> {
    text: &'text str,
    start: usize,
    end: usize,
    within: Option<Block>,
}

/// Declarations without a comment above them or at the end of their line.
pub(crate) fn comments(files: &[File]) -> Vec<String> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("proto/") && file.has_extension("proto")) {
        let lines: Vec<(&str, &str)> = file.text.lines().zip(file.code.lines()).collect();
        for statement in statements(&file.code) {
            let Some((kind, name)) = declaration(&statement) else { continue };
            let (first, last) = (file.line(statement.start), file.line(statement.end));
            let above = first > 1 && is_comment(lines[first - 2]);
            if !above && !has_trailing_comment(lines[last - 1]) {
                violations.push(
                    file.at_line(first, &format!("{kind} {name} has no comment: say what its name cannot")),
                );
            }
        }
    }
    violations
}

/// Where a crate that is published by itself has its copy of a file.
const PACKAGED: [(&str, &str); 1] =
    [("proto/sheaf/module/v1/module.proto", "crates/module/proto/sheaf/module/v1/module.proto")];

/// Packaged copies that are not what they are copies of, byte for byte.
pub(crate) fn packaged(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| &file.text);
    let differs = PACKAGED.iter().filter(|(original, copy)| text(original) != text(copy));
    differs.map(|(original, copy)| format!("{copy}:1: is not {original}: copy that one over it")).collect()
}

/// Whether a line (text, and the same without comments) is a comment that says something.
fn is_comment((text, code): (&str, &str)) -> bool {
    code.trim().is_empty() && text.chars().any(char::is_alphabetic)
}

fn has_trailing_comment((text, code): (&str, &str)) -> bool {
    let comment = &text[code.trim_end().len()..];
    comment.trim_start().starts_with("//") && comment.chars().any(char::is_alphabetic)
}

fn statements(code: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut blocks: Vec<Block> = Vec::new();
    let (mut start, mut square) = (0, 0);
    for (at, byte) in code.bytes().enumerate() {
        match byte {
            b'[' => square += 1,
            b']' => square -= 1,
            // The brackets of a field's options belong to its statement.
            _ if square > 0 => {}
            b'{' | b'}' | b';' => {
                let text = code[start..at].trim();
                let begin = start + (code[start..at].len() - code[start..at].trim_start().len());
                if byte != b'}' && !text.is_empty() {
                    found.push(Statement { text, start: begin, end: at, within: blocks.last().copied() });
                }
                if byte == b'{' {
                    blocks.push(opened(text));
                } else if byte == b'}' {
                    blocks.pop();
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn opened(text: &str) -> Block {
    match text.split_whitespace().next() {
        Some("message" | "oneof" | "extend") => Block::Fields,
        Some("enum") => Block::Values,
        Some("service") => Block::Calls,
        _ => Block::Other,
    }
}

/// What the statement declares, if anything: its kind and its name.
fn declaration<'text>(statement: &Statement<'text>) -> Option<(&'static str, &'text str)> {
    let first = statement.text.split_whitespace().next()?;
    let second = || statement.text.split(|c: char| c.is_whitespace() || c == '(').nth(1).unwrap_or_default();
    match (first, statement.within) {
        (_, Some(Block::Other)) | ("option" | "reserved" | "extensions" | "oneof" | "extend", _) => None,
        ("message", _) if !statement.text.contains('=') => Some(("message", second())),
        ("enum", _) if !statement.text.contains('=') => Some(("enum", second())),
        ("service", None) => Some(("service", second())),
        ("rpc", Some(Block::Calls)) => Some(("rpc", second())),
        (_, Some(Block::Fields)) => Some(("field", name_before_number(statement.text))),
        (_, Some(Block::Values)) => Some(("value", name_before_number(statement.text))),
        _ => None,
    }
}

fn name_before_number(text: &str) -> &str {
    let before = text.split('=').next().unwrap_or(text).trim_end();
    before.rsplit(char::is_whitespace).next().unwrap_or(before)
}

#[cfg(test)]
fn uncommented(text: &str) -> Vec<String> {
    let found = comments(&[File::new("proto/a.proto", text)]);
    found
        .iter()
        .map(|line| line.split(" has ").next().unwrap_or(line).replace("proto/a.proto:", ""))
        .collect()
}

#[test]
fn what_has_no_comment_is_found() {
    let bare = "syntax = \"proto3\";\npackage a;\nservice S {\n  rpc Get(A) returns (stream B);\n}\nmessage A {\n  string message = 1;\n  oneof o {\n    map<string, B> b = 2;\n  }\n  reserved 3;\n  message N {}\n}\nenum E {\n  option allow_alias = true;\n  E_NONE = 0;\n}\n";
    assert_eq!(
        uncommented(bare),
        [
            "3: service S",
            "4: rpc Get",
            "6: message A",
            "7: field message",
            "9: field b",
            "12: message N",
            "14: enum E",
            "16: value E_NONE"
        ]
    );
}

#[test]
fn comments_above_and_behind_count() {
    let good = "// S serves.\nservice S {\n  // Gets it.\n  rpc Get(A) returns (B) {\n    option (x) = { a: 1 };\n  }\n}\n/* A is\n   first. */\nmessage A { // the first\n  string name = 1; // its name\n  // In bytes.\n  uint64 size = 2 [\n    (rule) = { gte: 1 },\n    deprecated = true\n  ];\n}\n";
    assert_eq!(uncommented(good), [""; 0]);
}

#[test]
fn other_comments_do_not_count() {
    let bad = "// A line.\n\nmessage A {\n  string a = 1; // of a\n  string b = 2;\n  // ----\n  string c = 3;\n  string d = 4; //\n}\n";
    assert_eq!(uncommented(bad), ["3: message A", "5: field b", "7: field c", "8: field d"]);
}

#[test]
fn a_copy_that_differs_is_found() {
    let [(original, copy)] = PACKAGED;
    assert!(packaged(&[File::new(original, "a"), File::new(copy, "a")]).is_empty());
    assert_eq!(packaged(&[File::new(original, "a"), File::new(copy, "b")]).len(), 1);
    assert_eq!(packaged(&[File::new(original, "a")]).len(), 1);
}
