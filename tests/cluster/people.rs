//! What people do with a cluster: wait, plan, follow, label.

use std::time::Duration;

use rustix::process::Signal;
use sheaf_tests::cluster::SOON;
use sheaf_tests::documents::{bucket, module, program};
use sheaf_tests::{Cases, Cluster, wait_for};

use crate::multi::config;
use crate::scene::{affinity, event_kinds, explain, gates, names, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("--wait exits with 0, 4 and 5", || wait_codes(cluster));
    cases.run("plan exits with 0 and 10, and shows where and why not", || plan(cluster));
    cases.run("plan of a module that comes with it, and of one that is newer", || plan_along(cluster));
    cases.run("--latest takes the newest version of a module, planned and applied", || latest(cluster));
    cases.run("a watch says what no row of a bucket says", || watch(cluster));
    cases.run("logs of several nodes, and followed", || logs(cluster));
    cases.run("events, listed and followed", || events(cluster));
    cases.run("labels that are given count in rules", || labels(cluster));
    cases.run("pages of nodes leave none out and show none twice", || pages(cluster));
    cases.run("selectors, pages, names", || lists(cluster));
}

fn wait_codes(cluster: &Cluster) {
    let trace = trace(cluster, "codes");
    let wait = |document: &str, timeout: &str| {
        cluster.cli_with(&["apply", "-f", "-", "--wait", "--timeout", timeout], document.as_bytes())
    };
    wait(&bucket("/codes/runs", "steady", &trace, ""), "20s").ok();
    let refused = wait(&bucket("/codes/nowhere", "refusing", &trace, ""), "20s").exits(5);
    refused.mentions(&["/codes/nowhere is unplaced", "sheaf bucket explain /codes/nowhere"]);
    let nowhere = wait(
        &bucket("/codes/nobody", "steady", &trace, "multi_node: true\nnode_list_rules: [no-such-host]"),
        "20s",
    );
    nowhere.exits(5).mentions(&["/codes/nobody is unplaced"]);
    // It crashes and is started again, often, and for longer than anybody waits here.
    let module = program(
        "flapping",
        "exit 1",
        "restart: {policy: always, backoff: 50ms..100ms, give_up_after: 99 in 10m}",
    );
    let late = wait(&[module, bucket("/codes/late", "flapping", &trace, "")].concat(), "1s").exits(4);
    late.mentions(&["the time to wait is over: /codes/late is "]);
    cluster.delete(&["/codes/runs", "/codes/nowhere", "/codes/nobody", "/codes/late"]);
}

fn plan(cluster: &Cluster) {
    let trace = trace(cluster, "plan");
    let ask = |document: &str, json: bool| {
        let form = if json { "json" } else { "table" };
        cluster.cli_with(&["bucket", "plan", "-f", "-", "-o", form], document.as_bytes())
    };
    let first = bucket(
        "/plan",
        "picky",
        &trace,
        &format!("multi_node: true\nnode_list_rules: ['-n1']\n{}", config(&trace, 1)),
    );
    let planned = ask(&first, true).exits(10).json();
    assert_eq!(planned[0]["outcome"], "created", "{planned:#}");
    let eligible = |planned: &serde_json::Value| -> Vec<String> {
        let nodes = planned[0]["nodes"].as_array().into_iter().flatten();
        nodes
            .filter(|node| node["eligible"] == true)
            .filter_map(|node| Some(node["node"].as_str()?.to_owned()))
            .collect()
    };
    assert_eq!(eligible(&planned), ["n2", "n3"], "{planned:#}");
    let text = ask(&first, false).exits(10).stdout;
    for part in ["would be created", "would run on 2 of 6 nodes", "excluded by rule \"-n1\""] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    cluster.cli(&["bucket", "status", "/plan"]).exits(3);
    cluster.apply_and_wait(&first);
    ask(&first, false).exits(0);
    let second = bucket("/plan", "picky", &trace, &format!("multi_node: true\n{}", config(&trace, 2)));
    let planned = ask(&second, true).exits(10).json();
    assert_eq!(planned[0]["outcome"], "updated");
    let differences = planned[0]["differences"].as_array().cloned().unwrap_or_default();
    let value =
        differences.iter().find(|one| one["path"] == "config.value").expect("the changed value is shown");
    assert_eq!((&value["before"], &value["after"]), (&1.into(), &2.into()));
    assert!(
        differences
            .iter()
            .any(|one| one["path"].as_str().is_some_and(|path| path.starts_with("node_list_rules")))
    );
    assert_eq!(affinity(&cluster.status("/plan")), names([2, 3]), "nothing changed");
    ask("kind: Bucket\nname: /plan\nmodule: none\n", false).exits(1).mentions(&["there is no module none"]);
    cluster.delete(&["/plan"]);
}

