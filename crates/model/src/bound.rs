//! What keeps a map that anybody may add to from growing.

use std::collections::BTreeMap;

/// Puts one more into a map that has `most` at most. If that would be too many, the oldest goes: whose `age` is least.
pub fn remember<K: Ord + Clone, V, A: Ord>(
    map: &mut BTreeMap<K, V>,
    most: usize,
    key: K,
    value: V,
    age: impl Fn(&V) -> A,
) {
    if map.len() >= most && !map.contains_key(&key) {
        let oldest = map.iter().min_by_key(|(_, value)| age(value)).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
    map.insert(key, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_for_one_more_and_nothing_for_one_that_is_there() {
        let mut map = BTreeMap::from([("a", 5), ("b", 2), ("c", 7)]);
        remember(&mut map, 3, "b", 9, |at| *at);
        assert_eq!(map, BTreeMap::from([("a", 5), ("b", 9), ("c", 7)]));
        remember(&mut map, 3, "d", 1, |at| *at);
        assert_eq!(
            map,
            BTreeMap::from([("b", 9), ("c", 7), ("d", 1)]),
            "what is new stays, however old it says it is"
        );
        remember(&mut map, 4, "e", 3, |at| *at);
        assert_eq!(map.len(), 4);
    }
}
