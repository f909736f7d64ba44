use sheaf_model::{
    AuthorityStage, Digest, NodeId, Prefix, Rights, Role, Span, TOKENS_MAX, Term, Timestamp, TokenId,
    TokenName, TokenUse,
};

use crate::command::{
    AccessCommand, Admit, BeginRotation, Command, CreateToken, ExpireToken, IssueBy, PutAuthority, Register,
    Reply, RetireAuthority,
};
use crate::testing::World;
use crate::{Change, State};

fn ask(world: &mut World, command: AccessCommand) -> Reply {
    world.propose(Command::Access(command))
}

fn create(id: u8, name: &str, expires_at: Option<Timestamp>) -> AccessCommand {
    let prefix = Prefix::new("/team-a/").expect("a prefix");
    AccessCommand::CreateToken(CreateToken {
        id: TokenId([id; 6]),
        name: TokenName::new(name).expect("a name"),
        of: TokenUse::User(Rights::new(Role::Operator, Some(prefix)).expect("a rights")),
        digest: Digest([0xda; 32]),
        expires_at,
    })
}

fn authority(n: u8) -> AccessCommand {
    let certificate = [n; 100].as_slice().into();
    AccessCommand::PutAuthority(PutAuthority { fingerprint: Digest([n; 32]), certificate })
}

