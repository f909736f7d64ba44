//! One subtask at a service: posted, followed to its end, deleted if it is not wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;
use sheaf_module::{ContextError, Failure, Subtask};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::client::{Answer, Ask};
use super::config::Config;
use super::kept::Under;
use super::template::{Scope, Template, segment};
use super::{PAUSE, Shared};

/// Before a request is made again that got no answer; doubled each time …
const AGAIN: Duration = Duration::from_millis(500);
/// … up to this.
const AGAIN_MAX: Duration = Duration::from_secs(10);
/// For so long after the post a service may not know what it has just begun.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// So often a deletion is tried.
const DELETES: u32 = 3;
/// Longest part of an answer in a message.
const EXCERPT: usize = 500;
/// Longest part of an answer that is kept as output.
const OUTPUT: usize = 256 << 10;
/// Knows a request again.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One attempt, and how its service is spoken with.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) shared: Arc<Shared>,
    pub(super) config: Arc<Config>,
    /// As the backend's document said it.
    pub(super) written: String,
    pub(super) scope: Scope,
}

/// How a post went.
type Posted = Result<String, Failure>;

/// Deletes what was posted, unless it is known to have ended: dropped in any other case, it does so in the background, after the
/// post that may be under way.
struct Guard {
    upstream: Upstream,
    post: Option<JoinHandle<Posted>>,
    id: Option<String>,
    /// The process waits for what is dropped as well.
    _token: TaskTrackerToken,
}

impl Guard {
    /// It has ended, or never was.
    fn disarm(mut self) {
        (self.post, self.id) = (None, None);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (post, id) = (self.post.take(), self.id.take());
        if post.is_none() && id.is_none() {
            return;
        }
        let mut upstream = self.upstream.clone();
        let tasks = self.upstream.shared.tasks.clone();
        tasks.spawn(async move {
            let posted = match post {
                Some(post) => post.await.ok().and_then(Result::ok),
                None => None,
            };
            upstream.scope.id = id.or(posted);
            if upstream.scope.id.is_some() {
                upstream.delete().await;
            }
        });
    }
}

impl Upstream {
    /// Posts it and follows it to its end. Dropped before that, it is deleted upstream.
    pub(super) async fn run(mut self, subtask: &Subtask) -> Result<(), Failure> {
        self.shared.allowed(&self.scope.backend).await;
        // What is wrong with the request is told before anything is sent.
        let post = self.post_request().await?;
        let (token, tasks) = (self.shared.tasks.token(), self.shared.tasks.clone());
        // A task of its own: a post that was begun is followed to its answer, or nobody would know what to delete.
        let posting = tasks.spawn(self.clone().post(post));
        let mut guard = Guard { upstream: self.clone(), post: Some(posting), id: None, _token: token };
        let posted = match &mut guard.post {
            Some(posting) => posting.await,
            None => return Ok(()),
        };
        guard.post = None;
        let id = posted.map_err(|error| Failure::new(format!("the post broke off: {error}")))??;
        guard.id = Some(id.clone());
        self.scope.id = Some(id.clone());
        self.keep(&id);
        subtask.print(format!("{} has it as {id}", self.scope.backend)).await;
        match self.follow(subtask).await {
            Ended::Over(result) => {
                guard.disarm();
                self.forget();
                result
            }
            Ended::GivenUp(failure) => Err(failure),
        }
    }

    /// Nothing of it is upstream any more.
    fn forget(&self) {
        self.shared.kept.iter().for_each(|kept| kept.remove(self.scope.subtask, self.scope.attempt));
    }

    fn keep(&self, id: &str) {
        let Scope { subtask, attempt, backend, item, .. } = &self.scope;
        let under = Under {
            subtask: *subtask,
            attempt: *attempt,
            backend: backend.clone(),
            config: self.written.clone(),
            item: item.clone(),
            id: id.to_owned(),
        };
        if let Some(Err(error)) = self.shared.kept.as_ref().map(|kept| kept.put(&under)) {
            eprintln!("sheaf builtin http: {id} is not written down: {error}");
        }
    }

