//! A cluster that is made up: it keeps what is applied, and says of every bucket what a test wants it to say.

mod backend;
mod event;
mod job;
mod sink;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sheaf_model::view::{
    AffinityRow, AuthorityRow, AuthorityStatus, BucketRow, BucketState, BucketStatus, ClusterStatus,
    Explanation, MemberRow, SnapshotHead,
};
use sheaf_model::view::{ModuleRow, NodeDetail, NodeRow, TokenRow};
use sheaf_model::{
    Artifact, BackendSpec, BucketName, BucketSpec, Difference, Item, JobSpec, JobState, ModuleRef,
    ModuleSpec, PutBucket, Revision, SinkSpec, Timestamp, TokenId, TokenText, document,
};
use sheaf_wire::bucket::{
    ApplyBucket, BucketApi, BucketChange, BucketHistory, BucketLogs, BucketRelease, BucketStep, GotBucket,
    ListBuckets, MoveBucket, OnBucket, Plan, PlanBucket, RollbackBucket, TestBucket, TestEnd, TestResult,
    TestStep, WatchBuckets,
};
use sheaf_wire::cluster::{
    AllSettings, Apply, ChangeSettings, ClusterApi, CreateCertificate, CreateToken, CreatedCertificate,
    CreatedToken, ListTokens, RevokeToken, RotateAuthority, RotationStep, SnapshotPart,
};
use sheaf_wire::debug::{AskDebug, DebugFile, DebugPart};
use sheaf_wire::logs::{LogLine, LogStream};
use sheaf_wire::module::{
    ApplyModule, DeleteModule, FinishPush, GotModule, ListModules, ModuleApi, PushPiece, PushState,
};
use sheaf_wire::node::{
    Affinity, DrainNode, Drained, Going, LabelNode, Labelled, ListNodes, NodeApi, OnNode,
};
use sheaf_wire::{
    Alone, Answers, ApiError, Applied, Caller, Done, Outcome, OutcomeVerb, Page, PageOf, ServeOptions,
    Server, async_trait,
};
use tokio::net::TcpListener;

use super::bucket::example;

fn token_row() -> TokenRow {
    TokenRow {
        name: "ci".to_owned(),
        id: "abababababab".to_owned(),
        role: "viewer".to_owned(),
        prefix: String::new(),
        created_at: "2026-01-10T12:00:00.000Z".to_owned(),
        created_by: "user:root".to_owned(),
        expires_at: None,
        expired: false,
        certificate: false,
    }
}

/// What the cluster holds, and what was asked of it.
#[derive(Default)]
pub(super) struct Held {
    buckets: BTreeMap<BucketName, (BucketSpec, bool, u64)>,
    modules: Vec<ModuleSpec>,
    pub(super) revision: u64,
    /// What every bucket's state is said to be; none: running.
    pub(super) state: Option<BucketState>,
    /// Actors and request ids of the changes, in their order.
    pub(super) changes: Vec<(String, Option<String>)>,
    /// How many documents each apply held, and whether it was to be checked only.
    pub(super) applies: Vec<(usize, bool)>,
    /// Jobs with their items, in the order submitted.
    pub(super) jobs: Vec<(JobSpec, Vec<Item>)>,
    pub(super) backends: Vec<BackendSpec>,
    pub(super) sinks: Vec<SinkSpec>,
    /// The state that every job comes to; none: it runs for ever.
    pub(super) job_state: Option<JobState>,
    /// What was asked about subtasks, output and history, in words.
    pub(super) asked: Vec<String>,
    /// A bucket that is refused once it is more than checked.
    pub(super) refused: Option<BucketName>,
    /// How often somebody may look until nothing runs of what is deleted.
    pub(super) lingers: usize,
    /// Whether there is room for no further backend or sink.
    pub(super) full: bool,
    /// Whether each look at a bucket finds what it runs started once more.
    pub(super) crashes: bool,
    /// Whether nodes are known by their numbers alone.
    pub(super) nameless: bool,
    restarts: u32,
}

/// The cluster.
#[derive(Default)]
pub(super) struct Fake(Mutex<Held>);

