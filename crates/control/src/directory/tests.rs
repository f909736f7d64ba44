//! Whom a node without a replica takes for a member, over real connections.

use std::path::Path;
use std::sync::Arc;

use sheaf_engine::{AccessCommand, Admit, Command, Register, Reply};
use sheaf_model::{ClusterId, Facts, Holder, Timestamp};
use sheaf_trust::{Authority, Keyring, PrivateKey};
use sheaf_wire::peer::PeerApi as _;
use sheaf_wire::{Caller, Class, Credentials, Route as _, ServeOptions, Server, Target, Transport};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;
use crate::place::Registration;
use crate::propose::tests::{control_of, control_without, facts};
use crate::trust::Trust;
use crate::trust::tests::{Secured, Wall, keyring, now};

/// Certificates are good for so long.
const LIFETIME: Duration = Duration::from_secs(3600);
/// The member.
const MEMBER: NodeId = NodeId(1);
/// The node whose certificate was taken.
const TAKEN: NodeId = NodeId(9);

struct Scene {
    world: Secured,
    authority: Arc<Authority>,
    dir: tempfile::TempDir,
    /// A node that holds no replica.
    asker: Control,
    /// Its number.
    node: NodeId,
}

/// What secures that node; the authority's key is none of it.
fn secured(dir: &Path, authority: &Authority, node: NodeId) -> Trust {
    let keyring = Keyring::open(&dir.join(format!("trust{node}"))).expect("an empty folder");
    keyring.keep_authorities(&[authority.certificate().to_vec()], &[]).expect("kept");
    let key = PrivateKey::new().expect("a key");
    let issued = authority.issue(&key.public(), Holder::Node(node), None, now(), LIFETIME);
    keyring.keep_own(&issued.expect("signed"), &key, Timestamp(u64::MAX)).expect("kept");
    let transport = Transport::tls(&Credentials::default()).expect("nothing to be wrong with");
    let keyring = Some(Arc::new(keyring));
    let trust = Trust { transport, keyring, lifetime: LIFETIME, ..Trust::default() };
    trust.refresh().expect("what was kept is good");
    trust
}

fn register(control: &Control, node: NodeId) {
    let registration = Registration { cluster: ClusterId::from("c"), node };
    control.place.registration.send_replace(Some(registration));
}

/// Lets in the node with that data directory at that address.
async fn admit(world: &Secured, key: &str, address: &str) -> NodeId {
    let facts = Facts { address: address.to_owned(), ..facts(&format!("node-{key}")) };
    let register = Register { key: key.into(), facts };
    let admit = Command::Access(AccessCommand::Admit(Admit { register, may_vote: false }));
    match world.propose(admit).await {
        Reply::Registered(node) => node,
        other => panic!("no number: {other:?}"),
    }
}

/// What a node says that belongs to a cluster founded anew from that of the scene.
fn successors_hello() -> HelloAsk {
    HelloAsk {
        instance: "i".to_owned(),
        key: "x".into(),
        cluster: Some(ClusterId::from("c+1-x")),
        node: None,
        nonce: None,
    }
}

impl Scene {
    async fn start() -> Self {
        let (world, dir) = (Secured::start().await, tempfile::tempdir().expect("a directory"));
        register(&world.control, MEMBER);
        world.control.place.trust.refresh().expect("what it keeps is good");
        let authority = keyring(&world.control.place.trust).authority().expect("a member has the key");
        // Its data directory is that of the node below.
        let node = admit(&world, "a", "127.0.0.1:1").await;
        let asker = control_without(dir.path(), Arc::new(Wall), secured(dir.path(), &authority, node));
        register(&asker, node);
        Self { world, authority, dir, asker, node }
    }

