use sheaf_engine::{Apply, Proposal, PutSecret, RecordResults, Register, Reply, SetNodeStatus, SubmitAll};
use sheaf_model::job::{ArrayRange, ITEM_MAX};
use sheaf_model::session::Work;
use sheaf_model::{
    Actor, AttemptEnd, Ending, FailureClass, JobName, JobSpec, KeyId, ModuleName, ModuleRef, ModuleVersion,
    NodeKey, ObjectValue, Run, Runtime, SEAL_TAG, SECRET_MAX, Sealed, SecretName, Span, Template,
    TemplateSet, Timestamp,
};
use sheaf_store::AttemptState;

use super::*;
use crate::propose::tests::{One, Still, facts};

#[test]
fn what_is_more_urgent_is_sent_first_and_of_its_like_the_earlier_job() {
    let [slow, gone, urgent, late] = [1, 2, 3, 4].map(JobId);
    let of = |job| [0, 1].map(|subtask| Attempt { job, subtask, number: 1 });
    let due = Attempts::from([(NodeId(7), [slow, gone, urgent, late].map(of).concat())]);
    let priority = |job: JobId, subtask: u32| match (job.0, subtask) {
        (2, _) => None,
        (1 | 3, 1) => Some(90),
        (3, _) => Some(60),
        _ => Some(50),
    };
    let sent: Vec<_> = by_priority(due, priority).remove(&NodeId(7)).unwrap().into_iter().collect();
    let some = |priority: u8, job, subtask: u32| ((Reverse(priority), job), vec![(subtask, 1)]);
    let all = ((Reverse(50), late), vec![(0, 1), (1, 1)]);
    assert_eq!(sent, [some(90, slow, 1), some(90, urgent, 1), some(60, urgent, 0), some(50, slow, 0), all]);
}

#[test]
fn what_one_message_could_not_take_comes_in_several() {
    let item = |bytes: usize| Json::new(&"x".repeat(bytes - 2).into());
    let of = |count: u32, item: &Json| -> Vec<OrderedSubtask> {
        let one = |subtask| OrderedSubtask { subtask, attempt: 1, backend: None, item: item.clone() };
        (0..count).map(one).collect()
    };
    assert_eq!(messages(Vec::new(), SUBTASKS_MAX), Vec::<Vec<OrderedSubtask>>::new());
    let large = of(20, &item(ITEM_MAX));
    let sent = messages(large.clone(), SUBTASKS_MAX);
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 4]);
    assert_eq!(sent.concat(), large);
    let small = of(MOST, &item(3));
    assert_eq!(messages(small.clone(), SUBTASKS_MAX), [small]);
}

#[test]
fn with_large_secrets_a_message_has_fewer_subtasks() {
    let (name, version) = (ModuleName::new("m").expect("a name"), ModuleVersion::new("1").expect("one"));
    let module = Arc::new(ModuleSpec::new(name, version, Runtime::Exec));
    let (name, of) = (JobName::new("j").expect("a name"), ModuleRef::parse("m@1").expect("a module"));
    let spec = Arc::new(JobSpec::new(name, of, Subtasks::Items));
    let secrets = (0..40).map(|n| (secret(n), longest())).collect();
    let backends = BTreeMap::new();
    let order = Order {
        job: JobId(7),
        spec,
        module,
        subtasks: Vec::new(),
        secrets,
        backends,
        artifact: None,
        priority: Some(50),
    };
    // So is this item: quotes, in JSON twice.
    let item = Json::new(&"\"".repeat(ITEM_MAX / 2 - 1).into());
    let one = |subtask| OrderedSubtask { subtask, attempt: 1, backend: None, item: item.clone() };
    let subtasks: Vec<OrderedSubtask> = (0..12).map(one).collect();
    let room = MESSAGE_MAX - rest(&order);
    assert!(room < SUBTASKS_MAX, "{room}");
    let sent = messages(subtasks.clone(), room);
    assert_eq!(sent.concat(), subtasks);
    assert!(sent.len() < subtasks.len(), "as many as fit");
    for subtasks in sent {
        let message = ToNode::Run(vec![Order { subtasks, ..order.clone() }]);
        let json = serde_json::to_vec(&message).expect("it can be written");
        assert!(json.len() <= MESSAGE_MAX, "{} bytes", json.len());
    }
}

