//! Modules on one node: gate 3 of many buckets by one plugin's process, and what the keepers of many instances cost.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sheaf_tests::{Cluster, Machine, wait_for};

use crate::ask::Ask;
use crate::figure::{Figures, Goal, Times};
use crate::machine::kibibytes;
use crate::scene;

/// Instances on one node.
const INSTANCES: usize = 200;
/// Starts whose way to the program's exec is looked at.
const STARTS: usize = 40;
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(ask: &Ask, machine: &Arc<Machine>, figures: &Figures) {
    let buckets = ask.buckets(1000);
    let cluster = scene::cluster(machine, "k-", 1);
    gates(&cluster, buckets, figures);
    keepers(&cluster, "bench", "keeper", figures);
    starts(&cluster, figures);
    // The program that was asked runs, too. Its keepers have a second thread, with what it takes to speak with it.
    keepers(&cluster, "asked", "keeper of a plugin", figures);
    scene::end(cluster);
}

fn documents(count: usize, prefix: &str, module: &str, more: &str) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        let _ = write!(
            text,
            "kind: Bucket\nname: /{prefix}/{number:04}\nmodule: {module}\nmulti_node: true\n{more}\n---\n"
        );
        text
    })
}

/// One process answers for all buckets, which are switched off: only their gates are asked.
fn gates(cluster: &Cluster, buckets: usize, figures: &Figures) {
    let program = scene::this();
    let program = program.display();
    cluster.apply(&format!(
        "kind: Module\nname: asked\nversion: '1'\nruntime: plugin\nexec: {{command: '{program}', args: [race]}}\n---\n"
    ));
    // The process is there before anything is measured.
    cluster.apply(&documents(1, "first", "asked", "suspended: true"));
    let runtime = scene::runtime();
    let client = runtime.block_on(async { scene::client(&cluster.agent(1).address()) });
    let answered = |name: &str| {
        wait_for(&format!("{name} is answered"), PATIENCE, || {
            let explained = runtime.block_on(client.explain_bucket(&scene::bucket_name(name)));
            let explained = explained.map_err(|error| error.to_string())?;
            let third = explained.nodes.first().and_then(|node| node.gates.get(2)?.pass);
            if third == Some(true) { Ok(()) } else { Err(format!("{explained:?}")) }
        });
    };
    answered("/first/0000");
    let documents = documents(buckets, "asked", "asked", "suspended: true");
    let begun = Instant::now();
    cluster.apply(&documents);
    let applied = begun.elapsed();
    for number in 0..buckets {
        answered(&format!("/asked/{number:04}"));
    }
    let took = begun.elapsed();
    let figure =
        format!("{:.0} ms, apply included ({:.0} ms)", took.as_secs_f64() * 1e3, applied.as_secs_f64() * 1e3);
    let goal = Goal { text: "1 s in all", reached: Some(took <= Duration::from_secs(1)) };
    figures.figure(&format!("can_run_on_this_node of a running plugin, {buckets} buckets"), &figure, &goal);
}

/// What each keeper of many instances of a module has for itself.
fn keepers(cluster: &Cluster, module: &str, what: &str, figures: &Figures) {
    let begun = Instant::now();
    cluster.apply(&documents(INSTANCES, &format!("kept-{module}"), module, ""));
    let instances = cluster.agent(1).dir().join("instances");
    let of = |number: usize| keeper(&instances.join(format!("kept-{module}+{number:04}")));
    let pids = wait_for("all instances run", PATIENCE, || {
        let pids: Vec<u32> = (0..INSTANCES).filter_map(of).collect();
        if pids.len() == INSTANCES { Ok(pids) } else { Err(format!("{} of {INSTANCES}", pids.len())) }
    });
    let took = begun.elapsed();
    figures.aside(
        &format!("{INSTANCES} instances on one node run, module {module}"),
        &format!("{:.2} s after apply", took.as_secs_f64()),
    );
    let mut private: Vec<f64> = pids.iter().map(|pid| private_of(*pid)).collect();
    private.sort_by(f64::total_cmp);
    let (median, most) = (private[private.len() / 2], private[private.len() - 1]);
    let figure = format!("{median:.2} MiB private (p50), {most:.2} (most)");
    let goal = Goal { text: "3 MiB private", reached: Some(median <= 3.0) };
    figures.figure(&format!("{what}, one of {INSTANCES}"), &figure, &goal);
}

/// The keeper of an instance that runs.
fn keeper(instance: &Path) -> Option<u32> {
    let status: serde_json::Value =
        serde_json::from_slice(&fs::read(instance.join("status.json")).ok()?).ok()?;
    let pid = status["keeper"]["pid"].as_u64().filter(|_| status["phase"] == "Running")?;
    u32::try_from(pid).ok()
}

/// In MiB: what no other process shares.
fn private_of(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    // Far less memory than an f64 can count.
    private.filter_map(kibibytes).sum::<u64>() as f64 / 1024.0
}

/// From the plan, which the agent writes just before it spawns the keeper, until the program has made a file. The clock of
/// files is a few milliseconds coarse.
fn starts(cluster: &Cluster, figures: &Figures) {
    cluster.apply("kind: Module\nname: touch\nversion: '1'\nruntime: exec\nexec: {command: /bin/touch, args: [started]}\n---\n");
    let instances = cluster.agent(1).dir().join("instances");
    let mut times = Vec::new();
    for number in 0..STARTS {
        cluster
            .apply(&format!("kind: Bucket\nname: /started/{number:04}\nmodule: touch\nmulti_node: true\n"));
        let instance = instances.join(format!("started+{number:04}"));
        let made = |file: &str| -> Result<SystemTime, String> {
            let path = instance.join(file);
            fs::metadata(&path)
                .and_then(|it| it.modified())
                .map_err(|error| format!("{}: {error}", path.display()))
        };
        let ran = wait_for("the program has run", PATIENCE, || made("dir/started"));
        let planned = made("plan.json").unwrap_or(ran);
        times.push(ran.duration_since(planned).unwrap_or_default());
    }
    let times: Times = times.into_iter().collect();
    let goal = Goal::within("p50 10 ms", times.median(), Duration::from_millis(10));
    figures.figure("plan written until the module's program has run", &times.to_string(), &goal);
}
