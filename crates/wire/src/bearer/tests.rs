use rustls::pki_types::pem::PemObject as _;
use sheaf_model::NodeId;
use sheaf_trust::{Authority, Person, PrivateKey};

use super::*;

const ID: TokenId = TokenId([0xab; 6]);
const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    Timestamp(1_800_000_000_000)
}

fn later(seconds: u64) -> Timestamp {
    Timestamp(now().0 + seconds * 1000)
}

fn authority() -> Authority {
    Authority::new(now()).unwrap()
}

/// Somebody with a certificate for that holder, good for an hour.
fn person(authority: &Authority, holder: Holder, id: TokenId) -> Person {
    let key = PrivateKey::new().unwrap();
    let certificate = authority.issue(&key.public(), holder, None, now(), 60 * MINUTE).unwrap();
    Person::new("c0ffee".to_owned(), id, certificate, key, authority.certificate().to_vec())
}

fn parsed(text: &str) -> Signed {
    match Bearer::parse(text) {
        Ok(Bearer::Signed(signed)) => signed,
        other => panic!("{other:?}"),
    }
}

/// What is said of it at that time, by who believes this authority.
fn judged(text: &str, authority: &Authority, at: Timestamp) -> Result<Vec<u8>, String> {
    parsed(text).verify(&ClusterId::from("c0ffee"), &[authority.certificate().to_vec()], at)
}

#[test]
fn what_a_person_signs_is_good_for_minutes_and_gives_its_key() {
    let authority = authority();
    let vera = person(&authority, Holder::Person(ID), ID);
    let text = vera.sign(now()).unwrap();
    let pem = vera.pem();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(judged(&text, &authority, now()), Ok(public_key(&der).unwrap()));
    assert_eq!(Bearer::parse(&text).unwrap().id(), Some(ID));
    assert_eq!(Bearer::parse(&format!(" {text}\n")).unwrap().reveal(), text);
    // Clocks differ by a minute at most, either way.
    assert!(judged(&text, &authority, later(359)).is_ok());
    let error = judged(&text, &authority, later(360)).unwrap_err();
    assert!(error.contains("was good until 2027-") && error.contains("compare the clocks"), "{error}");
    let early = vera.sign(later(60)).unwrap();
    assert!(judged(&early, &authority, now()).is_ok());
    let error = judged(&vera.sign(later(61)).unwrap(), &authority, now()).unwrap_err();
    assert!(error.contains("is good from 2027-"), "{error}");
    let long = vera.sign_for(now(), 15 * MINUTE).unwrap();
    assert!(judged(&long, &authority, now()).is_ok());
    let long = vera.sign_for(now(), 15 * MINUTE + Duration::from_secs(1)).unwrap();
    assert!(judged(&long, &authority, now()).unwrap_err().contains("15 minutes at most"));
    let over = vera.sign(later(3600)).unwrap();
    assert!(judged(&over, &authority, later(3601)).unwrap_err().contains("certificate is not good now"));
}

#[test]
fn another_authority_cluster_or_holder_proves_nothing() {
    let (authority, other) = (authority(), authority());
    let vera = person(&authority, Holder::Person(ID), ID);
    let text = vera.sign(now()).unwrap();
    let error = judged(&text, &other, now()).unwrap_err();
    assert!(error.contains("signed by no authority of this cluster"), "{error}");
    let both = [other.certificate().to_vec(), authority.certificate().to_vec()];
    let cluster = |id: &str| parsed(&text).verify(&ClusterId::from(id), &both, now());
    assert!(cluster("c0ffee").is_ok(), "one of them is enough");
    assert!(cluster("c0ffee+1-2a").is_ok(), "founded anew it goes on as the same");
    assert!(cluster("tea").unwrap_err().contains("another cluster"));

    let somebody = TokenId([1; 6]);
    for (holder, id) in [
        (Holder::Node(NodeId(7)), ID),
        (Holder::Joining, ID),
        (Holder::Person(somebody), ID),
        (Holder::Person(ID), somebody),
    ] {
        let text = person(&authority, holder, id).sign(now()).unwrap();
        let error = judged(&text, &authority, now()).unwrap_err();
        assert!(error.contains("not that of the person"), "{holder:?} {error}");
    }
}

#[test]
fn what_was_changed_since_or_signed_by_another_key_is_refused() {
    let authority = authority();
    let (vera, olaf) =
        (person(&authority, Holder::Person(ID), ID), person(&authority, Holder::Person(ID), ID));
    let (mine, other) = (vera.sign(now()).unwrap(), olaf.sign(now()).unwrap());
    let [mine, other] = [&mine, &other].map(|text| text.split('.').collect::<Vec<_>>());
    let decoded = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let longer = encoded(&decoded(mine[1]).replace("1800000300", "1800000301"));
    for text in [
        [mine[0], mine[1], other[2]].join("."),
        [other[0], mine[1], mine[2]].join("."),
        [mine[0], &longer, mine[2]].join("."),
    ] {
        let error = judged(&text, &authority, now()).unwrap_err();
        assert!(error.contains("signature is not by the key"), "{error}");
    }
    let header = |from: &str, to: &str| {
        let changed = encoded(&decoded(mine[0]).replace(from, to));
        format!("{changed}.{}.{}", mine[1], mine[2])
    };
    for text in [
        header("ES256", "none"),
        header("ES256", "HS256"),
        header("\"typ\"", "\"crit\":[\"exp\"],\"typ\""),
        header("x5c", "x5d"),
        [mine[0], mine[1], ""].join("."),
        [mine[0], &encoded("{}"), mine[2]].join("."),
        [mine[0], mine[1]].join("."),
        format!("{}.{}.{}", mine[0], mine[1], "A".repeat(SIGNED_MAX)),
        "..".to_owned(),
    ] {
        let error = Bearer::parse(&text).unwrap_err().to_string();
        assert!(error.starts_with("what is given is no token") && !error.contains(mine[1]), "{error}");
    }
    let debug = format!("{:?}", parsed(&mine.join(".")));
    assert_eq!(debug, "Signed(abababababab, …)");
}

#[test]
fn numbers_are_written_as_x509_has_them() {
    let mut signature = [0; 64];
    assert_eq!(in_der(&signature), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    signature[31] = 0x7f;
    signature[63] = 0x80;
    assert_eq!(in_der(&signature), [0x30, 7, 2, 1, 0x7f, 2, 2, 0, 0x80]);
    signature = [0xff; 64];
    assert_eq!((in_der(&signature).len(), in_der(&signature)[..5].to_vec()), (72, vec![0x30, 70, 2, 33, 0]));
}
