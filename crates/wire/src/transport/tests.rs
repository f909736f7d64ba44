//! Over real connections: who is let in, as whom, and what others are told.

use std::time::Duration;

use sheaf_model::{Contact, Holder, NodeId, Timestamp};
use sheaf_trust::{Authority, PrivateKey};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ApiError;
use crate::client::{Pings, endpoint, explain};
use crate::peer::{HelloAsk, PeerClient};

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

fn pair(authority: &Authority, holder: Holder) -> Pair {
    let key = PrivateKey::new().unwrap();
    let lifetime = Duration::from_secs(3600);
    let certificate = authority.issue(&key.public(), holder, None, now(), lifetime).unwrap();
    Pair { certificate, key: key.der() }
}

fn node(authority: &Authority, number: u64) -> Credentials {
    Credentials {
        authorities: vec![authority.certificate().to_vec()],
        own: Some(pair(authority, Holder::Node(NodeId(number)))),
        ..Credentials::default()
    }
}

fn joining(secret: u8) -> Credentials {
    let authority = Authority::of_secret(&[secret; 32]).unwrap();
    let join = Join { authority: authority.certificate().to_vec(), pair: pair(&authority, Holder::Joining) };
    Credentials { join: Some(join), ..Credentials::default() }
}

/// What a server with these credentials knows of a client with those; else what the client is told.
async fn meet(server: &Credentials, client: &Transport) -> Result<Option<Holder>, String> {
    let server = Transport::tls(server).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        use tokio::io::AsyncReadExt as _;
        use tonic::transport::server::Connected as _;
        let mut taken = server.accept(stream).await.map_err(|error| error.to_string())?;
        let arrived = taken.connect_info();
        // The client's first bytes, so that it sees the handshake's end.
        let _ = taken.read(&mut [0; 16]).await;
        Ok::<_, String>(arrived.holder)
    });
    let endpoint = endpoint(&address, Duration::from_secs(3), Pings::default()).unwrap();
    let connected = client.connect(&endpoint).await.map_err(|error| explain(&error));
    if connected.is_err() {
        // It may never have come so far.
        serving.abort();
    }
    connected?;
    serving.await.unwrap()
}

fn client(credentials: &Credentials) -> Transport {
    Transport::tls(credentials).unwrap()
}

#[tokio::test]
async fn nodes_know_each_other_by_their_certificates() {
    let authority = Authority::new(now()).unwrap();
    let seven = client(&node(&authority, 7));
    assert_eq!(meet(&node(&authority, 1), &seven).await, Ok(Some(Holder::Node(NodeId(7)))));
    let person = client(&Credentials {
        authorities: vec![authority.certificate().to_vec()],
        ..Credentials::default()
    });
    assert_eq!(meet(&node(&authority, 1), &person).await, Ok(None));
}

#[tokio::test]
async fn who_is_of_another_cluster_is_refused_on_both_sides() {
    let (authority, other) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let error = meet(&node(&authority, 1), &client(&node(&other, 1))).await.unwrap_err();
    assert!(error.contains("it belongs to another cluster"), "{error}");
    // It trusts the server, but shows what the server does not trust.
    let mixed = Credentials { own: node(&other, 1).own, ..node(&authority, 1) };
    let server = meet(&node(&authority, 1), &client(&mixed)).await;
    assert!(server.is_err(), "{server:?}");
}

/// The same credentials, over which only that node is dialled.
fn wanting(number: u64, credentials: &Credentials) -> Transport {
    client(credentials).to(Some(NodeId(number)))
}

const NINE: &str = "node 9 answers there, as its certificate says, and not node 7";

#[tokio::test]
async fn who_answers_must_be_the_node_that_was_dialled() {
    let authority = Authority::new(now()).unwrap();
    let nine = node(&authority, 9);
    // Whoever has taken node 9's certificate stands in node 7's place.
    for dials in [node(&authority, 1), Credentials { own: None, ..node(&authority, 1) }] {
        let error = meet(&nine, &wanting(7, &dials)).await.unwrap_err();
        assert!(error.contains(NINE), "{error}");
        let shown = dials.own.as_ref().map(|_| Holder::Node(NodeId(1)));
        assert_eq!(meet(&nine, &wanting(9, &dials)).await, Ok(shown));
        assert_eq!(meet(&nine, &client(&dials)).await, Ok(shown), "it is not known who is there");
        assert_eq!(meet(&nine, &wanting(7, &dials).to(None)).await, Ok(shown));
    }
    let error = meet(&node(&Authority::new(now()).unwrap(), 7), &wanting(7, &node(&authority, 1))).await;
    assert!(error.unwrap_err().contains("it belongs to another cluster"));
    // The certificate of a person is none to answer with, whoever is wanted.
    let person = pair(&authority, Holder::Person(sheaf_model::TokenId([7; 6])));
    let person = Credentials { own: Some(person), ..node(&authority, 7) };
    assert!(meet(&person, &wanting(7, &node(&authority, 1))).await.is_err());
}

