//! The views, as they are documented: for help, and for the test that what SQLite makes of them is the same.

use super::QueryKind::{Flag, Integer, Json, Text, Time};
use super::{QueryColumn, QueryKind, QueryView};

const fn column(name: &'static str, kind: QueryKind, about: &'static str) -> QueryColumn {
    QueryColumn { name, kind, about }
}

/// Every view.
pub const VIEWS: &[QueryView] =
    &[NODES, MODULES, BUCKETS, INSTANCES, JOBS, SUBTASKS, ATTEMPTS, TRANSITIONS, FAILURES, SINKS, EVENTS];

const NODES: QueryView = QueryView {
    name: "nodes",
    about: "a node that was ever registered",
    columns: &[
        column("name", Text, ""),
        column("id", Integer, ""),
        column("hostname", Text, ""),
        column("address", Text, ""),
        column("status", Text, "joining, ready, restarting, draining, suspect, lost or left"),
        column("since", Time, "of the status"),
        column("reason", Text, "of the status"),
        column("labels", Json, "array"),
        column("allowed_modules", Json, "array of names and globs; `*` where it allows all"),
        column("denied_modules", Json, "array of names and globs; these win"),
        column("version", Text, "of the agent"),
        column("cpu", Integer, "cores"),
        column("memory_total", Integer, "bytes"),
        column("revision", Integer, "of its last change"),
    ],
};

const MODULES: QueryView = QueryView {
    name: "modules",
    about: "a version of a module",
    columns: &[
        column("name", Text, ""),
        column("version", Text, ""),
        column("runtime", Text, "exec, plugin or builtin:NAME"),
        column("supports_multi_node", Flag, ""),
        column("revision", Integer, "of its registration"),
        column("at", Time, "of its registration"),
    ],
};

const BUCKETS: QueryView = QueryView {
    name: "buckets",
    about: "a bucket; its state, which depends on who is connected, is in `sheaf bucket list`",
    columns: &[
        column("name", Text, ""),
        column("type", Text, "harvest or analytic"),
        column("module", Text, "NAME@VERSION"),
        column("multi_node", Flag, ""),
        column("suspended", Flag, ""),
        column("node_list_rules", Json, "array"),
        column(
            "node_affinity",
            Json,
            "array of hostnames: where it is bound, or of a multi-node bucket runs",
        ),
        column("affinity_epoch", Integer, "single-node only"),
        column("affinity_since", Time, "single-node only"),
        column("running", Integer, "instances that run"),
        column("config", Json, "object"),
        column("labels", Json, "object"),
        column("owner", Text, ""),
        column("quarantined_until", Time, "its module had it stopped until then"),
        column("emergency", Text, "why its module had it stopped"),
        column("revision", Integer, "of its last change"),
    ],
};

const INSTANCES: QueryView = QueryView {
    name: "instances",
    about: "a bucket on a node that runs it, or was told to",
    columns: &[
        column("bucket", Text, ""),
        column("node", Text, "its name"),
        column("phase", Text, "pending, starting, running, stopping, backoff, failed or stopped"),
        column("epoch", Integer, "single-node only"),
        column("revision", Integer, "of the bucket, which it runs"),
        column("pid", Integer, ""),
        column("started_at", Time, ""),
        column("restarts", Integer, ""),
        column("exit", Text, "how it last ended"),
        column("message", Text, ""),
    ],
};

const JOBS: QueryView = QueryView {
    name: "jobs",
    about: "a job",
    columns: &[
        column("name", Text, "found at once"),
        column("id", Integer, ""),
        column("state", Text, "running, paused, finished, failed or canceled"),
        column("priority", Integer, "0 to 100, higher first"),
        column("module", Text, "NAME@VERSION"),
        column("subtasks", Integer, "how many it has"),
        column("waiting", Integer, "subtasks in that state"),
        column("ready", Integer, "likewise"),
        column("running", Integer, "likewise"),
        column("finished", Integer, "likewise"),
        column("failed", Integer, "likewise"),
        column("canceled", Integer, "likewise"),
        column("progress", Integer, "percent that is over"),
        column("created_at", Time, ""),
        column("started_at", Time, ""),
        column("ended_at", Time, ""),
        column("reason", Text, "why it was canceled"),
        column("labels", Json, "object"),
        column("owner", Text, ""),
        column("revision", Integer, "when anything but its subtasks last changed"),
    ],
};

