use std::time::Instant;

use sheaf_engine::gates::Part;
use sheaf_engine::node::question::Key;
use sheaf_model::{ModuleRef, NodeName, Part as TemplatePart};

use super::*;

fn template(text: &str) -> Template {
    Template(vec![TemplatePart::Text(text.to_owned())])
}

async fn ask(kinds: Vec<CheckKind>, timeout: Option<Span>) -> Vec<CheckAnswer> {
    let dir = tempfile::tempdir().expect("a directory");
    let binary = PathBuf::from("/usr/bin/sheaf");
    let plugins =
        Plugins::open(dir.path(), &binary, &NodeName::new("n1").expect("a name")).expect("a directory");
    let checks = Checks::new(PathBuf::from("/"), "/usr/bin/sheaf".to_owned(), plugins);
    let question = Question {
        key: Key::of(&ModuleRef::parse("m@1").expect("a reference")),
        part: Part::Lasting,
        checks: kinds.into_iter().map(|kind| Check { kind, timeout }).collect(),
        plugin: None,
        bucket: None,
        here: Arc::new(Here { labels: vec!["zone=a".to_owned()], ..Here::default() }),
        artifact: None,
        user: None,
    };
    checks.answer(&question).await
}

fn fails(text: &str) -> CheckAnswer {
    CheckAnswer::Fails(text.to_owned())
}

fn shell(script: &str) -> CheckKind {
    CheckKind::Command(["/bin/sh", "-c", script].into_iter().map(template).collect())
}

#[tokio::test]
async fn declarative_checks_say_precisely_what_is_not_so() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("it has an address").port();
    let answers = ask(
        vec![
            CheckKind::File(template("/opt/flume/bin/flume-ng")),
            CheckKind::File(template("/proc")),
            CheckKind::File(template("/proc/self/stat")),
            CheckKind::Dir(template("/proc/self/stat")),
            CheckKind::Dir(template("/proc")),
            CheckKind::Env(template("SHEAF_NO_SUCH_VARIABLE")),
            CheckKind::Env(template("PATH")),
            CheckKind::Label(template("zone=b")),
            CheckKind::Label(template("zone=*")),
            CheckKind::MemoryAvailable(Bytes(1)),
            CheckKind::DiskAvailable(Bytes(1)),
            CheckKind::PortFree(template(&port.to_string())),
            CheckKind::PortFree(template("seventy")),
        ],
        None,
    )
    .await;
    assert_eq!(
        answers,
        [
            fails("/opt/flume/bin/flume-ng does not exist"),
            fails("/proc is a directory"),
            CheckAnswer::Holds,
            fails("/proc/self/stat is not a directory"),
            CheckAnswer::Holds,
            fails("environment variable SHEAF_NO_SUCH_VARIABLE is not set"),
            CheckAnswer::Holds,
            fails("no label of this node matches \"zone=b\" (zone=a)"),
            CheckAnswer::Holds,
            CheckAnswer::Holds,
            CheckAnswer::Holds,
            fails(&format!("port {port} is in use")),
            fails("port_free: \"seventy\" is no port"),
        ]
    );
    let amounts = ask(vec![CheckKind::MemoryAvailable(Bytes(u64::MAX))], None).await;
    assert!(matches!(&amounts[0], CheckAnswer::Fails(text) if text.starts_with("memory_available: ")));
}

#[test]
fn a_port_that_is_taken_for_one_kind_of_address_alone_is_not_free() {
    let Ok(taken) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return }; // no IPv6 here
    let port = taken.local_addr().expect("it has an address").port();
    assert_eq!(port_free(&port.to_string()), fails(&format!("port {port} is in use")));
}

