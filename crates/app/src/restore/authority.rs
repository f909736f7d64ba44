//! Who signs the certificates of a secured cluster that goes on from a snapshot, which holds no key.
//!
//! ```text
//!  DIR/trust has the key of the authority that issues ─► it issues on
//!            …of the one that is to issue next ────────► that one issues now
//!            neither ─► refused; or an authority that is made now issues, and all others are dropped
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sheaf_control::{Clock, Trust};
use sheaf_engine::{Access, AccessCommand, IssueBy, PutAuthority, rotation};
use sheaf_model::{Digest, NodeId, ObjectValue, Term, Timestamp};
use sheaf_trust::{Authority, Keyring, pin};

use crate::clock::SystemClock;
use crate::recover::random;
use crate::secure;

/// Who signs certificates from now on.
#[derive(Debug)]
enum Issuer {
    /// Nobody: nothing is secured.
    Nobody,
    /// Who did so before.
    Present {
        /// The one that was to issue next, if its key is not here: nodes would wait for that for ever.
        given_up: Option<Digest>,
    },
    /// The one that was to issue next.
    Next(Digest),
    /// One that the state does not know.
    Made(Box<Authority>),
}

/// What speaks against going on so.
#[derive(Debug, PartialEq, Eq)]
enum Against {
    /// An authority is to be made where nothing is secured.
    Unsecured,
    /// An authority is to be made where the key of this one is here.
    KeyIsHere(Digest),
    /// The key of this one is not here.
    KeyIsMissing(Digest),
}

/// What becomes of the authorities in `access` where the keys are here that `has_key` says. `made`: one that is to take their place.
fn judge(
    access: &Access,
    has_key: impl Fn(&Digest) -> bool,
    made: Option<Authority>,
) -> Result<Issuer, Against> {
    let Some(issuing) = access.issuing().map(|it| it.fingerprint) else {
        return if made.is_some() { Err(Against::Unsecured) } else { Ok(Issuer::Nobody) };
    };
    let next = access.successor().map(|it| it.fingerprint);
    let next_here = next.filter(&has_key);
    match (has_key(&issuing), next_here, made) {
        (true, _, Some(_)) => Err(Against::KeyIsHere(issuing)),
        (false, Some(next), Some(_)) => Err(Against::KeyIsHere(next)),
        (true, here, None) => Ok(Issuer::Present { given_up: next.filter(|_| here.is_none()) }),
        (false, Some(next), None) => Ok(Issuer::Next(next)),
        (false, None, Some(made)) => Ok(Issuer::Made(Box::new(made))),
        (false, None, None) => Err(Against::KeyIsMissing(issuing)),
    }
}

impl Against {
    /// For people: what is missing, and what to do.
    fn said(&self, keyring: &Keyring) -> String {
        let trust = keyring.dir().display();
        match self {
            Self::Unsecured => "nothing is secured in the cluster of the snapshot, so it has no authority that another could \
                                take the place of: leave out --new-authority"
                .to_owned(),
            Self::KeyIsHere(authority) => format!(
                "nothing is missing: {trust} has the key of authority {}, by which the nodes of this cluster know each other; \
                 leave out --new-authority",
                authority.short()
            ),
            Self::KeyIsMissing(authority) => {
                let dir = keyring.dir().parent().unwrap_or(keyring.dir()).display();
                format!(
                    "the cluster of the snapshot is secured, and without the key of its authority {}, which the snapshot does not \
                     hold, this node could serve nobody: the key belongs into {trust}/authority.key; {}. Copy the folder trust of \
                     a voter's data directory into {dir} and try again. Only if no copy of it is left: --new-authority goes on with \
                     an authority that is made now; then every other node joins anew, with an empty data directory, and people log \
                     in again",
                    authority.short(),
                    found(keyring)
                )
            }
        }
    }
}

/// What is there in place of the key that is missing.
fn found(keyring: &Keyring) -> String {
    let keys = [keyring.authority(), keyring.next()].into_iter().flatten();
    let keys: Vec<String> = keys.map(|it| Digest(pin(it.certificate())).short()).collect();
    if !keys.is_empty() {
        return format!(
            "what is there is the key of {}, which does not issue in that cluster: it is from before or after the snapshot, or \
             another cluster's",
            keys.join(" and ")
        );
    }
    let is_there = keyring.dir().join("authority.key").exists();
    if is_there { "what is there is another key".to_owned() } else { "it is not there".to_owned() }
}

/// See the module's doc.
pub(super) struct Signing {
    keyring: Keyring,
    issuer: Issuer,
}

impl Signing {
    /// By what the data directory `dir` and the state of the snapshot have; nothing is changed. `new`: an authority is to be made.
    ///
    /// # Errors
    /// That a key is missing, or that none is.
    pub(super) fn of(dir: &Path, access: &Access, new: bool) -> anyhow::Result<Self> {
        let keyring = Keyring::of_node(dir)?;
        let made = new.then(|| Authority::new(SystemClock.wall())).transpose()?;
        let has_key = |authority: &Digest| keyring.with_key(&authority.0).is_some();
        match judge(access, has_key, made) {
            Ok(issuer) => Ok(Self { keyring, issuer }),
            Err(against) => bail!("{}", against.said(&keyring)),
        }
    }

    /// What is proposed to the state of the snapshot, in this order, in `term`.
    pub(super) fn commands(&self, access: &Access, term: Term) -> Vec<AccessCommand> {
        match &self.issuer {
            Issuer::Nobody => Vec::new(),
            Issuer::Present { given_up } => {
                given_up.iter().copied().map(AccessCommand::DropAuthority).collect()
            }
            Issuer::Next(next) => vec![AccessCommand::IssueBy(IssueBy { fingerprint: *next, term })],
            Issuer::Made(made) => in_place_of_all(access, made),
        }
    }

