//! Fingerprints of failures: what differs from one attempt to the next is masked, so that alike failures are one group.

use std::fmt;

use serde::{Deserialize, Serialize};

/// So much of a message counts, in bytes: what follows is most often the attempt's own.
const COUNTED: usize = 1_000;

/// A hash of a failure's normalised message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub u64);

impl Fingerprint {
    /// Of a message. Written down with each failure, so this never changes for a message that it was once taken of.
    pub fn of(message: &str) -> Self {
        Self(fnv(FNV_BASIS, normalised(message).as_bytes()))
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where an FNV-1a hash of 64 bits begins (draft-eastlake-fnv).
pub const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// Goes on with an FNV-1a hash of 64 bits.
pub fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The message with `/` for every path, `#` for every word with a digit in it (a number, an id, a time, an address), and
/// one space between words.
pub fn normalised(message: &str) -> String {
    let mut end = message.len().min(COUNTED);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let mut text = String::new();
    for word in message[..end].split_whitespace() {
        if !text.is_empty() {
            text.push(' ');
        }
        mask(word, &mut text);
    }
    text
}

/// What of a word is masked: between marks, each part for itself, so that `tile=17,` and `tile=18,` are alike.
fn mask(word: &str, text: &mut String) {
    let is_part =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '\\' | '@' | '+' | '%');
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        if part.contains(['/', '\\']) {
            text.push('/');
        } else if part.contains(|c: char| c.is_ascii_digit()) || is_hexadecimal(part) {
            text.push('#');
        } else {
            text.push_str(part);
        }
        let mark = after.chars().next();
        text.extend(mark);
        rest = &after[mark.map_or(0, char::len_utf8)..];
    }
}

/// An id without a digit, by chance.
fn is_hexadecimal(part: &str) -> bool {
    part.len() >= 12 && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// J18
    #[test]
    fn j18_failures_that_differ_in_numbers_paths_and_ids_are_alike() {
        let same = [
            ("cannot read /data/tile-17.tif: errno 5", "cannot read /tmp/x/9.tif:  errno 28"),
            ("tile=17, code=-3", "tile=4711, code=12"),
            ("id 7f0c-1a2b gone at 2026-11-28T10:00:00Z", "id deadbeefcafe gone at 2026-01-01T00:00:00Z"),
            ("C:\\x\\y is locked", "D:\\z is locked"),
        ];
        for (one, other) in same {
            assert_eq!(normalised(one), normalised(other));
            assert_eq!(Fingerprint::of(one), Fingerprint::of(other));
        }
        assert_ne!(Fingerprint::of("out of memory"), Fingerprint::of("out of disk"));
        assert_eq!(normalised("cannot read /data/tile-17.tif: errno 5"), "cannot read / errno #");
        assert_eq!(Fingerprint::of("out of memory").to_string(), "74e217b21ed87663");
        assert_eq!(normalised(""), "");
        let long = "ä".repeat(2_000);
        assert_eq!(normalised(&long).len(), COUNTED);
    }
}
