//! How messages become bytes: as tonic's own, but an unreadable message is the sender's fault, and buffers fit.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Most messages fit; larger ones reserve what they need.
const BUFFER: usize = 512;
/// A stream's ready messages are sent together up to this size.
const TOGETHER: usize = 32 * 1024;

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
        let unreadable = |error| {
            let name = std::any::type_name::<T>().rsplit("::").next().unwrap_or_default();
            Status::invalid_argument(format!("the message is no {name}: {error}"))
        };
        T::decode(buffer).map(Some).map_err(unreadable)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER, TOGETHER)
    }
}
