//! What every version of every stored row looks like, byte for byte, without its checksum. A golden file is never changed: a build that writes
//! other bytes writes the next version, and goes on reading these.

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_engine::backend::{Backend, Opened};
use sheaf_engine::job::step::{Detail, Ran, Step, Transitions, What};
use sheaf_engine::sink::{Sink, SinkFailing};
use sheaf_engine::{
    Asked, Bucket, Cluster, Emergency, Entry, Module, Object, OnBucket, Outcome, OutcomeVerb, Purge, Refusal,
    Release, Reply, Request, Rollout, Secret, State,
};
use sheaf_model::*;
use sheaf_model::{BackendName, BackendSpec, Frequency};

use super::{
    AuthorityRecordV1, BucketV1, BucketV2, BucketV3, ClusterV1, ClusterV2, ClusterV3, ModuleV1, ModuleV2,
    NodeV1, NodeV2, RequestV1, RolloutV1, SUM, Stored, TransitionsV1, decode, encode,
};
fn bucket_name() -> BucketName {
    BucketName::new("/logs/web").unwrap()
}

fn template() -> Template {
    use TemplateName::{
        Attempt, BucketConfig, BucketName, BucketRevision, Dir, File, Item, Job, NodeHostname, NodeLabels,
        NodeName, Sheaf, Subtask,
    };
    let names = [
        BucketName,
        BucketRevision,
        BucketConfig(vec!["a".to_owned()]),
        NodeName,
        NodeHostname,
        NodeLabels,
        Dir,
        File(FileName::new("f.conf").unwrap()),
        Sheaf,
        Item(vec![]),
        Job,
        Subtask,
        Attempt,
    ];
    Template(std::iter::once(Part::Text("x".to_owned())).chain(names.into_iter().map(Part::Name)).collect())
}

fn checks() -> Vec<Check> {
    use CheckKind::{Command, Dir, DiskAvailable, Env, File, Label, MemoryAvailable, PortFree};
    let text = || Template(vec![Part::Text("t".to_owned())]);
    let kinds = [
        File(text()),
        Dir(text()),
        Env(text()),
        Label(text()),
        MemoryAvailable(Bytes(1 << 30)),
        DiskAvailable(Bytes(2 << 30)),
        PortFree(text()),
        Command(vec![text(), text()]),
    ];
    kinds.map(|kind| Check { kind, timeout: Some(Span::seconds(2)) }).into()
}

fn module_v1() -> ModuleV1 {
    let name = ModuleName::new("flume").unwrap();
    let version = ModuleVersion::new("1.11.0").unwrap();
    let spec = ModuleSpecV1 {
        name,
        version,
        runtime: Runtime::Builtin("http".to_owned()),
        supports_multi_node: false,
        can_run_on_this_node: checks(),
        exec: Some(Exec {
            command: template(),
            args: vec![template()],
            env: BTreeMap::from([("A".to_owned(), template())]),
        }),
        files: BTreeMap::from([(FileName::new("f.conf").unwrap(), template())]),
        stop: Stop { signal: Signal::Usr2, grace: Span::seconds(7) },
        restart: Restart { policy: RestartWhen::Always, ..Restart::default() },
        config_schema: Some(Json::default()),
        limits: Limits {
            memory: Some(Bytes(1)),
            cpu_millis: Some(2),
            open_files: Some(3),
            processes: Some(4),
        },
        user: Some("flume".to_owned()),
    };
    ModuleV1 { spec, revision: Revision(5), at: Timestamp(1_700_000_000_000) }
}

fn module_v2() -> ModuleV2 {
    let former = ModuleV2::from_previous(module_v1());
    let call = |n: u64| LifeCycleCall { command: vec![template()], timeout: Some(Span::seconds(n)) };
    use sheaf_model::Call::{
        Decommission, Delete, Hello, Init, NewSource, PeriodicPoll, Resume, Stop, Suspend, UpdatedSource,
    };
    let calls =
        [Hello, Init, NewSource, Resume, UpdatedSource, PeriodicPoll, Suspend, Delete, Decommission, Stop];
    let life_cycle = calls.into_iter().zip(1..).map(|(name, n)| (name, call(n))).collect();
    ModuleV2 { spec: ModuleSpecV2 { life_cycle, ..former.spec }, ..former }
}

fn module() -> Module {
    let former = Module::from_previous(module_v2());
    let secret = Part::Name(TemplateName::Secret(SecretName::new("token").unwrap()));
    let secrets = vec![Template(vec![Part::Text("token".to_owned())]), template(), Template(vec![secret])];
    Module { spec: Arc::new(ModuleSpec { secrets, ..(*former.spec).clone() }), ..former }
}

