//! Questions and answers about nodes that are to be emptied or forgotten, to and from messages.

use sheaf_model::{Drain, Span};

use super::convert::node;
use super::{DrainNode, Drained, Going, OnNode};
use crate::proto::v1;
use crate::{ApiError, Caller};

pub(super) fn drain(message: v1::DrainNodeRequest, caller: &Caller) -> Result<DrainNode, ApiError> {
    Ok(DrainNode {
        node: node(message.name)?,
        drain: Drain { deadline: message.deadline_ms.map(Span), keep_multi_node: message.keep_multi_node },
        validate_only: message.validate_only,
        request: caller.request_id(message.request_id)?,
    })
}

impl From<DrainNode> for v1::DrainNodeRequest {
    fn from(ask: DrainNode) -> Self {
        Self {
            name: ask.node,
            deadline_ms: ask.drain.deadline.map(|span| span.0),
            keep_multi_node: ask.drain.keep_multi_node,
            validate_only: ask.validate_only,
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

impl From<Drained> for v1::DrainNodeResponse {
    fn from(drained: Drained) -> Self {
        let going = |going: Going| v1::Going { bucket: going.bucket, to: going.to, why: going.why };
        let going = drained.going.into_iter().map(going).collect();
        Self { change: Some(drained.done.into()), going, subtasks: drained.subtasks }
    }
}

impl From<v1::DrainNodeResponse> for Drained {
    fn from(answer: v1::DrainNodeResponse) -> Self {
        let going = |going: v1::Going| Going { bucket: going.bucket, to: going.to, why: going.why };
        let done = answer.change.map(Into::into).unwrap_or_default();
        let subtasks = answer.subtasks;
        Self { done, going: answer.going.into_iter().map(going).collect(), subtasks }
    }
}

/// The changes that need no more than a name have messages alike.
macro_rules! on_node {
    ($($message:ident)*) => {$(
        impl From<OnNode> for v1::$message {
            fn from(ask: OnNode) -> Self {
                Self { name: ask.node, request_id: ask.request.map(|id| id.0).unwrap_or_default() }
            }
        }

        impl v1::$message {
            pub(super) fn read(self, caller: &Caller) -> Result<OnNode, ApiError> {
                Ok(OnNode { node: node(self.name)?, request: caller.request_id(self.request_id)? })
            }
        }
    )*};
}

on_node! { UndrainNodeRequest ForgetNodeRequest }
