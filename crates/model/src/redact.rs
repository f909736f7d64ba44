//! Texts that leave a cluster for somebody who is to help: what looks like a secret is taken out of them.
//!
//! The last of three nets. What holds secrets is not collected, and nothing writes one into a log; this one is for what got
//! through both.

use serde_json::Value;

use crate::clip::REST;

/// What stands in place of a secret.
pub const REDACTED: &str = "[redacted]";

const KEY_BEGIN: &str = "-----BEGIN ";
const KEY_END: &str = "-----END ";
const DASHES: &str = "-----";
/// What the text of a token begins with; its id follows.
const TOKEN: &str = "sheaf_";
/// Hexadecimal digits of a token's id.
const ID: usize = 12;
/// What a header says before a credential.
const SCHEMES: [&str; 2] = ["bearer ", "authorization: basic "];
/// What a check of the environment begins with.
const VARIABLE: &str = "environment variable ";
/// Shorter words after a scheme are words.
const CREDENTIAL_MIN: usize = 8;

/// The text without private keys in PEM, secrets of Sheaf's tokens, credentials of HTTP headers, users and passwords in
/// addresses, and values of environment variables as checks say them. The same again changes nothing more.
pub fn redacted(text: &str) -> String {
    variables(&addresses(&credentials(&tokens(&keys(text)))))
}

/// Cuts each text in a value off after its first line: where a message has more, they are what a program printed.
pub fn first_lines(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(end) = text.find('\n') {
                text.truncate(end);
                text.push_str(" …");
            }
        }
        Value::Array(values) => values.iter_mut().for_each(first_lines),
        Value::Object(fields) => fields.values_mut().for_each(first_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// From the first line of a private key to its last, or to the end of what is cut off.
fn keys(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(KEY_BEGIN) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let inside = &found[KEY_BEGIN.len()..];
        let label = inside.find(DASHES).map_or(inside, |end| &inside[..end]);
        if !label.contains("PRIVATE KEY") {
            out.push_str(KEY_BEGIN);
            rest = inside;
            continue;
        }
        out.push_str(REDACTED);
        let last = inside.find(KEY_END).map(|end| &inside[end + KEY_END.len()..]);
        let after = last.and_then(|last| last.find(DASHES).map(|end| &last[end + DASHES.len()..]));
        rest = after.unwrap_or_default();
    }
    out + rest
}

/// What follows a token's id; which one it is stays.
fn tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(TOKEN) {
        let (before, found) = rest.split_at(at + TOKEN.len());
        out.push_str(before);
        let id = found.bytes().take_while(u8::is_ascii_hexdigit).count();
        rest = found;
        if id == ID && found[ID..].starts_with('.') {
            let secret = found[ID + 1..].bytes().take_while(u8::is_ascii_hexdigit).count();
            if secret > 0 {
                out.push_str(&found[..=ID]);
                out.push_str(REDACTED);
                rest = &found[ID + 1 + secret..];
            }
        }
    }
    out + rest
}

/// The word after a scheme.
fn credentials(text: &str) -> String {
    SCHEMES.iter().fold(text.to_owned(), |text, scheme| {
        // The same length, byte for byte.
        let lower = text.to_ascii_lowercase();
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        while let Some(found) = lower[done..].find(scheme) {
            let begin = done + found + scheme.len();
            out.push_str(&text[done..begin]);
            let belongs = |c: &u8| c.is_ascii_alphanumeric() || b"._~+/=-".contains(c);
            let length = text[begin..].bytes().take_while(belongs).count();
            if length >= CREDENTIAL_MIN {
                out.push_str(REDACTED);
                done = begin + length;
            } else {
                done = begin;
            }
        }
        out + &text[done..]
    })
}

/// User and password before the host of an address; of one that is clipped in the midst of them, or of the host, all there is.
fn addresses(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, found) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || "/?#\"'<>".contains(c);
        let authority = &found[..found.find(ends).unwrap_or(found.len())];
        rest = found;
        if let Some(user) = authority.rfind(REST).filter(|at| *at > 0).or_else(|| authority.rfind('@'))
            && authority[..user] != *REDACTED
        {
            out.push_str(REDACTED);
            rest = &found[user..];
        }
    }
    out + rest
}

