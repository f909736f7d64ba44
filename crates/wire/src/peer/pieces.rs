//! The items of a watch as messages, each of a size that a receiver surely takes: a bucket's document may have half a MiB, and
//! there may be many of them.
//!
//! Where a message ends means nothing to a node: a group of items counts once its `Synced` is there, in whatever message.

use futures::{StreamExt as _, stream};
use sheaf_model::watch::WatchItem;

use crate::proto::peer::v1;
use crate::{Answers, ApiError};

/// Bytes of JSON in a message that holds more than one item. One alone may have more: up to a few times what a document may have,
/// and that is less than a message may.
const BYTES: usize = 4 << 20;

/// What is to be said, in messages that are made one after the other as they are sent.
pub(super) fn messages(answers: Answers<Vec<WatchItem>>) -> Answers<v1::WatchItems> {
    let pieces = answers.flat_map(|answer| match answer {
        Ok(items) => stream::iter(Pieces::of(items, BYTES)).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    pieces.boxed()
}

/// Items in their order, as few messages as they fit into. The first error is to end the stream.
struct Pieces {
    items: std::vec::IntoIter<WatchItem>,
    most: usize,
    /// JSON of the item that did not fit into the last message; empty: none.
    ahead: Vec<u8>,
}

impl Pieces {
    fn of(items: Vec<WatchItem>, most: usize) -> Self {
        Self { items: items.into_iter(), most, ahead: Vec::new() }
    }
}

impl Iterator for Pieces {
    type Item = Result<v1::WatchItems, ApiError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut json = vec![b'['];
        json.append(&mut self.ahead);
        for item in self.items.by_ref() {
            let end = json.len();
            let is_first = end == 1;
            if !is_first {
                json.push(b',');
            }
            if let Err(error) = serde_json::to_writer(&mut json, &item) {
                return Some(Err(ApiError::Internal(format!("write WatchItem: {error}"))));
            }
            // One more byte ends the list.
            if !is_first && json.len() >= self.most {
                self.ahead = json.split_off(end + 1);
                json.truncate(end);
                break;
            }
        }
        if json.len() == 1 {
            return None;
        }
        json.push(b']');
        Some(Ok(v1::WatchItems { json: json.into() }))
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, Revision};

    use super::*;

    fn gone(length: usize) -> WatchItem {
        let name = format!("/{}", "x".repeat(length - 1));
        WatchItem::BucketGone(BucketName::new(&name).unwrap())
    }

    /// The items of each message, and how long it is.
    fn pieces(items: &[WatchItem], most: usize) -> Vec<(Vec<WatchItem>, usize)> {
        let read = |piece: Result<v1::WatchItems, ApiError>| {
            let json = piece.unwrap().json;
            (serde_json::from_slice(&json).unwrap(), json.len())
        };
        Pieces::of(items.to_vec(), most).map(read).collect()
    }

    #[test]
    fn each_message_has_as_much_as_it_may_and_nothing_is_lost() {
        let mut items = vec![WatchItem::Reset];
        items.extend((2..=190).map(gone));
        items.push(WatchItem::Synced(Revision(7)));
        let whole = serde_json::to_vec(&items).unwrap().len();
        for most in [250, 1_000, 4_321, whole - 1, whole, whole + 1] {
            let pieces = pieces(&items, most);
            assert!(pieces.iter().all(|(_, length)| *length <= most), "{most}");
            let told: Vec<WatchItem> = pieces.iter().flat_map(|(items, _)| items.clone()).collect();
            assert_eq!(told, items, "{most}");
            // The first item of the next one did not fit.
            for two in pieces.windows(2) {
                let more = serde_json::to_vec(&two[1].0[0]).unwrap().len();
                assert!(two[0].1 + 1 + more > most, "{most}");
            }
            assert_eq!(pieces.len() == 1, whole <= most, "{most}");
        }
    }

    #[test]
    fn what_is_longer_than_a_message_should_be_goes_alone() {
        let (short, long) = (gone(5), gone(150));
        let items = [short.clone(), long.clone(), long.clone(), short.clone(), short.clone(), long.clone()];
        let told: Vec<Vec<WatchItem>> = pieces(&items, 60).into_iter().map(|(items, _)| items).collect();
        let alone = vec![long];
        assert_eq!(
            told,
            [vec![short.clone()], alone.clone(), alone.clone(), vec![short.clone(), short], alone]
        );
    }

    #[test]
    fn nothing_to_say_is_no_message() {
        assert!(pieces(&[], 60).is_empty());
    }
}