const SUBTASKS: QueryView = QueryView {
    name: "subtasks",
    about: "a subtask, with its last attempt",
    columns: &[
        column("job", Text, "its name; narrows what is read"),
        column("subtask", Integer, "from 0"),
        column("state", Text, "waiting, ready, running, finished, failed or canceled; narrows what is read"),
        column("attempt", Integer, "the number of its last attempt; 0: there was none yet"),
        column("node", Text, "the name of the node of that attempt"),
        column("backend", Text, ""),
        column("priority", Integer, ""),
        column("started_at", Time, ""),
        column("ended_at", Time, ""),
        column("exit_code", Integer, "as a shell gives it: of a signal, 128 more"),
        column("message", Text, "how it failed"),
        column("fingerprint", Text, "of the message: alike failures have the same"),
    ],
};

const ATTEMPTS: QueryView = QueryView {
    name: "attempts",
    about: "an attempt at a subtask that is over, or runs",
    columns: &[
        column("job", Text, "its name; narrows what is read"),
        column("subtask", Integer, ""),
        column("attempt", Integer, "from 1"),
        column("state", Text, "running, finished, failed, canceled or handed_back; narrows what is read"),
        column("class", Text, "of a failure: exit, lost, timeout, backend or refused"),
        column("retried", Flag, "of a failure: another attempt was to follow"),
        column("node", Text, "its name"),
        column("backend", Text, ""),
        column("started_at", Time, ""),
        column("ended_at", Time, ""),
        column("exit_code", Integer, "as a shell gives it: of a signal, 128 more"),
        column("message", Text, "how it failed"),
        column("fingerprint", Text, "of the message: alike failures have the same"),
        column("block", Integer, "subtask / 1024; beside the subtask it narrows what is read"),
    ],
};

const TRANSITIONS: QueryView = QueryView {
    name: "transitions",
    about: "what a command did to subtasks of a job that lie together",
    columns: &[
        column("job", Text, "its name; narrows what is read"),
        column("revision", Integer, "position in the replicated log; narrows what is read"),
        column("at", Time, ""),
        column(
            "kind",
            Text,
            "granted, finished, retried, failed, handed_back, woken, canceled, skipped, stopping, again, prioritized, or \
             stale: a report of an attempt that did not run any more, which changed nothing",
        ),
        column("first", Integer, "subtask"),
        column("last", Integer, "subtask"),
        column("attempt", Integer, "that it is about"),
        column("node", Text, "that it was granted to"),
        column("class", Text, "of a failure: exit, lost, timeout, backend or refused"),
        column("actor", Text, "who caused it: leader:NODE, node:NODE that reported it, or who asked for it"),
        column("reason", Text, "why, where there is more to say; of a failure its message"),
    ],
};

const FAILURES: QueryView = QueryView {
    name: "failures",
    about: "a subtask that is failed now, with the attempt that failed it; grouped by fingerprint, what went wrong across all jobs",
    columns: &[
        column("job", Text, "its name; narrows what is read"),
        column("subtask", Integer, ""),
        column("attempt", Integer, ""),
        column("class", Text, "exit, lost, timeout, backend or refused"),
        column("node", Text, "its name"),
        column("at", Time, "when it failed"),
        column("exit_code", Integer, "as a shell gives it: of a signal, 128 more"),
        column("fingerprint", Text, "of the message: alike failures have the same"),
        column("message", Text, ""),
    ],
};

const SINKS: QueryView = QueryView {
    name: "sinks",
    about: "where history is delivered to; how far behind it is, which only the leader knows, is in `sheaf sink status`",
    columns: &[
        column("name", Text, ""),
        column("target", Text, "webhook, mail or exec"),
        column("place", Text, "where events go; of what is secret, its name"),
        column("state", Text, "active, failing or suspended"),
        column("cursor", Integer, "everything up to this revision is delivered, or was not wanted"),
        column("delivered", Integer, "events"),
        column("last_success", Time, ""),
        column("failing_since", Time, ""),
        column("failures", Integer, "in a row, as of the last record"),
        column("last_error", Text, ""),
        column("missed", Integer, "how often history was dropped before it was delivered"),
        column("missed_after", Integer, "what of it was dropped last: after this revision"),
        column("missed_to", Integer, "up to this revision"),
        column("labels", Json, "object"),
        column("owner", Text, ""),
        column("revision", Integer, "of its document"),
    ],
};

const EVENTS: QueryView = QueryView {
    name: "events",
    about: "a line of history",
    columns: &[
        column("revision", Integer, "position in the replicated log; narrows what is read"),
        column("n", Integer, "place among those of that revision"),
        column("at", Time, ""),
        column("kind", Text, "SUBJECT.VERB, like bucket.bound or job.failed"),
        column("subject", Text, "a bucket's path, a job's or a node's name, a module; narrows what is read"),
        column("actor", Text, "who caused it"),
        column("node", Text, "the node concerned; may be empty"),
        column("before", Text, "state before; may be empty"),
        column("after", Text, "state after; may be empty"),
        column("message", Text, ""),
        column("job", Text, "the subject, if it is a job"),
        column("bucket", Text, "the subject, if it is a bucket"),
    ],
};
