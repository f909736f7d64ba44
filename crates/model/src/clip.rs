//! Texts of which no more than their beginning is kept, sent or shown.

use std::borrow::Cow;

/// What stands for the rest of a text.
pub(crate) const REST: char = '…';

/// The text; of one that is longer than `most` bytes its beginning and `…`, together not longer.
pub fn clipped(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most {
        return text.into();
    }
    let end = text.floor_char_boundary(most.saturating_sub(REST.len_utf8()));
    format!("{}{REST}", &text[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_is_too_long_ends_with_a_sign_between_two_characters() {
        for (text, most, left) in [
            ("", 3, ""),
            ("abcd", 4, "abcd"),
            ("abcde", 4, "a…"),
            ("äöü", 6, "äöü"),
            ("äöüß", 6, "ä…"),
            ("äöüß", 7, "äö…"),
            ("abcde", 1, "…"),
        ] {
            assert_eq!(clipped(text, most), left, "{text:?} in {most}");
        }
        for most in 3..40 {
            let left = clipped("aä€𝄞aä€𝄞aä€𝄞aä€𝄞", most);
            assert!(left.len() <= most && left.ends_with(REST), "{left:?} in {most}");
        }
    }
}
