//! `sheaf module …`

pub mod attempt;
mod push;

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use sheaf_model::view::{ArtifactStatus, Holds, ModuleOnNode, ModuleRow};
use sheaf_model::{ModuleRef, NameError, document};
use sheaf_wire::Client;
use sheaf_wire::module::{DeleteModule, GotModule, ListModules};

use crate::command::page::{self, Printed};
use crate::command::{apply, several};
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::options::{Page, Wait, Yes};
use crate::output::{Format, Terminal};
use crate::text;

/// What to do when there is nothing to list.
const EMPTY: &str = "no modules yet; register one: sheaf apply -f deploy/examples/flume.yaml";
const NONE_SUCH: &str = "no module is like that; `sheaf module list` shows all";

/// `sheaf module …`
#[derive(Debug, Subcommand)]
pub enum Module {
    /// Register modules; a version's content never changes
    Apply(apply::Apply),
    /// Try a program on this machine, without a cluster
    Try(attempt::Try),
    /// List the versions of all modules
    List(List),
    /// Show one version, or the newest; without a name, list all
    Status(Status),
    /// Push the program of a version, which nodes then fetch by themselves
    Push(push::Push),
    /// Delete versions that no bucket uses
    Delete(Delete),
}

/// `sheaf module list`
#[derive(Args, Debug)]
pub struct List {
    /// Only those: name (with * and ?), version, runtime, newest
    #[arg(long = "where", value_name = "KEY=VALUE", value_delimiter = ',')]
    filter: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// `sheaf module status`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Which nodes run it, where its artifact is, and which buckets and jobs use it. Without @VERSION the newest is shown, and the nodes that run any. \
With -o json its row, all nodes and its document; with -o yaml the document, which can be applied again.

Examples:
  sheaf module status flume
  sheaf module status flume@1.11.0 -o yaml")]
pub struct Status {
    /// The module, or one version of it; without it all are listed
    #[arg(value_parser = module_ref, value_name = "NAME[@VERSION]")]
    name: Option<ModuleRef>,
    #[command(flatten)]
    list: List,
}

/// `sheaf module delete`
#[derive(Args, Debug)]
#[command(after_long_help = "\
A version that a bucket uses is not deleted; so nothing of it runs when it is, and --wait has nothing to wait for.

Examples:
  sheaf module delete flume@1.10.0 flume@1.10.1 --yes")]
pub struct Delete {
    /// The versions
    #[arg(value_parser = module_ref, required = true, value_name = "NAME@VERSION")]
    names: Vec<ModuleRef>,
    #[command(flatten)]
    yes: Yes,
    #[command(flatten)]
    wait: Wait,
}

fn module_ref(text: &str) -> Result<ModuleRef, String> {
    ModuleRef::parse(text).map_err(|NameError { problem, remedy }| format!("{problem}; {remedy}"))
}

impl Module {
    pub(crate) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut Terminal,
    ) -> Result<Exit, Failure> {
        match self {
            Self::Apply(apply) => apply.run_only("Module", client, format, out).await,
            Self::Try(_) => Err(attempt::elsewhere()),
            Self::List(list) => list.run(client, format, out).await,
            Self::Status(status) => status.run(client, format, out).await,
            Self::Push(push) => push.run(client, format, out).await,
            Self::Delete(delete) => delete.run(client, format, out).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let filter = page::filter(&self.filter)?;
        let fetch = async |page, filter| client.list_modules(ListModules { page, filter }).await;
        let document = |row: ModuleRow| async move {
            let name = module_ref(&format!("{}@{}", row.name, row.version)).map_err(Failure::Refused)?;
            let got = page::there(client.module(&name).await)?;
            Ok::<_, Failure>(got.map(|got| Printed::whole(document::module_yaml(&got.spec))))
        };
        page::documented(&filter, &self.page, format, out, (EMPTY, NONE_SUCH), fetch, document).await
    }
}

impl Status {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        let Some(name) = self.name else { return self.list.run(client, format, out).await };
        let got = client.module(&name).await?;
        let GotModule { spec, row, .. } = &got;
        match format {
            Format::Json => out.json(&got.json())?,
            Format::Yaml => out.documents(&document::module_yaml(spec))?,
            Format::Name => out.line(&format!("{}@{}", row.name, row.version))?,
            Format::Table | Format::Wide => {
                out.write(&text::facts(&facts(&got)))?;
                out.line("")?;
                out.documents(&document::module_yaml(spec))?;
            }
        }
        Ok(Exit::Done)
    }
}

