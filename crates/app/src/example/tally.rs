//! Lines, words and the words that come up most, counted in bounded memory.

use std::collections::BTreeMap;

/// Most different words that are counted of one source. When there are more, the rarest half is forgotten, so the
/// numbers of frequent words may be a little low.
const WORDS: usize = 2_000;
/// Longest word that is counted, in bytes.
const LONGEST: usize = 40;

/// What was counted of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) lines: u64,
    pub(super) words: u64,
    /// How often each word came up, in small letters.
    pub(super) tokens: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts a line.
    pub(super) fn line(&mut self, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        self.lines += 1;
        self.words += line.split_whitespace().count() as u64;
        for word in line.split(|c: char| !c.is_alphanumeric()).filter(|word| is_token(word)) {
            self.token(word.to_lowercase(), 1);
        }
    }

    /// Counts a word `times`.
    pub(super) fn token(&mut self, word: String, times: u64) {
        if self.tokens.len() >= WORDS && !self.tokens.contains_key(&word) {
            self.forget_rare();
        }
        *self.tokens.entry(word).or_default() += times;
    }

    /// Adds what another has counted.
    pub(super) fn add(&mut self, other: &Self) {
        self.lines += other.lines;
        self.words += other.words;
        for (word, times) in &other.tokens {
            self.token(word.clone(), *times);
        }
    }

    /// The words that come up most, ties in the order of the alphabet.
    pub(super) fn top(&self, number: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> =
            self.tokens.iter().map(|(word, times)| (word.as_str(), *times)).collect();
        words.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        words.truncate(number);
        words
    }

    fn forget_rare(&mut self) {
        let mut times: Vec<u64> = self.tokens.values().copied().collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        let before = self.tokens.len();
        self.tokens.retain(|_, times| *times > median);
        if self.tokens.len() == before {
            self.tokens.clear();
        }
    }
}

/// Words of three letters and more; numbers and times are none.
fn is_token(word: &str) -> bool {
    word.len() <= LONGEST && word.chars().count() >= 3 && word.starts_with(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_words_are_counted() {
        let mut tally = Tally::default();
        tally.line(b"2026-11-21 19:01:02 status installed libc6:amd64 2.36\n");
        tally.line(b"status Installed \xff\xfe\n");
        assert_eq!((tally.lines, tally.words), (2, 9));
        assert_eq!(tally.top(2), [("installed", 2), ("status", 2)]);
        assert!(!tally.tokens.contains_key("2026"));
    }

    #[test]
    fn memory_is_bounded_and_frequent_words_stay() {
        let mut tally = Tally::default();
        for number in 0..3 * WORDS {
            tally.line(format!("word{number} always").as_bytes());
        }
        assert!(tally.tokens.len() <= WORDS);
        assert_eq!(tally.top(1)[0].0, "always");
    }

    #[test]
    fn two_tallies_add_up() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.line(b"one two three");
        b.line(b"three");
        a.add(&b);
        assert_eq!((a.lines, a.words, a.tokens["three"]), (2, 4, 2));
    }
}
