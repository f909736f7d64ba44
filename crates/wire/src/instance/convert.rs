//! What instances ask and are answered, to and from messages.

use sheaf_model::{
    BucketName, Claim, Epoch, NodeId, OBJECT_VALUE_MAX, ObjectKey, Revision, STATUS_KIND_MAX,
    STATUS_LINE_MAX, Sealed, Timestamp,
};

use super::{
    AddStatusLine, DeleteObject, DisableBucket, GetObject, GetSecret, GotObject, ListObjects, ObjectChange,
    ObjectHead, ObjectStep, PeerNode, PutObject, QuarantineBucket, WatchObjects,
};
use crate::change::{page_of, timestamp, timestamp_from};
use crate::proto::v1;
use crate::secret::secret_name;
use crate::{ApiError, Caller, PAGE_MAX, Page};

fn name(text: &str) -> Result<BucketName, ApiError> {
    BucketName::new(text).map_err(|error| ApiError::invalid("bucket", error.problem, error.remedy))
}

fn key(text: &str) -> Result<ObjectKey, ApiError> {
    ObjectKey::new(text).map_err(|error| ApiError::invalid("key", error.problem, error.remedy))
}

fn claim(message: Option<v1::Claim>) -> Result<Claim, ApiError> {
    let Some(v1::Claim { node, epoch }) = message else {
        return Err(ApiError::invalid("claim", "missing", "the node that runs the bucket, and its epoch"));
    };
    Ok(Claim { node: NodeId(node), epoch: Some(Epoch(epoch)).filter(|epoch| epoch.0 > 0) })
}

impl From<Claim> for v1::Claim {
    fn from(claim: Claim) -> Self {
        Self { node: claim.node.0, epoch: claim.epoch.map_or(0, |epoch| epoch.0) }
    }
}

/// A text of 1 to `most` bytes on one line.
fn text(path: &str, text: &str, most: usize) -> Result<String, ApiError> {
    let text = text.replace(char::is_control, " ").trim().to_owned();
    match text.len() {
        0 => Err(ApiError::invalid(path, "empty", format!("1 to {most} bytes"))),
        length if length > most => {
            Err(ApiError::invalid(path, format!("{length} bytes"), format!("at most {most} bytes")))
        }
        _ => Ok(text),
    }
}

pub(super) fn get(message: &v1::GetObjectRequest) -> Result<GetObject, ApiError> {
    Ok(GetObject { bucket: name(&message.bucket)?, key: key(&message.key)? })
}

impl From<GetObject> for v1::GetObjectRequest {
    fn from(ask: GetObject) -> Self {
        Self { bucket: ask.bucket.to_string(), key: ask.key.to_string() }
    }
}

impl From<ObjectHead> for v1::ObjectHead {
    fn from(head: ObjectHead) -> Self {
        let ObjectHead { key, version, size, at } = head;
        Self { key: key.to_string(), version: version.0, size, at: Some(timestamp(at)) }
    }
}

impl TryFrom<v1::ObjectHead> for ObjectHead {
    type Error = ApiError;

    fn try_from(head: v1::ObjectHead) -> Result<Self, ApiError> {
        Ok(Self {
            key: key_answered(&head.key)?,
            version: Revision(head.version),
            size: head.size,
            at: head.at.as_ref().map_or(Timestamp(0), timestamp_from),
        })
    }
}

fn key_answered(text: &str) -> Result<ObjectKey, ApiError> {
    ObjectKey::new(text).map_err(|error| ApiError::Internal(format!("the answer has {error}")))
}

impl From<GotObject> for v1::Object {
    fn from(got: GotObject) -> Self {
        Self { value: got.value.as_bytes().to_vec().into(), head: Some(got.head.into()) }
    }
}

impl TryFrom<v1::Object> for GotObject {
    type Error = ApiError;

    fn try_from(object: v1::Object) -> Result<Self, ApiError> {
        let head = object.head.ok_or_else(|| ApiError::Internal("the object has no head".to_owned()))?;
        Ok(Self { head: head.try_into()?, value: object.value.as_ref().into() })
    }
}

