//! Output of agents, read for many.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_model::Contact;
use tokio::sync::OwnedSemaphorePermit;

use super::{AttemptLogs, LogLine, LogsOf};
use crate::forward::{Peers, Traffic};
use crate::peer::PeerClient;
use crate::transport::Transport;
use crate::{Answers, ApiError, Asking};

/// Reads what agents' instances printed: over one connection to each, however many read, none of whom waits for another that does
/// not go on reading. Clones are the same.
#[derive(Clone, Debug)]
pub struct LogReaders(Arc<Peers>);

impl LogReaders {
    /// Nothing is read yet; connections will be made over this.
    pub fn over(transport: Transport) -> Self {
        Self(Arc::new(Peers::new(transport)))
    }

    /// What the instances of that agent printed; `deadline` is for the opening alone.
    pub fn logs<'a>(
        &'a self,
        contact: &'a Contact,
        ask: LogsOf,
        deadline: Duration,
    ) -> Asking<'a, Answers<LogLine>> {
        let read = move |agent: PeerClient| async move { agent.logs(ask, deadline).await };
        Box::pin(self.open(contact, read))
    }

    /// The same of an attempt of a subtask.
    pub fn attempt_logs<'a>(
        &'a self,
        contact: &'a Contact,
        ask: AttemptLogs,
        deadline: Duration,
    ) -> Asking<'a, Answers<LogLine>> {
        let read = move |agent: PeerClient| async move { agent.attempt_logs(ask, deadline).await };
        Box::pin(self.open(contact, read))
    }

    async fn open<F>(
        &self,
        contact: &Contact,
        read: impl FnOnce(PeerClient) -> F,
    ) -> Result<Answers<LogLine>, ApiError>
    where
        F: Future<Output = Result<Answers<LogLine>, ApiError>>,
    {
        let connected = self.0.connected(contact, Traffic::Streams).await.map_err(ApiError::unavailable)?;
        let place = connected.place()?;
        let opened = read(PeerClient::over(contact, &connected.channel)).await;
        if matches!(opened, Err(ApiError::Unreachable { .. } | ApiError::Unavailable { .. })) {
            self.0.broken(contact, &connected);
        }
        let reading = Reading { peers: self.0.clone(), place: Some(place) };
        let held = move |line| {
            let _held = &reading;
            line
        };
        Ok(opened?.map(held).boxed())
    }
}

/// What somebody has who reads.
struct Reading {
    peers: Arc<Peers>,
    place: Option<OwnedSemaphorePermit>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        drop(self.place.take());
        self.peers.ended();
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{BucketName, Timestamp};
    use tokio::net::TcpListener;

    use super::*;
    use crate::logs::{LogStream, LogsApi};
    use crate::{Alone, Caller, ServeOptions, Server, async_trait};

    /// Readers that read one line: so many could fill the window of a connection for calls.
    const IDLE: usize = 330;
    /// What the one reads that goes on reading.
    const LINES: usize = 100;
    const SOON: Duration = Duration::from_secs(20);

    /// An agent whose instances print long lines without an end.
    struct Prints;

    #[async_trait]
    impl LogsApi for Prints {
        async fn read(&self, _: Caller, _: LogsOf) -> Result<Answers<LogLine>, ApiError> {
            let text = "x".repeat(64 << 10);
            let line = LogLine { node: "n1".to_owned(), at: Timestamp(5), stream: LogStream::Stdout, text };
            Ok(futures::stream::repeat(Ok(line)).boxed())
        }

        async fn read_attempt(&self, _: Caller, ask: AttemptLogs) -> Result<Answers<LogLine>, ApiError> {
            Err(ApiError::NotFound(format!("{ask:?} never ran here")))
        }
    }

    #[tokio::test]
    async fn one_connection_serves_all_readers_and_none_waits_for_another() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let contact = Contact::anyone(listener.local_addr().unwrap().to_string());
        let options = ServeOptions { connections: 1, ..ServeOptions::default() };
        let server = Server::new().logs(Arc::new(Prints));
        tokio::spawn(server.serve(listener, Arc::new(Alone), options, std::future::pending()));
        let readers = LogReaders::over(Transport::plain());
        let of = || LogsOf {
            bucket: BucketName::new("/a").unwrap(),
            follow: true,
            since: None,
            tail: None,
            previous: false,
        };
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let mut lines = readers.logs(&contact, of(), SOON).await.unwrap();
            let first = tokio::time::timeout(SOON, lines.next()).await.expect("it begins");
            first.unwrap().unwrap();
            idle.push(lines);
        }
        let lines = readers.logs(&contact, of(), SOON).await.unwrap();
        let read = lines.take(LINES).filter(|line| std::future::ready(line.is_ok())).count();
        assert_eq!(tokio::time::timeout(SOON, read).await.expect("they come"), LINES);
    }
}
