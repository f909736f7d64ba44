//! Over real connections: what browsers see, and which files are taken.

use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use sheaf_model::{Holder, NodeId, TokenId};
use sheaf_trust::{Authority, PrivateKey, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;

use super::*;
use crate::{Credentials, Pair};

static OLD: [&SupportedProtocolVersion; 1] = [&TLS12];
static NEW: [&SupportedProtocolVersion; 1] = [&TLS13];

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// A certificate of that authority for a server of these names, and its key.
fn issued(authority: &Authority, hosts: &[&str]) -> (Vec<u8>, PrivateKey) {
    let key = PrivateKey::new().unwrap();
    let holder = Holder::Node(NodeId(7));
    let certificate = authority.issue(&key.public(), holder, hosts.iter().copied(), now(), HOUR).unwrap();
    (certificate, key)
}

fn node(authority: &Authority, hosts: &[&str]) -> Credentials {
    let (certificate, key) = issued(authority, hosts);
    let own = Some(Pair { certificate, key: key.der() });
    Credentials { authorities: vec![authority.certificate().to_vec()], own, ..Credentials::default() }
}

fn identity(authority: &Authority, hosts: &[&str]) -> Identity {
    let (certificate, key) = issued(authority, hosts);
    Identity::read(encode(&[certificate]).as_bytes(), key.pem().as_bytes()).unwrap()
}

/// A browser that believes this authority.
struct Browser<'a> {
    believes: &'a Authority,
    versions: &'static [&'static SupportedProtocolVersion],
    speaks: &'static [&'static str],
}

/// What it has got.
#[derive(Debug, PartialEq)]
struct Seen {
    version: Option<ProtocolVersion>,
    protocol: Option<Vec<u8>>,
}

impl<'a> Browser<'a> {
    fn new(believes: &'a Authority) -> Self {
        Self { believes, versions: rustls::ALL_VERSIONS, speaks: &["h2", "http/1.1"] }
    }

    /// Goes to a server of that name.
    async fn go(&self, inward: &Inward, name: &str) -> Result<Seen, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inward = inward.clone();
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut taken = inward.accept(stream).await?;
            let mut asked = [0; 4];
            taken.read_exact(&mut asked).await?;
            taken.write_all(&asked).await?;
            taken.shutdown().await
        });
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.believes.certificate().to_vec())).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self.speaks.iter().map(|it| it.as_bytes().to_vec()).collect();
        let asking = async {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from(name.to_owned()).unwrap();
            let mut connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            connected.write_all(b"ask?").await?;
            let mut answered = Vec::new();
            connected.read_to_end(&mut answered).await?;
            assert_eq!(answered, b"ask?");
            let session = connected.get_ref().1;
            let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
            Ok::<_, std::io::Error>(Seen { version: session.protocol_version(), protocol })
        };
        let seen = asking.await.map_err(|error| error.to_string());
        let served = serving.await.unwrap();
        assert_eq!(seen.is_ok(), served.is_ok(), "{seen:?} {served:?}");
        seen
    }
}

#[tokio::test]
async fn browsers_of_both_versions_see_the_nodes_certificate_by_its_names() {
    let (authority, other) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let transport = Transport::tls(&node(&authority, &["n1.example.org", "10.0.0.11"])).unwrap();
    let inward = Inward::of_node(&transport).unwrap();
    for (version, versions) in [(ProtocolVersion::TLSv1_2, &OLD), (ProtocolVersion::TLSv1_3, &NEW)] {
        for name in ["n1.example.org", "10.0.0.11"] {
            let browser = Browser { versions, ..Browser::new(&authority) };
            let seen = browser.go(&inward, name).await;
            let wanted = Seen { version: Some(version), protocol: Some(b"http/1.1".to_vec()) };
            assert_eq!(seen, Ok(wanted), "{name}");
        }
    }
    Browser::new(&authority).go(&inward, "n2.example.org").await.expect_err("not its name");
    Browser::new(&other)
        .go(&inward, "n1.example.org")
        .await
        .expect_err("of an authority that is not believed");
    assert!(inward.is_for("N1.example.org") && inward.is_for("10.0.0.11") && !inward.is_for("10.0.0.12"));
    assert!(!inward.is_for("") && !inward.is_for("n1.example.org:7421") && !inward.is_operators());
}

#[tokio::test]
async fn who_speaks_the_protocol_of_nodes_alone_gets_no_connection_here() {
    let authority = Authority::new(now()).unwrap();
    let transport = Transport::tls(&node(&authority, &["n1"])).unwrap();
    let inward = Inward::of_node(&transport).unwrap();
    let nodes = Browser { speaks: &["h2"], ..Browser::new(&authority) };
    let error = nodes.go(&inward, sheaf_model::AGENT_NAME).await.expect_err("it is led astray");
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    let program = Browser { speaks: &[], ..Browser::new(&authority) };
    assert_eq!(program.go(&inward, "n1").await.map(|seen| seen.protocol), Ok(None), "curl need not say");
}