pub(super) fn secret(message: &v1::GetSecretRequest) -> Result<GetSecret, ApiError> {
    let bucket = name(&message.bucket)?;
    Ok(GetSecret { bucket, claim: claim(message.claim)?, name: secret_name(&message.name)? })
}

impl From<GetSecret> for v1::GetSecretRequest {
    fn from(ask: GetSecret) -> Self {
        Self { bucket: ask.bucket.to_string(), claim: Some(ask.claim.into()), name: ask.name.to_string() }
    }
}

impl From<Sealed> for v1::GetSecretResponse {
    fn from(sealed: Sealed) -> Self {
        Self { sealed: Some(sealed.into()) }
    }
}

pub(super) fn list(message: v1::ListObjectsRequest) -> Result<ListObjects, ApiError> {
    let page = page_of(message.page_size, message.page_token, PAGE_MAX)?;
    Ok(ListObjects { bucket: name(&message.bucket)?, prefix: message.prefix, page })
}

impl From<ListObjects> for v1::ListObjectsRequest {
    fn from(ask: ListObjects) -> Self {
        Self {
            bucket: ask.bucket.to_string(),
            prefix: ask.prefix,
            page_size: ask.page.size,
            page_token: ask.page.token,
        }
    }
}

impl From<Page<ObjectHead>> for v1::ListObjectsResponse {
    fn from(page: Page<ObjectHead>) -> Self {
        Self { objects: page.rows.into_iter().map(Into::into).collect(), next_page_token: page.next }
    }
}

impl TryFrom<v1::ListObjectsResponse> for Page<ObjectHead> {
    type Error = ApiError;

    fn try_from(page: v1::ListObjectsResponse) -> Result<Self, ApiError> {
        let rows = page.objects.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
        Ok(Self { rows, next: page.next_page_token })
    }
}

pub(super) fn watch(message: v1::WatchObjectsRequest) -> Result<WatchObjects, ApiError> {
    Ok(WatchObjects {
        bucket: name(&message.bucket)?,
        prefix: message.prefix,
        after: message.after.map(Revision),
    })
}

impl From<WatchObjects> for v1::WatchObjectsRequest {
    fn from(ask: WatchObjects) -> Self {
        let after = ask.after.map(|revision| revision.0);
        Self { bucket: ask.bucket.to_string(), prefix: ask.prefix, after }
    }
}

impl From<ObjectStep> for v1::ObjectChange {
    fn from(step: ObjectStep) -> Self {
        use v1::object_change::Change;
        let change = match step.change {
            ObjectChange::Reset => Change::Reset(true),
            ObjectChange::Put(head) => Change::Put(head.into()),
            ObjectChange::Gone(key) => Change::Gone(key.to_string()),
            ObjectChange::Synced => Change::Synced(true),
        };
        Self { revision: step.revision.0, change: Some(change) }
    }
}

impl TryFrom<v1::ObjectChange> for ObjectStep {
    type Error = ApiError;

    fn try_from(message: v1::ObjectChange) -> Result<Self, ApiError> {
        use v1::object_change::Change;
        let change = match message.change {
            Some(Change::Reset(_)) => ObjectChange::Reset,
            Some(Change::Put(head)) => ObjectChange::Put(head.try_into()?),
            Some(Change::Gone(key)) => ObjectChange::Gone(key_answered(&key)?),
            Some(Change::Synced(_)) => ObjectChange::Synced,
            None => return Err(ApiError::Internal("a step that this version does not know".to_owned())),
        };
        Ok(Self { revision: Revision(message.revision), change })
    }
}

pub(super) fn put(message: &v1::PutObjectRequest) -> Result<PutObject, ApiError> {
    let (key, size) = (key(&message.key)?, message.value.len());
    if size > OBJECT_VALUE_MAX {
        let text = format!("object {key} would have {size} bytes; at most {OBJECT_VALUE_MAX} are kept");
        return Err(ApiError::Exhausted(text));
    }
    Ok(PutObject {
        bucket: name(&message.bucket)?,
        key,
        value: message.value.as_ref().into(),
        base: message.base_version.map(Revision),
        claim: claim(message.claim)?,
        token: message.token,
    })
}

