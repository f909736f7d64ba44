//! The commands about jobs.

use std::sync::Arc;

use sheaf_engine::{
    AddItems, BeginSubmit, CancelJob, CollectSubmit, Command, CommitSubmit, Grant, GrantAll, Proposal,
    RecordResults, ReprioritizeJob, RetryJob, SubmitAll, TakeUp, WakeSubtasks,
};
use sheaf_model::{
    Actor, ArrayRange, AttemptEnd, BackendName, Ending, Exit, Failure, FailureClass, Incarnation, Item,
    JobId, JobName, JobSpec, Json, ModuleRef, NodeId, NodeListRules, Ranges, RequestId, Retry, Run, Span,
    Subtasks, Term, Timestamp,
};

fn spec(subtasks: Subtasks) -> Arc<JobSpec> {
    let module = ModuleRef::parse("ndvi@2.1.0").unwrap();
    Arc::new(JobSpec {
        priority: 80,
        max_running: Some(200),
        retry: Retry {
            max_attempts: 5,
            retry_on: [FailureClass::Lost, FailureClass::Backend].into(),
            ..Retry::default()
        },
        timeout: Some(Span::seconds(600)),
        node_list_rules: NodeListRules::parse(&["$compute", "-n7"]).unwrap(),
        backends: vec![BackendName::new("vito").unwrap()],
        after: vec![JobName::new("tiles").unwrap()],
        labels: [("team".to_owned(), "eo".to_owned())].into(),
        owner: Some("alice".to_owned()),
        request_id: Some(RequestId("7f0c-2".to_owned())),
        ..JobSpec::new(JobName::new("ndvi-2024").unwrap(), module, subtasks)
    })
}

fn submits(job: JobId) -> Vec<Command> {
    let range = ArrayRange { first: 10, last: 1_000, step: 10 };
    let item = |depends_on| Item { value: Json::default(), depends_on };
    let items = Arc::new(vec![item(vec![]), item(vec![0])]);
    vec![
        Command::BeginSubmit(BeginSubmit { spec: spec(Subtasks::Items), most: 10_000_000 }),
        Command::AddItems(AddItems { job, first: 0, items }),
        Command::CommitSubmit(CommitSubmit { job, count: 2, digest: 0xfeed_f00d }),
        Command::Submit(SubmitAll {
            spec: spec(Subtasks::Array(range)),
            most: 10_000_000,
            items: Arc::default(),
        }),
        Command::CollectSubmit(CollectSubmit { job, at: Timestamp(1_700_000_000_000), term: Term(7) }),
    ]
}

fn attempts(job: JobId) -> Vec<Command> {
    let (node, incarnation) = (NodeId(3), Incarnation("a1b2c3".to_owned()));
    let failure =
        Failure { class: FailureClass::Exit, exit: Some(Exit::Code(3)), message: "no tile".to_owned() };
    let endings = [Ending::Finished, Ending::Failed(failure), Ending::Canceled, Ending::HandedBack];
    let ends = (0..).zip(endings).map(|(subtask, ending)| AttemptEnd {
        subtask,
        attempt: 1 + subtask,
        started_at: Timestamp(1_700_000_000_000),
        took: Span::millis(1_500),
        ending,
    });
    let subtasks = vec![(Run { first: 0, last: 9 }, 1), (Run { first: 12, last: 12 }, 2)];
    let backend = Some(BackendName::new("vito").unwrap());
    let grant = Grant { node, incarnation: incarnation.clone(), job, backend, subtasks };
    vec![
        Command::TakeUp(TakeUp { node, incarnation }),
        Command::Grant(GrantAll { term: Term(7), grants: vec![grant] }),
        Command::RecordResults(RecordResults { node, results: vec![(job, ends.collect())] }),
        Command::WakeSubtasks(WakeSubtasks { until: Timestamp(1_700_000_001_000), term: Term(7) }),
    ]
}

fn verbs(job: JobId) -> Vec<Command> {
    let some: Ranges = [Run { first: 1, last: 5 }, Run { first: 9, last: 9 }].into_iter().collect();
    let subtasks = Some(some.clone());
    vec![
        Command::PauseJob(job),
        Command::ResumeJob(job),
        Command::CancelJob(CancelJob { job, subtasks: subtasks.clone(), reason: "a wrong month".to_owned() }),
        Command::RetryJob(RetryJob { job, subtasks: some }),
        Command::ReprioritizeJob(ReprioritizeJob { job, subtasks, priority: 90 }),
        Command::DeleteJob(job),
    ]
}

/// Every command about jobs.
pub(super) fn job_commands() -> Vec<Proposal> {
    let job = JobId(41);
    let by = |command| Proposal {
        actor: Actor("cli:alice@ops1".to_owned()),
        at: Timestamp(1_700_000_000_000),
        request: None,
        command,
    };
    submits(job).into_iter().chain(attempts(job)).chain(verbs(job)).map(by).collect()
}