fn secret(number: u32) -> SecretName {
    SecretName::new(&format!("s{number}")).expect("a name")
}

/// What is written of it is the longest there is: each byte has three digits and a comma.
fn longest() -> Sealed {
    let ciphertext = ObjectValue::from(&[255; SECRET_MAX + SEAL_TAG][..]);
    Sealed { key: KeyId([0; 8]), nonce: [0; 12], ciphertext }
}

/// A node in a session, to which the subtasks 0 to 2 of a job are granted, and what it is told.
struct Granted {
    control: Control,
    member: Member,
    node: NodeId,
    job: JobId,
    term: Term,
    told: tokio::sync::mpsc::Receiver<ToNode>,
    _one: One,
}

impl Granted {
    async fn new() -> Self {
        Self::naming(0).await
    }

    /// Its module names so many secrets.
    async fn naming(secrets: u32) -> Self {
        let one = One::formed().await;
        let (control, member) = (one.control(Arc::new(Still)), one.member.clone());
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let told = control.live.lock().link(node, life.clone());
        control.floor.lock().opened(node, &life, Some(&Work { slots: 3, ..Work::default() }));
        let term = member.replica.leadership().borrow().term;
        let it = Self { control, member, node, job: JobId::default(), term, told, _one: one };
        it.propose(Command::Register(Register { key: NodeKey::from("n1"), facts: facts("n1") })).await;
        let ready = SetNodeStatus { node, status: NodeStatus::Ready, reason: String::new(), term: None };
        it.propose(Command::SetNodeStatus(ready)).await;
        let (name, version) = (ModuleName::new("m").expect("a name"), ModuleVersion::new("1").expect("one"));
        let mut module = ModuleSpec::new(name, version, Runtime::Exec);
        let named = |n| Template::parse(secret(n).as_str(), TemplateSet::SecretNames).expect("a name");
        module.secrets = (0..secrets).map(named).collect();
        it.propose(Command::Apply(Apply { modules: vec![module], buckets: Vec::new() })).await;
        let (name, module) = (JobName::new("j").expect("a name"), ModuleRef::parse("m@1").expect("a module"));
        let range = ArrayRange { first: 0, last: 2, step: 1 };
        let spec = Arc::new(JobSpec::new(name, module, Subtasks::Array(range)));
        it.propose(Command::Submit(SubmitAll { spec, most: 3, items: Arc::default() })).await;
        let job = it.member.replica.state().jobs.iter().next().expect("the job").id;
        it.propose(Command::TakeUp(TakeUp { node, incarnation: life.clone() })).await;
        let subtasks = vec![(Run::new(0, 2), 1)];
        let grants = vec![Grant { node, incarnation: life, job, backend: None, subtasks }];
        it.propose(Command::Grant(GrantAll { term, grants })).await;
        Self { job, ..it }
    }

    async fn propose(&self, command: Command) {
        let proposal =
            Proposal { actor: Actor::from("test"), at: Timestamp::default(), request: None, command };
        let reply = self.member.replica.propose(&proposal).await.expect("it leads").reply;
        assert!(!matches!(reply, Reply::Refused(_)), "{reply:?}");
    }

    /// Sends all of it, as to a node in this session; what arrives.
    async fn send(&mut self, sessions: &Sessions) -> Vec<u32> {
        let all = [0, 1, 2].map(|subtask| Attempt { job: self.job, subtask, number: 1 });
        self.control.send(&self.member, self.term, Attempts::from([(self.node, all.into())]), sessions).await;
        self.told()
    }

