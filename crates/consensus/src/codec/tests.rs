//! What version 1 looks like on disk and on the wire, byte for byte. A golden file is never changed: a build that writes
//! other bytes writes version 2, and goes on reading these.

use std::collections::BTreeMap;

use openraft::raft::AppendEntriesRequest;
use sheaf_engine::{
    AccessCommand, AddStatusLine, Admit, Apply, ApplyV1, ApplyV2, BeginRotation, Bind, Command,
    ConfirmResidue, CreateToken, DeleteModule, DeleteObject, Disable, DrainNode, EndQuarantine, ExpireToken,
    FinishRollout, Form, Free, IssueBy, LabelNode, Leave, MoveBucket, OnBucket, PutAuthority, PutObject,
    PutSecret, PutTrial, Quarantine, RecordPhases, RecordPurge, Refound, Register, ReleaseNodes,
    RetireAuthority, Rollback, SetNodeStatus, SettingsCommand, SettleLease, StopRollout,
};
use sheaf_engine::{RecordSink, SinkCommand, SinkOutcome};
use sheaf_model::{
    Actor, Artifact, BucketName, BucketSpec, Call, ChangeableV1, Claim, ClusterId, Decision, Digest, Drain,
    Epoch, Exit, Facts, FileName, Instance, KeyId, LeaveReason, LifeCycleCall, Limits, ModuleName, ModuleRef,
    ModuleSpec, ModuleSpecV1, ModuleSpecV2, ModuleVersion, NodeId, NodeName, NodeStatus, ObjectKey,
    ObjectValue, Part, Phase, PutBucket, RequestId, Restart, Revision, Runtime, Sealed, SecretName, Setting,
    Settings, Shape, Span, Stop, Template, TemplateSet, Term, Timestamp, Trial, Voters,
};
use sheaf_model::{BackendName, BackendSpec};
use sheaf_model::{Prefix, Rights, Role, TokenId, TokenName, TokenUse};
use sheaf_model::{SinkExec, SinkFilter, SinkName, SinkSpec, SinkTarget};

use super::*;
use crate::peer::{self, SnapshotHeadV1};
use crate::raft::log_id;

mod jobs;

fn proposals() -> Vec<Proposal> {
    let by = |command| Proposal {
        actor: Actor("cli:alice@ops1".to_owned()),
        at: Timestamp(1_700_000_000_000),
        request: Some(RequestId("7f0c-1".to_owned())),
        command,
    };
    vec![
        by(Command::Form(Form { cluster: ClusterId("c0ffee".to_owned()), settings: Settings::default() })),
        by(Command::Free(Free {
            bucket: BucketName::new("/logs/web").unwrap(),
            epoch: Epoch(41),
            term: Term(7),
            why: "given up".to_owned(),
        })),
    ]
}

