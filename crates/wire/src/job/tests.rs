//! Whole calls of `sheaf.v1.JobService` on loopback, and messages that no client of ours would send.

use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use serde_json::json;
use sheaf_model::view::{JobExplanation, JobRow, JobStatus, SubtaskRow};
use sheaf_model::{
    ArrayRange, Contact, FailureClass, Item, JobId, JobName, JobSpec, Json, ModuleRef, NodeListRules,
    RequestId, Retry, Revision, Span, SubtaskState, Subtasks, Timestamp,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;

use super::{
    CHUNK_MAX, CancelSubtasks, CheckJob, ExplainJob, GotJob, JobApi, JobLogs, ListJobs, ListSubtasks, OnJob,
    Reprioritize, RetrySubtasks, SubmitPart, Submitted, Touched,
};
use crate::logs::{LogLine, LogStream};
use crate::proto::v1;
use crate::proto::v1::job_service_client::JobServiceClient;
use crate::proto::v1::submit_job_request::Part;
use crate::{
    Alone, Answers, ApiError, Caller, Class, Client, Done, Filter, Options, Page, PageOf, Route,
    ServeOptions, Server, Target, async_trait,
};

const AT: &str = "2026-01-02T03:04:05.678Z";

/// The parts of a submit, as they were read.
type Parts = Vec<Result<SubmitPart, ApiError>>;

/// Answers with what it was asked.
#[derive(Default)]
struct Fake {
    /// The spec and the parts of each submit that was read to its end, or the error.
    submits: Mutex<Vec<(JobSpec, Parts)>>,
    callers: Mutex<Vec<Caller>>,
}

fn name() -> JobName {
    JobName::new("ndvi").unwrap()
}

fn status() -> JobStatus {
    serde_json::from_value(json!({
        "name": "ndvi", "id": 7, "state": "paused", "priority": 90, "module": "ndvi@2", "count": 21,
        "max_running": 5,
        "counts": {"waiting": 1, "ready": 2, "running": 3, "finished": 4, "failed": 5, "canceled": 6},
        "progress": 71, "rate_per_s": 1.5, "eta": AT, "created_at": AT, "started_at": AT, "ended_at": AT,
        "owner": "o", "labels": {"team": "web"}, "revision": 9,
        "failed_attempts": {"exit": 1, "lost": 2, "timeout": 3, "backend": 4, "refused": 5},
        "failures": [{"fingerprint": "00000000000000ff", "subtasks": 5, "message": "no such file"}],
        "failure_groups": 12, "message": "paused"
    }))
    .unwrap()
}

fn row(state: SubtaskState) -> SubtaskRow {
    serde_json::from_value(json!({
        "subtask": 3, "state": state.as_str(), "attempt": 2, "node": "n1", "backend": "vito", "priority": 50,
        "started_at": AT, "ended_at": AT, "exit_code": -3, "message": "m", "fingerprint": "00ff"
    }))
    .unwrap()
}

#[async_trait]
impl JobApi for Fake {
    async fn submit(
        &self,
        caller: Caller,
        spec: JobSpec,
        parts: Answers<SubmitPart>,
    ) -> Result<Submitted, ApiError> {
        self.callers.lock().unwrap().push(caller);
        let parts: Vec<_> = parts.collect().await;
        let last = parts.last().cloned();
        self.submits.lock().unwrap().push((spec.clone(), parts));
        match last {
            Some(Ok(SubmitPart::Done { count })) => Ok(Submitted {
                name: spec.name,
                id: JobId(7),
                count,
                revision: Revision(9),
                known: true,
                warnings: vec!["odd".to_owned()],
            }),
            Some(Err(error)) => Err(error),
            other => panic!("the last part is {other:?}"),
        }
    }

    async fn check(&self, caller: Caller, ask: CheckJob) -> Result<Submitted, ApiError> {
        self.callers.lock().unwrap().push(caller);
        Ok(Submitted {
            name: ask.spec.name,
            id: JobId(0),
            count: ask.items,
            revision: Revision(0),
            known: false,
            warnings: vec![format!("{:?}", ask.spec.subtasks)],
        })
    }

    async fn list(&self, _: Caller, ask: ListJobs) -> Result<Page<JobRow>, ApiError> {
        let row = serde_json::from_value(json!({
            "name": "ndvi", "id": 7, "state": "failed", "priority": 90, "module": "ndvi@2",
            "counts": {"waiting": 1, "ready": 2, "running": 3, "finished": 4, "failed": 5, "canceled": 6},
            "progress": 71, "created_at": AT, "owner": null, "labels": {}
        }));
        Ok(Page { rows: vec![row.unwrap()], next: format!("{} {}", ask.page.size, ask.filter) })
    }

    async fn get(&self, _: Caller, ask: JobName) -> Result<GotJob, ApiError> {
        Ok(GotJob { spec: JobSpec { name: ask, ..full() }, status: status() })
    }

    async fn subtasks(&self, _: Caller, ask: ListSubtasks) -> Result<Page<SubtaskRow>, ApiError> {
        let selector = ask.selector.map(|selector| selector.to_string()).unwrap_or_default();
        Ok(Page { rows: ask.states.into_iter().map(row).collect(), next: selector })
    }

    async fn explain(&self, _: Caller, ask: ExplainJob) -> Result<JobExplanation, ApiError> {
        let subtask = ask.subtask.map(|subtask| SubtaskRow { subtask, ..row(SubtaskState::Waiting) });
        Ok(serde_json::from_value(json!({
            "name": "ndvi", "state": "running", "subtask": subtask, "why": ["it waits for subtask 2"],
            "nodes": [{
                "node": "n1", "status": "ready", "eligible": false, "running": true,
                "gates": [{"gate": "local_config", "pass": null, "reason": "not asked"}],
                "obstacle": "the node is being drained", "node_id": 11
            }]
        }))
        .unwrap())
    }

    async fn watch(&self, _: Caller, _: JobName) -> Result<Answers<JobStatus>, ApiError> {
        Ok(futures::stream::iter([Ok(status()), Ok(status())]).boxed())
    }

    async fn logs(&self, _: Caller, ask: JobLogs) -> Result<Answers<LogLine>, ApiError> {
        let text = format!("{} {} {} {:?}", ask.subtask, ask.attempt, ask.follow, ask.tail);
        let line = LogLine { node: "n1".to_owned(), at: Timestamp(5), stream: LogStream::Stderr, text };
        Ok(futures::stream::iter([Ok(line)]).boxed())
    }

    async fn pause(&self, caller: Caller, _: OnJob) -> Result<Done, ApiError> {
        self.callers.lock().unwrap().push(caller);
        Ok(Done { revision: Revision(1), ..Done::default() })
    }

    async fn resume(&self, _: Caller, _: OnJob) -> Result<Done, ApiError> {
        Ok(Done { revision: Revision(2), ..Done::default() })
    }

    async fn delete(&self, _: Caller, ask: OnJob) -> Result<Done, ApiError> {
        Err(ApiError::NotFound(format!("there is no job {}", ask.job)))
    }

    async fn cancel(&self, caller: Caller, ask: CancelSubtasks) -> Result<Touched, ApiError> {
        self.callers.lock().unwrap().push(caller);
        let said = format!("{:?} {} {}", ask.selector.map(|it| it.to_string()), ask.reason, ask.dry_run);
        Ok(Touched { done: Done { warnings: vec![said], ..Done::default() }, subtasks: 3 })
    }

    async fn retry(&self, _: Caller, ask: RetrySubtasks) -> Result<Touched, ApiError> {
        Ok(Touched { done: Done { unchanged: ask.dry_run, ..Done::default() }, subtasks: 4 })
    }

    async fn reprioritize(&self, _: Caller, ask: Reprioritize) -> Result<Touched, ApiError> {
        Ok(Touched { done: Done::default(), subtasks: ask.priority.into() })
    }
}

struct Running {
    fake: Arc<Fake>,
    client: Client,
    address: String,
    served: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.served.abort();
    }
}