impl Fake {
    /// Serves a new one; where it is reached, and the cluster itself.
    pub(super) async fn serve() -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Self::default());
        let server = Server::new().cluster(fake.clone()).buckets(fake.clone()).modules(fake.clone());
        let server = server.nodes(fake.clone()).events(fake.clone()).jobs(fake.clone());
        let server = server.backends(fake.clone()).sinks(fake.clone());
        tokio::spawn(server.serve(
            listener,
            Arc::new(Alone),
            ServeOptions::default(),
            std::future::pending(),
        ));
        (address, fake)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap()
    }

    fn change(&self, caller: &Caller, request: Option<sheaf_model::RequestId>) -> u64 {
        let mut held = self.held();
        held.changes.push((caller.actor.to_string(), request.map(|id| id.0)));
        held.revision += 1;
        held.revision
    }

    fn on(
        &self,
        caller: &Caller,
        ask: OnBucket,
        act: impl FnOnce(&mut Held, &BucketName, u64),
    ) -> Result<Done, ApiError> {
        let at = self.held().buckets.get(&ask.bucket).map(|bucket| bucket.2);
        let at = at.ok_or_else(|| ApiError::NotFound(format!("there is no bucket {}", ask.bucket)))?;
        if ask.base.is_some_and(|base| base.0 != at) {
            return Err(ApiError::Conflict(format!("bucket {} is at revision {at}", ask.bucket)));
        }
        let revision = self.change(caller, ask.request);
        act(&mut self.held(), &ask.bucket, revision);
        Ok(Done { revision: Revision(revision), ..Done::default() })
    }
}

impl Held {
    fn status(&self, name: &BucketName) -> Option<BucketStatus> {
        let (spec, suspended, revision) = self.buckets.get(name)?;
        let state =
            if *suspended { BucketState::Suspended } else { self.state.unwrap_or(BucketState::Running) };
        Some(BucketStatus {
            name: name.to_string(),
            suspended: *suspended,
            revision: *revision,
            state,
            labels: spec.labels.clone(),
            ..example::status()
        })
    }

    fn outcome(&self, put: &PutBucket) -> Result<Outcome, ApiError> {
        let known = self.buckets.get(&put.spec.name);
        let at = known.map_or(0, |bucket| bucket.2);
        if put.base.is_some_and(|base| base.0 != at) {
            return Err(ApiError::Conflict(format!("bucket {} is at revision {at}", put.spec.name)));
        }
        let verb = match known {
            None => OutcomeVerb::Created,
            Some((spec, ..)) if *spec == put.spec => OutcomeVerb::Unchanged,
            Some(_) => OutcomeVerb::Updated,
        };
        Ok(Outcome { document: format!("Bucket {}", put.spec.name), verb, revision: Revision(at) })
    }
}

/// A page of rows whose tokens are numbers.
fn page<T>(rows: Vec<T>, of: &PageOf) -> Page<T> {
    let from = of.token.parse().unwrap_or(0);
    let to = from + of.size as usize;
    let next = if to < rows.len() { to.to_string() } else { String::new() };
    Page { rows: rows.into_iter().skip(from).take(to - from).collect(), next }
}

#[async_trait]
impl ClusterApi for Fake {
    async fn apply(&self, caller: Caller, ask: Apply) -> Result<Applied, ApiError> {
        self.held().applies.push((ask.modules.len() + ask.buckets.len(), ask.validate_only));
        let refused = self.held().refused.clone();
        if !ask.validate_only && ask.buckets.iter().any(|put| Some(&put.spec.name) == refused.as_ref()) {
            return Err(ApiError::Precondition("it is refused".to_owned()));
        }
        let mut outcomes = Vec::new();
        let mut defects = Vec::new();
        for module in &ask.modules {
            let known = self.held().modules.contains(module);
            let verb = if known { OutcomeVerb::Unchanged } else { OutcomeVerb::Created };
            let document = format!("Module {}@{}", module.name, module.version);
            outcomes.push(Outcome { document, verb, revision: Revision(1) });
        }
        for put in &ask.buckets {
            let held = self.held();
            let named = |module: &ModuleSpec| module.name == put.spec.module.name;
            if !held.modules.iter().any(named) && !ask.modules.iter().any(named) {
                let problem = format!("there is no module {:?}", put.spec.module.name.as_str());
                let defect = sheaf_model::Defect::new("module", problem, "one that is registered");
                defects.push(defect.of(format!("Bucket {}", put.spec.name)));
            }
            outcomes.push(held.outcome(put)?);
        }
        if !defects.is_empty() {
            return Err(ApiError::Invalid(defects));
        }
        if !ask.validate_only {
            let revision = self.change(&caller, ask.request);
            let mut held = self.held();
            for module in ask.modules {
                if !held.modules.contains(&module) {
                    held.modules.push(module);
                }
            }
            for put in ask.buckets {
                held.buckets.insert(put.spec.name.clone(), (put.spec, put.suspended == Some(true), revision));
            }
            outcomes.iter_mut().for_each(|outcome| outcome.revision = Revision(revision));
        }
        Ok(Applied {
            outcomes,
            warnings: vec!["limits are kept, not enforced".to_owned()],
            ..Applied::default()
        })
    }

