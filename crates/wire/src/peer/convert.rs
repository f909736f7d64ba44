//! What agents say to each other, to and from messages.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_model::{BucketName, ClusterId, Contact, Digest, NodeId, NodeKey, NodeName, Timestamp, TokenText};

use super::{
    AuthorityKey, Certified, Confidential, Greeting, HelloAsk, JoinAsk, Joined, PeerHeader, WatchNode,
};
use crate::ApiError;
use crate::proto::peer::v1;

/// A value as JSON; `what` it is, for the error.
pub(super) fn json(what: &str, value: &impl Serialize) -> Result<Bytes, ApiError> {
    let text =
        serde_json::to_vec(value).map_err(|error| ApiError::Internal(format!("write {what}: {error}")))?;
    Ok(text.into())
}

/// A value from JSON.
pub(super) fn from_json<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(text).map_err(|error| {
        ApiError::invalid("json", format!("this is no {what}: {error}"), "what a Sheaf of this version sends")
    })
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// The number of a node, as messages have it: 0 is none.
fn number(node: Option<NodeId>) -> u64 {
    node.map_or(0, |node| node.0)
}

/// Where the leader is, and who it is if that is said.
fn leader(address: String, node: u64) -> Option<Contact> {
    some(address).map(|address| Contact { address, node: (node != 0).then_some(NodeId(node)) })
}

fn required(field: &str, text: String) -> Result<String, ApiError> {
    if text.is_empty() { Err(ApiError::invalid(field, "missing", "")) } else { Ok(text) }
}

impl From<PeerHeader> for v1::PeerHeader {
    fn from(header: PeerHeader) -> Self {
        Self { cluster: header.cluster.0, from: header.from.0, to: header.to.0 }
    }
}

pub(super) fn header(header: Option<v1::PeerHeader>) -> Result<PeerHeader, ApiError> {
    let Some(header) = header else { return Err(ApiError::invalid("header", "missing", "a PeerHeader")) };
    Ok(PeerHeader {
        cluster: ClusterId(required("header.cluster", header.cluster)?),
        from: NodeId(header.from),
        to: NodeId(header.to),
    })
}

impl From<HelloAsk> for v1::HelloRequest {
    fn from(ask: HelloAsk) -> Self {
        let cluster = ask.cluster.map(|cluster| cluster.0).unwrap_or_default();
        let nonce = ask.nonce.map(|nonce| nonce.to_vec().into()).unwrap_or_default();
        Self { instance: ask.instance, key: ask.key.0, cluster, node: number(ask.node), nonce }
    }
}

pub(super) fn hello(message: v1::HelloRequest) -> Result<HelloAsk, ApiError> {
    Ok(HelloAsk {
        instance: required("instance", message.instance)?,
        key: NodeKey(required("key", message.key)?),
        cluster: some(message.cluster).map(ClusterId),
        node: (message.node != 0).then_some(NodeId(message.node)),
        nonce: match &*message.nonce {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| {
                ApiError::invalid("nonce", format!("{} bytes", bytes.len()), "32 bytes, or none")
            })?),
        },
    })
}

impl From<Greeting> for v1::HelloResponse {
    fn from(greeting: Greeting) -> Self {
        Self {
            instance: greeting.instance,
            key: greeting.key.0,
            name: greeting.name.as_str().to_owned(),
            address: greeting.address,
            cluster: greeting.cluster.map(|cluster| cluster.0).unwrap_or_default(),
            node: number(greeting.node),
            member: greeting.member,
            leader_node: number(greeting.leader.as_ref().and_then(|leader| leader.node)),
            leader: greeting.leader.map(|leader| leader.address).unwrap_or_default(),
            seen: greeting.seen,
            authorities: greeting.authorities.into_iter().map(Into::into).collect(),
            left: greeting.left,
            bridges: greeting.bridges.into_iter().map(Into::into).collect(),
            proof: greeting.proof.into(),
            wall_ms: greeting.wall.map_or(0, |wall| wall.0),
        }
    }
}

impl TryFrom<v1::HelloResponse> for Greeting {
    type Error = ApiError;

    fn try_from(message: v1::HelloResponse) -> Result<Self, ApiError> {
        let name = NodeName::new(&message.name)
            .map_err(|error| ApiError::Internal(format!("the greeting's name: {error}")))?;
        Ok(Self {
            instance: message.instance,
            key: NodeKey(message.key),
            name,
            address: message.address,
            cluster: some(message.cluster).map(ClusterId),
            node: (message.node != 0).then_some(NodeId(message.node)),
            member: message.member,
            leader: leader(message.leader, message.leader_node),
            seen: message.seen,
            authorities: message.authorities.into_iter().map(Into::into).collect(),
            bridges: message.bridges.into_iter().map(Into::into).collect(),
            left: message.left,
            proof: message.proof.into(),
            wall: (message.wall_ms != 0).then_some(Timestamp(message.wall_ms)),
        })
    }
}

impl TryFrom<&JoinAsk> for v1::JoinRequest {
    type Error = ApiError;

    fn try_from(ask: &JoinAsk) -> Result<Self, ApiError> {
        let cluster = ask.cluster.as_ref().map(|cluster| cluster.0.clone()).unwrap_or_default();
        Ok(Self {
            key: ask.key.0.clone(),
            cluster,
            facts: json("Facts", &ask.facts)?,
            public_key: ask.public_key.clone().into(),
            token: ask.token.as_ref().map(TokenText::reveal).unwrap_or_default(),
        })
    }
}

