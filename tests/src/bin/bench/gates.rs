//! Many buckets: how long one agent takes for all gates, and how soon the first page of the list is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sheaf_engine::gates::{CheckAnswer, Here};
use sheaf_engine::node::{Action, Identity, Input, NodeState, step};
use sheaf_model::watch::{WatchItem, WatchedBucket};
use sheaf_model::{
    BucketSpec, Document, ModuleSpec, Moment, NodeId, NodeListRules, Revision, Settings, document,
};
use sheaf_tests::{Agent, Cluster, Machine};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times, brief};
use crate::scene;

/// A module with checks of both kinds; the machine's answers to them are at hand here.
const MODULE: &str = "kind: Module\nname: bench\nversion: '1'\nruntime: exec\nexec: {command: /bin/sleep, args: ['100000']}\n\
    can_run_on_this_node:\n  - file: /bin/sleep\n  - memory_available: 1MiB\n  - label: zone=a\n";
/// Of every bucket, as people write them; and the same with a regular expression, which takes far longer to compile.
const RULES: [(&str, &[&str]); 2] = [
    ("globs and labels", &["+bench-*", "+$gpu", "-bench-9*"]),
    ("one regular expression of four", &["+bench-*", "+$gpu", "+/^node[0-9]+$/i", "-bench-9*"]),
];

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let (buckets, trials) = (ask.buckets(10_000), ask.trials(50));
    for (rules, texts) in RULES {
        gates(figures, rules, texts, buckets, trials.min(20));
    }
    list(figures, machine, buckets, trials);
}

fn gates(figures: &Figures, rules: &str, texts: &[&str], buckets: usize, trials: usize) {
    let items = items(texts, buckets);
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..trials {
        let mut node = new_node();
        let watch = items.clone();
        first.push(timed(&mut node, Input::Watch(watch), buckets));
        // Its config was read again, and now allows other modules, too: everything is asked anew.
        let here = Here { allow: vec!["bench".to_owned(), "other-*".to_owned()], ..here() };
        again.push(timed(&mut node, Input::Config(here), buckets));
    }
    let (first, again): (Times, Times) = (first.into_iter().collect(), again.into_iter().collect());
    let limit = Duration::from_millis(100);
    let name = |what: &str| {
        format!("all gates of {buckets} buckets on one agent, {what} (engine alone; rules: {rules})")
    };
    let figure = |what: &str, times: &Times| {
        let (text, figure) = ("100 ms (p50)", times.to_string());
        figures.figure(&name(what), &figure, &Goal::within(text, times.median(), limit));
    };
    figure("at first", &first);
    figure("after its config changed", &again);
}

fn here() -> Here {
    Here {
        name: "n1".to_owned(),
        hostname: "bench-01".to_owned(),
        labels: vec!["zone=a".to_owned(), "import".to_owned()],
        allow: vec!["bench".to_owned()],
        deny: vec!["denied-*".to_owned()],
    }
}

fn new_node() -> NodeState {
    let identity = Identity { node: NodeId(1), boot: "b1".into() };
    let mut node = NodeState::new(identity, here());
    step(&mut node, Input::Found(Vec::new()), now());
    step(&mut node, Input::SessionOpened { start_in: sheaf_model::Span(0) }, now());
    node
}

fn now() -> Moment {
    Moment(1_000_000)
}

/// Takes in an input and everything that the machine answers then, until there is a verdict on every bucket.
///
/// # Panics
/// If the gates of one did not all pass: then less was measured than is said.
fn timed(node: &mut NodeState, input: Input, buckets: usize) -> Duration {
    let begun = Instant::now();
    let mut inputs = vec![input];
    while let Some(input) = inputs.pop() {
        for action in step(node, input, now()) {
            if let Action::Ask(question) = action {
                let answers = question.checks.iter().map(|_| CheckAnswer::Holds).collect();
                inputs.push(Input::Answered(question.key, question.part, answers));
            }
        }
    }
    let took = begun.elapsed();
    let passed = |it: &&sheaf_model::Verdict| it.gates.iter().all(|gate| gate.pass == Some(true));
    let eligible = node.verdicts().filter(passed).count();
    assert_eq!(eligible, buckets, "this node may run every bucket");
    took
}