    async fn status(&self, _: Caller) -> Result<ClusterStatus, ApiError> {
        Ok(ClusterStatus {
            message: "1 of 3 seen, waiting for b and c".to_owned(),
            ..ClusterStatus::default()
        })
    }

    async fn members(&self, _: Caller) -> Result<Vec<MemberRow>, ApiError> {
        Ok(Vec::new())
    }

    async fn settings(&self, caller: Caller, ask: ChangeSettings) -> Result<AllSettings, ApiError> {
        let mut settings = sheaf_model::Changeable::default();
        let wrong: Vec<_> =
            ask.changes.iter().filter_map(|(key, value)| settings.set(key, value).err()).collect();
        if !wrong.is_empty() {
            return Err(ApiError::Invalid(wrong));
        }
        let revision = Revision(self.change(&caller, ask.request));
        let settings = settings.named().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Ok(AllSettings { done: Some(Done { revision, ..Done::default() }), settings })
    }

    async fn transfer(&self, _: Caller, to: Option<String>) -> Result<String, ApiError> {
        Ok(to.unwrap_or_else(|| "b".to_owned()))
    }

    async fn save_snapshot(&self, _: Caller) -> Result<Answers<SnapshotPart>, ApiError> {
        let data = b"a database".repeat(1000);
        let bytes = data.len() as u64;
        let head = SnapshotHead { cluster: "c1".to_owned(), revision: 7, bytes, ..SnapshotHead::default() };
        let parts = [SnapshotPart::Head(head), SnapshotPart::Data(data.into())];
        Ok(Box::pin(futures::stream::iter(parts.map(Ok))))
    }

    async fn debug(&self, _: Caller, _: AskDebug) -> Result<Answers<DebugPart>, ApiError> {
        let node = || "import-01".to_owned();
        let file =
            |name: &str, content| DebugPart::File(DebugFile { node: node(), name: name.to_owned(), content });
        let parts = [
            DebugPart::Nodes(vec![node(), "import-02".to_owned()]),
            file("log.txt", Ok(format!("shown: sheaf_abababababab.{}", "cd".repeat(32)).into())),
            file("disk.json", Err("it does not answer".to_owned())),
            file("../../etc/passwd", Ok("evil".into())),
            DebugPart::End { node: node(), failure: None },
            DebugPart::End { node: "import-02".to_owned(), failure: Some("connection refused".to_owned()) },
        ];
        Ok(Box::pin(futures::stream::iter(parts.map(Ok))))
    }

    async fn create_token(&self, _: Caller, ask: CreateToken) -> Result<CreatedToken, ApiError> {
        let id = TokenId([0xab; 6]);
        let row = TokenRow {
            name: ask.name.to_string(),
            id: id.to_string(),
            role: ask.of.as_str().to_owned(),
            expires_at: ask.ttl.map(|ttl| Timestamp(ttl.0).to_string()),
            ..token_row()
        };
        Ok(CreatedToken { token: TokenText::new(id, [0xcd; 32], None), row, revision: Revision(7) })
    }

    async fn create_certificate(
        &self,
        _: Caller,
        ask: CreateCertificate,
    ) -> Result<CreatedCertificate, ApiError> {
        let row = TokenRow { name: ask.name.to_string(), certificate: true, ..token_row() };
        Ok(CreatedCertificate {
            certificate: ask.public_key,
            authority: vec![0x30],
            cluster: sheaf_model::ClusterId::from("c1"),
            row,
            revision: Revision(7),
        })
    }

    async fn list_tokens(&self, _: Caller, _: ListTokens) -> Result<Page<TokenRow>, ApiError> {
        let ci = TokenRow { prefix: "/team-a/".to_owned(), role: "operator".to_owned(), ..token_row() };
        let old = TokenRow { name: "old".to_owned(), expired: true, ..token_row() };
        let until = Some(Timestamp(0).to_string());
        Ok(Page { rows: vec![ci, TokenRow { expires_at: until, ..old }], next: String::new() })
    }