/// Every command of the first build, beyond those in `proposals`.
fn every_command() -> Vec<Proposal> {
    let bucket = BucketName::new("/logs/web").unwrap();
    let on = || OnBucket { bucket: bucket.clone(), base: Some(Revision(7)) };
    let facts = Facts {
        name: NodeName::new("n3").unwrap(),
        hostname: "n3.example.com".to_owned(),
        address: "10.0.0.3:7420".to_owned(),
        labels: vec!["import".to_owned()],
        allow: vec!["flume".to_owned()],
        deny: vec![],
        version: "0.1.0".to_owned(),
        cpu: 2,
        memory_total: sheaf_model::Bytes(1 << 34),
        notes: vec![],
    };
    let name = ModuleName::new("flume").unwrap();
    let version = ModuleVersion::new("1.11.0").unwrap();
    let module = module_v1(name.clone(), version.clone());
    let spec = BucketSpec::new(bucket.clone(), ModuleRef::parse("flume").unwrap());
    let put = PutBucket { spec, suspended: Some(true), base: None, latest: true };
    let instance = Instance {
        bucket: bucket.clone(),
        node: NodeId(3),
        phase: Phase::Running,
        epoch: Some(Epoch(11)),
        revision: Revision(8),
        pid: Some(4711),
        started_at: None,
        restarts: 2,
        exit: Some(Exit::Code(1)),
        message: String::new(),
    };
    let (node, epoch, term) = (NodeId(3), Epoch(11), Term(7));
    let (status, reason) = (NodeStatus::Lost, "not heard".to_owned());
    let (add, remove) = (vec!["a".to_owned()], vec!["b".to_owned()]);
    let commands = vec![
        Command::Register(Register { key: "k3".into(), facts }),
        Command::SetNodeStatus(SetNodeStatus { node, status, reason, term: Some(term) }),
        Command::ApplyV1(ApplyV1 { modules: vec![module], buckets: vec![put] }),
        Command::Suspend(on()),
        Command::Resume(on()),
        Command::Restart(on()),
        Command::DeleteBucket(on()),
        Command::DeleteModule(DeleteModule { name, version }),
        Command::LabelNode(LabelNode { node, add, remove }),
        Command::Bind(Bind {
            bucket: bucket.clone(),
            node,
            basis: Revision(7),
            term,
            decision: Decision::default(),
        }),
        Command::Leave(Leave {
            bucket: bucket.clone(),
            epoch,
            reason: LeaveReason::Move(Some(node)),
            term: None,
        }),
        Command::RecordPhases(RecordPhases { node, instances: vec![instance] }),
        Command::ConfirmResidue(ConfirmResidue { bucket, node, revision: Revision(12) }),
    ];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// The commands that came later, in the order they came.
fn later_commands() -> Vec<Proposal> {
    let (bucket, node) = (BucketName::new("/logs/web").unwrap(), NodeId(3));
    let drain = Drain { deadline: Some(Span::seconds(300)), keep_multi_node: true };
    let commands = vec![
        Command::Drain(DrainNode { node, drain }),
        Command::Undrain(node),
        Command::Forget(node),
        Command::Move(MoveBucket { bucket, to: Some(node), base: Some(Revision(7)) }),
        Command::ChangeSettingsV1(ChangeableV1::default()),
        Command::DropFormer(Term(7)),
    ];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// Each setting by itself, and the end of a wait for leases.
fn settings_commands() -> Vec<Proposal> {
    let changes = vec![
        Setting::Heartbeat(Span::millis(500)),
        Setting::Ttl(Span::seconds(3)),
        Setting::KillMargin(Span::seconds(1)),
        Setting::StandIn(Span::seconds(60)),
        Setting::Voters(Voters::Fixed(5)),
        Setting::OfferWindow(Span::seconds(1)),
        Setting::GateInterval(Span::seconds(30)),
        Setting::RepairAfter(Span::seconds(300)),
        Setting::RepairSpread(Some("zone".to_owned())),
        Setting::MaxSubtasks(1_000),
    ];
    let settle = SettleLease { changed: Revision(9), term: Term(7) };
    let commands = vec![SettingsCommand::Change(changes), SettingsCommand::Settle(settle)];
    let by = |command| Proposal {
        actor: Actor("x".to_owned()),
        at: Timestamp(1),
        request: None,
        command: Command::Settings(command),
    };
    commands.into_iter().map(by).collect()
}

/// Settings that came later.
fn later_settings() -> Vec<Proposal> {
    let changes = vec![Setting::HistoryAge(Span::seconds(90 * 86_400)), Setting::HistoryEvents(50_000_000)];
    let command = Command::Settings(SettingsCommand::Change(changes));
    vec![Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command }]
}

/// What instances ask for.
fn commands_of_instances() -> Vec<Proposal> {
    let bucket = BucketName::new("/logs/web").unwrap();
    let key = ObjectKey::new("offsets/web-3").unwrap();
    let claim = Claim { node: NodeId(3), epoch: Some(Epoch(11)) };
    let base = Some(Revision(7));
    let commands = vec![
        Command::PutObject(PutObject {
            bucket: bucket.clone(),
            key: key.clone(),
            value: b"\0\x01\xff".as_slice().into(),
            base,
            claim,
            token: 0xfeed,
        }),
        Command::DeleteObject(DeleteObject { bucket: bucket.clone(), key, base, claim }),
        Command::AddStatusLine(AddStatusLine {
            bucket: bucket.clone(),
            claim,
            kind: "progress".to_owned(),
            text: "half of it".to_owned(),
        }),
        Command::Disable(Disable { bucket: bucket.clone(), claim, reason: "no such source".to_owned() }),
        Command::Quarantine(Quarantine {
            bucket: bucket.clone(),
            claim,
            until: Timestamp(1_700_000_060_000),
            reason: "the source asks for a pause".to_owned(),
        }),
        Command::EndQuarantine(EndQuarantine { bucket, until: Timestamp(1_700_000_060_000), term: Term(7) }),
    ];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// A module as the first builds knew it.
fn module_v1(name: ModuleName, version: ModuleVersion) -> ModuleSpecV1 {
    ModuleSpecV1 {
        name,
        version,
        runtime: Runtime::Exec,
        supports_multi_node: true,
        can_run_on_this_node: vec![],
        exec: None,
        files: BTreeMap::new(),
        stop: Stop::default(),
        restart: Restart::default(),
        config_schema: None,
        limits: Limits::default(),
        user: None,
    }
}

/// Documents as builds wrote them whose modules could say of the calls of a bucket's life, and of no secrets.
fn former_documents() -> Vec<Proposal> {
    let name = ModuleName::new("flume").unwrap();
    let mut module = ModuleSpecV2::from(module_v1(name, ModuleVersion::new("2").unwrap()));
    let command = vec![Template::parse("/bin/x", TemplateSet::Instance).unwrap()];
    let call = LifeCycleCall { command, timeout: Some(Span::seconds(5)) };
    module.life_cycle = [Call::NewSource, Call::Stop].map(|name| (name, call.clone())).into();
    let spec = BucketSpec::new(BucketName::new("/a").unwrap(), ModuleRef::parse("flume@2").unwrap());
    let put = PutBucket { spec, suspended: None, base: None, latest: false };
    let command = Command::ApplyV2(ApplyV2 { modules: vec![module], buckets: vec![put] });
    vec![Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command }]
}

/// Documents as they are proposed now.
fn documents() -> Vec<Proposal> {
    let name = ModuleName::new("flume").unwrap();
    let mut module = ModuleSpec::new(name, ModuleVersion::new("2").unwrap(), Runtime::Exec);
    module.secrets = vec![Template(vec![Part::Text("token".to_owned())])];
    let spec = BucketSpec::new(BucketName::new("/a").unwrap(), ModuleRef::parse("flume@2").unwrap());
    let put = PutBucket { spec, suspended: None, base: None, latest: false };
    let command = Command::Apply(Apply { modules: vec![module], buckets: vec![put] });
    vec![Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command }]
}

