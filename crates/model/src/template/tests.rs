use proptest::prelude::*;
use serde_json::{Value, json};

use super::TemplateSet::{Check, Confidential, Instance, SecretNames, Subtask};
use super::*;
use crate::Revision;

fn with_scope<T>(config: &Value, then: impl FnOnce(&Scope<'_>) -> T) -> T {
    let labels = ["import".to_owned(), "zone=a".to_owned()];
    then(&Scope {
        bucket: Some(BucketScope { name: "/logs/web", revision: Revision(7), config }),
        node_name: "n1",
        node_hostname: "n1.example.com",
        node_labels: &labels,
        dir: Some("/i"),
        files: Some("/i/files"),
        sheaf: "/usr/bin/sheaf",
        artifact: Some("/cache/07"),
        subtask: None,
    })
}

fn rendered(text: &str, config: &Value) -> Result<String, RenderError> {
    let template = Template::parse(text, Instance).expect(text);
    with_scope(config, |scope| template.render(scope))
}

#[test]
fn names_are_filled_in_and_all_else_is_left_alone() {
    let config =
        json!({"agent": "a1", "port": 5140, "tls": true, "peers": [{"host": "h0"}, "h1"], "q": "a \"b\""});
    #[rustfmt::skip]
    let table = [
        ("", ""),
        ("plain", "plain"),
        ("${bucket.name}@${bucket.revision}", "/logs/web@7"),
        ("${node.name} ${node.hostname} ${node.labels}", "n1 n1.example.com import,zone=a"),
        ("${dir} ${file.flume.conf} ${sheaf} ${artifact}/x", "/i /i/files/flume.conf /usr/bin/sheaf /cache/07/x"),
        ("${bucket.config.agent}:${bucket.config.port}", "a1:5140"),
        ("${bucket.config.tls}", "true"),
        ("${bucket.config.peers.0.host}-${bucket.config.peers.1}", "h0-h1"),
        ("${bucket.config.peers}", r#"[{"host":"h0"},"h1"]"#),
        ("${bucket.config.q}", r#"a "b""#),
        ("$HOME $(x) $ $$ {dir} $", "$HOME $(x) $ $$ {dir} $"),
        ("$${dir} $$${dir}", "${dir} $${dir}"),
        ("é${dir}é", "é/ié"),
    ];
    for (text, expected) in table {
        assert_eq!(rendered(text, &config).as_deref(), Ok(expected), "{text}");
    }
    let whole = rendered("${bucket.config}", &json!({"a": [1, null]}));
    assert_eq!(whole.as_deref(), Ok(r#"{"a":[1,null]}"#));
}

#[test]
fn what_is_no_template_is_refused_with_position_and_remedy() {
    #[rustfmt::skip]
    let table = [
        ("abc ${dir", Instance, 5, "${ is never closed", "close it with }, or write $${ for the characters ${"),
        ("é${bucket.nam}", Instance, 2, "unknown name \"bucket.nam\"", "did you mean ${bucket.name}?"),
        ("${}", Instance, 1, "unknown name \"\"", "one of bucket.name,"),
        ("${ dir }", Instance, 1, "unknown name \" dir \"", "did you mean ${dir}?"),
        ("${HOME}", Instance, 1, "unknown name \"HOME\"", "$${ writes the characters ${"),
        ("${bucket.config.a..b}", Instance, 1, "has an empty key", "like ${bucket.config.agent}"),
        ("${file.a/b}", Instance, 1, "contains '/'", "letters, digits"),
        ("${file.}", Instance, 1, "the name is empty", "letters, digits"),
        ("${item.x}", Instance, 1, "known to subtasks only", "one of bucket.name,"),
        ("${dir}", Check, 1, "checks are asked before there is an instance", "node.labels, sheaf, artifact"),
        ("${file.a}", Check, 1, "checks are asked before there is an instance", "one of bucket.name,"),
        ("${secret.a}", Instance, 1, "stands in exec.env and files alone", "one of bucket.name,"),
        ("${secret.a}", Check, 1, "stands in exec.env and files alone", "one of bucket.name,"),
        ("${secret.a b}", Confidential, 1, "contains ' '", "letters, digits"),
        ("${secret.}", Confidential, 1, "the name is empty", "letters, digits"),
        ("${node.name}", SecretNames, 1, "the same on every node", "one of bucket.name, bucket.config"),
        ("${bucket.name}", Subtask, 1, "a subtask has no bucket", "item, job, subtask, attempt"),
    ];
    for (text, allowed, position, problem, remedy) in table {
        let error = Template::parse(text, allowed).expect_err(text);
        assert_eq!(error.position, position, "{text}");
        assert!(error.problem.contains(problem), "{text}: {error:?}");
        assert!(error.remedy.contains(remedy), "{text}: {error:?}");
    }
    assert!(Template::parse("${item.x.0} ${job} ${subtask} ${attempt} ${dir}", Subtask).is_ok());
    assert!(Template::parse("${bucket.config.port} ${node.labels} ${sheaf}", Check).is_ok());
}

#[test]
fn a_missing_key_is_named_with_the_keys_that_are_there() {
    let config = json!({"agent": "a1", "port": 1, "list": [1, 2], "none": [], "empty": {}, "null": null});
    #[rustfmt::skip]
    let table = [
        ("agnt", "bucket.config has no key \"agnt\"; it has agent, port, list, none, empty, null"),
        ("agent.x", "bucket.config.agent has no key \"x\"; it is no mapping"),
        ("list.2", "bucket.config.list has no item \"2\"; it has 0 to 1"),
        ("list.x", "bucket.config.list has no item \"x\"; it has 0 to 1"),
        ("none.0", "bucket.config.none has no item \"0\"; it is empty"),
        ("empty.x", "bucket.config.empty has no key \"x\"; it is empty"),
        ("null", "its value is null"),
    ];
    for (keys, problem) in table {
        let error = rendered(&format!("${{bucket.config.{keys}}}"), &config).expect_err(keys);
        assert_eq!(error.problem, problem);
        assert_eq!(error.template, format!("${{bucket.config.{keys}}}"));
    }
    let nothing = Scope::default();
    for text in ["${bucket.name}", "${dir}", "${file.a}"] {
        let error = Template::parse(text, Instance).expect(text).render(&nothing).expect_err(text);
        assert!(error.to_string().starts_with(text), "{error}");
    }
    let many: Value = (0..30).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    let error = rendered("${bucket.config.x}", &many).expect_err("not there");
    assert!(error.problem.ends_with("k19 and 10 more"), "{error}");
}

#[test]
fn secrets_are_left_open_and_never_rendered() {
    let template = Template::parse("${dir}/${secret.crawler.token}!${node.name}${secret.b}", Confidential);
    let template = template.expect("a template");
    let names: Vec<&str> = template.secrets().map(SecretName::as_str).collect();
    assert_eq!(names, ["crawler.token", "b"]);
    assert_eq!(template.to_string(), "${dir}/${secret.crawler.token}!${node.name}${secret.b}");
    let pieces =
        with_scope(&json!({}), |scope| template.render_but_secrets(scope)).expect("all else is known");
    let text = |text: &str| Piece::Text(text.to_owned());
    let secret = |name: &str| Piece::Secret(SecretName::new(name).expect("a name"));
    assert_eq!(pieces, [text("/i/"), secret("crawler.token"), text("!n1"), secret("b")]);
    let error = with_scope(&json!({}), |scope| template.render(scope)).expect_err("a secret");
    assert_eq!(error.to_string(), "${secret.crawler.token}: no secret is known here");
}

#[test]
fn what_it_uses_can_be_asked() {
    let template = Template::parse("a ${dir} ${file.x} ${bucket.config.y}", Instance).expect("a template");
    let names: Vec<String> = template.names().map(ToString::to_string).collect();
    assert_eq!(names, ["dir", "file.x", "bucket.config.y"]);
    assert!(template.uses_bucket());
    assert_eq!((template.literal(), template.prefix()), (None, Some("a ")));
    assert!(template.misplaced(Check).is_some());
    let plain = Template::parse("$${a}", Instance).expect("a template");
    assert_eq!((plain.literal(), plain.uses_bucket()), (Some("${a}"), false));
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(text in "([$]{0,3}[{}]?|[$][{](dir|bucket[.]config([.][a-z0-9]{1,3}){0,2}|file[.]x)[}]|[a-zé ]{0,3}){0,6}") {
        if let Ok(template) = Template::parse(&text, Instance) {
            let printed = template.to_string();
            prop_assert_eq!(Template::parse(&printed, Instance), Ok(template));
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,24}|[${}a-z.]{0,24}") {
        if let Ok(template) = Template::parse(&text, Subtask) {
            let _ = with_scope(&Value::Null, |scope| template.render(scope));
        }
    }
}