    async fn revoke_token(&self, caller: Caller, ask: RevokeToken) -> Result<Done, ApiError> {
        if ask.token != "ci" {
            return Err(ApiError::NotFound(format!("there is no token {}", ask.token)));
        }
        let revision = Revision(self.change(&caller, ask.request));
        Ok(Done { revision, ..Done::default() })
    }

    async fn rotate_authority(&self, caller: Caller, ask: RotateAuthority) -> Result<Done, ApiError> {
        if ask.step == RotationStep::Abandon {
            return Err(ApiError::Precondition("there is no authority that has not issued yet".to_owned()));
        }
        let revision = Revision(self.change(&caller, ask.request));
        Ok(Done { revision, warnings: vec!["a word".to_owned()], ..Done::default() })
    }

    async fn authority_status(&self, _: Caller) -> Result<AuthorityStatus, ApiError> {
        let row = AuthorityRow { stage: "issues".to_owned(), ..AuthorityRow::default() };
        let stage = "settled".to_owned();
        Ok(AuthorityStatus { stage, authorities: vec![row], ..AuthorityStatus::default() })
    }
}

#[async_trait]
impl BucketApi for Fake {
    async fn apply(&self, _: Caller, _: ApplyBucket) -> Result<Applied, ApiError> {
        Err(ApiError::Unimplemented("one bucket alone".to_owned()))
    }

    async fn plan(&self, _: Caller, PlanBucket { put: ask, modules }: PlanBucket) -> Result<Plan, ApiError> {
        let outcome = self.held().outcome(&ask)?;
        let new = document::bucket_value(&ask.spec, false, None);
        let differences: Vec<Difference> = match self.held().buckets.get(&ask.spec.name) {
            Some((old, ..)) => document::differences(&document::bucket_value(old, false, None), &new),
            None => Vec::new(),
        };
        let warnings =
            modules.iter().map(|module| format!("Module {}@{}: brought", module.name, module.version));
        let warnings = warnings.chain([format!("Bucket {}: a word", ask.spec.name)]).collect();
        Ok(Plan { outcome, differences, nodes: example::explanation().nodes, warnings })
    }

    async fn get(&self, _: Caller, ask: BucketName) -> Result<GotBucket, ApiError> {
        let mut held = self.held();
        let crashed = u32::from(held.crashes);
        held.restarts += crashed;
        let mut status =
            held.status(&ask).ok_or_else(|| ApiError::NotFound(format!("there is no bucket {ask}")))?;
        status.instances.iter_mut().for_each(|instance| instance.restarts = held.restarts);
        Ok(GotBucket { spec: held.buckets[&ask].0.clone(), status })
    }

    async fn list(&self, _: Caller, ask: ListBuckets) -> Result<Page<BucketRow>, ApiError> {
        let held = self.held();
        let rows = held.buckets.keys().filter_map(|name| held.status(name)).map(super::bucket::row);
        let labelled = rows.filter(|row| {
            let holds = |(key, value): (&String, &String)| {
                ask.filter.terms.iter().all(|term| term.key == format!("label.{key}") && term.value == *value)
            };
            ask.filter.terms.is_empty() || row.labels.iter().any(holds)
        });
        Ok(page(labelled.collect(), &ask.page))
    }

    async fn explain(&self, _: Caller, _: BucketName) -> Result<Explanation, ApiError> {
        Ok(example::explanation())
    }

    async fn watch(&self, _: Caller, ask: WatchBuckets) -> Result<Answers<BucketStep>, ApiError> {
        let step = |revision, change| Ok(BucketStep { revision: Revision(revision), change });
        let steps = match ask.after {
            None => vec![
                step(7, BucketChange::Reset),
                step(7, BucketChange::Bucket(Box::new(example::status()))),
                step(7, BucketChange::Synced),
                Err(ApiError::unavailable("the node stops")),
            ],
            // The second try goes on where the first broke off, and then something breaks for good.
            Some(after) => vec![
                step(after.0 + 1, BucketChange::Gone(BucketName::new("/logs/web").unwrap())),
                Err(ApiError::Internal("for the test".to_owned())),
            ],
        };
        Ok(Box::pin(futures::stream::iter(steps)))
    }