impl From<PutObject> for v1::PutObjectRequest {
    fn from(ask: PutObject) -> Self {
        Self {
            bucket: ask.bucket.to_string(),
            key: ask.key.to_string(),
            value: ask.value.as_bytes().to_vec().into(),
            base_version: ask.base.map(|revision| revision.0),
            claim: Some(ask.claim.into()),
            token: ask.token,
        }
    }
}

pub(super) fn delete(message: &v1::DeleteObjectRequest) -> Result<DeleteObject, ApiError> {
    Ok(DeleteObject {
        bucket: name(&message.bucket)?,
        key: key(&message.key)?,
        base: message.base_version.map(Revision),
        claim: claim(message.claim)?,
    })
}

impl From<DeleteObject> for v1::DeleteObjectRequest {
    fn from(ask: DeleteObject) -> Self {
        Self {
            bucket: ask.bucket.to_string(),
            key: ask.key.to_string(),
            base_version: ask.base.map(|revision| revision.0),
            claim: Some(ask.claim.into()),
        }
    }
}

pub(super) fn add_status_line(
    message: v1::AddStatusLineRequest,
    caller: &Caller,
) -> Result<AddStatusLine, ApiError> {
    let kind = text("kind", &message.kind, STATUS_KIND_MAX)?;
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if !kind.chars().all(is_word) {
        return Err(ApiError::invalid("kind", format!("{kind:?}"), "one word of a-z, 0-9, _ and -"));
    }
    Ok(AddStatusLine {
        bucket: name(&message.bucket)?,
        claim: claim(message.claim)?,
        kind,
        text: text("text", &message.text, STATUS_LINE_MAX)?,
        request: caller.request_id(message.request_id)?,
    })
}

impl From<AddStatusLine> for v1::AddStatusLineRequest {
    fn from(ask: AddStatusLine) -> Self {
        Self {
            bucket: ask.bucket.to_string(),
            claim: Some(ask.claim.into()),
            kind: ask.kind,
            text: ask.text,
            request_id: ask.request.map(|id| id.0).unwrap_or_default(),
        }
    }
}

pub(super) fn disable(message: &v1::DisableRequest) -> Result<DisableBucket, ApiError> {
    Ok(DisableBucket {
        bucket: name(&message.bucket)?,
        claim: claim(message.claim)?,
        reason: text("reason", &message.reason, STATUS_LINE_MAX)?,
    })
}

impl From<DisableBucket> for v1::DisableRequest {
    fn from(ask: DisableBucket) -> Self {
        Self { bucket: ask.bucket.to_string(), claim: Some(ask.claim.into()), reason: ask.reason }
    }
}

pub(super) fn quarantine(message: &v1::QuarantineRequest) -> Result<QuarantineBucket, ApiError> {
    let Some(until) = &message.until else {
        return Err(ApiError::invalid("until", "missing", "a time ahead"));
    };
    Ok(QuarantineBucket {
        bucket: name(&message.bucket)?,
        claim: claim(message.claim)?,
        until: timestamp_from(until),
        reason: text("reason", &message.reason, STATUS_LINE_MAX)?,
    })
}

impl From<QuarantineBucket> for v1::QuarantineRequest {
    fn from(ask: QuarantineBucket) -> Self {
        Self {
            bucket: ask.bucket.to_string(),
            claim: Some(ask.claim.into()),
            until: Some(timestamp(ask.until)),
            reason: ask.reason,
        }
    }
}

pub(super) fn peers(message: &v1::ListPeersRequest) -> Result<BucketName, ApiError> {
    name(&message.bucket)
}

impl From<Vec<PeerNode>> for v1::ListPeersResponse {
    fn from(peers: Vec<PeerNode>) -> Self {
        let peer =
            |peer: PeerNode| v1::Peer { name: peer.name, hostname: peer.hostname, labels: peer.labels };
        Self { peers: peers.into_iter().map(peer).collect() }
    }
}

