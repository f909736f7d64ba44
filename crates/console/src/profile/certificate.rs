//! A certificate in place of a token: what a person shows is signed with its key, anew every few minutes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sheaf_model::Timestamp;
use sheaf_trust::Person;
use sheaf_wire::Signer;

use super::store;
use crate::exit::Failure;

/// No file with a certificate is longer, in bytes.
const FILE_MAX: u64 = 32 << 10;

/// See the module's doc. Says nothing of its key.
#[derive(Clone)]
pub(crate) struct Certificate {
    person: Arc<Person>,
    /// As it stands in its file.
    text: Arc<str>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Certificate").field(&self.person).finish()
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Certificate {}

impl From<Person> for Certificate {
    fn from(person: Person) -> Self {
        let text = person.pem().into();
        Self { person: Arc::new(person), text }
    }
}

impl Certificate {
    /// Reads what `sheaf cluster token create --certificate` prints.
    ///
    /// # Errors
    /// That it is something else, without repeating it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Person::from_pem(text).map(Self::from).map_err(|error| error.to_string())
    }

    /// That of a file, which nobody else may read.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let unread = |error: std::io::Error| {
            let remedy = "a file as `sheaf cluster token create --certificate` prints it";
            Failure::usage(format!("{shown} cannot be read: {error}"), remedy)
        };
        let size = std::fs::metadata(path).map_err(unread)?.len();
        if size > FILE_MAX {
            return Err(Failure::usage(format!("{shown} holds {size} bytes"), "a certificate and its key"));
        }
        store::check_private(path, "a key")?;
        let text = std::fs::read_to_string(path).map_err(unread)?;
        Self::parse(&text).map_err(|error| Failure::usage(format!("{shown}: {error}"), "another file"))
    }

    /// As it stands in its file; the key with it.
    pub(crate) fn reveal(&self) -> &str {
        &self.text
    }

    /// Whom the cluster's nodes are believed by, in DER.
    pub(crate) fn authority(&self) -> &[u8] {
        self.person.authority()
    }

    /// The same for a cluster whose nodes are believed by this authority, in DER.
    pub(crate) fn believing(&self, authority: Vec<u8>) -> Option<Self> {
        Person::from_pem(&self.text).ok().map(|person| person.believing(authority).into())
    }

    /// What a call shows, signed for so long.
    pub(crate) fn signed(&self, span: Duration) -> Result<String, Failure> {
        self.person.sign_for(now(), span).map_err(|error| Failure::Refused(error.to_string()))
    }

    /// Signs what calls show; what was signed serves for half its life.
    pub(crate) fn signer(&self) -> Signer {
        let (person, last) = (self.person.clone(), Mutex::new(None::<(Timestamp, String)>));
        let half = u64::try_from(Person::SIGNED_FOR.as_millis() / 2).unwrap_or_default();
        Signer::new(move || {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = now();
            if let Some((at, text)) = &*last
                && *at <= now
                && now.0 - at.0 < half
            {
                return Some(text.clone());
            }
            let text = person.sign(now).ok()?;
            *last = Some((now, text.clone()));
            Some(text)
        })
    }
}

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use sheaf_model::{Holder, TokenId};
    use sheaf_trust::{Authority, PrivateKey};

    use super::*;

    /// Somebody's, by an authority that is made up.
    pub(crate) fn somebody() -> Certificate {
        let authority = Authority::new(now()).expect("an authority");
        let (key, id) = (PrivateKey::new().expect("a key"), TokenId([0xab; 6]));
        let lifetime = Duration::from_secs(3600);
        let certificate = authority.issue(&key.public(), Holder::Person(id), None, now(), lifetime);
        let certificate = certificate.expect("signed");
        Person::new("c".to_owned(), id, certificate, key, authority.certificate().to_vec()).into()
    }

    #[test]
    fn it_is_read_from_a_file_that_nobody_else_may_read() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("vera.pem");
        let vera = somebody();
        std::fs::write(&path, vera.reveal()).expect("written");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o600).expect("changed");
        assert_eq!(Certificate::of_file(&path).expect("read"), vera);
        mode(0o644).expect("changed");
        let error = Certificate::of_file(&path).expect_err("open").to_string();
        assert!(error.contains("holds a key and has mode 0644"), "{error}");
        mode(0o600).expect("changed");
        std::fs::write(&path, "hunter2").expect("written");
        let error = Certificate::of_file(&path).expect_err("none").to_string();
        assert!(error.contains("no certificate of a person") && !error.contains("hunter2"), "{error}");
        assert!(!format!("{vera:?}").contains("KEY"), "{vera:?}");
        let other = vera.believing(vec![0x30, 0]).expect("changed");
        assert!(other != vera && other.authority() == [0x30, 0]);
    }
}
