//! Who may do what: roles, the tokens that prove them, and the authorities whose certificates are believed.
//!
//! ```text
//!  TokenText   sheaf_ID.SECRET[.PIN]   shown once, to whoever it is for
//!  TokenRecord ID, name, use, digest   what the cluster keeps; nothing of the secret but its digest
//! ```

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{BucketName, Digest, NameError, ObjectValue, Revision, Span, Timestamp, TokenName};

/// Tokens of a cluster: each member keeps all of them in memory.
pub const TOKENS_MAX: usize = 1024;
/// Authorities of a cluster: the one that issues, and those that are being replaced.
pub const AUTHORITIES_MAX: usize = 16;
/// Longest certificate of an authority in bytes.
pub const CERTIFICATE_MAX: usize = 16 << 10;

/// What every token's text begins with, so that it is recognised where it should not be.
const MARK: &str = "sheaf_";

/// What somebody may do. Each may do all that those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Sees everything, but the values of secrets, which nobody sees.
    Viewer,
    /// Changes what runs: buckets, jobs, nodes.
    Operator,
    /// Changes what may run, and who may do what.
    Admin,
}

impl Role {
    /// All, the least first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// The word in answers and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// Reads that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A part of all buckets: those whose paths begin so, e.g. `/team-a/`. Whole segments, with a slash at both ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks and wraps `text`; the error says what is wrong and what would be right.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let path = text.strip_suffix('/').filter(|path| !path.is_empty());
        match path.map(BucketName::new) {
            Some(Ok(_)) => Ok(Self(text.into())),
            Some(Err(error)) => Err(NameError {
                problem: format!("{text:?} is no prefix of buckets: {}", error.problem),
                remedy: "whole segments between slashes, like /team-a/".to_owned(),
            }),
            None => Err(NameError {
                problem: format!("{text:?} is no prefix of buckets"),
                remedy: "whole segments with a slash at both ends, like /team-a/".to_owned(),
            }),
        }
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the bucket is one of them. A bucket's path has no segments that lead elsewhere.
    pub fn contains(&self, bucket: &BucketName) -> bool {
        bucket.as_str().starts_with(&*self.0)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person or a program may do. `operator on /team-a/` changes those buckets and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// In general.
    pub role: Role,
    /// Only with [`Role::Operator`]: changes of these buckets alone.
    pub prefix: Option<Prefix>,
}

impl Rights {
    /// All that the role may do.
    pub const fn of(role: Role) -> Self {
        Self { role, prefix: None }
    }

    /// Refuses a prefix for a role that knows none.
    pub fn new(role: Role, prefix: Option<Prefix>) -> Result<Self, NameError> {
        match prefix {
            Some(prefix) if role != Role::Operator => Err(NameError {
                problem: format!("{role} on {prefix}: a prefix is for operators"),
                remedy: "role operator, or no prefix".to_owned(),
            }),
            prefix => Ok(Self { role, prefix }),
        }
    }

    /// Whether it reaches as far as the whole of `role`.
    pub fn is_at_least(&self, role: Role) -> bool {
        self.role > role || (self.role == role && self.prefix.is_none())
    }

    /// Whether it may change that bucket.
    pub fn may_change(&self, bucket: &BucketName) -> bool {
        self.role >= Role::Operator && self.prefix.as_ref().is_none_or(|prefix| prefix.contains(bucket))
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.prefix {
            Some(prefix) => write!(f, "{} on {prefix}", self.role),
            None => self.role.fmt(f),
        }
    }
}

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenUse {
    /// Calls of a person or a program.
    User(Rights),
    /// A new node joins with it.
    Join {
        /// The node may become a voter.
        voter: bool,
    },
    /// Calls of a person or a program that proves with a certificate's key who it is.
    Certificate {
        /// What it may do.
        rights: Rights,
        /// The authority that has signed the certificate.
        authority: Digest,
    },
}

impl TokenUse {
    /// The word for it on the command line: a role, `agent` or `voter`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::User(rights) | Self::Certificate { rights, .. } => rights.role.as_str(),
            Self::Join { voter: true } => "voter",
            Self::Join { voter: false } => "agent",
        }
    }

    /// What whoever shows it may do; none: nodes join with it.
    pub const fn rights(&self) -> Option<&Rights> {
        match self {
            Self::User(rights) | Self::Certificate { rights, .. } => Some(rights),
            Self::Join { .. } => None,
        }
    }

    /// The authority that has signed it; none: it is no certificate.
    pub const fn authority(&self) -> Option<Digest> {
        match self {
            Self::Certificate { authority, .. } => Some(*authority),
            Self::User(_) | Self::Join { .. } => None,
        }
    }
}

