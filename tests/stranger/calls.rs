//! Every call that there is: the public ones as reflection tells them, those between nodes as their file does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use prost::Message;

use super::{Raw, bytes};

/// A call, `PACKAGE.SERVICE/METHOD`.
pub(super) type Call = String;

const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// `grpc.reflection.v1.ServerReflectionResponse`, what of it is asked for here.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "4")]
    files: Option<Files>,
    #[prost(message, optional, tag = "6")]
    services: Option<Services>,
}

#[derive(Clone, PartialEq, Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    descriptors: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Services {
    #[prost(message, repeated, tag = "1")]
    service: Vec<Named>,
}

/// A message whose first field is its name; of a service the methods are the second.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

/// `google.protobuf.FileDescriptorProto`
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Named>,
}

fn asked(raw: &Raw, field: u8, text: &str) -> Answer {
    let answer = raw.send(REFLECTION, vec![bytes(field, text.as_bytes())]).expect("reflection answers");
    Answer::decode(&*answer.expect("with a message")).expect("which is one of its own")
}

/// Every public call, in order.
///
/// # Panics
/// If reflection does not tell.
pub(super) fn public(raw: &Raw) -> BTreeSet<Call> {
    let services = asked(raw, 7, "").services.expect("a list").service;
    let ours = services.into_iter().map(|service| service.name).filter(|name| name.starts_with("sheaf."));
    let mut calls = BTreeSet::new();
    for name in ours {
        let files = asked(raw, 4, &name).files.expect("the file of a service").descriptors;
        let files = files.iter().map(|file| File::decode(&**file).expect("a descriptor"));
        for file in files.filter(|file| name.starts_with(&format!("{}.", file.package))) {
            let service = file.services.iter().find(|it| format!("{}.{}", file.package, it.name) == name);
            let methods = service.into_iter().flat_map(|service| &service.methods);
            calls.extend(methods.map(|method| format!("{name}/{}", method.name)));
        }
    }
    calls
}

/// Every call between nodes, in order.
///
/// # Panics
/// If the file is not there.
pub(super) fn peers() -> BTreeSet<Call> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/sheaf/peer/v1/peer.proto");
    let text = fs::read_to_string(file).expect("it is in the repository");
    let mut service = String::new();
    let mut calls = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.trim().split([' ', '(']);
        match (words.next(), words.next()) {
            (Some("service"), Some(name)) => name.clone_into(&mut service),
            (Some("rpc"), Some(name)) => drop(calls.insert(format!("sheaf.peer.v1.{service}/{name}"))),
            _ => {}
        }
    }
    calls
}
