//! What flows through: questions kept so that they can be asked again, answers that end in a status whatever happens.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;

/// Longest question that is kept; a longer one is asked once.
const KEPT_MAX: usize = 4 << 20;

/// A question.
#[derive(Debug)]
pub(super) enum Question {
    /// All of it.
    Kept(Bytes),
    /// Too long to keep; gone once it was asked.
    Once(Option<Body>),
}

impl Question {
    /// Reads a question up to its end, or until it is too long to keep, or not whole by then.
    pub(super) async fn read(mut body: Body, whole_by: Option<Instant>) -> Result<Self, Status> {
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        loop {
            let frame = match whole_by {
                // Dropped: nothing of the body was taken.
                Some(by) => timeout_at(by, body.frame()).await,
                None => Ok(body.frame().await),
            };
            let late = frame.is_err();
            match frame {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let Ok(data) = frame?.into_data() else { continue };
                    if first.is_empty() {
                        first = data;
                    } else {
                        rest.extend_from_slice(&data);
                    }
                }
                Err(_) => {}
            }
            if late || first.len() + rest.len() > KEPT_MAX {
                let read = [first, rest.freeze()].into();
                return Ok(Self::Once(Some(Body::new(Resumed { read, rest: body }))));
            }
        }
        if rest.is_empty() {
            return Ok(Self::Kept(first));
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(Self::Kept(whole.freeze()))
    }

    /// The question as a body; none: it was asked before and not kept.
    pub(super) fn ask(&mut self) -> Option<Body> {
        match self {
            Self::Kept(bytes) => Some(Body::new(Full::new(bytes.clone()))),
            Self::Once(body) => body.take(),
        }
    }

    pub(super) fn can_ask_again(&self) -> bool {
        matches!(self, Self::Kept(_) | Self::Once(Some(_)))
    }
}

/// What was read already, then the rest.
struct Resumed {
    read: std::collections::VecDeque<Bytes>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        while self.read.front().is_some_and(Bytes::is_empty) {
            self.read.pop_front();
        }
        match self.read.pop_front() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }
}

/// An answer that ends with a status of ours when what it comes from breaks or this node stops.
pub(super) struct Answer {
    inner: Body,
    /// Ends the answer when it is done, with the status it gives; none: nothing does.
    until: Option<BoxFuture<'static, Status>>,
    /// The status in place of a connection's error.
    broken: Option<fn(&Status) -> Status>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, until: None, broken: None, ended: false }
    }

    pub(super) fn until(mut self, until: BoxFuture<'static, Status>) -> Self {
        self.until = Some(until);
        self
    }

    pub(super) fn or_if_broken(mut self, status: fn(&Status) -> Status) -> Self {
        self.broken = Some(status);
        self
    }

    fn end(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Err(status))) => match self.broken {
                Some(instead) => self.end(&instead(&status)),
                None => Poll::Ready(Some(Err(status))),
            },
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => match self.until.as_mut().map(|until| until.as_mut().poll(cx)) {
                Some(Poll::Ready(status)) => self.end(&status),
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
