use std::net::IpAddr;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use sheaf_engine::{Register, SetNodeStatus};
use sheaf_model::watch::WatchItem;
use sheaf_model::{
    Actor, BucketName, BucketSpec, Claim, ModuleName, ModuleRef, ModuleSpec, ModuleVersion, NodeKey,
    NodeStatus, ObjectKey, Prefix, PutBucket, Rights, Role, Runtime, Span, TokenName,
};
use sheaf_wire::bucket::{ApplyBucket, BucketApi, MoveBucket, OnBucket, RollbackBucket, TestBucket};
use sheaf_wire::cluster::{Apply, ClusterApi};
use sheaf_wire::instance::{GetSecret, InstanceApi, PutObject};
use sheaf_wire::peer::{AgentApi, WatchNode};

use super::*;
use crate::propose::tests::{ByHand, One, facts};

/// A cluster of one.
struct World {
    control: Control,
    clock: Arc<ByHand>,
    _one: One,
}

impl World {
    async fn start() -> Self {
        let (one, clock) = (One::formed().await, Arc::new(ByHand::default()));
        Self { control: one.control(clock.clone()), clock, _one: one }
    }

    async fn make(&self, name: &str, of: TokenUse, ttl: Option<Span>) -> TokenText {
        let name = TokenName::new(name).expect("a name");
        let ask = CreateToken { name, of, ttl };
        self.control.make_token(&Caller::local("test"), ask).await.expect("a token").token
    }

    async fn shown(&self, token: &TokenText, need: Need) -> Result<Admitted, ApiError> {
        let remote = Some(IpAddr::from([10, 0, 0, 1]));
        let token = Some(token.clone().into());
        let presented = Presented { token, remote, ..Presented::default() };
        Guard::admit(&self.control, presented, need).await
    }

    async fn certified(&self, by: u64, node: Option<u64>, need: Need) -> Result<Admitted, ApiError> {
        let certificate = Some(Certificate::Node(NodeId(by)));
        let presented = Presented { certificate, on_behalf: node.map(NodeId), ..Presented::default() };
        Guard::admit(&self.control, presented, need).await
    }
}

fn user(role: Role, prefix: Option<&str>) -> TokenUse {
    let prefix = prefix.map(|prefix| Prefix::new(prefix).expect("a prefix"));
    TokenUse::User(Rights::new(role, prefix).expect("a rights"))
}

fn caller(admitted: Admitted) -> Caller {
    Caller { admitted, ..Caller::local("test") }
}