impl fmt::Display for TokenUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(rights) => rights.fmt(f),
            Self::Certificate { rights, .. } => write!(f, "{rights} by certificate"),
            Self::Join { .. } => f.write_str(self.as_str()),
        }
    }
}

/// Which token: random, and no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId(pub [u8; 6]);

impl TokenId {
    /// Reads 12 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

/// 12 hexadecimal digits.
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the cluster keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Which one.
    pub id: TokenId,
    /// What people call it, and who acts by it.
    pub name: TokenName,
    /// What it is for.
    pub of: TokenUse,
    /// SHA-256 of the secret's bytes; of a certificate, of its public key as its SubjectPublicKeyInfo in DER.
    pub digest: Digest,
    /// When it was made, for people.
    pub created_at: Timestamp,
    /// Who had it made.
    pub created_by: String,
    /// From then on it is worth nothing, by the clock of whoever is shown it.
    pub expires_at: Option<Timestamp>,
    /// When it was made.
    pub revision: Revision,
}

/// An authority whose certificates nodes believe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityRecord {
    /// SHA-256 of the certificate.
    pub fingerprint: Digest,
    /// Its own certificate, DER.
    pub certificate: ObjectValue,
    /// When it was added.
    pub revision: Revision,
    /// When that was, for people.
    pub added_at: Timestamp,
    /// Where it stands.
    pub stage: AuthorityStage,
    /// A certificate in DER of it by the authority before it: whoever believes that one believes this one by it. None once
    /// that one is dropped. There is none the other way: what is dropped must lead nowhere.
    pub bridge: Option<ObjectValue>,
}

/// Where an authority stands. Of those that issue the one that was added last does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthorityStage {
    /// It signs certificates.
    Issues,
    /// It is believed, and signs once all nodes believe it.
    Next {
        /// Certificates that the present one signs are good for so long.
        lifetime: Span,
    },
    /// It signed until another one took its place.
    Former {
        /// None of its certificates of nodes is good for longer, by the clock of the leader of then.
        until: Timestamp,
    },
}

/// What a node says of authorities, each by the [first eight bytes](Digest::leading) of its fingerprint, 0 being none. Ephemeral.
/// Nodes of earlier versions say nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusting {
    /// Who has signed its certificate.
    pub issuer: u64,
    /// Whom it believes.
    pub believes: [u64; 2],
    /// It is a member, which is to have the keys.
    pub member: bool,
    /// Whose keys it has.
    pub keys: [u64; 2],
}

/// Why a text is no token. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what is given is no token of Sheaf: one looks like sheaf_ID.SECRET, as `sheaf cluster token create` prints it"
)]
pub struct NoToken;

/// A token as whoever uses it has it. Says its secret nowhere but in [`TokenText::reveal`].
#[derive(Clone, PartialEq, Eq)]
pub struct TokenText {
    id: TokenId,
    secret: [u8; 32],
    pin: Option<Digest>,
}

impl TokenText {
    /// Puts one together. `pin`: the authority that nodes which join are to believe.
    pub const fn new(id: TokenId, secret: [u8; 32], pin: Option<Digest>) -> Self {
        Self { id, secret, pin }
    }

    /// Reads one; spaces and line feeds around it do not count.
    pub fn parse(text: &str) -> Result<Self, NoToken> {
        let mut parts = text.trim().strip_prefix(MARK).ok_or(NoToken)?.split('.');
        let id = parts.next().and_then(TokenId::parse).ok_or(NoToken)?;
        let secret = parts.next().and_then(from_hex).ok_or(NoToken)?;
        let pin = match parts.next() {
            Some(pin) => Some(Digest(from_hex(pin).ok_or(NoToken)?)),
            None => None,
        };
        if parts.next().is_some() {
            return Err(NoToken);
        }
        Ok(Self { id, secret, pin })
    }

    /// Which token it is.
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// The secret itself. Whoever asks answers for where it goes.
    pub const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The authority that it pins: SHA-256 of its certificate.
    pub const fn pin(&self) -> Option<Digest> {
        self.pin
    }

