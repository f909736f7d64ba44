//! `sheaf cluster init`: makes the authority of a new cluster in this node's data directory, and the first token.
//!
//! ```text
//!  init ──► DIR/trust: authority.key, authorities.pem, founding.json (the token's digest) ──► prints the token, once
//!  the agent's first start ──► the cluster begins with both ──► founding.json is removed
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sheaf_control::{Clock, Trust};
use sheaf_engine::{AccessCommand, Command, CreateToken, PutAuthority};
use sheaf_model::Rights;
use sheaf_model::{Digest, ObjectValue, Role, TokenId, TokenName, TokenUse};
use sheaf_trust::{Authority, Keyring};

use crate::clock::SystemClock;
use crate::config::Config;
use crate::data::DataDir;

/// The first token's name.
const ADMIN: &str = "admin";
/// The name of the token that a join secret gives.
const OF_SECRET: &str = "join-secret";

/// What the cluster is to begin with.
#[derive(Debug, Serialize, Deserialize)]
struct Founding {
    id: TokenId,
    digest: Digest,
}

fn path(keyring: &Keyring) -> PathBuf {
    keyring.dir().join("founding.json")
}

/// Makes the authority and prints the first token.
///
/// # Errors
/// That there is a cluster already, or that the directory cannot be written; nothing is changed then.
pub(crate) fn run(config: &Config, out: &mut impl Write, talk: &mut impl Write) -> anyhow::Result<()> {
    let shown = config.dir.display();
    let data = DataDir::open(&config.dir)?;
    if let Some(cluster) = &data.record.cluster {
        bail!(
            "the node with data directory {shown} belongs to cluster {cluster} already; to begin another, name another \
             directory with --set storage.dir=DIR"
        );
    }
    let keyring = Keyring::of_node(data.path())?;
    if keyring.authority().is_some() {
        bail!(
            "data directory {shown} was prepared already, and its token was shown then; start the agent, or remove {} to \
             begin anew",
            keyring.dir().display()
        );
    }
    let authority = Authority::new(SystemClock.wall())?;
    let pin = Digest(sheaf_trust::pin(authority.certificate()));
    let token = sheaf_seal::new_token(Some(pin)).context("make the first token")?;
    keyring.keep_authority(authority)?;
    let founding = Founding { id: token.id(), digest: sheaf_seal::digest_of(&token) };
    write(&path(&keyring), &serde_json::to_vec(&founding)?)?;
    writeln!(out, "{}", token.reveal())?;
    writeln!(
        talk,
        "This is the token of the cluster's first administrator; it is shown this once. Start this node's agent: the \
         cluster begins with it. Then `sheaf login` asks for the token, and `sheaf cluster token create --role voter` and \
         `--role agent` print tokens for the other nodes."
    )?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// What a founding member writes into the log of its cluster before anything else: its authority, and who may come in.
pub(crate) fn first_entries(trust: &Trust, secret: Option<&[u8; 32]>) -> anyhow::Result<Vec<Command>> {
    let Some(keyring) = &trust.keyring else { return Ok(Vec::new()) };
    let Some(authority) = keyring.authority() else { return Ok(Vec::new()) };
    let put = PutAuthority {
        fingerprint: Digest(sheaf_trust::pin(authority.certificate())),
        certificate: ObjectValue::from(authority.certificate()),
    };
    let mut commands = vec![AccessCommand::PutAuthority(put)];
    match fs::read(path(keyring)) {
        Ok(bytes) => {
            let Founding { id, digest } = serde_json::from_slice(&bytes)
                .with_context(|| format!("{} is damaged", path(keyring).display()))?;
            commands.push(create(ADMIN, id, digest)?);
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("read {}", path(keyring).display())),
    }
    if let Some(token) = secret.map(sheaf_seal::token_of_secret) {
        commands.push(create(OF_SECRET, token.id(), sheaf_seal::digest_of(&token))?);
    }
    Ok(commands.into_iter().map(Command::Access).collect())
}

/// The log has it now.
pub(crate) fn forget(trust: &Trust) {
    if let Some(keyring) = &trust.keyring {
        // Gone already, or in nobody's way: it says no secret.
        drop(fs::remove_file(path(keyring)));
    }
}

fn create(name: &str, id: TokenId, digest: Digest) -> anyhow::Result<AccessCommand> {
    let name = TokenName::new(name).map_err(|error| anyhow::anyhow!("{}", error.problem))?;
    let of = TokenUse::User(Rights::of(Role::Admin));
    Ok(AccessCommand::CreateToken(CreateToken { id, name, of, digest, expires_at: None }))
}