/// Secrets.
fn secret_commands() -> Vec<Proposal> {
    let name = SecretName::new("crawler.token").unwrap();
    let ciphertext = ObjectValue::from([0xab; 20].as_slice());
    let sealed = Sealed { key: KeyId([0xcd; 8]), nonce: [0xef; 12], ciphertext };
    let commands =
        [Command::PutSecret(PutSecret { name: name.clone(), sealed }), Command::DeleteSecret(name)];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// Who may do what.
fn access_commands() -> Vec<Proposal> {
    let (id, digest) = (TokenId([0xab; 6]), Digest([0xcd; 32]));
    let prefix = Some(Prefix::new("/team-a/").unwrap());
    let expires_at = Timestamp(1_700_000_000_000);
    let create = |of, name| CreateToken {
        id,
        name: TokenName::new(name).unwrap(),
        of,
        digest,
        expires_at: Some(expires_at),
    };
    let facts = match every_command().remove(0).command {
        Command::Register(register) => register.facts,
        other => panic!("no registration: {other:?}"),
    };
    let commands = [
        AccessCommand::CreateToken(create(TokenUse::User(Rights { role: Role::Operator, prefix }), "alice")),
        AccessCommand::CreateToken(create(TokenUse::Join { voter: true }, "rack-7")),
        AccessCommand::RevokeToken(id),
        AccessCommand::ExpireToken(ExpireToken { id, expires_at, term: Term(7) }),
        AccessCommand::PutAuthority(PutAuthority {
            fingerprint: digest,
            certificate: ObjectValue::from([0x30, 0x82].as_slice()),
        }),
        AccessCommand::DropAuthority(digest),
        AccessCommand::Admit(Admit { register: Register { key: "k3".into(), facts }, may_vote: false }),
    ];
    let by = |command| Proposal {
        actor: Actor("user:root".to_owned()),
        at: Timestamp(1),
        request: None,
        command: Command::Access(command),
    };
    commands.into_iter().map(by).collect()
}

/// Certificates of people, and how one authority takes the place of another.
fn rotation_commands() -> Vec<Proposal> {
    let (id, digest) = (TokenId([0xab; 6]), Digest([0xcd; 32]));
    let at = Timestamp(1_700_000_000_000);
    let bytes = |bytes: &[u8]| ObjectValue::from(bytes);
    let of = TokenUse::Certificate { rights: Rights::of(Role::Viewer), authority: Digest([0xef; 32]) };
    let name = TokenName::new("vera").unwrap();
    let commands = [
        AccessCommand::CreateToken(CreateToken { id, name, of, digest, expires_at: Some(at) }),
        AccessCommand::BeginRotation(BeginRotation {
            fingerprint: digest,
            certificate: bytes(&[0x30, 0x82]),
            bridge: bytes(&[0x30, 0x31]),
            lifetime: Span::seconds(60),
        }),
        AccessCommand::IssueBy(IssueBy { fingerprint: digest, term: Term(7) }),
        AccessCommand::RetireAuthority(RetireAuthority { fingerprint: digest, until: at, term: Term(7) }),
    ];
    let by = |command| Proposal {
        actor: Actor("user:root".to_owned()),
        at: Timestamp(1),
        request: None,
        command: Command::Access(command),
    };
    commands.into_iter().map(by).collect()
}

/// Backends.
fn backend_commands() -> Vec<Proposal> {
    let name = BackendName::new("vito").unwrap();
    let mut spec = BackendSpec::new(name.clone());
    spec.max_running = Some(20);
    let commands = [Command::PutBackend(std::sync::Arc::new(spec)), Command::DeleteBackend(name)];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// Sinks, and how deliveries went.
fn sink_commands() -> Vec<Proposal> {
    let name = SinkName::new("on-call").unwrap();
    let exec = SinkExec {
        command: "/bin/notify".to_owned(),
        args: vec!["a".to_owned()],
        timeout: Span::seconds(5),
        batch: 7,
    };
    let spec = SinkSpec {
        name: name.clone(),
        target: SinkTarget::Exec(exec),
        filter: SinkFilter { kinds: vec!["job.*".to_owned()], ..SinkFilter::default() },
        suspended: false,
        labels: BTreeMap::new(),
        owner: None,
    };
    let record = |outcome| RecordSink {
        name: name.clone(),
        created: Revision(7),
        term: Term(3),
        cursor: Revision(300),
        delivered: 5,
        missed: Some((Revision(2), Revision(4))),
        outcome,
    };
    let failed = SinkOutcome::Failed { failures: 3, why: "status 500".to_owned() };
    let commands = [
        SinkCommand::Put(std::sync::Arc::new(spec)),
        SinkCommand::Record(record(SinkOutcome::Nothing)),
        SinkCommand::Record(record(SinkOutcome::Delivered)),
        SinkCommand::Record(record(failed)),
        SinkCommand::Delete(name.clone()),
    ];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(Command::Sink).map(by).collect()
}

/// A purge, and how it went; and a trial.
fn purges() -> Vec<Proposal> {
    let bucket = BucketName::new("/logs/web").unwrap();
    let on = OnBucket { bucket: bucket.clone(), base: Some(Revision(7)) };
    let failure = "in use".to_owned();
    let record = RecordPurge { bucket, node: NodeId(3), revision: Revision(12), failure };
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    let module = ModuleRef::parse("flume@1.11.0").unwrap();
    let spec = BucketSpec::new(BucketName::new("/logs/web.test-1").unwrap(), module);
    let put = PutBucket { spec, suspended: None, base: None, latest: false };
    let trial = Trial { until: Timestamp(9), max_objects: 10, max_time: Span::seconds(5) };
    let trial = Command::PutTrial(PutTrial { put, trial });
    vec![by(Command::Purge(on)), by(Command::RecordPurge(record)), by(trial)]
}

/// The command that no log holds, and those that came after it.
fn latest_commands() -> Vec<Proposal> {
    let cluster = ClusterId("c0ffee+1-1a2b".to_owned());
    let command = Command::Refound(Refound { cluster, may_be_behind: true });
    vec![Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command }]
}

/// The commands of rollouts.
fn rollout_commands() -> Vec<Proposal> {
    let bucket = || BucketName::new("/logs/web").unwrap();
    let (release, node, term) = (Revision(9), NodeId(3), Term(7));
    let spec = BucketSpec::new(bucket(), ModuleRef::parse("flume@1.11.0").unwrap());
    let put = PutBucket { spec, suspended: None, base: Some(Revision(9)), latest: false };
    let commands = vec![
        Command::ReleaseNodes(ReleaseNodes { bucket: bucket(), release, nodes: vec![node], term }),
        Command::StopRollout(StopRollout { bucket: bucket(), release, node, why: "ended".to_owned(), term }),
        Command::FinishRollout(FinishRollout { bucket: bucket(), release, term }),
        Command::Rollback(Rollback { put, to: Revision(7) }),
    ];
    let by = |command| Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command };
    commands.into_iter().map(by).collect()
}

