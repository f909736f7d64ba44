//! How a node that is not known yet shows that it is a member.
//!
//! ```text
//!  whoever knows an address alone ──Hello, nonce──► a node     its answer says: I am node 2, and the authority's key, which
//!       │                          ◄──proof─────────┘          members alone have, has signed that with your nonce
//!       └──Hello, as node 2 alone──► node 2                    what it says now is node 2's: nobody else has its certificate
//! ```
//!
//! A certificate says which node it is, and nothing of what the node is to the cluster. The proof may be carried on by somebody
//! in between, which is why it is the node named in it that is asked next.

use rustls::pki_types::CertificateDer;
use sheaf_model::{ClusterId, NodeId};
use webpki::EndEntityCert;
use webpki::ring::ECDSA_P256_SHA256;

use crate::bearer::in_der;

/// That a node of a cluster holds a replica, for whoever has made up the nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Random, and used once.
    pub nonce: [u8; 32],
}

impl Membership {
    /// What is signed. No certificate begins so.
    pub fn statement(&self) -> Vec<u8> {
        let Self { cluster, node, nonce } = self;
        [format!("sheaf member 1\n{cluster}\n{node}\n").as_bytes(), nonce].concat()
    }

    /// Whether one of these authorities, certificates in DER, has made this signature of it: ES256, 64 bytes.
    pub fn is_signed(&self, proof: &[u8], authorities: &[Vec<u8>]) -> bool {
        let Ok(proof) = <&[u8; 64]>::try_from(proof) else { return false };
        let (statement, signature) = (self.statement(), in_der(proof));
        authorities.iter().any(|authority| {
            let authority = CertificateDer::from(authority.as_slice());
            EndEntityCert::try_from(&authority).is_ok_and(|authority| {
                authority.verify_signature(ECDSA_P256_SHA256, &statement, &signature).is_ok()
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Timestamp;
    use sheaf_trust::Authority;

    use super::*;

    #[test]
    fn the_authoritys_key_proves_what_it_has_signed_and_nothing_else() {
        let now = Timestamp::from_system(std::time::SystemTime::now());
        let [one, other] = [(); 2].map(|()| Authority::new(now).unwrap());
        let of = |authority: &Authority| authority.certificate().to_vec();
        let said = Membership { cluster: ClusterId::from("c"), node: NodeId(2), nonce: [3; 32] };
        for _ in 0..50 {
            let proof = one.sign(&said.statement()).unwrap();
            assert!(said.is_signed(&proof, &[of(&other), of(&one)]));
            assert!(!said.is_signed(&proof, &[of(&other)]) && !said.is_signed(&proof, &[]));
            assert!(!said.is_signed(&proof[..63], &[of(&one)]) && !said.is_signed(&[], &[of(&one)]));
            for wrong in [
                Membership { cluster: ClusterId::from("d"), ..said.clone() },
                Membership { node: NodeId(9), ..said.clone() },
                Membership { nonce: [4; 32], ..said.clone() },
            ] {
                assert!(!wrong.is_signed(&proof, &[of(&one)]), "{wrong:?}");
            }
        }
        assert!(!said.is_signed(&[0; 64], &[of(&one), vec![1, 2], vec![]]));
    }
}