/// Nodes have their numbers as they came, and are shown by name.
fn pages(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/pages", "steady", &trace(cluster, "pages"), "multi_node: true"));
    for (list, key) in [(&["node", "list"][..], "name"), (&["node", "affinity"], "node")] {
        let shown = |rows: &serde_json::Value| -> Vec<String> {
            let rows = rows.as_array().into_iter().flatten();
            rows.map(|row| format!("{} {}", row["bucket"], row[key])).collect()
        };
        let whole = shown(&cluster.json(&[list, &["-o", "json"]].concat()));
        assert!(whole.len() >= 6, "{whole:?}");
        let (mut after, mut paged) = (Vec::new(), Vec::new());
        loop {
            let after_it: Vec<&str> = after.iter().map(String::as_str).collect();
            let page = cluster.cli(&[list, &["--limit", "1", "-o", "json"], &after_it[..]].concat()).ok();
            paged.extend(shown(&page.json()));
            let Some((_, cursor)) = page.stderr.split_once("--after ") else { break };
            let cursor = cursor.split(',').next().expect("a cursor");
            after = vec!["--after".to_owned(), cursor.to_owned()];
            assert!(paged.len() <= whole.len(), "{paged:?} of {whole:?}");
        }
        assert_eq!(paged, whole);
    }
    cluster.delete(&["/pages"]);
}

fn logs(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket(
        "/talk",
        "talker",
        &trace(cluster, "talk"),
        "multi_node: true\nnode_list_rules: [n1, n2, n3]",
    ));
    let all = wait_for("each node's line", SOON, || {
        let logs = cluster.cli(&["bucket", "logs", "/talk"]).ok();
        let heard = |n: usize| logs.stdout.contains(&format!("n{n} | hello from n{n}\n"));
        if (1..=3).all(heard) { Ok(logs) } else { Err(logs.to_string()) }
    });
    assert!(all.stdout.contains("n2 | n2 complains\n"), "stderr of the program, too: {all}");
    let one = cluster.cli(&["bucket", "logs", "/talk", "--node", "n2"]).ok();
    assert!(one.stdout.contains("n2 | ") && !one.stdout.contains("n1 | "), "{one}");
    let nodes = cluster.json(&["node", "list", "-o", "json"]);
    let node = nodes.as_array().into_iter().flatten().find(|node| node["name"] == "n2").expect("n2");
    let by_id = cluster.cli(&["bucket", "logs", "/talk", "--node", &node["id"].to_string()]).ok();
    assert_eq!(by_id.stdout, one.stdout);
    let typo = cluster.cli(&["bucket", "logs", "/talk", "--node", "n22"]).exits(3);
    typo.mentions(&["there is no node n22; did you mean n2?"]);
    let tail = cluster.cli(&["bucket", "logs", "/talk", "--tail", "1", "-o", "json"]).ok().json_lines();
    for node in ["n1", "n2", "n3"] {
        let printed = tail.iter().filter(|line| line["stream"] != "sheaf" && line["node"] == node).count();
        assert_eq!(printed, 1, "one line of {node}: {tail:?}");
    }
    assert_eq!(tail.len(), 3, "and nothing else: {tail:?}");
    // Followed by a node that runs none of it; a restart on each node is heard.
    let follower = cluster.agent(6).follow(&["bucket", "logs", "/talk", "-f", "--tail", "0"]);
    cluster.cli(&["bucket", "restart", "/talk", "--wait"]).ok();
    for number in 1..=3 {
        let wanted = format!("n{number} | hello from n{number}");
        follower.wait_for_line(&wanted, SOON, |line| line == wanted);
    }
    // One that comes to it later is heard as well.
    cluster.apply_and_wait(&bucket(
        "/talk",
        "talker",
        &trace(cluster, "talk"),
        "multi_node: true\nnode_list_rules: [n1, n2, n3, n4]",
    ));
    follower.wait_for_line("a line of n4", SOON, |line| line == "n4 | hello from n4");
    assert_eq!(follower.end(Signal::INT), 130);
    let previous = cluster.cli(&["bucket", "logs", "/talk", "--node", "n1", "--previous"]).ok();
    assert!(previous.stdout.contains("n1 | hello from n1"), "{previous}");
    since(cluster);
    cluster.cli(&["bucket", "logs", "/no/such"]).exits(3).calm();
    cluster.delete(&["/talk"]);
}

