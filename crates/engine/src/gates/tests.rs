use sheaf_model::{BucketName, Bytes, ModuleRef, ModuleVersion, Template};

use super::*;

fn here(allow: &[&str], deny: &[&str]) -> Here {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Here { hostname: "web1".to_owned(), allow: list(allow), deny: list(deny), ..Here::default() }
}

fn template(text: &str) -> Template {
    Template(vec![sheaf_model::Part::Text(text.to_owned())])
}

fn module(checks: Vec<CheckKind>) -> ModuleSpec {
    let name = ModuleName::new("flume").expect("a name");
    let mut module = ModuleSpec::new(name, ModuleVersion::new("1").expect("a version"), Runtime::Exec);
    module.can_run_on_this_node = checks.into_iter().map(|kind| Check { kind, timeout: None }).collect();
    module
}

fn file() -> CheckKind {
    CheckKind::File(template("/opt/flume/bin/flume-ng"))
}

fn command() -> CheckKind {
    CheckKind::Command(vec![template("/usr/bin/true")])
}

fn memory() -> CheckKind {
    CheckKind::MemoryAvailable(Bytes(1 << 29))
}

#[test]
fn local_config_says_which_list_and_what_is_in_it() {
    let of = |allow: &[&str], deny: &[&str], name: &str| {
        let outcome = local_config(&ModuleName::new(name).expect("a name"), &here(allow, deny));
        (outcome.pass == Some(true), outcome.reason.to_string())
    };
    let yes = (true, String::new());
    assert_eq!(of(&[], &[], "flume"), yes);
    assert_eq!(of(&["flume"], &[], "flume"), yes);
    assert_eq!(
        of(&["flume"], &[], "webcrawl"),
        (false, "module \"webcrawl\" is not in this node's [modules] allow list (flume)".to_owned())
    );
    assert_eq!(
        of(&["flume"], &["flume", "x"], "flume"),
        (false, "module \"flume\" is in this node's [modules] deny list (flume, x)".to_owned()),
        "deny wins"
    );
}

#[test]
fn before_a_start_what_is_unclear_refuses_and_of_a_running_instance_only_the_third_in_a_row() {
    let module = module(vec![file()]);
    let unclear = Answer::Unclear("no answer within 5s".to_owned());
    let no = Answer::No("/opt/flume/bin/flume-ng does not exist".to_owned());
    let pass = |answer: Option<&Answer>, unclear, running| {
        can_run(&module, true, Asked { lasting: answer, unclear, running, ..Asked::default() }).pass
    };
    assert_eq!(pass(None, 0, false), None, "not answered yet");
    assert_eq!(pass(Some(&Answer::Yes), 0, false), Some(true));
    assert_eq!(pass(Some(&unclear), 1, false), Some(false));
    assert_eq!(pass(Some(&unclear), 1, true), None);
    assert_eq!(pass(Some(&unclear), 2, true), None);
    assert_eq!(pass(Some(&unclear), 3, true), Some(false));
    assert_eq!(pass(Some(&no), 0, true), Some(false), "a plain no counts at once");
}

#[test]
fn admission_is_asked_before_a_start_only() {
    let module = module(vec![memory()]);
    let no = Answer::No("memory_available: 100MiB, wanted 512MiB".to_owned());
    let asked = Asked { admission: Some(&no), ..Asked::default() };
    assert_eq!(can_run(&module, true, asked).pass, Some(false));
    assert_eq!(can_run(&module, true, Asked { running: true, ..asked }).pass, Some(true));
    assert_eq!(checks(&module, Part::Lasting, true).count(), 0);
    assert_eq!(checks(&module, Part::Admission, true).count(), 1);
}

#[test]
fn where_gate_1_refuses_nothing_of_the_module_is_executed() {
    let module = module(vec![file(), command(), memory()]);
    assert_eq!(checks(&module, Part::Lasting, false).count(), 1, "the command is not among them");
    let asked = Asked { lasting: Some(&Answer::Yes), admission: Some(&Answer::Yes), ..Asked::default() };
    let outcome = can_run(&module, false, asked);
    assert_eq!((outcome.pass, &*outcome.reason), (None, "not asked: refused by local_config"));
    let no = Answer::No("/opt/flume/bin/flume-ng does not exist".to_owned());
    let outcome = can_run(&module, false, Asked { lasting: Some(&no), ..asked });
    assert_eq!(outcome.pass, Some(false), "declarative checks are still evaluated");
}

#[test]
fn every_reason_is_kept_and_a_plain_no_outweighs_a_doubt() {
    let fails = |text: &str| CheckAnswer::Fails(text.to_owned());
    let unclear = |text: &str| CheckAnswer::Unclear(text.to_owned());
    assert_eq!(Answer::of(&[]), Answer::Yes);
    assert_eq!(Answer::of(&[CheckAnswer::Holds, unclear("u")]), Answer::Unclear("u".to_owned()));
    assert_eq!(Answer::of(&[unclear("u"), fails("a"), fails("b")]), Answer::No("a; b; u".to_owned()));
}

#[test]
fn a_verdict_has_all_three_gates_also_where_the_first_refuses() {
    let module = module(vec![file(), command()]);
    let name = BucketName::new("/logs/web").expect("a name");
    let bucket = BucketSpec::new(name, ModuleRef::parse("flume@1").expect("a reference"));
    let asked = Asked { lasting: Some(&Answer::Yes), ..Asked::default() };
    let here = |allow: &[&str]| {
        let here = here(allow, &[]);
        (node_list_rules(&bucket.node_list_rules.compile(), &here), here)
    };
    let (second, elsewhere) = here(&["rsyslog"]);
    let verdict = evaluate(&bucket, Revision(7), second, Some(&module), &elsewhere, asked);
    let passes: Vec<_> = verdict.gates.iter().map(|gate| gate.pass).collect();
    assert_eq!(passes, [Some(false), Some(true), None]);
    assert_eq!(verdict.revision, Revision(7));
    let (second, anywhere) = here(&[]);
    let verdict = evaluate(&bucket, Revision(7), second, None, &anywhere, asked);
    assert_eq!(verdict.gates[2].pass, None);
    assert_eq!(&*verdict.gates[2].reason, "module flume@1 is not known on this node yet");
}

#[test]
fn a_plugin_is_asked_itself_but_not_where_gate_1_refuses() {
    let mut module = module(vec![]);
    module.runtime = Runtime::Plugin;
    assert!(asks_plugin(&module, Part::Lasting, true) && !asks_plugin(&module, Part::Lasting, false));
    assert!(!asks_plugin(&module, Part::Admission, true) && module.checks_use_bucket());
    let outcome = |allowed, lasting: Option<&Answer>| {
        let outcome = can_run(&module, allowed, Asked { lasting, ..Asked::default() });
        (outcome.pass, outcome.reason.to_string())
    };
    assert_eq!(outcome(true, None), (None, "not answered yet".to_owned()));
    assert_eq!(outcome(true, Some(&Answer::Yes)), (Some(true), String::new()));
    let hung = Answer::Unclear("CanRunOnThisNode: no answer within 5s".to_owned());
    assert_eq!(outcome(true, Some(&hung)), (Some(false), "CanRunOnThisNode: no answer within 5s".to_owned()));
    assert_eq!(outcome(false, None), (None, "not asked: refused by local_config".to_owned()));
}
