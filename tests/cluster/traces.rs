//! Traces: one from a command to what nodes do about it; and a collector that is down disturbs nobody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sheaf_tests::collector::{Collector, Seen};
use sheaf_tests::documents::{bucket, module};
use sheaf_tests::tls::Tls;
use sheaf_tests::{Agent, Cases, Cluster, Machine, TRACES, cli, wait_for};

use crate::https::{Issued, issued};
use crate::scene::{names, only_node, trace};

/// Spans wait a second for others, and agents up to a heartbeat for what theirs belong to.
const TOLD_WITHIN: Duration = Duration::from_secs(20);

/// Three agents and commands that send their traces to one collector.
#[test]
fn traces() {
    let machine = Arc::new(Machine::take());
    let mut collector = Collector::start();
    machine.write(TRACES, collector.endpoint());
    let more = format!("[telemetry]\notlp = {:?}\n", collector.endpoint());
    let cluster = Cluster::plan(&machine, "", 3, |_, plan| plan.more.clone_from(&more));
    cluster.start_all();
    cluster.wait_ready();
    cluster.apply(&module("steady", ""));
    // What a node is told when its watch begins is no change to it: each of them has begun once it runs something.
    cluster.apply_and_wait(&bucket("/before", "steady", &trace(&cluster, "before"), "multi_node: true"));
    let mut cases = Cases::of("traces");
    cases.run("one trace from a command over every node to the starts", || everywhere(&cluster, &collector));
    cases.run("a placement is a part of what asked for it, and the start of the placement", || {
        placed(&cluster, &collector);
    });
    cases.run("what is refused is told as such", || refused(&cluster, &collector));
    cases.run("a collector that is down costs spans and nothing else", || down(&cluster, &mut collector));
    cases.run("a collector is reached by https, and believed if its authority is named", || by_tls(&cluster));
    cases.end();
}

/// All spans of the trace in which starts of a bucket are told, once as many of each name as are awaited, the command
/// itself, and whatever any of them is a part of are there: each node sends what it has in its own time. A node may start it
/// before it says its verdict.
fn whole(collector: &Collector, bucket: &str, awaited: &[(&str, usize)]) -> Vec<Seen> {
    wait_for(&format!("{awaited:?} of {bucket} are told"), TOLD_WITHIN, || {
        let seen = collector.seen();
        let of_bucket = |span: &&Seen| {
            span.name == "sheaf.start" && span.attributes.get("sheaf.bucket").is_some_and(|it| it == bucket)
        };
        let traces: BTreeSet<&String> = seen.iter().filter(of_bucket).map(|span| &span.trace).collect();
        let [trace] = traces.into_iter().collect::<Vec<_>>()[..] else {
            return Err(format!("not one trace with a start of {bucket}: {}", told(&seen)));
        };
        let spans: Vec<Seen> = seen.iter().filter(|span| span.trace == *trace).cloned().collect();
        let has_all = awaited.iter().all(|(name, count)| named(&spans, name).len() >= *count);
        let has_root = spans.iter().any(|span| span.parent.is_empty());
        let is_placed = |span: &Seen| span.parent.is_empty() || above(&spans, span).is_some();
        if has_all && has_root && spans.iter().all(is_placed) { Ok(spans) } else { Err(told(&spans)) }
    })
}

/// Spans, a line each.
fn told(spans: &[Seen]) -> String {
    let line = |span: &Seen| {
        let Seen { trace, span: id, parent, name, instance, failed, .. } = span;
        let failed = if *failed { ", failed" } else { "" };
        format!("\n  {trace} {id} of {parent:16} {name} by {instance}{failed}")
    };
    spans.iter().map(line).collect()
}

/// What a span is a part of.
fn above<'a>(spans: &'a [Seen], span: &Seen) -> Option<&'a Seen> {
    spans.iter().find(|above| above.span == span.parent)
}

