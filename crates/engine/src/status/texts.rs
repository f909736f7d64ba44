//! Texts of many nodes in one answer, which must fit into a message.

use sheaf_model::clipped;

/// Bytes of such texts in an answer: a message takes 16 MiB, and for each node there are names and numbers beside them.
pub(super) const MOST: usize = 6 << 20;

/// Cuts the longest of them, all to the same length, so that together they have no more than `most` bytes.
pub(super) fn fit<'a>(texts: impl Iterator<Item = &'a mut String>, most: usize) {
    let mut texts: Vec<&mut String> = texts.collect();
    if texts.iter().map(|text| text.len()).sum::<usize>() <= most {
        return;
    }
    texts.sort_unstable_by_key(|text| text.len());
    let (mut left, mut waiting) = (most, texts.len());
    for text in texts {
        // What a shorter one leaves over is for the longer ones behind it.
        let share = left / waiting;
        if text.len() > share {
            *text = clipped(text, share).into_owned();
        }
        (left, waiting) = (left.saturating_sub(text.len()), waiting - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(lengths: &[usize], most: usize) -> Vec<usize> {
        let mut texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        fit(texts.iter_mut(), most);
        texts.iter().map(String::len).collect()
    }

    #[test]
    fn the_longest_are_cut_to_the_same_length_and_no_more_than_is_needed() {
        assert_eq!(fitted(&[], 10), Vec::<usize>::new());
        assert_eq!(fitted(&[100, 5, 50], 155), [100, 5, 50]);
        assert_eq!(fitted(&[100, 5, 50], 154), [99, 5, 50]);
        assert_eq!(fitted(&[100, 5, 50], 85), [40, 5, 40]);
        assert_eq!(fitted(&[100, 0, 100, 100], 300), [100, 0, 100, 100]);
        let many = fitted(&[4096; 5_000], MOST);
        assert!(many.iter().sum::<usize>() <= MOST && many.iter().all(|length| *length >= 1_000));
    }
}