/// As many names as fit on a line or two, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn of_artifact(artifact: &ArtifactStatus) -> Vec<(&'static str, String)> {
    let what = if artifact.file.is_empty() { "a directory" } else { &artifact.file };
    let mut facts =
        vec![("artifact", format!("{what}, {} bytes", artifact.size)), ("sha256", artifact.digest.clone())];
    let states = [
        ("held by", Holds::Held),
        ("cached on", Holds::Cached),
        ("fetched by", Holds::Fetching),
        ("missing on", Holds::Missing),
    ];
    for (title, state) in states {
        let on = artifact.nodes.iter().filter(|on| on.state == state);
        let names: Vec<String> = match state {
            Holds::Fetching => on.map(|on| format!("{} ({} %)", on.node, on.percent)).collect(),
            Holds::Held | Holds::Cached | Holds::Missing => on.map(|on| on.node.clone()).collect(),
        };
        match state {
            Holds::Held if names.is_empty() => facts.push((title, "no voter that answers".to_owned())),
            _ if names.is_empty() => {}
            _ => facts.push((title, some(&names))),
        }
    }
    facts
}

/// A line for each version that runs: where, and how if it does not just run.
fn of_nodes(nodes: &[ModuleOnNode]) -> impl Iterator<Item = (&'static str, String)> {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ModuleOnNode { node, version, state, instances } in nodes {
        let state = (state != "running").then(|| state.clone());
        let more: Vec<String> =
            state.into_iter().chain((*instances > 1).then(|| format!("{instances} instances"))).collect();
        let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
        versions.entry(version).or_default().push(format!("{node}{more}"));
    }
    versions.into_iter().map(|(version, nodes)| {
        let version = if version.is_empty() { "an earlier version" } else { version };
        ("runs", format!("{version} on {}", some(&nodes)))
    })
}

/// Buckets by path, and jobs.
fn users(used_by: &[String]) -> String {
    let user = |name: &String| if name.starts_with('/') { name.clone() } else { format!("job {name}") };
    let names: Vec<String> = used_by.iter().map(user).collect();
    if names.is_empty() { "nothing".to_owned() } else { some(&names) }
}

fn facts(got: &GotModule) -> Vec<(&'static str, String)> {
    let row = &got.row;
    let newest = if row.newest { "yes" } else { "no" };
    let mut facts = vec![
        ("module", format!("{}@{}", row.name, row.version)),
        ("newest", newest.to_owned()),
        ("used by", users(&got.used_by)),
        ("revision", row.revision.to_string()),
    ];
    facts.extend(of_nodes(&got.nodes));
    match &got.artifact {
        Some(artifact) => facts.extend(of_artifact(artifact)),
        None if got.spec.uses_artifact() => {
            facts
                .push(("artifact", format!("none yet: sheaf module push {}@{} PATH", row.name, row.version)));
        }
        None => {}
    }
    facts
}

impl Delete {
    async fn run(self, client: &Client, format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
        if let Some(ModuleRef { name, .. }) = self.names.iter().find(|name| name.version.is_none()) {
            let remedy =
                format!("like {name}@1.0; `sheaf module list --where name={name}` shows its versions");
            return Err(Failure::usage(format!("{name} has no version"), remedy));
        }
        // No bucket uses it, so nothing of it runs: there is nothing to wait for.
        self.wait.already_so();
        let ask = async |ModuleRef { name, version }: ModuleRef| {
            let version = version.expect("one without a version is refused above");
            client.delete_module(DeleteModule { name, version, request: connect::request() }).await
        };
        several::delete("Module", self.names, ("", self.yes), format, out, ask).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_has_a_line_with_the_nodes_that_run_it() {
        let on = |node: &str, version: &str, state: &str, instances| ModuleOnNode {
            node: node.to_owned(),
            version: version.to_owned(),
            state: state.to_owned(),
            instances,
        };
        let nodes = [
            on("n1", "1.10", "running", 1),
            on("n1", "1.11", "running", 3),
            on("n2", "1.11", "failed", 2),
            on("n3", "", "running", 1),
            on("n4", "1.10", "starting", 1),
        ];
        let lines: Vec<String> = of_nodes(&nodes).map(|(word, text)| format!("{word} {text}")).collect();
        let wanted = [
            "runs an earlier version on n3",
            "runs 1.10 on n1, n4 (starting)",
            "runs 1.11 on n1 (3 instances), n2 (failed, 2 instances)",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn buckets_and_jobs_are_told_apart() {
        assert_eq!(users(&["/web".to_owned(), "nightly".to_owned()]), "/web, job nightly");
        assert_eq!(users(&[]), "nothing");
    }
}
