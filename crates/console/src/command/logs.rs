//! How lines of output look, of instances and of attempts.

use sheaf_wire::logs::{LogLine, LogStream};

use crate::exit::Failure;
use crate::output::{Format, Terminal};

/// Prints a line; what Sheaf itself says of a program is talk, unless programs read it.
pub(super) fn print(out: &mut Terminal, format: Format, line: &LogLine) -> Result<(), Failure> {
    match (format, line.stream) {
        (Format::Json | Format::Yaml, _) => out.line(&line.json().to_string()),
        (Format::Table | Format::Name, LogStream::Sheaf) | (Format::Wide, LogStream::Sheaf) => {
            out.say(&format!("{}: {}", line.node, line.text));
            Ok(())
        }
        (Format::Wide, stream) => {
            out.line(&format!("{} {} {} | {}", line.at, line.node, stream.as_str(), line.text))
        }
        (Format::Table | Format::Name, _) => out.line(&format!("{} | {}", line.node, line.text)),
    }
}
