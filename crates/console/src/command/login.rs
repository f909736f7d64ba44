//! `sheaf login`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sheaf_model::{Contact, NodeKey, Timestamp, TokenText};
use sheaf_wire::peer::{HelloAsk, PeerClient};
use sheaf_wire::{Credentials, Join, Pair};

use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::Terminal;
use crate::profile::{self, Certificate, Entry, Environment, Profile};

/// No token is longer; what is typed beyond is none.
const TOKEN_MAX: usize = 512;
/// How long a node may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);
/// The profile of somebody who names none.
const PROFILE: &str = "default";

/// `sheaf login`
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
The token is asked for on the terminal, without showing it; or read from --token-file, or from stdin if that is no terminal. It is \
never an argument, which others could see. It is shown to the cluster, and if that knows it, it is written with the address into \
the profile (--profile, else the one that is used without it), in ~/.config/sheaf/config.toml, for you alone to read. Comments in \
that file are not kept. A certificate (--certificate-file) takes the place of a token: calls are signed with its key, which is sent \
nowhere.

Examples:
  sheaf login --address import-01:7420
  sheaf login --address import-01:7420 --profile prod --token-file ./alice.token
  sheaf login --address import-01:7420 --certificate-file ./alice.pem
  sheaf login --address import-01:7420 --join-secret /etc/sheaf/join.secret")]
pub struct Login {
    /// Show the token that the nodes' join secret is, in the file that their [security] join_secret_file names
    #[arg(long, value_name = "FILE")]
    join_secret: Option<PathBuf>,
}

impl Login {
    pub(crate) async fn run(&self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let environment = Environment::of_process();
        let Some(path) = &environment.config else {
            return Err(Failure::usage("there is no place for profiles", "set HOME or XDG_CONFIG_HOME"));
        };
        let known = place(options, &environment)?;
        let (token, certificate) = match (&self.join_secret, &options.certificate_file) {
            (Some(file), _) => (Some(of_secret(file, &known.address).await?), None),
            (None, Some(file)) => (None, Some(Certificate::of_file(file)?)),
            (None, None) => (Some(token(options, &environment, &known.address, out)?), None),
        };
        let shows = Profile { token, certificate, ..known.clone() };
        let (client, successor) = connect::to(shows.clone(), options.trace).await?;
        let status = client.cluster_status().await?;
        if !status.secured {
            let address = &known.address;
            return Err(Failure::Refused(format!(
                "nobody at {address} asks for a token (security is off), so it was not looked at and nothing is written"
            )));
        }
        let Profile { name, address, token, certificate, authority } = shows;
        let name = name.unwrap_or_else(|| PROFILE.to_owned());
        let what = if certificate.is_some() { "certificate" } else { "token" };
        if let Some(token) = token {
            let token = match &successor {
                Some(successor) => token.pinning(sheaf_seal::sha256(successor)),
                None => token,
            };
            profile::write(path, &Entry { name: name.clone(), address, token, authority })?;
        } else if let Some(certificate) = certificate {
            let followed = successor.and_then(|successor| certificate.believing(successor));
            profile::write_certificate(path, &name, &address, &followed.unwrap_or(certificate))?;
        }
        out.say(&format!(
            "cluster {} knows the {what}; profile {name} in {} has it",
            status.cluster,
            path.display()
        ));
        Ok(Exit::Done)
    }
}

/// The token that a join secret is, with the authority of the cluster at `address`, which proves that it holds the secret.
async fn of_secret(file: &Path, address: &str) -> Result<TokenText, Failure> {
    let remedy = "the file that nodes have as [security] join_secret_file";
    let secret = sheaf_seal::read(file).map_err(|error| Failure::usage(error.to_string(), remedy))?;
    let failed = |error: sheaf_trust::TrustError| Failure::Refused(error.to_string());
    let joining = sheaf_trust::joining(&secret, now()).map_err(failed)?;
    let pair = Pair { certificate: joining.certificate, key: joining.key };
    let join = Join { authority: joining.authority, pair };
    let transport = connect::tls(&Credentials { join: Some(join), ..Credentials::default() })?;
    let ask = HelloAsk {
        instance: "login".to_owned(),
        key: NodeKey::from("login"),
        cluster: None,
        node: None,
        nonce: None,
    };
    let greeting = PeerClient::new(&Contact::anyone(address), &transport)?.hello(ask, HELLO).await?;
    let Some(issuing) = greeting.authorities.first().filter(|_| greeting.cluster.is_some()) else {
        return Err(Failure::Refused(format!("the node at {address} belongs to no cluster yet; try again")));
    };
    Ok(sheaf_seal::token_of_secret(&secret).pinning(sheaf_seal::sha256(issuing)))
}

fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// Where the token is for, and the profile that gets it. One that is named need not be there yet.
fn place(options: &Options, environment: &Environment) -> Result<Profile, Failure> {
    let Some(named) = &options.profile else { return profile::place(options, environment) };
    let of_profile = profile::place(&Options { address: None, ..options.clone() }, environment);
    match (&options.address, of_profile) {
        (None, found) => found,
        (Some(address), found) => {
            let known = found.ok().filter(|known| known.address == *address);
            let authority = known.and_then(|known| known.authority);
            let (name, address) = (Some(named.clone()), address.clone());
            Ok(Profile { name, address, authority, ..Profile::default() })
        }
    }
}

fn token(
    options: &Options,
    environment: &Environment,
    address: &str,
    out: &mut Terminal,
) -> Result<TokenText, Failure> {
    if let Some(token) = profile::given(options, environment, out)? {
        return Ok(token);
    }
    let unread = |error: std::io::Error| {
        Failure::usage(format!("stdin cannot be read: {error}"), "the token on stdin, or --token-file FILE")
    };
    let bytes = if out.asks() {
        let typed = out.ask_unseen(&format!("token for {address}"), TOKEN_MAX).map_err(unread)?;
        typed.ok_or(Failure::Interrupted)?
    } else {
        out.input(TOKEN_MAX as u64).map_err(unread)?
    };
    TokenText::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|error| Failure::usage("that is no token", error.to_string()))
}

#[cfg(test)]
mod tests {
    use sheaf_model::TokenId;

    use super::*;
    use crate::output::recorded;

    #[test]
    fn a_token_is_typed_unseen_and_what_is_none_is_not_repeated() {
        let text = TokenText::new(TokenId([1; 6]), [2; 32], None);
        let ask = |input: &str| {
            let (mut out, recording) = recorded::terminal(input);
            let token = token(&Options::default(), &Environment::default(), "a:1", &mut out);
            (token, recording.talk() + &recording.data())
        };
        let (token, talk) = ask(&(text.reveal() + "\n"));
        assert_eq!(token.expect("typed"), text);
        assert_eq!(talk, "token for a:1: \n");
        let (token, talk) = ask("hunter2\n");
        let error = token.expect_err("no token");
        assert!(error.to_string().starts_with("that is no token; "), "{error}");
        assert!(!format!("{error}{talk}").contains("hunter2"));
        assert!(matches!(ask("\u{3}\n").0, Err(Failure::Interrupted)));
    }

    #[test]
    fn the_profile_that_is_named_need_not_be_there_yet() {
        let folder = tempfile::tempdir().expect("a directory");
        let config = folder.path().join("config.toml");
        std::fs::write(&config, "[profiles.prod]\naddress = \"a:1\"\nauthority = \"PEM\"\n")
            .expect("written");
        let environment = Environment { config: Some(config), ..Environment::default() };
        let at = |profile: Option<&str>, address: Option<&str>| {
            let text = |text: Option<&str>| text.map(str::to_owned);
            let options = Options { profile: text(profile), address: text(address), ..Options::default() };
            place(&options, &environment).map(|it| (it.name, it.address, it.authority))
        };
        let (name, pem) = (|name: &str| Some(name.to_owned()), Some("PEM".to_owned()));
        assert_eq!(at(Some("prod"), None).expect("known"), (name("prod"), "a:1".to_owned(), pem.clone()));
        assert_eq!(at(None, Some("a:1")).expect("known"), (name("prod"), "a:1".to_owned(), pem.clone()));
        assert_eq!(at(Some("prod"), Some("a:1")).expect("known"), (name("prod"), "a:1".to_owned(), pem));
        assert_eq!(at(Some("prod"), Some("b:1")).expect("moved"), (name("prod"), "b:1".to_owned(), None));
        assert_eq!(at(Some("lab"), Some("b:1")).expect("new"), (name("lab"), "b:1".to_owned(), None));
        assert!(at(Some("lab"), None).is_err(), "nobody knows where that is");
    }
}