fn release(revision: u64) -> Release {
    let rule = |text: &str| NodeRule::parse(text).unwrap();
    let spec = BucketSpec {
        kind: BucketType::Analytic,
        multi_node: true,
        node_list_rules: NodeListRules(vec![rule("+import-*"), rule("-$/gpu\\/x/i")]),
        config: Json::new(&serde_json::json!({"agent": "a1"})),
        poll_frequency: Some(Span::seconds(600)),
        placement: Placement::Spread("zone".to_owned()),
        on_node_lost: OnNodeLost::Wait,
        max_parallel: Some(1),
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        owner: Some("data-eng".to_owned()),
        ..BucketSpec::new(bucket_name(), ModuleRef::parse("flume@1.11.0").unwrap())
    };
    let (revision, at) = (Revision(revision), Timestamp(1_700_000_000_000));
    Release { revision, spec: Arc::new(spec), at, actor: "cli:alice@ops1".to_owned() }
}

fn bucket_v1() -> BucketV1 {
    BucketV1 {
        current: release(7),
        next: Some(RolloutV1 { release: release(9), released: [NodeId(3)].into() }),
        suspended: true,
        revision: Revision(10),
        created: Revision(6),
        restarted: Revision(8),
        gave_up: BTreeMap::from([(NodeId(2), "why".to_owned())]),
    }
}

fn bucket_v2() -> BucketV2 {
    let former = BucketV2::from_previous(bucket_v1());
    let next = former.next.map(|rollout| Rollout {
        ran: [NodeId(3)].into(),
        stopped: Some("node n3: ended".to_owned()),
        ..rollout
    });
    BucketV2 { next, again: BTreeMap::from([(NodeId(4), Revision(10))]), ..former }
}

fn bucket_v3() -> BucketV3 {
    let (until, reason) = (Timestamp(1_700_000_060_000), "the source asks for a pause".to_owned());
    let emergency = Some(Emergency::Quarantined { until, reason });
    BucketV3 { emergency, ..BucketV3::from_previous(bucket_v2()) }
}

fn bucket() -> Bucket {
    let (waiting, failed) = ([NodeId(1)].into(), BTreeMap::from([(NodeId(2), "why".to_owned())]));
    let purge = Some(Purge { revision: Revision(11), waiting, failed });
    let trial =
        Some(Trial { until: Timestamp(1_700_000_060_000), max_objects: 10, max_time: Span::seconds(5) });
    Bucket { purge, trial, ..Bucket::from_previous(bucket_v3()) }
}

fn node_v1() -> NodeV1 {
    NodeV1 {
        id: NodeId(3),
        key: "k3".into(),
        facts: Facts {
            name: NodeName::new("n3").unwrap(),
            hostname: "n3.example.com".to_owned(),
            address: "10.0.0.3:7420".to_owned(),
            labels: vec!["import".to_owned()],
            allow: vec!["flume".to_owned()],
            deny: vec!["web*".to_owned()],
            version: "0.1.0".to_owned(),
            cpu: 2,
            memory_total: Bytes(1 << 34),
            notes: vec!["note".to_owned()],
        },
        given_labels: vec!["zone=a".to_owned()],
        status: NodeStatus::Draining,
        since: Timestamp(1_700_000_000_000),
        reason: "maintenance".to_owned(),
        registered: Revision(3),
        revision: Revision(4),
    }
}

fn node_v2() -> NodeV2 {
    let drain = Drain { deadline: Some(Span::seconds(300)), keep_multi_node: true };
    NodeV2 { drain: Some(drain), ..NodeV2::from_previous(node_v1()) }
}

fn node() -> Node {
    Node { may_vote: false, ..Node::from_previous(node_v2()) }
}

fn binding() -> Binding {
    Binding {
        bucket: bucket_name(),
        node: NodeId(3),
        epoch: Epoch((1 << 48) | 11),
        since: Timestamp(1_700_000_000_000),
        revision: Revision(11),
        basis: Revision(7),
        leaving: Some(LeaveReason::NotAvailable(Gate::CanRunOnThisNode, "no".to_owned())),
        decision: Decision {
            why: "least_loaded".to_owned(),
            runners_up: vec![(NodeId(2), "busy".to_owned())],
            refusals: vec![(Gate::LocalConfig, "not allowed".to_owned(), 4)],
            silent: 1,
        },
    }
}