async fn running() -> Running {
    routed(Alone).await
}

async fn routed(route: impl Route) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let fake = Arc::new(Fake::default());
    let server = Server::new().jobs(fake.clone());
    let served = tokio::spawn(async move {
        let ended = server.serve(listener, Arc::new(route), ServeOptions::default(), std::future::pending());
        ended.await.unwrap();
    });
    let client = Client::connect(&address, Options::default()).await.unwrap();
    Running { fake, client, address, served }
}

fn spec(subtasks: Subtasks) -> JobSpec {
    JobSpec::new(name(), ModuleRef::parse("ndvi").unwrap(), subtasks)
}

/// With every field.
fn full() -> JobSpec {
    JobSpec {
        priority: 100,
        max_running: Some(5),
        retry: Retry {
            max_attempts: 1,
            backoff_min: Span::millis(7),
            backoff_max: Span::millis(9),
            retry_on: [FailureClass::Lost, FailureClass::Timeout].into(),
        },
        timeout: Some(Span::seconds(30)),
        node_list_rules: NodeListRules::parse(&["$gpu", "-slow-*"]).unwrap(),
        backends: ["vito", "cdse"].map(|name| sheaf_model::BackendName::new(name).unwrap()).into(),
        after: vec![JobName::new("first").unwrap()],
        labels: [("team".to_owned(), "web".to_owned())].into(),
        owner: Some("o".to_owned()),
        request_id: Some(RequestId::from("7f0c-1")),
        ..spec(Subtasks::Array(ArrayRange { first: 5, last: 25, step: 10 }))
    }
}