#[tokio::test]
async fn who_it_is_counts_by_a_pin_and_while_one_authority_takes_the_place_of_another() {
    let (old, new) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let person = pins(&old);
    let error = meet(&node(&old, 9), &person.to(Some(NodeId(7)))).await.unwrap_err();
    assert!(error.contains(NINE), "{error}");
    assert_eq!(meet(&node(&old, 7), &person.to(Some(NodeId(7)))).await, Ok(None));
    assert_eq!(person.pinned().as_deref(), Some(old.certificate()));
    // Certificates of the next authority, known by its bridge alone, and of both.
    for dials in [node(&old, 2), renewed(&old, &new, 2)] {
        let error = meet(&renewed(&old, &new, 9), &wanting(7, &dials)).await.unwrap_err();
        assert!(error.contains(NINE), "{error}");
        let met = meet(&renewed(&old, &new, 7), &wanting(7, &dials)).await;
        assert_eq!(met, Ok(Some(Holder::Node(NodeId(2)))));
    }
}

#[tokio::test]
async fn a_join_secret_says_of_nobody_which_node_it_is() {
    assert_eq!(meet(&joining(1), &wanting(7, &joining(1))).await, Ok(Some(Holder::Joining)));
    let authority = Authority::new(now()).unwrap();
    let both = Credentials { join: joining(1).join, ..node(&authority, 9) };
    assert_eq!(meet(&both, &wanting(7, &joining(1))).await, Ok(Some(Holder::Joining)));
}

/// A port where a node with these credentials takes connections, and how many were made there.
async fn serving(credentials: &Credentials) -> (String, Arc<std::sync::atomic::AtomicUsize>) {
    let (server, taken) = (client(credentials), Arc::<std::sync::atomic::AtomicUsize>::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, counted) = (listener.local_addr().unwrap().to_string(), taken.clone());
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            connections.extend(server.accept(stream).await);
        }
    });
    (address, taken)
}