    /// Says what follows for others, before the operator agrees.
    pub(super) fn tell(&self, access: &Access, now: Timestamp, out: &mut impl Write) -> std::io::Result<()> {
        match &self.issuer {
            Issuer::Nobody | Issuer::Present { given_up: None } => Ok(()),
            Issuer::Present { given_up: Some(next) } => writeln!(
                out,
                "authority {}, which was to issue next, is given up, since its key is not here: sheaf cluster ca rotate begins anew",
                next.short()
            ),
            Issuer::Next(next) => writeln!(
                out,
                "authority {}, which was to issue next, issues from now on: the key of the present one is not here",
                next.short()
            ),
            Issuer::Made(made) => tell_of(made, access, now, out),
        }
    }

    /// Has the keys and the certificate of this node, `node`, in the data directory, as `access` of the new cluster says. By `hosts`
    /// people call the node.
    pub(super) fn keep<'a>(
        self,
        access: &Access,
        node: NodeId,
        hosts: impl IntoIterator<Item = &'a str>,
        lifetime: Duration,
    ) -> anyhow::Result<Placed> {
        let Self { keyring, issuer } = self;
        let (keyring, placed) = match issuer {
            Issuer::Nobody => return Ok(Placed::default()),
            Issuer::Present { .. } | Issuer::Next(_) => (keyring, Placed::default()),
            Issuer::Made(made) => {
                let placed = Placed::instead_of(keyring.dir())?;
                let keyring = Keyring::open(keyring.dir())?;
                keyring.keep_authority(*made)?;
                (keyring, placed)
            }
        };
        // Before its agent runs: a key that was copied may be from before its authority issued, or have a bridge that is over.
        let (authorities, bridges) = access.certificates();
        keyring.keep_authorities(&authorities, &bridges)?;
        let trust = Trust { keyring: Some(Arc::new(keyring)), lifetime, ..Trust::default() };
        secure::certify_own(&trust, node, hosts)?;
        Ok(placed)
    }
}

/// The authority that is made issues, and is believed alone. An authority that has signed certificates of people is dropped by nobody,
/// and without it they prove nothing: they are revoked first.
fn in_place_of_all(access: &Access, made: &Authority) -> Vec<AccessCommand> {
    let put = PutAuthority {
        fingerprint: Digest(pin(made.certificate())),
        certificate: ObjectValue::from(made.certificate()),
    };
    let certificates = access.tokens.values().filter(|token| token.of.authority().is_some());
    let revoke = certificates.map(|token| AccessCommand::RevokeToken(token.id));
    let issuing = access.issuing().map(|it| it.fingerprint);
    let others = access.authorities.iter().map(|it| it.fingerprint);
    let others = others.filter(|it| Some(*it) != issuing).map(AccessCommand::DropAuthority);
    let last = issuing.into_iter().map(AccessCommand::DropAuthority);
    revoke.chain(others).chain([AccessCommand::PutAuthority(put)]).chain(last).collect()
}

fn tell_of(made: &Authority, access: &Access, now: Timestamp, out: &mut impl Write) -> std::io::Result<()> {
    let fingerprint = Digest(pin(made.certificate()));
    writeln!(out, "the new cluster has an authority that is made now: {fingerprint}")?;
    writeln!(
        out,
        "- nodes of the former cluster neither believe it nor follow: each joins anew, with an empty data directory and a new join \
         token (sheaf cluster token create) or the join secret, and is forgotten as what it was (sheaf node forget). Started with its \
         former data directory it would go on as a node of the former cluster"
    )?;
    writeln!(
        out,
        "- tokens of people and programs stay good, but pin the former authority: after the last dot of each must stand the new one, \
         {fingerprint}; then sheaf login"
    )?;
    let names = access.authorities.iter().flat_map(|it| rotation::signed_by(access, &it.fingerprint, now));
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        let names = names.join(", ");
        writeln!(
            out,
            "- certificates that the former authority signed for people and programs are revoked: {names}"
        )?;
    }
    writeln!(
        out,
        "- whatever else was given the former authority must be given this one: sheaf cluster ca export"
    )
}

/// The folder with the keys of an authority that is made, in place of what was there: it is taken away again unless it counts.
#[derive(Default)]
pub(super) struct Placed {
    /// None: there is nothing to take away.
    trust: Option<PathBuf>,
    /// Where what was there is meanwhile.
    former: Option<PathBuf>,
}

impl Placed {
    /// Makes room at `trust`.
    fn instead_of(trust: &Path) -> anyhow::Result<Self> {
        let former = trust.with_file_name(format!("trust.former-{}", random()));
        let former = match std::fs::rename(trust, &former) {
            Ok(()) => Some(former),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("move {} out of the way", trust.display()));
            }
        };
        Ok(Self { trust: Some(trust.to_owned()), former })
    }

    /// It stays, and so does what was there, beside it.
    pub(super) fn counts(mut self, out: &mut impl Write) -> std::io::Result<()> {
        let (trust, former) = (self.trust.take(), self.former.take());
        if let Some(trust) = &trust {
            let trust = trust.display();
            writeln!(out, "{trust} has the key of the new authority: keep a copy of that folder")?;
        }
        if let Some(former) = &former {
            writeln!(out, "what was in that folder before is in {}", former.display())?;
        }
        Ok(())
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let Some(trust) = self.trust.take() else { return };
        // What cannot be removed now is moved out of the way by the next restore.
        drop(std::fs::remove_dir_all(&trust));
        if let Some(former) = self.former.take() {
            drop(std::fs::rename(former, &trust));
        }
    }
}

#[cfg(test)]
mod tests;
