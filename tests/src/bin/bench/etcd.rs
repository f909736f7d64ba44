//! etcd beside us: three members on loopback, and as much of a client as puts need.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use sheaf_tests::{need, ports};
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use crate::beside::{self, Program};
use crate::burst::Writer;

/// How long members may take to find a leader.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The etcd of this machine.
///
/// # Errors
/// Why there is none that can be used.
pub(crate) fn find() -> Result<Program, String> {
    let path = need::program("etcd")
        .ok_or("there is no program etcd on PATH (Debian has it in the package etcd-server)")?;
    let said = beside::version(&path)?;
    let version = said.lines().next().and_then(|line| line.split(": ").nth(1));
    let version = version.ok_or_else(|| format!("{} --version says: {said}", path.display()))?;
    Ok(Program { title: format!("etcd {}", version.trim()), path })
}

/// Its members, killed when this ends.
pub(crate) struct Etcd {
    members: Vec<Member>,
    dir: PathBuf,
}

struct Member {
    child: Child,
    endpoint: String,
    log: PathBuf,
}

impl Etcd {
    /// Starts members with etcd's own defaults, on empty data directories below `place`.
    ///
    /// # Errors
    /// Why that failed.
    pub(crate) fn start(
        program: &Program,
        place: &Path,
        round: usize,
        members: usize,
    ) -> Result<Self, String> {
        let dir = beside::directory(place, "etcd", round)?;
        let urls: Vec<String> =
            ports::free(2 * members).iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let (clients, peers) = urls.split_at(members);
        let all: Vec<String> =
            peers.iter().enumerate().map(|(number, peer)| format!("e{number}={peer}")).collect();
        let mut etcd = Self { members: Vec::new(), dir };
        for (number, (endpoint, peer)) in clients.iter().zip(peers).enumerate() {
            let name = format!("e{number}");
            let log = etcd.dir.join(format!("{name}.log"));
            let mut command = Command::new(&program.path);
            command.args(["--name", &name, "--data-dir"]).arg(etcd.dir.join(&name));
            command.args(["--listen-client-urls", endpoint, "--advertise-client-urls", endpoint]);
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            let child = beside::spawn(&mut command, "ETCD", place, &log)?;
            etcd.members.push(Member { child, endpoint: endpoint.clone(), log });
        }
        Ok(etcd)
    }

    /// Where its members are asked.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| member.endpoint.clone()).collect()
    }

    /// Waits until every member knows the leader; where that is asked.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) async fn ready(&mut self) -> Result<String, String> {
        let begun = Instant::now();
        loop {
            let seen = match self.leader().await {
                Ok(endpoint) => return Ok(endpoint),
                Err(seen) => seen,
            };
            for member in &mut self.members {
                if let Ok(Some(status)) = member.child.try_wait() {
                    return Err(format!("a member ended ({status}): {}", beside::tail(&member.log)));
                }
            }
            if begun.elapsed() > READY_WITHIN {
                return Err(format!("not ready within {READY_WITHIN:?}: {seen}"));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn leader(&self) -> Result<String, String> {
        let mut leading = None;
        for member in &self.members {
            let channel = channel(&member.endpoint)?;
            let status: StatusResponse =
                call(channel, "/etcdserverpb.Maintenance/Status", StatusRequest {}).await?;
            if status.leader == 0 {
                return Err(format!("{} knows no leader", member.endpoint));
            }
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                leading = Some(member.endpoint.clone());
            }
        }
        leading.ok_or_else(|| "no member says that it leads".to_owned())
    }

    /// Kills it and removes its data.
    pub(crate) fn end(self) {
        let dir = self.dir.clone();
        drop(self);
        beside::remove(&dir);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            beside::kill(&mut member.child);
        }
    }
}

/// A connection that is made when it is first used.
///
/// # Errors
/// If that is no address.
pub(crate) fn channel(endpoint: &str) -> Result<Channel, String> {
    let endpoint =
        Endpoint::from_shared(endpoint.to_owned()).map_err(|error| format!("{endpoint}: {error}"))?;
    Ok(endpoint.tcp_nodelay(true).connect_timeout(DEADLINE).connect_lazy())
}

/// One who puts.
pub(crate) struct EtcdWriter {
    channel: Channel,
    value: Vec<u8>,
}

impl EtcdWriter {
    pub(crate) fn new(channel: Channel, value: Vec<u8>) -> Self {
        Self { channel, value }
    }
}

impl Writer for EtcdWriter {
    async fn write(&mut self, name: String) -> Result<(), String> {
        let put = PutRequest { key: name.into_bytes(), value: self.value.clone() };
        let answer: PutResponse = call(self.channel.clone(), "/etcdserverpb.KV/Put", put).await?;
        // Every change of its store has a revision.
        match answer.header {
            Some(header) if header.revision > 0 => Ok(()),
            other => Err(format!("a put was answered without a revision: {other:?}")),
        }
    }
}

async fn call<A, B>(channel: Channel, path: &'static str, message: A) -> Result<B, String>
where
    A: prost::Message + 'static,
    B: prost::Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| format!("{path}: {error}"))?;
    let codec = ProstCodec::<A, B>::default();
    let answer = grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec);
    match tokio::time::timeout(DEADLINE, answer).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(format!("{path}: {status}")),
        Err(_) => Err(format!("{path}: no answer within {DEADLINE:?}")),
    }
}

// Messages of etcd's v3 API, as far as they are used here; the numbers are etcd's.

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}
