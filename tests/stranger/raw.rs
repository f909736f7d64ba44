//! Messages that no client of ours would send: empty, huge, garbage, with values that do not exist. Each gets a precise
//! error, changes nothing, and disturbs nobody.

#[path = "calls.rs"]
mod calls;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use sheaf_tests::documents::module;
use sheaf_tests::{Cases, Cluster};
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use calls::Call;

/// Calls of which it is known exactly what an empty message gets; none: it is a good question. Every other call is tried
/// as well, see [`calls`].
const CALLS: &[(&str, Option<Code>)] = &[
    ("BucketService/Apply", Some(Code::InvalidArgument)),
    ("BucketService/Plan", Some(Code::InvalidArgument)),
    ("BucketService/Get", Some(Code::InvalidArgument)),
    ("BucketService/List", None),
    ("BucketService/Explain", Some(Code::InvalidArgument)),
    ("BucketService/Suspend", Some(Code::InvalidArgument)),
    ("BucketService/Resume", Some(Code::InvalidArgument)),
    ("BucketService/Restart", Some(Code::InvalidArgument)),
    ("BucketService/History", Some(Code::InvalidArgument)),
    ("BucketService/Delete", Some(Code::InvalidArgument)),
    ("ModuleService/Apply", Some(Code::InvalidArgument)),
    ("ModuleService/Get", Some(Code::InvalidArgument)),
    ("ModuleService/List", None),
    ("ModuleService/Delete", Some(Code::InvalidArgument)),
    ("NodeService/List", None),
    ("NodeService/Get", Some(Code::InvalidArgument)),
    ("NodeService/Affinity", None),
    ("NodeService/Label", Some(Code::InvalidArgument)),
    ("ClusterService/Apply", Some(Code::InvalidArgument)),
    ("ClusterService/Status", None),
    ("ClusterService/Members", None),
    ("EventService/List", None),
    ("EventService/Watch", None),
    ("BucketService/Watch", None),
    ("BucketService/Logs", Some(Code::InvalidArgument)),
    ("BucketService/Move", Some(Code::InvalidArgument)),
    ("BucketService/Purge", Some(Code::InvalidArgument)),
    ("BucketService/Rollback", Some(Code::InvalidArgument)),
    ("BucketService/Test", Some(Code::InvalidArgument)),
    ("NodeService/Drain", Some(Code::InvalidArgument)),
    ("NodeService/Undrain", Some(Code::InvalidArgument)),
    ("NodeService/Forget", Some(Code::InvalidArgument)),
    ("ClusterService/Settings", None),
    ("ClusterService/Transfer", Some(Code::FailedPrecondition)),
];

/// A stream that says nothing for so long stands.
const STANDS: Duration = Duration::from_millis(300);

/// A connection to an agent over which any bytes can be sent as a message.
struct Raw {
    runtime: Runtime,
    channel: Channel,
}

impl Raw {
    fn connect(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let endpoint = Endpoint::from_shared(format!("http://{}", cluster.agent(1).address()));
        let endpoint = endpoint.expect("an agent's address is one").timeout(Duration::from_secs(20));
        let channel = runtime.block_on(endpoint.connect()).expect("the agent listens");
        Self { runtime, channel }
    }

    fn call(&self, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
        Ok(self.send(&format!("sheaf.v1.{method}"), vec![message])?.unwrap_or_default())
    }

    /// Sends messages to a call of whatever kind. Answers with its first message; none: a stream that has none, or not yet.
    fn send(&self, call: &str, messages: Vec<Vec<u8>>) -> Result<Option<Bytes>, Status> {
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone()).max_decoding_message_size(64 << 20);
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let path: PathAndQuery = format!("/{call}").parse().expect("a method's name is a path");
            let messages = futures::stream::iter(messages.into_iter().map(Bytes::from));
            // On the wire one message is a stream of one.
            let mut answers = client.streaming(Request::new(messages), path, Plain).await?.into_inner();
            tokio::time::timeout(STANDS, answers.message()).await.unwrap_or(Ok(None))
        })
    }

    /// The error of a call.
    fn refused(&self, method: &str, message: Vec<u8>) -> Status {
        match self.call(method, message) {
            Err(status) => status,
            Ok(answer) => panic!("{method} was answered: {answer:?}"),
        }
    }
}