/// Two runs of two lines each on n1.
fn since(cluster: &Cluster) {
    let ask = |more: &[&str]| {
        let args = ["bucket", "logs", "/talk", "--node", "n1", "-o", "json"];
        cluster.cli(&[&args[..], more].concat()).ok().json_lines()
    };
    let all = wait_for("both runs have said all", SOON, || {
        let all = ask(&[]);
        if all.len() == 4 { Ok(all) } else { Err(format!("{all:?}")) }
    });
    let at = all[2]["at"].as_str().expect("a time").to_owned();
    let from_then: Vec<_> =
        all.iter().filter(|line| line["at"].as_str() >= Some(at.as_str())).cloned().collect();
    assert!(from_then.len() < all.len(), "the second run began later: {all:?}");
    assert_eq!(ask(&["--since", &at]), from_then);
    assert_eq!(ask(&["--since", "1h"]), all);
    assert_eq!(ask(&["--since", "2999-01-01T00:00:00Z"]), Vec::<serde_json::Value>::new());
}

fn plan_along(cluster: &Cluster) {
    let trace = trace(cluster, "along");
    let ask = |documents: &[String], form: &str| {
        cluster.cli_with(&["bucket", "plan", "-f", "-", "-o", form], documents.concat().as_bytes()).exits(10)
    };
    // Nodes are asked about a module that none of them has.
    let checked = module("along", "can_run_on_this_node: [{label: three}]");
    let one = bucket("/along", "along", &trace, "max_parallel: 2");
    let planned = ask(&[checked.clone(), one.clone()], "json").json();
    assert_eq!((&planned[0]["outcome"], &planned[1]["outcome"]), (&"created".into(), &"created".into()));
    let nodes = planned[1]["nodes"].as_array().expect("every node");
    let eligible =
        nodes.iter().filter(|node| node["eligible"] == true).filter_map(|node| node["node"].as_str());
    assert_eq!(eligible.collect::<Vec<_>>(), ["n1", "n2", "n3"], "{planned:#}");
    let text = ask(&[checked.clone(), one.clone()], "table");
    assert!(text.stdout.contains("would run on one of the 3 available of 6 nodes"), "{text}");
    assert!(text.stderr.contains("warning: Bucket /along: max_parallel has no effect"), "as apply: {text}");
    cluster.cli(&["module", "status", "along"]).exits(3).calm();
    // A newer version that comes along changes nothing for a bucket that has another.
    cluster.apply(&[checked, one.clone()].concat());
    let newer = module("along", "").replace("version: '1'", "version: '2'");
    let planned = ask(&[newer.clone(), one], "json").json();
    assert_eq!((&planned[0]["outcome"], &planned[1]["outcome"]), (&"created".into(), &"unchanged".into()));
    assert_eq!(planned[1]["differences"], serde_json::json!([]), "{planned:#}");
    let wanted = bucket("/along", "along@2", &trace, "max_parallel: 2");
    let planned = ask(&[newer, wanted], "json").json();
    assert_eq!(planned[1]["differences"][0]["after"], "along@2", "{planned:#}");
    assert_eq!(
        planned[1]["nodes"].as_array().map(|nodes| nodes.iter().all(|node| node["eligible"] == true)),
        Some(true)
    );
    cluster.delete(&["/along"]);
}

fn latest(cluster: &Cluster) {
    let document = bucket("/latest", "renewed", &trace(cluster, "latest"), "suspended: true");
    let first = module("renewed", "");
    cluster.apply(&[first.clone(), document.clone()].concat());
    cluster.apply(&first.replace("version: '1'", "version: '2'"));
    let ask = |verb: &[&str], more: &[&str]| {
        let args = [verb, &["-f", "-", "-o", "json"], more].concat();
        cluster.cli_with(&args, document.as_bytes())
    };
    let version = || cluster.status("/latest")["module"].clone();
    assert_eq!(ask(&["apply"], &[]).ok().json()[0]["outcome"], "unchanged", "it keeps what it has");
    ask(&["bucket", "plan"], &[]).exits(0);
    let planned = ask(&["bucket", "plan"], &["--latest"]).exits(10).json();
    let difference = &planned[0]["differences"][0];
    let told = ["path", "before", "after"].map(|key| difference[key].as_str());
    assert_eq!(told, ["module", "renewed@1", "renewed@2"].map(Some), "{planned:#}");
    assert_eq!(version(), "renewed@1", "nothing changed");
    assert_eq!(ask(&["apply"], &["--latest"]).ok().json()[0]["outcome"], "updated");
    assert_eq!(version(), "renewed@2");
    ask(&["bucket", "plan"], &["--latest"]).exits(0);
    cluster.delete(&["/latest"]);
}

