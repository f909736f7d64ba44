//! Tokens: made at random, kept as digests, compared in constant time.

use ring::digest::{SHA256, digest as hash};
use ring::rand::{SecureRandom as _, SystemRandom};
use sheaf_model::{Digest, TokenId, TokenText};

use crate::key::KeyError;

/// Makes a token that nobody has yet. `pin`: the authority that nodes which join with it are to believe.
pub fn new_token(pin: Option<Digest>) -> Result<TokenText, KeyError> {
    let random = SystemRandom::new();
    let (mut id, mut secret) = ([0; 6], [0; 32]);
    random.fill(&mut id).and_then(|()| random.fill(&mut secret)).map_err(|_| KeyError::NoRandom)?;
    Ok(TokenText::new(TokenId(id), secret, pin))
}

/// The token that a join secret is: whoever holds the secret has it.
pub fn token_of_secret(secret: &[u8; 32]) -> TokenText {
    let id = sha256(&[b"sheaf token id 1".as_slice(), secret].concat()).0;
    let of = sha256(&[b"sheaf token 1".as_slice(), secret].concat()).0;
    TokenText::new(TokenId(std::array::from_fn(|at| id[at])), of, None)
}

/// What is kept of a token: SHA-256 of its secret.
pub fn digest_of(token: &TokenText) -> Digest {
    sha256(token.secret())
}

/// Whether the token has the secret that this is the digest of. Takes as long whatever differs.
pub fn is_secret_of(token: &TokenText, digest: &Digest) -> bool {
    let shown = digest_of(token);
    let differs = shown.0.iter().zip(&digest.0).fold(0, |differs, (a, b)| differs | (a ^ b));
    std::hint::black_box(differs) == 0
}

/// SHA-256 of some bytes: of a certificate, say.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(hash(&SHA256, bytes).as_ref());
    Digest(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_secret_alone() {
        let (one, two) = (new_token(None).unwrap(), new_token(None).unwrap());
        assert!(one.id() != two.id() && one.secret() != two.secret());
        assert!(is_secret_of(&one, &digest_of(&one)) && !is_secret_of(&two, &digest_of(&one)));
        let forged = TokenText::new(one.id(), *two.secret(), None);
        assert!(!is_secret_of(&forged, &digest_of(&one)));
        let pinned = TokenText::new(one.id(), *one.secret(), Some(Digest([7; 32])));
        assert!(is_secret_of(&pinned, &digest_of(&one)), "what it pins does not count");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc").to_string(), abc);
    }
}
