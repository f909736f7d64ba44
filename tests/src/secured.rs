//! A secured cluster in a few words: a join secret that agents form by, and the token that it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cluster::SOON;
use crate::{Agent, Machine, TOKEN, cli, wait_for};

/// Makes a secret file of this name.
pub fn secret(machine: &Machine, name: &str) -> PathBuf {
    let path = machine.path(name);
    cli::run(machine, &["secret", "keygen", &path.display().to_string()], b"").ok();
    path
}

/// What nodes have in their config files that form by it.
pub fn config(secret: &Path) -> String {
    format!("[security]\njoin_secret_file = {:?}\n", secret.display().to_string())
}

/// The token that a join secret is, as `login` at this agent finds out, whose cluster need not stand yet. No profile stays.
///
/// # Panics
/// If it takes too long.
pub fn token(machine: &Machine, agent: &Agent, secret: &Path) -> String {
    let secret = secret.display().to_string();
    wait_for("a login by the join secret", SOON, || {
        let output = agent.cli(&["login", "--join-secret", &secret]);
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    let path = machine.path(".config/sheaf/config.toml");
    let text = fs::read_to_string(&path).expect("login has written it");
    let token = text.lines().find_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'));
    let token = token.unwrap_or_else(|| panic!("a token in {path:?}")).to_owned();
    fs::remove_file(&path).expect("it is the test's own");
    token
}

/// Commands on this machine show that token from now on; none: they show none.
pub fn show(machine: &Machine, token: Option<&str>) {
    match token {
        Some(token) => {
            let path = machine.write(TOKEN, token);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
        }
        // None was shown.
        None => drop(fs::remove_file(machine.path(TOKEN))),
    }
}