    async fn logs(&self, _: Caller, ask: BucketLogs) -> Result<Answers<LogLine>, ApiError> {
        let line = |node: &str, stream, text: &str| {
            Ok(LogLine { node: node.to_owned(), at: Timestamp(0), stream, text: text.to_owned() })
        };
        if ask.of.follow {
            // It breaks off after two lines, and the second time for good.
            let places = ask.after.iter().map(|it| format!("{} {} {}", it.node, it.at.0, it.lines));
            let places = places.collect::<Vec<_>>().join(", ");
            let since = ask.of.since.map_or(String::new(), |since| since.0.to_string());
            self.held().asked.push(format!("since {since:?} tail {:?} after {places:?}", ask.of.tail));
            let lines = match ask.after.is_empty() {
                true => vec![
                    line("n1", LogStream::Stdout, "one"),
                    line("n1", LogStream::Stdout, "two"),
                    line("n2", LogStream::Sheaf, "its output cannot be read"),
                    Err(ApiError::unavailable("the node stops")),
                ],
                false => vec![
                    line("n1", LogStream::Stdout, "three"),
                    Err(ApiError::Internal("for the test".to_owned())),
                ],
            };
            return Ok(Box::pin(futures::stream::iter(lines)));
        }
        let lines = match &ask.node {
            Some(node) => vec![line(node, LogStream::Stdout, "listening")],
            None => vec![
                line("n1", LogStream::Stdout, "listening"),
                line("n2", LogStream::Stderr, "no route"),
                line("n2", LogStream::Sheaf, "exited with exit code 1"),
            ],
        };
        Ok(Box::pin(futures::stream::iter(lines)))
    }

    async fn move_bucket(&self, caller: Caller, ask: MoveBucket) -> Result<Done, ApiError> {
        let MoveBucket { bucket, base, request, .. } = ask;
        self.on(&caller, OnBucket { bucket, base, request }, |_, _, _| {})
    }

    async fn rollback(&self, caller: Caller, ask: RollbackBucket) -> Result<Done, ApiError> {
        let RollbackBucket { bucket, base, request, .. } = ask;
        self.on(&caller, OnBucket { bucket, base, request }, |_, _, _| {})
    }

    async fn suspend(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.on(&caller, ask, |held, name, revision| {
            held.buckets.entry(name.clone()).and_modify(|bucket| (bucket.1, bucket.2) = (true, revision));
        })
    }

    async fn resume(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.on(&caller, ask, |held, name, revision| {
            held.buckets.entry(name.clone()).and_modify(|bucket| (bucket.1, bucket.2) = (false, revision));
        })
    }

    async fn restart(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.on(&caller, ask, |_, _, _| {})
    }

    async fn purge(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.on(&caller, ask, |_, _, _| {})
    }

    async fn test(&self, _: Caller, ask: TestBucket) -> Result<Answers<TestStep>, ApiError> {
        let line = |stream, text: &str| {
            let (node, at) = ("n1".to_owned(), Timestamp(1));
            Ok(TestStep::Line(LogLine { node, at, stream, text: text.to_owned() }))
        };
        let end =
            TestEnd { result: TestResult::Passed, message: "it has ended by itself".to_owned(), objects: 1 };
        let steps = [
            Ok(TestStep::Started { bucket: ask.spec.name, node: "n1".to_owned() }),
            line(LogStream::Stdout, "an object"),
            line(LogStream::Stderr, "a word"),
            Ok(TestStep::Ended(end)),
        ];
        Ok(Box::pin(futures::stream::iter(steps)))
    }

    async fn history(&self, _: Caller, ask: BucketHistory) -> Result<Page<BucketRelease>, ApiError> {
        let Some((spec, ..)) = self.held().buckets.get(&ask.bucket).cloned() else {
            return Err(ApiError::NotFound(format!("there never was a bucket {}", ask.bucket)));
        };
        let release = |revision, owner: &str| BucketRelease {
            revision: Revision(revision),
            at: Timestamp(crate::output::recorded::NOW.0 - 60_000),
            actor: "cli:alice@ops1".to_owned(),
            spec: BucketSpec { owner: Some(owner.to_owned()), ..spec.clone() },
        };
        Ok(page(vec![release(9, "web"), release(4, "data-eng")], &ask.page))
    }

    async fn delete(&self, caller: Caller, ask: OnBucket) -> Result<Done, ApiError> {
        self.on(&caller, ask, |held, name, _| {
            held.buckets.remove(name);
        })
    }
}

