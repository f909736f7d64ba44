//! How long no change is acknowledged while another node comes to lead.

use std::time::{Duration, Instant};

use sheaf_tests::Cluster;
use sheaf_wire::bucket::ApplyBucket;

use crate::figure::{Figures, Goal, Times};
use crate::scene;

/// How long changes are asked for around a change of the leader.
const WRITING: Duration = Duration::from_secs(4);

pub(super) fn run(cluster: &Cluster, trials: usize, figures: &Figures) {
    let (killed, handed): (Vec<Duration>, Vec<Duration>) =
        (0..trials).map(|number| (silence(cluster, number, true), silence(cluster, number, false))).unzip();
    let said = |name: &str, times: Vec<Duration>, text: &str, p50: Duration, worst: Duration| {
        let times: Times = times.into_iter().collect();
        let reached = times.median() <= p50 && times.percentile(100) <= worst;
        figures.figure(name, &times.to_string(), &Goal { text, reached: Some(reached) });
    };
    let (second, longer) = (Duration::from_secs(1), Duration::from_millis(1500));
    said(
        "no change is acknowledged after kill -9 of the leader",
        killed,
        "p50 1 s, worst 1.5 s",
        second,
        longer,
    );
    let short = Duration::from_millis(150);
    said(
        "no change is acknowledged while leadership is handed over",
        handed,
        "p50 and worst 150 ms",
        short,
        short,
    );
}

/// The longest time between two acknowledged changes while the leader is killed, or hands leadership over; if none is
/// acknowledged any more, until nobody waits for one any longer.
///
/// # Panics
/// If leadership is not handed over.
fn silence(cluster: &Cluster, number: usize, kill: bool) -> Duration {
    let leader = cluster.leader();
    let other = cluster.agents().iter().find(|agent| agent.name() != leader.name()).expect("there are more");
    let longest = scene::runtime().block_on(async {
        let client = scene::client(&other.address());
        let begun = Instant::now();
        let (mut last, mut longest, mut turn) = (Instant::now(), Duration::ZERO, 0_usize);
        let (mut done, mut handing) = (false, None);
        while begun.elapsed() < WRITING {
            let mut put = scene::suspended("/failover/writes");
            put.spec.owner = Some(format!("{number}-{kill}-{turn}"));
            turn += 1;
            let ask = ApplyBucket { put, request: None, validate_only: false };
            if client.apply_bucket(ask).await.is_ok() {
                if done {
                    longest = longest.max(last.elapsed());
                }
                last = Instant::now();
            }
            if !done && begun.elapsed() > WRITING / 4 {
                done = true;
                last = Instant::now();
                if kill {
                    leader.kill();
                } else {
                    // Asked through the same API; its own answer comes when the heir leads.
                    let client = client.clone();
                    handing = Some(tokio::spawn(async move { client.transfer(None).await }));
                }
            }
        }
        if let Some(handing) = handing {
            let heir = handing.await.expect("asking does not panic").expect("leadership is handed over");
            assert_ne!(heir, leader.name(), "another one leads");
        }
        longest.max(last.elapsed())
    });
    if kill {
        leader.start();
        cluster.wait_back(leader);
    }
    longest
}
