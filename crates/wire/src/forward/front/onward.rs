//! A call on its way to another node, and the answer on its way back.

use http::Response;
use sheaf_model::Contact;
use tonic::body::Body;
use tonic::{Status, TimeoutExpired};
use tower::{Service as _, ServiceExt as _};

use super::{Attempt, Inner, judged, placed, refuse};
use crate::Applies;
use crate::client::{caused_by, explain, never_sent};
use crate::forward::Class;
use crate::forward::body::{Answer, Held, Room, Unread, whole};
use crate::forward::call::{Call, broken_change, broken_read};
use crate::forward::peers::Traffic;
use crate::guard::Certificate;

impl Inner {
    pub(super) async fn forward(&self, to: &Contact, call: &mut Call) -> Attempt {
        let address = &to.address;
        let traffic = if call.stream || call.pieces { Traffic::Streams } else { Traffic::Calls };
        let connected = match self.peers.connected(to, traffic).await {
            Ok(connected) => connected,
            Err(why) => return Attempt::Failed(why, Applies::No),
        };
        // Who reads no streams keeps no question in pieces out: its answer is taken at once.
        let place = match call.stream.then(|| connected.place()).transpose() {
            Ok(place) => place,
            Err(error) => {
                self.refused.another();
                return Attempt::Answered(refuse(error, call.long));
            }
        };
        let Some(body) = call.question.ask() else {
            return Attempt::Failed("the request is too large to be asked again".to_owned(), Applies::No);
        };
        let mut channel = connected.channel.clone();
        let ready = match channel.ready().await {
            Ok(ready) => ready,
            Err(error) => {
                self.peers.broken(to, &connected);
                return Attempt::Failed(format!("reach {address}: {}", explain(&error)), Applies::No);
            }
        };
        call.asked = true;
        match ready.call(call.onward(body)).await {
            Ok(response) => match judged(call, response) {
                Attempt::Answered(response) if call.stream => {
                    Attempt::Answered(placed(self.relayed(call, response), place))
                }
                Attempt::Answered(response) => {
                    self.taken(call.class, call.long, self.for_answer(call), response).await
                }
                failed => failed,
            },
            // The transport's own timer, a little early: ours ends the attempt.
            Err(error) if caused_by::<TimeoutExpired>(&error) => std::future::pending().await,
            Err(error) => {
                self.peers.broken(to, &connected);
                let applied = if never_sent(&error) { Applies::No } else { perhaps(call.class) };
                Attempt::Failed(format!("the connection to {address} broke: {}", explain(&error)), applied)
            }
        }
    }

    /// A stream that comes from elsewhere: when its connection breaks, or this node stops, it ends with a status all the same.
    fn relayed(&self, call: &Call, response: Response<Body>) -> Response<Body> {
        let broken: fn(&Status) -> Status =
            if call.class == Class::Change { broken_change } else { broken_read };
        response.map(|body| Body::new(Answer::new(body).or_if_broken(broken).until(self.stopped())))
    }

    /// What an answer may take until its caller has taken it. What was changed is told, however much waits here.
    pub(super) fn for_answer(&self, call: &Call) -> Held {
        if call.class == Class::Change {
            return Room::of_answers(usize::MAX).nothing(true);
        }
        match call.parts.extensions.get::<Certificate>() {
            Some(Certificate::Node(_)) => self.answers_to_nodes.nothing(true),
            Some(Certificate::Bootstrap) | None => self.answers.nothing(true),
        }
    }

    /// An answer that is no stream, all of it before any is given on: what its caller does not take must not fill the connection
    /// that others' answers come on, nor more of this node's memory than there is for it.
    pub(super) async fn taken(
        &self,
        class: Class,
        long: bool,
        held: Held,
        response: Response<Body>,
    ) -> Attempt {
        let (parts, body) = response.into_parts();
        // A status alone: nothing is to come.
        if http_body::Body::is_end_stream(&body) {
            return Attempt::Answered(Response::from_parts(parts, body));
        }
        match whole(body, held).await {
            Ok(body) => Attempt::Answered(Response::from_parts(parts, body)),
            Err(Unread::NoRoom(error)) => {
                self.refused.another();
                Attempt::Answered(refuse(error, long))
            }
            Err(Unread::Broken(why)) => {
                Attempt::Failed(format!("the answer broke off: {why}"), perhaps(class))
            }
        }
    }
}

/// Whether a call may have been applied that somebody has.
fn perhaps(class: Class) -> Applies {
    if class == Class::Change { Applies::Perhaps } else { Applies::No }
}
