//! `sheaf version`

use serde_json::json;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};

/// Version of the binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) fn run(format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    match format {
        Format::Json => out.json(&json!({"version": VERSION}))?,
        Format::Yaml => out.yaml(&json!({"version": VERSION}))?,
        Format::Name => out.line(VERSION)?,
        Format::Table | Format::Wide => out.line(&format!("sheaf {VERSION}"))?,
    }
    Ok(Exit::Done)
}
