//! Too much, too slow and too long where everything is secured: from who shows nothing, from who shows a certificate of another
//! authority, and from who has a viewer's token. What it is where nothing is secured is in `flood`.

use std::sync::atomic::Ordering;

use rustix::process::{Resource, getrlimit, setrlimit};
use sheaf_tests::calls::runtime;
use sheaf_tests::cluster::SOON;
use sheaf_tests::secured::{private, token};
use sheaf_tests::tunnel::Tunnel;
use sheaf_tests::{Agent, Cases, Cluster, Machine, wait_for};
use sheaf_trust::Keyring;
use sheaf_wire::bucket::WatchBuckets;
use sheaf_wire::{ApiError, Bearer, Client, Credentials, Options, Transport};

use crate::flood::{
    APPLY, Endless, MEMORY_MAX, OTHER_FILES, TAKEN_MAX, as_many_files, call, connect, files, is_cut_off,
    memory,
};
use crate::https::issued;

/// Callers at once who do not end their handshake: more than there are places for these.
const CALLERS: u64 = 2_000;
/// How often a certificate of another authority is shown.
const TRIES: usize = 50;
/// Streams that a node carries to the leader for people and programs, and those of them on one connection here.
const STREAMS: usize = 1024;
const ON_ONE: usize = 600;
/// Queries that a node runs at a time.
const QUERIES: usize = 4;
/// What a viewer may ask.
const LIST: &str = "/sheaf.v1.BucketService/List";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const ENDLESS: &str =
    "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

/// Of three nodes; commands show an admin's token.
pub(crate) fn cases(cases: &mut Cases, machine: &Machine, cluster: &Cluster) {
    let viewer = token(cluster, &["--name", "hostile", "--role", "viewer"]);
    let agent = cluster.follower();
    let authority = cluster.cli(&["cluster", "ca", "export"]).ok().stdout;
    let scene = Scene { machine, cluster, agent, pid: agent.pid(), authority, viewer };
    cases.run("by TLS: thousands of handshakes that do not end", || scene.handshakes());
    cases.run("by TLS: a certificate of another authority opens nothing, whatever comes with it", || {
        scene.foreign();
    });
    cases.run("by TLS: requests of a gigabyte, without a token and with one", || scene.gigabytes());
    cases.run("a viewer takes all queries of a node: others are told, and other nodes answer", || {
        scene.queries();
    });
    cases.run("a viewer takes all streams of a node: others are told, and all else is answered", || {
        scene.streams();
    });
    cases.run("a module that takes a command is its node's, and viewers read what it prints", || {
        scene.shell();
    });
    cluster.cli(&["cluster", "token", "revoke", "hostile", "--yes"]).ok();
}

struct Scene<'a> {
    machine: &'a Machine,
    cluster: &'a Cluster,
    /// Who is asked. It does not lead.
    agent: &'a Agent,
    pid: u32,
    /// Of the cluster, in PEM.
    authority: String,
    /// A token.
    viewer: String,
}