/// Names from a span up to the root.
fn way_up<'a>(spans: &'a [Seen], from: &'a Seen) -> Vec<&'a str> {
    let mut way = vec![from.name.as_str()];
    let mut span = from;
    while !span.parent.is_empty() {
        span = above(spans, span)
            .unwrap_or_else(|| panic!("what {} is a part of, in {}", span.name, told(spans)));
        way.push(&span.name);
    }
    way
}

fn named<'a>(spans: &'a [Seen], name: &str) -> Vec<&'a Seen> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn everywhere(cluster: &Cluster, collector: &Collector) {
    let text = bucket("/everywhere", "steady", &trace(cluster, "everywhere"), "multi_node: true");
    // Through a node that carries it on.
    let by = cluster.follower();
    by.cli_with(&["apply", "-f", "-", "--wait"], text.as_bytes()).ok();
    let spans = whole(
        collector,
        "/everywhere",
        &[("sheaf.start", 3), ("sheaf.gates", 3), ("sheaf.spawn", 3), ("sheaf.apply", 1)],
    );
    for span in &spans {
        let way = way_up(&spans, span);
        assert_eq!(way.last(), Some(&"sheaf apply"), "{way:?}");
        let is_well = !span.failed || span.name.starts_with("sheaf.v1.");
        assert!(span.times.0 <= span.times.1 && is_well, "{span:#?}");
    }
    let starts = named(&spans, "sheaf.start");
    let call = "sheaf.v1.ClusterService/Apply";
    for start in &starts {
        let way = way_up(&spans, start);
        assert_eq!(way, ["sheaf.start", "sheaf.propose", call, call, "sheaf apply"]);
    }
    for name in ["sheaf.start", "sheaf.gates", "sheaf.spawn"] {
        let on: BTreeSet<String> = named(&spans, name).iter().map(|span| span.instance.clone()).collect();
        assert_eq!(on, names(1..=3), "{name} in {}", told(&spans));
    }
    let leader = cluster.leader().name();
    for name in ["sheaf.propose", "sheaf.apply"] {
        let found = named(&spans, name);
        assert!(found.len() == 1 && found[0].instance == leader, "{name} in {}", told(&spans));
    }
    let hops: BTreeSet<&str> = named(&spans, call).iter().map(|span| span.instance.as_str()).collect();
    assert_eq!(hops, BTreeSet::from([leader.as_str(), by.name().as_str()]));
    let roots: Vec<&Seen> = spans.iter().filter(|span| span.parent.is_empty()).collect();
    assert!(roots.len() == 1 && roots[0].instance.starts_with("cli@"), "{roots:#?}");
    cluster.delete(&["/everywhere"]);
}

fn placed(cluster: &Cluster, collector: &Collector) {
    cluster.apply_and_wait(&bucket("/single", "steady", &trace(cluster, "single"), ""));
    let spans = whole(collector, "/single", &[("sheaf.start", 1)]);
    let start = named(&spans, "sheaf.start")[0];
    let way = way_up(&spans, start);
    assert_eq!(way[..3], ["sheaf.start", "sheaf.place", "sheaf.propose"], "{}", told(&spans));
    let node = only_node(&cluster.status("/single"));
    assert_eq!(start.instance, node);
    assert!(start.attributes.contains_key("sheaf.epoch"), "{start:#?}");
    let place = named(&spans, "sheaf.place")[0];
    assert_eq!(place.attributes.get("sheaf.node"), Some(&node));
    assert_eq!(place.instance, cluster.leader().name());
    cluster.delete(&["/single"]);
}

fn refused(cluster: &Cluster, collector: &Collector) {
    cluster.cli(&["bucket", "resume", "/no/such"]).exits(3);
    wait_for("the command that failed is told", TOLD_WITHIN, || {
        let seen = collector.seen();
        let root = seen.iter().find(|span| span.name == "sheaf bucket" && span.failed);
        let root = root.ok_or_else(|| told(&seen))?;
        let call = seen.iter().find(|span| span.trace == root.trace && span.name.ends_with("/Resume"));
        match call {
            Some(call) if call.failed => Ok(()),
            _ => Err(told(&seen)),
        }
    });
}

