use std::os::unix::fs::PermissionsExt as _;

use sheaf_engine::{Change, Command, CreateToken, Form, Proposal, Reply, State, apply};
use sheaf_model::{
    Actor, AuthorityRecord, AuthorityStage, Holder, Revision, Rights, Role, Settings, Span, TokenId,
    TokenName, TokenUse,
};
use sheaf_trust::names;
use sheaf_wire::holder_of;

use super::*;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const TERM: Term = Term(7);
const NEXT: AuthorityStage = AuthorityStage::Next { lifetime: Span(60_000) };
const FORMER: AuthorityStage = AuthorityStage::Former { until: NOW };
const LIFETIME: Duration = Duration::from_secs(60);

fn record(n: u8, stage: AuthorityStage) -> AuthorityRecord {
    AuthorityRecord {
        fingerprint: Digest([n; 32]),
        certificate: [n; 100].as_slice().into(),
        revision: Revision(u64::from(n)),
        added_at: NOW,
        stage,
        bridge: None,
    }
}

fn access(records: impl IntoIterator<Item = AuthorityRecord>) -> Access {
    Access { authorities: records.into_iter().map(Arc::new).collect(), ..Access::default() }
}

fn of(authority: &Authority, stage: AuthorityStage) -> AuthorityRecord {
    AuthorityRecord {
        fingerprint: Digest(pin(authority.certificate())),
        certificate: authority.certificate().into(),
        ..record(1, stage)
    }
}

fn authority() -> Authority {
    Authority::new(NOW).expect("an authority")
}

#[test]
fn what_becomes_of_authorities_is_said_by_the_keys_that_are_here() {
    let judged = |records: &[(u8, AuthorityStage)], keys: &[u8], new: bool| {
        let access = access(records.iter().map(|(n, stage)| record(*n, *stage)));
        let said = judge(&access, |it| keys.contains(&it.0[0]), new.then(authority));
        said.map(|issuer| match issuer {
            Issuer::Nobody => "nobody".to_owned(),
            Issuer::Present { given_up: None } => "present".to_owned(),
            Issuer::Present { given_up: Some(it) } => format!("present without {}", it.0[0]),
            Issuer::Next(it) => format!("next {}", it.0[0]),
            Issuer::Made(_) => "made".to_owned(),
        })
    };
    let ok = |said: &str| Ok(said.to_owned());
    let digest = |n| Digest([n; 32]);
    let alone = [(1_u8, AuthorityStage::Issues)];
    let begun = [(1_u8, AuthorityStage::Issues), (2, NEXT)];
    let changed = [(1_u8, FORMER), (2, AuthorityStage::Issues)];
    assert_eq!(judged(&[], &[1], false), ok("nobody"));
    assert_eq!(judged(&[], &[], true), Err(Against::Unsecured));
    assert_eq!(judged(&alone, &[1, 9], false), ok("present"));
    assert_eq!(judged(&alone, &[9], false), Err(Against::KeyIsMissing(digest(1))));
    assert_eq!(judged(&alone, &[9], true), ok("made"));
    assert_eq!(judged(&alone, &[1], true), Err(Against::KeyIsHere(digest(1))));
    assert_eq!(judged(&begun, &[1, 2], false), ok("present"));
    assert_eq!(judged(&begun, &[1], false), ok("present without 2"));
    assert_eq!(judged(&begun, &[2], false), ok("next 2"));
    assert_eq!(judged(&begun, &[2], true), Err(Against::KeyIsHere(digest(2))));
    assert_eq!(judged(&begun, &[], false), Err(Against::KeyIsMissing(digest(1))));
    assert_eq!(judged(&changed, &[2], false), ok("present"));
    assert_eq!(judged(&changed, &[1], false), Err(Against::KeyIsMissing(digest(2))), "it issues no more");
    assert_eq!(judged(&changed, &[1], true), ok("made"));
}

/// A state, to which commands are proposed as a new cluster's are.
struct World(State);

impl World {
    fn formed() -> Self {
        let mut world = Self(State::default());
        let form = Form { cluster: "c".into(), settings: Settings::default() };
        world.propose(Command::Form(form));
        world
    }