#[async_trait]
impl ModuleApi for Fake {
    async fn apply(&self, _: Caller, _: ApplyModule) -> Result<Applied, ApiError> {
        Err(ApiError::Unimplemented("one module alone".to_owned()))
    }

    async fn get(&self, _: Caller, ask: ModuleRef) -> Result<GotModule, ApiError> {
        let held = self.held();
        let spec = held.modules.iter().find(|module| module.name == ask.name);
        let spec = spec.ok_or_else(|| ApiError::NotFound(format!("there is no module {ask}")))?;
        let (used_by, nodes) = (Vec::new(), Vec::new());
        Ok(GotModule { spec: spec.clone(), row: row(spec), artifact: None, used_by, nodes })
    }

    async fn list(&self, _: Caller, ask: ListModules) -> Result<Page<ModuleRow>, ApiError> {
        Ok(page(self.held().modules.iter().map(row).collect(), &ask.page))
    }

    async fn begin_push(&self, _: Caller, _: Artifact) -> Result<PushState, ApiError> {
        Ok(PushState { received: 0, registered: false })
    }

    async fn push_piece(&self, _: Caller, ask: PushPiece) -> Result<PushState, ApiError> {
        Ok(PushState { received: ask.offset + ask.data.len() as u64, registered: false })
    }

    async fn finish_push(&self, caller: Caller, ask: FinishPush) -> Result<Done, ApiError> {
        Ok(Done { revision: Revision(self.change(&caller, ask.request)), ..Done::default() })
    }

    async fn delete(&self, caller: Caller, ask: DeleteModule) -> Result<Done, ApiError> {
        let revision = self.change(&caller, ask.request);
        self.held().modules.retain(|module| module.name != ask.name);
        Ok(Done { revision: Revision(revision), ..Done::default() })
    }
}

fn row(spec: &ModuleSpec) -> ModuleRow {
    ModuleRow {
        name: spec.name.to_string(),
        version: spec.version.to_string(),
        runtime: spec.runtime.to_string(),
        supports_multi_node: spec.supports_multi_node,
        buckets: 0,
        newest: true,
        revision: 1,
    }
}

#[async_trait]
impl NodeApi for Fake {
    async fn list(&self, _: Caller, ask: ListNodes) -> Result<Page<NodeRow>, ApiError> {
        Ok(page(super::node::example::nodes(), &ask.page))
    }

    async fn get(&self, _: Caller, ask: String) -> Result<NodeDetail, ApiError> {
        let mut rows = super::node::example::nodes().into_iter();
        let (number, named) = (ask.strip_prefix('+').unwrap_or(&ask), !self.held().nameless);
        let row = rows.find(|row| (named && row.name == ask) || row.id.to_string() == number);
        let row = row.ok_or_else(|| ApiError::NotFound(format!("there is no node {ask}")))?;
        Ok(NodeDetail { row, ..super::node::example::detail() })
    }

    async fn affinity(&self, _: Caller, ask: Affinity) -> Result<Page<AffinityRow>, ApiError> {
        if ask.bucket.is_some() {
            let mut held = self.held();
            let left = held.lingers.min(1);
            held.lingers = held.lingers.saturating_sub(1);
            let rows = super::node::example::detail().affinity.into_iter().take(left).collect();
            return Ok(Page { rows, next: String::new() });
        }
        Ok(Page { rows: super::node::example::detail().affinity, next: String::new() })
    }

    async fn label(&self, caller: Caller, ask: LabelNode) -> Result<Labelled, ApiError> {
        let revision = Revision(self.change(&caller, ask.request));
        Ok(Labelled { done: Done { revision, ..Done::default() }, labels: [ask.add, ask.remove].concat() })
    }

    async fn drain(&self, caller: Caller, ask: DrainNode) -> Result<Drained, ApiError> {
        let revision = Revision(self.change(&caller, ask.request));
        let going =
            Going { bucket: "/logs/web".to_owned(), to: "b".to_owned(), why: "least_loaded".to_owned() };
        Ok(Drained { done: Done { revision, ..Done::default() }, going: vec![going], subtasks: 0 })
    }

    async fn undrain(&self, caller: Caller, ask: OnNode) -> Result<Done, ApiError> {
        Ok(Done { revision: Revision(self.change(&caller, ask.request)), ..Done::default() })
    }

    async fn forget(&self, _: Caller, ask: OnNode) -> Result<Done, ApiError> {
        Err(ApiError::Precondition(format!("node {} is ready", ask.node)))
    }
}