/// What an agent counts under this name.
fn counted(agent: &Agent, name: &str) -> Result<f64, String> {
    let answer = agent.metrics().map_err(|error| error.to_string())?;
    let value = answer.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.ok_or_else(|| format!("no {name} in {answer}"))
}

fn down(cluster: &Cluster, collector: &mut Collector) {
    collector.go_down();
    let leader = cluster.leader();
    let before = counted(leader, "sheaf_trace_spans_dropped_total").expect("it is counted from the start");
    cluster.apply_and_wait(&bucket("/unseen", "steady", &trace(cluster, "unseen"), "multi_node: true"));
    wait_for("spans are dropped, and counted", TOLD_WITHIN, || {
        let now = counted(leader, "sheaf_trace_spans_dropped_total")?;
        if now > before { Ok(()) } else { Err(format!("{now}")) }
    });
    cluster.assert_alive();
    assert_eq!(cluster.leader().name(), leader.name(), "nobody was disturbed");
    collector.come_up();
    cluster.apply_and_wait(&bucket("/seen", "steady", &trace(cluster, "seen"), "multi_node: true"));
    whole(collector, "/seen", &[("sheaf.start", 3)]);
    assert!(counted(leader, "sheaf_trace_spans_exported_total").is_ok_and(|sent| sent > 0.0));
    cluster.delete(&["/unseen", "/seen"]);
}

/// One agent sends its traces elsewhere from now on, and believes that authority.
fn sends(cluster: &Cluster, agent: &Agent, collector: &Collector, authority: &str) {
    let file = cluster.machine().write("collector-ca.pem", authority).display().to_string();
    let more = format!("[telemetry]\notlp = {:?}\nca_file = {file:?}\n", collector.endpoint());
    agent.change(|plan| plan.more = more);
    agent.stop();
    agent.start();
    cluster.wait_back(agent);
}

fn by_tls(cluster: &Cluster) {
    let (known, stranger): (Issued, Issued) = (issued(&["127.0.0.1"]), issued(&["127.0.0.1"]));
    let collector = Collector::secured(&Tls::showing(&known.certificate, &known.key));
    let agent = cluster.follower();
    sends(cluster, agent, &collector, &stranger.authority);
    let everywhere = |name: &str| bucket(name, "steady", &trace(cluster, &name[1..]), "multi_node: true");
    cluster.apply_and_wait(&everywhere("/unbelieved"));
    wait_for("spans are dropped, and counted", TOLD_WITHIN, || {
        let dropped = counted(agent, "sheaf_trace_spans_dropped_total")?;
        if dropped > 0.0 { Ok(()) } else { Err(agent.log_tail()) }
    });
    assert_eq!(collector.seen(), [], "nothing is sent to whom nobody vouches for");
    sends(cluster, agent, &collector, &known.authority);
    cluster.apply_and_wait(&everywhere("/believed"));
    wait_for("spans come by TLS", TOLD_WITHIN, || {
        let seen = collector.seen();
        let is_start = |span: &Seen| span.name == "sheaf.start" && span.instance == agent.name();
        if seen.iter().any(is_start) { Ok(()) } else { Err(format!("{}\n{}", told(&seen), agent.log_tail())) }
    });
    let config = agent.config().display().to_string();
    let wrong = ["agent", "check", "--config", &config, "--set", "telemetry.ca_file=/no/such", "-o", "json"];
    let said = cli::run(cluster.machine(), &wrong, b"").calm().stdout;
    assert!(said.contains("[telemetry] ca_file: ") && said.contains("/no/such"), "{said}");
    cluster.delete(&["/unbelieved", "/believed"]);
}
