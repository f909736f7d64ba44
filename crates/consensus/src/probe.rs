//! Everything here that reads bytes of a peer or of the disk, for tests that make such bytes up.

use bytes::Bytes;

use crate::codec::{self, CodecError, LogIdV1};
use crate::peer::{self, kind};

/// Reads bytes as one kind of message, and says no more than why they are none.
pub type Read = fn(&Bytes) -> Result<(), CodecError>;

/// Each with its name.
pub const ALL: [(&str, Read); 14] = [
    ("batch", |bytes| codec::decode_batch(bytes).map(drop)),
    ("entry", |bytes| codec::decode_entry(LogIdV1 { term: 1, index: 7 }.restore(), bytes).map(drop)),
    ("vote", |bytes| codec::decode_vote(bytes).map(drop)),
    ("position", |bytes| codec::decode_position(bytes).map(drop)),
    ("append", |bytes| peer::decode_append(bytes).map(drop)),
    ("answer to append", |bytes| peer::decode_appended(bytes).map(drop)),
    ("ask for a vote", |bytes| peer::decode_vote_request(kind::VOTE, bytes).map(drop)),
    ("ask before a vote", |bytes| peer::decode_vote_request(kind::PRE_VOTE, bytes).map(drop)),
    ("answer to a vote", |bytes| peer::decode_voted(kind::VOTE, bytes).map(drop)),
    ("transfer", |bytes| peer::decode_transfer(bytes).map(drop)),
    ("answer to transfer", |bytes| peer::decode_transferred(bytes).map(drop)),
    ("answer to read index", |bytes| peer::decode_read_answer(bytes).map(drop)),
    ("head of a snapshot", |bytes| peer::decode_snapshot_head(bytes).map(drop)),
    ("answer to a snapshot", |bytes| peer::decode_snapshot_answer(bytes).map(drop)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_none_of_them_and_is_told_so() {
        for (name, read) in ALL {
            for bytes in [&b""[..], b"\x01", b"\x02\x01", &[0xff; 64]] {
                let why = read(&Bytes::from_static(bytes)).expect_err(name).to_string();
                assert!(why.starts_with("decode "), "{name}: {why}");
            }
        }
    }
}
