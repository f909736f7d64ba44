//! A node that answers buckets and events with what it was asked, and says what it was told of the caller.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use sheaf_model::view::{BucketRow, Explanation};
use sheaf_model::{
    BucketName, BucketSpec, Event, Holder, ModuleRef, NodeId, PutBucket, RequestId, Revision, Timestamp,
};
use sheaf_trust::{Authority, PrivateKey};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::bucket::{
    ApplyBucket, BucketApi, BucketHistory, BucketLogs, BucketRelease, BucketStep, GotBucket, ListBuckets,
    MoveBucket, OnBucket, Plan, PlanBucket, RollbackBucket, TestBucket, TestStep, WatchBuckets,
};
use crate::event::{EventApi, EventPage, ListEvents, WatchEvents};
use crate::logs::{LogLine, LogStream};
use crate::{
    Answers, ApiError, Applied, Caller, Class, Client, Credentials, Done, Options, Outcome, OutcomeVerb,
    Page, Pair, Refused, Route, ServeError, ServeOptions, Server, Target, Transport, async_trait,
};

/// How long the lines are of a run before.
const LONG: usize = 64 << 10;

/// What a call of `apply` answers, instead of done.
pub(super) type Refusal = Box<dyn Fn() -> Option<ApiError> + Send + Sync>;

#[derive(Default)]
pub(super) struct Fake {
    pub(super) name: String,
    pub(super) callers: Mutex<Vec<Caller>>,
    pub(super) refusal: Mutex<Option<Refusal>>,
    /// How many long lines were taken.
    pub(super) printed: Arc<AtomicUsize>,
}

fn not_here<T>() -> Result<T, ApiError> {
    Err(ApiError::Unimplemented("not in this test".to_owned()))
}

#[async_trait]
impl BucketApi for Fake {
    async fn apply(&self, caller: Caller, ask: ApplyBucket) -> Result<Applied, ApiError> {
        self.callers.lock().unwrap().push(caller);
        if let Some(error) = self.refusal.lock().unwrap().as_ref().and_then(|refusal| refusal()) {
            return Err(error);
        }
        let outcome = Outcome {
            document: format!("Bucket {}", ask.put.spec.name),
            verb: OutcomeVerb::Created,
            revision: Revision(7),
        };
        Ok(Applied { outcomes: vec![outcome], warnings: vec![self.name.clone()], revision: Revision(7) })
    }

    async fn plan(&self, _: Caller, _: PlanBucket) -> Result<Plan, ApiError> {
        not_here()
    }

    async fn get(&self, _: Caller, ask: BucketName) -> Result<GotBucket, ApiError> {
        Err(ApiError::NotFound(format!("there is no bucket {ask}")))
    }

    async fn list(&self, _: Caller, ask: ListBuckets) -> Result<Page<BucketRow>, ApiError> {
        Ok(Page { rows: Vec::new(), next: format!("{} {}", ask.page.size, ask.filter) })
    }

    async fn explain(&self, _: Caller, _: BucketName) -> Result<Explanation, ApiError> {
        std::future::pending().await
    }

    async fn watch(&self, _: Caller, _: WatchBuckets) -> Result<Answers<BucketStep>, ApiError> {
        not_here()
    }

    /// Two lines, then nothing more, for ever if asked to stay; of a run before long lines without an end.
    async fn logs(&self, _: Caller, ask: BucketLogs) -> Result<Answers<LogLine>, ApiError> {
        let line = |text: &str| LogLine {
            node: self.name.clone(),
            at: Timestamp(5),
            stream: LogStream::Stdout,
            text: text.to_owned(),
        };
        if ask.of.previous {
            let (long, printed) = (line(&"x".repeat(LONG)), self.printed.clone());
            let lines = std::iter::repeat_with(move || {
                printed.fetch_add(1, Ordering::Relaxed);
                Ok(long.clone())
            });
            return Ok(futures::stream::iter(lines).boxed());
        }
        let lines = futures::stream::iter([Ok(line("one")), Ok(line("two"))]);
        Ok(if ask.of.follow { lines.chain(futures::stream::pending()).boxed() } else { lines.boxed() })
    }

    async fn move_bucket(&self, _: Caller, _: MoveBucket) -> Result<Done, ApiError> {
        not_here()
    }

    async fn rollback(&self, _: Caller, _: RollbackBucket) -> Result<Done, ApiError> {
        not_here()
    }

