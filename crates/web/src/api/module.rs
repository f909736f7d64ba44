//! Modules and backends: what work is made of; and sinks: who is told of it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sheaf_model::{BackendName, ModuleRef, SinkName};
use sheaf_wire::backend::ListBackends;
use sheaf_wire::module::ListModules;
use sheaf_wire::sink::ListSinks;

use crate::answer::{self, Answer};
use crate::ask::{Ask, Change, named};

/// A test may take as long as a sink's longest timeout, and a little.
const TEST_WITHIN: Duration = Duration::from_secs(310);

/// `module list`
pub(super) async fn list(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_modules(ListModules { page, filter }).await?))
}

/// `module status NAME[@VERSION]`
pub(super) async fn status(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", ModuleRef::parse)?;
    Ok(answer::value(&ask.client.module(&name).await?.json()))
}

/// `backend list`
pub(super) async fn backends(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_backends(ListBackends { page, filter }).await?))
}

/// `backend status NAME`
pub(super) async fn backend(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", BackendName::new)?;
    Ok(answer::value(&ask.client.backend(&name).await?.json()))
}

/// `sink list`
pub(super) async fn sinks(ask: Ask) -> Answer {
    let ask = ask.only(&["limit", "after", "filter"])?;
    let (page, filter) = (ask.page()?, ask.filter()?);
    Ok(answer::page(&ask.client.list_sinks(ListSinks { page, filter }).await?))
}

/// `sink status NAME`
pub(super) async fn sink(ask: Ask) -> Answer {
    let ask = ask.only(&["name"])?;
    let name = ask.name("name", SinkName::new)?;
    Ok(answer::value(&ask.client.sink(&name).await?.json()))
}

/// A sink.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

/// `sink test NAME`: something is delivered to it now, and the answer says what the other side said.
pub(super) async fn test_sink(change: Change<Named>) -> Answer {
    let Change { client, ask, .. } = change;
    let name = named("name", &ask.name, SinkName::new)?;
    let tested = client.with_deadline(TEST_WITHIN).test_sink(&name).await?;
    Ok(answer::value(&json!({
        "name": ask.name,
        "outcome": if tested.delivered { "delivered" } else { "failed" },
        "took_ms": tested.took.0,
        "node": tested.node,
        "message": tested.message,
    })))
}
