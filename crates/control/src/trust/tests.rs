use std::path::Path;

use sheaf_engine::{
    AccessCommand, Command, CreateToken, IssueBy, Proposal, PutAuthority, Register, Reply, SetNodeStatus,
};
use sheaf_model::session::{Heartbeat, Hello};
use sheaf_model::{
    Actor, Facts, Load, Moment, NodeKey, ObjectValue, Revision, Rights, Role, TokenName, TokenText, TokenUse,
};
use sheaf_trust::Authority;
use sheaf_wire::cluster::{RotateAuthority, RotationStep};
use sheaf_wire::peer::{HelloAsk, PeerApi as _};

use super::*;
use crate::clock::Clock;
use crate::place::Registration;
use crate::propose::tests::{One, control_of, facts};

/// Certificates are good for so long.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The join secret.
const SECRET: [u8; 32] = [7; 32];

pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// The real wall clock, and no other.
pub(crate) struct Wall;

impl Clock for Wall {
    fn moment(&self) -> Moment {
        Moment(0)
    }

    fn wall(&self) -> Timestamp {
        now()
    }
}

fn trust(dir: &Path) -> Trust {
    let keyring = Keyring::open(&dir.join("trust")).expect("an empty folder");
    let transport = Transport::tls(&Credentials::default()).expect("nothing to be wrong with");
    let secret = Some(sheaf_seal::token_of_secret(&SECRET).id());
    Trust { transport, keyring: Some(Arc::new(keyring)), join: None, secret, lifetime: LIFETIME }
}

pub(crate) fn keyring(trust: &Trust) -> &Keyring {
    trust.keyring.as_ref().expect("it is secured")
}

fn der(authority: &Authority) -> Vec<u8> {
    authority.certificate().to_vec()
}

/// Gives this node a certificate of that authority.
fn certify(trust: &Trust, by: &Authority) {
    let key = PrivateKey::new().expect("a key");
    let holder = Holder::Node(NodeId(7));
    let certificate = by.issue(&key.public(), holder, None, now(), LIFETIME).expect("signed");
    keyring(trust).keep_own(&certificate, &key, Timestamp(u64::MAX)).expect("kept");
}

#[test]
fn a_node_without_a_replica_believes_whom_those_vouch_for_that_it_believes() {
    let dir = tempfile::tempdir().expect("a directory");
    let trust = trust(dir.path());
    let [old, new, evil] = [(); 3].map(|()| Authority::new(now()).expect("an authority"));
    let bridge = old.vouch_for(&new, now()).expect("signed");
    let both = [der(&new), der(&old)];
    assert!(!trust.learn(&both, std::slice::from_ref(&bridge)).expect("kept"), "it has no certificate yet");
    keyring(&trust).keep_authorities(&[der(&old)], &[]).expect("kept");
    certify(&trust, &old);

    let made_up = evil.vouch_for(&old, now()).expect("signed");
    for lie in [vec![der(&evil), der(&old)], vec![der(&evil)], vec![]] {
        assert!(!trust.learn(&lie, std::slice::from_ref(&made_up)).expect("ignored"));
    }
    assert!(!trust.learn(&both, &[]).expect("ignored"), "nobody vouches for it");
    assert_eq!(keyring(&trust).authorities(), [der(&old)]);
    assert!(!keyring(&trust).is_due(now()));

    assert!(trust.learn(&both, &[made_up, bridge.clone()]).expect("kept"));
    assert_eq!(
        (keyring(&trust).authorities(), keyring(&trust).bridges()),
        (both.to_vec(), vec![bridge.clone()])
    );
    assert!(keyring(&trust).is_due(now()), "another one issues");
    assert!(!trust.learn(&both, std::slice::from_ref(&bridge)).expect("the same"), "no news");
    assert!(!trust.learn(&[der(&new)], &[]).expect("ignored"), "its own certificate is by the former one");
    let said = trust.said(false);
    assert_eq!(said.issuer, Digest(pin(old.certificate())).leading());
    assert_eq!((said.member, said.keys), (false, [0, 0]));

    certify(&trust, &new);
    assert!(trust.learn(&[der(&new)], &[]).expect("kept"));
    assert_eq!(trust.said(false).believes, [Digest(pin(new.certificate())).leading(), 0]);
}