    /// The same that pins this authority.
    #[must_use]
    pub const fn pinning(self, pin: Digest) -> Self {
        Self { pin: Some(pin), ..self }
    }

    /// All of it, as text. Whoever asks answers for where it goes.
    pub fn reveal(&self) -> String {
        let mut text = format!("{MARK}{}.{}", self.id, Digest(self.secret));
        if let Some(pin) = &self.pin {
            text.push('.');
            text.push_str(&pin.to_string());
        }
        text
    }
}

/// Which token, and nothing of its secret.
impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenText({MARK}{}.…)", self.id)
    }
}

/// `2 * N` hexadecimal digits.
fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(text: &str) -> BucketName {
        BucketName::new(text).expect("a name")
    }

    #[test]
    fn a_prefix_is_whole_segments_and_nothing_leads_out_of_it() {
        let prefix = Prefix::new("/team-a/").expect("a prefix");
        assert!(prefix.contains(&bucket("/team-a/web")) && prefix.contains(&bucket("/team-a/x/y")));
        for other in ["/team-a", "/team-ab/web", "/team-b/team-a/web", "/team-A/web"] {
            assert!(!prefix.contains(&bucket(other)), "{other}");
        }
        for escape in ["/team-a/../team-b/x", "/team-a/./x", "/team-a//x", "/team-a/"] {
            assert!(BucketName::new(escape).is_err(), "{escape} is no bucket, so nobody may change it");
        }
        for bad in ["", "/", "//", "team-a/", "/team-a", "/team-a/../", "/./", "/a b/", "/team-*/"] {
            let error = Prefix::new(bad).expect_err(bad);
            assert!(error.remedy.ends_with("like /team-a/"), "{bad}: {error:?}");
        }
    }

    #[test]
    fn a_grant_reaches_as_far_as_its_role_and_prefix() {
        let on = |prefix| Rights::new(Role::Operator, Some(Prefix::new(prefix).expect("a prefix")));
        let team = on("/team-a/").expect("an operator");
        assert_eq!(team.to_string(), "operator on /team-a/");
        assert!(team.is_at_least(Role::Viewer) && !team.is_at_least(Role::Operator));
        assert!(team.may_change(&bucket("/team-a/x")) && !team.may_change(&bucket("/team-b/x")));
        let (viewer, admin) = (Rights::of(Role::Viewer), Rights::of(Role::Admin));
        assert!(!viewer.may_change(&bucket("/a")) && admin.may_change(&bucket("/a")));
        assert!(admin.is_at_least(Role::Admin) && !Rights::of(Role::Operator).is_at_least(Role::Admin));
        for role in [Role::Viewer, Role::Admin] {
            let error = Rights::new(role, Prefix::new("/a/").ok()).expect_err("no prefix for it");
            assert!(error.problem.ends_with("a prefix is for operators"), "{error}");
        }
        assert_eq!(Role::parse("operator"), Some(Role::Operator));
        assert_eq!(Role::parse("root"), None);
    }

    #[test]
    fn a_token_is_written_and_read_and_says_no_secret() {
        let text = TokenText::new(TokenId([0xab; 6]), [0xcd; 32], Some(Digest([0xef; 32])));
        let written = text.reveal();
        assert_eq!(written, format!("sheaf_{}.{}.{}", "ab".repeat(6), "cd".repeat(32), "ef".repeat(32)));
        assert_eq!(TokenText::parse(&format!(" {written}\n")), Ok(text.clone()));
        assert_eq!(format!("{text:?} {:?}", Some(&text)).matches("cdcd").count(), 0);
        assert_eq!(format!("{text:?}"), "TokenText(sheaf_abababababab.…)");
        let short = TokenText::new(TokenId([1; 6]), [2; 32], None);
        assert_eq!(TokenText::parse(&short.reveal()), Ok(short));
        let secret = "cd".repeat(32);
        for bad in [
            String::new(),
            "sheaf_".to_owned(),
            format!("sheaf_ababab.{secret}"),
            format!("ababababab.{secret}"),
            format!("sheaf_abababababab.{}", &secret[1..]),
            format!("sheaf_abababababab.{secret}."),
            format!("{written}.00"),
            format!("sheaf_abababababab.{}", "é".repeat(32)),
            "Bearer x".to_owned(),
        ] {
            let error = TokenText::parse(&bad).expect_err(&bad).to_string();
            assert!(!error.contains("cdcd"), "{error}");
        }
    }
}