fn is_unauthenticated(answer: &Result<Admitted, ApiError>, why: &str) -> bool {
    matches!(answer, Err(ApiError::Unauthenticated(text)) if text.contains(why))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_worth_something_until_it_expires_or_is_revoked() {
    let world = World::start().await;
    let alice = world.make("alice", user(Role::Viewer, None), None).await;
    let ci = world.make("ci", user(Role::Admin, None), Some(Span::seconds(60))).await;
    let admitted = world.shown(&alice, Need::Viewer).await.expect("let in");
    assert_eq!(admitted.to_string(), "alice (viewer)");
    assert!(matches!(world.shown(&alice, Need::Operator).await, Err(ApiError::Forbidden(_))));
    assert!(world.shown(&ci, Need::Admin).await.is_ok());

    let wrong = TokenText::new(alice.id(), *ci.secret(), None);
    assert!(is_unauthenticated(&world.shown(&wrong, Need::Viewer).await, "is not known here"));
    let foreign = sheaf_seal::new_token(None).expect("random");
    assert!(is_unauthenticated(&world.shown(&foreign, Need::Viewer).await, "is not known here"));
    world.clock.pass(Span::seconds(60));
    assert!(is_unauthenticated(&world.shown(&ci, Need::Viewer).await, "token ci has expired at 2023-"));

    let revoke = |token: &str| RevokeToken { token: token.to_owned(), request: Some("r1".into()) };
    world.control.forget_token(&Caller::local("test"), revoke("alice")).await.expect("revoked");
    assert!(is_unauthenticated(&world.shown(&alice, Need::Viewer).await, "is not known here"));
    world.control.forget_token(&Caller::local("test"), revoke("alice")).await.expect("as the first time");
    let other = world.control.forget_token(&Caller::local("test"), revoke("ci")).await.expect_err("another");
    assert!(matches!(&other, ApiError::Conflict(why) if why.contains("revoke token alice")), "{other:?}");
    let again = RevokeToken { request: None, ..revoke("alice") };
    let error = world.control.forget_token(&Caller::local("test"), again).await.expect_err("gone");
    assert!(matches!(error, ApiError::NotFound(_)), "{error:?}");
    let rows = world.control.page_of_tokens(&Caller::local("test"), ListTokens::default()).await;
    let rows = rows.expect("a list").rows;
    assert_eq!((rows.len(), rows[0].name.as_str(), rows[0].expired), (1, "ci", true));
    let by_id = RevokeToken { token: ci.id().to_string(), request: None };
    world.control.forget_token(&Caller::local("test"), by_id).await.expect("revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_limited_and_keep_no_valid_token_out() {
    let world = World::start().await;
    let alice = world.make("alice", user(Role::Viewer, None), None).await;
    let foreign = sheaf_seal::new_token(None).expect("random");
    for _ in 0..10 {
        assert!(is_unauthenticated(&world.shown(&foreign, Need::Viewer).await, ""));
    }
    let error = world.shown(&foreign, Need::Viewer).await.expect_err("too many");
    assert!(matches!(&error, ApiError::Busy(why) if why.contains("from 10.0.0.1")), "{error:?}");
    assert!(world.shown(&alice, Need::Viewer).await.is_ok());
    world.clock.pass(Span::seconds(1));
    assert!(is_unauthenticated(&world.shown(&foreign, Need::Viewer).await, ""), "one a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_believed_for_itself_and_a_token_to_join_is_none_to_call_with() {
    let world = World::start().await;
    let answer = world.certified(3, Some(3), Need::Told).await;
    assert_eq!(answer, Ok(Admitted::Node(NodeId(3))));
    assert_eq!(world.certified(1, Some(3), Need::Told).await, Ok(Admitted::Node(NodeId(3))), "1 is a member");
    assert!(matches!(world.certified(4, Some(3), Need::Told).await, Err(ApiError::Forbidden(_))));
    assert!(is_unauthenticated(&world.certified(1, None, Need::Told).await, "asks for a token"));
    assert!(matches!(world.certified(3, Some(3), Need::Bucket).await, Err(ApiError::Forbidden(_))));
    assert_eq!(world.certified(1, Some(1), Need::Member).await, Ok(Admitted::Node(NodeId(1))));
    let other = world.certified(3, Some(3), Need::Member).await;
    assert!(matches!(other, Err(ApiError::Unavailable { .. })), "no other member says so: {other:?}");
    assert_eq!(world.certified(3, Some(3), Need::Registered).await, Ok(Admitted::Node(NodeId(3))));

    let join = world.make("rack-7", TokenUse::Join { voter: false }, None).await;
    assert_eq!(world.control.joining(&join, None).await, Ok((false, "rack-7".to_owned())));
    let admitted = world.shown(&join, Need::Join).await.expect("it may join");
    assert_eq!(admitted, Admitted::Joining { may_vote: false, by: "rack-7".to_owned() });
    assert!(matches!(world.shown(&join, Need::Viewer).await, Err(ApiError::Forbidden(_))));
    let admin = world.make("root", user(Role::Admin, None), None).await;
    assert!(matches!(world.control.joining(&admin, None).await, Err(ApiError::Forbidden(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_a_token_to_join_with_nodes_come_until_it_expires_or_is_revoked() {
    let world = World::start().await;
    let rack = world.make("rack-7", TokenUse::Join { voter: false }, None).await;
    let voters = world.make("voters", TokenUse::Join { voter: true }, Some(Span::seconds(60))).await;
    for _ in 0..3 {
        assert_eq!(world.control.joining(&rack, None).await, Ok((false, "rack-7".to_owned())));
        assert_eq!(world.control.joining(&voters, None).await, Ok((true, "voters".to_owned())));
    }
    let revoke = RevokeToken { token: "rack-7".to_owned(), request: None };
    world.control.forget_token(&Caller::local("test"), revoke).await.expect("revoked");
    world.clock.pass(Span::seconds(60));
    for (token, said) in
        [(&rack, "is not known here: it was revoked"), (&voters, "token voters has expired at 2023-")]
    {
        let joined = world.control.joining(token, None).await;
        assert!(matches!(&joined, Err(ApiError::Unauthenticated(why)) if why.contains(said)), "{joined:?}");
    }
}

/// The first items that a node is told.
async fn watched(world: &World, node: u64) -> Vec<WatchItem> {
    let node = NodeId(node);
    let ask = WatchNode { cluster: "c".into(), node, places: None };
    let answers = AgentApi::watch(&world.control, caller(Admitted::Node(node)), ask).await;
    let mut answers = answers.expect("it is told something");
    answers.next().await.expect("and goes on").expect("items")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_forgotten_is_told_so_and_nothing_else() {
    let world = World::start().await;
    let propose = async |command| {
        let reply = world.control.propose_as(Actor::from("test"), None, command, None).await;
        assert!(!matches!(reply, Err(_) | Ok(Reply::Refused(_))), "{reply:?}");
    };
    for name in ["n1", "n2"] {
        propose(Command::Register(Register { key: NodeKey::from(name), facts: facts(name) })).await;
    }
    let module = ModuleSpec::new(
        ModuleName::new("flume").expect("a name"),
        ModuleVersion::new("1").expect("one"),
        Runtime::Exec,
    );
    propose(Command::Apply(sheaf_engine::Apply { modules: vec![module], buckets: Vec::new() })).await;
    for node in [1, 2] {
        assert!(watched(&world, node).await.iter().any(|item| matches!(item, WatchItem::Module(_))));
    }
    let mut open = world.control.until_gone(&Admitted::Node(NodeId(2)));
    assert!((&mut open).now_or_never().is_none(), "its streams stay");
    let lost = SetNodeStatus { node: NodeId(2), status: NodeStatus::Lost, reason: String::new(), term: None };
    propose(Command::SetNodeStatus(lost)).await;
    propose(Command::Forget(NodeId(2))).await;
    for need in [Need::Viewer, Need::Registered, Need::Member] {
        let answer = world.certified(2, Some(2), need).await;
        assert!(matches!(&answer, Err(ApiError::Forbidden(why)) if why.contains("has left")), "{answer:?}");
        assert!(world.certified(1, Some(1), need).await.is_ok());
    }
    assert_eq!(world.certified(2, Some(2), Need::Told).await, Ok(Admitted::Node(NodeId(2))));
    let told = watched(&world, 2).await;
    assert!(!told.iter().any(|item| matches!(item, WatchItem::Module(_))), "{told:?}");
    let is_left = |item: &WatchItem| matches!(item, WatchItem::Own(own) if own.status == NodeStatus::Left);
    assert!(told.iter().any(is_left), "{told:?}");
    let ends = tokio::time::timeout(Duration::from_secs(30), open).await;
    assert_eq!(ends, Ok(()), "streams of before end, too");
}

/// What each change of a bucket answers this caller, by its verb.
async fn changes(control: &Control, who: &Caller, bucket: &str) -> Vec<(&'static str, Result<(), ApiError>)> {
    let name = BucketName::new(bucket).expect("a name");
    let spec = || BucketSpec::new(name.clone(), ModuleRef::parse("flume").expect("a module"));
    let put = || PutBucket { spec: spec(), suspended: None, base: None, latest: false };
    let on = || OnBucket { bucket: name.clone(), base: None, request: None };
    let who = || who.clone();
    let one = ApplyBucket { put: put(), request: None, validate_only: false };
    let all = Apply { buckets: vec![put()], ..Apply::default() };
    let to = MoveBucket { bucket: name.clone(), to: None, base: None, request: None };
    let back = RollbackBucket { bucket: name.clone(), to: None, base: None, request: None };
    let test = TestBucket {
        spec: spec(),
        latest: false,
        max_objects: 1,
        max_time: Span::seconds(1),
        start_within: Span::seconds(1),
    };
    vec![
        ("apply", BucketApi::apply(control, who(), one).await.map(drop)),
        ("apply all", ClusterApi::apply(control, who(), all).await.map(drop)),
        ("suspend", BucketApi::suspend(control, who(), on()).await.map(drop)),
        ("resume", BucketApi::resume(control, who(), on()).await.map(drop)),
        ("restart", BucketApi::restart(control, who(), on()).await.map(drop)),
        ("purge", BucketApi::purge(control, who(), on()).await.map(drop)),
        ("delete", BucketApi::delete(control, who(), on()).await.map(drop)),
        ("move", BucketApi::move_bucket(control, who(), to).await.map(drop)),
        ("rollback", BucketApi::rollback(control, who(), back).await.map(drop)),
        ("test", BucketApi::test(control, who(), test).await.map(drop)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_of_some_buckets_changes_those_and_nothing_else() {
    let world = World::start().await;
    let team = world.make("team", user(Role::Operator, Some("/team-a/")), None).await;
    let team = caller(world.shown(&team, Need::Bucket).await.expect("let in"));
    for (verb, answer) in changes(&world.control, &team, "/team-a/web").await {
        // There is neither such a bucket nor its module: whoever hears of that was let through.
        assert!(!matches!(answer, Ok(()) | Err(ApiError::Forbidden(_))), "{verb}: {answer:?}");
    }
    for other in ["/team-b/web", "/team-ab/web", "/team-a"] {
        for (verb, answer) in changes(&world.control, &team, other).await {
            assert!(matches!(answer, Err(ApiError::Forbidden(_))), "{verb} {other}: {answer:?}");
        }
    }
    let (name, version) = (ModuleName::new("flume").expect("a name"), ModuleVersion::new("1").expect("one"));
    let module = ModuleSpec::new(name, version, Runtime::Exec);
    let documents = || Apply { modules: vec![module.clone()], ..Apply::default() };
    let operator = caller(admitted_by(&record(user(Role::Operator, None))));
    for who in [&team, &operator] {
        let error = ClusterApi::apply(&world.control, who.clone(), documents()).await.expect_err("no admin");
        assert!(matches!(&error, ApiError::Forbidden(why) if why.contains("role admin")), "{error:?}");
    }
    let admin = caller(admitted_by(&record(user(Role::Admin, None))));
    let answer = ClusterApi::apply(&world.control, admin, documents()).await;
    assert!(!matches!(answer, Err(ApiError::Forbidden(_))), "{answer:?}");
}

fn record(of: TokenUse) -> TokenRecord {
    TokenRecord {
        id: TokenId([1; 6]),
        name: TokenName::new("somebody").expect("a name"),
        of,
        digest: sheaf_model::Digest([0; 32]),
        created_at: Timestamp(0),
        created_by: String::new(),
        expires_at: None,
        revision: sheaf_model::Revision(1),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_claims_nothing_of_another() {
    let world = World::start().await;
    let control = &world.control;
    let bucket = || BucketName::new("/a").expect("a name");
    let own = || caller(Admitted::Node(NodeId(3)));
    let put = |node| PutObject {
        bucket: bucket(),
        key: ObjectKey::new("k").expect("a key"),
        value: b"v".as_slice().into(),
        base: None,
        claim: Claim { node: NodeId(node), epoch: None },
        token: 0,
    };
    let error = InstanceApi::put_object(control, own(), put(4)).await.expect_err("another's");
    assert_eq!(error, ApiError::Forbidden("node 3 does not speak for node 4".to_owned()));
    let error = InstanceApi::put_object(control, own(), put(3)).await.expect_err("no such bucket");
    assert!(!matches!(error, ApiError::Forbidden(_)), "{error:?}");
    let name = sheaf_model::SecretName::new("token").expect("a name");
    let secret = GetSecret { bucket: bucket(), claim: Claim { node: NodeId(4), epoch: None }, name };
    let error = InstanceApi::secret(control, own(), secret).await.expect_err("another's");
    assert!(matches!(error, ApiError::Forbidden(_)), "{error:?}");
    let watch = WatchNode { cluster: sheaf_model::ClusterId::from("c"), node: NodeId(4), places: None };
    let error = AgentApi::watch(control, own(), watch).await.map(drop).expect_err("another's");
    assert!(matches!(error, ApiError::Forbidden(_)), "{error:?}");
}