#[tokio::test]
async fn whoever_dials_a_node_is_told_who_answers_and_does_not_ask_it_again_at_once() {
    let authority = Authority::new(now()).unwrap();
    let (address, taken) = serving(&node(&authority, 9)).await;
    let dials = client(&node(&authority, 1));
    let peer = PeerClient::new(&Contact::of(NodeId(7), &address), &dials).unwrap();
    for _ in 0..3 {
        let ask = HelloAsk { instance: "i".into(), key: "k".into(), cluster: None, node: None, nonce: None };
        let error = peer.hello(ask, Duration::from_secs(3)).await.unwrap_err();
        assert!(matches!(&error, ApiError::Unreachable { why, .. } if why.contains(NINE)), "{error:?}");
    }
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 1);
    // The node that came under another number to the same address is reached by it.
    let endpoint = endpoint(&address, Duration::from_secs(3), Pings::default()).unwrap();
    dials.to(Some(NodeId(9))).connect(&endpoint).await.unwrap();
    assert_eq!(taken.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_join_secret_makes_nobody_a_node() {
    let authority = Authority::new(now()).unwrap();
    let both = Credentials { join: joining(1).join, ..node(&authority, 1) };
    assert_eq!(meet(&both, &client(&joining(1))).await, Ok(Some(Holder::Joining)));
    assert_eq!(meet(&joining(1), &client(&joining(1))).await, Ok(Some(Holder::Joining)));
    let error = meet(&both, &client(&joining(2))).await.unwrap_err();
    assert!(!error.is_empty());
    // The secret's authority signs a node: no.
    let secret = Authority::of_secret(&[1; 32]).unwrap();
    let forged = Credentials {
        authorities: vec![authority.certificate().to_vec()],
        own: Some(pair(&secret, Holder::Node(NodeId(7)))),
        ..Credentials::default()
    };
    assert!(meet(&both, &client(&forged)).await.is_err());
    // A node without the secret has nothing to show to who asks for it.
    assert!(meet(&node(&authority, 1), &client(&joining(1))).await.is_err());
}

#[tokio::test]
async fn a_pin_leads_to_the_authority_and_to_no_other() {
    let (authority, other) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let pinned = authority.certificate().to_vec();
    let pin: Pin = Arc::new(move |der| der == pinned);
    let person = || client(&Credentials { pin: Some(pin.clone()), ..Credentials::default() });
    let first = person();
    assert_eq!(meet(&node(&authority, 1), &first).await, Ok(None));
    assert_eq!(first.pinned().as_deref(), Some(authority.certificate()));
    let second = person();
    assert!(meet(&node(&other, 1), &second).await.is_err());
    assert_eq!(second.pinned(), None);
}

fn pins(authority: &Authority) -> Transport {
    let pinned = authority.certificate().to_vec();
    let pin: Pin = Arc::new(move |der| der == pinned);
    client(&Credentials { pin: Some(pin), ..Credentials::default() })
}

/// A node with a certificate of `new`, while `old` is believed still.
fn renewed(old: &Authority, new: &Authority, number: u64) -> Credentials {
    let authorities = [new, old].map(|one| one.certificate().to_vec()).to_vec();
    let bridges = vec![old.vouch_for(new, now()).unwrap()];
    Credentials { authorities, bridges, ..node(new, number) }
}

#[tokio::test]
async fn who_believes_the_former_authority_alone_believes_the_next_until_the_former_is_dropped() {
    let (old, new) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let person = pins(&old);
    assert_eq!(meet(&node(&old, 1), &person).await, Ok(None));
    assert_eq!((person.pinned().as_deref(), person.successor()), (Some(old.certificate()), None));
    assert_eq!(meet(&renewed(&old, &new, 1), &person).await, Ok(None));
    assert_eq!(person.successor().as_deref(), Some(new.certificate()));
    assert_eq!(person.pinned().as_deref(), Some(old.certificate()));
    // A node that was away: it has a certificate of the former one and believes that one alone.
    let away = client(&node(&old, 2));
    assert_eq!(meet(&renewed(&old, &new, 1), &away).await, Ok(Some(Holder::Node(NodeId(2)))));

    assert_eq!(meet(&node(&new, 1), &person).await, Ok(None), "it has learned the next one in time");
    let error = meet(&node(&new, 1), &pins(&old)).await.unwrap_err();
    assert!(error.contains("has replaced its authority since the token was made"), "{error}");
    let error = meet(&node(&new, 1), &away).await.unwrap_err();
    assert!(error.contains(JOINS_ANEW), "{error}");
    // One that was told of the next authority, and shows what the others believe no more.
    let late = Credentials { own: node(&old, 2).own, ..renewed(&old, &new, 2) };
    assert!(meet(&node(&new, 1), &client(&late)).await.is_err());
}

#[tokio::test]
async fn an_authority_that_merely_comes_along_is_not_believed() {
    let (old, evil) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let person = pins(&old);
    // A node of the cluster that sends what it made up; the second one vouches for itself.
    for vouching in [&old, &evil] {
        let sent = Credentials {
            authorities: [&old, &evil].map(|one| one.certificate().to_vec()).to_vec(),
            bridges: vec![evil.vouch_for(vouching, now()).unwrap()],
            ..node(&old, 1)
        };
        assert_eq!(meet(&sent, &person).await, Ok(None));
        assert_eq!(person.successor(), None);
    }
    assert!(meet(&node(&evil, 1), &person).await.is_err());
    // One that is vouched for, but has not signed anything yet: it may never.
    let next = renewed(&old, &evil, 1);
    let early = Credentials { own: node(&old, 1).own, ..next };
    assert_eq!(meet(&early, &person).await, Ok(None));
    assert_eq!(person.successor(), None);
}

#[tokio::test]
async fn an_expired_certificate_is_told_as_such() {
    let authority = Authority::new(now()).unwrap();
    let key = PrivateKey::new().unwrap();
    let before = Timestamp(now().0 - 7_200_000);
    let holder = Holder::Node(NodeId(1));
    let certificate = authority.issue(&key.public(), holder, None, before, Duration::from_secs(60)).unwrap();
    let own = Some(Pair { certificate, key: key.der() });
    let expired = Credentials { own, ..node(&authority, 1) };
    let error = meet(&expired, &client(&node(&authority, 2))).await.unwrap_err();
    assert!(error.contains("compare the clocks"), "{error}");
}

#[tokio::test]
async fn what_is_there_later_counts_from_then_on() {
    let authority = Authority::new(now()).unwrap();
    let transport = client(&Credentials::default());
    assert!(meet(&node(&authority, 1), &transport).await.unwrap_err().contains("neither a certificate"));
    transport.replace(&node(&authority, 3)).unwrap();
    assert_eq!(meet(&node(&authority, 1), &transport).await, Ok(Some(Holder::Node(NodeId(3)))));
}

#[tokio::test]
async fn who_does_not_speak_tls_gets_no_connection() {
    let authority = Authority::new(now()).unwrap();
    let error = meet(&node(&authority, 1), &Transport::plain()).await;
    assert!(error.is_err(), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let endpoint = endpoint(&address.to_string(), Duration::from_secs(3), Pings::default()).unwrap();
    let error = client(&node(&authority, 1)).connect(&endpoint).await.unwrap_err();
    assert!(explain(&error).contains("it does not speak TLS"), "{}", explain(&error));
    serving.await.unwrap();
}
