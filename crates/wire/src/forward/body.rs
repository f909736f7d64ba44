//! What flows through: questions kept so that they can be asked again, answers that end in a status whatever happens.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::time::{Instant, timeout_at};
use tonic::Status;
use tonic::body::Body;

use crate::ApiError;
use crate::error::to_status;
use crate::guard;
use crate::server::MESSAGE_MAX;

/// Longest question that is kept; a longer one is asked once.
const KEPT_MAX: usize = 4 << 20;
/// Longest question of who shows nothing of who asks.
const STRANGE_MAX: usize = 64 << 10;
/// Longest answer that is no stream: a message, and what stands before it.
const ANSWER_MAX: usize = MESSAGE_MAX + 5;
/// What each takes besides its bytes: the stream that it waits on, and the buffers that its bytes came in.
const EACH: usize = 16 << 10;

/// Memory for what is under way on a node: its questions, as far as they have come, or answers that wait for their callers.
/// Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Room {
    taken: Arc<AtomicUsize>,
    most: usize,
    /// What takes it, for errors.
    by: &'static str,
}

/// What a question or an answer takes of it, given back when dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Room,
    bytes: usize,
    /// Whether somebody has shown anything of who asks.
    known: bool,
}

impl Room {
    /// For so many bytes of questions.
    pub(super) fn of(most: usize) -> Self {
        Self { taken: Arc::default(), most, by: "requests" }
    }

    /// For so many bytes of answers.
    pub(super) fn of_answers(most: usize) -> Self {
        Self { by: "answers", ..Self::of(most) }
    }

    /// For what nothing has come of yet.
    pub(super) fn nothing(&self, known: bool) -> Held {
        Held { room: self.clone(), bytes: 0, known }
    }
}

impl Held {
    /// Takes more, unless it is too much.
    fn more(&mut self, bytes: usize) -> Result<(), ApiError> {
        self.bytes += bytes;
        let taken = self.room.taken.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if !self.known && self.bytes > STRANGE_MAX {
            return Err(guard::nobody());
        }
        if taken > self.room.most {
            let (most, by) = (self.room.most >> 20, self.room.by);
            return Err(ApiError::Busy(format!(
                "{most} MiB of {by} are under way on this node, the most it takes; ask again, or another node"
            )));
        }
        Ok(())
    }

    fn give_back(&mut self) {
        self.room.taken.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A question, and what it takes.
#[derive(Debug)]
pub(super) struct Question {
    asked: Asked,
    held: Held,
}

#[derive(Debug)]
enum Asked {
    /// All of it.
    Kept(Bytes),
    /// Too long to keep; gone once it was asked.
    Once(Option<Body>),
    /// The same of one that comes in pieces, each read by itself.
    Pieces(Option<Body>),
}

impl Question {
    /// Reads a question up to its end, or until it is too long to keep, or not whole by then.
    pub(super) async fn read(
        mut body: Body,
        whole_by: Option<Instant>,
        mut held: Held,
    ) -> Result<Self, Status> {
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
                    held.more(data.len()).map_err(|error| to_status(error, false))?;
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
                let body = Some(Body::new(Resumed { read, rest: body }));
                if whole_by.is_some() {
                    return Ok(Self { asked: Asked::Pieces(body), held });
                }
                // Whoever answers it holds all of it at last.
                held.more(MESSAGE_MAX - KEPT_MAX).map_err(|error| to_status(error, false))?;
                return Ok(Self { asked: Asked::Once(body), held });
            }
        }
        if rest.is_empty() {
            return Ok(Self { asked: Asked::Kept(first), held });
        }
        let mut whole = BytesMut::with_capacity(first.len() + rest.len());
        whole.extend_from_slice(&first);
        whole.extend_from_slice(&rest);
        Ok(Self { asked: Asked::Kept(whole.freeze()), held })
    }

    /// The question as a body; none: it was asked before and not kept.
    pub(super) fn ask(&mut self) -> Option<Body> {
        match &mut self.asked {
            Asked::Kept(bytes) => Some(Body::new(Full::new(bytes.clone()))),
            Asked::Once(body) => body.take(),
            Asked::Pieces(body) => {
                // From now on it is where it goes.
                self.held.give_back();
                body.take()
            }
        }
    }

