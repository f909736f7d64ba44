use sheaf_engine::{Apply, Proposal, RecordResults, Register, Reply, SetNodeStatus, SubmitAll};
use sheaf_model::job::{ArrayRange, ITEM_MAX};
use sheaf_model::session::Work;
use sheaf_model::{
    Actor, AttemptEnd, Ending, JobName, JobSpec, KeyId, ModuleName, ModuleRef, ModuleVersion, NodeKey,
    ObjectValue, Run, Runtime, SEAL_TAG, SECRET_MAX, Sealed, SecretName, Span, Timestamp,
};

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
    // What is written of it is the longest there is: each byte has three digits and a comma.
    let ciphertext = ObjectValue::from(&[255; SECRET_MAX + SEAL_TAG][..]);
    let sealed = Sealed { key: KeyId([0; 8]), nonce: [0; 12], ciphertext };
    let name = |n: u32| SecretName::new(&format!("s{n}")).expect("a name");
    let secrets = (0..40).map(|n| (name(n), sealed.clone())).collect();
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
    let text = too_long(JobId(7), NodeId(3), 17_000_000);
    assert!(text.contains("17000000 bytes") && text.contains("fewer or shorter secrets"), "{text}");
}

/// A node in a session, to which the subtasks 0 to 2 of a job are granted, and what it is told.
struct Granted {
    control: Control,
    member: Member,
    node: NodeId,
    job: JobId,
    told: tokio::sync::mpsc::Receiver<ToNode>,
    _one: One,
}

impl Granted {
    async fn new() -> Self {
        let one = One::formed().await;
        let (control, member) = (one.control(Arc::new(Still)), one.member.clone());
        let (node, life) = (NodeId(1), Incarnation::from("a"));
        let told = control.live.lock().link(node, life.clone());
        control.floor.lock().opened(node, &life, Some(&Work { slots: 3, ..Work::default() }));
        let it = Self { control, member, node, job: JobId::default(), told, _one: one };
        it.propose(Command::Register(Register { key: NodeKey::from("n1"), facts: facts("n1") })).await;
        let ready = SetNodeStatus { node, status: NodeStatus::Ready, reason: String::new(), term: None };
        it.propose(Command::SetNodeStatus(ready)).await;
        let (name, version) = (ModuleName::new("m").expect("a name"), ModuleVersion::new("1").expect("one"));
        let module = ModuleSpec::new(name, version, Runtime::Exec);
        it.propose(Command::Apply(Apply { modules: vec![module], buckets: Vec::new() })).await;
        let (name, module) = (JobName::new("j").expect("a name"), ModuleRef::parse("m@1").expect("a module"));
        let range = ArrayRange { first: 0, last: 2, step: 1 };
        let spec = Arc::new(JobSpec::new(name, module, Subtasks::Array(range)));
        it.propose(Command::Submit(SubmitAll { spec, most: 3, items: Arc::default() })).await;
        let job = it.member.replica.state().jobs.iter().next().expect("the job").id;
        it.propose(Command::TakeUp(TakeUp { node, incarnation: life.clone() })).await;
        let subtasks = vec![(Run::new(0, 2), 1)];
        let grants = vec![Grant { node, incarnation: life, job, backend: None, subtasks }];
        let term = it.member.replica.leadership().borrow().term;
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
        self.control.send(&self.member, Attempts::from([(self.node, all.into())]), sessions).await;
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
    it.control.catch_up(&it.member).await;
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
