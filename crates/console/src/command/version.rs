//! `sheaf version`

use serde_json::json;
use sheaf_model::version;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Terminal};

pub(crate) fn run(format: Format, out: &mut Terminal) -> Result<Exit, Failure> {
    match format {
        Format::Json => out.json(&json!({"version": version()}))?,
        Format::Yaml => out.yaml(&json!({"version": version()}))?,
        Format::Name => out.line(version())?,
        Format::Table | Format::Wide => out.line(&format!("sheaf {}", version()))?,
    }
    Ok(Exit::Done)
}