    fn told(&mut self) -> Vec<u32> {
        match self.told.try_recv() {
            Ok(ToNode::Run(orders)) => {
                orders.iter().flat_map(|order| &order.subtasks).map(|it| it.subtask).collect()
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => Vec::new(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_meanwhile_is_not_sent_and_nothing_is_to_another_session() {
    let mut it = Granted::new().await;
    let sessions = it.control.floor.lock().sessions();
    assert_eq!(it.send(&sessions).await, [0, 1, 2]);
    let end = AttemptEnd {
        subtask: 1,
        attempt: 1,
        started_at: Timestamp(0),
        took: Span(1),
        ending: Ending::Finished,
    };
    let results = vec![(it.job, vec![end])];
    it.propose(Command::RecordResults(RecordResults { node: it.node, results })).await;
    assert_eq!(
        it.send(&sessions).await,
        [0, 2],
        "its agent may have forgotten the other one, and would begin it"
    );
    let work = Work { slots: 3, ..Work::default() };
    it.control.floor.lock().opened(it.node, &Incarnation::from("a"), Some(&work));
    assert_eq!(it.send(&sessions).await, Vec::<u32>::new(), "that is to be compared with what it holds");
    it.control.catch_up(&it.member, it.term).await;
    assert_eq!(it.told(), [0, 2], "as it is now");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_was_not_known_to_be_decided_what_is_not_there_yet_is_still_looked_for() {
    let it = Granted::new().await;
    let attempt = |subtask, number| (it.node, Attempt { job: it.job, subtask, number });
    let mut unsure = Unsure::from([attempt(0, 1), attempt(1, 2)]);
    assert_eq!(late(&it.member.replica.state(), &mut unsure), BTreeSet::from([it.node]));
    assert_eq!(unsure, Unsure::from([attempt(1, 2)]), "it may be applied later");
    assert_eq!(late(&it.member.replica.state(), &mut unsure), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_message_takes_does_not_wait_for_its_node_but_ends_and_says_why() {
    let count = u32::try_from(MESSAGE_MAX / (4 * SECRET_MAX)).expect("few") + 1;
    let mut it = Granted::naming(count).await;
    let unsendable = |it: &Granted| {
        let state = it.member.replica.state();
        let job = state.jobs.get(it.job).expect("the job");
        let module = state.module(&job.spec.module).expect("its module");
        unsendable(&job.spec, &module.spec, &state)
    };
    assert_eq!(unsendable(&it), None, "none of its secrets is set");
    for number in 0..count {
        it.propose(Command::PutSecret(PutSecret { name: secret(number), sealed: longest() })).await;
    }
    let defect = unsendable(&it).expect("no node can be told of them").to_string();
    assert!(
        defect.contains("secrets that module m@1 names") && defect.contains("shorter secrets"),
        "{defect}"
    );

    let former = it.control.floor.lock().sessions();
    let work = Work { slots: 3, ..Work::default() };
    it.control.floor.lock().opened(it.node, &Incarnation::from("a"), Some(&work));
    assert_eq!(it.send(&former).await, Vec::<u32>::new());
    let left = |it: &Granted| it.member.replica.state().jobs.on_node(it.node);
    assert_eq!(left(&it), 3, "what the node holds in this session is not known yet");
    it.control.catch_up(&it.member, it.term).await;
    assert_eq!((it.told(), left(&it)), (Vec::new(), 0));
    let job = it.job;
    let ran = read(&it.member, move |reader| reader.attempts(job, 1)).await.expect("its attempts");
    let [ran] = ran.as_slice() else { panic!("{ran:?}") };
    assert_eq!(ran.end, AttemptState::Failed(FailureClass::Exit));
    assert!(ran.message.contains("secrets that module m@1 names"), "{}", ran.message);
    assert!(ran.message.contains("set shorter secrets"), "{}", ran.message);
}