/// Artifacts.
fn artifact_commands() -> Vec<Proposal> {
    let artifact = Artifact {
        module: ModuleRef::parse("flume@1.11.0").unwrap(),
        digest: Digest([0xab; 32]),
        size: 200_000_000,
        shape: Shape::File(FileName::new("run.sh").unwrap()),
    };
    let command = Command::PutArtifact(artifact);
    vec![Proposal { actor: Actor("x".to_owned()), at: Timestamp(1), request: None, command }]
}

fn batch_of(proposals: &[Proposal]) -> Bytes {
    let encoded: Vec<_> = proposals.iter().map(|proposal| encode_proposal(proposal).unwrap()).collect();
    encode_batch(encoded.iter().map(Vec::as_slice))
}

fn membership() -> Membership {
    let members = (1..=4).map(|id| (id, BasicNode::new(format!("10.0.0.{id}:7420"))));
    let members: std::collections::BTreeMap<_, _> = members.collect();
    Membership::new(vec![[1, 2, 3].into(), [2, 3, 4].into()], members).unwrap()
}

fn position() -> Position {
    Position {
        applied: Some(log_id(7, 300)),
        membership: StoredMembership::new(Some(log_id(6, 128)), membership()),
    }
}

fn append() -> AppendEntriesRequest<crate::raft::Types> {
    AppendEntriesRequest {
        vote: Vote::new_committed(7, 2),
        prev_log_id: Some(log_id(6, 299)),
        entries: vec![
            Entry::new(log_id(7, 300), EntryPayload::Blank),
            Entry::new(log_id(7, 301), EntryPayload::Normal(Payload(batch_of(&proposals())))),
        ],
        leader_commit: Some(log_id(6, 298)),
    }
}