    pub(super) fn can_ask_again(&self) -> bool {
        matches!(self.asked, Asked::Kept(_) | Asked::Once(Some(_)) | Asked::Pieces(Some(_)))
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
    /// Its places among what is under way on this node, given back when it is dropped and the last of it has gone to its caller.
    place: Option<Arc<dyn Send + Sync>>,
    ended: bool,
}

impl Answer {
    pub(super) fn new(inner: Body) -> Self {
        Self { inner, until: None, broken: None, place: None, ended: false }
    }

    pub(super) fn at(mut self, place: impl Send + Sync + 'static) -> Self {
        self.place = Some(Arc::new(place));
        self
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

    /// A part of it, with its places.
    fn placed(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match &self.place {
            Some(place) => frame.map_data(|data| Waiting::bytes(data, place.clone())),
            None => frame,
        }
    }
}

/// Why an answer is not all here.
#[derive(Debug)]
pub(super) enum Unread {
    /// It broke off, and how.
    Broken(String),
    /// There is no room for it.
    NoRoom(ApiError),
}

/// An answer that is all here. It takes room while it comes, and until the last of it has gone to its caller.
///
/// # Errors
/// That it does not come, or has no room.
pub(super) async fn whole(mut body: Body, mut held: Held) -> Result<Body, Unread> {
    held.more(EACH).map_err(Unread::NoRoom)?;
    let (mut pieces, mut length, mut trailers) = (Vec::new(), 0, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|status| Unread::Broken(status.message().to_owned()))?;
        match frame.into_data() {
            Ok(data) => {
                length += data.len();
                if length > ANSWER_MAX {
                    return Err(Unread::Broken(format!("it is longer than {ANSWER_MAX} bytes")));
                }
                held.more(data.len()).map_err(Unread::NoRoom)?;
                pieces.push(data);
            }
            Err(frame) => trailers = frame.into_trailers().ok().or(trailers),
        }
    }
    let data = match <[Bytes; 1]>::try_from(pieces) {
        Ok([all]) => all,
        Err(pieces) => {
            let mut all = BytesMut::with_capacity(length);
            for piece in &pieces {
                all.extend_from_slice(piece);
            }
            all.freeze()
        }
    };
    let data = Waiting::bytes(data, held);
    Ok(Body::new(Full::new(data).with_trailers(std::future::ready(trailers.map(Ok)))))
}

/// Bytes of an answer, with what they take as long as they have not gone to its caller: the transport has taken over all of a body
/// long before it has sent it.
struct Waiting<T> {
    data: Bytes,
    _taken: T,
}

impl<T: Send + 'static> Waiting<T> {
    fn bytes(data: Bytes, taken: T) -> Bytes {
        Bytes::from_owner(Self { data, _taken: taken })
    }
}

