//! How messages become bytes: as tonic's own, but an unreadable message is the sender's fault, and buffers fit.
//!
//! A part of a message that says nothing takes two bytes on the way and hundreds where it was read. So questions of which
//! most parts say nothing are refused before they are read.

use std::marker::PhantomData;

use bytes::Buf;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Most messages fit; larger ones reserve what they need.
const BUFFER: usize = 512;
/// A stream's ready messages are sent together up to this size.
const TOGETHER: usize = 32 * 1024;
/// A question of more parts than this must have something in them …
const PARTS: usize = 1 << 16;
/// … so many bytes each, on the average.
const PART: usize = 64;
/// Questions whose parts are looked into as well: those that hold documents.
const HOLDERS: [&str; 5] =
    ["ApplyRequest", "ApplyModuleRequest", "ApplyBucketRequest", "PlanBucketRequest", "TestBucketRequest"];

/// Named by the generated code.
#[derive(Debug)]
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Prost<T>;
    type Decoder = Prost<U>;

    fn encoder(&mut self) -> Prost<T> {
        Prost(PhantomData)
    }

    fn decoder(&mut self) -> Prost<U> {
        Prost(PhantomData)
    }
}

/// Both directions of one message type.
#[derive(Debug)]
pub(crate) struct Prost<T>(PhantomData<T>);

impl<T: Message> Encoder for Prost<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.encoded_len());
        item.encode(buffer).map_err(|error| Status::internal(format!("encode a message: {error}")))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, TOGETHER)
    }
}

impl<T: Message + Default> Decoder for Prost<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        read(buffer).map(Some).map_err(Status::invalid_argument)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, TOGETHER)
    }
}

/// What a message is called.
pub(crate) fn name<T: Message>() -> &'static str {
    std::any::type_name::<T>().rsplit("::").next().unwrap_or_default()
}

/// Reads a message, or says what it is not.
pub(crate) fn read<T: Message + Default>(bytes: impl Buf) -> Result<T, String> {
    let name = name::<T>();
    let inner = HOLDERS.contains(&name);
    // Answers come from whom this node has asked.
    if name.ends_with("Request")
        && bytes.chunk().len() == bytes.remaining()
        && is_hollow(bytes.chunk(), inner)
    {
        return Err(format!("the message is no {name}: nearly all of its parts are empty"));
    }
    T::decode(bytes).map_err(|error| format!("the message is no {name}: {error}"))
}

/// Whether a message, or with `inner` one of its parts, has very many parts that say next to nothing.
fn is_hollow(message: &[u8], inner: bool) -> bool {
    if message.len() <= 2 * PARTS {
        return false;
    }
    let most = PARTS.max(message.len() / PART);
    let (mut rest, mut parts) = (message, 0);
    // What is no message is for whoever reads it to say.
    while let Some((part, after)) = split(rest) {
        parts += 1;
        if parts > most || (inner && is_hollow(part, false)) {
            return true;
        }
        rest = after;
    }
    false
}

/// The content of the first part of a message, and what follows it.
fn split(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = varint(message)?;
    let length = match key & 7 {
        0 => rest.len() - varint(rest)?.1.len(),
        1 => 8,
        2 => {
            let (length, content) = varint(rest)?;
            return content.split_at_checked(usize::try_from(length).ok()?);
        }
        5 => 4,
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A number, seven bits a byte, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (place, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((number, &bytes[place + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1;

    fn refused<T: Message + Default>(bytes: &[u8]) -> String {
        read::<T>(bytes).err().unwrap_or_default()
    }

    #[test]
    fn a_question_of_very_many_empty_parts_is_not_read() {
        // ApplyRequest.modules, each of them empty; and one with as many empty checks.
        let modules = [0x0a_u8, 0].repeat(1 << 18);
        assert!(refused::<v1::ApplyRequest>(&modules).contains("no ApplyRequest: nearly all"));
        let checks = [0x2a_u8, 0].repeat(1 << 18);
        let bytes = [&[0x0a_u8, 0x80, 0x80, 0x20][..], &checks].concat();
        let module = v1::ApplyModuleRequest::decode(&*bytes);
        assert!(module.is_ok_and(|it| it.module.is_some()), "it could be read, at a price");
        assert!(refused::<v1::ApplyModuleRequest>(&bytes).contains("nearly all"));
        // An answer is read, whatever is in it.
        assert_eq!(refused::<v1::ListBucketsResponse>(&[0x0a_u8, 0].repeat(1 << 17)), "");
    }

    #[test]
    fn what_is_long_for_a_reason_is_read() {
        let spec = v1::BucketSpec { owner: Some("x".repeat(5 << 20)), ..v1::BucketSpec::default() };
        let bucket = v1::ApplyBucketRequest { bucket: Some(spec), ..v1::ApplyBucketRequest::default() };
        assert_eq!(read::<v1::ApplyBucketRequest>(&*bucket.encode_to_vec()), Ok(bucket));
        let rules = vec!["import-*".to_owned(); PARTS - 1];
        let spec = v1::BucketSpec { node_list_rules: rules, ..v1::BucketSpec::default() };
        let bucket = v1::ApplyBucketRequest { bucket: Some(spec), ..v1::ApplyBucketRequest::default() };
        assert_eq!(read::<v1::ApplyBucketRequest>(&*bucket.encode_to_vec()), Ok(bucket));
        let piece =
            v1::PushPieceRequest { data: vec![0x61; 4 << 20].into(), ..v1::PushPieceRequest::default() };
        assert_eq!(read::<v1::PushPieceRequest>(&*piece.encode_to_vec()), Ok(piece));
    }

    #[test]
    fn parts_are_told_apart_as_the_format_says() {
        assert_eq!(split(&[0x08, 0x96, 0x01, 7]), Some((&[0x96, 0x01][..], &[7][..])));
        assert_eq!(split(&[0x12, 2, 1, 2, 3]), Some((&[1, 2][..], &[3][..])));
        assert_eq!(split(&[0x0d, 1, 2, 3, 4]), Some((&[1, 2, 3, 4][..], &[][..])));
        for cut in [&[][..], &[0x80], &[0x08], &[0x12, 5, 1], &[0x0d, 1], &[0x0b], &[0xff; 11]] {
            assert_eq!(split(cut), None, "{cut:?}");
        }
    }
}
