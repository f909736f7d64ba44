//! Which call needs what.

/// What a call needs of whoever makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing and changes nothing.
    Nothing,
    /// A node that belongs to the cluster, or proves that it may join.
    Join,
    /// A node, which speaks for itself alone. One that was forgotten, too: it is told so, or refused, by who answers.
    Told,
    /// A node that was not forgotten, as the guard knows or finds out, which speaks for itself alone.
    Registered,
    /// A node that keeps the replicated log, as the guard knows or finds out.
    Member,
    /// Anybody known.
    Viewer,
    /// A token, which is carried along to where the work is done, and judged there: this node may have no replica.
    Carried,
    /// An operator of the bucket that it names, which is asked again once that is known.
    Bucket,
    /// An operator of everything.
    Operator,
    /// An admin.
    Admin,
}

/// What a call needs, by its path, `/PACKAGE.SERVICE/METHOD`. Of what is not known, the most.
pub fn need(path: &str) -> Need {
    row(path).unwrap_or(Need::Admin)
}

fn row(path: &str) -> Option<Need> {
    let (package, service, method) =
        path.strip_prefix('/').and_then(|path| path.split_once('/')).and_then(|(service, method)| {
            service.rsplit_once('.').map(|(package, name)| (package, name, method))
        })?;
    match package {
        "sheaf.v1" => public(service, method),
        "sheaf.peer.v1" => match (service, method) {
            // Who has nothing to show yet asks who is there; a join is judged by what stands in it.
            ("PeerService", "Hello" | "Join") => Some(Need::Nothing),
            // What is said of the log is judged by its sender as well, see `PeerApi`.
            ("PeerService", "Renew" | "Raft" | "RaftStream" | "RaftSnapshot")
            | ("AgentService", "Session" | "Watch") => Some(Need::Told),
            ("PeerService", "FetchAuthority") | ("ArtifactService", "Fetch" | "Holders") => {
                Some(Need::Registered)
            }
            // Members ask it of all nodes, for whoever asks them.
            ("LogService", "Read" | "ReadAttempt")
            | ("DebugService", "Collect")
            | ("ArtifactService", "Hold" | "Look") => Some(Need::Member),
            _ => None,
        },
        "grpc.health.v1" | "grpc.reflection.v1" | "grpc.reflection.v1alpha" => Some(Need::Nothing),
        _ => None,
    }
}

fn public(service: &str, method: &str) -> Option<Need> {
    Some(match (service, method) {
        ("ClusterService", "Status" | "Members" | "AuthorityStatus")
        | ("BucketService", "Plan" | "Get" | "List" | "Explain" | "Watch" | "Logs" | "History")
        | ("JobService", "List" | "Get" | "Subtasks" | "Explain" | "Watch" | "Logs")
        | ("ModuleService" | "BackendService" | "SinkService", "Get" | "List")
        | ("NodeService", "List" | "Get" | "Affinity")
        | ("EventService", "List" | "Watch")
        | ("SecretService", "List")
        | ("QueryService", "Query")
        // What modules keep is read by people, too.
        | ("InstanceService", "GetObject" | "ListObjects" | "WatchObjects" | "ListPeers") => Need::Viewer,
        ("InstanceService", "PutObject" | "DeleteObject" | "AddStatusLine")
        | ("InstanceService", "Disable" | "Quarantine" | "GetSecret") => Need::Registered,
        // Of the documents in it all but buckets need more, which is asked once they are known.
        ("ClusterService", "Apply")
        | ("BucketService", "Apply" | "Suspend" | "Resume" | "Restart" | "Move" | "Test")
        | ("BucketService", "Purge" | "Rollback" | "Delete") => Need::Bucket,
        ("JobService", "Submit" | "Pause" | "Resume" | "Delete" | "Cancel" | "Retry" | "Reprioritize")
        | ("NodeService", "Label" | "Drain" | "Undrain") => Need::Operator,
        ("ClusterService", "Settings" | "Transfer" | "SaveSnapshot" | "Debug")
        | ("ClusterService", "CreateToken" | "CreateCertificate" | "ListTokens" | "RevokeToken")
        | ("ClusterService", "RotateAuthority")
        | ("ModuleService", "Apply" | "Delete" | "BeginPush" | "PushPiece" | "FinishPush")
        | ("BackendService", "Apply" | "Delete")
        | ("SinkService", "Apply" | "Test" | "Delete")
        | ("SecretService", "Put" | "Delete")
        | ("NodeService", "Forget") => Need::Admin,
        ("SecretService", "Set") => Need::Carried,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::forward::{Class, class};
    use crate::proto::DESCRIPTORS;

    /// Whoever adds a call must say who may make it.
    #[test]
    fn every_call_has_a_row_and_no_change_is_for_viewers() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
        let ours = files.file.iter().filter(|file| file.package().starts_with("sheaf."));
        let mut calls = 0;
        for file in ours {
            for service in &file.service {
                for call in &service.method {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), call.name());
                    let need = row(&path);
                    assert!(need.is_some(), "{path}");
                    let changes = matches!(class(&path), Class::Change | Class::Here);
                    let weak = matches!(need, Some(Need::Nothing | Need::Join | Need::Viewer));
                    assert!(!(changes && weak), "{path} needs {need:?}");
                    calls += 1;
                }
            }
        }
        assert_eq!(calls, 98);
    }

    #[test]
    fn an_operator_of_some_buckets_may_change_buckets_and_nothing_else() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("our own descriptors");
        let mut found: Vec<String> = Vec::new();
        for file in files.file.iter().filter(|file| file.package() == "sheaf.v1") {
            for service in &file.service {
                let calls = service.method.iter().map(|call| format!("{}/{}", service.name(), call.name()));
                found.extend(calls.filter(|call| need(&format!("/sheaf.v1.{call}")) == Need::Bucket));
            }
        }
        found.sort();
        let bucket = ["Apply", "Delete", "Move", "Purge", "Restart", "Resume", "Rollback", "Suspend", "Test"];
        let mut expected = bucket.map(|call| format!("BucketService/{call}")).to_vec();
        // Whose documents are looked at one by one.
        expected.push("ClusterService/Apply".to_owned());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_not_known_needs_the_most() {
        for path in ["", "/", "/sheaf.v1.ClusterService/Reset", "/sheaf.peer.v1.PeerService/X", "/x.Y/Z"] {
            assert_eq!(need(path), Need::Admin, "{path:?}");
        }
        assert_eq!(need("/grpc.health.v1.Health/Check"), Need::Nothing);
        assert_eq!(need("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), Need::Nothing);
    }

    #[test]
    fn what_nodes_show_to_members_is_for_members_and_all_else_for_who_was_not_forgotten() {
        let of = |calls: &[&str], needed| {
            for call in calls {
                assert_eq!(need(&format!("/sheaf.peer.v1.{call}")), needed, "{call}");
            }
        };
        of(&["LogService/Read", "LogService/ReadAttempt", "DebugService/Collect"], Need::Member);
        of(&["ArtifactService/Hold", "ArtifactService/Look"], Need::Member);
        of(&["ArtifactService/Fetch", "ArtifactService/Holders"], Need::Registered);
        of(&["PeerService/FetchAuthority"], Need::Registered);
        assert_eq!(need("/sheaf.v1.InstanceService/GetSecret"), Need::Registered);
        of(&["PeerService/Renew", "AgentService/Session", "AgentService/Watch"], Need::Told);
    }
}
