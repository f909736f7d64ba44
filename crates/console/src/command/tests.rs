//! The command line as a whole, and every command against a cluster that is made up.

use std::sync::Arc;

use clap::{CommandFactory, Parser};
use sheaf_model::view::BucketState;
use tempfile::TempDir;

use super::fake::Fake;
use super::*;
use crate::output::recorded;

mod apply;
mod changes;
mod cluster;
mod several;

/// The command line as `app` puts it together.
#[derive(Debug, Parser)]
#[command(name = "sheaf", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node agent
    Agent,
    /// Keep one instance
    #[command(hide = true)]
    Keep,
    #[command(flatten)]
    Client(ClientCommand),
}

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("sheaf").chain(line.split_whitespace()))
}

async fn ran(line: &str) -> (Exit, String, String) {
    let Cli { options, command: Command::Client(command) } = parsed(line).expect("a good command line")
    else {
        panic!("{line} is not ours");
    };
    let (mut out, recording) = recorded::terminal("");
    let exit = run(command, &options, Cli::command(), &mut out).await;
    (exit, recording.data(), recording.talk())
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn documented_command_lines_are_understood() {
    for line in [
        "apply -f a.yaml -f dir -f - --wait --timeout 2m --latest -o json",
        "apply -f a.yaml --if-revision 7",
        "--address h:1 bucket list -l team=web,zone=a -l x=y --limit 5 --after /a -o wide",
        "bucket status --all",
        "bucket status /logs/web -o yaml --address h:1",
        "bucket plan -f a.yaml",
        "bucket explain /logs/web --profile prod",
        "bucket logs -f /logs/web --node n1 --since 10m --tail 5",
        "bucket logs /logs/web --previous",
        "bucket watch",
        "bucket suspend /a /b --wait",
        "bucket resume /a --if-revision 3",
        "bucket restart /a",
        "bucket purge /a --wait",
        "bucket history /a --limit 3",
        "bucket delete /a --yes --wait --timeout 500ms",
        "module apply -f a.yaml",
        "module status flume@1.11.0",
        "module delete flume@1.11.0 --yes",
        "node list -l zone=a",
        "node status 12",
        "node affinity import-01",
        "node label import-01 gpu old- --remove older",
        "cluster status -o json",
        "top --address h:1",
        "cluster debug",
        "cluster debug /tmp/a.tar.gz --node n1 -o json",
        "cluster members",
        "cluster token create --name ci --role operator --on /team-a/ --ttl 90d",
        "cluster token create --role agent --ttl 1h -o json",
        "cluster token create --name ci --role viewer --certificate",
        "cluster token sign --for 10m --certificate-file ci.pem",
        "cluster token list --where role=admin",
        "cluster token revoke ci abababababab --yes",
        "cluster ca status -o json",
        "cluster ca export",
        "cluster ca rotate --wait --timeout 5m",
        "cluster ca rotate --finish --yes",
        "cluster ca rotate --abandon",
        "login --address h:1 --profile p --token-file -",
        "login --address h:1 --certificate-file ci.pem",
        "job submit -f a.yaml --wait --timeout 2h",
        "job submit -f - --dry-run",
        "job plan -f a.yaml -o json",
        "job list -l team=eo --where state=running",
        "job status ndvi",
        "job subtasks ndvi 1-10:2,failed --state failed,canceled --limit 5 --after x",
        "job explain ndvi 7",
        "job watch ndvi",
        "job logs ndvi 7 --attempt 2 -f --tail 5",
        "job pause a b",
        "job resume a",
        "job cancel ndvi last --reason x --dry-run",
        "job retry ndvi failed --dry-run",
        "job reprioritize ndvi 0-9 --priority 100",
        "job delete a --yes",
        "events --follow --since 4711 --where subject=/a,kind=bucket --where node=n1",
        "events --subtasks --where kind=subtask.failed",
        "completions bash",
        "man --dir x",
        "version",
    ] {
        if let Err(error) = parsed(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for line in [
        "",
        "bucket",
        "bucket frobnicate",
        "apply",
        "bucket explain",
        "bucket explain logs/web",
        "bucket list -o xml",
        "bucket list -l team",
        "bucket list --limit 0",
        "bucket list --limit 5 --all",
        "bucket status /a --timeout 5s",
        "apply -f a --timeout 5s",
        "apply -f a --wait --timeout soon",
        "bucket logs /a -f --previous",
        "cluster token create --name a",
        "cluster token create --name a --role root",
        "cluster token create --name a --role operator --on team-a",
        "cluster token create --name a/b --role viewer",
        "cluster token revoke",
        "cluster ca",
        "cluster ca rotate --finish --abandon",
        "login hunter2",
        "login --token hunter2",
        "login --token-file a --certificate-file b",
        "node label n1",
        "module status @1",
        "completions tcl",
        "job submit",
        "job submit -f a --dry-run --wait",
        "job subtasks a faild",
        "job subtasks a --state done",
        "job logs a",
        "job logs a 1 --attempt 0",
        "job reprioritize a",
        "job reprioritize a --priority 101",
        "job status a/b",
    ] {
        let error = parsed(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}: {error}");
    }
}

#[test]
fn every_command_says_what_it_does_in_one_line() {
    fn check(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(path.trim() == "sheaf" || !about.is_empty(), "{path} says nothing");
        assert!(!about.contains('\n') && !about.ends_with('.'), "{path}: {about:?}");
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{path} {} says nothing", argument.get_id());
        }
        command.get_subcommands().for_each(|below| check(below, &path));
    }
    check(&Cli::command(), "");
}

#[tokio::test]
async fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (exit, script, talk) = ran(&format!("completions {shell}")).await;
        assert_eq!((exit, talk.as_str()), (Exit::Done, ""));
        assert!(script.contains("explain"), "{shell}");
    }
}