    async fn suspend(&self, _: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        Ok(Done { revision: ask.base.unwrap_or_default(), unchanged: true, warnings: Vec::new() })
    }

    async fn resume(&self, _: Caller, _: OnBucket) -> Result<Done, ApiError> {
        not_here()
    }

    async fn restart(&self, _: Caller, _: OnBucket) -> Result<Done, ApiError> {
        not_here()
    }

    async fn purge(&self, _: Caller, _: OnBucket) -> Result<Done, ApiError> {
        not_here()
    }

    async fn test(&self, _: Caller, _: TestBucket) -> Result<Answers<TestStep>, ApiError> {
        not_here()
    }

    async fn history(&self, _: Caller, _: BucketHistory) -> Result<Page<BucketRelease>, ApiError> {
        not_here()
    }

    async fn delete(&self, _: Caller, _: OnBucket) -> Result<Done, ApiError> {
        not_here()
    }
}

#[async_trait]
impl EventApi for Fake {
    async fn list(&self, _: Caller, _: ListEvents) -> Result<EventPage, ApiError> {
        Ok(EventPage::default())
    }

    async fn watch(&self, _: Caller, _: WatchEvents) -> Result<Answers<Event>, ApiError> {
        not_here()
    }
}

/// Says each target in turn, the last one for ever.
pub(super) struct Script {
    targets: Vec<Target>,
    pub(super) asked: AtomicUsize,
    pub(super) failed: AtomicUsize,
}

impl Script {
    pub(super) fn new(targets: impl Into<Vec<Target>>) -> Arc<Self> {
        Arc::new(Self { targets: targets.into(), asked: AtomicUsize::new(0), failed: AtomicUsize::new(0) })
    }
}

impl Route for Script {
    fn target(&self, class: Class, _: &str) -> Target {
        assert_ne!(class, Class::Own);
        let turn = self.asked.fetch_add(1, Ordering::Relaxed);
        self.targets[turn.min(self.targets.len() - 1)].clone()
    }

    fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct Running {
    pub(super) address: String,
    pub(super) fake: Arc<Fake>,
    pub(super) refused: Refused,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub(super) async fn start(name: &str, route: Arc<impl Route>) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").await.unwrap(), name, route, ServeOptions::default())
    }

    pub(super) fn listening(
        listener: TcpListener,
        name: &str,
        route: Arc<impl Route>,
        options: ServeOptions,
    ) -> Self {
        let address: SocketAddr = listener.local_addr().unwrap();
        let fake = Arc::new(Fake { name: name.to_owned(), ..Fake::default() });
        let refused = Refused::default();
        let server = Server::new().buckets(fake.clone()).events(fake.clone()).counting(refused.clone());
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(server.serve(listener, route, options, stopped));
        Self { address: address.to_string(), fake, refused, stop: Some(stop), served }
    }

    pub(super) async fn client(&self) -> Client {
        let options = Options { actor: Some("cli:alice@ops1".to_owned()), ..Options::default() };
        Client::connect(&self.address, options).await.unwrap()
    }

    pub(super) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.served).await;
        ended.expect("it ends").unwrap().unwrap();
    }
}

pub(super) fn name(text: &str) -> BucketName {
    BucketName::new(text).unwrap()
}

pub(super) fn apply(request: Option<&str>) -> ApplyBucket {
    let spec = BucketSpec::new(name("/logs/web"), ModuleRef::parse("flume").unwrap());
    let put = PutBucket { spec, suspended: None, base: None, latest: false };
    ApplyBucket { put, request: request.map(RequestId::from), validate_only: false }
}

/// An address at which nobody listens.
pub(super) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// What the node of this number dials and takes connections with, by a certificate of that authority.
pub(crate) fn of_node(authority: &Authority, node: u64) -> Transport {
    let (key, now) = (PrivateKey::new().unwrap(), Timestamp::from_system(std::time::SystemTime::now()));
    let (holder, lifetime) = (Holder::Node(NodeId(node)), Duration::from_secs(3600));
    let certificate = authority.issue(&key.public(), holder, None, now, lifetime).unwrap();
    let own = Some(Pair { certificate, key: key.der() });
    let authorities = vec![authority.certificate().to_vec()];
    Transport::tls(&Credentials { authorities, own, ..Credentials::default() }).unwrap()
}