/// What the watch says to a node that knows nothing: the module, and buckets that are bound nowhere.
fn items(texts: &[&str], buckets: usize) -> Vec<WatchItem> {
    let spec = module();
    let rules = NodeListRules::parse(texts).expect("these rules are well formed");
    let bucket = |number: usize| {
        let mut spec = BucketSpec::new(scene::bucket_name(&format!("/gates/{number:07}")), scene::module());
        spec.node_list_rules = rules.clone();
        let revision = Revision(2 + number as u64);
        WatchItem::Bucket(WatchedBucket {
            spec: Arc::new(spec),
            revision,
            basis: revision,
            suspended: false,
            gave_up: false,
            purge: None,
            trial: None,
        })
    };
    let mut items = vec![WatchItem::Reset, WatchItem::Settings(Settings::default())];
    items.push(WatchItem::Module(Arc::new(spec)));
    items.extend((0..buckets).map(bucket));
    items.push(WatchItem::Synced(Revision(2 + buckets as u64)));
    items
}

fn module() -> ModuleSpec {
    let parsed = document::parse("", MODULE.as_bytes());
    assert_eq!(parsed.defects, [], "the module of this benchmark is well formed");
    match parsed.documents.into_iter().next() {
        Some(Document::Module(spec)) => *spec,
        other => panic!("a module: {other:?}"),
    }
}

/// Three members and one that is none.
fn list(figures: &Figures, machine: &Arc<Machine>, buckets: usize, trials: usize) {
    let cluster = scene::cluster(machine, "", 4);
    let took = scene::fill(&cluster, buckets);
    figures.note(&format!("{buckets} buckets registered in {}", brief(took)));
    let leader = cluster.leader().name();
    let voters: Vec<String> = cluster.voters().iter().map(|agent| agent.name()).collect();
    let follower = cluster.agents().iter().find(|it| it.name() != leader && voters.contains(&it.name()));
    let other = cluster.agents().iter().find(|it| !voters.contains(&it.name()));
    let asked = [
        ("the leader", Some(cluster.leader())),
        ("a follower", follower),
        ("a node that is no member", other),
    ];
    for (who, agent) in asked {
        let Some(agent) = agent else {
            figures.note(&format!("the list was NOT ASKED of {who}: there is none"));
            continue;
        };
        pages(figures, who, agent, buckets, trials);
    }
    by_command(figures, &cluster, trials.min(10));
    scene::end(cluster);
}

fn pages(figures: &Figures, who: &str, agent: &Agent, buckets: usize, trials: usize) {
    let expected = buckets.min(1000);
    let times: Times = scene::runtime().block_on(async {
        let client = scene::client(&agent.address());
        let mut times = Vec::new();
        // The first one connects, and does not count.
        for trial in 0..=trials {
            let page = scene::first_page(&client).await;
            let (took, rows) = page.unwrap_or_else(|error| panic!("asking {who}: {error}"));
            assert_eq!(rows, expected, "rows of the first page of {who}");
            times.extend((trial > 0).then_some(took));
        }
        times.into_iter().collect()
    });
    let name = format!("first page ({expected} rows) of {buckets} buckets, asked of {who}");
    let goal = Goal::within("50 ms (p50)", times.median(), Duration::from_millis(50));
    figures.figure(&name, &times.to_string(), &goal);
}

fn by_command(figures: &Figures, cluster: &Cluster, trials: usize) {
    let times: Times = (0..trials)
        .map(|_| {
            let begun = Instant::now();
            cluster.cli(&["bucket", "list", "--limit", "1000"]).ok();
            begun.elapsed()
        })
        .collect();
    figures.aside("`sheaf bucket list`, the whole command", &times.to_string());
}