pub(super) fn join(message: v1::JoinRequest) -> Result<JoinAsk, ApiError> {
    Ok(JoinAsk {
        key: NodeKey(required("key", message.key)?),
        cluster: some(message.cluster).map(ClusterId),
        facts: from_json("Facts", &message.facts)?,
        public_key: message.public_key.into(),
        token: match some(message.token).map(|token| TokenText::parse(&token)).transpose() {
            Ok(token) => token,
            Err(error) => return Err(ApiError::invalid("token", error.to_string(), "a join token")),
        },
    })
}

impl From<Certified> for v1::Certified {
    fn from(certified: Certified) -> Self {
        Self {
            certificate: certified.certificate.into(),
            authorities: certified.authorities.into_iter().map(Into::into).collect(),
            lifetime_s: certified.lifetime.as_secs(),
            bridges: certified.bridges.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<v1::Certified> for Certified {
    fn from(message: v1::Certified) -> Self {
        Self {
            certificate: message.certificate.into(),
            authorities: message.authorities.into_iter().map(Into::into).collect(),
            bridges: message.bridges.into_iter().map(Into::into).collect(),
            lifetime: Duration::from_secs(message.lifetime_s),
        }
    }
}

/// Of which cluster and which authority a key is wanted.
pub(super) fn fetch_authority(
    message: v1::FetchAuthorityRequest,
) -> Result<(ClusterId, Option<Digest>), ApiError> {
    let fingerprint = match &*message.fingerprint {
        [] => None,
        bytes => Some(Digest(bytes.try_into().map_err(|_| {
            ApiError::invalid("fingerprint", format!("{} bytes", bytes.len()), "32 bytes, or none")
        })?)),
    };
    Ok((ClusterId(message.cluster), fingerprint))
}

impl From<AuthorityKey> for v1::AuthorityKey {
    fn from(authority: AuthorityKey) -> Self {
        Self { key: authority.key.0, certificate: authority.certificate.into() }
    }
}

impl From<v1::AuthorityKey> for AuthorityKey {
    fn from(message: v1::AuthorityKey) -> Self {
        Self { key: Confidential(message.key), certificate: message.certificate.into() }
    }
}

impl From<Joined> for v1::JoinResponse {
    fn from(joined: Joined) -> Self {
        use v1::join_response::Answer;
        let mut node = 0;
        let answer = match joined {
            Joined::Registered { cluster, node, certified } => Answer::Joined(v1::Joined {
                cluster: cluster.0,
                node: node.0,
                certified: certified.map(Into::into),
            }),
            Joined::Redirect(leader) => {
                node = number(leader.as_ref().and_then(|leader| leader.node));
                Answer::Redirect(leader.map(|leader| leader.address).unwrap_or_default())
            }
            Joined::Refused(why) => Answer::Refused(why),
        };
        Self { answer: Some(answer), leader_node: node }
    }
}

impl TryFrom<v1::JoinResponse> for Joined {
    type Error = ApiError;

    fn try_from(message: v1::JoinResponse) -> Result<Self, ApiError> {
        use v1::join_response::Answer;
        Ok(match message.answer {
            Some(Answer::Joined(joined)) => Self::Registered {
                cluster: ClusterId(joined.cluster),
                node: NodeId(joined.node),
                certified: joined.certified.map(Into::into),
            },
            Some(Answer::Redirect(address)) => Self::Redirect(leader(address, message.leader_node)),
            Some(Answer::Refused(why)) => Self::Refused(why),
            None => return Err(ApiError::Internal("the answer to a join says nothing".to_owned())),
        })
    }
}

impl From<WatchNode> for v1::WatchNodeRequest {
    fn from(ask: WatchNode) -> Self {
        let elsewhere = ask.places.is_some();
        let places = ask.places.iter().flatten().map(|place| place.as_str().to_owned()).collect();
        Self { cluster: ask.cluster.0, node: ask.node.0, elsewhere, places }
    }
}

pub(super) fn watch(message: v1::WatchNodeRequest) -> Result<WatchNode, ApiError> {
    let place = |name: &String| {
        BucketName::new(name).map_err(|error| ApiError::invalid("places", error.problem, error.remedy))
    };
    let places = || message.places.iter().map(place).collect::<Result<_, _>>();
    let places = message.elsewhere.then(places).transpose()?;
    let cluster = ClusterId(required("cluster", message.cluster)?);
    Ok(WatchNode { cluster, node: NodeId(message.node), places })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(elsewhere: bool, places: &[&str]) -> v1::WatchNodeRequest {
        let places = places.iter().map(|place| (*place).to_owned()).collect();
        v1::WatchNodeRequest { cluster: "c".to_owned(), node: 7, elsewhere, places }
    }

    #[test]
    fn an_agent_has_places_if_it_says_that_it_understands_what_it_is_told_of_them() {
        let of_an_earlier_version = v1::WatchNodeRequest { elsewhere: false, ..ask(true, &[]) };
        assert_eq!(watch(of_an_earlier_version).unwrap().places, None);
        assert_eq!(watch(ask(false, &["/a"])).unwrap().places, None);
        assert_eq!(watch(ask(true, &[])).unwrap().places.map(|places| places.len()), Some(0));
        let read = watch(ask(true, &["/a", "/b", "/a"])).unwrap();
        assert_eq!(v1::WatchNodeRequest::from(read), ask(true, &["/a", "/b"]), "each once");
        let error = watch(ask(true, &["/a", "no slash"])).unwrap_err();
        assert!(error.to_string().starts_with("places: "), "{error}");
    }
}