fn watch(cluster: &Cluster) {
    let trace = trace(cluster, "watch");
    cluster.apply(&bucket("/watch", "refusing", &trace, "suspended: true"));
    let watching = cluster.agent(6).follow(&["bucket", "watch", "/watch", "-o", "json"]);
    let says = |state: &str| {
        watching.wait_for_line(state, SOON, |line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            line["bucket"]["state"] == state
        });
    };
    says("suspended");
    // Its row says that it is to be placed; that nobody takes it only nodes say.
    cluster.cli(&["bucket", "resume", "/watch"]).ok();
    says("unplaced");
    cluster.delete(&["/watch"]);
    watching.wait_for_line("that it is gone", SOON, |line| line.contains("\"gone\""));
    assert_eq!(watching.end(Signal::INT), 130);
}

fn events(cluster: &Cluster) {
    let follower =
        cluster.agent(5).follow(&["events", "--follow", "--where", "subject=/events", "-o", "json"]);
    let trace = trace(cluster, "events");
    // The follower hears what happens after it is connected: changes are made until it hears one.
    wait_for("the follower is connected", SOON, || {
        cluster.apply(&bucket("/events", "steady", &trace, "suspended: true"));
        cluster.delete(&["/events"]);
        if follower.lines().is_empty() { Err(follower.talk()) } else { Ok(()) }
    });
    cluster.apply_and_wait(&bucket("/events", "steady", &trace, ""));
    let bound = follower.wait_for_line("the binding", SOON, |line| line.contains("\"bucket.bound\""));
    let event: serde_json::Value = serde_json::from_str(&bound).expect("one object a line");
    for field in ["revision", "at", "kind", "subject", "actor", "node", "before", "after", "message"] {
        assert!(!event[field].is_null(), "{field} in {event}");
    }
    follower.wait_for_line("that it runs", SOON, |line| line.contains("\"instance.running\""));
    cluster.cli(&["bucket", "suspend", "/events", "--wait"]).ok();
    follower.wait_for_line("the switch", SOON, |line| line.contains("\"bucket.suspended\""));
    assert_eq!(follower.end(Signal::INT), 130);
    let kinds = event_kinds(cluster, "/events");
    for kind in ["bucket.created", "bucket.bound", "instance.running", "bucket.suspended", "bucket.deleted"] {
        assert!(kinds.iter().any(|found| found == kind), "{kind} in {kinds:?}");
    }
    let since = event["revision"].to_string();
    let later = cluster
        .cli(&["events", "--since", &since, "--where", "subject=/events", "-o", "json"])
        .ok()
        .json_lines();
    assert!(later.iter().all(|one| one["revision"].as_u64() > event["revision"].as_u64()), "{later:?}");
    assert!(later.iter().any(|one| one["kind"] == "bucket.suspended"), "{later:?}");
    since_a_time(cluster, event["at"].as_str().expect("a time"));
    cluster.delete(&["/events"]);
}

/// What happened to `/events` at a time and after it, listed and followed.
fn since_a_time(cluster: &Cluster, at: &str) {
    let only = ["--where", "subject=/events", "-o", "json"];
    let list = |more: &[&str]| cluster.cli(&[&["events"], more, &only[..]].concat()).ok().json_lines();
    let all = list(&["--all"]);
    let mut wanted = all.clone();
    wanted.retain(|event| event["at"].as_str() >= Some(at));
    assert!(!wanted.is_empty() && wanted.len() < all.len(), "some are older: {all:?}");
    // Something more may have happened by now.
    let listed = list(&["--since", at]);
    assert_eq!(listed.get(..wanted.len()), Some(&wanted[..]), "{listed:?}");
    assert!(list(&["--since", "1h"]).starts_with(&all), "all of it was in the last hour");
    assert_eq!(list(&["--since", "2999-01-01T00:00:00Z"]), Vec::<serde_json::Value>::new());
    let follower = cluster.agent(5).follow(&[&["events", "--follow", "--since", at], &only[..]].concat());
    let lines = wait_for("the same is followed", SOON, || {
        let lines = follower.lines();
        if lines.len() < wanted.len() { Err(follower.talk()) } else { Ok(lines) }
    });
    let event = |line: &String| -> serde_json::Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let followed: Vec<_> = lines.iter().take(wanted.len()).map(event).collect();
    assert_eq!(followed, wanted);
    assert_eq!(follower.end(Signal::INT), 130);
}

