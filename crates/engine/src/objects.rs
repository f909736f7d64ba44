//! What memory keeps of buckets' objects: everything but their values, which only the log and the store ever hold.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_model::{BucketName, ObjectKey, Revision, Timestamp};

/// An object without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Whose it is.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
    /// What else is known of it.
    pub entry: Entry,
}

/// See [`Object`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The revision of its last change.
    pub version: Revision,
    /// Bytes of its value.
    pub size: u32,
    /// What its last writer called that write, to recognise its repetition; 0: nothing.
    pub token: u64,
    /// When, by the proposing leader's clock.
    pub at: Timestamp,
}

/// The objects of one bucket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    entries: BTreeMap<ObjectKey, Entry>,
    /// Keys and values together.
    bytes: u64,
}

impl Objects {
    /// The entry of a key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Those whose keys begin with `prefix` and come after `after`, by key.
    pub fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: &'a str,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Entry)> {
        let from = if after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let entries = self.entries.range::<str, _>((from, Bound::Unbounded));
        entries.take_while(move |(key, _)| key.as_str().starts_with(prefix))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What `bytes` would be with a value of `size` under `key`.
    pub fn bytes_with(&self, key: &ObjectKey, size: usize) -> u64 {
        self.bytes - self.get(key).map_or(0, |entry| weight(key, entry.size)) + weight(key, size as u32)
    }

    pub(crate) fn put(&mut self, key: ObjectKey, entry: Entry) {
        self.remove(&key);
        self.bytes += weight(&key, entry.size);
        self.entries.insert(key, entry);
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= weight(key, entry.size);
        }
    }
}

fn weight(key: &ObjectKey, size: u32) -> u64 {
    key.as_str().len() as u64 + u64::from(size)
}

/// Rows of all buckets.
pub(crate) fn rows(objects: &BTreeMap<BucketName, Arc<Objects>>) -> impl Iterator<Item = Object> + '_ {
    objects.iter().flat_map(|(bucket, objects)| {
        objects.entries.iter().map(|(key, entry)| Object {
            bucket: bucket.clone(),
            key: key.clone(),
            entry: *entry,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_selects_its_keys_and_a_page_goes_on_after_the_last() {
        let mut objects = Objects::default();
        for key in ["a", "b/1", "b/2", "b/3", "b0", "c"] {
            let entry = Entry { version: Revision(1), size: 2, token: 0, at: Timestamp(1) };
            objects.put(ObjectKey::new(key).expect("a key"), entry);
        }
        let keys = |prefix, after| {
            objects.list(prefix, after).map(|(key, _)| key.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys("b/", ""), ["b/1", "b/2", "b/3"]);
        assert_eq!(keys("b/", "b/1"), ["b/2", "b/3"]);
        assert_eq!(keys("", "b/3"), ["b0", "c"]);
        assert_eq!(keys("b/", "c"), [""; 0]);
        assert_eq!(objects.bytes(), 13 + 6 * 2);
    }
}