impl From<v1::ListPeersResponse> for Vec<PeerNode> {
    fn from(answer: v1::ListPeersResponse) -> Self {
        let peer =
            |peer: v1::Peer| PeerNode { name: peer.name, hostname: peer.hostname, labels: peer.labels };
        answer.peers.into_iter().map(peer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> BucketName {
        BucketName::new("/a").expect("a name")
    }

    fn object_key() -> ObjectKey {
        ObjectKey::new("k").expect("a key")
    }

    #[test]
    fn questions_survive_the_way() {
        for epoch in [None, Some(Epoch(7))] {
            let claim = Claim { node: NodeId(3), epoch };
            let (value, base) = (b"\0v".as_slice().into(), Some(Revision(0)));
            let ask = PutObject { bucket: bucket(), key: object_key(), value, base, claim, token: 9 };
            assert_eq!(put(&ask.clone().into()), Ok(ask));
            let ask = DeleteObject { bucket: bucket(), key: object_key(), base, claim };
            assert_eq!(delete(&ask.clone().into()), Ok(ask));
            let (kind, text, request) = ("progress".to_owned(), "half".to_owned(), Some("r".into()));
            let ask = AddStatusLine { bucket: bucket(), claim, kind, text, request };
            assert_eq!(add_status_line(ask.clone().into(), &Caller::local("x")), Ok(ask));
            let ask = DisableBucket { bucket: bucket(), claim, reason: "why".to_owned() };
            assert_eq!(disable(&ask.clone().into()), Ok(ask));
            let (until, reason) = (Timestamp(1_700_000_000_123), "why".to_owned());
            let ask = QuarantineBucket { bucket: bucket(), claim, until, reason };
            assert_eq!(quarantine(&ask.clone().into()), Ok(ask));
        }
        let ask = WatchObjects { bucket: bucket(), prefix: "p".to_owned(), after: Some(Revision(7)) };
        assert_eq!(watch(ask.clone().into()), Ok(ask));
    }

    #[test]
    fn steps_survive_the_way() {
        let head = ObjectHead { key: object_key(), version: Revision(7), size: 3, at: Timestamp(5) };
        let gone = ObjectChange::Gone(object_key());
        for change in [ObjectChange::Reset, ObjectChange::Put(head), gone, ObjectChange::Synced] {
            let step = ObjectStep { revision: Revision(8), change };
            assert_eq!(ObjectStep::try_from(v1::ObjectChange::from(step.clone())), Ok(step));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let path = |result: Result<(), ApiError>| match result {
            Err(ApiError::Invalid(defects)) => defects[0].path.clone(),
            other => panic!("{other:?}"),
        };
        let good = v1::PutObjectRequest {
            bucket: "/a".to_owned(),
            key: "k".to_owned(),
            claim: Some(v1::Claim::default()),
            ..v1::PutObjectRequest::default()
        };
        let bad = [
            ("bucket", v1::PutObjectRequest { bucket: "a".to_owned(), ..good.clone() }),
            ("key", v1::PutObjectRequest { key: "a b".to_owned(), ..good.clone() }),
            ("claim", v1::PutObjectRequest { claim: None, ..good.clone() }),
        ];
        for (field, message) in bad {
            assert_eq!(path(put(&message).map(drop)), field);
        }
        let large = v1::PutObjectRequest { value: vec![0; OBJECT_VALUE_MAX + 1].into(), ..good };
        assert!(matches!(put(&large), Err(ApiError::Exhausted(text)) if text.contains("at most 524288")));
        let line = |kind: &str, text: &str| v1::AddStatusLineRequest {
            bucket: "/a".to_owned(),
            claim: Some(v1::Claim::default()),
            kind: kind.to_owned(),
            text: text.to_owned(),
            ..v1::AddStatusLineRequest::default()
        };
        let caller = Caller::local("x");
        for (field, kind, text) in [("kind", "", "x"), ("kind", "A", "x"), ("text", "a", "\n")] {
            assert_eq!(path(add_status_line(line(kind, text), &caller).map(drop)), field);
        }
        assert_eq!(path(add_status_line(line("a", &"x".repeat(501)), &caller).map(drop)), "text");
    }
}