fn refusal(reply: Reply) -> String {
    match reply {
        Reply::Refused(refusal) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

/// What history tells, a line for each event of these kinds.
fn told(world: &World, kind: &str) -> Vec<String> {
    let events = world.changes.iter().filter_map(|change| match change {
        Change::Event(event) if event.kind.starts_with(kind) => Some(event),
        _ => None,
    });
    events
        .map(|it| {
            format!(
                "{} {} by {}: {} -> {}; {}",
                it.kind, it.subject, it.actor, it.before, it.after, it.message
            )
        })
        .collect()
}

#[test]
fn tokens_come_and_go_and_history_tells_nothing_of_their_secrets() {
    let mut world = World::with_nodes(1);
    let until = Timestamp(2_000_000);
    assert!(matches!(ask(&mut world, create(1, "alice", None)), Reply::Done(_)));
    assert!(matches!(ask(&mut world, create(2, "ci", Some(until))), Reply::Done(_)));
    let taken = refusal(ask(&mut world, create(3, "alice", None)));
    assert!(taken.starts_with("there is a token alice already; "), "{taken}");
    assert!(refusal(ask(&mut world, create(2, "bob", None))).contains("try again"));
    assert_eq!(world.state.access.named("ci").map(|token| token.created_by.as_str()), Some("test"));

    let expire =
        |expires_at, term| AccessCommand::ExpireToken(ExpireToken { id: TokenId([2; 6]), expires_at, term });
    let term = world.term;
    assert!(refusal(ask(&mut world, expire(Timestamp(1), term))).starts_with("stale: "));
    assert!(refusal(ask(&mut world, expire(until, sheaf_model::Term(9)))).starts_with("stale: "));
    assert!(matches!(ask(&mut world, expire(until, term)), Reply::Done(_)));
    assert!(matches!(ask(&mut world, AccessCommand::RevokeToken(TokenId([1; 6]))), Reply::Done(_)));
    let gone = refusal(ask(&mut world, AccessCommand::RevokeToken(TokenId([1; 6]))));
    assert_eq!(gone, "there is no token 010101010101");
    assert!(world.state.access.tokens.is_empty());

    let lines = told(&world, "token.");
    assert_eq!(
        lines[0],
        "token.created alice by test:  -> operator on /team-a/; operator on /team-a/ with id 010101010101"
    );
    assert!(lines[1].ends_with(&format!("with id 020202020202, until {until}")), "{}", lines[1]);
    assert!(lines[2].starts_with("token.expired ci by test: operator on /team-a/ -> ; "), "{}", lines[2]);
    assert!(lines[3].starts_with("token.revoked alice by test: "), "{}", lines[3]);
    assert!(lines.len() == 4 && !lines.iter().any(|line| line.contains("dada")), "{lines:?}");
}

#[test]
fn tokens_are_bounded() {
    let mut world = World::with_nodes(1);
    for n in 0..TOKENS_MAX {
        let mut id = [0; 6];
        id[..2].copy_from_slice(&u16::try_from(n).expect("few").to_be_bytes());
        let AccessCommand::CreateToken(create) = create(0, &format!("t{n}"), None) else { unreachable!() };
        ask(&mut world, AccessCommand::CreateToken(CreateToken { id: TokenId(id), ..create }));
    }
    assert_eq!(world.state.access.tokens.len(), TOKENS_MAX);
    assert!(refusal(ask(&mut world, create(9, "more", None))).contains("which is the most"));
}

#[test]
fn the_authority_added_last_issues_and_stays() {
    let mut world = World::with_nodes(1);
    let issuing = |state: &State| state.access.issuing().map(|it| it.fingerprint.0[0]);
    assert_eq!(issuing(&world.state), None);
    assert!(matches!(ask(&mut world, authority(9)), Reply::Done(_)));
    assert!(matches!(ask(&mut world, authority(9)), Reply::Unchanged(_)));
    assert!(matches!(ask(&mut world, authority(1)), Reply::Done(_)));
    assert_eq!(issuing(&world.state), Some(1));
    let last = refusal(ask(&mut world, AccessCommand::DropAuthority(Digest([1; 32]))));
    assert!(last.ends_with("issues the certificates of this cluster; add another one first"), "{last}");
    assert!(matches!(ask(&mut world, AccessCommand::DropAuthority(Digest([9; 32]))), Reply::Done(_)));
    assert!(refusal(ask(&mut world, AccessCommand::DropAuthority(Digest([9; 32])))).contains("no authority"));
    assert_eq!(told(&world, "authority.").len(), 3);

    let mut copy = State { revision: world.state.revision, ..State::default() };
    world.state.rows().for_each(|row| copy.put(&row));
    assert_eq!(copy.access, world.state.access);
}

fn begin(n: u8) -> AccessCommand {
    let certificate = || [n; 100].as_slice().into();
    AccessCommand::BeginRotation(BeginRotation {
        fingerprint: Digest([n; 32]),
        certificate: certificate(),
        bridge: certificate(),
        lifetime: Span::seconds(60),
    })
}

fn issue(n: u8, term: Term) -> AccessCommand {
    AccessCommand::IssueBy(IssueBy { fingerprint: Digest([n; 32]), term })
}

fn stages(world: &World) -> Vec<(u8, AuthorityStage, bool)> {
    let authorities = world.state.access.authorities.iter();
    authorities.map(|it| (it.fingerprint.0[0], it.stage, it.bridge.is_some())).collect()
}

#[test]
fn another_authority_is_believed_first_then_issues_and_then_is_alone() {
    let mut world = World::with_nodes(1);
    let term = world.term;
    assert!(refusal(ask(&mut world, begin(2))).contains("nothing is secured"));
    ask(&mut world, authority(1));
    assert!(matches!(ask(&mut world, begin(2)), Reply::Done(_)));
    assert!(matches!(ask(&mut world, begin(2)), Reply::Unchanged(_)));
    assert!(refusal(ask(&mut world, begin(3))).contains("is being replaced already"));
    let lifetime = Span::seconds(60);
    let next = AuthorityStage::Next { lifetime };
    assert_eq!(stages(&world), [(1, AuthorityStage::Issues, false), (2, next, true)]);
    assert_eq!(world.state.access.issuing().map(|it| it.fingerprint.0[0]), Some(1));

    assert!(refusal(ask(&mut world, issue(3, term))).starts_with("stale: "));
    assert!(refusal(ask(&mut world, issue(2, Term(9)))).starts_with("stale: "));
    assert!(matches!(ask(&mut world, issue(2, term)), Reply::Done(_)));
    let until = Timestamp(world.now.0 + lifetime.0);
    let former = AuthorityStage::Former { until };
    assert_eq!(stages(&world), [(1, former, false), (2, AuthorityStage::Issues, true)]);
    assert!(refusal(ask(&mut world, issue(2, term))).starts_with("stale: "));
    assert!(refusal(ask(&mut world, begin(3))).contains("is being replaced already"), "not over yet");

    let retire = |fingerprint, until, term| {
        AccessCommand::RetireAuthority(RetireAuthority {
            fingerprint: Digest([fingerprint; 32]),
            until,
            term,
        })
    };
    for stale in [retire(1, Timestamp(1), term), retire(2, until, term), retire(1, until, Term(9))] {
        assert!(refusal(ask(&mut world, stale)).starts_with("stale: "));
    }
    assert!(matches!(ask(&mut world, retire(1, until, term)), Reply::Done(_)));
    assert_eq!(
        stages(&world),
        [(2, AuthorityStage::Issues, false)],
        "the bridge came from the one that is gone"
    );

    // One that never issued can be dropped again.
    ask(&mut world, begin(3));
    assert!(matches!(ask(&mut world, AccessCommand::DropAuthority(Digest([3; 32]))), Reply::Done(_)));
    let lines = told(&world, "authority.");
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        kinds,
        [
            "authority.added",
            "authority.added",
            "authority.issues",
            "authority.dropped",
            "authority.added",
            "authority.dropped"
        ]
    );
    assert!(
        lines[2].contains("by test") && lines[2].ends_with(&format!("are good until {until}")),
        "{lines:?}"
    );
    assert!(lines[5].ends_with("it never issued"), "{lines:?}");
    let mut copy = State { revision: world.state.revision, ..State::default() };
    world.state.rows().for_each(|row| copy.put(&row));
    assert_eq!(copy.access, world.state.access);
}

#[test]
fn whom_to_believe_begins_with_who_issues() {
    let mut world = World::with_nodes(1);
    let term = world.term;
    let believed = |world: &World| {
        let (authorities, bridges) = world.state.access.certificates();
        (authorities.iter().map(|der| der[0]).collect::<Vec<_>>(), bridges.len())
    };
    assert_eq!(believed(&world), (vec![], 0));
    ask(&mut world, authority(1));
    ask(&mut world, begin(2));
    assert_eq!(believed(&world), (vec![1, 2], 1));
    ask(&mut world, issue(2, term));
    assert_eq!(believed(&world), (vec![2, 1], 1));
}

#[test]
fn an_authority_that_certificates_of_people_need_is_dropped_by_nobody() {
    let mut world = World::with_nodes(1);
    let (term, now) = (world.term, world.now);
    ask(&mut world, authority(1));
    let by_certificate = |id: u8, name: &str, expires_at| {
        let rights = Rights::of(Role::Viewer);
        let of = TokenUse::Certificate { rights, authority: Digest([1; 32]) };
        let AccessCommand::CreateToken(token) = create(id, name, expires_at) else { unreachable!() };
        AccessCommand::CreateToken(CreateToken { of, ..token })
    };
    ask(&mut world, by_certificate(1, "vera", None));
    ask(&mut world, by_certificate(2, "over", Some(now)));
    ask(&mut world, begin(2));
    ask(&mut world, issue(2, term));
    let drop = || AccessCommand::DropAuthority(Digest([1; 32]));
    let why = refusal(ask(&mut world, drop()));
    assert!(why.contains("(vera)") && why.ends_with("sheaf cluster token revoke vera"), "{why}");
    ask(&mut world, AccessCommand::RevokeToken(TokenId([1; 6])));
    assert!(matches!(ask(&mut world, drop()), Reply::Done(_)));
}

#[test]
fn a_node_may_vote_if_what_it_joined_with_says_so() {
    let mut world = World::with_nodes(1);
    let admit = |world: &World, may_vote| {
        let register = Register { key: "k2".into(), facts: world.facts("n2") };
        AccessCommand::Admit(Admit { register, may_vote })
    };
    let may_vote = |world: &World, node| world.state.nodes.get(&NodeId(node)).map(|node| node.may_vote);
    assert_eq!(may_vote(&world, 1), Some(true), "where nothing is secured all may");
    let command = admit(&world, false);
    assert_eq!(ask(&mut world, command), Reply::Registered(NodeId(2)));
    assert_eq!(may_vote(&world, 2), Some(false));
    world.register("k2", "n2");
    assert_eq!(may_vote(&world, 2), Some(false), "facts do not change it");
    let command = admit(&world, true);
    assert_eq!(ask(&mut world, command), Reply::Registered(NodeId(2)));
    assert_eq!(may_vote(&world, 2), Some(true));
}
