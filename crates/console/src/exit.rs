//! How a command ends: what a script sees, and what a person reads when it did not go well.

use std::io;
use std::process::ExitCode;

use sheaf_model::Defect;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done. A node that is not eligible is no failure.
    Done,
    /// `plan`: there are changes.
    Changes,
    /// It went wrong.
    Error,
    /// The command line is wrong.
    Usage,
    /// What is named does not exist.
    NotFound,
    /// With `--wait`: not so when `--timeout` ended.
    TimedOut,
    /// With `--wait`: cannot be placed now.
    Unplaceable,
    /// Refused as conflicting: a stale revision, or the same version with other content.
    Conflict,
    /// Ended by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The process's exit status.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::TimedOut => 4,
            Self::Unplaceable => 5,
            Self::Conflict => 6,
            Self::Changes => 10,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command was not carried out. Its text is for people: what was wrong, where, and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Documents or requests with defects; one line each.
    #[error("{}", lines(.0))]
    Defects(Vec<Defect>),
    /// The command line asks for something that cannot be meant.
    #[error("{problem}; {remedy}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What would be right.
        remedy: String,
    },
    /// Something named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Refused as conflicting.
    #[error("{0}")]
    Conflict(String),
    /// Not so when the time to wait ended.
    #[error("{0}")]
    TimedOut(String),
    /// No node is available now.
    #[error("{0}")]
    Unplaceable(String),
    /// Nobody answers at the address.
    #[error(
        "cannot reach {address}: {reason}; is an agent running there? start one with `sheaf agent` or \
             `sheaf dev`, or name another with --address or SHEAF_ADDRESS"
    )]
    Unreachable {
        /// The address as given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Refused or failed on the other side, in its own words.
    #[error("{0}")]
    Refused(String),
    /// Stdout or a file could not be written.
    #[error("cannot write {what}: {source}")]
    Write {
        /// What was being written.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// A command line that cannot be meant.
    pub(crate) fn usage(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Usage { problem: problem.into(), remedy: remedy.into() }
    }

    /// The exit status that goes with it.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Usage { .. } => Exit::Usage,
            Self::NotFound(_) => Exit::NotFound,
            Self::Conflict(_) => Exit::Conflict,
            Self::TimedOut(_) => Exit::TimedOut,
            Self::Unplaceable(_) => Exit::Unplaceable,
            Self::Interrupted => Exit::Interrupted,
            Self::Defects(_) | Self::Unreachable { .. } | Self::Refused(_) | Self::Write { .. } => {
                Exit::Error
            }
        }
    }

    /// Whether it only says that nobody reads the output any more (`sheaf events | head`): no failure at all.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to print, line by line; defects and refusals speak for themselves.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Defects(_) => self.to_string(),
            _ => format!("error: {self}"),
        }
    }
}

fn lines(defects: &[Defect]) -> String {
    defects.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_exit_code() {
        let cases = [
            (Failure::Defects(Vec::new()), 1),
            (Failure::usage("both", "one"), 2),
            (Failure::NotFound("no bucket /a".to_owned()), 3),
            (Failure::TimedOut("still starting".to_owned()), 4),
            (Failure::Unplaceable("no node".to_owned()), 5),
            (Failure::Conflict("it is at 7".to_owned()), 6),
            (Failure::Interrupted, 130),
            (Failure::Refused("no quorum".to_owned()), 1),
        ];
        for (failure, code) in cases {
            assert_eq!(failure.exit().code(), code, "{failure}");
        }
        assert_eq!(Exit::Done.code(), 0);
        assert_eq!(Exit::Changes.code(), 10);
    }

    #[test]
    fn every_defect_has_its_own_line() {
        let mut first = Defect::new("type", "\"batch\" is no bucket type", "harvest or analytic");
        first.file = "a.yaml".to_owned();
        let failure = Failure::Defects(vec![
            first.of("Bucket /logs/web"),
            Defect::new("module", "there is no module \"flum\"", "did you mean flume?"),
        ]);
        insta::assert_snapshot!(failure.message(), @r#"
        a.yaml: Bucket /logs/web: type: "batch" is no bucket type; harvest or analytic
        module: there is no module "flum"; did you mean flume?
        "#);
    }

    #[test]
    fn an_unreachable_address_says_what_to_do() {
        let failure = Failure::Unreachable {
            address: "127.0.0.1:7420".to_owned(),
            reason: "connection refused".to_owned(),
        };
        let text = failure.message();
        assert!(
            text.starts_with("error: cannot reach 127.0.0.1:7420: connection refused; is an agent"),
            "{text}"
        );
        assert_eq!(failure.exit(), Exit::Error);
    }
}
