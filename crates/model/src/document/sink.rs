//! `kind: Sink`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::DEFECTS_MAX;
use super::bucket::label_defects;
use super::reader::{
    Defects, Fields, Wrong, boolean, list, mapping, measure, parsed, string, whole, word, wrong_type,
};
use crate::measure::quoted;
use crate::sink::{HttpUrl, SINK_BATCH_MAX, host_and_port};
use crate::{
    Bytes, Confided, Defect, Mail, MailSecurity, SecretName, SinkExec, SinkFilter, SinkName, SinkSpec,
    SinkTarget, Span, Webhook,
};

/// Waiting for an answer: at least, at most.
const TIMEOUT: (Span, Span) = (Span::millis(100), Span::seconds(60));
/// The same for a program, which may have work to do.
const TIMEOUT_EXEC: (Span, Span) = (Span::millis(100), Span::seconds(300));
/// How often there may be a mail: at least, at most.
const DIGEST: (Span, Span) = (Span::seconds(1), Span::seconds(24 * 3600));
/// Globs, addresses and arguments of one list.
const LISTED_MAX: usize = 100;
/// Longest glob, address or argument in bytes.
const TEXT_MAX: usize = 1_000;
/// Longest `ca` in bytes.
const CA_MAX: usize = 64 << 10;
/// What a reference to a secret looks like.
const REFERENCE: &str = "${secret.NAME}, and its value by `sheaf secret set NAME`";

/// Reads a sink; none if its name or its target cannot be read. Other fields with defects stay at their defaults.
pub(super) fn read(value: &Value, defects: &mut Defects) -> Option<SinkSpec> {
    let is_there = |field: &&str| value.get(*field).is_some_and(|value| !value.is_null());
    let targets = ["webhook", "mail", "exec"].iter().filter(|field| is_there(field)).count();
    let mut fields = Fields::of(value, defects)?;
    fields.value("kind");
    let name = fields.required("name", "a name like on-call", parsed(SinkName::new));
    if targets != 1 {
        let problem = if targets > 1 { "it has several targets" } else { "it has no target" };
        fields.wrong(problem, "exactly one of webhook, mail and exec; a sink for each of several");
    }
    let webhook = fields.get("webhook", read_webhook).map(SinkTarget::Webhook);
    let mail = fields.get("mail", read_mail).map(SinkTarget::Mail);
    let exec = fields.get("exec", read_exec).map(SinkTarget::Exec);
    let filter = fields.get("filter", read_filter);
    let suspended = fields.get("suspended", boolean);
    let labels: Option<BTreeMap<String, String>> =
        fields.get("labels", mapping(|key| Ok::<_, Wrong>(key.to_owned()), string, || None));
    let owner = fields.get("owner", string);
    fields.finish();
    Some(SinkSpec {
        name: name?,
        target: webhook.or(mail).or(exec)?,
        filter: filter.unwrap_or_default(),
        suspended: suspended.unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        owner,
    })
}

fn read_webhook(value: &Value, defects: &mut Defects) -> Option<Webhook> {
    let mut fields = Fields::of(value, defects)?;
    let url = fields.required("url", "like https://hooks.example.org/sheaf", confided);
    let secret = fields.get("secret", reference);
    let timeout = fields.get("timeout", measure("a duration like 10s"));
    let batch = fields.get("batch", whole);
    let ca = fields.get("ca", string);
    fields.finish();
    Some(Webhook {
        url: url?,
        secret,
        timeout: timeout.unwrap_or(Span::seconds(10)),
        batch: batch.unwrap_or(100),
        ca,
    })
}

