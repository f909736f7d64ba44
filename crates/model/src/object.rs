//! What a bucket's module keeps in the cluster: objects, and by what right it may write them.

use std::fmt;
use std::sync::Arc;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Epoch, NodeId};

/// Longest key of an object in bytes; a checkpoint's, which holds a node's name, fits.
pub const OBJECT_KEY_MAX: usize = 256;
/// Longest value in bytes: with all around it, half of what one entry of the log may hold.
///
/// This and the two below are decided by when a command is applied. All members must decide alike, so another number is
/// another command, not another build.
pub const OBJECT_VALUE_MAX: usize = 512 << 10;
/// Keys and values of one bucket together, in bytes: what is kept here is state, not data. A snapshot holds all of it.
pub const OBJECTS_BYTES_MAX: u64 = 64 << 20;
/// Objects of one bucket: each member keeps all keys in memory, some 200 bytes each.
pub const OBJECTS_MAX: usize = 65_536;

/// Longest line of status in bytes, and longest reason of an emergency.
pub const STATUS_LINE_MAX: usize = 500;
/// Longest kind of a line of status in bytes.
pub const STATUS_KIND_MAX: usize = 32;

/// The value of an object: any bytes. Cheap to copy; said in logs by its length alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ObjectValue(Arc<[u8]>);

impl ObjectValue {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for ObjectValue {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for ObjectValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectValue({} bytes)", self.0.len())
    }
}

// As bytes, not as a list of numbers: that is copied in one go.
impl Serialize for ObjectValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ObjectValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}

struct Bytes;

impl<'de> Visitor<'de> for Bytes {
    type Value = ObjectValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<ObjectValue, E> {
        Ok(bytes.into())
    }

    /// Forms without bytes of their own, like JSON, have lists of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<ObjectValue, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.as_slice().into())
    }
}

/// By what right an instance speaks for its bucket: where it runs and, of a single-node bucket, under which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The node that it runs on.
    pub node: NodeId,
    /// The epoch that it was started under; none: the bucket was multi-node then.
    pub epoch: Option<Epoch>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_log_and_json_and_is_said_by_its_length() {
        let value = ObjectValue::from(&b"\0\xff7"[..]);
        let bytes = postcard::to_stdvec(&value).expect("bytes can be written");
        assert_eq!(bytes, b"\x03\0\xff7", "its length and itself");
        assert_eq!(postcard::from_bytes::<ObjectValue>(&bytes), Ok(value.clone()));
        let json = serde_json::to_string(&value).expect("bytes can be written");
        assert_eq!(serde_json::from_str::<ObjectValue>(&json).expect("the same"), value);
        assert_eq!(format!("{value:?}"), "ObjectValue(3 bytes)");
    }
}