fn snapshot_head() -> Bytes {
    let position = position();
    peer::encode_snapshot_head(&SnapshotHeadV1 {
        vote: VoteV1::from(&Vote::new_committed(7, 2)),
        last: position.applied.as_ref().map(LogIdV1::from),
        membership_log_id: position.membership.log_id().as_ref().map(LogIdV1::from),
        membership: MembershipV1::from(position.membership.membership()),
        bytes: 1 << 20,
    })
}

fn hex(bytes: &[u8]) -> String {
    let lines: Vec<String> =
        bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    lines.join("\n")
}

/// Every encoding with its golden file.
fn golden() -> Vec<(&'static str, Bytes, &'static str)> {
    vec![
        ("entry-blank", encode_entry(&EntryPayload::Blank), include_str!("golden/v1-entry-blank.hex")),
        ("entry-batch", batch_of(&proposals()), include_str!("golden/v1-entry-batch.hex")),
        ("entry-commands", batch_of(&every_command()), include_str!("golden/v1-entry-commands.hex")),
        ("entry-commands-2", batch_of(&later_commands()), include_str!("golden/v1-entry-commands-2.hex")),
        ("entry-commands-3", batch_of(&latest_commands()), include_str!("golden/v1-entry-commands-3.hex")),
        ("entry-commands-4", batch_of(&rollout_commands()), include_str!("golden/v1-entry-commands-4.hex")),
        ("entry-documents", batch_of(&former_documents()), include_str!("golden/v1-entry-documents.hex")),
        ("entry-documents-2", batch_of(&documents()), include_str!("golden/v1-entry-documents-2.hex")),
        ("entry-secrets", batch_of(&secret_commands()), include_str!("golden/v1-entry-secrets.hex")),
        ("entry-backends", batch_of(&backend_commands()), include_str!("golden/v1-entry-backends.hex")),
        ("entry-sinks", batch_of(&sink_commands()), include_str!("golden/v1-entry-sinks.hex")),
        ("entry-access", batch_of(&access_commands()), include_str!("golden/v1-entry-access.hex")),
        ("entry-access-2", batch_of(&rotation_commands()), include_str!("golden/v1-entry-access-2.hex")),
        ("entry-settings", batch_of(&settings_commands()), include_str!("golden/v1-entry-settings.hex")),
        ("entry-settings-2", batch_of(&later_settings()), include_str!("golden/v1-entry-settings-2.hex")),
        (
            "entry-instances",
            batch_of(&commands_of_instances()),
            include_str!("golden/v1-entry-instances.hex"),
        ),
        ("entry-purges", batch_of(&purges()), include_str!("golden/v1-entry-purges.hex")),
        ("entry-jobs", batch_of(&jobs::job_commands()), include_str!("golden/v1-entry-jobs.hex")),
        ("entry-artifacts", batch_of(&artifact_commands()), include_str!("golden/v1-entry-artifacts.hex")),
        (
            "entry-membership",
            encode_entry(&EntryPayload::Membership(membership())),
            include_str!("golden/v1-entry-membership.hex"),
        ),
        ("vote", encode_vote(&Vote::new_committed(7, 2)).into(), include_str!("golden/v1-vote.hex")),
        ("position", encode_position(&position()).into(), include_str!("golden/v1-position.hex")),
        ("append", peer::encode_append(&append()), include_str!("golden/v1-append.hex")),
        ("snapshot-head", snapshot_head(), include_str!("golden/v1-snapshot-head.hex")),
    ]
}

