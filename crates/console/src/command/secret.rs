//! `sheaf secret …`

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use sheaf_model::view::SecretRow;
use sheaf_model::{NameError, SECRET_MAX, SecretName, SecretValue, Timestamp};
use sheaf_wire::Client;
use sheaf_wire::secret::{DeleteSecret, ListSecrets, SetSecret};

use crate::command::apply::{OutcomeRow, warn};
use crate::command::{page, several};
use crate::connect::{self, connect};
use crate::exit::{Exit, Failure};
use crate::options::{Options, Page, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::table::{self, Column, Listed, Listing};
use crate::when;

/// What to do when there is nothing to list.
const EMPTY: &str = "no secrets yet; set one: sheaf secret set NAME";
const NONE_SUCH: &str = "no secret is like that; `sheaf secret list` shows all";

/// `sheaf secret …`
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
Secrets are what modules must know and nobody else: tokens, passwords, keys. The node that is asked to set one seals it with the \
cluster's key, which stands in a file that every node has ([secrets] key_file in its configuration); only sealed it is kept, \
copied and sent. A module's document says who gets it: by ${secret.NAME} in env or files, or, for plugins that ask for it, in the \
list `secrets`. No command shows a value.")]
pub enum Secret {
    /// Set a secret, or set it anew
    Set(Set),
    /// List secrets, without their values
    List(List),
    /// Delete secrets that no module and no bucket names
    Delete(Delete),
    /// Make a key file for the cluster
    Keygen(Keygen),
}

/// `sheaf secret set`
#[derive(Args, Debug)]
#[command(after_long_help = "\
The value is asked for on the terminal, without showing it; or read from stdin if that is no terminal; or from a file. It is never \
an argument, which others could see. What is read is taken as it is, the last line feed too: printf writes none.

A program that has it in its environment or in a file gets the new value at its next start: `sheaf bucket restart NAME`. The answer
comes when it is set, so that --wait has nothing to wait for.

Examples:
  sheaf secret set crawler.token
  printf %s \"$TOKEN\" | sheaf secret set crawler.token
  sheaf secret set tls.key --from-file ./server.key")]
pub struct Set {
    /// The secret
    #[arg(value_parser = secret_name, value_name = "NAME")]
    name: SecretName,
    /// Read the value from a file, or - for stdin
    #[arg(long, value_name = "FILE|-")]
    from_file: Option<PathBuf>,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf secret list`
#[derive(Args, Debug)]
pub struct List {
    /// Only those: name (with * and ?), key
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf secret delete`
#[derive(Args, Debug)]
pub struct Delete {
    /// The secrets
    #[arg(value_parser = secret_name, required = true, value_name = "NAME")]
    names: Vec<SecretName>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf secret keygen`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Once for a cluster: bring the same file to every node, by the way that you trust, for the agent's user alone to read; name it in \
the configuration, and start the agents again. Keep a copy: without it no secret can be read any more. A file that is there is \
never overwritten.

Examples:
  sheaf secret keygen /etc/sheaf/secrets.key")]
pub struct Keygen {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The name of a secret, as an argument. Shared with `sheaf module try`.
pub(super) fn secret_name(text: &str) -> Result<SecretName, String> {
    SecretName::new(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}

/// A value of these bytes; `from` where, for the error.
pub(super) fn value(from: &str, bytes: &[u8]) -> Result<SecretValue, Failure> {
    SecretValue::new(bytes).map_err(|error| Failure::usage(format!("{from}: {error}"), error.remedy()))
}

/// A file's content, as far as it can be a secret's.
pub(super) fn read_file(path: &Path) -> Result<SecretValue, Failure> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LIMIT).read_to_end(&mut bytes));
    let name = path.display();
    read.map_err(|error| Failure::usage(format!("{name} cannot be read: {error}"), "a file with the value"))?;
    value(&name.to_string(), &bytes)
}

/// One byte more than is kept.
const LIMIT: u64 = SECRET_MAX as u64 + 1;

impl Secret {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let format = options.output;
        match self {
            // What can be wrong with the value is told before anybody is asked.
            Self::Set(set) => {
                let value = set.value(out)?;
                set.run(value, &connect(options, out).await?, format, out).await
            }
            Self::List(list) => list.run(&connect(options, out).await?, format, out).await,
            Self::Delete(delete) => delete.run(&connect(options, out).await?, format, out).await,
            Self::Keygen(keygen) => keygen.run(format, out),
        }
    }
}

impl Set {
    fn value(&self, out: &mut Terminal) -> Result<SecretValue, Failure> {
        let from_stdin = |error: std::io::Error| {
            Failure::usage(
                format!("stdin cannot be read: {error}"),
                "the value on stdin, or --from-file FILE",
            )
        };
        match self.from_file.as_deref() {
            Some(path) if path != Path::new("-") => read_file(path),
            None if out.asks() => {
                let typed = out.ask_unseen(&format!("value of {}", self.name), SECRET_MAX + 1);
                value("what was typed", &typed.map_err(from_stdin)?.ok_or(Failure::Interrupted)?)
            }
            _ => value("stdin", &out.input(LIMIT).map_err(from_stdin)?),
        }
    }

    async fn run(
        self,
        value: SecretValue,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        self.wait.already_so();
        let ask = SetSecret { name: self.name.clone(), value, request: connect::request() };
        let done = client.set_secret(ask).await?;
        warn(out, &done.warnings);
        let mut listing = Listing::new(format);
        listing.page(out, &[OutcomeRow::of("Secret", self.name.as_str(), "set", done.revision)])?;
        listing.end(out)?;
        Ok(Exit::Done)
    }
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let fetch = async |page, filter| client.list_secrets(ListSecrets { page, filter }).await;
        page::narrowed(&page::filter(&self.filter)?, &self.page, format, out, (EMPTY, NONE_SUCH), fetch).await
    }
}

impl Listed for SecretRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("SET").number(),
        Column::new("BY"),
        Column::new("KEY"),
        Column::new("REVISION").wide().number(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            when::age_of(now, Some(&self.at)),
            self.actor.clone(),
            self.key.clone(),
            self.revision.to_string(),
        ]
    }
}

impl Delete {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        self.wait.already_so();
        let ask = async |name| client.delete_secret(DeleteSecret { name, request: connect::request() }).await;
        several::delete("Secret", self.names, ("", self.yes), format, out, ask).await
    }
}

/// A key that was made, and where it is.
#[derive(Serialize)]
struct Made {
    /// Its id, which is no secret.
    key: String,
    file: String,
}

impl Keygen {
    fn run(self, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let key = sheaf_seal::make(&self.file).map_err(|error| Failure::Refused(error.to_string()))?;
        let file = std::path::absolute(&self.file).unwrap_or(self.file).display().to_string();
        let made = Made { key: key.id().to_string(), file };
        let Made { key, file } = &made;
        match format {
            Format::Json => out.json(&table::json(&made))?,
            Format::Yaml => out.yaml(&table::json(&made))?,
            Format::Name => out.line(file)?,
            Format::Table | Format::Wide => out.line(&format!("key {key} is in {file}"))?,
        }
        out.say(&format!(
            "give every node this file, readable by its agent's user alone, set [secrets] key_file = \"{file}\" (or, to \
             join by, [security] join_secret_file), and start the agents again; keep a copy"
        ));
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::output::recorded;

    fn set(from_file: Option<&str>) -> Set {
        let wait = Wait { wait: false, timeout: Duration::ZERO };
        let name = SecretName::new("token").expect("a name");
        Set { name, from_file: from_file.map(PathBuf::from), wait }
    }

    #[test]
    fn a_value_is_typed_or_read_and_never_printed() {
        let (mut out, recording) = recorded::terminal("hunter2\nrest");
        assert_eq!(set(None).value(&mut out).expect("typed").reveal(), b"hunter2");
        assert_eq!((recording.data(), recording.talk()), (String::new(), "value of token: \n".to_owned()));
        let (mut out, _) = recorded::terminal("hunter2\n");
        assert_eq!(set(Some("-")).value(&mut out).expect("read").reveal(), b"hunter2\n");
        let (mut out, _) = recorded::terminal("");
        let error = set(None).value(&mut out).expect_err("nothing").to_string();
        assert_eq!(error, "stdin: the value is empty; 1 to 65536 bytes");
        let (mut out, _) = recorded::terminal(&"x".repeat(SECRET_MAX + 1));
        let error = set(Some("-")).value(&mut out).expect_err("too much").to_string();
        assert!(error.starts_with("stdin: the value has 65537 bytes; at most 65536 are kept"), "{error}");
        let (mut out, _) = recorded::terminal("\u{3}\n");
        assert!(matches!(set(None).value(&mut out), Err(Failure::Interrupted)));
    }

    #[test]
    fn a_file_is_read_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("v");
        std::fs::write(&file, b"\0\xff\n").expect("written");
        let (mut out, _) = recorded::terminal("");
        assert_eq!(set(file.to_str()).value(&mut out).expect("read").reveal(), b"\0\xff\n");
        let error = read_file(&dir.path().join("none")).expect_err("none").to_string();
        assert!(error.contains("none cannot be read"), "{error}");
    }

    #[test]
    fn a_key_that_was_made_is_told_in_every_format() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = |format, name: &str| {
            let file = dir.path().join(name);
            let (mut out, recording) = recorded::terminal("");
            Keygen { file: file.clone() }.run(format, &mut out).expect("it is made");
            let key = sheaf_seal::Key::read(&file).expect("it can be read").id().to_string();
            assert!(recording.talk().starts_with("give every node this file"), "{}", recording.talk());
            (recording.data(), key, file.display().to_string())
        };
        let (data, key, file) = made(Format::Table, "a");
        assert_eq!(data, format!("key {key} is in {file}\n"));
        let (data, key, file) = made(Format::Json, "b");
        let said: serde_json::Value = serde_json::from_str(&data).expect("JSON");
        assert_eq!(said, serde_json::json!({"key": key, "file": file}));
        let (data, _, file) = made(Format::Yaml, "c");
        assert!(
            data.starts_with("key: ") && data.lines().any(|line| line == format!("file: {file}")),
            "{data}"
        );
        let (data, _, file) = made(Format::Name, "d");
        assert_eq!(data, format!("{file}\n"));
    }
}