fn labels(cluster: &Cluster) {
    let trace = trace(cluster, "labels");
    let document =
        bucket("/labels", "steady", &trace, "multi_node: true\nnode_list_rules: ['$gpu*', '-$old']");
    cluster.apply(&document);
    cluster.wait_state("/labels", "unplaced");
    cluster.cli(&["node", "label", "n2", "gpu=a"]).ok();
    cluster.cli(&["node", "label", "n5", "gpu=b", "rack=7"]).ok();
    cluster.wait_status("/labels", "runs on n2 and n5", |status| {
        status["running"] == 2 && affinity(status) == names([2, 5])
    });
    let rows = cluster.json(&["node", "list", "-l", "gpu=b", "-o", "json"]);
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["name"]), (Some(1), &"n5".into()), "{rows:#}");
    cluster.cli(&["node", "label", "n2", "old"]).ok();
    cluster
        .wait_status("/labels", "left n2", |status| status["running"] == 1 && affinity(status) == names([5]));
    let [_, rules, _] = gates(&explain(cluster, "/labels"), "n2");
    assert_eq!(rules.0, Some(false));
    assert!(rules.1.contains("-$old"), "{}", rules.1);
    let fixed = cluster.cli(&["node", "label", "n1", "three-"]).exits(1).calm();
    assert!(fixed.stderr.contains("comes from the node's config file"), "{fixed}");
    for (node, label) in [("n2", "gpu=a-"), ("n2", "old-"), ("n5", "gpu=b-"), ("n5", "rack=7-")] {
        cluster.cli(&["node", "label", node, label]).ok();
    }
    cluster.wait_state("/labels", "unplaced");
    cluster.cli(&["node", "label", "n99", "x"]).exits(3).calm();
    cluster.delete(&["/labels"]);
}

fn lists(cluster: &Cluster) {
    let trace = trace(cluster, "lists");
    let named = |n: u32| {
        bucket(
            &format!("/lists/{n:02}"),
            "steady",
            &trace,
            &format!("suspended: true\nlabels: {{half: '{}'}}", n % 2),
        )
    };
    let documents: String = (0..12).map(named).collect();
    cluster.apply(&[module("listed", ""), documents].concat());
    let names_of = |args: &[&str]| -> Vec<String> {
        let output = cluster.cli(&[&["bucket", "list", "-o", "name"], args].concat()).ok();
        output.stdout.lines().map(str::to_owned).collect()
    };
    let odd = names_of(&["-l", "half=1"]);
    assert_eq!(odd, ["/lists/01", "/lists/03", "/lists/05", "/lists/07", "/lists/09", "/lists/11"]);
    assert_eq!(names_of(&["--where", "name=/lists/0?,state=suspended"]).len(), 10);
    let page =
        cluster.cli(&["bucket", "list", "--where", "name=/lists/*", "--limit", "5", "-o", "name"]).ok();
    assert_eq!(page.stdout.lines().count(), 5);
    let cursor = page.stderr.split("--after ").nth(1).and_then(|rest| rest.split([' ', ',', '\n']).next());
    let cursor = cursor.unwrap_or_else(|| panic!("the cursor to go on with: {page}"));
    let rest = names_of(&["--where", "name=/lists/*", "--after", cursor]);
    assert_eq!((rest.len(), rest[0].as_str()), (7, "/lists/05"), "{rest:?}");
    assert_eq!(names_of(&["--where", "name=/lists/*", "--all"]).len(), 12);
    let modules = cluster.cli(&["module", "list", "--where", "name=liste?,version=1", "-o", "name"]).ok();
    assert_eq!(modules.stdout, "listed@1\n");
    let all: Vec<String> = (0..12).map(|n| format!("/lists/{n:02}")).collect();
    cluster.delete(&all.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("they are gone", Duration::from_secs(5), || {
        let left = cluster.try_json(&["bucket", "list", "--where", "name=/lists/*", "-o", "json"])?;
        if left.as_array().is_some_and(Vec::is_empty) { Ok(left) } else { Err(left.to_string()) }
    });
}
