//! Which call goes where.

/// Who can answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes the replicated state: the leader.
    Change,
    /// Shows what only the leader remembers (verdicts, load, who was heard): the leader, else any member.
    LiveRead,
    /// Shows what every member has: any member.
    Read,
    /// Brings along what must not travel on as it is: the node that is asked, member or not, which asks others itself.
    Here,
    /// Meant for this very node: never forwarded.
    Own,
}

/// The class of a call by its path, `/PACKAGE.SERVICE/METHOD`. What is not known is `Own`, and refused as unknown.
pub fn class(path: &str) -> Class {
    method(path).0
}

/// The class, and whether it is answered by a stream.
pub(super) fn method(path: &str) -> (Class, bool) {
    let Some((service, method)) = path.strip_prefix("/sheaf.v1.").and_then(|rest| rest.split_once('/'))
    else {
        // Streams of ours, and those of health and reflection, end when the node stops.
        let unary = matches!(path, "/grpc.health.v1.Health/Check" | "/sheaf.peer.v1.PeerService/Raft");
        return (Class::Own, !unary);
    };
    match (service, method) {
        ("ClusterService" | "BucketService" | "ModuleService" | "BackendService" | "SinkService", "Apply")
        | ("ClusterService", "Settings" | "Transfer" | "CreateToken" | "CreateCertificate" | "RevokeToken")
        | ("ClusterService", "RotateAuthority")
        | ("BucketService", "Suspend" | "Resume" | "Restart" | "Move" | "Purge" | "Rollback")
        | ("ModuleService", "BeginPush" | "PushPiece" | "FinishPush")
        | ("BucketService" | "ModuleService" | "SecretService" | "BackendService" | "SinkService", "Delete")
        // It changes nothing here, and who delivers is the leader.
        | ("SinkService", "Test")
        | ("SecretService", "Put")
        | ("NodeService", "Label" | "Drain" | "Undrain" | "Forget")
        | ("JobService", "Submit" | "Pause" | "Resume" | "Delete" | "Cancel" | "Retry" | "Reprioritize")
        | ("InstanceService", "PutObject" | "DeleteObject" | "AddStatusLine" | "Disable" | "Quarantine") => {
            (Class::Change, false)
        }
        ("ClusterService", "Status" | "Members" | "AuthorityStatus")
        | ("BucketService", "Plan" | "Get" | "List" | "Explain")
        | ("JobService", "Get" | "Explain")
        | ("SinkService", "List" | "Get")
        | ("NodeService", "List" | "Get" | "Affinity") => (Class::LiveRead, false),
        ("SecretService", "Set") => (Class::Here, false),
        ("BucketService", "Test") => (Class::Change, true),
        ("BucketService" | "JobService", "Watch") => (Class::LiveRead, true),
        ("BucketService", "History")
        | ("ModuleService" | "BackendService", "Get" | "List")
        | ("EventService" | "SecretService", "List")
        | ("JobService", "List" | "Subtasks")
        | ("ClusterService", "ListTokens")
        | ("InstanceService", "GetObject" | "ListObjects" | "ListPeers" | "GetSecret") => {
            (Class::Read, false)
        }
        ("BucketService" | "JobService", "Logs")
        | ("EventService", "Watch")
        | ("QueryService", "Query")
        | ("ClusterService", "SaveSnapshot" | "Debug")
        | ("InstanceService", "WatchObjects") => (Class::Read, true),
        _ => (Class::Own, true),
    }
}

/// Whether the question comes in pieces, over any time: it is not waited for before it is carried on.
pub(super) fn comes_in_pieces(path: &str) -> bool {
    path == "/sheaf.v1.JobService/Submit"
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::DESCRIPTORS;

    /// Whoever adds a call must say where it is answered.
    #[test]
    fn every_public_call_has_a_class_and_streams_are_known() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
        let mut calls = 0;
        for file in files.file.iter().filter(|file| file.package() == "sheaf.v1") {
            for service in &file.service {
                for call in &service.method {
                    let path = format!("/sheaf.v1.{}/{}", service.name(), call.name());
                    let (class, stream) = method(&path);
                    assert_ne!(class, Class::Own, "{path}");
                    assert_eq!(stream, call.server_streaming(), "{path}");
                    assert_eq!(comes_in_pieces(&path), call.client_streaming(), "{path}");
                    calls += 1;
                }
            }
        }
        assert_eq!(calls, 82);
    }

    #[test]
    fn what_is_meant_for_this_node_stays_here() {
        for path in
            ["/sheaf.peer.v1.PeerService/Raft", "/grpc.health.v1.Health/Check", "/", "", "/sheaf.v1.X/Y"]
        {
            assert_eq!(class(path), Class::Own, "{path}");
        }
    }
}
