//! Small random worlds: few names, so that rows meet, and any content.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use sheaf_engine::{
    Asked, Bucket, Change, Cluster, Command, Emergency, Entry, Module, Object, Purge, Pushed, Release, Reply,
    Request, Rollout, Secret, State,
};
use sheaf_model::{
    Artifact, AuthorityRecord, AuthorityStage, Binding, BucketName, BucketSpec, Bytes, ClusterEpoch,
    ClusterId, Decision, Digest, Drain, Epoch, Event, Exit, Facts, FileName, Gate, HistorySettings, Instance,
    JobSettings, Json, KeyId, LeaveReason, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, Node, NodeId,
    NodeKey, NodeName, NodeStatus, ObjectKey, Phase, Placement, Prefix, Repair, RequestId, Residue, Revision,
    Rights, Role, Runtime, Sealed, SecretName, Settings, Shape, Span, Timestamp, TokenId, TokenName,
    TokenRecord, TokenUse,
};
use sheaf_store::{EventFilter, Store};

pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("state.db");
    (folder, path)
}

/// Bucket `revision % 50` as of `revision`, and its line of history.
pub(crate) fn commit(store: &mut Store, revision: u64) {
    let bucket = bucket(bucket_name((revision % 50) as u8), revision);
    let changes = [Change::Bucket(Arc::new(bucket)), Change::Event(event(revision, 0))];
    store.write(&changes, Revision(revision), &revision.to_be_bytes()).expect("room to write");
}

pub(crate) fn revision_of(applied: Option<Vec<u8>>) -> u64 {
    u64::from_be_bytes(applied.expect("a position").try_into().expect("eight bytes"))
}

/// Everything that `commit` wrote up to `revision` is there, and nothing else.
pub(crate) fn holds(path: &Path, revision: u64) {
    let store = Store::open(path).expect("a database");
    let (state, applied) = store.load().expect("a state");
    assert_eq!(state.revision, Revision(revision));
    assert_eq!(revision_of(applied), revision);
    assert_eq!(state.buckets.len() as u64, revision.min(50));
    assert_eq!(state.buckets.values().map(|bucket| bucket.revision.0).max(), Some(revision));
    let events = store.reader().events(None, &EventFilter::default(), usize::MAX).expect("events");
    assert_eq!(events.len() as u64, revision);
}

pub(crate) fn bucket_name(n: u8) -> BucketName {
    BucketName::new(&format!("/logs/b{n}")).expect("a name")
}

pub(crate) fn module_ref(n: u8) -> ModuleRef {
    ModuleRef::parse(&format!("flume@1.{n}")).expect("a reference")
}

pub(crate) fn spec(name: BucketName, module: ModuleRef) -> BucketSpec {
    BucketSpec::new(name, module)
}

pub(crate) fn bucket(name: BucketName, revision: u64) -> Bucket {
    let release = Release {
        revision: Revision(revision),
        spec: Arc::new(spec(name, module_ref(0))),
        at: Timestamp(revision * 1000),
        actor: "cli:alice@ops1".to_owned(),
    };
    Bucket {
        current: release,
        next: None,
        suspended: false,
        revision: Revision(revision),
        created: Revision(revision),
        restarted: Revision(0),
        gave_up: std::collections::BTreeMap::new(),
        again: std::collections::BTreeMap::new(),
        emergency: None,
        purge: None,
        trial: None,
    }
}

pub(crate) fn event(revision: u64, n: u32) -> Event {
    Event {
        revision: Revision(revision),
        n,
        step: None,
        at: Timestamp(revision * 1000),
        kind: if n == 0 { "bucket.updated" } else { "instance.running" }.to_owned(),
        subject: bucket_name((revision % 3) as u8).to_string(),
        actor: "cli:alice@ops1".to_owned(),
        node: if n == 0 { String::new() } else { format!("import-{:02}", revision % 2) },
        before: String::new(),
        after: "running".to_owned(),
        message: "as asked".to_owned(),
    }
}

/// Text that tells encodings apart: empty, quotes, an end of text, more than ASCII.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        Just("a'b\"\0c".to_owned()),
        Just("Größe ≥ 1 🌾".to_owned()),
        "[a-z]{1,12}"
    ]
}

fn name() -> impl Strategy<Value = BucketName> {
    (0..4_u8).prop_map(bucket_name)
}

