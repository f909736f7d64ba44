//! A secured cluster in a few words: a join secret that agents form by, tokens, and which of them commands show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::cluster::SOON;
use crate::{Agent, Cluster, Machine, TOKEN, cli, wait_for};

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

/// A file that its owner alone can read.
///
/// # Panics
/// If it cannot be written.
pub fn private(machine: &Machine, name: &str, text: &str) -> PathBuf {
    let path = machine.write(name, text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    path
}

/// The token that a join secret is, as `login` writes it down at the first agent, whose cluster need not stand yet. No profile
/// stays: commands are to show what the test says.
///
/// # Panics
/// If it takes too long, or others could read it.
pub fn of_secret(machine: &Machine, cluster: &Cluster, secret: &Path) -> String {
    let secret = secret.display().to_string();
    wait_for("a login by the join secret", SOON, || {
        let output = cluster.agent(1).cli(&["login", "--join-secret", &secret]);
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    let path = machine.path(".config/sheaf/config.toml");
    let mode = fs::metadata(&path).expect("login has written it").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(&path).expect("login has written it");
    let token = text.lines().find_map(|line| line.strip_prefix("token = \"")?.strip_suffix('"'));
    let token = token.unwrap_or_else(|| panic!("a token in {path:?}")).to_owned();
    fs::remove_file(&path).expect("it is the test's own");
    token
}

/// Another token; `args` say whose and what for.
///
/// # Panics
/// If it is refused.
pub fn token(cluster: &Cluster, args: &[&str]) -> String {
    let made = cluster.cli(&[&["cluster", "token", "create"], args].concat()).ok();
    made.stdout.trim().to_owned()
}

/// Commands on this machine show that token from now on; none: they show none.
pub fn shows(machine: &Machine, token: Option<&str>) {
    match token {
        Some(token) => drop(private(machine, TOKEN, token)),
        // None was shown.
        None => drop(fs::remove_file(machine.path(TOKEN))),
    }
}

/// The folder `trust` of a voter, once the authority's key is in it.
///
/// # Panics
/// If it takes too long.
pub fn trust(voter: &Agent) -> PathBuf {
    let folder = voter.dir().join("trust");
    wait_for(&format!("{} has the authority's key", voter.name()), SOON, || {
        if folder.join("authority.key").exists() { Ok(()) } else { Err(voter.log_tail()) }
    });
    folder
}

/// Copies the files of a folder `trust`, but for `without`.
///
/// # Panics
/// If it is not there, or cannot be written.
pub fn copy(from: &Path, to: &Path, without: Option<&str>) {
    fs::create_dir_all(to).expect("a directory can be made in the test's own");
    for entry in fs::read_dir(from).expect("a folder that is there") {
        let entry = entry.expect("an entry that can be read");
        if without.is_none_or(|without| entry.file_name() != without) {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a file that can be read");
        }
    }
}
