//! Questions and answers, to and from messages.

use super::{AskDebug, DebugFile, DebugPart};
use crate::ApiError;
use crate::proto::v1;
use crate::proto::v1::debug_file::Content;
use crate::proto::v1::debug_part::Part;

impl From<AskDebug> for v1::DebugRequest {
    fn from(ask: AskDebug) -> Self {
        Self { node: ask.node.unwrap_or_default() }
    }
}

impl From<v1::DebugRequest> for AskDebug {
    fn from(message: v1::DebugRequest) -> Self {
        Self { node: Some(message.node).filter(|node| !node.is_empty()) }
    }
}

impl From<DebugFile> for v1::DebugFile {
    fn from(file: DebugFile) -> Self {
        let content = match file.content {
            Ok(data) => Content::Data(data),
            Err(why) => Content::Missing(why),
        };
        Self { node: file.node, name: file.name, content: Some(content) }
    }
}

impl TryFrom<v1::DebugFile> for DebugFile {
    type Error = ApiError;

    fn try_from(message: v1::DebugFile) -> Result<Self, ApiError> {
        let content = match message.content {
            Some(Content::Data(data)) => Ok(data),
            Some(Content::Missing(why)) => Err(why),
            None => return Err(ApiError::Internal(format!("file {:?} without content", message.name))),
        };
        Ok(Self { node: message.node, name: message.name, content })
    }
}

impl From<DebugPart> for v1::DebugPart {
    fn from(part: DebugPart) -> Self {
        let part = match part {
            DebugPart::Nodes(nodes) => Part::Head(v1::DebugHead { nodes }),
            DebugPart::File(file) => Part::File(file.into()),
            DebugPart::End { node, failure } => {
                Part::End(v1::DebugEnd { node, failure: failure.unwrap_or_default() })
            }
        };
        Self { part: Some(part) }
    }
}

impl TryFrom<v1::DebugPart> for DebugPart {
    type Error = ApiError;

    fn try_from(message: v1::DebugPart) -> Result<Self, ApiError> {
        match message.part {
            Some(Part::Head(head)) => Ok(Self::Nodes(head.nodes)),
            Some(Part::File(file)) => Ok(Self::File(file.try_into()?)),
            Some(Part::End(end)) => {
                Ok(Self::End { node: end.node, failure: Some(end.failure).filter(|why| !why.is_empty()) })
            }
            None => Err(ApiError::Internal("a part of what there is to see that is empty".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn parts_survive_the_wire() {
        let file =
            |content| DebugPart::File(DebugFile { node: "n1".into(), name: "log.txt".into(), content });
        let end = |failure| DebugPart::End { node: "n1".to_owned(), failure };
        for part in [
            DebugPart::Nodes(vec!["n1".to_owned(), "n2".to_owned()]),
            file(Ok(Bytes::from_static(b"a line\n"))),
            file(Ok(Bytes::new())),
            file(Err("its disk does not answer".to_owned())),
            end(None),
            end(Some("connection refused".to_owned())),
        ] {
            assert_eq!(DebugPart::try_from(v1::DebugPart::from(part.clone())), Ok(part));
        }
        assert!(DebugPart::try_from(v1::DebugPart { part: None }).is_err());
        let empty = v1::DebugFile { node: "n1".into(), name: "a".into(), content: None };
        assert!(DebugFile::try_from(empty).is_err());
    }
}