    fn propose(&mut self, command: Command) {
        let proposal = Proposal { actor: Actor::from("test"), at: NOW, request: None, command };
        let mut changes: Vec<Change> = Vec::new();
        let reply = apply(&mut self.0, TERM, &proposal, &mut changes);
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    fn ask(&mut self, commands: impl IntoIterator<Item = AccessCommand>) {
        commands.into_iter().for_each(|command| self.propose(Command::Access(command)));
    }

    fn put(&mut self, authority: &Authority) {
        let fingerprint = Digest(pin(authority.certificate()));
        let certificate = authority.certificate().into();
        self.ask([AccessCommand::PutAuthority(PutAuthority { fingerprint, certificate })]);
    }

    fn begin(&mut self, next: &Authority) {
        let begin = sheaf_engine::BeginRotation {
            fingerprint: Digest(pin(next.certificate())),
            certificate: next.certificate().into(),
            bridge: [1; 100].as_slice().into(),
            lifetime: Span(60_000),
        };
        self.ask([AccessCommand::BeginRotation(begin)]);
    }

    fn token(&mut self, n: u8, name: &str, by: Option<&Authority>, expires_at: Option<Timestamp>) {
        let rights = Rights::of(Role::Viewer);
        let of = match by.map(|by| Digest(pin(by.certificate()))) {
            Some(authority) => TokenUse::Certificate { rights, authority },
            None => TokenUse::User(rights),
        };
        let (id, name) = (TokenId([n; 6]), TokenName::new(name).expect("a name"));
        let create = CreateToken { id, name, of, digest: Digest([n; 32]), expires_at };
        self.ask([AccessCommand::CreateToken(create)]);
    }

    fn names(&self) -> Vec<String> {
        self.0.access.tokens.values().map(|token| token.name.to_string()).collect()
    }
}

#[test]
fn an_authority_that_is_made_is_believed_alone_and_tokens_stay() {
    let place = tempfile::tempdir().expect("a directory");
    let (one, two, mut world) = (authority(), authority(), World::formed());
    world.put(&one);
    world.token(1, "ada", None, None);
    world.token(2, "cora", Some(&one), None);
    world.token(3, "over", Some(&one), Some(Timestamp(1)));
    world.begin(&two);
    let error = Signing::of(place.path(), &world.0.access, false).err().expect("no key").to_string();
    let short = Digest(pin(one.certificate())).short();
    for part in
        [short.as_str(), "trust/authority.key; it is not there", "Copy the folder trust", "--new-authority"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!place.path().join("trust").exists());

    let signing = Signing::of(place.path(), &world.0.access, true).expect("it is missing");
    let mut said = Vec::new();
    signing.tell(&world.0.access, NOW, &mut said).expect("told");
    let said = String::from_utf8(said).expect("a text");
    let commands = signing.commands(&world.0.access, TERM);
    world.ask(commands);
    let access = &world.0.access;
    let issuing = access.issuing().expect("one is there").clone();
    assert_eq!((access.authorities.len(), world.names()), (1, vec!["ada".to_owned()]));
    assert!(
        said.contains(&issuing.fingerprint.to_string()) && said.contains("are revoked: cora\n"),
        "{said}"
    );

    let placed = signing.keep(access, NodeId(9), ["127.0.0.1"], LIFETIME).expect("kept");
    placed.counts(&mut said.into_bytes()).expect("told");
    let keyring = Keyring::of_node(place.path()).expect("what was kept");
    let (authority, own) = (keyring.authority().expect("its key"), keyring.own().expect("a certificate"));
    assert_eq!(Digest(pin(authority.certificate())), issuing.fingerprint);
    assert_eq!(keyring.authorities(), [authority.certificate().to_vec()]);
    assert!(names(&own.certificate, authority.certificate()));
    assert_eq!(holder_of(&own.certificate), Some(Holder::Node(NodeId(9))));
    let error = Signing::of(place.path(), access, true).err().expect("nothing is missing").to_string();
    assert!(error.contains("nothing is missing"), "{error}");
}

#[test]
fn the_next_authority_issues_where_its_key_alone_is_here_and_is_given_up_where_it_is_not() {
    let place = tempfile::tempdir().expect("a directory");
    let (one, two, mut world) = (authority(), authority(), World::formed());
    world.put(&one);
    world.begin(&two);
    let keyring = Keyring::of_node(place.path()).expect("an empty folder");
    // As a voter has them on which the next one issues already.
    keyring.keep_authority(two).expect("kept");
    let two = keyring.authority().expect("its key");
    keyring.keep_authorities(&[&*two, &one].map(|it| it.certificate().to_vec()), &[]).expect("kept");
    let signing = Signing::of(place.path(), &world.0.access, false).expect("its key is here");
    let commands = signing.commands(&world.0.access, TERM);
    world.ask(commands);
    assert_eq!(world.0.access.issuing().map(|it| it.fingerprint.0), Some(pin(two.certificate())));
    drop(signing.keep(&world.0.access, NodeId(9), None, LIFETIME).expect("kept"));
    let keyring = Keyring::of_node(place.path()).expect("what was kept");
    let own = keyring.own().expect("a certificate").certificate;
    assert!(names(&own, two.certificate()) && keyring.authority().is_some());

    let mut world = World::formed();
    world.put(&two);
    world.begin(&one);
    let signing = Signing::of(place.path(), &world.0.access, false).expect("its key is here");
    let mut said = Vec::new();
    signing.tell(&world.0.access, NOW, &mut said).expect("told");
    assert!(String::from_utf8_lossy(&said).contains("is given up"));
    let commands = signing.commands(&world.0.access, TERM);
    world.ask(commands);
    assert_eq!(world.0.access.authorities.len(), 1);
}

#[test]
fn keys_from_before_an_authority_issued_are_good_after_it() {
    let place = tempfile::tempdir().expect("a directory");
    let keyring = Keyring::of_node(place.path()).expect("an empty folder");
    keyring.keep_authority(authority()).expect("kept");
    let one = keyring.authority().expect("its key");
    let two = keyring.keep_next(authority()).expect("kept");
    keyring.keep_authorities(&[&*one, &*two].map(|it| it.certificate().to_vec()), &[]).expect("kept");
    let access = access([of(&two, AuthorityStage::Issues)]);
    let signing = Signing::of(place.path(), &access, false).expect("its key is here");
    assert!(signing.commands(&access, TERM).is_empty());
    drop(signing.keep(&access, NodeId(9), None, LIFETIME).expect("kept"));
    let keyring = Keyring::of_node(place.path()).expect("what was kept");
    assert_eq!(keyring.authorities(), [two.certificate().to_vec()]);
    assert!(keyring.authority().is_some() && keyring.next().is_none());
    assert!(names(&keyring.own().expect("a certificate").certificate, two.certificate()));
}

#[test]
fn what_was_there_comes_back_unless_what_took_its_place_counts() {
    let place = tempfile::tempdir().expect("a directory");
    let trust = place.path().join("trust");
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let keep = || {
        let access = access([record(1, AuthorityStage::Issues)]);
        let signing = Signing::of(place.path(), &access, true).expect("no key of it is here");
        let Issuer::Made(made) = &signing.issuer else { panic!("{:?}", signing.issuer) };
        let after = self::access([of(made, AuthorityStage::Issues)]);
        signing.keep(&after, NodeId(9), None, LIFETIME).expect("kept")
    };
    drop(keep());
    assert!(!trust.exists(), "there was nothing before");

    std::fs::create_dir(&trust).expect("a folder");
    Keyring::open(&trust).and_then(|it| it.keep_authority(authority())).expect("of another cluster");
    let before = std::fs::read(trust.join("authority.key")).expect("a key");
    drop(keep());
    assert_eq!(std::fs::read(trust.join("authority.key")).expect("a key"), before);

    let mut said = Vec::new();
    keep().counts(&mut said).expect("told");
    assert_ne!(std::fs::read(trust.join("authority.key")).expect("a key"), before);
    assert_eq!((mode(&trust), mode(&trust.join("authority.key"))), (0o700, 0o600));
    let said = String::from_utf8(said).expect("a text");
    let former = said.lines().find_map(|line| line.strip_prefix("what was in that folder before is in "));
    let former = Path::new(former.expect("where it is"));
    assert_eq!(std::fs::read(former.join("authority.key")).expect("a key"), before);
}
