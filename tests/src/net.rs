//! A network between agents that can be cut: each is reached through a proxy of its own on loopback.
//!
//! ```text
//!  agent a ──connects──► proxy of b ──► agent b          bytes from a to b wait while a→b is cut,
//!          ◄────────────            ◄──                  those from b to a while b→a is cut
//! ```
//!
//! What is cut is silent: connections stay, new ones are taken, and what was sent meanwhile arrives when the way is
//! whole again, as it is with packets that are sent again. Who connects is found in `/proc`; whoever is no agent, such
//! as the command line, is never cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{NodePlan, ports, processes};

/// By which the processes of an agent are known: it is set for each agent alone, and so in all that it starts.
const ADVERTISE: &str = "SHEAF_CONFIG_LISTEN_ADVERTISE";
/// Bytes taken from one side at a time.
const PIECE: usize = 64 << 10;
/// Connections that come within it are looked for together: a look at all of the system's takes milliseconds.
const GATHER: Duration = Duration::from_millis(20);

/// Connections that may wait for that; more wait before it.
const QUESTIONS: usize = 256;
/// How often it is looked for: the system's table may leave one out while others come and go.
const LOOKS: u32 = 10;

/// From whom to whom, by the nodes' numbers.
pub type Way = (usize, usize);

/// The proxies of a cluster's agents; they end with it.
#[derive(Debug)]
pub struct Net {
    /// The address of each node's proxy; the first is that of node 1.
    proxies: Vec<String>,
    cut: watch::Sender<BTreeSet<Way>>,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

/// A connection as its caller sees it: its own address, and the one that it called. The first alone may belong to several.
type Ends = (SocketAddr, SocketAddr);

/// Whose the connection is, and whom to tell.
type Question = (Ends, oneshot::Sender<usize>);

/// What every proxy has.
#[derive(Clone)]
struct Proxy {
    cut: watch::Receiver<BTreeSet<Way>>,
    questions: mpsc::Sender<Question>,
}

impl Net {
    /// Takes ports for so many nodes. Nothing is passed on before [`Net::run`].
    pub fn new(nodes: usize) -> Self {
        let proxies = ports::free(nodes).into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let (cut, _) = watch::channel(BTreeSet::new());
        Self { proxies, cut, stop: CancellationToken::new(), threads: Vec::new() }
    }

    /// Has a node of this number, from 1, reached through its proxy.
    pub fn put_between(&self, number: usize, plan: &mut NodePlan) {
        plan.join = self.proxies.iter().take(plan.join.len()).cloned().collect();
        plan.environment.push((ADVERTISE.to_owned(), self.proxies[number - 1].clone()));
    }

    /// Passes on what comes, to agents that listen at these addresses.
    ///
    /// # Panics
    /// If a port was taken meanwhile.
    pub fn run(&mut self, agents: &[String]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a thread's runtime can be made");
        let bind = |address: &String| {
            runtime.block_on(TcpListener::bind(address)).unwrap_or_else(|error| panic!("{address}: {error}"))
        };
        let listeners: Vec<TcpListener> = self.proxies.iter().map(bind).collect();
        let (ask, mut questions) = mpsc::channel(QUESTIONS);
        let proxy = Proxy { cut: self.cut.subscribe(), questions: ask };
        let (agents, proxies, stop) = (agents.to_vec(), self.proxies.clone(), self.stop.clone());
        self.threads.push(thread::spawn(move || tell_who(&mut questions, &proxies)));
        self.threads.push(thread::spawn(move || {
            runtime.block_on(async {
                let serving = listeners.into_iter().zip(agents).enumerate();
                let serving = serving
                    .map(|(index, (listener, agent))| serve(index + 1, listener, agent, proxy.clone()));
                let all = futures::future::join_all(serving);
                tokio::select! { _ = all => {}, () = stop.cancelled() => {} }
            });
            // The other thread ends with the last who could ask it.
        }));
    }

    /// Cuts these ways as well.
    pub fn cut(&self, ways: &BTreeSet<Way>) {
        self.cut.send_modify(|cut| cut.extend(ways));
    }

