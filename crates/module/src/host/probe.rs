//! What is made of the bytes of all that a module says, for tests that make such bytes up: nothing that a program says may end
//! who hears it, its keeper or its node's agent.

use prost::Message;
use tonic::{Code, Status};

use super::cluster::until;
use super::context::status_line;
use super::work::{begun, told};
use super::{Line, Put, done, failed, gate, spoken};
use crate::proto::{
    AddStatusLineRequest, CanRunOnThisNodeResponse, EmergencyQuarantineRequest, HelloResponse,
    PutObjectRequest, SetStatusRequest, WorkResponse,
};

/// Reads bytes as something that a module says, and says no more than what is wrong with them.
pub type Read = fn(&[u8]) -> Result<(), String>;

/// Each with its name.
pub const ALL: [(&str, Read); 9] = [
    ("an answer to Hello", |bytes| spoken(&read::<HelloResponse>(bytes)?).map_err(|error| error.to_string())),
    ("an answer to CanRunOnThisNode", |bytes| {
        read::<CanRunOnThisNodeResponse>(bytes).map(|answer| drop(gate(&answer)))
    }),
    ("the first answer to Work", |bytes| {
        begun(Some(read::<WorkResponse>(bytes)?)).map(drop).map_err(|error| error.to_string())
    }),
    ("another answer to Work", |bytes| {
        told(read::<WorkResponse>(bytes)?).map(drop).map_err(|error| error.to_string())
    }),
    ("a refusal", refusal),
    ("SetStatus", |bytes| {
        let line = status_line(&read::<SetStatusRequest>(bytes)?.line);
        line.map(drop).map_err(|status| status.message().to_owned())
    }),
    ("PutObject", |bytes| read::<PutObjectRequest>(bytes).map(|ask| drop(Put::from(ask)))),
    ("AddStatusLine", |bytes| read::<AddStatusLineRequest>(bytes).map(|ask| drop(Line::from(ask)))),
    ("EmergencyQuarantine", |bytes| {
        let ask = read::<EmergencyQuarantineRequest>(bytes)?;
        until(&ask).map(drop).map_err(|refused| refused.to_string())
    }),
];

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| format!("this is no such message: {error}"))
}

/// A code, then a text.
fn refusal(bytes: &[u8]) -> Result<(), String> {
    let Some((code, text)) = bytes.split_first() else { return Ok(()) };
    let status = Status::new(Code::from(i32::from(*code)), String::from_utf8_lossy(text));
    done(failed("OnStop", &status)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PROTOCOL;

    #[test]
    fn what_makes_no_sense_is_told_and_what_does_is_heard() {
        let all = |bytes: &[u8]| ALL.map(|(name, read)| (name, read(bytes)));
        for (name, heard) in all(&[0xff; 8]) {
            let why = heard.expect_err(name);
            let wanted = if name == "a refusal" { "OnStop: " } else { "this is no such message: " };
            assert!(why.starts_with(wanted), "{name}: {why}");
        }
        let right = HelloResponse { protocol: PROTOCOL, ..HelloResponse::default() };
        assert_eq!(spoken(&right), Ok(()));
        // Nothing at all: no version, and no number of bundles.
        let silent = all(&[]);
        let refused: Vec<_> =
            silent.iter().filter(|(_, heard)| heard.is_err()).map(|(name, _)| *name).collect();
        assert_eq!(refused, ["an answer to Hello", "the first answer to Work"]);
    }
}
