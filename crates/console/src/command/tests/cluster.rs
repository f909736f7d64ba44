//! Certificates of people, and the authority behind all certificates.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[tokio::test]
async fn a_certificate_is_made_with_a_key_that_is_sent_nowhere() {
    let bench = Bench::new().await;
    let (exit, data, talk) = bench.ran("cluster token create --name vera --role viewer --certificate").await;
    assert_eq!(exit, Exit::Done, "{talk}");
    assert!(
        data.starts_with("Sheaf-Cluster: c1\nSheaf-Id: abababababab\n-----BEGIN CERTIFICATE-----"),
        "{data}"
    );
    assert!(data.contains("PRIVATE KEY") && data.matches("BEGIN CERTIFICATE").count() == 2, "{data}");
    assert!(talk.starts_with("certificate vera: viewer, ") && !talk.contains("KEY"), "{talk}");
    let path = bench.place.path().join("vera.pem");
    std::fs::write(&path, data).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let sign = format!("cluster token sign --certificate-file {}", path.display());
    let (exit, data, talk) = bench.ran(&sign).await;
    assert_eq!((exit, data.trim().split('.').count()), (Exit::Done, 3), "{talk}");
    let (exit, _, talk) = bench.ran(&format!("{sign} --for 16m")).await;
    assert_eq!((exit, talk.contains("15m at most")), (Exit::Usage, true), "{talk}");
}

#[tokio::test]
async fn the_authority_is_replaced_and_shown() {
    let bench = Bench::new().await;
    let (exit, data, talk) = bench.ran("cluster ca rotate --wait").await;
    assert_eq!((exit, data.as_str()), (Exit::Done, ""), "{talk}");
    assert!(talk.starts_with("warning: a word\nanother authority takes the place"), "{talk}");
    let (exit, _, talk) = bench.ran_with("cluster ca rotate --finish", "n\n").await;
    assert_eq!((exit, talk.contains("nothing was dropped")), (Exit::Error, true), "{talk}");
    assert_eq!(bench.ran("cluster ca rotate --finish --yes").await.0, Exit::Done);
    let (exit, _, talk) = bench.ran("cluster ca rotate --abandon").await;
    assert_eq!((exit, talk.contains("has not issued yet")), (Exit::Error, true), "{talk}");
    let (exit, data, _) = bench.ran("cluster ca status").await;
    assert_eq!((exit, data.starts_with("settled:")), (Exit::Done, true), "{data}");
}
