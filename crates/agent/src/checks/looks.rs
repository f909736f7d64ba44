//! Looks at what may hang: a file on a server that is gone.
//!
//! A look runs on a thread of its own, which nobody can end. So there is one for each place, however often and by however
//! many it is asked; who asks while it is under way waits for its answer, each within its own limit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sheaf_engine::gates::CheckAnswer;
use sheaf_model::Span;
use tokio::sync::watch;

/// So many places may hang at the same time; what is beyond that is not looked at. The agent has 512 such threads for all it
/// does.
const MOST: usize = 128;

type Answers = watch::Receiver<Option<CheckAnswer>>;

/// The looks under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Looks(Arc<Mutex<BTreeMap<String, Answers>>>);

impl Looks {
    /// Looks at `place`, and waits for the answer within the limit; `place` is the same for what is the same look.
    pub(super) async fn at(
        &self,
        place: &str,
        limit: Span,
        look: impl FnOnce() -> CheckAnswer + Send + 'static,
    ) -> CheckAnswer {
        let Some(mut answers) = self.begin(place, look) else {
            return CheckAnswer::Unclear(format!(
                "{place}: not looked at: {MOST} other places do not answer"
            ));
        };
        match tokio::time::timeout(limit.duration(), answers.wait_for(Option::is_some)).await {
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| broke_off(place)),
            Ok(Err(_)) => broke_off(place),
            Err(_) => CheckAnswer::Unclear(format!("{place}: no answer within {limit}")),
        }
    }

    /// The look that is under way, or a new one.
    fn begin(&self, place: &str, look: impl FnOnce() -> CheckAnswer + Send + 'static) -> Option<Answers> {
        let mut under_way = self.under_way();
        if let Some(answers) = under_way.get(place) {
            return Some(answers.clone());
        }
        if under_way.len() >= MOST {
            return None;
        }
        let (tell, answers) = watch::channel(None);
        under_way.insert(place.to_owned(), answers.clone());
        let ending = Ending { looks: self.clone(), place: place.to_owned() };
        drop(under_way);
        // Whoever waits for it may go away; it ends when the system answers.
        drop(tokio::task::spawn_blocking(move || {
            let answer = look();
            drop(ending); // first: who asks from here on wants a new one
            tell.send_replace(Some(answer));
        }));
        Some(answers)
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Answers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broke_off(place: &str) -> CheckAnswer {
    CheckAnswer::Unclear(format!("{place}: the check broke off"))
}

/// Takes a look out of those under way, however it ends.
struct Ending {
    looks: Looks,
    place: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.looks.under_way().remove(&self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[tokio::test]
    async fn what_hangs_is_looked_at_once_however_often_it_is_asked() {
        let (looks, begun) = (Looks::default(), Arc::new(AtomicUsize::new(0)));
        let (answer, hangs) = sync_channel::<()>(0);
        let hangs = Arc::new(Mutex::new(hangs));
        let look = || {
            let (begun, hangs) = (begun.clone(), hangs.clone());
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                // The sender is gone once it is to answer.
                let _ = hangs.lock().unwrap().recv();
                CheckAnswer::Holds
            }
        };
        let limit = Span::millis(20);
        for _ in 0..3 {
            let said = looks.at("/far/file", limit, look()).await;
            assert_eq!(said, CheckAnswer::Unclear("/far/file: no answer within 20ms".to_owned()));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1, "its thread waits, and no other does");
        assert_eq!(looks.at("/near", limit, || CheckAnswer::Holds).await, CheckAnswer::Holds);
        let (one_more, another) = (looks.clone(), look());
        let waits = tokio::spawn(async move { one_more.at("/far/file", Span::seconds(60), another).await });
        tokio::task::yield_now().await; // it waits now
        drop(answer);
        assert_eq!(waits.await.unwrap(), CheckAnswer::Holds, "the one under way");
        assert_eq!(looks.at("/far/file", Span::seconds(60), look()).await, CheckAnswer::Holds);
        assert_eq!(begun.load(Ordering::SeqCst), 2, "a new one");
        assert!(looks.under_way().is_empty());
    }

    #[tokio::test]
    async fn places_that_hang_do_not_take_all_threads() {
        let looks = Looks::default();
        let mut answers = Vec::new();
        for n in 0..MOST {
            let (answer, hangs) = sync_channel::<()>(0);
            answers.push(answer);
            let said = looks
                .at(&n.to_string(), Span::millis(1), move || {
                    let _ = hangs.recv();
                    CheckAnswer::Holds
                })
                .await;
            assert!(matches!(said, CheckAnswer::Unclear(_)));
        }
        let said = looks.at("/one/more", Span::seconds(60), || CheckAnswer::Holds).await;
        assert_eq!(
            said,
            CheckAnswer::Unclear("/one/more: not looked at: 128 other places do not answer".to_owned())
        );
        answers.clear();
        let panics = looks.at("/0", Span::seconds(60), || panic!("the test's own")).await;
        assert_eq!(panics, CheckAnswer::Unclear("/0: the check broke off".to_owned()));
    }
}