fn instance() -> Instance {
    Instance {
        bucket: bucket_name(),
        node: NodeId(3),
        phase: Phase::Backoff,
        epoch: Some(Epoch(11)),
        revision: Revision(8),
        pid: Some(4711),
        started_at: Some(Timestamp(1_700_000_000_000)),
        restarts: 2,
        exit: Some(Exit::Signal(9)),
        message: "ended".to_owned(),
    }
}

fn cluster_v1() -> ClusterV1 {
    ClusterV1 {
        id: Some("c0ffee".into()),
        epoch: ClusterEpoch(1),
        settings: Settings { voters: Voters::Fixed(5), ..Settings::default() },
        former: Some(Settings::default()),
        nodes_ever: 3,
        formed_at: Timestamp(1_700_000_000_000),
    }
}

fn cluster_v2() -> ClusterV2 {
    let repair = Repair { after: Span::seconds(60), spread: Some("zone".to_owned()) };
    ClusterV2 { repair, ..ClusterV2::from_previous(cluster_v1()) }
}

fn cluster_v3() -> ClusterV3 {
    let jobs = JobSettings { max_subtasks: 1_000 };
    ClusterV3 { lease_changed: Revision(9), jobs, ..ClusterV3::from_previous(cluster_v2()) }
}

fn cluster() -> Cluster {
    let history = HistorySettings { age: Span::seconds(7), events: 5_000 };
    Cluster { history, ..Cluster::from_previous(cluster_v3()) }
}

fn requests_v1() -> Vec<RequestV1> {
    let outcome = |verb| Outcome { document: "Bucket /a".to_owned(), verb, revision: Revision(7) };
    let outcomes = [OutcomeVerb::Created, OutcomeVerb::Updated, OutcomeVerb::Unchanged].map(outcome);
    let replies = [
        Reply::Done(Revision(7)),
        Reply::Unchanged(Revision(7)),
        Reply::Applied(outcomes.into()),
        Reply::Registered(NodeId(3)),
        Reply::Refused(Refusal::Conflict("no".to_owned())),
    ];
    let request = |reply| RequestV1 { id: "7f0c-1".into(), revision: Revision(7), at: Timestamp(1), reply };
    replies.map(request).into()
}

/// The bytes in hex, after seeing that they are read back as what was written, and without their checksum as well.
fn written<T: Stored + PartialEq + std::fmt::Debug>(name: &str, value: &T) -> String {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    assert_eq!(&decode::<T>(&bytes).unwrap(), value, "{name}");
    bytes.truncate(bytes.len() - SUM);
    assert_eq!(&decode::<T>(&bytes).unwrap(), value, "{name}, without its checksum");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {hex}\n")
}

#[test]
fn version_1_is_written_as_it_was_first_shipped() {
    let residue = Residue { bucket: bucket_name(), nodes: BTreeMap::from([(NodeId(3), Revision(12))]) };
    let rows = [
        written("cluster", &cluster_v1()),
        written("node", &node_v1()),
        written("module", &module_v1()),
        written("bucket", &bucket_v1()),
        written("release", &release(7)),
        written("binding", &binding()),
        written("residue", &residue),
        written("instance", &instance()),
    ];
    let requests = requests_v1().into_iter().map(|request| written("request", &request));
    let all: String = rows.into_iter().chain(requests).collect();
    compare("v1-rows", &all, include_str!("golden/v1-rows.hex"));
}