#[tokio::test]
async fn the_manual_has_a_page_for_every_command() {
    let (exit, page, _) = ran("man").await;
    assert_eq!(exit, Exit::Done);
    assert!(page.contains(".TH sheaf 1"), "{page}");
    let place = tempfile::tempdir().expect("a directory");
    let (exit, _, talk) = ran(&format!("man --dir {}/man1", place.path().display())).await;
    assert_eq!(exit, Exit::Done, "{talk}");
    let pages = std::fs::read_dir(place.path().join("man1")).expect("it was made");
    let names: Vec<String> =
        pages.map(|page| page.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    for name in ["sheaf.1", "sheaf-apply.1", "sheaf-bucket-explain.1", "sheaf-cluster-status.1"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("keep")), "{names:?}");
    assert!(talk.starts_with(&format!("wrote {} pages", names.len())), "{talk}");
}

#[tokio::test]
async fn the_version_is_told() {
    assert_eq!(ran("version").await.1, format!("sheaf {}\n", sheaf_model::version()));
    assert_eq!(ran("version -o name").await.1, format!("{}\n", sheaf_model::version()));
}

#[tokio::test]
async fn nobody_there_is_an_error_of_one_line() {
    // Port 9 of the own machine is discard, which nothing serves.
    let (exit, data, talk) = ran("bucket list --address 127.0.0.1:9").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, ""));
    assert!(talk.starts_with("error: cannot reach 127.0.0.1:9: connection refused; is an agent"), "{talk}");
    assert_eq!(talk.lines().count(), 1);
}

pub(super) const MODULE: &str =
    "kind: Module\nname: flume\nversion: \"1\"\nruntime: exec\nexec: {command: /bin/true}\n";

fn bucket(name: &str, port: u32) -> String {
    format!(
        "kind: Bucket\nname: {name}\ntype: harvest\nmodule: flume\nconfig: {{port: {port}}}\nlabels: {{team: web}}\n"
    )
}

