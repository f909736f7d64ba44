//! `sheaf cluster token …`

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use sheaf_model::view::TokenRow;
use sheaf_model::{NameError, Prefix, Rights, Role, Span, Timestamp, TokenId, TokenName, TokenUse};
use sheaf_trust::{Person, PrivateKey};
use sheaf_wire::Client;
use sheaf_wire::cluster::{CreateCertificate, CreateToken, CreatedToken, ListTokens, RevokeToken};

use crate::command::page;
use crate::command::several;
use crate::connect::{self, connect};
use crate::exit::{Exit, Failure};
use crate::options::{Options, Page, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::profile::{self, Environment};
use crate::table::{self, Column, Listed};
use crate::when;

/// What to do when there is nothing to list.
const EMPTY: &str = "no tokens yet; make one: sheaf cluster token create --name NAME --role ROLE";
const NONE_SUCH: &str = "no token is like that; `sheaf cluster token list` shows all";
/// The longest that what is signed is good: nodes take nothing longer.
const SIGNED_MAX: Duration = Duration::from_secs(15 * 60);
/// A token to join with is for now.
const JOIN_TTL: Span = Span::seconds(24 * 3600);

/// `sheaf cluster token …`
#[derive(Debug, Subcommand)]
#[command(after_long_help = "\
A token says who asks. A viewer sees everything but the values of secrets, settings and tokens; an operator changes buckets, \
jobs and nodes, with --on only the buckets under a prefix; an admin also modules, backends, secrets, settings and tokens. With an agent's or a voter's token \
new nodes join, as many as come until it expires or is revoked; those of a voter's may become voters. A certificate does for a \
person or a program what a token does, and nothing secret is ever sent: calls are signed with its key.

What somebody did with either stands in history as user:NAME.")]
pub enum Token {
    /// Make a token, and show it this once
    Create(Create),
    /// List the tokens, without their secrets
    List(List),
    /// From now on a token is worth nothing
    Revoke(Revoke),
    /// Sign with a certificate what a program sends as `authorization: Bearer …`; asks no cluster
    Sign(Sign),
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the words of the command line")]
pub enum Purpose {
    Viewer,
    Operator,
    Admin,
    Agent,
    Voter,
}

/// `sheaf cluster token create`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Only the token is printed on stdout. Nobody can show it again: the cluster keeps nothing but a digest of it. With --certificate it is \
a certificate with its key, which is made here and sent nowhere.

Examples:
  sheaf cluster token create --name alice --role operator
  (umask 077; sheaf cluster token create --name ci --role operator --on /team-a/ --ttl 90d > ci.token)
  (umask 077; sheaf cluster token create --name bob --role viewer --certificate > bob.pem)
  sheaf cluster token create --role agent --ttl 1h")]
pub struct Create {
    /// What people call it, and who acts by it [default for agent and voter: made up]
    #[arg(long, value_name = "NAME", value_parser = token_name)]
    name: Option<TokenName>,
    /// What it is for
    #[arg(long, value_enum)]
    role: Purpose,
    /// For an operator: changes of these buckets and nothing else
    #[arg(long, value_name = "/PREFIX/", value_parser = prefix)]
    on: Option<Prefix>,
    /// For so long it is valid [default: until it is revoked; for agent and voter 24h]
    #[arg(long, value_name = "DURATION", value_parser = when::duration)]
    ttl: Option<Duration>,
    /// Make a certificate in place of a token, for a person or a program
    #[arg(long)]
    certificate: bool,
    #[command(flatten)]
    wait: Wait,
}

/// `sheaf cluster token sign`
///
/// What is printed is good for a few minutes. It is a JSON Web Token (ES256), which any library for those can make as well: see
/// ClusterService.CreateCertificate in proto/sheaf/v1/cluster.proto.
#[derive(Args, Debug)]
pub struct Sign {
    /// For so long it is good, 15m at most
    #[arg(long = "for", value_name = "DURATION", default_value = "5m", value_parser = when::duration)]
    span: Duration,
}

/// `sheaf cluster token list`
#[derive(Args, Debug)]
pub struct List {
    /// Only those: name (with * and ?), role, created_by, expired
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf cluster token revoke`
#[derive(Args, Debug)]
pub struct Revoke {
    /// The tokens
    #[arg(required = true, value_name = "NAME|ID")]
    tokens: Vec<String>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

fn said(NameError { problem, remedy }: NameError) -> String {
    format!("{problem}; {remedy}")
}

fn token_name(text: &str) -> Result<TokenName, String> {
    TokenName::new(text).map_err(said)
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::new(text).map_err(said)
}

impl Token {
    pub(crate) async fn run(self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        let format = options.output;
        match self {
            Self::Create(create) if create.certificate => {
                let ask = create.asked()?;
                certify(&connect(options, out).await?, ask, format, out).await
            }
            Self::Create(create) => {
                let ask = create.asked()?;
                let created = connect(options, out).await?.create_token(ask).await?;
                show(&created, format, out)?;
                Ok(Exit::Done)
            }
            Self::List(list) => list.run(&connect(options, out).await?, format, out).await,
            Self::Revoke(revoke) => revoke.run(&connect(options, out).await?, format, out).await,
            Self::Sign(sign) => sign.run(options, out),
        }
    }
}

impl Sign {
    fn run(&self, options: &Options, out: &mut Terminal) -> Result<Exit, Failure> {
        if self.span > SIGNED_MAX {
            return Err(Failure::usage("what is signed is good for 15m at most", "like --for 5m"));
        }
        let profile = profile::meant(options, &Environment::of_process(), out)?;
        let certificate = profile.certificate.ok_or_else(|| {
            Failure::usage(
                "there is no certificate to sign with",
                "--certificate-file FILE, or sheaf login with it",
            )
        })?;
        out.line(&certificate.signed(self.span)?)?;
        Ok(Exit::Done)
    }
}

impl Create {
    fn asked(self) -> Result<CreateToken, Failure> {
        let Self { name, role, on, ttl, certificate, wait } = self;
        wait.already_so();
        let user = |role| {
            Rights::new(role, on.clone())
                .map(TokenUse::User)
                .map_err(|NameError { problem, remedy }| Failure::usage(problem, remedy))
        };
        let of = match role {
            Purpose::Viewer => user(Role::Viewer)?,
            Purpose::Operator => user(Role::Operator)?,
            Purpose::Admin => user(Role::Admin)?,
            Purpose::Agent | Purpose::Voter if on.is_some() => {
                return Err(Failure::usage("--on is for operators", "--role operator, or no --on"));
            }
            Purpose::Agent | Purpose::Voter => TokenUse::Join { voter: role == Purpose::Voter },
        };
        let joins = matches!(of, TokenUse::Join { .. });
        if joins && certificate {
            let remedy = "--role viewer, operator or admin; or no --certificate";
            return Err(Failure::usage("nodes join with a token", remedy));
        }
        let name = match name {
            Some(name) => name,
            None if joins => made_up(&of)?,
            None => {
                let remedy = "--name NAME: who acts by it, as history will tell";
                return Err(Failure::usage("a token of a person or a program has a name", remedy));
            }
        };
        let given = ttl.map(|ttl| Span(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        let ttl = given.or_else(|| joins.then_some(JOIN_TTL));
        if ttl == Some(Span(0)) {
            return Err(Failure::usage("--ttl 0: the token would never be valid", "like 24h; or no --ttl"));
        }
        Ok(CreateToken { name, of, ttl })
    }
}

/// Has a certificate made for a new key, and shows both.
async fn certify(
    client: &Client,
    ask: CreateToken,
    format: Format,
    out: &mut Terminal,
) -> Result<Exit, Failure> {
    let failed = |error: sheaf_trust::TrustError| Failure::Refused(error.to_string());
    let CreateToken { name, of, ttl } = ask;
    let rights = of.rights().cloned();
    let rights = rights.ok_or_else(|| Failure::usage("nodes join with a token", "no --certificate"))?;
    let key = PrivateKey::new().map_err(failed)?;
    let public_key = key.public().raw().to_vec();
    let made = client.create_certificate(CreateCertificate { name, rights, ttl, public_key }).await?;
    let id = TokenId::parse(&made.row.id);
    let id = id.ok_or_else(|| Failure::Refused("the node sent no id of a certificate".to_owned()))?;
    let person = Person::new(made.cluster.0, id, made.certificate, key, made.authority).pem();
    match format {
        Format::Json => out.json(&table::json(&Certified { pem: person, row: &made.row }))?,
        Format::Yaml => out.yaml(&table::json(&Certified { pem: person, row: &made.row }))?,
        Format::Name | Format::Table | Format::Wide => out.write(&person)?,
    }
    out.flush()?;
    out.say(&said_of("certificate", &made.row));
    Ok(Exit::Done)
}

/// A certificate that was made, for programs.
#[derive(Serialize)]
struct Certified<'a> {
    pem: String,
    #[serde(flatten)]
    row: &'a TokenRow,
}

/// What was made, for the person who sees it this once.
fn said_of(what: &str, row: &TokenRow) -> String {
    let TokenRow { name, role, prefix, expires_at, .. } = row;
    let on = if prefix.is_empty() { String::new() } else { format!(" on {prefix}") };
    let until =
        expires_at.as_ref().map_or_else(|| "until it is revoked".to_owned(), |at| format!("until {at}"));
    format!("{what} {name}: {role}{on}, {until}; nobody can show it again")
}

/// A name for what is soon gone: a token to join with.
fn made_up(of: &TokenUse) -> Result<TokenName, Failure> {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let name = format!("{}-{}", of.as_str(), random.get(..8).unwrap_or(&random));
    TokenName::new(&name).map_err(|error| Failure::usage(error.to_string(), error.remedy))
}

/// A token that was made, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    token: String,
    #[serde(flatten)]
    row: &'a TokenRow,
}

fn show(created: &CreatedToken, format: Format, out: &mut Terminal) -> Result<(), Failure> {
    let token = created.token.reveal();
    match format {
        Format::Json => out.json(&table::json(&Shown { token, row: &created.row }))?,
        Format::Yaml => out.yaml(&table::json(&Shown { token, row: &created.row }))?,
        Format::Name | Format::Table | Format::Wide => out.line(&token)?,
    }
    out.flush()?;
    out.say(&said_of("token", &created.row));
    Ok(())
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let fetch = async |page, filter| client.list_tokens(ListTokens { page, filter }).await;
        page::narrowed(&page::filter(&self.filter)?, &self.page, format, out, (EMPTY, NONE_SUCH), fetch).await
    }
}

impl Listed for TokenRow {
    const COLUMNS: &'static [Column] = &[
        Column::new("NAME"),
        Column::new("ID"),
        Column::new("ROLE"),
        Column::new("PREFIX"),
        Column::new("BY"),
        Column::new("MADE").number(),
        Column::new("EXPIRES"),
        Column::new("KIND").wide(),
    ];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let expires = match &self.expires_at {
            None => "-".to_owned(),
            Some(_) if self.expired => "expired".to_owned(),
            Some(at) => format!("in {}", when::left(now, at)),
        };
        let prefix = if self.prefix.is_empty() { "-" } else { &self.prefix };
        vec![
            self.name.clone(),
            self.id.clone(),
            self.role.clone(),
            prefix.to_owned(),
            self.created_by.clone(),
            when::age_of(now, Some(&self.created_at)),
            expires,
            if self.certificate { "certificate" } else { "token" }.to_owned(),
        ]
    }
}

impl Revoke {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        self.wait.already_so();
        let ask = async |token| client.revoke_token(RevokeToken { token, request: connect::request() }).await;
        several::each("Token", ("revoke", "revoked"), self.tokens, ("", self.yes), format, out, ask).await
    }
}

#[cfg(test)]
mod tests {
    use sheaf_model::{Revision, TokenText};

    use super::*;
    use crate::output::recorded;

    fn create(name: Option<&str>, role: Purpose, on: Option<&str>) -> Create {
        let name = name.map(|name| TokenName::new(name).expect("a name"));
        let on = on.map(|on| Prefix::new(on).expect("a prefix"));
        let wait = Wait { wait: false, timeout: Duration::ZERO };
        Create { name, role, on, ttl: None, certificate: false, wait }
    }

    #[test]
    fn what_is_asked_for_is_checked_before_anybody_is_asked() {
        let asked = create(Some("alice"), Purpose::Operator, Some("/team-a/")).asked().expect("it is right");
        assert_eq!((asked.of.to_string(), asked.ttl), ("operator on /team-a/".to_owned(), None));
        let join = create(None, Purpose::Voter, None).asked().expect("it is right");
        assert_eq!((join.of, join.ttl), (TokenUse::Join { voter: true }, Some(JOIN_TTL)));
        assert!(join.name.as_str().starts_with("voter-") && join.name.as_str().len() == 14, "{}", join.name);
        for (create, problem) in [
            (create(None, Purpose::Viewer, None), "has a name"),
            (create(Some("a"), Purpose::Viewer, Some("/a/")), "a prefix is for operators"),
            (create(None, Purpose::Agent, Some("/a/")), "--on is for operators"),
            (Create { ttl: Some(Duration::ZERO), ..create(Some("a"), Purpose::Admin, None) }, "--ttl 0"),
            (Create { certificate: true, ..create(None, Purpose::Agent, None) }, "nodes join with a token"),
        ] {
            let error = create.asked().expect_err(problem);
            assert!(error.to_string().contains(problem) && error.exit().code() == 2, "{error}");
        }
    }

    #[test]
    fn the_token_alone_is_data() {
        let token = TokenText::new(TokenId([1; 6]), [2; 32], None);
        let row = TokenRow {
            name: "ci".to_owned(),
            id: "010101010101".to_owned(),
            role: "operator".to_owned(),
            prefix: "/team-a/".to_owned(),
            created_at: "2026-01-10T12:00:00.000Z".to_owned(),
            created_by: "user:root".to_owned(),
            expires_at: Some("2026-01-11T12:00:00.000Z".to_owned()),
            expired: false,
            certificate: false,
        };
        let created = CreatedToken { token: token.clone(), row, revision: Revision(7) };
        for format in [Format::Table, Format::Name, Format::Wide] {
            let (mut out, recording) = recorded::terminal("");
            show(&created, format, &mut out).expect("shown");
            assert_eq!(recording.data(), token.reveal() + "\n");
            let talk = recording.talk();
            let begin = "token ci: operator on /team-a/, until 2026-01-11T12:00:00.000Z; ";
            assert!(talk.starts_with(begin) && !talk.contains(&token.reveal()), "{talk}");
        }
        let (mut out, recording) = recorded::terminal("");
        show(&created, Format::Json, &mut out).expect("shown");
        let json: serde_json::Value = serde_json::from_str(&recording.data()).expect("JSON");
        assert_eq!((&json["token"], &json["name"]), (&token.reveal().into(), &"ci".into()));
    }
}
