//! The commands, one file each, and the way to them.

pub mod apply;
pub mod bucket;
pub mod cluster;
pub mod completions;
pub mod events;
pub mod man;
pub mod module;
pub mod node;
mod page;
mod rows;
pub mod version;

use clap::Subcommand;

use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::options::Options;
use crate::output::Terminal;

/// The commands that this crate carries out: those that talk to a cluster, and those about the command line itself.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Register documents of any kind
    Apply(apply::Apply),
    /// Buckets: long-running work, on one node or on every available one
    #[command(subcommand)]
    Bucket(bucket::Bucket),
    /// Modules: the technologies that buckets run
    #[command(subcommand)]
    Module(module::Module),
    /// Nodes: the machines that run the agent
    #[command(subcommand)]
    Node(node::Node),
    /// The cluster as a whole
    #[command(subcommand)]
    Cluster(cluster::ClusterVerb),
    /// What happened, and what happens
    Events(events::Events),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them into a directory
    Man(man::Man),
    /// Print the version
    Version,
}

/// Carries out a command and says how it ended. `root` is the whole command line of the binary, for completions and
/// the manual; what went wrong has been said on stderr when this returns.
pub async fn run(command: ClientCommand, options: &Options, root: clap::Command, out: &mut Terminal) -> Exit {
    let ended = carry_out(command, options, root, out).await;
    match ended.and_then(|exit| out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) if failure.is_closed_pipe() => Exit::Done,
        Err(Failure::Interrupted) => Exit::Interrupted,
        Err(failure) => {
            // What was printed before it went wrong still belongs to the answer.
            let _ = out.flush();
            out.say(&failure.message());
            failure.exit()
        }
    }
}

async fn carry_out(
    command: ClientCommand,
    options: &Options,
    root: clap::Command,
    out: &mut Terminal,
) -> Result<Exit, Failure> {
    match command {
        ClientCommand::Completions(completions) => completions.run(root, out),
        ClientCommand::Man(man) => man.run(root, out),
        ClientCommand::Version => version::run(options.output, out),
        ClientCommand::Apply(apply) => apply.run(&connect(options).await?, options.output, out).await,
        ClientCommand::Bucket(bucket) => bucket.run(&connect(options).await?, options.output, out).await,
        ClientCommand::Module(module) => module.run(&connect(options).await?, options.output, out).await,
        ClientCommand::Node(node) => node.run(&connect(options).await?, options.output, out).await,
        ClientCommand::Cluster(verb) => verb.run(&connect(options).await?, options.output, out).await,
        ClientCommand::Events(events) => events.run(&connect(options).await?, options.output, out).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::output::recorded;

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
            "cluster members",
            "events --follow --since 4711 --where subject=/a,kind=bucket --where node=n1",
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
            "--address h:1 --profile p bucket list",
            "node label n1",
            "module status @1",
            "completions tcl",
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
        assert_eq!(ran("version").await.1, format!("sheaf {}\n", version::VERSION));
        assert_eq!(ran("version -o name").await.1, format!("{}\n", version::VERSION));
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_of_one_line() {
        // Port 9 of the own machine is discard, which nothing serves.
        let (exit, data, talk) = ran("bucket list --address 127.0.0.1:9").await;
        assert_eq!((exit, data.as_str()), (Exit::Error, ""));
        assert!(
            talk.starts_with("error: cannot reach 127.0.0.1:9: connection refused; is an agent"),
            "{talk}"
        );
        assert_eq!(talk.lines().count(), 1);
    }
}
