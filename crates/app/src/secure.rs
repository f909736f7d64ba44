//! What secures this node: what its data directory holds, and how it gets a certificate.
//!
//! ```text
//!  a certificate or an authority in DIR/trust ─┐
//!  [security] join_secret_file ────────────────┼─► TLS, and tokens for people
//!  [security] join_token_file ─────────────────┘
//!  none of them ──► plain, on loopback alone
//! ```

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use sheaf_control::{Clock, Trust};
use sheaf_model::{Holder, NodeId, TokenText};
use sheaf_trust::{Authority, Keyring, PrivateKey};
use sheaf_wire::peer::Certified;
use sheaf_wire::{Credentials, Join, Pair, Pin, Transport, holder_of};

use crate::clock::SystemClock;
use crate::config::Config;

/// A join token is shorter.
const TOKEN_FILE_MAX: u64 = 4096;

/// What a node has to prove that it may join.
#[derive(Clone, Default)]
pub(crate) struct Proof {
    /// The bytes of the join secret.
    pub(crate) secret: Option<[u8; 32]>,
    /// A join token.
    pub(crate) token: Option<TokenText>,
}

/// What secures the node with this data directory and this configuration.
pub(crate) fn trust(config: &Config, data_dir: &Path) -> anyhow::Result<(Trust, Proof)> {
    let keyring = Keyring::of_node(data_dir)?;
    let proof = proof(config, keyring.own().is_some())?;
    let secured = keyring.own().is_some()
        || keyring.authority().is_some()
        || proof.secret.is_some()
        || proof.token.is_some();
    if !secured {
        return Ok((Trust::default(), proof));
    }
    let join = proof.secret.as_ref().map(joining).transpose().context("use [security] join_secret_file")?;
    let own = keyring.own().map(|own| Pair { certificate: own.certificate, key: own.key });
    let (authorities, bridges) = (keyring.authorities(), keyring.bridges());
    let credentials = Credentials { authorities, bridges, own, join: join.clone(), pin: pin(&proof) };
    let transport = Transport::tls(&credentials).context("use this node's keys and certificates")?;
    let lifetime = config.certificate_lifetime.duration();
    let secret = proof.secret.as_ref().map(|secret| sheaf_seal::token_of_secret(secret).id());
    Ok((Trust { transport, keyring: Some(Arc::new(keyring)), join, secret, lifetime }, proof))
}

/// What to do about a port that others can reach and that nothing secures.
pub(crate) const SECURE_IT: &str = "on the first node of a cluster, run `sheaf cluster init` and start the agent again; on every other, \
    put a join token, as `sheaf cluster token create` prints it, into a file and name that as [security] join_token_file; or \
    give all nodes the same [security] join_secret_file, which `sheaf secret keygen FILE` makes; to try things on this machine \
    alone: [listen] grpc = \"127.0.0.1:7420\"";

/// What is not secured stays on its machine.
pub(crate) fn refuse_open(trust: &Trust, listening: SocketAddr, config: &Config) -> anyhow::Result<()> {
    if trust.keyring.is_some() {
        return Ok(());
    }
    if !listening.ip().is_loopback() {
        bail!("{}; {SECURE_IT}", exposed(config));
    }
    tracing::warn!(address = %listening, "nothing secures this agent: whoever reaches the port may do everything; it is on loopback alone");
    Ok(())
}

/// What is wrong with a port that others can reach and that nothing secures.
pub(crate) fn exposed(config: &Config) -> String {
    format!(
        "[listen] grpc {} can be reached from other machines, and nothing secures this node yet",
        config.grpc
    )
}

/// Where this node has `joined`, nothing is wrong with a token that nobody needs any more.
fn proof(config: &Config, joined: bool) -> anyhow::Result<Proof> {
    let secret = config.join_secret_file.as_deref().map(sheaf_seal::read).transpose();
    let secret = secret.context("use [security] join_secret_file")?;
    let token = config.join_token_file.as_deref().map(read_token).transpose();
    let token = match token.context("use [security] join_token_file") {
        Err(error) if joined => {
            tracing::warn!("{error:#}; this node has joined, so the token is not used, and the file can go");
            None
        }
        token => token?.flatten(),
    };
    Ok(Proof { secret, token })
}

/// The token in a file that its owner alone can read; none: the file is gone, as it may be once the node has joined.
fn read_token(path: &Path) -> anyhow::Result<Option<TokenText>> {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let (shown, mode, size) = (path.display(), found.permissions().mode() & 0o7777, found.len());
    if mode & 0o077 != 0 {
        bail!(
            "{shown} has mode {mode:04o}: others could read it, and join with it; chmod 600 {shown}, or mount it with mode 0400 \
             (defaultMode of a secret in Kubernetes), and revoke the token if somebody may have read it"
        );
    }
    if size > TOKEN_FILE_MAX {
        bail!("{shown} holds {size} bytes, which is no token");
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    TokenText::parse(&text).map(Some).with_context(|| path.display().to_string())
}

/// What a join secret gives: everybody who holds it makes a certificate for himself.
fn joining(secret: &[u8; 32]) -> anyhow::Result<Join> {
    let joining = sheaf_trust::joining(secret, SystemClock.wall())?;
    let pair = Pair { certificate: joining.certificate, key: joining.key };
    Ok(Join { authority: joining.authority, pair })
}

/// Whom a token says to trust.
fn pin(proof: &Proof) -> Option<Pin> {
    let pin = proof.token.as_ref()?.pin()?;
    Some(Arc::new(move |der: &[u8]| sheaf_trust::pin(der) == pin.0))
}

/// The founding node's authority, made now if it knows none, and its own first certificate. One that knows whom the cluster
/// believes, and has not got the key, gets it from the other members.
pub(crate) fn found<'a>(
    trust: &Trust,
    node: NodeId,
    hosts: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let Some(keyring) = &trust.keyring else { return Ok(()) };
    if keyring.authorities().is_empty() {
        keyring.keep_authority(Authority::new(SystemClock.wall())?)?;
    }
    if keyring.own().is_some() { Ok(trust.refresh()?) } else { certify_own(trust, node, hosts) }
}