/// Up to the largest that SQLite's signed numbers must not lose.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..10_u64, any::<u64>()]
}

fn node_id() -> impl Strategy<Value = NodeId> {
    prop_oneof![1..4_u64, Just(u64::MAX)].prop_map(NodeId)
}

fn release(name: BucketName) -> impl Strategy<Value = Release> {
    let labels = btree_map(text(), text(), 0..3);
    (1..50_u64, 0..3_u8, text(), option::of(number()), labels, option::of(text()), any::<bool>()).prop_map(
        move |(revision, module, text, poll, labels, owner, multi_node)| {
            let mut spec = spec(name.clone(), module_ref(module));
            spec.config = Json::new(&serde_json::json!({ "b": text, "a": [1, null] }));
            spec.poll_frequency = poll.map(Span);
            spec.placement = Placement::Spread(text.clone());
            spec.labels = labels;
            spec.owner = owner;
            spec.multi_node = multi_node;
            Release { revision: Revision(revision), spec: Arc::new(spec), at: Timestamp(7), actor: text }
        },
    )
}

fn any_bucket() -> impl Strategy<Value = Bucket> {
    name().prop_flat_map(|name| {
        let nodes = || proptest::collection::btree_set(node_id(), 0..3);
        let rollout = (release(name.clone()), nodes(), nodes(), option::of(text()))
            .prop_map(|(release, released, ran, stopped)| Rollout { release, released, ran, stopped });
        let gave_up = btree_map(node_id(), text(), 0..3);
        let again = btree_map(node_id(), number().prop_map(Revision), 0..3);
        (release(name), option::of(rollout), any::<bool>(), number(), gave_up, again).prop_map(
            |(current, next, suspended, revision, gave_up, again)| Bucket {
                current,
                next,
                suspended,
                revision: Revision(revision),
                created: Revision(1),
                restarted: Revision(revision / 2),
                gave_up,
                again,
                emergency: suspended
                    .then(|| Emergency::Quarantined { until: Timestamp(revision), reason: "why".to_owned() }),
                purge: (revision % 2 == 0).then(|| Purge {
                    revision: Revision(revision / 2),
                    waiting: [NodeId(revision)].into(),
                    failed: [(NodeId(1), "in use".to_owned())].into(),
                }),
                trial: None,
            },
        )
    })
}

fn node() -> impl Strategy<Value = Node> {
    (node_id(), text(), vec(text(), 0..3), number(), any::<u32>()).prop_map(
        |(id, text, list, number, cpu)| Node {
            id,
            key: NodeKey(text.clone()),
            facts: Facts {
                name: NodeName::new("import-01").expect("a name"),
                hostname: text.clone(),
                address: text.clone(),
                labels: list.clone(),
                allow: list.clone(),
                deny: Vec::new(),
                version: text.clone(),
                cpu,
                memory_total: Bytes(number),
                notes: list.clone(),
            },
            given_labels: list,
            status: NodeStatus::Ready,
            since: Timestamp(number),
            reason: text,
            registered: Revision(number),
            revision: Revision(number),
            drain: (cpu % 2 == 0).then(|| Drain {
                deadline: (cpu % 3 == 0).then_some(Span(number)),
                keep_multi_node: cpu % 5 == 0,
            }),
            may_vote: cpu % 7 != 0,
        },
    )
}

fn module() -> impl Strategy<Value = Module> {
    (0..3_u8, text(), number()).prop_map(|(n, text, number)| {
        let module = module_ref(n);
        let version = module.version.expect("it has one");
        let spec = ModuleSpec::new(module.name, version, Runtime::Builtin(text));
        Module { spec: Arc::new(spec), revision: Revision(number), at: Timestamp(number) }
    })
}

fn binding() -> impl Strategy<Value = Binding> {
    (name(), node_id(), number(), text(), option::of(node_id())).prop_map(
        |(bucket, node, number, text, to)| Binding {
            bucket,
            node,
            epoch: Epoch(number),
            since: Timestamp(number),
            revision: Revision(number),
            basis: Revision(number),
            leaving: to.map(|to| LeaveReason::Move(Some(to))),
            decision: Decision {
                why: text.clone(),
                runners_up: vec![(node, text.clone())],
                refusals: vec![(Gate::LocalConfig, text, 3)],
                silent: 2,
            },
        },
    )
}