/// `environment variable NAME is "VALUE", not "OTHER"`, also where the quotes are escaped. A value may have anything in it but the
/// end of a line; and the text may have been cut anywhere, with a sign for the rest or without one.
fn variables(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(VARIABLE) {
        let (before, found) = rest.split_at(at + VARIABLE.len());
        out.push_str(before);
        rest = found;
        let name = found.bytes().take_while(|c| !c.is_ascii_whitespace()).count();
        let Some(value) = found[name..].strip_prefix(" is ") else { continue };
        let within = match (value.starts_with("\\\""), value.starts_with('"')) {
            (true, _) => quoted(value),
            (_, true) => value.split('\n').next().unwrap_or_default(),
            _ => continue,
        };
        let end = within.rfind(", not ").max(within.rfind(REST)).unwrap_or(within.len());
        out.push_str(&found[..name]);
        out.push_str(" is ");
        out.push_str(REDACTED);
        rest = &value[end..];
    }
    out + rest
}

/// What is left of a text in quotes, in which others are escaped.
fn quoted(text: &str) -> &str {
    let mut escaped = false;
    let ends = |c: char| {
        let is_end = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    };
    text.split(ends).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, TokenId, TokenText};

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        let pem = "a -----BEGIN EC PRIVATE KEY-----\nMIG\nHAg\n-----END EC PRIVATE KEY----- b";
        for (text, left) in [
            (pem, "a [redacted] b"),
            ("x -----BEGIN PRIVATE KEY-----\\nMIG", "x [redacted]"),
            ("authorization: Bearer abcdef.123456-7, next", "authorization: Bearer [redacted], next"),
            ("\"Authorization: Basic dXNlcjpwYXNz\"", "\"Authorization: Basic [redacted]\""),
            ("to http://me:pw@h:1/a?b and https://h/x@y", "to http://[redacted]@h:1/a?b and https://h/x@y"),
            ("{\"url\":\"amqp://u:p@h\"}", "{\"url\":\"amqp://[redacted]@h\"}"),
            (
                "environment variable A is \"hunter2\", not \"b\"",
                "environment variable A is [redacted], not \"b\"",
            ),
            (
                "environment variable A is \\\"x\\\", not \\\"b\\\"",
                "environment variable A is [redacted], not \\\"b\\\"",
            ),
            ("environment variable A is \"hunt…", "environment variable A is [redacted]…"),
            ("environment variable A is \"hunter2\", n…", "environment variable A is [redacted]…"),
            ("environment variable A is \"x, not hunt…", "environment variable A is [redacted]…"),
            (
                "environment variable A is \"x, not y\", not \"b\"",
                "environment variable A is [redacted], not \"b\"",
            ),
            ("environment variable A is \"hunt\nnext …", "environment variable A is [redacted]\nnext …"),
            (
                "{\"a\":\"environment variable A is \\\"x\\\\\\\"hunt\",\"b\":\"is blue, not red…\"}",
                "{\"a\":\"environment variable A is [redacted]\",\"b\":\"is blue, not red…\"}",
            ),
            ("no answer from http://me:hunt…", "no answer from http://[redacted]…"),
            ("http://me:h@t:7…; http://…", "http://[redacted]…; http://…"),
        ] {
            assert_eq!(redacted(text), left);
            assert_eq!(redacted(left), left, "the same again");
        }
    }

    #[test]
    fn a_token_keeps_its_id_alone() {
        let token = TokenText::new(TokenId([0xab; 6]), [0xcd; 32], Some(Digest([0xef; 32])));
        let said = redacted(&format!("shown: {} twice {}", token.reveal(), token.reveal()));
        assert!(!said.contains("cdcd"), "{said}");
        assert_eq!(said.matches("sheaf_abababababab.[redacted]").count(), 2, "{said}");
    }

    #[test]
    fn what_a_program_printed_is_cut_off() {
        let mut value = serde_json::json!({"a": ["gave up\nhunter2\nmore", 1, null], "b": {"c": "one line"}});
        first_lines(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["gave up …", 1, null], "b": {"c": "one line"}}));
    }

    #[test]
    fn all_other_text_stays() {
        for text in [
            "",
            "a bearer of news, sheaf_web::serve sheaf_abababababab",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "http://127.0.0.1:7421/ é @home",
            "Bearer é",
            "environment variable A is not set, not at all",
        ] {
            assert_eq!(redacted(text), text);
        }
    }
}