#[tokio::test]
async fn a_node_shows_what_it_has_now() {
    let (first, second) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let transport = Transport::tls(&Credentials::default()).unwrap();
    let inward = Inward::of_node(&transport).unwrap();
    assert_eq!((inward.not_after(), inward.is_for("n1")), (None, false));
    Browser::new(&first).go(&inward, "n1").await.expect_err("it has none yet");
    for authority in [&first, &second] {
        transport.replace(&node(authority, &["n1"])).unwrap();
        assert!(Browser::new(authority).go(&inward, "n1").await.is_ok());
    }
    Browser::new(&first).go(&inward, "n1").await.expect_err("another one issues now");
    // Nobody's files take the place of it.
    inward.replace(identity(&first, &["n1"]));
    assert!(Browser::new(&second).go(&inward, "n1").await.is_ok());
}

#[tokio::test]
async fn what_an_operator_puts_in_its_place_is_shown_from_then_on() {
    let (first, second) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
    let inward = Inward::of_operator(identity(&first, &["sheaf.example.org"])).unwrap();
    assert!(inward.is_operators() && inward.is_for("sheaf.example.org"));
    assert!(Browser::new(&first).go(&inward, "sheaf.example.org").await.is_ok());
    inward.replace(identity(&second, &["sheaf.example.net"]));
    assert!(Browser::new(&second).go(&inward, "sheaf.example.net").await.is_ok());
    assert!(!inward.is_for("sheaf.example.org"));
    Browser::new(&first).go(&inward, "sheaf.example.org").await.expect_err("that one is gone");
}

#[test]
fn a_pair_is_read_with_its_dates_and_names() {
    let authority = Authority::new(now()).unwrap();
    let read = identity(&authority, &["a.example.org", "10.0.0.1"]);
    let left = now().until(read.not_after());
    assert!(left <= HOUR && left > HOUR - Duration::from_secs(60), "{left:?}");
    assert!(read.not_before() < now() && read.not_before().until(now()) < 2 * HOUR);
    assert!(read.names().contains(&"a.example.org".to_owned()) && read.is_for("10.0.0.1"));
    assert!(!format!("{read:?}").contains("key"), "{read:?}");
}

#[test]
fn what_is_wrong_with_a_pair_is_said() {
    let authority = Authority::new(now()).unwrap();
    let (certificate, key) = issued(&authority, &["a.example.org"]);
    let (other, other_key) = issued(&authority, &["b.example.org"]);
    let (good, key, other_key) = (encode(std::slice::from_ref(&certificate)), key.pem(), other_key.pem());
    let (chain, late) =
        (encode(&[certificate.clone(), other.clone()]), encode(&[other, certificate.clone()]));
    let client = {
        let (key, holder) = (PrivateKey::new().unwrap(), Holder::Person(TokenId([1; 6])));
        let certificate = authority.issue(&key.public(), holder, None, now(), HOUR).unwrap();
        (encode(&[certificate]), key.pem())
    };
    let spoilt = encode(&[certificate[..certificate.len() / 2].to_vec()]);
    let [good, key, other_key] = [&good, &key, &other_key].map(String::as_str);
    let [chain, late, spoilt] = [&chain, &late, &spoilt].map(String::as_str);
    Identity::read(chain.as_bytes(), key.as_bytes()).expect("what comes after the first is not judged");
    // Some programs keep both in one file.
    let both = format!("{key}{good}");
    Identity::read(both.as_bytes(), both.as_bytes()).expect("each finds its own");
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let noise = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (certificates, key, said) in [
        ("", key, "no certificate in PEM"),
        (key, key, "no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\n!\n", key, "the certificate's file is damaged"),
        (spoilt, key, "the certificate's file is damaged"),
        (good, "", "no private key in PEM that opens without a passphrase"),
        (good, good, "no private key in PEM"),
        (good, sealed, "without a passphrase"),
        (good, noise, "the key cannot be used"),
        (good, other_key, "the key does not belong to the certificate"),
        (late, key, "the key belongs to certificate 2 of the file"),
        (client.0.as_str(), client.1.as_str(), "for other uses than that (extended key usage)"),
    ] {
        let error = Identity::read(certificates.as_bytes(), key.as_bytes()).expect_err(said).to_string();
        assert!(error.contains(said), "{said:?} in {error:?}");
        assert!(!error.contains("MIG") && !error.contains("AAAA"), "{error}");
    }
}

#[test]
fn what_is_over_is_read_and_says_since_when() {
    let authority = Authority::new(now()).unwrap();
    let key = PrivateKey::new().unwrap();
    let before = Timestamp(now().0 - 7_200_000);
    let holder = Holder::Node(NodeId(1));
    let certificate = authority.issue(&key.public(), holder, ["a"], before, HOUR / 2).unwrap();
    let ended = not_after(&certificate);
    let read = Identity::read(encode(&[certificate]).as_bytes(), key.pem().as_bytes()).unwrap();
    assert_eq!((ended, not_after(b"nothing")), (Some(read.not_after()), None));
    assert!(read.not_after() < now() && read.not_before() < read.not_after());
}