    /// Mends these.
    pub fn mend(&self, ways: &BTreeSet<Way>) {
        self.cut.send_modify(|cut| cut.retain(|way| !ways.contains(way)));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            // A panic of theirs was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// Takes the connections to a node, for ever.
async fn serve(node: usize, listener: TcpListener, agent: String, proxy: Proxy) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            taken = listener.accept() => {
                // Refused for want of files, say: whoever connects asks again.
                let Ok((caller, peer)) = taken else { continue };
                let Ok(called) = caller.local_addr() else { continue };
                let (agent, proxy) = (agent.clone(), proxy.clone());
                connections.spawn(async move {
                    let (tell, told) = oneshot::channel();
                    let ends = (peer, called);
                    if proxy.questions.send((ends, tell)).await.is_ok() && let Ok(from) = told.await {
                        // How it ended the two at its ends know.
                        let _ = pass(caller, agent, (from, node), proxy.cut).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers whose connections are, by the nodes' numbers; 0: no agent's. One that cannot be found is not passed on.
fn tell_who(questions: &mut mpsc::Receiver<Question>, proxies: &[String]) {
    let number = |pid: u32| {
        let address = processes::variable(pid, ADVERTISE)?;
        proxies.iter().position(|proxy| *proxy == address).map(|index| index + 1)
    };
    // Each with how often it was looked for.
    let mut asked: Vec<(Question, u32)> = Vec::new();
    loop {
        if asked.is_empty() {
            match questions.blocking_recv() {
                Some(first) => asked.push((first, 0)),
                None => return,
            }
        }
        pause();
        while let Ok(more) = questions.try_recv() {
            asked.push((more, 0));
        }
        let wanted: BTreeSet<Ends> = asked.iter().map(|((ends, _), _)| *ends).collect();
        let sockets = sockets(&fs::read_to_string("/proc/net/tcp").unwrap_or_default(), &wanted);
        let owners = processes::owners_of_sockets(&sockets.values().copied().collect());
        for ((ends, tell), looks) in std::mem::take(&mut asked) {
            match sockets.get(&ends).and_then(|socket| owners.get(socket)) {
                // Whoever asked may have ended.
                Some(pid) => drop(tell.send(number(*pid).unwrap_or(0))),
                None if looks + 1 < LOOKS => asked.push(((ends, tell), looks + 1)),
                None => {}
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread does nothing else meanwhile")]
fn pause() {
    thread::sleep(GATHER);
}

/// The inodes of the sockets with these ends, by a table like `/proc/net/tcp`.
fn sockets(table: &str, wanted: &BTreeSet<Ends>) -> BTreeMap<Ends, u64> {
    let address = |text: &str| {
        let (address, port) = text.split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_le_bytes();
        Some(SocketAddr::from((address, u16::from_str_radix(port, 16).ok()?)))
    };
    let row = |row: &str| {
        let mut words = row.split_whitespace();
        let ends = (address(words.nth(1)?)?, address(words.next()?)?);
        Some((ends, words.nth(6)?.parse().ok()?))
    };
    // A connection that is over and still remembered has no inode.
    table.lines().filter_map(row).filter(|(ends, inode)| *inode != 0 && wanted.contains(ends)).collect()
}

/// Passes on what the two say until one of them is gone.
async fn pass(
    caller: TcpStream,
    agent: String,
    (from, to): Way,
    cut: watch::Receiver<BTreeSet<Way>>,
) -> io::Result<()> {
    let called = TcpStream::connect(agent).await?;
    caller.set_nodelay(true)?;
    called.set_nodelay(true)?;
    let (from_caller, to_caller) = caller.into_split();
    let (from_called, to_called) = called.into_split();
    let asks = pump(from_caller, to_called, (from, to), cut.clone());
    let answers = pump(from_called, to_caller, (to, from), cut);
    // Whoever ends first ends both: gRPC closes nothing half.
    tokio::select! { ended = asks => ended, ended = answers => ended }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut cut: watch::Receiver<BTreeSet<Way>>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        // The end of a connection is not heard through a cut way either.
        if cut.wait_for(|cut| !cut.contains(&way)).await.is_err() || count == 0 {
            return Ok(());
        }
        to.write_all(&piece[..count]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net;

    use super::*;

    /// A port may have been another connection's before, and may be at the same time.
    #[test]
    fn a_socket_is_found_by_both_its_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:9C40 0100007F:4EC4 01 00000000:00000000 02:000A7214 00000000     0        0 11 2 0 20 4 30 10 -1
   1: 0100007F:9C40 0100007F:4EC6 06 00000000:00000000 03:00001500 00000000     0        0 0 3 0
   2: 0100007F:9C40 0100007F:4EC5 01 00000000:00000000 02:000A7214 00000000     0        0 12 2 0 20 4 30 10 -1";
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let ends = |called: u16| (at(40_000), at(called));
        let found = sockets(table, &[20_164, 20_165, 20_166].map(ends).into());
        assert_eq!(found, BTreeMap::from([(ends(20_164), 11), (ends(20_165), 12)]));
    }

    /// One that connects from here belongs to no node; the way from 0 stands for it.
    #[test]
    fn what_is_cut_is_silent_and_comes_later() {
        let agent = net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut net = Net::new(1);
        net.run(&[agent.local_addr().expect("it listens").to_string()]);
        let mut caller = net::TcpStream::connect(&net.proxies[0]).expect("the proxy listens");
        let (mut called, _) = agent.accept().expect("the proxy passes it on");
        let mut byte = [0];
        caller.write_all(b"a").expect("it is open");
        called.read_exact(&mut byte).expect("it comes through");
        let way = BTreeSet::from([(0, 1)]);
        net.cut(&way);
        caller.write_all(b"b").expect("the proxy still takes it");
        called.set_read_timeout(Some(Duration::from_millis(200))).expect("it can be set");
        assert!(called.read_exact(&mut byte).is_err(), "{byte:?}");
        called.write_all(b"c").expect("it is open");
        caller.read_exact(&mut byte).expect("the other way is whole");
        assert_eq!(&byte, b"c");
        net.mend(&way);
        called.set_read_timeout(None).expect("it can be set");
        called.read_exact(&mut byte).expect("it comes now");
        assert_eq!(&byte, b"b");
    }
}
