//! Whether one authority vouches for another that takes its place.
//!
//! It does by a certificate of the other's name and key (a bridge). Whoever believes the one believes the other by it: in a
//! handshake, where certificates of the other come with the bridge, and for good, once it is told of the other.

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::ring::ECDSA_P256_SHA256;
use webpki::{EndEntityCert, KeyUsage};

/// Whether one of `known` vouches for `authority` by one of `bridges`; all of them certificates in DER.
pub fn vouched(authority: &[u8], bridges: &[Vec<u8>], known: &[Vec<u8>]) -> bool {
    bridges.iter().any(|bridge| known.iter().any(|known| vouches(known, bridge, authority)))
}

/// Whether `bridge` is a certificate of `authority` as such that `known` has signed and that is good now. `authority` is the
/// one that it has signed itself: another of its name and key is none that anybody pins.
pub(super) fn vouches(known: &[u8], bridge: &[u8], authority: &[u8]) -> bool {
    let [known, bridge, authority] = [known, bridge, authority].map(CertificateDer::from);
    let (Some((said, signature)), Some((own, own_signature))) = (signed(&bridge), signed(&authority)) else {
        return false;
    };
    let (Ok(known), Ok(bridge), Ok(authority)) = (
        EndEntityCert::try_from(&known),
        EndEntityCert::try_from(&bridge),
        EndEntityCert::try_from(&authority),
    ) else {
        return false;
    };
    bridge.subject() == authority.subject()
        && bridge.subject_public_key_info() == authority.subject_public_key_info()
        && bridge.issuer() == known.subject()
        // A node's own certificate makes it no authority.
        && is_of_authority(&bridge)
        && known.verify_signature(ECDSA_P256_SHA256, said, signature).is_ok()
        && authority.issuer() == authority.subject()
        && authority.verify_signature(ECDSA_P256_SHA256, own, own_signature).is_ok()
}

/// Whether it is good now, for an authority.
fn is_of_authority(certificate: &EndEntityCert<'_>) -> bool {
    let (algorithms, now) = ([ECDSA_P256_SHA256], UnixTime::now());
    let usage = KeyUsage::client_auth();
    let verified = certificate.verify_for_usage(&algorithms, &[], &[], now, usage, None, None);
    matches!(verified, Err(webpki::Error::CaUsedAsEndEntity))
}

// By hand, since nothing that is built here anyway does it for bytes of strangers: webpki checks an authority's signature only
// on the way to a leaf, which who is told of an authority has not, and keeps the parts of a certificate to itself; yasna, which
// rcgen writes with, adds a length that it was told to its position, unchecked. x509-parser would do, and brings a dozen others.

/// What a certificate says, and the signature on that.
fn signed(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, content, _) = element(certificate)?;
    let (said, _, rest) = element(content)?;
    let (_, _algorithm, rest) = element(rest)?;
    let (_, bits, _) = element(rest)?;
    // The first byte says how many bits of the last one do not count.
    Some((said, bits.strip_prefix(&[0])?))
}

/// The first element of DER: all of it, its content, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (length, rest) = der.get(1..)?.split_first()?;
    let (header, length) = match *length {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(*rest.first()?)),
        0x82 => (4, usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]))),
        // Nothing of ours is so long.
        _ => return None,
    };
    let whole = der.get(..header + length)?;
    Some((whole, whole.get(header..)?, &der[whole.len()..]))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sheaf_model::{Holder, NodeId, Timestamp};
    use sheaf_trust::{Authority, PrivateKey};

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_system(std::time::SystemTime::now())
    }

    #[test]
    fn an_authority_vouches_for_the_one_that_it_signed_and_for_no_other() {
        let [old, new, other] = [(); 3].map(|()| Authority::new(now()).unwrap());
        let bridge = old.vouch_for(&new, now()).unwrap();
        let all = [old.certificate(), new.certificate(), other.certificate(), bridge.as_slice()];
        for known in all {
            for authority in all {
                let is_so = vouches(known, &bridge, authority);
                // The bridge has the new one's name and key, too, but it is not what is pinned.
                let right = known == old.certificate() && authority == new.certificate();
                assert_eq!(is_so, right);
            }
        }
        let known = [old.certificate().to_vec()];
        assert!(vouched(new.certificate(), &[other.certificate().to_vec(), bridge.clone()], &known));
        assert!(!vouched(new.certificate(), &[], &known));
        assert!(!vouched(old.certificate(), std::slice::from_ref(&bridge), &[new.certificate().to_vec()]));
    }

    #[test]
    fn a_nodes_certificate_and_a_spoilt_one_vouch_for_nobody() {
        let (old, new) = (Authority::new(now()).unwrap(), Authority::new(now()).unwrap());
        let key = PrivateKey::new().unwrap();
        let (holder, lifetime) = (Holder::Node(NodeId(7)), Duration::from_secs(3600));
        let leaf = old.issue(&key.public(), holder, None, now(), lifetime).unwrap();
        assert!(!vouches(old.certificate(), &leaf, &leaf), "it is no authority's");
        let bridge = old.vouch_for(&new, now()).unwrap();
        let long_ago = Timestamp(now().0 - 30 * 365 * 24 * 3_600_000);
        let over = old.vouch_for(&new, long_ago).unwrap();
        assert!(!vouches(old.certificate(), &over, new.certificate()), "it is over");
        for at in 0..bridge.len() {
            let mut spoilt = bridge.clone();
            spoilt[at] ^= 1;
            assert!(!vouches(old.certificate(), &spoilt, new.certificate()), "byte {at}");
            assert!(!vouches(old.certificate(), &bridge[..at], new.certificate()), "the first {at} bytes");
        }
    }
}
