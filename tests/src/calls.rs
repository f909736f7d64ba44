//! Calls from the test's own process, where a command for each would be too slow, or says too little.

use serde_json::Value;
use sheaf_model::{BucketName, JobName};
use sheaf_wire::node::ListNodes;
use sheaf_wire::{ApiError, Client, Options, PAGE_MAX, PageOf};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{Machine, TOKEN, TRACES};

/// For clients in this process.
///
/// # Panics
/// If no thread can be started.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be started")
}

/// A client of an agent's; made within a runtime.
///
/// # Panics
/// If that is no address.
pub fn client(address: &str) -> Client {
    Client::lazy(address, Options::default()).expect("an agent's address is one")
}

/// Where people keep what they show to clusters, below their home.
const PROFILES: &str = ".config";

/// What commands print that only look, and that are run thousands of times.
enum Look<'a> {
    Cluster,
    Members,
    Nodes,
    Node(&'a str),
    Bucket(BucketName),
    Gates(BucketName),
    Job(JobName),
}

impl<'a> Look<'a> {
    fn of(args: &'a [&'a str]) -> Option<Self> {
        let [command @ .., "-o", "json"] = args else { return None };
        Some(match command {
            ["cluster", "status"] => Self::Cluster,
            ["cluster", "members"] => Self::Members,
            ["node", "list"] => Self::Nodes,
            ["node", "status", name] => Self::Node(name),
            ["bucket", "status", name] => Self::Bucket(BucketName::new(name).ok()?),
            ["bucket", "explain", name] => Self::Gates(BucketName::new(name).ok()?),
            ["job", "status", name] => Self::Job(JobName::new(name).ok()?),
            _ => return None,
        })
    }

    async fn ask(&self, address: &str) -> Result<Value, ApiError> {
        let client = Client::connect(address, Options::default()).await?;
        let json = match self {
            Self::Cluster => serde_json::to_value(client.cluster_status().await?),
            Self::Members => serde_json::to_value(client.members().await?),
            Self::Nodes => {
                let page = PageOf { size: PAGE_MAX, token: String::new() };
                serde_json::to_value(
                    client.list_nodes(ListNodes { page, ..ListNodes::default() }).await?.rows,
                )
            }
            Self::Node(name) => serde_json::to_value(client.node(name).await?),
            Self::Bucket(name) => serde_json::to_value(client.bucket(name).await?.status),
            Self::Gates(name) => serde_json::to_value(client.explain_bucket(name).await?),
            Self::Job(name) => serde_json::to_value(client.job(name).await?.status),
        };
        Ok(json.expect("a view is plain data whose maps have text keys"))
    }
}

/// What a command with these arguments would print, or why it would fail, without starting one. None: it does more than to look,
/// shows who asks, tells of a trace, or is run where nothing can be waited for.
pub(crate) fn look(machine: &Machine, address: &str, args: &[&str]) -> Option<Result<Value, String>> {
    let look = Look::of(args)?;
    let is_more = [TOKEN, TRACES, PROFILES].iter().any(|name| machine.path(name).exists());
    if is_more || Handle::try_current().is_ok() {
        return None;
    }
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
    Some(match runtime.block_on(look.ask(address)) {
        // That is a failure of the command.
        Ok(status) if matches!(look, Look::Cluster) && status["leader"].is_null() => Err(status.to_string()),
        answer => answer.map_err(|error| format!("sheaf {} --address {address}: {error}", args.join(" "))),
    })
}
