//! What a node makes of the bytes of a question before anybody is asked: for tests that send what no client would.
//!
//! ```text
//!  bytes ──codec──► message ──convert──► what is asked ──write──► what a client would send for the same
//!     └──────────────────┴── or why not                                          └── is read as the same again
//! ```

use prost::Message;

use crate::{
    ApiError, Caller, artifact, backend, bucket, cluster, codec, event, instance, job, logs, module, node,
    peer, query, secret, sink,
};

/// Bytes to what a client would send for the same, if that is known.
type Read = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, ApiError> + Send + Sync;

/// How the bytes of one call's question are read.
pub struct Probe {
    call: &'static str,
    read: Box<Read>,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Probe").field(&self.call).finish()
    }
}

impl Probe {
    /// One whose questions are only read.
    pub(crate) fn of<M, A>(
        call: &'static str,
        read: impl Fn(M, &Caller) -> Result<A, ApiError> + Send + Sync + 'static,
    ) -> Self
    where
        M: Message + Default,
    {
        let read = move |bytes: &[u8]| {
            let message = codec::read(bytes).map_err(|why| ApiError::invalid("message", why, ""))?;
            read(message, &Caller::local("probe")).map(|_| None::<Vec<u8>>)
        };
        Self { call, read: Box::new(read) }
    }

    /// One whose questions are written by clients, too.
    pub(crate) fn both<M, A>(
        call: &'static str,
        read: impl Fn(M, &Caller) -> Result<A, ApiError> + Send + Sync + 'static,
        write: impl Fn(A) -> M + Send + Sync + 'static,
    ) -> Self
    where
        M: Message + Default,
    {
        let read = move |bytes: &[u8]| {
            let message = codec::read(bytes).map_err(|why| ApiError::invalid("message", why, ""))?;
            let asked = read(message, &Caller::local("probe"))?;
            Ok(Some(write(asked).encode_to_vec()))
        };
        Self { call, read: Box::new(read) }
    }

    /// Which call: `SERVICE/METHOD`, or what of it.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// Reads a question. What a client would send for the same; none: clients write none such.
    ///
    /// # Errors
    /// As the call's.
    pub fn read(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
        (self.read)(bytes)
    }
}

/// One for each question that is more than nothing, and read by lines of its own.
pub fn all() -> Vec<Probe> {
    let all = [
        bucket::probes(),
        cluster::probes(),
        module::probes(),
        node::probes(),
        instance::probes(),
        secret::probes(),
        backend::probes(),
        sink::probes(),
        job::probes(),
        event::probes(),
        query::probes(),
        logs::probes(),
        peer::probes(),
        artifact::probes(),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::proto::{DESCRIPTORS, v1};

    /// Calls whose questions are read as those of another call, or taken as they are.
    const WITHOUT: [&str; 17] = [
        "ArtifactService/Holders",
        "BucketService/Delete",
        "BucketService/Explain",
        "BucketService/Purge",
        "BucketService/Restart",
        "BucketService/Resume",
        "ClusterService/Debug",
        "ClusterService/Transfer",
        "DebugService/Collect",
        "JobService/Pause",
        "JobService/Resume",
        "JobService/Watch",
        "NodeService/Undrain",
        "PeerService/RaftSnapshot",
        "PeerService/RaftStream",
        "PeerService/Renew",
        "SinkService/Test",
    ];

    /// Whoever adds a call has what it reads tried.
    #[test]
    fn every_question_that_says_something_has_one_or_is_like_another() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let ours: Vec<_> = files.file.iter().filter(|file| file.package().starts_with("sheaf.")).collect();
        let mut empty = BTreeSet::new();
        for file in &ours {
            let messages = file.message_type.iter().filter(|message| message.field.is_empty());
            empty.extend(messages.map(|message| format!(".{}.{}", file.package(), message.name())));
        }
        let probes = all();
        let probed: BTreeSet<&str> =
            probes.iter().filter_map(|probe| probe.call().split(':').next()).collect();
        let mut without = Vec::new();
        for service in ours.iter().flat_map(|file| &file.service) {
            let asks = service.method.iter().filter(|call| !empty.contains(call.input_type()));
            let names = asks.map(|call| format!("{}/{}", service.name(), call.name()));
            without.extend(names.filter(|name| !probed.contains(name.as_str())));
        }
        without.sort();
        assert_eq!(without, WITHOUT);
    }

    #[test]
    fn each_has_a_name_of_its_own_and_reads_no_noise() {
        let probes = all();
        let names: BTreeSet<&str> = probes.iter().map(Probe::call).collect();
        assert_eq!(names.len(), probes.len(), "each once");
        assert!(probes.len() >= 60, "{}", probes.len());
        for probe in &probes {
            if let Err(error) = probe.read(&[]) {
                assert!(!error.to_string().is_empty(), "{}", probe.call());
            }
            assert!(probe.read(&[0xff; 8]).is_err(), "{}", probe.call());
        }
    }

    #[test]
    fn what_was_read_is_read_as_the_same_again() {
        let probes = all();
        let apply = probes.iter().find(|probe| probe.call() == "BucketService/Apply").unwrap();
        let spec =
            v1::BucketSpec { name: "/a".to_owned(), module: "m@1".to_owned(), ..v1::BucketSpec::default() };
        let message = v1::ApplyBucketRequest { bucket: Some(spec), ..v1::ApplyBucketRequest::default() };
        let once = apply.read(&message.encode_to_vec()).unwrap().unwrap();
        assert_eq!(apply.read(&once).unwrap(), Some(once.clone()));
    }
}