/// A made-up cluster, and a directory for documents.
pub(super) struct Bench {
    address: String,
    pub(super) cluster: Arc<Fake>,
    place: TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let (address, cluster) = Fake::serve().await;
        Self { address, cluster, place: tempfile::tempdir().expect("a directory") }
    }

    /// One with a module and as many buckets, named /b/0 and so on.
    async fn with(buckets: usize) -> Self {
        let bench = Self::new().await;
        let documents: String =
            (0..buckets).map(|n| format!("---\n{}", bucket(&format!("/b/{n}"), 1))).collect();
        bench.write("all.yaml", &format!("{MODULE}{documents}"));
        assert_eq!(bench.ran("apply -f all.yaml").await.0, Exit::Done);
        bench
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.path().join(name), text).expect("written");
    }

    /// Runs a command line; files are those of the directory.
    pub(super) async fn ran(&self, line: &str) -> (Exit, String, String) {
        self.ran_with(line, "").await
    }

    pub(super) async fn ran_with(&self, line: &str, input: &str) -> (Exit, String, String) {
        let mut words: Vec<String> = vec!["sheaf".to_owned(), "--address".to_owned(), self.address.clone()];
        for word in line.split_whitespace() {
            let file = words.last().is_some_and(|before| before == "-f") && !word.starts_with(['-', '/']);
            words.push(if file {
                self.place.path().join(word).display().to_string()
            } else {
                word.to_owned()
            });
        }
        let cli = Cli::try_parse_from(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Command::Client(command) = cli.command else { panic!("{line} is not ours") };
        let (mut out, recording) = recorded::terminal(input);
        let exit = run(command, &cli.options, Cli::command(), &mut out).await;
        let talk = recording.talk().replace(&format!("{}/", self.place.path().display()), "");
        (exit, recording.data(), talk)
    }
}

#[tokio::test]
async fn a_file_is_applied_as_one_transaction() {
    let bench = Bench::new().await;
    bench.write("web.yaml", &format!("{}---\n{MODULE}", bucket("/logs/web", 5140)));
    let (exit, data, talk) = bench.ran("apply -f web.yaml").await;
    assert_eq!(exit, Exit::Done, "{talk}");
    insta::assert_snapshot!(data, @r"
    OUTCOME  KIND    NAME       REVISION
    created  Module  flume@1           1
    created  Bucket  /logs/web         1
    ");
    assert_eq!(talk, "warning: limits are kept, not enforced\n");
    assert_eq!(bench.cluster.held().applies, [(2, false)]);
    let (actor, request) = bench.cluster.held().changes[0].clone();
    assert!(actor.starts_with("cli:") && actor.contains('@'), "{actor}");
    assert_eq!(request.expect("an id").len(), 36);
    let (_, data, _) = bench.ran("apply -f web.yaml -o json").await;
    let rows: serde_json::Value = serde_json::from_str(&data).expect("JSON");
    assert_eq!((&rows[1]["name"], &rows[1]["outcome"]), (&"/logs/web".into(), &"unchanged".into()));
}

#[tokio::test]
async fn several_files_are_checked_together_before_the_first_is_applied() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &bucket("/a", 1));
    bench.write("b.yaml", MODULE);
    let (exit, data, talk) = bench.ran("apply -f a.yaml -f b.yaml -o name").await;
    assert_eq!((exit, data.as_str()), (Exit::Done, "flume@1\n/a\n"), "{talk}");
    assert_eq!(bench.cluster.held().applies, [(2, true), (1, false), (1, false)]);
}

