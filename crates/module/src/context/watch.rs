//! Following objects, across whatever breaks on the way.

use tokio::time::sleep;
use tonic::Streaming;

use super::{Client, Context, ContextError, FIRST_PAUSE, LONGEST_PAUSE};
use crate::proto::{ObjectChange as Message, WatchObjectsRequest};
use crate::{ObjectChange, ObjectStep};

/// Objects as they are, then what changes. See [`Context::watch`].
#[derive(Debug)]
pub struct ObjectWatch {
    context: Context,
    request: WatchObjectsRequest,
    steps: Option<Streaming<Message>>,
}

impl ObjectWatch {
    pub(super) fn new(context: Context, prefix: String) -> Self {
        Self { context, request: WatchObjectsRequest { prefix, after: None }, steps: None }
    }

    /// The next step: first `Reset`, every object and `Synced`, then changes, each group ending with `Synced`. Where the
    /// line breaks it goes on by itself, if need be with another `Reset`. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If it is refused, or nobody answers for longer than the context's patience.
    pub async fn next(&mut self) -> Result<ObjectStep, ContextError> {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.steps.is_none() {
                self.steps = Some(self.open().await?);
            }
            let Some(steps) = &mut self.steps else { continue };
            match steps.message().await {
                Ok(Some(message)) => {
                    let Some(step) = ObjectStep::read(message) else { continue };
                    if step.change == ObjectChange::Synced {
                        self.request.after = Some(step.revision);
                    }
                    return Ok(step);
                }
                Ok(None) | Err(_) => {
                    self.steps = None;
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    async fn open(&self) -> Result<Streaming<Message>, ContextError> {
        let request = self.request.clone();
        let opened = self.context.ask("WatchObjects", |mut client: Client| {
            let request = request.clone();
            async move { client.watch_objects(request).await }
        });
        opened.await
    }
}
