//! The file of profiles, written: for its owner alone, whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use sheaf_model::TokenText;
use toml::{Table, Value};

use super::Certificate;
use crate::exit::Failure;

/// What is written of a profile.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// What it is called.
    pub(crate) name: String,
    /// A node of the cluster.
    pub(crate) address: String,
    /// What is shown to it.
    pub(crate) token: TokenText,
    /// The certificate of its authority in PEM.
    pub(crate) authority: Option<String>,
}

/// Puts a profile into the file, in place of the one of that name. The others stay as they are; comments do not.
pub(crate) fn write(path: &Path, entry: &Entry) -> Result<(), Failure> {
    let mut profile = Table::new();
    profile.insert("address".to_owned(), Value::String(entry.address.clone()));
    profile.insert("token".to_owned(), Value::String(entry.token.reveal()));
    if let Some(authority) = &entry.authority {
        profile.insert("authority".to_owned(), Value::String(authority.clone()));
    }
    put(path, &entry.name, profile)
}

/// The same with a certificate in place of a token.
pub(crate) fn write_certificate(
    path: &Path,
    name: &str,
    address: &str,
    certificate: &Certificate,
) -> Result<(), Failure> {
    let mut profile = Table::new();
    profile.insert("address".to_owned(), Value::String(address.to_owned()));
    profile.insert("certificate".to_owned(), Value::String(certificate.reveal().to_owned()));
    put(path, name, profile)
}

fn put(path: &Path, name: &str, profile: Table) -> Result<(), Failure> {
    let failed = |source| Failure::Write { what: path.display().to_string(), source };
    let mut table: Table = match fs::read_to_string(path) {
        // What cannot be parsed was refused when it was read.
        Ok(text) => text.parse().map_err(|error| failed(io::Error::other(error)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Table::new(),
        Err(error) => return Err(failed(error)),
    };
    table.entry("default").or_insert_with(|| Value::String(name.to_owned()));
    let profiles = table.entry("profiles").or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(profiles) = profiles {
        profiles.insert(name.to_owned(), Value::Table(profile));
    }
    replace(path, &table.to_string()).map_err(failed)
}

/// Whoever reads the file at any moment finds the former one or the new one, and nobody else reads either.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // One that a link leads to is replaced itself.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let next = path.with_extension(format!("{}.next", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&next, &path)
    })();
    if written.is_err() {
        // It may hold a token. That it is not there either is no matter.
        let _ = fs::remove_file(&next);
    }
    written
}

/// Refuses a file that others can read, with `what` in it.
pub(super) fn check_private(path: &Path, what: &str) -> Result<(), Failure> {
    let mode = fs::metadata(path).map_or(0, |file| file.permissions().mode() & 0o777);
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let shown = path.display();
    Err(Failure::Refused(format!(
        "{shown} holds {what} and has mode {mode:04o}: others could read it; chmod 600 {shown}, or mount it with mode 0400"
    )))
}
