//! `sheaf agent stop`: asks the agent of this machine to stop, and waits until it has.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;
use sheaf_console::Format;
use sheaf_model::document;

use crate::config::Config;
use crate::data;

/// How long it may take: the agent gives up before.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Stops the agent whose data directory the configuration names.
///
/// # Errors
/// When none runs there, it cannot be asked, or does not stop in time.
pub(crate) fn run(
    config: &Config,
    release: bool,
    format: Format,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let talks = matches!(format, Format::Table | Format::Wide);
    let dir = config.dir.display();
    let Some(agent) = data::holder(&config.dir)? else {
        bail!("no agent runs with data directory {dir}; --config or [storage] dir may be meant for another");
    };
    sheaf_agent::ask_to_stop(agent, release)
        .with_context(|| format!("ask the agent (process {agent}) to stop"))?;
    let how = if release { "hands its single-node buckets over and stops" } else { "stops" };
    if talks {
        writeln!(out, "the agent with data directory {dir} (process {agent}) {how}")?;
    }
    let begun = Instant::now();
    while data::holder(&config.dir)? == Some(agent) {
        if begun.elapsed() > WITHIN {
            bail!("the agent (process {agent}) has not stopped within {WITHIN:?}; its log says why");
        }
        data::pause(PAUSE);
    }
    let node = config.name.as_str();
    let said = json!({
        "node": node, "data_directory": dir.to_string(), "pid": agent, "release": release, "stopped": true
    });
    match format {
        Format::Table | Format::Wide => writeln!(out, "stopped")?,
        Format::Json => writeln!(out, "{said:#}")?,
        Format::Yaml => write!(out, "{}", document::yaml(&said))?,
        Format::Name => writeln!(out, "{node}")?,
    }
    Ok(())
}