#[test]
fn a_node_has_no_certificate_of_a_name_that_another_has_already() {
    let node = |number: u64, status, name: &str, hostname: &str, address: &str| Node {
        id: NodeId(number),
        key: "k".into(),
        facts: Facts { hostname: hostname.to_owned(), address: address.to_owned(), ..facts(name) },
        given_labels: Vec::new(),
        status,
        since: Timestamp(0),
        reason: String::new(),
        registered: Revision(1),
        revision: Revision(1),
        drain: None,
        may_vote: true,
    };
    let (ready, lost) = (NodeStatus::Ready, NodeStatus::Lost);
    let all = [
        node(1, ready, "a", "a.example.org", "10.0.0.1:7420"),
        node(2, ready, "b", "A.example.org", "10.0.0.2:7420"),
        node(3, lost, "c", "c.example.org", "c.example.net:7420"),
        node(4, ready, "c", "10.0.0.2", "c.example.net:7420"),
        node(5, ready, "e", "c.example.net", "10.0.0.1:7420"),
        node(6, ready, "f", "10.0.0.1", "a:7420"),
    ];
    let nodes: BTreeMap<NodeId, Node> = all.into_iter().map(|node| (node.id, node)).collect();
    let of = |number| hosts(&nodes, &nodes[&NodeId(number)]);
    assert_eq!(of(1), ["10.0.0.1", "a.example.org", "a"], "whoever was first keeps it");
    assert_eq!(of(2), ["10.0.0.2", "b"]);
    assert_eq!(of(4), ["c.example.net", "c"], "the name of a lost one is free");
    assert_eq!(of(5), ["10.0.0.1", "e"], "several may be behind one address");
    assert_eq!(of(6), ["f"], "but is not called by it, nor reached by another's name");
}

/// What a secured cluster of one does, with a node in it.
pub(crate) struct Secured {
    pub(crate) control: Control,
    one: One,
}

const NODE: NodeId = NodeId(1);

impl Secured {
    pub(crate) async fn start() -> Self {
        let one = One::formed().await;
        let trust = trust(one.dir.path());
        keyring(&trust).keep_authority(Authority::new(now()).expect("an authority")).expect("kept");
        let authority = keyring(&trust).authority().expect("it was just kept");
        certify(&trust, &authority);
        let control = control_of(one.dir.path(), one.member.clone(), Arc::new(Wall), trust);
        let secured = Self { control, one };
        let put = PutAuthority {
            fingerprint: Digest(pin(authority.certificate())),
            certificate: ObjectValue::from(authority.certificate()),
        };
        secured.propose(Command::Access(AccessCommand::PutAuthority(put))).await;
        let register = Register { key: "k".into(), facts: facts("a") };
        assert_eq!(secured.propose(Command::Register(register)).await, Reply::Registered(NODE));
        secured
    }

    pub(crate) async fn propose(&self, command: Command) -> Reply {
        let proposal = Proposal { actor: Actor::from("test"), at: now(), request: None, command };
        self.one.member.replica.propose(&proposal).await.expect("applied").reply
    }

    async fn rotate(&self, step: RotationStep) -> Result<sheaf_wire::Done, ApiError> {
        self.control.rotate(&Caller::local("test"), RotateAuthority { step, request: None }).await
    }

    async fn stage(&self) -> String {
        self.control.status_of_authorities(&Caller::local("test")).await.expect("a status").stage
    }

    async fn look_after(&self) {
        let member = self.control.place.member().expect("a replica");
        let registration = Registration { cluster: ClusterId::from("c"), node: NODE };
        let keyring = keyring(&self.control.place.trust);
        self.control.look_after_authorities(&member, keyring, &registration).await.expect("looked after");
    }

    /// The node tells the leader whom it believes.
    fn hears(&self) {
        let mut live = self.control.live.lock();
        let sessions = live.sessions.as_mut().expect("it leads");
        let load = Load { trust: self.control.place.trust.said(true), ..Load::default() };
        sessions.heard(NODE, &Heartbeat { sent_at: Moment(0), load, seen: Revision(0) }, Moment(0));
    }
}