/// Compares with a golden file, or writes one that is there and empty, when asked to.
fn compare(name: &str, all: &str, golden: &str) {
    if golden.is_empty() && std::env::var_os("SHEAF_WRITE_GOLDEN").is_some() {
        let file = format!("{}/src/codec/golden/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        return std::fs::write(file, all).unwrap();
    }
    assert_eq!(all, golden, "{name}");
}

#[test]
fn version_2_of_a_request_is_written_as_it_was_first_shipped() {
    let former = requests_v1().swap_remove(0);
    let mut bytes = Vec::new();
    encode(&former, &mut bytes).unwrap();
    let read: Request = decode(&bytes).unwrap();
    assert_eq!(read, Request::from_previous(former));
    assert_eq!(read.asked, None, "what an earlier Sheaf wrote is read");
    let suspend = sheaf_engine::Command::Suspend(OnBucket { bucket: bucket_name(), base: None });
    let request = Request { asked: Asked::of(&suspend, &State::default()), ..read.clone() };
    let all = written("request", &request) + &written("request", &read);
    compare("v2-request", &all, include_str!("golden/v2-request.hex"));
}

#[test]
fn version_3_of_a_bucket_is_written_as_it_was_first_shipped() {
    let disabled = Some(Emergency::Disabled { reason: "no such source".to_owned() });
    let other = BucketV3 { emergency: disabled, ..bucket_v3() };
    let all = written("bucket", &bucket_v3()) + &written("bucket", &other);
    compare("v3-bucket", &all, include_str!("golden/v3-bucket.hex"));
    let mut former = Vec::new();
    encode(&bucket_v2(), &mut former).unwrap();
    let read = decode::<BucketV3>(&former);
    assert_eq!(read, Ok(BucketV3 { emergency: None, ..bucket_v3() }), "what an earlier Sheaf wrote is read");
}

#[test]
fn version_4_of_a_bucket_is_written_as_it_was_first_shipped() {
    compare("v4-bucket", &written("bucket", &bucket()), include_str!("golden/v4-bucket.hex"));
    let mut former = Vec::new();
    encode(&bucket_v3(), &mut former).unwrap();
    assert_eq!(decode::<Bucket>(&former), Ok(Bucket { purge: None, trial: None, ..bucket() }));
}

#[test]
fn objects_are_written_as_they_were_first_shipped() {
    let entry = Entry { version: Revision(12), size: 3, token: 0xfeed, at: Timestamp(1_700_000_000_000) };
    let object = Object { bucket: bucket_name(), key: ObjectKey::new("offsets/web").unwrap(), entry };
    compare("v1-object", &written("object", &object), include_str!("golden/v1-object.hex"));
}

#[test]
fn version_2_is_written_as_it_was_first_shipped() {
    let all = written("node", &node_v2()) + &written("cluster", &cluster_v2());
    compare("v2-rows", &all, include_str!("golden/v2-rows.hex"));
    compare("v2-bucket", &written("bucket", &bucket_v2()), include_str!("golden/v2-bucket.hex"));
    let mut first = Vec::new();
    encode(&node_v1(), &mut first).unwrap();
    assert_eq!(
        decode::<NodeV2>(&first),
        Ok(NodeV2 { drain: None, ..node_v2() }),
        "what an earlier Sheaf wrote is read"
    );
    encode(&cluster_v1(), &mut first).unwrap();
    assert_eq!(decode::<ClusterV2>(&first), Ok(ClusterV2 { repair: Repair::default(), ..cluster_v2() }));
    encode(&bucket_v1(), &mut first).unwrap();
    assert_eq!(decode::<BucketV2>(&first), Ok(BucketV2::from_previous(bucket_v1())));
}

#[test]
fn version_3_of_a_cluster_is_written_as_it_was_first_shipped() {
    compare("v3-cluster", &written("cluster", &cluster_v3()), include_str!("golden/v3-cluster.hex"));
    let mut former = Vec::new();
    encode(&cluster_v2(), &mut former).unwrap();
    assert_eq!(decode::<ClusterV3>(&former), Ok(ClusterV3::from_previous(cluster_v2())));
    encode(&cluster_v1(), &mut former).unwrap();
    assert_eq!(decode::<Cluster>(&former).unwrap().repair, Repair::default());
}

#[test]
fn version_4_of_a_cluster_is_written_as_it_was_first_shipped() {
    compare("v4-cluster", &written("cluster", &cluster()), include_str!("golden/v4-cluster.hex"));
    let mut former = Vec::new();
    encode(&cluster_v3(), &mut former).unwrap();
    assert_eq!(decode::<Cluster>(&former), Ok(Cluster { history: HistorySettings::default(), ..cluster() }));
}

#[test]
fn version_3_of_a_node_is_written_as_it_was_first_shipped() {
    compare("v3-node", &written("node", &node()), include_str!("golden/v3-node.hex"));
    let mut former = Vec::new();
    encode(&node_v2(), &mut former).unwrap();
    assert_eq!(decode::<Node>(&former), Ok(Node { may_vote: true, ..node() }), "who was there may vote");
}

#[test]
fn who_may_do_what_is_written_as_it_was_first_shipped() {
    let prefix = Some(Prefix::new("/team-a/").unwrap());
    let of = TokenUse::User(Rights { role: Role::Operator, prefix });
    let token = TokenRecord {
        id: TokenId([0xab; 6]),
        name: TokenName::new("alice").unwrap(),
        of,
        digest: Digest([0xcd; 32]),
        created_at: Timestamp(1_700_000_000_000),
        created_by: "user:root".to_owned(),
        expires_at: Some(Timestamp(1_700_000_030_000)),
        revision: Revision(7),
    };
    let join = TokenRecord { of: TokenUse::Join { voter: true }, expires_at: None, ..token.clone() };
    let authority = authority_v1();
    let tokens = written("token", &token) + &written("token", &join);
    compare("v1-access", &(tokens + &written("authority", &authority)), include_str!("golden/v1-access.hex"));
    let authority = Digest([0xef; 32]);
    let of = TokenUse::Certificate { rights: Rights::of(Role::Admin), authority };
    let certificate = TokenRecord { of, ..token };
    compare("v1-certificate", &written("token", &certificate), include_str!("golden/v1-certificate.hex"));
}

fn authority_v1() -> AuthorityRecordV1 {
    AuthorityRecordV1 {
        fingerprint: Digest([0xef; 32]),
        certificate: ObjectValue::from([0x30, 0x82, 0x01].as_slice()),
        revision: Revision(8),
        added_at: Timestamp(1_700_000_000_000),
    }
}

#[test]
fn version_2_of_an_authority_is_written_as_it_was_first_shipped() {
    let issuing = AuthorityRecord::from_previous(authority_v1());
    let bridge = Some(ObjectValue::from([0x30, 0x31].as_slice()));
    let stage = AuthorityStage::Next { lifetime: Span::seconds(60) };
    let next = AuthorityRecord { stage, bridge, ..issuing.clone() };
    let stage = AuthorityStage::Former { until: Timestamp(1_700_000_060_000) };
    let former = AuthorityRecord { stage, ..issuing.clone() };
    let all = [&issuing, &next, &former].map(|it| written("authority", it)).concat();
    compare("v2-authority", &all, include_str!("golden/v2-authority.hex"));
    let mut first = Vec::new();
    encode(&authority_v1(), &mut first).unwrap();
    assert_eq!(decode::<AuthorityRecord>(&first), Ok(issuing), "what an earlier Sheaf wrote is read");
}

fn transitions_v1() -> TransitionsV1 {
    let until = Timestamp(1_700_000_030_000);
    let all = [
        What::Granted(NodeId(3), Some(1)),
        What::Finished,
        What::Retried(FailureClass::Timeout, until),
        What::Failed(FailureClass::Refused),
        What::HandedBack,
        What::Woken,
        What::Canceled,
        What::Skipped(7),
        What::Stopping,
        What::Again,
        What::Prioritized(90),
        What::AllPrioritized(10),
        What::Stale,
    ];
    let steps = all.into_iter().zip(0..);
    TransitionsV1 {
        job: JobId(300),
        number: 5,
        revision: Revision(400),
        at: Timestamp(1_700_000_000_000),
        steps: steps.map(|(what, n)| Step { what, run: Run::new(n, n + 200), attempt: n }).collect(),
        ran: vec![Ran { started_at: Timestamp(1_700_000_000_000), took: Span::millis(5) }],
        details: vec![Detail {
            subtask: 2,
            exit: Some(Exit::Signal(9)),
            fingerprint: Fingerprint(0xfeed),
            message: "no file".to_owned(),
        }],
    }
}

#[test]
fn what_a_command_did_to_subtasks_is_written_as_it_was_first_shipped() {
    let former = transitions_v1();
    compare("v1-transitions", &written("transitions", &former), include_str!("golden/v1-transitions.hex"));
    let mut first = Vec::new();
    encode(&former, &mut first).unwrap();
    let read: Transitions = decode(&first).unwrap();
    assert_eq!(read, Transitions::from_previous(former));
    assert_eq!(read.actor, Actor::default(), "what an earlier Sheaf wrote is read");
    let all = Transitions { actor: "node:n3".into(), ..read };
    compare("v2-transitions", &written("transitions", &all), include_str!("golden/v2-transitions.hex"));
}

#[test]
fn version_2_of_a_module_is_written_as_it_was_first_shipped() {
    compare("v2-module", &written("module", &module_v2()), include_str!("golden/v2-module.hex"));
    let mut first = Vec::new();
    encode(&module_v1(), &mut first).unwrap();
    assert_eq!(decode::<ModuleV2>(&first), Ok(ModuleV2::from_previous(module_v1())));
    assert!(ModuleV2::from_previous(module_v1()).spec.life_cycle.is_empty());
}

#[test]
fn version_3_of_a_module_is_written_as_it_was_first_shipped() {
    compare("v3-module", &written("module", &module()), include_str!("golden/v3-module.hex"));
    let mut former = Vec::new();
    encode(&module_v2(), &mut former).unwrap();
    let read: Module = decode(&former).unwrap();
    assert_eq!(read, Module::from_previous(module_v2()));
    assert!(read.spec.secrets.is_empty() && !read.spec.life_cycle.is_empty());
}

#[test]
fn a_secret_is_written_as_it_was_first_shipped() {
    let ciphertext = ObjectValue::from([0xab; 20].as_slice());
    let sealed = Sealed { key: KeyId([0xcd; 8]), nonce: [0xef; 12], ciphertext };
    let name = SecretName::new("crawler.token").unwrap();
    let (at, actor) = (Timestamp(1_700_000_000_000), "cli:alice@ops1".to_owned());
    let secret = Secret { name, sealed, revision: Revision(7), at, actor };
    compare("v1-secret", &written("secret", &secret), include_str!("golden/v1-secret.hex"));
}

#[test]
fn a_backend_is_written_as_it_was_first_shipped() {
    let mut spec = BackendSpec::new(BackendName::new("vito").unwrap());
    spec.max_running = Some(20);
    spec.rate = Some(Frequency { count: 10, window: Span::seconds(1) });
    let (until, why) = (Timestamp(1_700_000_030_000), "status 503".to_owned());
    let opened = Some(Opened { until, times: 2, why });
    let (revision, at) = (Revision(7), Timestamp(1_700_000_000_000));
    let backend = Backend { spec: std::sync::Arc::new(spec), revision, at, failures: 5, opened };
    compare("v1-backend", &written("backend", &backend), include_str!("golden/v1-backend.hex"));
}

#[test]
fn a_sink_is_written_as_it_was_first_shipped() {
    let webhook = Webhook {
        url: Confided::Secret(SecretName::new("hook.url").unwrap()),
        secret: Some(SecretName::new("hook.key").unwrap()),
        timeout: Span::seconds(5),
        batch: 7,
        ca: Some("pem".to_owned()),
    };
    let mail = Mail {
        server: "mail:25".to_owned(),
        security: MailSecurity::None,
        user: None,
        password: None,
        from: "a@b".to_owned(),
        to: vec!["c@d".to_owned()],
        digest: Span::seconds(60),
        timeout: Span::seconds(30),
        ca: None,
    };
    let (command, args) = ("/bin/notify".to_owned(), vec!["a".to_owned()]);
    let exec = SinkExec { command, args, timeout: Span::seconds(5), batch: 7 };
    let globs = |text: &str| vec![text.to_owned()];
    let filter = SinkFilter { kinds: globs("job.*"), subjects: globs("/a/*"), nodes: globs("n*") };
    let sink = |target| SinkSpec {
        name: SinkName::new("on-call").unwrap(),
        target,
        filter: filter.clone(),
        suspended: true,
        labels: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
        owner: Some("ops".to_owned()),
    };
    let at = Timestamp(1_700_000_000_000);
    let targets = [SinkTarget::Webhook(webhook), SinkTarget::Mail(mail), SinkTarget::Exec(exec)];
    let row = |target| Sink {
        spec: std::sync::Arc::new(sink(target)),
        revision: Revision(9),
        at,
        created: Revision(7),
        cursor: Revision(8),
        delivered: 5,
        last_success: Some(at),
        failing: Some(SinkFailing { since: at, failures: 3, why: "status 500".to_owned() }),
        missed: 1,
        missed_last: Some((Revision(2), Revision(4))),
    };
    let all: String = targets.into_iter().map(|target| written("sink", &row(target))).collect();
    compare("v1-sink", &all, include_str!("golden/v1-sink.hex"));
}

/// Artifacts came later than the rows of version 1, and so has their own file.
#[test]
fn an_artifact_is_written_as_it_was_first_shipped() {
    let artifact = sheaf_model::Artifact {
        module: sheaf_model::ModuleRef::parse("flume@1.11.0").unwrap(),
        digest: sheaf_model::Digest([0xab; 32]),
        size: 200_000_000,
        shape: sheaf_model::Shape::File(sheaf_model::FileName::new("run.sh").unwrap()),
    };
    let at = Timestamp(1_700_000_000_000);
    let pushed = sheaf_engine::Pushed { artifact: std::sync::Arc::new(artifact), revision: Revision(7), at };
    assert_eq!(written("artifact", &pushed), include_str!("golden/v1-artifact.hex"));
}