    /// Sends it, with the same key each time, until there is an answer.
    async fn post(self, ask: Ask) -> Posted {
        let (mut again, mut maybe_there) = (AGAIN, false);
        let backend = &self.scope.backend;
        let mut last = String::new();
        for tried in 1..=self.config.submit.tries {
            if tried > 1 {
                sleep(again).await;
                again = (again * 2).min(AGAIN_MAX);
                self.shared.allowed(backend).await;
            }
            match self.config.client.ask(&ask).await {
                Ok(answer) => match answer.status {
                    200..=299 => return self.id_in(&answer),
                    429 => {
                        let pause = answer.retry_after.unwrap_or(PAUSE).max(Duration::from_secs(1));
                        self.shared.pause(backend, pause);
                        last = said(&answer);
                        if !maybe_there {
                            return Err(Failure::not_now(pause, last));
                        }
                    }
                    408 | 425 | 500..=599 => {
                        (last, maybe_there) = (said(&answer), true);
                    }
                    _ => return Err(Failure::refused(said(&answer))),
                },
                Err(error) => {
                    maybe_there |= matches!(error, super::client::NoAnswer::Lost(_));
                    last = error.to_string();
                }
            }
        }
        let tries = self.config.submit.tries;
        Err(Failure::of_backend(format!(
            "sent {tries} times as {}, without an answer that counts: {last}",
            self.scope.key
        )))
    }

