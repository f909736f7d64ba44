use sheaf_model::{NodeId, Rights, Role, Span, TokenId, TokenName, TokenText};
use sheaf_trust::{Authority, Person, PrivateKey};
use sheaf_wire::cluster::{ClusterApi, ListTokens, RevokeToken};
use sheaf_wire::{Admitted, Bearer, Guard, Need, Presented};

use super::*;
use crate::trust::tests::{Secured, keyring, now};

const HOUR: Duration = Duration::from_secs(3600);

async fn made(world: &Secured, name: &str, rights: Rights) -> (Person, TokenId) {
    let key = PrivateKey::new().expect("a key");
    let name = TokenName::new(name).expect("a name");
    let public_key = key.public().raw().to_vec();
    let ask = CreateCertificate { name, rights, ttl: Some(Span::seconds(3600)), public_key };
    let made = world.control.create_certificate(Caller::local("test"), ask).await.expect("made");
    assert!(made.row.certificate && made.row.expires_at.is_some(), "{:?}", made.row);
    let id = TokenId::parse(&made.row.id).expect("an id");
    (Person::new(made.cluster.0, id, made.certificate, key, made.authority), id)
}

async fn shown(world: &Secured, text: &str, need: Need) -> Result<Admitted, ApiError> {
    let token = Some(Bearer::parse(text).expect("it can be read"));
    Guard::admit(&world.control, Presented { token, ..Presented::default() }, need).await
}

/// Refused, and why.
async fn refused_as(world: &Secured, text: &str) -> String {
    match shown(world, text, Need::Viewer).await {
        Err(ApiError::Unauthenticated(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(now().0.saturating_add_signed(seconds * 1000))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_proves_as_much_as_a_token_until_it_is_revoked() {
    let world = Secured::start().await;
    let (vera, id) = made(&world, "vera", Rights::of(Role::Viewer)).await;
    let signed = vera.sign(now()).expect("signed");
    let admitted = shown(&world, &signed, Need::Viewer).await.expect("let in");
    assert_eq!(admitted.to_string(), "vera (viewer)");
    assert!(matches!(shown(&world, &signed, Need::Operator).await, Err(ApiError::Forbidden(_))));
    assert!(shown(&world, &signed, Need::Viewer).await.is_ok(), "as often as it likes, for minutes");
    let over = vera.sign(at(-400)).expect("signed");
    assert!(refused_as(&world, &over).await.contains("compare the clocks"));
    let early = vera.sign(at(100)).expect("signed");
    assert!(refused_as(&world, &early).await.contains("compare the clocks"));
    // Its id and what everybody may know of it are no token.
    let guess = TokenText::new(id, [0; 32], None).reveal();
    assert!(refused_as(&world, &guess).await.contains("is not known here"));

    let caller = || Caller::local("test");
    let list = world.control.list_tokens(caller(), ListTokens::default()).await.expect("a list");
    assert_eq!((list.rows.len(), list.rows[0].certificate), (1, true));
    let revoke = RevokeToken { token: "vera".to_owned(), request: None };
    world.control.revoke_token(caller(), revoke).await.expect("revoked");
    let signed = vera.sign(now()).expect("signed");
    assert!(refused_as(&world, &signed).await.contains("is not known here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_cluster_has_not_made_proves_nothing_whoever_signed_it() {
    let world = Secured::start().await;
    let (vera, id) = made(&world, "vera", Rights::of(Role::Admin)).await;
    let ours = keyring(&world.control.place.trust).authority().expect("the key is here");
    let foreign = Authority::new(now()).expect("an authority");
    let cases: [(&Authority, Holder, &str); 3] = [
        (&foreign, Holder::Person(id), "signed by no authority of this cluster"),
        (&*ours, Holder::Person(id), "not the one that the cluster has made"),
        (&*ours, Holder::Node(NodeId(1)), "not that of the person"),
    ];
    for (authority, holder, why) in cases {
        let key = PrivateKey::new().expect("a key");
        let certificate = authority.issue(&key.public(), holder, None, now(), HOUR).expect("signed");
        let liar = Person::new("c".to_owned(), id, certificate, key, Vec::new());
        let said = refused_as(&world, &liar.sign(now()).expect("signed")).await;
        assert!(said.contains(why), "{said}");
    }
    // A token with that id would be one whose secret nobody has.
    let create = |name: &str, public_key: Vec<u8>| CreateCertificate {
        name: TokenName::new(name).expect("a name"),
        rights: Rights::of(Role::Viewer),
        ttl: None,
        public_key,
    };
    let again = create("vera", PrivateKey::new().expect("a key").public().raw().to_vec());
    let taken = world.control.create_certificate(Caller::local("test"), again).await;
    assert!(matches!(taken, Err(ApiError::Conflict(_))), "{taken:?}");
    let bad = world.control.create_certificate(Caller::local("test"), create("olaf", vec![4; 64])).await;
    assert!(matches!(bad, Err(ApiError::Invalid(_))), "{bad:?}");
    assert!(shown(&world, &vera.sign(now()).expect("signed"), Need::Admin).await.is_ok());
}