fn item(value: &serde_json::Value, depends_on: &[u32]) -> Item {
    Item { value: Json::new(value), depends_on: depends_on.into() }
}

fn parts(parts: Vec<SubmitPart>) -> futures::stream::BoxStream<'static, SubmitPart> {
    futures::stream::iter(parts).boxed()
}

#[tokio::test]
async fn a_submit_arrives_as_sent() {
    let node = running().await;
    let items = [item(&json!({"b": 1, "a": [true, null]}), &[]), item(&json!("x"), &[0])];
    let sent = vec![
        SubmitPart::Items(items[..1].to_vec()),
        SubmitPart::Items(items[1..].to_vec()),
        SubmitPart::Done { count: 2 },
    ];
    let asked = JobSpec { request_id: Some(RequestId::from("r1")), ..spec(Subtasks::Items) };
    let answer = node.client.submit_job(asked.clone(), parts(sent.clone())).await.unwrap();
    assert_eq!((answer.name, answer.id, answer.count), (name(), JobId(7), 2));
    assert!(answer.known && answer.revision == Revision(9) && answer.warnings == ["odd"]);
    let array = vec![SubmitPart::Done { count: 3 }];
    assert_eq!(node.client.submit_job(full(), parts(array)).await.unwrap().count, 3);
    let submits = node.fake.submits.lock().unwrap().clone();
    assert_eq!(submits[0], (asked, sent.into_iter().map(Ok).collect()));
    assert_eq!(submits[1].0, full());
    let callers = node.fake.callers.lock().unwrap();
    assert_eq!(callers[0].request, Some(RequestId::from("r1")));
    assert_eq!(callers[0].deadline, None, "it takes as long as it takes");
}

#[tokio::test]
async fn a_check_submits_nothing_wherever_it_is_answered() {
    let node = running().await;
    let other = routed(To(node.address.clone())).await;
    for client in [&node.client, &other.client] {
        let answer = client.check_job(CheckJob { spec: spec(Subtasks::Items), items: 7 }).await.unwrap();
        assert_eq!((answer.name, answer.count, answer.known), (name(), 7, false));
        assert_eq!((answer.id, answer.revision), (JobId(0), Revision(0)));
        assert_eq!(answer.warnings, ["Items"]);
    }
    assert!(node.fake.submits.lock().unwrap().is_empty());
    assert_eq!((node.fake.callers.lock().unwrap().len(), other.fake.callers.lock().unwrap().len()), (2, 0));
}

/// Everything is answered by the node at this address.
struct To(String);

impl Route for To {
    fn target(&self, _: Class, _: &str) -> Target {
        Target::To(Contact::anyone(&self.0))
    }
}