/// Bytes as they are.
#[derive(Clone, Copy)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// A field of bytes, text or message.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    [&varint(u64::from(number) << 3 | 2)[..], &varint(content.len() as u64), content].concat()
}

/// A field that is a number.
fn number(field: u8, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

#[test]
fn strange_messages_get_precise_errors_and_change_nothing() {
    let cluster = Cluster::start(1);
    cluster.apply(&module("steady", ""));
    let raw = Raw::connect(&cluster);
    let mut cases = Cases::of("strange");
    let history = || cluster.cli(&["events", "--all", "-o", "json"]).ok().stdout;
    let before = (history(), cluster.agent(1).pid());
    let mut unchanged = |name: &str, case: &dyn Fn(&Raw, &Cluster)| {
        cases.run(name, || {
            case(&raw, &cluster);
            assert_eq!((history(), cluster.agent(1).pid()), before, "nothing changed");
            assert!(!cluster.agent(1).log().contains("panicked"), "{}", cluster.agent(1).log_tail());
        });
    };
    unchanged("empty messages", &empty);
    unchanged("no message at all", &silence);
    unchanged("bytes that are no message", &garbage);
    unchanged("enums that do not exist", &enums);
    unchanged("numbers and texts that cannot be", &values);
    unchanged("huge messages", &huge);
    unchanged("calls that do not exist", &unknown);
    unchanged("what is no gRPC at all", &no_grpc);
    cases.end();
}

/// Every call, of people and of nodes.
fn every(raw: &Raw) -> BTreeSet<Call> {
    let (public, peers) = (calls::public(raw), calls::peers());
    assert!(public.len() >= 73, "{public:?}");
    assert!(peers.len() >= 15, "{peers:?}");
    for (method, _) in CALLS {
        assert!(public.contains(&format!("sheaf.v1.{method}")), "{method} is none of {public:?}");
    }
    public.into_iter().chain(peers).collect()
}

/// What is wrong with a question is told, and that nothing is wrong here.
fn is_told(call: &str, status: &Status) {
    let ours = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unimplemented, Code::Cancelled];
    assert!(!ours.contains(&status.code()) && !status.message().is_empty(), "{call}: {status:?}");
}

fn empty(raw: &Raw, _: &Cluster) {
    for call in every(raw) {
        let known = CALLS.iter().find(|(method, _)| call == format!("sheaf.v1.{method}"));
        match (raw.send(&call, vec![Vec::new()]), known.map(|(_, code)| code)) {
            (Ok(_), None | Some(None)) => {}
            (Err(status), None) => is_told(&call, &status),
            (Err(status), Some(Some(code))) if status.code() == *code => {
                assert!(!status.message().is_empty(), "{call} says nothing");
            }
            (answer, expected) => panic!("{call}: {answer:?} instead of {expected:?}"),
        }
    }
}

fn silence(raw: &Raw, _: &Cluster) {
    for call in every(raw) {
        if let Err(status) = raw.send(&call, vec![]) {
            // What has no message is refused before anything of ours sees it.
            assert!(!status.message().is_empty(), "{call}: {status:?}");
            assert_ne!(status.code(), Code::Unavailable, "{call}: {status:?}");
        }
    }
}

fn garbage(raw: &Raw, _: &Cluster) {
    for call in every(raw) {
        for message in [vec![0xff; 64], b"GET / HTTP/1.1".to_vec(), bytes(1, &[0xff; 9]).split_off(1)] {
            if let Err(status) = raw.send(&call, vec![message]) {
                assert!(!status.message().is_empty(), "{call}: {status:?}");
                // That it is none of ours is said by what reads messages.
                let unread = status.code() == Code::Internal && status.message().contains("decode");
                if !unread {
                    is_told(&call, &status);
                }
            }
        }
    }
    let status = raw.refused("BucketService/Apply", vec![0xff; 64]);
    assert_eq!(status.code(), Code::InvalidArgument, "what was sent is wrong: {status:?}");
}

/// `ApplyBucketRequest` with a bucket of these fields.
fn apply(fields: &[Vec<u8>]) -> Vec<u8> {
    let named = [bytes(1, b"/strange"), bytes(3, b"steady")].concat();
    bytes(1, &[&named[..], &fields.concat()].concat())
}