/// A certificate of this number, if this node has the authority's key and none of it: a cluster that was restored goes on with the
/// keys of a node that was there before, and nobody believes that one's certificate of this one.
pub(crate) fn be_node<'a>(
    trust: &Trust,
    node: NodeId,
    hosts: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let keyring = trust.keyring.as_ref().filter(|keyring| keyring.authority().is_some());
    let own = keyring.map(|keyring| keyring.own().and_then(|own| holder_of(&own.certificate)));
    match own {
        Some(own) if own != Some(Holder::Node(node)) => certify_own(trust, node, hosts),
        Some(_) | None => Ok(()),
    }
}

/// A certificate of this number by the authority's key that is here.
pub(crate) fn certify_own<'a>(
    trust: &Trust,
    node: NodeId,
    hosts: impl IntoIterator<Item = &'a str>,
) -> anyhow::Result<()> {
    let (key, now) = (PrivateKey::new()?, SystemClock.wall());
    let certified = trust.certify(node, key.public().raw(), hosts, now)?;
    Ok(trust.keep(&certified, &key, now)?)
}

/// A key for a certificate that is asked for; none: nothing is secured here.
pub(crate) fn new_key(trust: &Trust) -> anyhow::Result<Option<PrivateKey>> {
    Ok(trust.keyring.as_ref().map(|_| PrivateKey::new()).transpose()?)
}

/// Keeps what the leader has issued.
pub(crate) fn keep(
    trust: &Trust,
    certified: Option<&Certified>,
    key: Option<&PrivateKey>,
) -> anyhow::Result<()> {
    match (certified, key) {
        (Some(certified), Some(key)) => Ok(trust.keep(certified, key, SystemClock.wall())?),
        (None, None) => Ok(()),
        (None, Some(_)) => bail!(
            "the nodes of [cluster] join are not secured, but this one is: it holds a join token, a join secret or \
             certificates"
        ),
        (Some(_), None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_with_the_keys_of_another_makes_a_certificate_of_its_own_number() {
        let place = tempfile::tempdir().expect("a directory");
        let keyring = Arc::new(Keyring::open(place.path()).expect("an empty folder"));
        let transport = Transport::tls(&Credentials::default()).expect("nothing to be wrong with");
        let lifetime = std::time::Duration::from_secs(60);
        let trust = Trust { transport, keyring: Some(keyring.clone()), lifetime, ..Trust::default() };
        let own = || keyring.own().map(|own| own.certificate);
        be_node(&trust, NodeId(7), ["127.0.0.1"]).expect("nothing is done");
        assert_eq!(own(), None, "it has not got the authority's key");
        found(&trust, NodeId(2), ["127.0.0.1"]).expect("begun");
        let before = own().expect("it was made");
        be_node(&trust, NodeId(2), ["127.0.0.1"]).expect("nothing is done");
        assert_eq!(own().as_ref(), Some(&before), "it is that node");
        be_node(&trust, NodeId(7), ["127.0.0.1"]).expect("another is made");
        assert_eq!(own().as_deref().and_then(holder_of), Some(Holder::Node(NodeId(7))));
        be_node(&Trust::default(), NodeId(7), ["127.0.0.1"]).expect("nothing is secured");
    }

    #[test]
    fn a_join_token_that_others_can_read_is_refused_and_one_that_is_gone_is_none() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("join.token");
        assert!(read_token(&path).expect("it need not be there").is_none());
        let token = sheaf_seal::new_token(None).expect("random");
        std::fs::write(&path, token.reveal()).expect("written");
        for (mode, is_refused) in [(0o640, true), (0o604, true), (0o600, false), (0o400, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("changed");
            let said = read_token(&path).map_err(|error| error.to_string());
            let why = format!("has mode {mode:04o}: others could read it, and join with it; chmod 600 ");
            assert_eq!(said.as_ref().is_err_and(|said| said.contains(&why)), is_refused, "{said:?}");
            assert_eq!(said.ok().flatten().as_ref(), (!is_refused).then_some(&token));
        }
    }

    #[test]
    fn a_founder_that_has_not_got_the_present_authoritys_key_makes_none() {
        let place = tempfile::tempdir().expect("a directory");
        let keyring = Arc::new(Keyring::open(place.path()).expect("an empty folder"));
        let transport = Transport::tls(&Credentials::default()).expect("nothing to be wrong with");
        let lifetime = std::time::Duration::from_secs(60);
        let trust = Trust { transport, keyring: Some(keyring.clone()), lifetime, ..Trust::default() };
        found(&trust, NodeId(1), ["127.0.0.1"]).expect("begun");
        let old = keyring.authority().expect("it was made");
        let new = Authority::new(SystemClock.wall()).expect("an authority");
        let both = [&new, &*old].map(|authority| authority.certificate().to_vec());
        keyring.keep_authorities(&both, &[]).expect("kept");
        assert!(keyring.authority().is_none());
        found(&trust, NodeId(1), ["127.0.0.1"]).expect("it begins again");
        assert_eq!(keyring.authorities(), both);
    }
}