#[test]
fn version_1_is_written_as_it_was_first_shipped() {
    for (name, encoded, golden) in golden() {
        if std::env::var_os("SHEAF_WRITE_GOLDEN").is_some() && golden.trim().is_empty() {
            let file = format!("{}/src/codec/golden/v1-{name}.hex", env!("CARGO_MANIFEST_DIR"));
            std::fs::write(file, hex(&encoded) + "\n").unwrap();
            continue;
        }
        assert_eq!(hex(&encoded), golden.trim(), "{name}");
    }
}

#[test]
fn what_was_written_is_read() {
    assert_eq!(decode_batch(&batch_of(&proposals())).unwrap(), proposals());
    assert_eq!(decode_batch(&batch_of(&every_command())).unwrap(), every_command());
    assert_eq!(decode_batch(&batch_of(&later_commands())).unwrap(), later_commands());
    assert_eq!(decode_batch(&batch_of(&latest_commands())).unwrap(), latest_commands());
    assert_eq!(decode_batch(&batch_of(&commands_of_instances())).unwrap(), commands_of_instances());
    assert_eq!(decode_batch(&batch_of(&former_documents())).unwrap(), former_documents());
    assert_eq!(decode_batch(&batch_of(&documents())).unwrap(), documents());
    assert_eq!(decode_batch(&batch_of(&secret_commands())).unwrap(), secret_commands());
    assert_eq!(decode_batch(&batch_of(&backend_commands())).unwrap(), backend_commands());
    assert_eq!(decode_batch(&batch_of(&access_commands())).unwrap(), access_commands());
    assert_eq!(decode_batch(&batch_of(&rotation_commands())).unwrap(), rotation_commands());
    assert_eq!(decode_batch(&batch_of(&settings_commands())).unwrap(), settings_commands());
    assert_eq!(decode_batch(&batch_of(&later_settings())).unwrap(), later_settings());
    assert_eq!(decode_batch(&batch_of(&sink_commands())).unwrap(), sink_commands());
    assert_eq!(decode_batch(&batch_of(&purges())).unwrap(), purges());
    assert_eq!(decode_batch(&batch_of(&artifact_commands())).unwrap(), artifact_commands());
    for payload in [
        EntryPayload::Blank,
        EntryPayload::Normal(Payload(batch_of(&proposals()))),
        EntryPayload::Membership(membership()),
    ] {
        let entry = decode_entry(log_id(7, 300), &encode_entry(&payload)).unwrap();
        assert_eq!(entry, Entry::new(log_id(7, 300), payload));
    }
    assert_eq!(decode_position(&encode_position(&position())).unwrap(), position());
    let appended = peer::decode_append(&peer::encode_append(&append())).unwrap();
    assert_eq!(format!("{appended:?}"), format!("{:?}", append()));
    assert_eq!(decode_vote(&encode_vote(&Vote::new(7, 2))).unwrap().restore(), Vote::new(7, 2));
    assert_eq!(peer::decode_snapshot_head(&snapshot_head()).unwrap().bytes, 1 << 20);
}

#[test]
fn a_batch_is_what_postcard_makes_of_its_proposals() {
    let all = vec![proposals().remove(1); 300];
    let encoded: Vec<_> = all.iter().map(|proposal| encode_proposal(proposal).unwrap()).collect();
    let joined = encode_batch(encoded.iter().map(Vec::as_slice));
    assert_eq!(joined[2..], postcard::to_stdvec(&all).unwrap());
}

#[test]
fn a_newer_version_and_damage_are_named_and_never_panic() {
    let newer = decode_batch(&[2, 1, 0]).unwrap_err();
    assert_eq!(newer.to_string(), "decode log entry: version 2 is not known to this build (it reads 1)");
    for (_, encoded, _) in golden() {
        for end in 0..encoded.len() {
            let cut = encoded.slice(..end);
            drop((decode_batch(&cut), decode_entry(log_id(1, 1), &cut), decode_position(&cut)));
            drop((decode_vote(&cut), peer::decode_append(&cut), peer::decode_snapshot_head(&cut)));
        }
    }
}
