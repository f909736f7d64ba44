//! Items in pieces that fit a message, and an entry of the log.

use sheaf_model::Item;

use super::CHUNK_MAX;

/// So many items at most go together, however short.
const TOGETHER_MAX: usize = 8192;

/// How long an item is in bytes: its JSON, and 4 for each dependency.
pub fn size(item: &Item) -> usize {
    item.value.as_str().len() + 4 * item.depends_on.len()
}

/// Puts items together until they are as many as may be sent at once.
#[derive(Debug, Default)]
pub struct Chunks {
    items: Vec<Item>,
    size: usize,
}

impl Chunks {
    /// Takes one more; what came before is given back once the new one does not fit with it.
    pub fn push(&mut self, item: Item) -> Option<Vec<Item>> {
        let more = size(&item);
        let full = self.size + more > CHUNK_MAX || self.items.len() >= TOGETHER_MAX;
        let chunk = if full { self.rest() } else { None };
        self.size += more;
        self.items.push(item);
        chunk
    }

    /// What is left.
    pub fn rest(&mut self) -> Option<Vec<Item>> {
        self.size = 0;
        let items = std::mem::take(&mut self.items);
        (!items.is_empty()).then_some(items)
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Json;

    use super::*;

    #[test]
    fn chunks_are_as_long_as_may_be_and_lose_nothing() {
        let item = |length: usize| Item {
            value: Json::new(&serde_json::Value::String("x".repeat(length - 2))),
            depends_on: Vec::new(),
        };
        let mut chunks = Chunks::default();
        assert_eq!(chunks.rest(), None);
        assert_eq!(chunks.push(item(CHUNK_MAX - 100)), None);
        assert_eq!(chunks.push(item(100)), None, "exactly full");
        let full = chunks.push(item(CHUNK_MAX)).unwrap();
        assert_eq!(full.len(), 2);
        let dependent = Item { depends_on: vec![0, 1], ..item(3) };
        assert_eq!(size(&dependent), 11);
        assert_eq!(chunks.push(dependent).map(|chunk| chunk.len()), Some(1));
        let short = (0..TOGETHER_MAX).filter_map(|_| chunks.push(item(3))).count();
        assert_eq!(short, 1);
        assert_eq!(chunks.rest().map(|chunk| chunk.len()), Some(1));
    }
}
