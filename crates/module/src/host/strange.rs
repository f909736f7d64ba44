//! What no caller of the protocol says, for checks: every module meets a newer Sheaf some day, and no module may fall over bytes.

use bytes::{Buf as _, BufMut as _};
use prost::Message as _;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;

use super::{CallError, Host, failed};
use crate::failure::causes;
use crate::proto::{CanRunOnThisNodeRequest, CanRunOnThisNodeResponse};
use crate::{Bucket, CanRun, Node};

/// A call that the protocol does not have.
const NO_SUCH_CALL: &str = "/sheaf.module.v1.ModuleService/NoSuchCall";
/// The one that changes nothing.
const GATE: &str = "/sheaf.module.v1.ModuleService/CanRunOnThisNode";
/// Bytes that are no message: a field whose length is not there.
const GARBAGE: [u8; 8] = [0x0a, 0xff, 0xff, 0xff, 0xff, 0x07, 0xff, 0xff];
/// Fields that no message has: number 1000, a text, and number 1001, a number.
const MORE: [u8; 10] = [0xc2, 0x3e, 0x03, b'n', b'e', b'w', 0xc8, 0x3e, 0xac, 0x02];

impl Host {
    /// Makes a call that the protocol does not have; answered with [`CallError::Unimplemented`] by whoever does well.
    ///
    /// # Errors
    /// Any other is a module that does not know what it does not know.
    pub async fn no_such_call(&self) -> Result<(), CallError> {
        self.raw("NoSuchCall", NO_SUCH_CALL, Vec::new()).await.map(drop)
    }

    /// Asks gate 3 with bytes that are no message; an error is what should come.
    ///
    /// # Errors
    /// [`CallError::Failed`], or that the call is not implemented.
    pub async fn garbage(&self) -> Result<(), CallError> {
        self.raw("CanRunOnThisNode", GATE, GARBAGE.to_vec()).await.map(drop)
    }

    /// Asks gate 3 with fields that this version of the protocol does not have, as a newer caller would.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn can_run_with_more(&self, bucket: Bucket, node: Node) -> Result<CanRun, CallError> {
        let request = CanRunOnThisNodeRequest { bucket: Some(bucket.into()), node: Some(node.into()) };
        let mut bytes = request.encode_to_vec();
        bytes.extend_from_slice(&MORE);
        let call = "CanRunOnThisNode";
        let answer = self.raw(call, GATE, bytes).await?;
        let answer = CanRunOnThisNodeResponse::decode(&*answer)
            .map_err(|error| CallError::Broken { call, reason: error.to_string() })?;
        Ok(if answer.can_run { CanRun::Yes } else { CanRun::No(answer.reason) })
    }

    async fn raw(
        &self,
        call: &'static str,
        path: &'static str,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        let mut client = Grpc::new(self.channel.clone());
        let ready = client.ready().await;
        ready.map_err(|error| CallError::Broken { call, reason: causes(&error) })?;
        let path = PathAndQuery::from_static(path);
        let answer = client.unary(tonic::Request::new(bytes), path, Raw).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failed(call, &status))
    }
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
