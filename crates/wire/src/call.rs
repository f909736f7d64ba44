//! The one way a message becomes a call and an answer a message, on both sides.

use std::future::Future;

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::caller::DEFECTS;
use crate::error::{from_status, to_status};
use crate::{Answers, ApiError, Caller};

/// Messages of a stream on their way out.
pub(crate) type Messages<P> = BoxStream<'static, Result<P, Status>>;

/// A client's stream without a lifetime in its type: the compiler forgets that a boxed stream is `'static` when it asks
/// whether a future that holds one may be sent to another thread, and then refuses it.
pub(crate) struct Outgoing<P>(pub(crate) BoxStream<'static, P>);

impl<P> futures::Stream for Outgoing<P> {
    type Item = P;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<P>> {
        self.0.poll_next_unpin(context)
    }
}

/// Server side of a unary call: reads the message, asks, writes the answer.
pub(crate) async fn unary<Q, A, R, P, F>(
    request: Request<Q>,
    read: impl FnOnce(Q, &Caller) -> Result<A, ApiError>,
    ask: impl FnOnce(Caller, A) -> F,
    write: impl FnOnce(R) -> P,
) -> Result<Response<P>, Status>
where
    F: Future<Output = Result<R, ApiError>>,
{
    let long = wants_all(&request);
    let answer = async {
        let caller = Caller::of(&request)?;
        let question = read(request.into_inner(), &caller)?;
        ask(caller, question).await
    };
    match answer.await {
        Ok(answer) => Ok(Response::new(write(answer))),
        Err(error) => Err(to_status(error, long)),
    }
}

/// Server side of a call that is answered by a stream.
pub(crate) async fn stream<Q, A, R, P, F>(
    request: Request<Q>,
    read: impl FnOnce(Q, &Caller) -> Result<A, ApiError>,
    ask: impl FnOnce(Caller, A) -> F,
    write: impl Fn(R) -> Result<P, ApiError> + Send + 'static,
) -> Result<Response<Messages<P>>, Status>
where
    R: 'static,
    P: 'static,
    F: Future<Output = Result<Answers<R>, ApiError>>,
{
    let long = wants_all(&request);
    unary(request, read, ask, |answers| messages(answers, long, write)).await
}

/// Answers as messages.
pub(crate) fn messages<R: 'static, P: 'static>(
    answers: Answers<R>,
    long: bool,
    write: impl Fn(R) -> Result<P, ApiError> + Send + 'static,
) -> Messages<P> {
    answers.map(move |answer| answer.and_then(&write).map_err(|error| to_status(error, long))).boxed()
}

/// Whether the other side reads long headers.
pub(crate) fn wants_all<T>(request: &Request<T>) -> bool {
    request.metadata().get(DEFECTS).is_some_and(|value| value == "all")
}

/// Messages that come in, as what they mean; the first unreadable one ends them.
pub(crate) fn incoming<P: Send + 'static, R: Send + 'static>(
    from: &str,
    messages: Streaming<P>,
    mut read: impl FnMut(P) -> Result<R, ApiError> + Send + 'static,
) -> Answers<R> {
    let from = from.to_owned();
    let answers = messages.scan(false, move |ended, message| {
        if *ended {
            return std::future::ready(None);
        }
        let answer = message.map_err(|status| from_status(&from, &status)).and_then(&mut read);
        *ended = answer.is_err();
        std::future::ready(Some(answer))
    });
    answers.boxed()
}