fn instance() -> impl Strategy<Value = Instance> {
    (name(), node_id(), option::of(number()), any::<u32>(), text()).prop_map(
        |(bucket, node, some, n, message)| Instance {
            bucket,
            node,
            phase: Phase::Running,
            epoch: some.map(Epoch),
            revision: Revision(u64::from(n)),
            pid: some.map(|_| n),
            started_at: some.map(Timestamp),
            restarts: n,
            exit: some.map(|_| Exit::Signal(-1)),
            message,
        },
    )
}

fn cluster() -> impl Strategy<Value = Cluster> {
    (option::of(text()), number(), any::<bool>()).prop_map(|(id, number, former)| Cluster {
        id: id.map(ClusterId),
        epoch: ClusterEpoch(number),
        settings: Settings::default(),
        former: former.then(Settings::default),
        nodes_ever: number,
        formed_at: Timestamp(number),
        repair: Repair { spread: former.then(|| "zone".to_owned()), ..Repair::default() },
        lease_changed: Revision(number),
        jobs: JobSettings { max_subtasks: u32::from(former) + 1 },
        history: HistorySettings { age: Span(number), events: number },
    })
}

fn version() -> impl Strategy<Value = (ModuleName, ModuleVersion)> {
    (0..3_u8).prop_map(|n| {
        let module = module_ref(n);
        (module.name, module.version.expect("it has one"))
    })
}

pub(crate) fn key() -> impl Strategy<Value = ObjectKey> {
    (0..4_u8).prop_map(|n| ObjectKey::new(&format!("k/{n}'\"")).expect("a key"))
}

fn object() -> impl Strategy<Value = Object> {
    (name(), key(), number(), any::<u32>()).prop_map(|(bucket, key, number, size)| Object {
        bucket,
        key,
        entry: Entry { version: Revision(number), size, token: number, at: Timestamp(number) },
    })
}

/// Any change to the objects of buckets, with their values.
pub(crate) fn object_change() -> impl Strategy<Value = Vec<Change>> {
    let put = (object(), vec(any::<u8>(), 0..9)).prop_map(|(mut object, value)| {
        object.entry.size = value.len() as u32;
        let (bucket, key) = (object.bucket.clone(), object.key.clone());
        vec![Change::ObjectValue(bucket, key, value.as_slice().into()), Change::Object(object)]
    });
    prop_oneof![
        4 => put,
        1 => (name(), key()).prop_map(|(name, key)| vec![Change::ObjectGone(name, key)]),
        1 => name().prop_map(|name| vec![Change::ObjectsGone(name)]),
    ]
}

/// Any change of the state itself.
pub(crate) fn row() -> impl Strategy<Value = Change> {
    let asked = |n| Asked::of(&Command::Undrain(NodeId(n)), &State::default());
    let request = (0..6_u64, number(), any::<bool>()).prop_map(move |(revision, at, known)| Request {
        // One id belongs to one revision, as where commands are applied.
        id: RequestId(format!("r{revision}")),
        revision: Revision(revision),
        at: Timestamp(at),
        reply: Reply::Done(Revision(revision)),
        asked: if known { asked(revision) } else { None },
    });
    let residue = (name(), btree_map(node_id(), number().prop_map(Revision), 0..3));
    prop_oneof![
        cluster().prop_map(Change::Cluster),
        node().prop_map(Change::Node),
        module().prop_map(Change::Module),
        version().prop_map(|(name, version)| Change::ModuleGone(name, version)),
        any_bucket().prop_map(|bucket| Change::Bucket(Arc::new(bucket))),
        name().prop_map(Change::BucketGone),
        binding().prop_map(|binding| Change::Binding(Arc::new(binding))),
        name().prop_map(Change::BindingGone),
        residue.prop_map(|(bucket, nodes)| Change::Residue(Residue { bucket, nodes })),
        name().prop_map(Change::ResidueGone),
        instance().prop_map(|instance| Change::Instance(Arc::new(instance))),
        (name(), node_id()).prop_map(|(name, node)| Change::InstanceGone(name, node)),
        request.prop_map(Change::Request),
        (0..6_u64).prop_map(|revision| Change::RequestGone(Revision(revision))),
        object().prop_map(Change::Object),
        (name(), key()).prop_map(|(name, key)| Change::ObjectGone(name, key)),
        name().prop_map(Change::ObjectsGone),
        pushed().prop_map(Change::Artifact),
        (0..3_u8).prop_map(|n| Change::ArtifactGone(module_ref(n))),
        secret().prop_map(|secret| Change::Secret(Arc::new(secret))),
        (0..3_u8).prop_map(|n| Change::SecretGone(secret_name(n))),
        token().prop_map(|token| Change::Token(Arc::new(token))),
        (0..3_u8).prop_map(|n| Change::TokenGone(TokenId([n; 6]))),
        authority().prop_map(|authority| Change::Authority(Arc::new(authority))),
        (0..3_u8).prop_map(|n| Change::AuthorityGone(Digest([n; 32]))),
    ]
}