#[test]
fn a_port_that_this_agent_may_not_take_is_free_unless_somebody_listens() {
    let [v4, v6] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let denied = std::io::Error::from(ErrorKind::PermissionDenied);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("it has an address").port();
    assert_eq!(not_taken(v4, port, &denied), Some(fails(&format!("port {port} is in use"))));
    drop(taken);
    assert_eq!(not_taken(v4, port, &denied), None);
    let absent = [rustix::io::Errno::AFNOSUPPORT, rustix::io::Errno::ADDRNOTAVAIL].map(std::io::Error::from);
    for error in &absent {
        assert_eq!(not_taken(v6, 80, error), None, "{error}");
        assert!(matches!(not_taken(v4, 80, error), Some(CheckAnswer::Unclear(_))), "{error}");
    }
}

#[test]
fn who_listens_stands_in_the_table_of_the_kernel() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue\n   0: 0100007F:0050 00000000:0000 0A 00000000:00000000\n   \
                 1: 0100007F:1F90 0100007F:D2A4 01 00000000:00000000\n";
    assert!(is_listened(table, 80));
    assert!(!is_listened(table, 8080), "it is connected, nobody listens");
    assert!(!is_listened("", 80));
}

/// A41
#[tokio::test]
async fn a41_a_command_that_fails_crashes_hangs_or_prints_rubbish_harms_nobody() {
    let answers = ask(
        vec![
            shell("exit 0"),
            shell("echo; echo needs a map; echo and a compass >&2; exit 3"),
            shell("exit 3"),
            shell("kill -SEGV $$"),
            shell("head -c 100000 /dev/urandom; exit 1"),
            CheckKind::Command(vec![template("/no/such/program")]),
        ],
        None,
    )
    .await;
    assert_eq!(answers[0], CheckAnswer::Holds);
    assert_eq!(answers[1], fails("needs a map"));
    assert_eq!(answers[2], fails("/bin/sh -c exit 3: exit code 3"));
    assert!(
        matches!(&answers[3], CheckAnswer::Unclear(text) if text.contains("crashed")),
        "{:?}",
        answers[3]
    );
    assert!(matches!(&answers[4], CheckAnswer::Fails(_)), "{:?}", answers[4]);
    assert!(
        matches!(&answers[5], CheckAnswer::Unclear(text) if text.starts_with("/no/such/program could not"))
    );
}

#[tokio::test]
async fn a_command_is_ended_with_everything_when_its_time_is_over() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
    let begun = Instant::now();
    let answers = ask(vec![shell(&script)], Some(Span::millis(300))).await;
    assert!(matches!(&answers[0], CheckAnswer::Unclear(text) if text.ends_with("no answer within 300ms")));
    assert!(begun.elapsed() < Duration::from_secs(5));
    let pid = std::fs::read_to_string(&file).expect("the script wrote it");
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    // Killed with its group; whoever inherited it may take a moment to collect it.
    let alive = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let deadline = Instant::now() + Duration::from_secs(5);
    while alive() && Instant::now() < deadline {
        tokio::task::yield_now().await;
    }
    assert!(!alive(), "its child lives on");
}

#[tokio::test]
async fn what_is_wrong_is_said_however_long_the_command_is() {
    let script = format!(": {}; sleep 1000", "x".repeat(50_000));
    let fails = format!("exit 3 # {}", "x".repeat(50_000));
    let answers = ask(vec![shell(&script), shell(&fails)], Some(Span::millis(300))).await;
    let said = |answer: &CheckAnswer| match answer {
        CheckAnswer::Unclear(text) | CheckAnswer::Fails(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let [late, failed] = [said(&answers[0]), said(&answers[1])];
    assert!(late.starts_with("/bin/sh -c : xx") && late.ends_with("x…: no answer within 300ms"), "{late}");
    assert!(failed.ends_with("x…: exit code 3"), "{failed}");
    assert!(late.len() < 2 * QUOTED && failed.len() < 2 * QUOTED);
}

#[tokio::test]
async fn a_command_that_leaves_something_behind_is_answered_at_once() {
    let begun = Instant::now();
    let answers = ask(vec![shell("sleep 1000 & exit 0")], None).await;
    assert_eq!(answers, [CheckAnswer::Holds]);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}
