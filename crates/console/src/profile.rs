//! Which cluster is meant, and who asks: `--address`, a profile, the environment, or the machine's own agent.
//!
//! A token stands in a file or in the environment, never in an argument, which others could see.

mod certificate;
mod store;

use std::path::{Path, PathBuf};

use sheaf_model::{Defect, TokenText, nearest};
use toml::{Table, Value};

use crate::exit::Failure;
use crate::options::Options;
use crate::output::Terminal;

pub(crate) use certificate::Certificate;
pub(crate) use store::{Entry, write, write_certificate};

/// Where a machine's own agent listens.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7420";

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `SHEAF_ADDRESS`
    pub(crate) address: Option<String>,
    /// `SHEAF_TOKEN`
    pub(crate) token: Option<Unsaid>,
    /// `SHEAF_TOKEN_FILE`
    pub(crate) token_file: Option<PathBuf>,
    /// `SHEAF_CERTIFICATE_FILE`
    pub(crate) certificate_file: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME/sheaf/config.toml`, else `$HOME/.config/sheaf/config.toml`
    pub(crate) config: Option<PathBuf>,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = set("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".config")));
        Self {
            address: set("SHEAF_ADDRESS").map(|value| value.to_string_lossy().into_owned()),
            token: set("SHEAF_TOKEN").map(|value| Unsaid(value.to_string_lossy().into_owned())),
            token_file: set("SHEAF_TOKEN_FILE").map(PathBuf::from),
            certificate_file: set("SHEAF_CERTIFICATE_FILE").map(PathBuf::from),
            config: folder.map(|folder| folder.join("sheaf/config.toml")),
        }
    }
}

/// A text that may be a secret, and says nothing of itself.
#[derive(Clone)]
pub(crate) struct Unsaid(pub(crate) String);

impl std::fmt::Debug for Unsaid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unsaid(…)")
    }
}

/// A cluster, as a person knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Its name in the file; none: it is in no file.
    pub(crate) name: Option<String>,
    /// A node of the cluster.
    pub(crate) address: String,
    /// What is shown to it.
    pub(crate) token: Option<TokenText>,
    /// What signs that in place of a token.
    pub(crate) certificate: Option<Certificate>,
    /// The certificate of its authority in PEM.
    pub(crate) authority: Option<String>,
}

/// The profiles of a person.
#[derive(Debug, Default)]
struct Profiles {
    /// The one that is meant when none is named.
    default: Option<String>,
    /// All, by name.
    all: Vec<Profile>,
}

/// Who is to be talked to, and what is shown there. The address: `--address`, `--profile`, `SHEAF_ADDRESS`, the default
/// profile, [`DEFAULT_ADDRESS`]; the first there is. The token: `--token-file`, `--certificate-file`, `SHEAF_TOKEN`,
/// `SHEAF_TOKEN_FILE`, `SHEAF_CERTIFICATE_FILE`, the profile with that address, so that no token goes to a cluster that it is not
/// for.
pub(crate) fn meant(
    options: &Options,
    environment: &Environment,
    out: &mut Terminal,
) -> Result<Profile, Failure> {
    let mut profile = place(options, environment)?;
    let of_file = |path: &PathBuf| Certificate::of_file(path).map(Some);
    if let Some(path) = &options.certificate_file {
        (profile.token, profile.certificate) = (None, of_file(path)?);
    } else if let Some(token) = given(options, environment, out)? {
        (profile.token, profile.certificate) = (Some(token), None);
    } else if let Some(path) = &environment.certificate_file {
        (profile.token, profile.certificate) = (None, of_file(path)?);
    }
    Ok(profile)
}

/// The cluster's authority has been replaced by another, in DER: the profile that was used believes that one from now on. What is
/// given beside the profiles cannot be changed, and its owner is told.
pub(crate) fn follow(
    options: &Options,
    environment: &Environment,
    used: &Profile,
    successor: Vec<u8>,
    out: &mut Terminal,
) {
    let pin = sheaf_seal::sha256(&successor);
    let is_used = |kept: &Profile| kept.token == used.token && kept.certificate == used.certificate;
    let kept = place(options, environment).ok().filter(is_used);
    let written = kept.zip(environment.config.as_ref()).and_then(|(kept, path)| {
        let Profile { name, address, token, certificate, authority } = kept;
        let name = name?;
        let written = match (token, certificate) {
            (Some(token), _) => {
                write(path, &Entry { name: name.clone(), address, token: token.pinning(pin), authority })
            }
            (None, Some(certificate)) => {
                write_certificate(path, &name, &address, &certificate.believing(successor)?)
            }
            (None, None) => return None,
        };
        Some((written, name))
    });
    out.say(&match written {
        Some((Ok(()), name)) => {
            format!("the cluster has replaced its authority; profile {name} knows the new one")
        }
        Some((Err(failure), name)) => {
            format!("the cluster has replaced its authority, and profile {name} cannot be told: {failure}")
        }
        None => format!(
            "the cluster has replaced the authority that this token pins, and will drop it: after the last dot of the token must \
             stand {pin} then; sheaf login writes it so into a profile"
        ),
    });
    if used.certificate.is_some() {
        out.say(
            "the certificate is by the former authority, and worth nothing once that is dropped; an admin makes another: sheaf \
             cluster token create --certificate",
        );
    }
}

/// The same without a token that is given beside the profile.
pub(crate) fn place(options: &Options, environment: &Environment) -> Result<Profile, Failure> {
    let profiles = match &environment.config {
        Some(path) => read(path)?,
        None => Profiles::default(),
    };
    let named = match (&options.address, &options.profile, &environment.address) {
        (Some(_), Some(_), _) => {
            return Err(Failure::usage("--address and --profile are given", "one of them names the cluster"));
        }
        (Some(address), ..) | (None, None, Some(address)) => return Ok(profiles.at(address)),
        (None, named, _) => named.as_ref().or(profiles.default.as_ref()),
    };
    match named {
        Some(name) => profiles.named(name),
        None => Ok(profiles.at(DEFAULT_ADDRESS)),
    }
}

/// A token that is given beside the profiles.
pub(crate) fn given(
    options: &Options,
    environment: &Environment,
    out: &mut Terminal,
) -> Result<Option<TokenText>, Failure> {
    let from = |what: &str, text: &str| {
        let remedy = "one looks like sheaf_ID.SECRET, as `sheaf cluster token create` prints it";
        TokenText::parse(text).map(Some).map_err(|_| Failure::usage(format!("{what} holds no token"), remedy))
    };
    if let Some(path) = &options.token_file {
        return from("--token-file", &read_token(path, out)?);
    }
    if let Some(Unsaid(text)) = &environment.token {
        return from("SHEAF_TOKEN", text);
    }
    match &environment.token_file {
        Some(path) => from("SHEAF_TOKEN_FILE", &read_token(path, out)?),
        None => Ok(None),
    }
}

/// What stands in a file that nobody else can read, or comes on stdin or through a pipe: at most a token.
fn read_token(path: &Path, out: &mut Terminal) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        out.input(TOKEN_FILE_MAX)
    } else {
        if std::fs::metadata(path).is_ok_and(|found| found.is_file()) {
            store::check_private(path, "a token")?;
        }
        std::fs::File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut std::io::Read::take(file, TOKEN_FILE_MAX), &mut bytes)?;
            Ok(bytes)
        })
    };
    let bytes = read.map_err(|error| {
        Failure::usage(format!("{} cannot be read: {error}", path.display()), "a file that holds a token")
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// No file with a token is longer.
const TOKEN_FILE_MAX: u64 = 4096;

impl Profiles {
    fn named(&self, name: &str) -> Result<Profile, Failure> {
        if let Some(profile) = self.all.iter().find(|profile| profile.name.as_deref() == Some(name)) {
            return Ok(profile.clone());
        }
        let names: Vec<&str> = self.all.iter().filter_map(|profile| profile.name.as_deref()).collect();
        let remedy = match (nearest(name, &names), names.as_slice()) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, []) => format!("make one with `sheaf login --address HOST:PORT --profile {name}`"),
            (None, names) => format!("one of {}", names.join(", ")),
        };
        Err(Failure::usage(format!("there is no profile {name:?}"), remedy))
    }

    /// The profile with that address, the default one first; else one that knows nothing else.
    fn at(&self, address: &str) -> Profile {
        let there = || self.all.iter().filter(|profile| profile.address == address);
        let default = there().find(|profile| profile.name == self.default);
        let found = default.or_else(|| there().next()).cloned();
        found.unwrap_or_else(|| Profile { address: address.to_owned(), ..Profile::default() })
    }
}

/// Reads the file; one that is not there has no profiles.
fn read(path: &Path) -> Result<Profiles, Failure> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Profiles::default()),
        Err(error) => {
            return Err(Failure::Defects(vec![said(path, "", format!("cannot be read: {error}"), "")]));
        }
    };
    let profiles = parse(&text).map_err(|defects| {
        let of_file = |defect| Defect { file: path.display().to_string(), ..defect };
        Failure::Defects(defects.into_iter().map(of_file).collect())
    })?;
    if profiles.all.iter().any(|profile| profile.token.is_some()) {
        store::check_private(path, "a token")?;
    }
    if profiles.all.iter().any(|profile| profile.certificate.is_some()) {
        store::check_private(path, "a key")?;
    }
    Ok(profiles)
}

fn said(path: &Path, field: &str, problem: String, remedy: &str) -> Defect {
    Defect { file: path.display().to_string(), ..Defect::new(field, problem, remedy) }
}

/// `default = "NAME"`, and `address = "HOST:PORT"` in each `[profiles.NAME]`, with `token` and `authority`, or `certificate`, if it
/// has them.
fn parse(text: &str) -> Result<Profiles, Vec<Defect>> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        vec![Defect::new("", error.to_string().trim_end().to_owned(), "")]
    })?;
    let mut profiles = Profiles::default();
    let mut defects = unknown_keys(&table, "", &["default", "profiles"]);
    match table.get("default") {
        Some(Value::String(name)) => profiles.default = Some(name.clone()),
        Some(other) => defects.push(mistyped("default", other, "the name of a profile")),
        None => {}
    }
    match table.get("profiles") {
        Some(Value::Table(named)) => {
            for (name, profile) in named {
                match parse_profile(name, profile) {
                    Ok(profile) => profiles.all.push(profile),
                    Err(found) => defects.extend(found),
                }
            }
        }
        Some(other) => defects.push(mistyped("profiles", other, "[profiles.NAME] with an address")),
        None => {}
    }
    if defects.is_empty() { Ok(profiles) } else { Err(defects) }
}

fn parse_profile(name: &str, profile: &Value) -> Result<Profile, Vec<Defect>> {
    let path = format!("profiles.{name}");
    let Value::Table(table) = profile else {
        return Err(vec![mistyped(&path, profile, "[profiles.NAME] with an address")]);
    };
    let mut defects = unknown_keys(table, &path, &["address", "token", "authority", "certificate"]);
    let mut text = |key: &str, wanted: &str| match table.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => {
            defects.push(mistyped(&format!("{path}.{key}"), other, wanted));
            None
        }
        None => None,
    };
    let address = text("address", "\"HOST:PORT\"");
    let token = text("token", "a token, as `sheaf login` writes it");
    let authority = text("authority", "a certificate in PEM, as `sheaf login` writes it");
    let certificate = text("certificate", "a certificate and its key in PEM, as `sheaf login` writes it");
    if !table.contains_key("address") {
        defects.push(Defect::new(format!("{path}.address"), "is missing", "address = \"HOST:PORT\""));
    }
    let token = match token.map(|text| TokenText::parse(&text)).transpose() {
        Ok(token) => token,
        Err(error) => {
            defects.push(Defect::new(format!("{path}.token"), error.to_string(), "sheaf login"));
            None
        }
    };
    let certificate = match certificate.map(|text| Certificate::parse(&text)).transpose() {
        Ok(certificate) => certificate,
        Err(error) => {
            defects.push(Defect::new(format!("{path}.certificate"), error, "sheaf login --certificate-file"));
            None
        }
    };
    match address {
        Some(address) if defects.is_empty() => {
            Ok(Profile { name: Some(name.to_owned()), address, token, certificate, authority })
        }
        _ => Err(defects),
    }
}

fn unknown_keys(table: &Table, path: &str, known: &[&str]) -> Vec<Defect> {
    let unknown = table.keys().filter(|key| !known.contains(&key.as_str()));
    unknown
        .map(|key| {
            let remedy = match nearest(key, known) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known are {}", known.join(", ")),
            };
            Defect::new(key.as_str(), "is no known key", remedy).under(path)
        })
        .collect()
}

fn mistyped(path: &str, value: &Value, wanted: &str) -> Defect {
    Defect::new(path, format!("is of type {}", value.type_str()), wanted)
}

#[cfg(test)]
mod tests;