#[tokio::test]
async fn every_defect_of_every_file_is_reported_and_nothing_applied() {
    let bench = Bench::new().await;
    bench.write("a.yaml", &bucket("/a", 1));
    bench.write("b.yaml", &bucket("/b", 1).replace("harvest", "batch"));
    let (exit, data, talk) = bench.ran("apply -f a.yaml -f b.yaml -f missing.yaml").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, ""));
    insta::assert_snapshot!(talk, @r#"
    b.yaml: Bucket /b: type: unknown word "batch"; one of harvest, analytic
    missing.yaml: cannot be read: No such file or directory; the path of a file or a directory, or - for stdin
    a.yaml: Bucket /a: module: there is no module "flume"; one that is registered
    b.yaml: Bucket /b: module: there is no module "flume"; one that is registered
    "#);
    assert!(bench.cluster.held().changes.is_empty());
}

#[tokio::test]
async fn a_stale_revision_is_a_conflict() {
    let bench = Bench::with(1).await;
    bench.write("b.yaml", &bucket("/b/0", 2));
    let (exit, _, talk) = bench.ran("apply -f b.yaml --if-revision 5").await;
    assert_eq!((exit, talk.as_str()), (Exit::Conflict, "error: bucket /b/0 is at revision 1\n"));
    assert_eq!(bench.ran("apply -f b.yaml --if-revision 1").await.0, Exit::Done);
    assert_eq!(bench.ran("bucket suspend /b/0 --if-revision 1").await.0, Exit::Conflict);
    assert_eq!(bench.ran("apply -f all.yaml -f b.yaml --if-revision 1").await.0, Exit::Usage);
}

#[tokio::test]
async fn waiting_ends_as_the_bucket_does() {
    let bench = Bench::with(1).await;
    for (state, exit) in [
        (BucketState::Running, Exit::Done),
        (BucketState::Unplaced, Exit::Unplaceable),
        (BucketState::Partial, Exit::TimedOut),
        (BucketState::Failed, Exit::Error),
    ] {
        bench.cluster.held().state = Some(state);
        let (ended, _, talk) = bench.ran("apply -f all.yaml --wait --timeout 500ms").await;
        assert_eq!(ended, exit, "{state:?}: {talk}");
        assert_eq!(talk.contains(state.as_str()), exit != Exit::Done, "{talk}");
        assert_eq!(bench.ran("apply -f all.yaml").await.0, Exit::Done);
    }
    bench.cluster.held().state = Some(BucketState::Running);
    bench.cluster.held().crashes = true;
    let (ended, _, talk) = bench.ran("apply -f all.yaml --wait --timeout 500ms").await;
    assert_eq!(ended, Exit::TimedOut, "whenever it is looked at it runs: {talk}");
    assert!(talk.contains("/b/0 is running") && talk.contains("it was started again"), "{talk}");
    bench.cluster.held().crashes = false;
    assert_eq!(bench.ran("bucket suspend /b/0 --wait --timeout 5s").await.0, Exit::Done);
    bench.cluster.held().lingers = usize::MAX;
    let (ended, _, talk) = bench.ran("bucket delete /b/0 --yes --wait --timeout 200ms").await;
    assert_eq!(ended, Exit::TimedOut, "it is deleted, and runs on: {talk}");
    assert!(talk.contains("/b/0 is deleted and may still run on 1: import-01 is running"), "{talk}");
    assert_eq!(bench.ran("apply -f all.yaml").await.0, Exit::Done);
    bench.cluster.held().lingers = 2;
    assert_eq!(bench.ran("bucket delete /b/0 --wait --timeout 5s").await.0, Exit::Done);
    assert_eq!(bench.cluster.held().lingers, 0);
    assert_eq!(bench.ran("bucket status /b/0").await.0, Exit::NotFound);
}