impl Scene<'_> {
    /// It is the process that it was, nothing in it has failed, and whoever comes now is answered.
    fn is_well(&self) {
        wait_for("whoever comes is answered", SOON, || {
            let output = self.agent.cli(&["node", "list"]);
            if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
        });
        assert_eq!(self.agent.pid(), self.pid);
        assert!(!self.agent.log().contains("panicked"), "{}", self.agent.log_tail());
    }

    /// Does something that is too much, and looks at what it takes of memory.
    fn within_bounds<T>(&self, does: impl FnOnce() -> T) -> T {
        let before = memory(self.pid, "VmHWM:");
        let done = does();
        let grown = memory(self.pid, "VmHWM:").saturating_sub(before);
        assert!(grown < MEMORY_MAX, "{grown} KiB more at times");
        self.is_well();
        done
    }

    /// Nothing, no TLS, the head of a message that is longer than any, and the begin of one that is right so far.
    fn handshakes(&self) {
        let former = getrlimit(Resource::Nofile);
        let count = as_many_files().saturating_sub(OTHER_FILES).min(CALLERS);
        let begins: [&[u8]; 4] = [
            b"",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\xff\xff\x01",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        ];
        let files_before = files(self.pid);
        self.within_bounds(|| {
            let mut open = Vec::new();
            for begin in begins.iter().cycle().take(usize::try_from(count).unwrap_or(0)) {
                let mut stream = connect(&self.agent.address());
                // One that is cut off already has had its answer.
                let _ = std::io::Write::write_all(&mut stream, begin);
                stream.set_nonblocking(true).expect("a socket can be");
                open.push(stream);
            }
            wait_for("all of them are cut off", 2 * SOON, || {
                open.retain_mut(|stream| !is_cut_off(stream));
                if open.is_empty() { Ok(()) } else { Err(format!("{} are there", open.len())) }
            });
        });
        setrlimit(Resource::Nofile, former).expect("a limit can be what it was");
        wait_for("their files are closed", SOON, || {
            let now = files(self.pid);
            if now <= files_before + 64 { Ok(()) } else { Err(format!("{now} instead of {files_before}")) }
        });
    }

    /// Whether a call without a message is refused, or there is no connection for it.
    fn is_refused(tunnel: &Tunnel, path: &str, token: Option<&str>) -> bool {
        runtime().block_on(call(tunnel.address(), path, token, Endless::empty())).unwrap_or(true)
    }

    fn foreign(&self) {
        let bare = Tunnel::to(self.agent, &self.authority, None);
        assert!(!Self::is_refused(&bare, HEALTH, None), "that it is there is no secret");
        assert!(Self::is_refused(&bare, LIST, None), "all else is");
        assert!(!Self::is_refused(&bare, LIST, Some(&self.viewer)), "a token is enough");
        // By the name of a node, but not from the cluster's authority.
        let foreign = issued(&["n1"]);
        let shown = Some((foreign.certificate.as_str(), foreign.key.as_str()));
        let tunnel = Tunnel::to(self.agent, &self.authority, shown);
        self.within_bounds(|| {
            for path in [HEALTH, LIST, APPLY].into_iter().cycle().take(TRIES) {
                assert!(Self::is_refused(&tunnel, path, Some(&self.viewer)), "{path}");
            }
        });
    }

    fn gigabytes(&self) {
        let tunnel = Tunnel::to(self.agent, &self.authority, None);
        for (path, token) in
            [(LIST, None), (APPLY, None), (APPLY, Some(&self.viewer)), (LIST, Some(&self.viewer))]
        {
            self.within_bounds(|| {
                let (body, sent) = Endless::huge();
                let calling = call(tunnel.address(), path, token.map(String::as_str), body);
                let refused = runtime().block_on(calling).expect("the agent listens");
                assert!(refused, "{path} is refused");
                let sent = sent.load(Ordering::Relaxed);
                assert!(sent < TAKEN_MAX, "{path}: {sent} bytes were taken");
            });
        }
    }

    fn queries(&self) {
        let file = private(self.machine, "hostile.token", &self.viewer).display().to_string();
        let endless = ["query", ENDLESS, "--timeout", "60s", "--token-file", &file];
        let taken: Vec<_> = (0..QUERIES).map(|_| self.agent.follow(&endless)).collect();
        let ask = || self.agent.cli(&["query", "SELECT 1 AS one"]);
        wait_for("others are told", SOON, || {
            let output = ask();
            let is_told = output.code == 1 && output.stderr.contains("queries run on this node already");
            if is_told { Ok(()) } else { Err(output.to_string()) }
        });
        let other = self.cluster.agents().iter().find(|agent| agent.name() != self.agent.name());
        wait_for("another node answers", SOON, || {
            let output = other.expect("there are three").cli(&["query", "SELECT 1 AS one"]);
            if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
        });
        self.is_well();
        drop(taken);
        wait_for("it is answered again", SOON, || {
            let output = ask();
            if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
        });
    }

    fn client(&self, agent: &Agent) -> Client {
        let authorities = Keyring::of_node(&self.agent.dir()).expect("a secured node's files").authorities();
        let credentials = Credentials { authorities, ..Credentials::default() };
        let transport = Transport::tls(&credentials).expect("the cluster's authority");
        let token = Some(Bearer::parse(&self.viewer).expect("it was printed"));
        let options = Options { token, transport, ..Options::default() };
        Client::lazy(&agent.address(), options).expect("an agent's address is one")
    }

    fn streams(&self) {
        let runtime = runtime();
        let clients = {
            let _within = runtime.enter();
            [self.client(self.agent), self.client(self.agent), self.client(self.agent)]
        };
        let mut taken = Vec::new();
        let error = runtime.block_on(async {
            loop {
                let client = clients.get(taken.len() / ON_ONE)?;
                match client.watch_buckets(WatchBuckets::default()).await {
                    Ok(watch) => taken.push(watch),
                    Err(error) => return Some(error),
                }
            }
        });
        assert!(matches!(error, Some(ApiError::Busy(_))), "{error:?} after {} streams", taken.len());
        // Others have a few of them.
        assert!((STREAMS / 2..=STREAMS).contains(&taken.len()), "{} streams", taken.len());
        self.is_well();
        for agent in self.cluster.agents().iter().filter(|agent| agent.name() != self.agent.name()) {
            let watch = runtime.block_on(async {
                let client = self.client(agent);
                client.watch_buckets(WatchBuckets::default()).await.map(drop)
            });
            watch.unwrap_or_else(|error| panic!("{} opens some still: {error}", agent.name()));
        }
        drop(taken);
        wait_for("it opens streams again", SOON, || {
            let watch = runtime.block_on(clients[2].watch_buckets(WatchBuckets::default()));
            watch.map(drop).map_err(|error| error.to_string())
        });
    }

    /// What an operator of a part can do by a module that an admin has registered without a thought: nothing of the node is closed
    /// to what runs as its agent does.
    fn shell(&self) {
        self.cluster.apply(
            "kind: Module\nname: shell\nversion: '1'\nruntime: exec\n\
             exec: {command: /bin/sh, args: [-c, '${bucket.config.command}']}\n",
        );
        let operator = token(self.cluster, &["--name", "taker", "--role", "operator", "--on", "/taken/"]);
        let operator = private(self.machine, "taker.token", &operator).display().to_string();
        let key = self.agent.dir().join("trust/node.pem");
        let bucket = format!(
            "kind: Bucket\nname: /taken/x\nmodule: shell\nnode_list_rules: [{}]\n\
             config: {{command: 'sed -n \"s/BEGIN PRIVATE/this is its/p\" {} && exec sleep 100000'}}\n",
            self.agent.name(),
            key.display()
        );
        self.agent.cli_with(&["apply", "-f", "-", "--token-file", &operator], bucket.as_bytes()).ok();
        let viewer = private(self.machine, "hostile.token", &self.viewer).display().to_string();
        wait_for("a viewer reads of the node's key", SOON, || {
            let output = self.agent.cli(&["bucket", "logs", "/taken/x", "--token-file", &viewer]);
            let is_read = output.code == 0 && output.stdout.contains("this is its KEY");
            if is_read { Ok(()) } else { Err(output.to_string()) }
        });
        self.cluster.delete(&["/taken/x"]);
        self.cluster.cli(&["cluster", "token", "revoke", "taker", "--yes"]).ok();
    }
}