#[tokio::test]
async fn a_long_and_a_slow_submit_flow_through() {
    let node = running().await;
    flow_through(&node, &node.client).await;
    let node = running().await;
    let other = routed(To(node.address.clone())).await;
    flow_through(&node, &other.client).await;
    assert!(other.fake.submits.lock().unwrap().is_empty());
    let refused = other.client.submit_job(spec(Subtasks::Items), parts(Vec::new())).await.unwrap_err();
    assert!(refused.to_string().starts_with("done: the submit ended after 0 items without it"), "{refused}");
}

async fn flow_through(node: &Running, client: &Client) {
    let long = item(&json!("x".repeat(CHUNK_MAX - 2)), &[]);
    let mut sent: Vec<_> = (0..20).map(|_| SubmitPart::Items(vec![long.clone()])).collect();
    sent.push(SubmitPart::Done { count: 20 });
    assert_eq!(client.submit_job(spec(Subtasks::Items), parts(sent)).await.unwrap().count, 20);

    // What has come is there before the rest is: the second part waits for the first to have been read.
    let (first, last) = tokio::sync::oneshot::channel::<()>();
    let fake = node.fake.clone();
    let waits = tokio::spawn(async move {
        while fake.callers.lock().unwrap().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        first.send(()).unwrap();
    });
    let slow = futures::stream::iter([SubmitPart::Items(vec![item(&json!(1), &[])])]);
    let end = futures::stream::once(async {
        last.await.unwrap();
        SubmitPart::Done { count: 1 }
    });
    let answer = client.submit_job(spec(Subtasks::Items), slow.chain(end).boxed()).await.unwrap();
    assert_eq!(answer.count, 1);
    waits.await.unwrap();
}