    /// Where `control` answers with the certificate of that node.
    async fn serve(&self, control: &Control, certificate: NodeId) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it listens").to_string();
        let control = Arc::new(control.clone());
        let dir = self.dir.path().join(&address);
        let over = secured(&dir, &self.authority, certificate).transport;
        let server = Server::new().peers(control.clone()).cluster(control.clone()).over(over);
        let serving = server.serve(listener, control, ServeOptions::default(), std::future::pending());
        tokio::spawn(async move { drop(serving.await) });
        address
    }

    /// A member that has not got the authority's key, as one of an earlier version might be.
    fn unproven(&self) -> Control {
        let member = self.world.control.place.member().expect("a replica");
        let dir = self.dir.path().join("unproven");
        let control = control_of(&dir, member, Arc::new(Wall), secured(&dir, &self.authority, MEMBER));
        register(&control, MEMBER);
        control
    }

    /// The member that it finds if it knows this alone.
    async fn found(&self, known: Contact) -> Option<Contact> {
        self.asker.place.members.send_modify(|members| {
            members.known.clear();
            members.member = None;
            members.note(known);
        });
        let found = self.asker.look_around(true, &mut Asked::default()).await;
        let member = self.asker.place.members.borrow().member.clone();
        assert_eq!(found, member.is_some());
        member
    }

    fn is_proven(&self) -> bool {
        self.asker.place.members.borrow().proven
    }

    /// Why it is not heard what somebody says there.
    async fn refused(&self, contact: Contact) -> String {
        hello(&self.asker.place, &contact).await.expect_err("nobody to believe").to_string()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_proves_it_is_known_by_its_number_from_then_on() {
    let scene = Scene::start().await;
    let address = scene.serve(&scene.world.control, MEMBER).await;
    assert!(!scene.is_proven());
    let member = Contact::of(MEMBER, &address);
    assert_eq!(scene.found(Contact::anyone(&address)).await, Some(member.clone()));
    assert!(scene.is_proven());
    assert_eq!(scene.asker.place.members.borrow().known.get(&address), Some(&Some(MEMBER)));
    assert!(scene.asker.place.known_members().contains(&member));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_carries_the_proof_of_another_is_not_believed() {
    let scene = Scene::start().await;
    // Somebody in between, who has all that the member says, and another node's certificate.
    let between = scene.serve(&scene.world.control, TAKEN).await;
    let itself = scene.serve(&scene.world.control, MEMBER).await;
    scene.world.forget(scene.node).await;
    for known in [Contact::anyone(&between), Contact::of(MEMBER, &between)] {
        assert_eq!(scene.found(known.clone()).await, None, "{known}");
        let why = scene.refused(known).await;
        assert!(
            why.contains("node 9 answers there") || why.contains("not the member that it names"),
            "{why}"
        );
        assert!(!scene.asker.place.has_left());
    }
    // A node that is known may say what it likes of itself, and nothing that only members know.
    let greeting = hello(&scene.asker.place, &Contact::of(TAKEN, &between)).await.expect("it is that node");
    assert!(greeting.left && !scene.asker.place.has_left());
    hello(&scene.asker.place, &Contact::of(MEMBER, &itself)).await.expect("it is that node");
    assert!(scene.asker.place.has_left(), "the member itself says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_is_believed_as_long_as_nobody_does() {
    let scene = Scene::start().await;
    let unproven = scene.unproven();
    let address = scene.serve(&unproven, MEMBER).await;
    let member = Contact::of(MEMBER, &address);
    assert_eq!(scene.found(Contact::anyone(&address)).await, Some(member.clone()));
    assert!(!scene.is_proven());
    assert_eq!(scene.asker.place.known_members().len(), scene.asker.place.members.borrow().known.len());

    let without_key = unproven.place.member().expect("a replica");
    unproven.note_own_proof(&without_key);
    assert!(!unproven.place.wants_proof(), "it cannot prove it itself");

    let proving = scene.serve(&scene.world.control, MEMBER).await;
    scene.found(Contact::anyone(&proving)).await.expect("a member");
    assert!(scene.is_proven());
    assert_eq!(scene.found(Contact::anyone(&address)).await, None);
    assert!(scene.asker.place.known_members().is_empty(), "nobody is asked of whom nothing is known");
    let why = scene.refused(Contact::anyone(&address)).await;
    assert!(why.contains("says that it is a member, and does not prove it"), "{why}");
    assert_eq!(scene.found(member.clone()).await, Some(member), "it is known by its number");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_of_addresses_before_anybody_proved_anything_is_forgotten_then() {
    let scene = Scene::start().await;
    let place = &scene.asker.place;
    place.members.send_modify(|members| members.note(Contact::of(TAKEN, "127.0.0.1:9")));
    let address = scene.serve(&scene.world.control, MEMBER).await;
    let member = Contact::of(MEMBER, &address);
    for said in [Contact::anyone("127.0.0.1:9"), Contact::of(TAKEN, "127.0.0.1:9")] {
        hello(place, &member).await.expect("it is that node");
        assert!(place.members.borrow().contacts().any(|known| known == said), "{said}");
        // From then on members alone have said whose it is.
        place.members.send_modify(|members| members.note(Contact::of(TAKEN, "127.0.0.1:9")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_member_that_has_come_to_a_known_address_is_found_once_it_proves_that_it_is_one() {
    let scene = Scene::start().await;
    let unproven = scene.unproven();
    let earlier = scene.serve(&unproven, MEMBER).await;
    let found = scene.found(Contact::of(NodeId(3), &earlier)).await;
    assert_eq!(found, None, "members of earlier versions prove nothing");
    let address = scene.serve(&scene.world.control, MEMBER).await;
    for is_proven in [false, true] {
        scene.asker.place.members.send_modify(|members| members.proven = is_proven);
        let found = scene.found(Contact::of(NodeId(3), &address)).await;
        assert_eq!(found, Some(Contact::of(MEMBER, &address)), "{is_proven}");
    }
    // Whoever has the certificate of a node that is no member does not.
    let taken = scene.serve(&unproven, TAKEN).await;
    assert_eq!(scene.found(Contact::of(MEMBER, &taken)).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_cluster_was_founded_anew_is_believed_of_a_member_of_that_one_alone() {
    let scene = Scene::start().await;
    let (control, founder) = (&scene.world.control, NodeId(scene.node.0 + 1));
    let dir = scene.dir.path().join("anew");
    let trust = secured(&dir, &scene.authority, founder);
    let key = PrivateKey::from_pem(scene.authority.key().pem().as_bytes()).expect("its key");
    let kept = Authority::from_parts(key, scene.authority.certificate().to_vec()).expect("the same");
    keyring(&trust).keep_authority(kept).expect("kept");
    let member = control.place.member().expect("a replica");
    let anew = control_of(&dir, member, Arc::new(Wall), trust);
    let registration = Registration { cluster: ClusterId::from("c+1-x"), node: founder };
    anew.place.registration.send_replace(Some(registration));
    let address = scene.serve(&anew, founder).await;
    assert_eq!(admit(&scene.world, "founder", &address).await, founder);

    // It is the only member, and has the key.
    control.note_own_proof(&control.place.member().expect("a replica"));
    assert!(control.place.wants_proof());
    let says = async |node: NodeId| {
        let caller = Caller { holder: Some(Holder::Node(node)), ..Caller::local("test") };
        control.hello(caller, successors_hello()).await.expect("it is greeted");
        control.place.successor.borrow().clone()
    };
    // One that is not known, and one that is and does not prove it.
    for node in [TAKEN, scene.node] {
        assert_eq!(says(node).await, None, "{node}");
    }
    assert_eq!(says(founder).await, Some(ClusterId::from("c+1-x")));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_member_answers_nobody_leads_until_one_does() {
    let scene = Scene::start().await;
    let (asker, stop) = (scene.asker.clone(), CancellationToken::new());
    let mut members = asker.place.members.subscribe();
    // Nobody listens there, and the node that led is not among those that are known.
    let gone = Contact::of(MEMBER, "127.0.0.1:1");
    asker.place.members.send_modify(|members| {
        members.member = Some(Contact::of(MEMBER, "127.0.0.1:2"));
        members.leader = Some(gone.clone());
    });
    let status = || scene.asker.target(Class::LiveRead, "/sheaf.v1.ClusterService/Status");
    assert_eq!(status(), Target::To(gone.clone()));
    let running = tokio::spawn({
        let stop = stop.clone();
        async move { asker.run_directory(stop).await }
    });
    let soon = Duration::from_secs(30);
    let forgotten = members.wait_for(|members| members.leader.is_none());
    drop(timeout(soon, forgotten).await.expect("it is noticed").expect("its place is there"));
    assert_eq!(status(), Target::Local, "what is known here is said");
    assert!(scene.asker.place.known_members().contains(&gone), "it may come back");

    let address = scene.serve(&scene.world.control, MEMBER).await;
    scene.asker.place.members.send_modify(|members| members.note(Contact::of(MEMBER, &address)));
    let found = members.wait_for(|members| members.leader.is_some());
    drop(timeout(soon, found).await.expect("it is found").expect("its place is there"));
    assert_eq!(status(), Target::To(gone), "as the member says");
    stop.cancel();
    running.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn whom_a_call_did_not_find_is_looked_for_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let asker = control_without(dir.path(), Arc::new(Wall), Trust::default());
    let rested = async || {
        let begun = tokio::time::Instant::now();
        asker.rest(true).await;
        begun.elapsed()
    };
    assert_eq!(rested().await, EVERY);
    asker.failed();
    asker.failed();
    assert_eq!((rested().await, rested().await), (APART, EVERY), "however many calls wait");
}