#[tokio::test]
async fn lists_go_page_by_page_and_documents_can_be_applied_again() {
    let bench = Bench::with(5).await;
    let (_, data, talk) = bench.ran("bucket list --limit 2 -o name").await;
    assert_eq!(
        (data.as_str(), talk.as_str()),
        ("/b/0\n/b/1\n", "there are more: go on with --after 2, or ask for --all\n")
    );
    let (_, data, talk) = bench.ran("bucket status --after 2 -l team=web -o json").await;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&data).expect("JSON");
    assert_eq!((rows.len(), talk.as_str()), (3, ""));
    assert_eq!(bench.ran("bucket list -l team=db -o json").await.1, "[]\n");
    let (_, documents, _) = bench.ran("bucket list --all -o yaml").await;
    bench.write("again.yaml", &documents);
    let (exit, data, talk) = bench.ran("apply -f again.yaml").await;
    assert_eq!(exit, Exit::Done, "{talk}{documents}");
    assert_eq!(data.matches("unchanged").count(), 5, "{data}");
    let (_, one, _) = bench.ran("bucket status /b/3 -o yaml").await;
    assert_eq!(bench.ran_with("apply -f - -o name", &one).await.1, "/b/3\n");
}

#[tokio::test]
async fn an_empty_cluster_says_what_to_do_next() {
    let bench = Bench::new().await;
    for (line, hint) in [
        ("bucket list", "no buckets yet; register one: sheaf apply -f deploy/examples/flume.yaml\n"),
        ("module list", "no modules yet; register one: sheaf apply -f deploy/examples/flume.yaml\n"),
        ("bucket list -l a=b", "no bucket is like that; `sheaf bucket list` shows all\n"),
        ("cluster members", "no cluster yet; `sheaf cluster status` says what is missing\n"),
    ] {
        assert_eq!(bench.ran(line).await, (Exit::Done, String::new(), hint.to_owned()), "{line}");
    }
    let (exit, data, _) = bench.ran("cluster status").await;
    assert_eq!(exit, Exit::Error);
    assert!(data.starts_with("1 of 3 seen, waiting for b and c\n"), "{data}");
}

#[tokio::test]
async fn a_plan_exits_with_10_when_there_are_changes() {
    let bench = Bench::with(1).await;
    assert_eq!(bench.ran("bucket plan -f all.yaml").await.0, Exit::Done);
    bench.write("b.yaml", &bucket("/b/0", 2));
    let (exit, data, _) = bench.ran("bucket plan -f b.yaml").await;
    assert_eq!(exit, Exit::Changes);
    assert!(
        data.starts_with("Bucket /b/0: would be updated, is at revision 1\n  config.port: 1 → 2\n"),
        "{data}"
    );
    bench.write(
        "c.yaml",
        &format!("{}---\n{}", MODULE.replace("flume", "new"), bucket("/c", 1).replace("flume", "new")),
    );
    let (exit, data, talk) = bench.ran("bucket plan -f c.yaml").await;
    assert_eq!(exit, Exit::Changes);
    assert!(data.contains("Bucket /c: would be created") && data.contains("THEN"), "nodes are asked: {data}");
    assert_eq!(talk, "warning: Module new@1: brought\nwarning: Bucket /c: a word\n");
    assert_eq!(bench.cluster.held().changes.len(), 1, "a plan changes nothing");
}

