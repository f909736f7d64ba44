//! What a node makes of the bytes of a question before anybody is asked, and what whoever has asked makes of those of an
//! answer: for tests that send what no client would, and answer what no node would.
//!
//! ```text
//!  bytes ──codec──► message ──convert──► what is asked ──write──► what a client would send for the same
//!     └──────────────────┴── or why not                                          └── is read as the same again
//!  bytes ──codec──► message ──convert──► what is answered
//!     └──────────────────┴── or why not
//! ```

use prost::Message;

use crate::{
    ApiError, Caller, artifact, backend, bucket, change, cluster, codec, error, event, instance, job, logs,
    module, node, peer, query, secret, sink,
};

/// Bytes to what a client would send for the same, if that is known.
type Read = dyn Fn(&[u8]) -> Result<Option<Vec<u8>>, ApiError> + Send + Sync;

/// How the bytes of one call's question are read, or those of an answer.
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

    /// One of answers, which are read as `A`.
    pub(crate) fn answer<M, A>() -> Self
    where
        M: Message + Default + 'static,
        A: TryFrom<M, Error = ApiError> + 'static,
    {
        Self::answered::<M, A>(<A as TryFrom<M>>::try_from)
    }

    /// The same of answers that all mean something.
    pub(crate) fn plain<M, A>() -> Self
    where
        M: Message + Default,
        A: From<M>,
    {
        Self::answered(|message: M| Ok(A::from(message)))
    }

    /// The same of answers that are read by lines of their own.
    pub(crate) fn answered<M, A>(read: impl Fn(M) -> Result<A, ApiError> + Send + Sync + 'static) -> Self
    where
        M: Message + Default,
    {
        Self::of(codec::name::<M>(), move |message: M, _: &Caller| read(message))
    }

    /// Which call: `SERVICE/METHOD`, or what of it; of an answer its message.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// Reads a question, or an answer. What a client would send for the same question; none: clients write none such.
    ///
    /// # Errors
    /// As the call's.
    pub fn read(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
        (self.read)(bytes)
    }
}

/// One for each question that is more than nothing, and read by lines of its own.
pub fn questions() -> Vec<Probe> {
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

/// One for each message that answers and is more than nothing, and one for refusals.
pub fn answers() -> Vec<Probe> {
    let all = [
        change::answers(),
        bucket::answers(),
        cluster::answers(),
        module::answers(),
        node::answers(),
        instance::answers(),
        secret::answers(),
        backend::answers(),
        sink::answers(),
        job::answers(),
        event::answers(),
        query::answers(),
        peer::answers(),
        error::answers(),
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

    /// Answers that are taken as they are.
    const TAKEN: [&str; 4] = ["ArtifactPiece", "LookForArtifactResponse", "RaftAnswer", "TransferResponse"];

    /// Each call, `SERVICE/METHOD`, with its question and its answer; none: it says nothing.
    fn calls() -> Vec<(String, [Option<String>; 2])> {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
        let ours: Vec<_> = files.file.iter().filter(|file| file.package().starts_with("sheaf.")).collect();
        let mut empty = BTreeSet::new();
        for file in &ours {
            let messages = file.message_type.iter().filter(|message| message.field.is_empty());
            empty.extend(messages.map(|message| format!(".{}.{}", file.package(), message.name())));
        }
        let said = |name: &str| (!empty.contains(name)).then(|| name.to_owned());
        let mut calls = Vec::new();
        for service in ours.iter().flat_map(|file| &file.service) {
            for call in &service.method {
                let name = format!("{}/{}", service.name(), call.name());
                calls.push((name, [call.input_type(), call.output_type()].map(said)));
            }
        }
        calls
    }

    /// Whoever adds a call has what it reads tried.
    #[test]
    fn every_question_that_says_something_has_one_or_is_like_another() {
        let probes = questions();
        let probed: BTreeSet<&str> =
            probes.iter().filter_map(|probe| probe.call().split(':').next()).collect();
        let asks = calls().into_iter().filter(|(_, [question, _])| question.is_some());
        let mut without: Vec<_> =
            asks.map(|(name, _)| name).filter(|name| !probed.contains(name.as_str())).collect();
        without.sort();
        assert_eq!(without, WITHOUT);
    }

    #[test]
    fn every_answer_that_says_something_has_one_or_is_taken_as_it_is() {
        let probes = answers();
        let probed: BTreeSet<&str> = probes.iter().map(Probe::call).collect();
        let told = calls().into_iter().filter_map(|(_, [_, answer])| answer);
        let told = told.filter_map(|name| name.rsplit('.').next().map(str::to_owned));
        let without: BTreeSet<String> = told.filter(|name| !probed.contains(name.as_str())).collect();
        assert_eq!(without.into_iter().collect::<Vec<_>>(), TAKEN);
    }

    #[test]
    fn each_has_a_name_of_its_own_and_reads_no_noise() {
        for (probes, least) in [(questions(), 60), (answers(), 50)] {
            let names: BTreeSet<&str> = probes.iter().map(Probe::call).collect();
            assert_eq!(names.len(), probes.len(), "each once");
            assert!(probes.len() >= least, "{}", probes.len());
            for probe in &probes {
                if let Err(error) = probe.read(&[]) {
                    assert!(!error.to_string().is_empty(), "{}", probe.call());
                }
                assert!(probe.read(&[0xff; 8]).is_err(), "{}", probe.call());
            }
        }
    }

    #[test]
    fn what_was_read_is_read_as_the_same_again() {
        let probes = questions();
        let apply = probes.iter().find(|probe| probe.call() == "BucketService/Apply").unwrap();
        let spec =
            v1::BucketSpec { name: "/a".to_owned(), module: "m@1".to_owned(), ..v1::BucketSpec::default() };
        let message = v1::ApplyBucketRequest { bucket: Some(spec), ..v1::ApplyBucketRequest::default() };
        let once = apply.read(&message.encode_to_vec()).unwrap().unwrap();
        assert_eq!(apply.read(&once).unwrap(), Some(once.clone()));
    }
}
