//! Proposals per second of three replicas in one process, with fsync.
//!
//! `cargo run --release -p sheaf-consensus --example throughput -- [DIR] [PROPOSERS] [SECONDS] [unary]`

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

#[path = "../tests/harness/mod.rs"]
mod harness;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use harness::{Cluster, quick, registration};

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().unwrap_or_else(|| "/var/tmp".to_owned());
    let proposers: usize = arguments.next().map_or(256, |n| n.parse().unwrap());
    let seconds: u64 = arguments.next().map_or(5, |n| n.parse().unwrap());
    let streams = arguments.next().is_none();

    let mut cluster = Cluster::of_three_in(Some(dir.into()), streams, quick).await;
    let leader = cluster.leader().await;
    let (first, began) = (leader.metrics().last.unwrap(), Instant::now());
    let (next, nanos) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let until = began + Duration::from_secs(seconds);
    let tasks: Vec<_> = (0..proposers)
        .map(|_| {
            let (leader, next, nanos) = (leader.clone(), next.clone(), nanos.clone());
            tokio::spawn(async move {
                while Instant::now() < until {
                    let (asked, n) = (Instant::now(), next.fetch_add(1, Ordering::Relaxed));
                    // A hundred nodes that change their facts all the time: every proposal changes two rows.
                    leader.propose(&registration(n % 100, n)).await.unwrap();
                    nanos.fetch_add(asked.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (done, took) = (next.load(Ordering::Relaxed), began.elapsed());
    let entries = leader.metrics().last.unwrap() - first;
    println!(
        "{proposers} proposers, streams {streams}: {:.0}/s, mean latency {:.2} ms, {:.1} proposals an entry, {:.0} entries/s",
        done as f64 / took.as_secs_f64(),
        nanos.load(Ordering::Relaxed) as f64 / done as f64 / 1e6,
        done as f64 / entries as f64,
        entries as f64 / took.as_secs_f64(),
    );
    cluster.stop().await;
}