#[tokio::test]
async fn deletes_ask_on_a_terminal() {
    let bench = Bench::with(2).await;
    let (exit, _, talk) = bench.ran_with("bucket delete /b/0", "n\n").await;
    assert_eq!(exit, Exit::Error);
    assert_eq!(talk, "delete /b/0 and stop what runs of it? [y/N] error: nothing was deleted\n");
    assert_eq!(bench.ran_with("bucket delete /b/0", "y\n").await.0, Exit::Done);
    assert_eq!(bench.ran_with("bucket delete /b/1 --yes", "n\n").await.0, Exit::Done);
    assert_eq!(bench.ran("module delete flume").await.0, Exit::Usage);
    assert_eq!(bench.ran("module delete flume@1").await.0, Exit::Done);
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let bench = Bench::new().await;
    let (exit, data, talk) = bench.ran("cluster token create --name ci --role viewer").await;
    assert_eq!((exit, data), (Exit::Done, format!("sheaf_{}.{}\n", "ab".repeat(6), "cd".repeat(32))));
    assert!(talk.starts_with("token ci: viewer, until it is revoked; "), "{talk}");
    let (_, data, _) = bench.ran("cluster token list").await;
    let lines: Vec<Vec<&str>> = data.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "ID", "ROLE", "PREFIX", "BY", "MADE", "EXPIRES"]);
    assert_eq!(lines[1][..5], ["ci", "abababababab", "operator", "/team-a/", "user:root"]);
    assert_eq!((lines[1][6], lines[2][3], lines[2][6]), ("-", "-", "expired"));
    let (exit, _, talk) = bench.ran_with("cluster token revoke ci", "n\n").await;
    assert_eq!((exit, talk.contains("nothing was revoked")), (Exit::Error, true), "{talk}");
    let (exit, data, _) = bench.ran("cluster token revoke ci --yes").await;
    assert_eq!((exit, data.contains("revoked")), (Exit::Done, true), "{data}");
    let (exit, _, talk) = bench.ran("cluster token revoke x --yes").await;
    assert_eq!(exit, Exit::NotFound, "{talk}");
}

#[tokio::test]
async fn lines_of_logs_have_their_node() {
    let bench = Bench::with(1).await;
    let (exit, data, talk) = bench.ran("bucket logs /b/0").await;
    assert_eq!((exit, data.as_str()), (Exit::Done, "n1 | listening\nn2 | no route\n"));
    assert_eq!(talk, "n2: exited with exit code 1\n");
    for (node, asked) in [("import-01", "import-01"), ("12", "+12"), ("web", "+140"), ("14", "+140")] {
        let (_, data, talk) = bench.ran(&format!("bucket logs /b/0 --node {node}")).await;
        assert_eq!(data, format!("{asked} | listening\n"), "{talk}");
    }
    assert_eq!(bench.ran("bucket logs /b/0 --node import-0").await.0, Exit::Usage);
    let (exit, _, talk) = bench.ran("bucket logs /b/0 --node nowhere").await;
    let said = "error: there is no node nowhere; `sheaf node list` shows all\n";
    assert_eq!((exit, talk.as_str()), (Exit::NotFound, said));
    let (_, data, _) = bench.ran("bucket logs /b/0 -o json").await;
    assert_eq!(data.lines().count(), 3);
    assert!(data.contains("\"stream\":\"sheaf\""), "{data}");
}

#[tokio::test]
async fn followed_logs_go_on_after_the_last_line_of_each_node() {
    let bench = Bench::with(1).await;
    let (exit, data, talk) = bench.ran("bucket logs /b/0 -f --tail 3").await;
    assert_eq!((exit, data.as_str()), (Exit::Error, "n1 | one\nn1 | two\nn1 | three\n"), "{talk}");
    assert!(talk.starts_with("n2: its output cannot be read\nthe node stops; trying again\n"), "{talk}");
    // The two lines of n1 are of one moment; of the others all is new that was printed since then.
    let asked =
        ["since \"\" tail Some(3) after \"\"", "since \"0\" tail None after \"n1 0 2\""].map(str::to_owned);
    assert_eq!(bench.cluster.held().asked, asked);
}

#[tokio::test]
async fn a_watch_goes_on_where_it_broke_off() {
    let bench = Bench::with(1).await;
    let (exit, data, talk) = bench.ran("bucket watch -o json").await;
    assert_eq!(exit, Exit::Error);
    let lines: Vec<serde_json::Value> =
        data.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["bucket"]["name"], &lines[1]["gone"]), (&"/logs/web".into(), &"/logs/web".into()));
    assert_eq!(lines[1]["revision"], 8);
    assert!(talk.starts_with("the node stops; trying again\n"), "{talk}");
}