fn secret_name(n: u8) -> SecretName {
    SecretName::new(&format!("token.{n}")).expect("a name")
}

fn token() -> impl Strategy<Value = TokenRecord> {
    (0..3_u8, any::<[u8; 32]>(), number(), text(), 0..4_u8).prop_map(|(n, digest, number, text, of)| {
        let prefix = Prefix::new("/team-a/").ok().filter(|_| of == 0);
        TokenRecord {
            id: TokenId([n; 6]),
            name: TokenName::new(&format!("t{n}")).expect("a name"),
            of: match of {
                2 => TokenUse::Join { voter: number % 2 == 0 },
                3 => TokenUse::Certificate { rights: Rights::of(Role::Viewer), authority: Digest([n; 32]) },
                _ => TokenUse::User(Rights { role: Role::Operator, prefix }),
            },
            digest: Digest(digest),
            created_at: Timestamp(number),
            created_by: text,
            expires_at: (number % 3 == 0).then_some(Timestamp(number)),
            revision: Revision(number),
        }
    })
}

fn authority() -> impl Strategy<Value = AuthorityRecord> {
    (0..3_u8, vec(any::<u8>(), 0..40), number()).prop_map(|(n, bytes, number)| AuthorityRecord {
        fingerprint: Digest([n; 32]),
        certificate: bytes.as_slice().into(),
        revision: Revision(number),
        added_at: Timestamp(number),
        stage: match number % 3 {
            0 => AuthorityStage::Issues,
            1 => AuthorityStage::Next { lifetime: Span::millis(number) },
            _ => AuthorityStage::Former { until: Timestamp(number) },
        },
        bridge: (number % 2 == 0).then(|| [n].as_slice().into()),
    })
}

fn secret() -> impl Strategy<Value = Secret> {
    (0..3_u8, any::<[u8; 12]>(), vec(any::<u8>(), 0..40), number(), text()).prop_map(
        |(n, nonce, bytes, number, actor)| Secret {
            name: secret_name(n),
            sealed: Sealed { key: KeyId([n; 8]), nonce, ciphertext: bytes.as_slice().into() },
            revision: Revision(number),
            at: Timestamp(number),
            actor,
        },
    )
}

fn pushed() -> impl Strategy<Value = Pushed> {
    (0..3_u8, any::<[u8; 32]>(), number(), any::<bool>()).prop_map(|(n, digest, number, is_file)| {
        let file = || Shape::File(FileName::new("run.sh").expect("a name"));
        let artifact = Artifact {
            module: module_ref(n),
            digest: Digest(digest),
            size: number,
            shape: if is_file { file() } else { Shape::Directory },
        };
        Pushed { artifact: Arc::new(artifact), revision: Revision(number), at: Timestamp(number) }
    })
}

/// Any release of a bucket.
pub(crate) fn any_release() -> impl Strategy<Value = (BucketName, Release)> {
    name().prop_flat_map(|name| (Just(name.clone()), release(name)))
}

/// Any event's content; its place is given by who makes a history of them.
pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    (0..20_000_000_u64, 0..3_u8, text(), 0..2_u8).prop_map(|(at, subject, text, kind)| Event {
        revision: Revision(0),
        n: 0,
        step: None,
        at: Timestamp(at),
        kind: ["bucket.updated", "instance.running"][usize::from(kind)].to_owned(),
        subject: bucket_name(subject).to_string(),
        actor: text.clone(),
        node: ["", "import-01"][usize::from(kind)].to_owned(),
        before: text.clone(),
        after: text.clone(),
        message: text,
    })
}