fn enums(raw: &Raw, _: &Cluster) {
    for (field, path) in [(2, "type"), (10, "on_node_lost")] {
        let status = raw.refused("BucketService/Apply", apply(&[number(field, 99)]));
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(path) && status.message().contains("99"), "{status:?}");
    }
    // ModuleSpec.stop.signal and .restart.policy
    for (field, path) in [(8, "stop.signal"), (9, "restart.policy")] {
        let exec = bytes(6, &bytes(1, b"/bin/true"));
        let spec = [bytes(1, b"odd"), bytes(2, b"1"), bytes(3, b"exec"), exec, bytes(field, &number(1, 99))]
            .concat();
        let status = raw.refused("ModuleService/Apply", bytes(1, &spec));
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(path) && status.message().contains("99"), "{status:?}");
    }
}

fn values(raw: &Raw, _: &Cluster) {
    let cases: [(Vec<u8>, &str); 6] = [
        (apply(&[bytes(5, b"/a(/")]), "node_list_rules[0]"),
        (apply(&[bytes(9, b"nowhere")]), "placement"),
        (apply(&[number(11, 0)]), "max_parallel"),
        (apply(&[number(8, 0)]), "poll_frequency"),
        (apply(&[bytes(7, b"{\"a\":")]), "config_json"),
        (apply(&[bytes(1, b"/a/../b")]), "name"),
    ];
    for (message, path) in cases {
        let status = raw.refused("BucketService/Apply", message);
        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        assert!(status.message().contains(path), "{path}: {status:?}");
    }
    let long = [apply(&[]), bytes(3, &[b'x'; 129])].concat();
    let status = raw.refused("BucketService/Apply", long);
    assert!(status.code() == Code::InvalidArgument && status.message().contains("request_id"), "{status:?}");
    let status = raw.refused("EventService/List", bytes(1, b"no cursor of ours"));
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let status = raw.refused("BucketService/List", bytes(3, b"colour=red"));
    assert!(status.code() == Code::InvalidArgument && status.message().contains("colour"), "{status:?}");
}

fn huge(raw: &Raw, _: &Cluster) {
    let status = raw.refused("BucketService/Apply", apply(&[bytes(13, &vec![b'x'; 32 << 20])]));
    let fine = [Code::InvalidArgument, Code::ResourceExhausted, Code::OutOfRange];
    assert!(fine.contains(&status.code()), "{status:?}");
    assert!(status.message().contains("large") || status.message().contains("bytes"), "{status:?}");
    let status = raw.refused("BucketService/Apply", apply(&[bytes(13, &vec![b'x'; 100_000])]));
    assert!(status.code() == Code::InvalidArgument && status.message().contains("owner"), "{status:?}");
    assert!(
        status.message().len() < 4096,
        "an error is not as long as what was sent: {}",
        status.message().len()
    );
    // More rules than there may be, and so many defects that they do not fit an ordinary header.
    for (count, rule) in [(5_000, &b"/a(/"[..]), (900, &b"-"[..])] {
        let rules: Vec<Vec<u8>> = (0..count).map(|_| bytes(5, rule)).collect();
        let status = raw.refused("BucketService/Apply", apply(&rules));
        let message = status.message();
        assert!(status.code() == Code::InvalidArgument && message.len() < 8192, "{}", message.len());
        assert!(message.contains("node_list_rules"), "{message}");
    }
}

fn unknown(raw: &Raw, _: &Cluster) {
    for method in ["BucketService/Fly", "NoService/Apply", "BackendService/Fly"] {
        assert_eq!(raw.refused(method, Vec::new()).code(), Code::Unimplemented, "{method}");
    }
}

fn no_grpc(raw: &Raw, cluster: &Cluster) {
    let noise = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0; 4096],
        b"\x16\x03\x01 hello tls".to_vec(),
        Vec::new(),
    ];
    for bytes in noise {
        let mut stream = TcpStream::connect(cluster.agent(1).address()).expect("the agent listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit can be set");
        // It may be cut off while it talks.
        let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 4096, "nothing of interest is told: {answer:?}");
    }
    // Whoever else talks is not disturbed.
    assert!(raw.call("ClusterService/Status", Vec::new()).is_ok());
}