#[tokio::test]
async fn questions_and_answers_survive_the_way() {
    let Running { client, fake, .. } = &running().await;
    let filter = Filter::default().with("state", "failed").with("label.team", "web");
    let page = client.list_jobs(ListJobs { page: PageOf::default(), filter }).await.unwrap();
    assert_eq!(page.next, "1000 state=failed,label.team=web");
    assert_eq!((page.rows[0].id, page.rows[0].counts.canceled), (7, 6));
    assert_eq!(client.job(&name()).await.unwrap(), GotJob { spec: full(), status: status() });
    let none = Retry { retry_on: [].into(), ..Retry::default() };
    let never = JobSpec { retry: none, ..full() };
    assert_eq!(super::spec::answered(Some(super::spec::write(never.clone()))).unwrap(), never);

    let ask = ListSubtasks {
        job: name(),
        page: PageOf::default(),
        states: SubtaskState::ALL.into(),
        selector: Some("1-9:2,failed".parse().unwrap()),
        condition: Some("node = 'n1'".to_owned()),
    };
    let page = client.list_subtasks(ask).await.unwrap();
    assert_eq!(page, Page { rows: SubtaskState::ALL.map(row).into(), next: "1-9:2,failed".to_owned() });
    let why = client.explain_job(ExplainJob { job: name(), subtask: Some(0) }).await.unwrap();
    assert_eq!((why.subtask.unwrap().subtask, why.nodes[0].gates[0].pass), (0, None));
    assert_eq!(client.explain_job(ExplainJob { job: name(), subtask: None }).await.unwrap().subtask, None);
    let watched: Vec<_> = client.watch_job(&name()).await.unwrap().collect().await;
    assert_eq!(watched, [Ok(status()), Ok(status())]);
    let ask = JobLogs { job: name(), subtask: 3, attempt: 2, follow: true, tail: Some(9) };
    let lines: Vec<_> = client.job_logs(ask).await.unwrap().collect().await;
    assert_eq!(lines[0].as_ref().unwrap().text, "3 2 true Some(9)");

    let on = || OnJob { job: name() };
    assert_eq!(client.pause_job(on(), Some(RequestId::from("p"))).await.unwrap().revision, Revision(1));
    assert_eq!(client.resume_job(on(), None).await.unwrap().revision, Revision(2));
    assert!(matches!(client.delete_job(on(), None).await, Err(ApiError::NotFound(_))));
    let selector = Some("last".parse().unwrap());
    let ask = CancelSubtasks {
        job: name(),
        selector: selector.clone(),
        condition: Some("state = 'ready'".to_owned()),
        reason: "no use".to_owned(),
        dry_run: true,
    };
    let canceled = client.cancel_subtasks(ask, Some(RequestId::from("c"))).await.unwrap();
    assert_eq!((canceled.done.warnings[0].as_str(), canceled.subtasks), (r#"Some("last") no use true"#, 3));
    let ask = RetrySubtasks { job: name(), selector, condition: None, dry_run: true };
    assert!(client.retry_subtasks(ask, None).await.unwrap().done.unchanged);
    let ask = Reprioritize { job: name(), selector: None, condition: None, priority: 99, dry_run: false };
    assert_eq!(client.reprioritize(ask, None).await.unwrap().subtasks, 99);
    let ids: Vec<_> = fake.callers.lock().unwrap().iter().map(|caller| caller.request.clone()).collect();
    assert_eq!(ids, [Some(RequestId::from("p")), Some(RequestId::from("c"))]);
}

fn bare() -> v1::JobSpec {
    v1::JobSpec { name: "ndvi".to_owned(), module: "ndvi".to_owned(), ..v1::JobSpec::default() }
}

fn items(texts: &[&str]) -> Part {
    let item = |text: &&str| v1::JobItem { json: (*text).to_owned(), depends_on: Vec::new() };
    Part::Items(v1::JobItems { items: texts.iter().map(item).collect() })
}

fn done(count: u32) -> Part {
    Part::Done(v1::SubmitDone { count })
}

/// What a stream of these is refused with.
async fn refused(sent: Vec<Option<Part>>) -> String {
    let node = running().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.address)).unwrap();
    let mut client = JobServiceClient::new(channel.connect().await.unwrap());
    let sent =
        sent.into_iter().map(|part| v1::SubmitJobRequest { part, ..Default::default() }).collect::<Vec<_>>();
    let status = client.submit(futures::stream::iter(sent)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    status.message().to_owned()
}

#[tokio::test]
async fn streams_that_are_no_submit() {
    let job = || Some(Part::Job(bare()));
    let array = || {
        let array = v1::ArrayRange { first: 0, last: 9, step: None };
        Some(Part::Job(v1::JobSpec { array: Some(array), ..bare() }))
    };
    let huge = format!("\"{}\"", "x".repeat(CHUNK_MAX));
    let half = format!("\"{}\"", "x".repeat(CHUNK_MAX / 2));
    let (huge, half) = (huge.as_str(), half.as_str());
    let cases = [
        (vec![], "job: missing; a JobSpec in the first message"),
        (vec![None], "job: missing"),
        (vec![Some(done(0))], "job: the first message is another"),
        (vec![job(), job()], "job: a second one"),
        (vec![job(), None], "part: missing; items or done"),
        (vec![job(), Some(items(&["1", "2"]))], "done: the submit ended after 2 items without it"),
        (vec![job(), Some(items(&["1"])), Some(done(2))], "done.count: 2 subtasks, but 1 items were sent"),
        (vec![array(), Some(done(9))], "done.count: 9 subtasks, but 10 numbers in the array"),
        (vec![array(), Some(items(&["1"]))], "items: the job is an array"),
        (vec![job(), Some(items(&["1"])), Some(items(&["{}", "{"]))], "items[2].json: this is no JSON"),
        (vec![job(), Some(items(&[huge]))], "items[0]: the item has 524290 bytes, more than 524288"),
        (vec![job(), Some(items(&[half, half]))], "items: more than 524288 bytes of items in one message"),
    ];
    for (sent, expected) in cases {
        let message = refused(sent).await;
        assert!(message.starts_with(expected), "{expected}: {message}");
    }
}

#[tokio::test]
async fn specs_that_make_no_sense() {
    let retry = |retry| v1::JobSpec { retry: Some(retry), ..bare() };
    let on = |class| v1::JobRetry {
        retry_on: Some(v1::RetryOn { classes: vec![class] }),
        ..v1::JobRetry::default()
    };
    let array = |first, last, step| v1::JobSpec {
        array: Some(v1::ArrayRange { first, last, step: Some(step) }),
        ..bare()
    };
    let backoff =
        v1::JobRetry { backoff_min_ms: Some(2), backoff_max_ms: Some(1), ..v1::JobRetry::default() };
    let attempts = v1::JobRetry { max_attempts: Some(0), ..v1::JobRetry::default() };
    let cases = [
        (v1::JobSpec { priority: Some(101), ..bare() }, "priority: 101 is above the highest; 0 to 100"),
        (v1::JobSpec { max_running: Some(0), ..bare() }, "max_running: with 0 at a time"),
        (v1::JobSpec { timeout_ms: Some(0), ..bare() }, "timeout_ms: in no time"),
        (
            v1::JobSpec { after: vec!["ndvi".to_owned()], ..bare() },
            "after[0]: a job cannot come after itself",
        ),
        (v1::JobSpec { backends: vec!["a".into(), "a".into()], ..bare() }, "backends[1]: a is there already"),
        (v1::JobSpec { node_list_rules: vec!["a".into(), "/(/".into()], ..bare() }, "node_list_rules[1]: "),
        (v1::JobSpec { owner: Some(String::new()), ..bare() }, "owner: "),
        (v1::JobSpec { labels: [("a b".to_owned(), String::new())].into(), ..bare() }, "labels["),
        (v1::JobSpec { module: "a@".to_owned(), ..bare() }, "module: "),
        (retry(attempts), "retry.max_attempts: max_attempts counts every try"),
        (retry(backoff), "retry.backoff_max_ms: 2ms..1ms ends below"),
        (retry(on(42)), "retry.retry_on.classes[0]: 42 has no meaning; 1 (exit), 2 (lost)"),
        (array(5, 4, 1), "array: range 5-4 begins above its end"),
        (array(0, 9, 0), "array: a step of zero"),
        (array(0, u64::MAX, 1), "array: range 0-18446744073709551615 has"),
    ];
    for (spec, expected) in cases {
        let message = refused(vec![Some(Part::Job(spec)), Some(done(0))]).await;
        assert!(message.starts_with(&format!("Job ndvi: {expected}")), "{expected}: {message}");
    }
    let two = v1::JobSpec { name: "a/b".to_owned(), priority: Some(700), ..bare() };
    assert!(refused(vec![Some(Part::Job(two))]).await.starts_with("2 defects, the first: name: "));
}

#[test]
fn questions_that_make_no_sense() {
    use super::convert;
    let caller = Caller::local("test");
    let problem = |error: ApiError| match error {
        ApiError::Invalid(defects) => defects[0].to_string(),
        other => panic!("{other:?}"),
    };
    let bad = convert::subtasks(v1::ListSubtasksRequest { states: vec![4, 9], ..Default::default() });
    assert!(problem(bad.unwrap_err()).starts_with("states[1]: 9 has no meaning"));
    let request = v1::RetrySubtasksRequest {
        name: "a".to_owned(),
        selector: "faild".to_owned(),
        ..v1::RetrySubtasksRequest::default()
    };
    let said = problem(request.read(&caller).unwrap_err());
    assert!(said.starts_with("selector: ") && said.ends_with("did you mean failed?"), "{said}");
    let request = v1::ReprioritizeSubtasksRequest { name: "a".to_owned(), ..Default::default() };
    assert!(problem(request.clone().read(&caller).unwrap_err()).starts_with("priority: missing"));
    let request = v1::ReprioritizeSubtasksRequest { priority: Some(300), ..request };
    assert!(problem(request.read(&caller).unwrap_err()).starts_with("priority: 300 is above"));
    let request = v1::CancelSubtasksRequest {
        name: "a".to_owned(),
        reason: "x".repeat(1001),
        ..v1::CancelSubtasksRequest::default()
    };
    assert!(problem(request.read(&caller).unwrap_err()).starts_with("reason: a reason of 1001 bytes"));
    assert!(problem(convert::name("").unwrap_err()).starts_with("name: "));
    assert!(
        convert::list(v1::ListJobsRequest { filter: "colour=red".to_owned(), ..Default::default() }).is_err()
    );
    let strange = v1::JobStatus { state: 9, ..v1::JobStatus::from(status()) };
    assert!(matches!(JobStatus::try_from(strange), Err(ApiError::Internal(_))));
}