impl<T> AsRef<[u8]> for Waiting<T> {
    fn as_ref(&self) -> &[u8] {
        &self.data
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
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.placed(frame)))),
            Poll::Ready(None) => Poll::Ready(None),
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

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;
    use tokio::sync::Semaphore;

    use super::*;

    /// A question of so many bytes, a thousand at a time.
    fn body(bytes: usize) -> Body {
        let frames =
            (0..bytes.div_ceil(1000)).map(|_| Ok::<_, Status>(Frame::data(Bytes::from_static(&[0; 1000]))));
        Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))
    }

    #[tokio::test]
    async fn questions_take_no_more_than_there_is_room_for() {
        let room = Room::of(10_000);
        let mut first = Question::read(body(6_000), None, room.nothing(true)).await.unwrap();
        assert_eq!(first.ask().unwrap().collect().await.unwrap().to_bytes().len(), 6_000);
        let refused = Question::read(body(6_000), None, room.nothing(true)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        let small = Question::read(body(4_000), None, room.nothing(true)).await.unwrap();
        drop((first, small));
        Question::read(body(10_000), None, room.nothing(true)).await.unwrap();
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_long_question_takes_as_much_as_it_may_become_and_pieces_as_long_as_they_are_here() {
        let room = Room::of(MESSAGE_MAX + KEPT_MAX);
        let long = Question::read(body(KEPT_MAX + 1000), None, room.nothing(true)).await.unwrap();
        assert!(room.taken.load(Ordering::Relaxed) >= MESSAGE_MAX);
        assert!(Question::read(body(KEPT_MAX + 1000), None, room.nothing(true)).await.is_err());
        drop(long);
        let by = Some(Instant::now() + std::time::Duration::from_secs(20));
        let mut pieces = Question::read(body(2 * KEPT_MAX), by, room.nothing(true)).await.unwrap();
        assert!(room.taken.load(Ordering::Relaxed) > KEPT_MAX && pieces.can_ask_again());
        let body = pieces.ask().unwrap();
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        assert!(body.collect().await.unwrap().to_bytes().len() >= 2 * KEPT_MAX && pieces.ask().is_none());
    }

    #[tokio::test]
    async fn answers_take_room_until_the_last_of_them_has_gone_to_their_callers() {
        let room = Room::of_answers(2 * EACH + 10_000);
        let mut trailers = http::HeaderMap::new();
        trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
        let read = async |bytes: usize| {
            let body = body(bytes).with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
            whole(Body::new(body), room.nothing(true)).await
        };
        let mut first = read(6_000).await.unwrap();
        let refused = read(6_000).await.unwrap_err();
        let Unread::NoRoom(ApiError::Busy(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("of answers"), "{why}");
        // As a transport does it that has not sent anything yet.
        let data = first.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert!(first.frame().await.is_none());
        drop(first);
        assert_eq!((data.len(), room.taken.load(Ordering::Relaxed)), (6_000, EACH + 6_000));
        drop(data);
        drop(read(10_000).await.unwrap());
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn an_answer_has_its_place_until_the_last_of_it_has_gone_to_its_caller() {
        let places = Arc::new(Semaphore::new(1));
        let mut answer = Answer::new(body(1000)).at(places.clone().try_acquire_owned().unwrap());
        // As a transport does it that has not sent anything yet.
        let data = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(answer.frame().await.is_none());
        drop(answer);
        assert_eq!((data.len(), places.available_permits()), (1000, 0));
        drop(data);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn an_answer_takes_room_as_it_comes_and_no_more_than_an_answer_may_have() {
        let piece = || Ok::<_, Status>(Frame::data(Bytes::from_static(&[0; 1000])));
        let endless = || Body::new(StreamBody::new(stream::repeat_with(piece)));
        let room = Room::of_answers(EACH + 10_000);
        let refused = whole(endless(), room.nothing(true)).await.unwrap_err();
        assert!(matches!(refused, Unread::NoRoom(_)), "{refused:?}");
        let refused = whole(endless(), Room::of_answers(usize::MAX).nothing(true)).await.unwrap_err();
        assert!(matches!(&refused, Unread::Broken(why) if why.contains("longer than")), "{refused:?}");
        let breaks = stream::iter([piece(), Err(Status::unavailable("it went away"))]);
        let broken = whole(Body::new(StreamBody::new(breaks)), room.nothing(true)).await.unwrap_err();
        assert!(matches!(&broken, Unread::Broken(why) if why == "it went away"), "{broken:?}");
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        let longest = Body::new(Full::new(Bytes::from(vec![0; ANSWER_MAX])));
        let read = whole(longest, Room::of_answers(usize::MAX).nothing(true)).await.unwrap();
        assert_eq!(read.collect().await.unwrap().to_bytes().len(), ANSWER_MAX);
    }

    #[tokio::test]
    async fn who_shows_nothing_asks_nothing_long() {
        let room = Room::of(1 << 30);
        assert!(Question::read(body(STRANGE_MAX - 1000), None, room.nothing(false)).await.is_ok());
        let refused = Question::read(body(STRANGE_MAX + 1000), None, room.nothing(false)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
    }
}