fn hello() -> Hello {
    Hello {
        cluster: ClusterId::from("c"),
        node: NODE,
        key: "k".into(),
        boot: "boot".into(),
        incarnation: "life".into(),
        facts: facts("a"),
        fresh: false,
        stand_in: false,
        work: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_authority_takes_the_place_of_another_step_by_step() {
    let world = Secured::start().await;
    let trust = &world.control.place.trust;
    let old = keyring(trust).authority().expect("the key is here");
    assert_eq!(world.stage().await, "settled");
    for step in [RotationStep::Finish, RotationStep::Abandon] {
        assert!(matches!(world.rotate(step).await, Err(ApiError::Precondition(_))), "{step:?}");
    }
    world.rotate(RotationStep::Begin).await.expect("begun");
    assert!(world.rotate(RotationStep::Begin).await.expect("begun already").unchanged);
    assert_eq!(world.stage().await, "spreading");
    let next = keyring(trust).next().expect("its key is here");
    world.look_after().await;
    assert_eq!(keyring(trust).authorities(), [der(&old), der(&next)]);
    assert_eq!(keyring(trust).authority().map(|it| der(&it)), Some(der(&old)), "it signs still");

    let term = world.one.member.replica.leadership().borrow().term;
    let fingerprint = Digest(pin(next.certificate()));
    let issue = AccessCommand::IssueBy(IssueBy { fingerprint, term });
    assert!(matches!(world.propose(Command::Access(issue)).await, Reply::Done(_)));
    world.look_after().await;
    assert_eq!(keyring(trust).authority().map(|it| der(&it)), Some(der(&next)));
    assert!(keyring(trust).is_due(now()) && keyring(trust).next().is_none());
    let error = world.rotate(RotationStep::Begin).await.expect_err("that is not over");
    assert!(
        matches!(&error, ApiError::Precondition(why) if why.contains("is being replaced already")),
        "{error:?}"
    );

    world.control.live.begin(term, Moment(0));
    {
        let mut live = world.control.live.lock();
        let sessions = live.sessions.as_mut().expect("it leads");
        sessions.opened(&hello(), &world.one.member.replica.state(), Moment(0)).expect("nobody else is live");
    }
    world.hears();
    assert_eq!(world.stage().await, "renewing");
    let error = world.rotate(RotationStep::Finish).await.expect_err("a certificate is by the former one");
    assert!(
        matches!(&error, ApiError::Precondition(why) if why.contains("a has no certificate")),
        "{error:?}"
    );
    certify(trust, &next);
    world.hears();
    assert_eq!(world.stage().await, "renewed");
    world.rotate(RotationStep::Finish).await.expect("nothing needs it");
    world.look_after().await;
    assert_eq!((world.stage().await, keyring(trust).authorities()), ("settled".to_owned(), vec![der(&next)]));
    assert!(keyring(trust).bridges().is_empty() && trust.bridges().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_has_not_issued_is_given_up_and_never_used() {
    let world = Secured::start().await;
    let trust = &world.control.place.trust;
    world.rotate(RotationStep::Begin).await.expect("begun");
    world.look_after().await;
    let given_up = der(&keyring(trust).next().expect("its key is here"));
    world.rotate(RotationStep::Abandon).await.expect("given up");
    world.look_after().await;
    assert!(keyring(trust).next().is_none());
    assert_eq!(world.stage().await, "settled");
    world.rotate(RotationStep::Begin).await.expect("begun anew");
    assert_ne!(keyring(trust).next().map(|it| der(&it)), Some(given_up));
}

/// The token is known from now on.
async fn create(world: &Secured, name: &str, token: &TokenText, of: TokenUse) {
    let name = TokenName::new(name).expect("a name");
    let (id, digest) = (token.id(), sheaf_seal::digest_of(token));
    let create = AccessCommand::CreateToken(CreateToken { id, name, of, digest, expires_at: None });
    assert!(matches!(world.propose(Command::Access(create)).await, Reply::Done(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_join_secret_brings_nobody_in_and_is_no_hindrance() {
    let world = Secured::start().await;
    let caller = Caller { holder: Some(Holder::Joining), ..Caller::local("test") };
    let ask = |key: &str, token: Option<&TokenText>| JoinAsk {
        key: key.into(),
        cluster: None,
        facts: facts("b"),
        public_key: Vec::new(),
        token: token.cloned(),
    };
    let proven = async |key: &str, token: Option<&TokenText>| {
        world.control.proven(&caller, &ask(key, token)).await.expect("it is judged")
    };
    let is_revoked =
        |proven: Proven| matches!(&proven, Proven::Refused(why) if why.contains("join secret was revoked"));
    let greeted = async || {
        let ask =
            HelloAsk { instance: "i".to_owned(), key: "x".into(), cluster: None, node: None, nonce: None };
        world.control.hello(caller.clone(), ask).await.expect("it is greeted").key
    };
    assert!(is_revoked(proven("new", None).await), "of another cluster");
    assert_eq!(greeted().await, NodeKey::default(), "as whoever shows nothing");
    let token = sheaf_seal::token_of_secret(&SECRET);
    create(&world, "join-secret", &token, TokenUse::User(Rights::of(Role::Admin))).await;
    assert_eq!(proven("new", None).await, Proven::Welcome { may_vote: true });
    assert_eq!(greeted().await, NodeKey::from("a"));
    let lost = SetNodeStatus { node: NODE, status: NodeStatus::Lost, reason: String::new(), term: None };
    world.propose(Command::SetNodeStatus(lost)).await;
    assert_eq!(proven("k", None).await, Proven::Welcome { may_vote: true }, "it is a lost one");

    let revoke = AccessCommand::RevokeToken(token.id());
    assert!(matches!(world.propose(Command::Access(revoke)).await, Reply::Done(_)));
    assert!(is_revoked(proven("new", None).await));
    assert_eq!(greeted().await, NodeKey::default());
    assert!(matches!(proven("k", None).await, Proven::Refused(why) if why.contains("node a")));
    let join = sheaf_seal::new_token(None).expect("random");
    create(&world, "rack-7", &join, TokenUse::Join { voter: false }).await;
    assert_eq!(proven("new", Some(&join)).await, Proven::Welcome { may_vote: false });
}