fn read_mail(value: &Value, defects: &mut Defects) -> Option<Mail> {
    const WORDS: [(&str, MailSecurity); 3] =
        [("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls), ("none", MailSecurity::None)];
    let mut fields = Fields::of(value, defects)?;
    let server = fields.required("server", "host:port, like mail.example.org:587", string);
    let security = fields.get("security", word(&WORDS));
    let user = fields.get("user", string);
    let password = fields.get("password", reference);
    let from = fields.required("from", "an address like sheaf@example.org", string);
    let to = fields.required("to", "addresses, like [ops@example.org]", list("addresses", string, || None));
    let digest = fields.get("digest", measure("a duration like 1m"));
    let timeout = fields.get("timeout", measure("a duration like 30s"));
    let ca = fields.get("ca", string);
    fields.finish();
    let server = server?;
    let usual = if server.ends_with(":465") { MailSecurity::Tls } else { MailSecurity::StartTls };
    Some(Mail {
        server,
        security: security.unwrap_or(usual),
        user,
        password,
        from: from?,
        to: to?,
        digest: digest.unwrap_or(Span::seconds(60)),
        timeout: timeout.unwrap_or(Span::seconds(30)),
        ca,
    })
}

fn read_exec(value: &Value, defects: &mut Defects) -> Option<SinkExec> {
    let mut fields = Fields::of(value, defects)?;
    let command = fields.required("command", "an absolute path, like /usr/local/bin/notify", string);
    let args = fields.get("args", list("strings", string, || None));
    let timeout = fields.get("timeout", measure("a duration like 30s"));
    let batch = fields.get("batch", whole);
    fields.finish();
    Some(SinkExec {
        command: command?,
        args: args.unwrap_or_default(),
        timeout: timeout.unwrap_or(Span::seconds(30)),
        batch: batch.unwrap_or(100),
    })
}

fn read_filter(value: &Value, defects: &mut Defects) -> Option<SinkFilter> {
    let mut fields = Fields::of(value, defects)?;
    let kinds = fields.get("kinds", list("globs", string, || None));
    let subjects = fields.get("subjects", list("globs", string, || None));
    let nodes = fields.get("nodes", list("globs", string, || None));
    fields.finish();
    Some(SinkFilter {
        kinds: kinds.unwrap_or_default(),
        subjects: subjects.unwrap_or_default(),
        nodes: nodes.unwrap_or_default(),
    })
}

/// A reference to a secret. What stands there instead may be one, and is not repeated.
fn reference(value: &Value, defects: &mut Defects) -> Option<SecretName> {
    let Value::String(text) = value else {
        defects.push(Defect {
            remedy: REFERENCE.to_owned(),
            ..wrong_type("a reference to a secret", &Value::Null)
        });
        return None;
    };
    let name = text.strip_prefix("${secret.").and_then(|rest| rest.strip_suffix('}'));
    match name.map(SecretName::new) {
        Some(Ok(name)) => Some(name),
        Some(Err(_)) => {
            defects.push(Defect::new(
                "",
                "what stands between ${secret. and } is no name of a secret",
                REFERENCE,
            ));
            None
        }
        None => {
            defects.push(Defect::new("", "it would stand in the document in plain", REFERENCE));
            None
        }
    }
}

/// A text, or a reference to a secret instead.
fn confided(value: &Value, defects: &mut Defects) -> Option<Confided> {
    match value {
        Value::String(text) if text.starts_with("${secret.") => {
            reference(value, defects).map(Confided::Secret)
        }
        _ => string(value, defects).map(Confided::Plain),
    }
}

/// What is wrong with a sink as a whole.
pub fn sink_defects(spec: &SinkSpec) -> Vec<Defect> {
    let mut defects = match &spec.target {
        SinkTarget::Webhook(webhook) => webhook_defects(webhook),
        SinkTarget::Mail(mail) => mail_defects(mail),
        SinkTarget::Exec(exec) => exec_defects(exec),
    };
    let SinkFilter { kinds, subjects, nodes } = &spec.filter;
    for (field, globs) in [("kinds", kinds), ("subjects", subjects), ("nodes", nodes)] {
        listed(&format!("filter.{field}"), globs, "a glob like job.*", |_| true, &mut defects);
    }
    let is_whole = |kind: &str| !kind.is_empty() && !kind.contains(['.', '*', '?']);
    for (n, kind) in kinds.iter().enumerate().filter(|(_, kind)| is_whole(kind)).take(LISTED_MAX) {
        let problem = format!("no event is of kind {}", quoted(kind));
        let remedy = format!("{kind}.* for all of these");
        defects.push(Defect::new(format!("filter.kinds[{n}]"), problem, remedy));
    }
    defects.extend(label_defects(spec.owner.as_deref(), &spec.labels));
    defects
}

fn webhook_defects(webhook: &Webhook) -> Vec<Defect> {
    let mut defects = Vec::new();
    if let Confided::Plain(url) = &webhook.url {
        match HttpUrl::parse(url) {
            Err(problem) => {
                let remedy = "like https://hooks.example.org/sheaf; of what is secret, ${secret.NAME} and nothing else";
                defects.push(Defect::new("webhook.url", problem, remedy));
            }
            Ok(url) if webhook.ca.is_some() && !url.tls => {
                defects.push(Defect::new(
                    "webhook.ca",
                    "the url is of plain http",
                    "an https:// url, or no ca",
                ));
            }
            Ok(_) => {}
        }
    }
    bounded("webhook.timeout", webhook.timeout, TIMEOUT, &mut defects);
    batch("webhook.batch", webhook.batch, &mut defects);
    certificates("webhook.ca", webhook.ca.as_deref(), &mut defects);
    defects
}

fn mail_defects(mail: &Mail) -> Vec<Defect> {
    let mut defects = Vec::new();
    if host_and_port(&mail.server, 0).is_none() {
        let problem = format!("{} is no server", quoted(&mail.server));
        defects.push(Defect::new("mail.server", problem, "host:port, like mail.example.org:587"));
    }
    let address = "an address like ops@example.org";
    if !is_address(&mail.from) {
        defects.push(Defect::new("mail.from", format!("{} is no address", quoted(&mail.from)), address));
    }
    listed("mail.to", &mail.to, address, is_address, &mut defects);
    if mail.to.is_empty() {
        defects.push(Defect::new("mail.to", "nobody would get it", "at least one address"));
    }
    match (&mail.user, &mail.password) {
        (Some(_), None) => defects.push(Defect::new("mail.password", "a user needs a password", REFERENCE)),
        (None, Some(_)) => {
            defects.push(Defect::new(
                "mail.user",
                "a password needs a user",
                "whom to log in as, or no password",
            ));
        }
        (Some(_), Some(_)) if mail.security == MailSecurity::None => {
            let problem = "the password would go over the network in plain";
            defects.push(Defect::new("mail.security", problem, "starttls or tls, or no user and password"));
        }
        _ => {}
    }
    if let Some(user) = &mail.user
        && (user.is_empty() || user.len() > TEXT_MAX || user.contains(char::is_control))
    {
        defects.push(Defect::new("mail.user", "it is no user's name", "one line that is not empty"));
    }
    if mail.ca.is_some() && mail.security == MailSecurity::None {
        defects.push(Defect::new(
            "mail.ca",
            "without TLS nobody shows a certificate",
            "security: starttls or tls",
        ));
    }
    bounded("mail.digest", mail.digest, DIGEST, &mut defects);
    bounded("mail.timeout", mail.timeout, TIMEOUT, &mut defects);
    certificates("mail.ca", mail.ca.as_deref(), &mut defects);
    defects
}

fn exec_defects(exec: &SinkExec) -> Vec<Defect> {
    let mut defects = Vec::new();
    let command = &exec.command;
    if !command.starts_with('/') || command.len() > TEXT_MAX || command.contains(char::is_control) {
        let problem = format!("{} is no absolute path", quoted(command));
        defects.push(Defect::new(
            "exec.command",
            problem,
            "like /usr/local/bin/notify, which nodes must allow",
        ));
    }
    let no_zero = |text: &str| !text.contains('\0');
    if exec.args.len() > LISTED_MAX {
        let problem = format!("there are {}", exec.args.len());
        defects.push(Defect::new("exec.args", problem, format!("at most {LISTED_MAX}")));
    }
    let is_bad = |arg: &str| arg.len() > TEXT_MAX || !no_zero(arg);
    for (n, _) in exec.args.iter().enumerate().filter(|(_, arg)| is_bad(arg)).take(DEFECTS_MAX) {
        let problem = "it is too long, or has a zero byte in it";
        let remedy = format!("at most {TEXT_MAX} bytes of text");
        defects.push(Defect::new(format!("exec.args[{n}]"), problem, remedy));
    }
    bounded("exec.timeout", exec.timeout, TIMEOUT_EXEC, &mut defects);
    batch("exec.batch", exec.batch, &mut defects);
    defects
}

fn bounded(path: &str, span: Span, (least, most): (Span, Span), defects: &mut Defects) {
    if !(least..=most).contains(&span) {
        defects.push(Defect::new(path, format!("{span} is out of range"), format!("from {least} to {most}")));
    }
}

fn batch(path: &str, events: u32, defects: &mut Defects) {
    if !(1..=SINK_BATCH_MAX).contains(&events) {
        let problem = format!("{events} is out of range");
        defects.push(Defect::new(path, problem, format!("from 1 to {SINK_BATCH_MAX}")));
    }
}

/// Whether they are certificates is seen where they are used; here, whether they look like some.
fn certificates(path: &str, text: Option<&str>, defects: &mut Defects) {
    let Some(text) = text else { return };
    let remedy =
        "certificates in PEM, each between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----";
    if text.len() > CA_MAX {
        let problem = format!("{} bytes", text.len());
        defects.push(Defect::new(path, problem, format!("at most {}", Bytes(CA_MAX as u64))));
    } else if text.contains("PRIVATE KEY") {
        defects.push(Defect::new(path, "there is a private key in it", remedy));
    } else if !text.contains("-----BEGIN CERTIFICATE-----") {
        defects.push(Defect::new(path, "there is no certificate in it", remedy));
    }
}

fn listed(path: &str, texts: &[String], remedy: &str, is_one: impl Fn(&str) -> bool, defects: &mut Defects) {
    if texts.len() > LISTED_MAX {
        defects.push(Defect::new(
            path,
            format!("there are {}", texts.len()),
            format!("at most {LISTED_MAX}"),
        ));
    }
    let is_none = |text: &str| {
        text.is_empty() || text.len() > TEXT_MAX || text.contains(char::is_control) || !is_one(text)
    };
    for (n, text) in texts.iter().enumerate().filter(|(_, text)| is_none(text)).take(DEFECTS_MAX) {
        defects.push(Defect::new(format!("{path}[{n}]"), format!("{} is none", quoted(text)), remedy));
    }
}

/// `local@domain`, in ASCII and without anything that means something to a mail's header.
fn is_address(text: &str) -> bool {
    let plain = |c: char| {
        c.is_ascii_graphic()
            && !matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '\\' | '"' | '@')
    };
    text.len() <= 254
        && text.split_once('@').is_some_and(|(local, domain)| {
            let is_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            !local.is_empty()
                && local.chars().all(plain)
                && !domain.is_empty()
                && domain.chars().all(is_domain)
        })
}

#[cfg(test)]
mod tests {
    use super::super::{Document, parse, parse_values, sink_value};
    use super::*;

    fn defects(text: &str) -> Vec<String> {
        parse("", text.as_bytes()).defects.iter().map(ToString::to_string).collect()
    }

    fn sink(text: &str) -> SinkSpec {
        let parsed = parse("", text.as_bytes());
        assert_eq!(parsed.defects, [], "{text}");
        let [Document::Sink(spec)] = parsed.documents.as_slice() else { panic!("{parsed:?}") };
        let again = parse_values("", &[sink_value(spec)]);
        assert_eq!(again.documents, parsed.documents, "what is written reads back");
        (**spec).clone()
    }

    #[test]
    fn every_target_is_read_and_written() {
        let spec = sink(
            "kind: Sink\nname: hook\nwebhook: {url: 'https://h/x', secret: '${secret.hook.key}', timeout: 5s, batch: 7}\n\
             filter: {kinds: ['job.*', subtask.failed], subjects: ['ndvi-*'], nodes: [n1]}\nsuspended: true\n\
             labels: {team: web}\nowner: ops\n",
        );
        let SinkTarget::Webhook(webhook) = &spec.target else { panic!("{spec:?}") };
        assert_eq!((webhook.batch, webhook.timeout), (7, Span::seconds(5)));
        assert_eq!(spec.secrets().map(SecretName::as_str).collect::<Vec<_>>(), ["hook.key"]);
        assert!(spec.suspended && spec.filter.wants_subtasks());
        let spec = sink("kind: Sink\nname: hook\nwebhook: {url: '${secret.url}'}\n");
        assert_eq!(spec.target.place(), "${secret.url}");
        let spec = sink(
            "kind: Sink\nname: m\nmail: {server: 'mail:465', from: a@b.c, to: [d@e.f], user: u, password: '${secret.p}'}\n",
        );
        let SinkTarget::Mail(mail) = &spec.target else { panic!("{spec:?}") };
        assert_eq!((mail.security, mail.digest), (MailSecurity::Tls, Span::seconds(60)));
        let spec = sink("kind: Sink\nname: e\nexec: {command: /bin/notify, args: [a, b], timeout: 1m}\n");
        assert_eq!(spec.target.timeout(), Span::seconds(60));
    }

    #[test]
    fn what_makes_no_sense_is_told_all_at_once() {
        let with = |more: &str| defects(&format!("kind: Sink\nname: s\n{more}\n")).join("\n");
        assert!(with("").contains("it has no target; exactly one of webhook, mail and exec"));
        assert!(with("webhook: {url: 'http://h'}\nexec: {command: /x}").contains("several targets"));
        assert!(with("webhook: {url: 'ftp://h'}").contains("webhook.url: it does not begin with https://"));
        let several = with(
            "webhook: {url: 'http://h', timeout: 1h, batch: 0, ca: x, sercet: y}\nfilter: {kinds: [job]}",
        );
        for part in [
            "webhook.timeout: 1h",
            "webhook.batch: 0",
            "webhook.ca: ",
            "did you mean secret?",
            "job.* for all",
        ] {
            assert!(several.contains(part), "{part} in {several}");
        }
        let mail = with(
            "mail: {server: mail, from: 'a@b\\nX: y', to: ['x <a@b>'], user: u, password: '${secret.p}', security: none}",
        );
        for part in ["mail.server: ", "mail.from: ", "mail.to[0]: ", "in plain"] {
            assert!(mail.contains(part), "{part} in {mail}");
        }
        assert!(with("mail: {server: 'm:25', from: a@b, to: [], user: u}").contains("mail.password"));
        assert!(with("exec: {command: notify}").contains("no absolute path"));
        assert!(with("exec: {command: /x, timeout: 1h}").contains("from 100ms to 5m"));
        assert!(defects("kind: Sink\nexec: {command: /x}\n")[0].contains("name"));
    }

    #[test]
    fn what_may_be_a_secret_is_not_repeated() {
        let with = |more: &str| defects(&format!("kind: Sink\nname: s\n{more}\n")).join("\n");
        let plain = with("webhook: {url: 'https://h', secret: hunter2}");
        assert!(
            plain.contains("webhook.secret: it would stand in the document in plain; ${secret.NAME}"),
            "{plain}"
        );
        for text in [
            plain,
            with("webhook: {url: 'https://me:hunter2@h'}"),
            with("webhook: {url: 'https://h', secret: '${secret.hunter2 }'}"),
            with("webhook: {url: 'https://h', secret: [hunter2]}"),
            with("mail: {server: 'm:25', from: a@b, to: [a@b], user: u, password: hunter2}"),
        ] {
            assert!(!text.is_empty() && !text.contains("hunter2"), "{text}");
        }
    }
}
