//! Which cluster is meant: `--address`, a profile, the environment, or the machine's own agent.

use std::path::{Path, PathBuf};

use sheaf_model::{Defect, nearest};
use toml::{Table, Value};

use crate::exit::Failure;
use crate::options::Options;

/// Where a machine's own agent listens.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7420";

/// What the environment says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `SHEAF_ADDRESS`
    pub(crate) address: Option<String>,
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
            config: folder.map(|folder| folder.join("sheaf/config.toml")),
        }
    }
}

/// The profiles of a person.
#[derive(Debug, Default)]
struct Profiles {
    /// The one that is meant when none is named.
    default: Option<String>,
    /// Names and addresses.
    addresses: Vec<(String, String)>,
}

/// The address to talk to: `--address`, `--profile`, `SHEAF_ADDRESS`, the default profile, [`DEFAULT_ADDRESS`];
/// the first there is.
pub(crate) fn address(options: &Options, environment: &Environment) -> Result<String, Failure> {
    if let Some(address) = &options.address {
        return Ok(address.clone());
    }
    if let (None, Some(address)) = (&options.profile, &environment.address) {
        return Ok(address.clone());
    }
    let profiles = match &environment.config {
        Some(path) => read(path)?,
        None => Profiles::default(),
    };
    match options.profile.as_ref().or(profiles.default.as_ref()) {
        Some(name) => profiles.address(name),
        None => Ok(DEFAULT_ADDRESS.to_owned()),
    }
}

impl Profiles {
    fn address(&self, name: &str) -> Result<String, Failure> {
        if let Some((_, address)) = self.addresses.iter().find(|(profile, _)| profile == name) {
            return Ok(address.clone());
        }
        let names: Vec<&str> = self.addresses.iter().map(|(name, _)| name.as_str()).collect();
        let remedy = match (nearest(name, &names), names.as_slice()) {
            (Some(near), _) => format!("did you mean {near}?"),
            (None, []) => format!("write [profiles.{name}] with an address into ~/.config/sheaf/config.toml"),
            (None, names) => format!("one of {}", names.join(", ")),
        };
        Err(Failure::usage(format!("there is no profile {name:?}"), remedy))
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
    parse(&text).map_err(|defects| {
        let of_file = |defect| Defect { file: path.display().to_string(), ..defect };
        Failure::Defects(defects.into_iter().map(of_file).collect())
    })
}

fn said(path: &Path, field: &str, problem: String, remedy: &str) -> Defect {
    Defect { file: path.display().to_string(), ..Defect::new(field, problem, remedy) }
}

/// `default = "NAME"`, and `address = "HOST:PORT"` in each `[profiles.NAME]`.
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
                match profile_address(name, profile) {
                    Ok(address) => profiles.addresses.push((name.clone(), address)),
                    Err(found) => defects.extend(found),
                }
            }
        }
        Some(other) => defects.push(mistyped("profiles", other, "[profiles.NAME] with an address")),
        None => {}
    }
    if defects.is_empty() { Ok(profiles) } else { Err(defects) }
}

fn profile_address(name: &str, profile: &Value) -> Result<String, Vec<Defect>> {
    let path = format!("profiles.{name}");
    let Value::Table(profile) = profile else {
        return Err(vec![mistyped(&path, profile, "[profiles.NAME] with an address")]);
    };
    let mut defects = unknown_keys(profile, &path, &["address"]);
    let field = format!("{path}.address");
    match profile.get("address") {
        Some(Value::String(address)) if defects.is_empty() => return Ok(address.clone()),
        Some(Value::String(_)) => {}
        Some(other) => defects.push(mistyped(&field, other, "\"HOST:PORT\"")),
        None => defects.push(Defect::new(field, "is missing", "address = \"HOST:PORT\"")),
    }
    Err(defects)
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
mod tests {
    use super::*;

    const FILE: &str = "default = \"prod\"\n[profiles.prod]\naddress = \"10.0.0.11:7420\"\n[profiles.lab]\naddress = \"lab:1\"\n";

    fn asked(
        address: Option<&str>,
        profile: Option<&str>,
        variable: Option<&str>,
        file: &str,
    ) -> Result<String, Failure> {
        let place = tempfile::tempdir().expect("a directory");
        let config = place.path().join("config.toml");
        std::fs::write(&config, file).expect("written");
        let text = |text: Option<&str>| text.map(str::to_owned);
        let options = Options { address: text(address), profile: text(profile), ..Options::default() };
        super::address(&options, &Environment { address: text(variable), config: Some(config) })
    }

    #[test]
    fn what_is_said_nearer_wins() {
        let good =
            |address, profile, variable, file| asked(address, profile, variable, file).expect("an address");
        assert_eq!(good(Some("a:1"), None, Some("b:1"), FILE), "a:1");
        assert_eq!(good(None, Some("lab"), Some("b:1"), FILE), "lab:1");
        assert_eq!(good(None, None, Some("b:1"), FILE), "b:1");
        assert_eq!(good(None, None, None, FILE), "10.0.0.11:7420");
        assert_eq!(good(None, None, None, ""), DEFAULT_ADDRESS);
        let nowhere = Environment { address: None, config: Some(PathBuf::from("/nonexistent/config.toml")) };
        assert_eq!(address(&Options::default(), &nowhere).expect("the default"), DEFAULT_ADDRESS);
    }

    #[test]
    fn an_unknown_profile_is_wrong_usage() {
        let error = asked(None, Some("stage"), None, FILE).expect_err("there is none");
        assert_eq!(error.exit().code(), 2);
        assert!(error.to_string().starts_with("there is no profile \"stage\"; "), "{error}");
    }

    #[test]
    fn a_bad_file_is_refused_with_everything_that_is_wrong() {
        let error =
            asked(None, None, None, "defualt = 1\n[profiles.a]\nadress = \"x\"\n").expect_err("two keys");
        let text = error.to_string();
        assert!(text.contains("config.toml: defualt: is no known key; "), "{text}");
        assert!(text.contains("config.toml: profiles.a.adress: is no known key; "), "{text}");
        assert!(text.contains("config.toml: profiles.a.address: is missing; "), "{text}");
        assert!(asked(None, None, None, "[").is_err());
    }
}