#[tokio::test]
async fn events_are_the_newest_unless_a_place_is_named() {
    let bench = Bench::new().await;
    let revisions = |data: &str| -> Vec<u64> {
        let row = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        data.lines().filter_map(|line| row(line)["revision"].as_u64()).collect()
    };
    let (_, data, talk) = bench.ran("events -o json --limit 2").await;
    assert_eq!(revisions(&data), [4, 5]);
    assert!(talk.starts_with("older events are left out"), "{talk}");
    assert_eq!(revisions(&bench.ran("events -o json").await.1), [1, 2, 3, 4, 5]);
    let (_, data, talk) = bench.ran("events -o json --since 2 --limit 2").await;
    assert_eq!(
        (revisions(&data), talk.as_str()),
        (vec![3, 4], "there are more: go on with --after 4.0, or ask for --all\n")
    );
    assert_eq!(revisions(&bench.ran("events -o json --after 4.0").await.1), [5]);
    assert_eq!(revisions(&bench.ran("events -o json --follow").await.1), [6]);
    assert_eq!(revisions(&bench.ran("events -o json --follow --since 3").await.1), [4]);
    // A stream that breaks off before anything has happened goes on from where it began.
    let (_, data, talk) = bench.ran("events -o json --follow --where kind=quiet").await;
    assert_eq!(revisions(&data), [6]);
    assert!(talk.starts_with("the node stops; trying again\n"), "{talk}");
    assert_eq!(bench.cluster.held().asked, ["5.0", "5.0"]);
}

#[tokio::test]
async fn a_node_is_found_by_a_unique_beginning() {
    let bench = Bench::new().await;
    assert_eq!(bench.ran("node status import-01 -o name").await.1, "import-01\n");
    assert_eq!(bench.ran("node status import-0").await.0, Exit::Usage);
    assert_eq!(bench.ran("node status nowhere").await.0, Exit::NotFound);
    assert_eq!(bench.ran("node list -o name").await.1, "import-01\nimport-02\nweb-01\n");
    assert_eq!(bench.ran("node affinity 12 -o name").await.1, "/logs/web\n");
    let (exit, data, talk) = bench.ran("node label import-01 gpu old-").await;
    assert_eq!((exit, talk.as_str()), (Exit::Done, "labels: gpu, old\n"));
    assert!(data.contains("labelled"), "{data}");
    assert_eq!(bench.ran("node label import-01 gpu --wait --timeout 5s").await.0, Exit::Done);
    bench.cluster.held().revision = 9_000;
    let (exit, _, talk) = bench.ran("node label import-01 gpu --wait --timeout 100ms").await;
    assert_eq!(exit, Exit::TimedOut, "{talk}");
    assert!(talk.contains("node import-01 is ready and has not answered since revision 9001"), "{talk}");
}

#[tokio::test]
async fn history_says_what_each_revision_changed() {
    let bench = Bench::with(1).await;
    insta::assert_snapshot!(bench.ran("bucket history /b/0").await.1, @r"
    REVISION  AGO  ACTOR           CHANGED
           9  60s  cli:alice@ops1  owner
           4  60s  cli:alice@ops1  -
    ");
    insta::assert_snapshot!(bench.ran("bucket history /b/0 --limit 1").await.1, @r"
    REVISION  AGO  ACTOR           CHANGED
           9  60s  cli:alice@ops1  owner
    ");
    assert_eq!(bench.ran("bucket history /never").await.0, Exit::NotFound);
}

#[tokio::test]
async fn a_reader_that_left_is_no_failure() {
    let bench = Bench::with(1).await;
    let options = Options { address: Some(bench.address.clone()), ..Options::default() };
    let Command::Client(command) = parsed("bucket list").expect("good").command else { panic!("ours") };
    let (out, recording) = recorded::terminal("");
    let exit = run(command, &options, Cli::command(), &mut out.closed()).await;
    assert_eq!((exit, recording.talk().as_str()), (Exit::Done, ""));
}