    /// What the service calls it.
    fn id_in(&self, answer: &Answer) -> Posted {
        let pointer = &self.config.submit.id;
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let named = body.as_ref().and_then(|body| body.pointer(pointer)).and_then(|id| match id {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let last = answer.location.as_deref().and_then(|location| {
            let path = location.split(['?', '#']).next().unwrap_or_default();
            path.trim_end_matches('/').rsplit('/').next().filter(|last| !last.is_empty()).map(str::to_owned)
        });
        named.or(last).ok_or_else(|| {
            Failure::refused(format!(
                "it took the post, and says neither at {pointer} nor in Location what it calls it: {}",
                said(answer)
            ))
        })
    }

    /// Asks how it is until it has ended.
    async fn follow(&self, subtask: &Subtask) -> Ended {
        let poll = &self.config.poll;
        let backend = &self.scope.backend;
        let (created, mut wait) = (Instant::now(), poll.every.0);
        let mut silent_since: Option<Instant> = None;
        loop {
            sleep(wait).await;
            self.shared.allowed(backend).await;
            let ask = match self.request(Method::GET, &poll.path).await {
                Ok(ask) => ask,
                Err(failure) => return Ended::GivenUp(failure),
            };
            let why = match self.config.client.ask(&ask).await {
                Ok(answer) => match answer.status {
                    200..=299 => match self.state_in(&answer) {
                        State::Finished => {
                            print(subtask, &answer).await;
                            return Ended::Over(Ok(()));
                        }
                        State::Failed(why) => {
                            print(subtask, &answer).await;
                            return Ended::Over(Err(Failure::new(why)));
                        }
                        State::GoesOn => {
                            silent_since = None;
                            wait = (wait * 2).min(poll.every.1);
                            continue;
                        }
                        State::Unclear(why) => why,
                    },
                    404 | 410 if created.elapsed() < UNKNOWN_FOR => continue,
                    404 | 410 => {
                        let why = format!("it does not know {} any more: {}", self.id(), said(&answer));
                        return Ended::Over(Err(Failure::of_backend(why)));
                    }
                    429 => {
                        self.shared.pause(backend, answer.retry_after.unwrap_or(PAUSE));
                        continue;
                    }
                    408 | 425 | 500..=599 => said(&answer),
                    _ => {
                        let why = format!("asked how {} is, it answers {}", self.id(), said(&answer));
                        return Ended::GivenUp(Failure::refused(why));
                    }
                },
                Err(error) => error.to_string(),
            };
            let since = *silent_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= poll.patience {
                let why = format!("for {:?} it has not said how {} is: {why}", poll.patience, self.id());
                return Ended::GivenUp(Failure::of_backend(why));
            }
            wait = (wait * 2).min(poll.every.1);
        }
    }

    fn id(&self) -> &str {
        self.scope.id.as_deref().unwrap_or_default()
    }

    fn state_in(&self, answer: &Answer) -> State {
        let poll = &self.config.poll;
        let Ok(body) = serde_json::from_slice::<Value>(&answer.body) else {
            return State::Unclear(format!("its answer is no JSON: {}", said(answer)));
        };
        let Some(state) = body.pointer(&poll.state).and_then(Value::as_str) else {
            return State::Unclear(format!("its answer has no text at {}: {}", poll.state, said(answer)));
        };
        if poll.finished.contains(state) {
            State::Finished
        } else if poll.failed.contains(state) {
            let message = body.pointer(&poll.message).map(|message| match message {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            State::Failed(message.unwrap_or_else(|| format!("{} is {state} there", self.id())))
        } else {
            State::GoesOn
        }
    }

    /// Has the service give it up. What is not there any more is deleted.
    pub(super) async fn delete(&self) {
        let (method, path) = &self.config.cancel;
        let mut last = String::new();
        let mut again = AGAIN;
        for tried in 1..=DELETES {
            match self.request(method.clone(), path).await {
                Ok(ask) => match self.config.client.ask(&ask).await {
                    Ok(Answer { status: 200..=299 | 404 | 409 | 410, .. }) => {
                        self.forget();
                        return;
                    }
                    Ok(answer) => last = said(&answer),
                    Err(error) => last = error.to_string(),
                },
                Err(failure) => last = failure.to_string(),
            }
            if tried < DELETES {
                sleep(again).await;
                again *= 2;
            }
        }
        eprintln!("sheaf builtin http: {} stays at {}: {last}", self.id(), self.scope.backend);
    }

    async fn post_request(&self) -> Result<Ask, Failure> {
        let submit = &self.config.submit;
        let body = match &submit.body {
            Some(body) => body.value(&self.scope).map_err(|error| self.wrong("submit.body", &error))?,
            None => self.scope.item.clone(),
        };
        let mut ask = self.request(submit.method.clone(), &submit.path).await?;
        let key = HeaderValue::from_str(&self.scope.key);
        ask.headers.push((KEY, key.map_err(|error| self.wrong("key", &error.to_string()))?));
        ask.body = Some(body.to_string().into_bytes());
        Ok(ask)
    }

    async fn request(&self, method: Method, path: &Template) -> Result<Ask, Failure> {
        let none = BTreeMap::new();
        let path = path.render(&self.scope, &none, segment).map_err(|error| self.wrong("path", &error))?;
        let named: BTreeSet<&str> =
            self.config.headers.iter().flat_map(|(_, value)| value.secrets()).collect();
        let secrets = self.secrets(named).await?;
        let mut headers = Vec::with_capacity(self.config.headers.len() + 1);
        for (name, template) in &self.config.headers {
            let at = format!("headers.{name}");
            let text = template.render(&self.scope, &secrets, str::to_owned);
            let text = text.map_err(|error| self.wrong(&at, &error))?;
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| self.wrong(&at, "what comes of it cannot stand in a header"))?;
            value.set_sensitive(true);
            headers.push((name.clone(), value));
        }
        Ok(Ask { method, path, headers, body: None })
    }

    async fn secrets(&self, named: BTreeSet<&str>) -> Result<BTreeMap<String, String>, Failure> {
        let mut known = BTreeMap::new();
        for name in named {
            let none = || Failure::new("the process was told of no job");
            let job = self.shared.job.get().ok_or_else(none)?;
            let secret = job.secret(name).await.map_err(|error| match error {
                ContextError::None => {
                    self.wrong("headers", &format!("the module does not list secret {name}"))
                }
                error => Failure::new(error.to_string()),
            })?;
            let text = secret.text().map(|text| text.trim_end_matches('\n').to_owned());
            let text = text.ok_or_else(|| self.wrong("headers", &format!("secret {name} is no text")))?;
            known.insert(name.to_owned(), text);
        }
        Ok(known)
    }

    /// Something in the config that does not fit this subtask.
    fn wrong(&self, field: &str, error: &str) -> Failure {
        Failure::refused(format!("config of backend {}: {field}: {error}", self.scope.backend))
    }
}

/// How following it ended.
enum Ended {
    /// Nothing of it is there any more, or it has ended.
    Over(Result<(), Failure>),
    /// It may still be there.
    GivenUp(Failure),
}

/// How it is, as the service says.
enum State {
    Finished,
    Failed(String),
    GoesOn,
    Unclear(String),
}

/// What an answer says, for people.
fn said(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.trim();
    let excerpt = match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    };
    match excerpt.is_empty() {
        true => format!("status {}", answer.status),
        false => format!("status {}: {excerpt}", answer.status),
    }
}

/// The last answer is what the subtask prints.
async fn print(subtask: &Subtask, answer: &Answer) {
    let text = String::from_utf8_lossy(&answer.body);
    let mut end = text.len().min(OUTPUT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    subtask.print(&text[..end]).await;
}
