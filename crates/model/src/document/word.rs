//! Words that were meant to be others.

/// The known word that `word` was most likely meant to be, if any is near enough: about one letter in three may
/// be wrong, missing, too many or swapped with the next; case and `-` for `_` do not count. The first of equals.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // The distance takes memory of length × length; nobody means a known word by a long one.
    const LONGEST: usize = 64;
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    if word.is_empty() || word.len() > LONGEST {
        return None;
    }
    let word = plain(word);
    let (distance, best) = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &plain(candidate)), *candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let longer = word.chars().count().max(best.chars().count());
    (distance <= (longer / 3).max(1) && distance < longer).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_far_ones_are_not() {
        const KNOWN: &[&str] = &["name", "node_list_rules", "multi_node", "poll_frequency", "owner"];
        assert_eq!(nearest("nod_list_rule", KNOWN), Some("node_list_rules"));
        assert_eq!(nearest("multi-node", KNOWN), Some("multi_node"));
        assert_eq!(nearest("multinode", KNOWN), Some("multi_node"));
        assert_eq!(nearest("Name", KNOWN), Some("name"));
        assert_eq!(nearest("onwer", KNOWN), Some("owner"));
        for far in ["", "x", "colour", &"name".repeat(1000)] {
            assert_eq!(nearest(far, KNOWN), None, "{far}");
        }
        assert_eq!(nearest("a", &["b"]), None, "nothing in common");
        assert_eq!(nearest("name", &[]), None);
    }
}
