//! One authority takes the place of another.

use sheaf_model::view::AuthorityStatus;

use super::*;
use crate::command::{AccessCommand, BeginRotation, CreateToken, PutAuthority};
use crate::status::Sight;

const OLD: Digest = Digest([1; 32]);
const NEW: Digest = Digest([2; 32]);
/// How long certificates are good.
const LIFETIME: Span = Span::seconds(60);

/// What a node says: who signed its certificate, and whom it believes; a member has the keys of those in `keys`.
fn said(issuer: Digest, believes: &[Digest], keys: Option<&[Digest]>) -> Trusting {
    let two = |all: &[Digest]| {
        let at = |n: usize| all.get(n).map_or(0, Digest::leading);
        [at(0), at(1)]
    };
    Trusting {
        issuer: issuer.leading(),
        believes: two(believes),
        member: keys.is_some(),
        keys: two(keys.unwrap_or_default()),
    }
}

impl Leader {
    fn access(&mut self, command: AccessCommand) {
        let reply = self.world.propose(Command::Access(command));
        assert!(matches!(reply, Reply::Done(_)), "{reply:?}");
    }

    /// Secured by `OLD`, and `NEW` is to take its place.
    fn rotating(nodes: u64) -> Self {
        let mut leader = Self::new(nodes);
        let put = PutAuthority { fingerprint: OLD, certificate: b"old".as_slice().into() };
        leader.access(AccessCommand::PutAuthority(put));
        let begin = BeginRotation {
            fingerprint: NEW,
            certificate: b"new".as_slice().into(),
            bridge: b"bridge".as_slice().into(),
            lifetime: LIFETIME,
        };
        leader.access(AccessCommand::BeginRotation(begin));
        leader
    }

    fn believes(&mut self, node: u64, trust: Trusting) {
        let mut heartbeat = self.world.heartbeat(self.now);
        heartbeat.load.trust = trust;
        self.sessions.heard(NodeId(node), &heartbeat, self.now);
    }

    fn status(&self) -> AuthorityStatus {
        let sessions = Some(&self.sessions);
        let sight = Sight { state: &self.world.state, sessions, now: self.now };
        sight.authority_status(self.world.now, |der| String::from_utf8_lossy(der).into_owned())
    }

    /// Names of nodes that are waited for, each with the last words of why.
    fn waits_for(&self) -> Vec<String> {
        let word = |why: &str| why.rsplit(' ').nth(1).unwrap_or_default().to_owned();
        self.status().waits_for.into_iter().map(|wait| format!("{} {}", wait.node, word(&wait.why))).collect()
    }

    fn issuing(&self) -> Option<Digest> {
        self.world.state.access.issuing().map(|authority| authority.fingerprint)
    }
}

#[test]
fn the_next_authority_issues_once_all_that_are_there_believe_it_and_members_have_its_key() {
    let mut leader = Leader::rotating(3);
    assert_eq!(leader.status().stage, "spreading");
    assert_eq!(leader.status().waits_for.len(), 3, "nobody has said a word");
    assert!(leader.act().is_empty());
    let both = [OLD, NEW];
    leader.believes(1, said(OLD, &both, Some(&both)));
    leader.believes(2, said(OLD, &both, Some(&[OLD])));
    leader.believes(3, said(OLD, &[OLD], None));
    let status = leader.status();
    assert_eq!(status.waits_for.iter().map(|it| it.node.as_str()).collect::<Vec<_>>(), ["n2", "n3"]);
    assert!(status.waits_for[0].why.contains("the key"), "{status:?}");
    assert!(status.waits_for[1].why.starts_with("does not believe"), "{status:?}");
    leader.believes(2, said(OLD, &both, Some(&both)));
    assert!(leader.act().is_empty(), "one does not believe it");
    leader.believes(3, said(OLD, &both, None));
    assert_eq!(leader.act().len(), 1);
    assert_eq!(leader.issuing(), Some(NEW));
    assert!(leader.act().is_empty(), "once");
    assert_eq!(leader.status().stage, "renewing");
}

#[test]
fn without_anybody_who_has_the_key_nothing_goes_on() {
    let mut leader = Leader::rotating(2);
    (1..=2).for_each(|node| leader.believes(node, said(OLD, &[OLD, NEW], None)));
    assert!(leader.act().is_empty() && leader.waits_for().is_empty());
    assert_eq!(leader.issuing(), Some(OLD));
}

#[test]
fn a_node_that_is_away_is_not_waited_for() {
    let mut leader = Leader::rotating(2);
    let both = [OLD, NEW];
    leader.believes(1, said(OLD, &both, Some(&both)));
    assert!(leader.act().is_empty(), "the other is there still");
    while leader.world.state.is_alive(NodeId(2)) {
        leader.pass(Span::seconds(1), &[]);
        leader.believes(1, said(OLD, &both, Some(&both)));
        leader.act();
    }
    leader.act();
    assert_eq!(leader.issuing(), Some(NEW));
}

#[test]
fn the_former_authority_is_dropped_when_nothing_needs_it_any_more() {
    let mut leader = Leader::rotating(2);
    let both = [OLD, NEW];
    let rights = Rights::of(Role::Viewer);
    leader.access(AccessCommand::CreateToken(CreateToken {
        id: TokenId([7; 6]),
        name: TokenName::new("vera").expect("a name"),
        of: TokenUse::Certificate { rights, authority: OLD },
        digest: Digest([7; 32]),
        expires_at: None,
    }));
    (1..=2).for_each(|node| leader.believes(node, said(OLD, &both, Some(&both))));
    leader.act();
    assert_eq!(leader.waits_for(), ["n1 authority", "n2 authority"]);
    assert_eq!(leader.status().certificates, ["vera"]);
    leader.world.now = Timestamp(leader.world.now.0 + LIFETIME.0);
    assert!(leader.act().is_empty(), "both have certificates of the former one");
    (1..=2).for_each(|node| leader.believes(node, said(NEW, &[NEW, OLD], Some(&both))));
    assert_eq!(leader.status().stage, "renewed");
    assert!(leader.act().is_empty(), "vera's certificate is by the former one");
    leader.access(AccessCommand::RevokeToken(TokenId([7; 6])));
    leader.world.now = Timestamp(leader.world.now.0 - 1);
    assert!(leader.act().is_empty(), "whoever is away may still have a certificate that is good");
    leader.world.now = Timestamp(leader.world.now.0 + 1);
    assert_eq!(leader.act().len(), 1);
    assert_eq!(leader.world.state.access.authorities.len(), 1);
    assert_eq!(leader.status().stage, "settled");
    assert!(leader.act().is_empty() && leader.waits_for().is_empty());
}
