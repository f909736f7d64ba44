//! Answers that many pages ask for at the same moment are made once: what a hundred dashboards show costs what one does.
//!
//! Only answers that are the same for everybody who may see them; and a token that the cluster does not take any more finds
//! none that was made for another.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _, Shared};
use serde_json::Value;
use sheaf_model::TokenId;
use sheaf_wire::ApiError;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// How long an answer serves everybody who looks, from when it was begun.
const FRESH: Duration = Duration::from_secs(1);
/// One that is still being made is joined for so long.
const JOINED: Duration = Duration::from_secs(5);
/// Answers kept; more than people look at in a second.
const KEPT: usize = 64;

/// What is asked, and with which token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) token: Option<TokenId>,
    /// As it was asked: path and parameters.
    pub(crate) what: String,
}

type Making = Shared<BoxFuture<'static, Result<Bytes, ApiError>>>;

/// Answers made lately, or being made.
#[derive(Default)]
pub(crate) struct Fresh(Mutex<HashMap<Question, (Instant, Making)>>);

impl Fresh {
    /// The answer, made by `make` unless somebody just asked the same.
    pub(crate) async fn look(
        &self,
        question: Question,
        make: impl Future<Output = Result<Value, ApiError>> + Send + 'static,
    ) -> Result<Bytes, ApiError> {
        self.join(question, make).await
    }

    fn join(
        &self,
        question: Question,
        make: impl Future<Output = Result<Value, ApiError>> + Send + 'static,
    ) -> Making {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (begun, making)| {
            begun.elapsed() < if making.peek().is_some() { FRESH } else { JOINED }
        });
        if let Some((_, making)) = kept.get(&question) {
            return making.clone();
        }
        let made = make.map(|answer| answer.map(|value| Bytes::from(value.to_string())));
        let making: Making = made.boxed().shared();
        if kept.len() < KEPT {
            kept.insert(question, (Instant::now(), making.clone()));
        }
        making
    }
}

/// How long what nobody needs a token for serves everybody who asks, from when it was begun.
const PROBED: Duration = Duration::from_millis(250);

/// The one answer to a question that whoever reaches the port may ask, however often: it is not made more often than that, and
/// never twice at a time.
pub(crate) struct Lately<T>(Mutex<Option<Begun<T>>>);

struct Begun<T> {
    at: Instant,
    task: AbortHandle,
    made: Made<T>,
}

/// None: it could not be made to its end.
type Made<T> = Shared<BoxFuture<'static, Option<T>>>;

impl<T> Default for Lately<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> Lately<T> {
    /// The answer, made by `make` unless somebody just asked.
    pub(crate) async fn look(&self, make: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.join(make).await
    }

    fn join(&self, make: impl Future<Output = T> + Send + 'static) -> Made<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let serves = |begun: &&Begun<T>| !begun.task.is_finished() || begun.at.elapsed() < PROBED;
        if let Some(begun) = kept.as_ref().filter(serves) {
            return begun.made.clone();
        }
        // A task of its own: who asks and goes away at once neither stops it nor has it begun again.
        let making = tokio::spawn(make);
        let task = making.abort_handle();
        let made: Made<T> = AbortOnDropHandle::new(making).map(Result::ok).boxed().shared();
        *kept = Some(Begun { at: Instant::now(), task, made: made.clone() });
        made
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    fn question(token: Option<u8>, what: &str) -> Question {
        Question { token: token.map(|byte| TokenId([byte; 6])), what: what.to_owned() }
    }

    #[tokio::test]
    async fn what_many_ask_at_once_is_made_once_and_for_each_token_anew() {
        let (fresh, made) = (Fresh::default(), Arc::new(AtomicUsize::new(0)));
        let ask = |question| {
            let made = made.clone();
            fresh.look(question, async move {
                tokio::task::yield_now().await;
                Ok(json!(made.fetch_add(1, Ordering::Relaxed)))
            })
        };
        let (one, two) = futures::join!(ask(question(None, "a")), ask(question(None, "a")));
        assert_eq!((one, two), (Ok(Bytes::from("0")), Ok(Bytes::from("0"))));
        assert_eq!(ask(question(None, "b")).await, Ok(Bytes::from("1")));
        assert_eq!(ask(question(Some(1), "a")).await, Ok(Bytes::from("2")));
        assert_eq!(ask(question(Some(2), "a")).await, Ok(Bytes::from("3")));
        assert_eq!(ask(question(Some(1), "a")).await, Ok(Bytes::from("2")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_needs_no_token_is_made_once_in_a_while_however_many_ask_and_go_away() {
        let (lately, made) = (Lately::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let made = made.clone();
            lately.look(async move {
                let number = made.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(2 * PROBED).await;
                number
            })
        };
        for _ in 0..100 {
            tokio::time::timeout(Duration::from_millis(1), ask()).await.expect_err("it takes longer");
        }
        assert_eq!(futures::join!(ask(), ask()), (Some(0), Some(0)), "nobody stopped it by going away");
        assert_eq!(ask().await, Some(1), "it is older than it may be");
        tokio::time::timeout(Duration::from_millis(1), ask()).await.expect_err("it takes longer");
        tokio::time::sleep(100 * PROBED).await;
        assert_eq!(ask().await, Some(3), "what nobody waited for serves no longer than other answers");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_made_quickly_serves_for_a_moment() {
        let (lately, made) = (Lately::default(), Arc::new(AtomicUsize::new(0)));
        let ask = || {
            let made = made.clone();
            lately.look(async move { made.fetch_add(1, Ordering::Relaxed) })
        };
        assert_eq!(ask().await, Some(0));
        tokio::time::advance(PROBED - Duration::from_millis(1)).await;
        assert_eq!(ask().await, Some(0));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask().await, Some(1));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_wait_and_there_are_never_more_than_so_many() {
        let fresh = Fresh::default();
        let failing = || fresh.look(question(None, "x"), async { Err(ApiError::unavailable("no leader")) });
        let (one, two) = futures::join!(failing(), failing());
        assert!(one.is_err() && one == two);
        for number in 0..2 * KEPT {
            let what = number.to_string();
            let answer = fresh.look(question(None, &what), async move { Ok(json!(number)) }).await;
            assert_eq!(answer, Ok(Bytes::from(what)));
        }
        let kept = fresh.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        assert!(kept <= KEPT, "{kept}");
    }
}
