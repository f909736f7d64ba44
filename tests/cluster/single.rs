//! Single-node buckets: which node gets one, and why.

use std::time::{Duration, Instant};

use sheaf_tests::documents::{bucket, module};
use sheaf_tests::{Cases, Cluster, processes, wait_for};

use crate::scene::{affinity, epoch, explain, gates, names, only_node, pids, trace};

pub(crate) fn cases(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A1 no node allows the module", || a1(cluster));
    cases.run("A2 every node refuses in gate 3", || a2(cluster));
    cases.run("A3 one instance on one of five", || a3(cluster));
}

pub(crate) fn cases_of_six(cases: &mut Cases, cluster: &Cluster) {
    cases.run("A4 three available, three refuse", || a4(cluster));
    cases.run("A5 three available, three do not answer", || a5(cluster));
}

fn a1(cluster: &Cluster) {
    let document = bucket("/a1", "denied", &trace(cluster, "a1"), "");
    cluster.apply(&document);
    cluster.wait_state("/a1", "unplaced");
    let explanation = explain(cluster, "/a1");
    for agent in cluster.agents() {
        let [local, rules, can_run] = gates(&explanation, &agent.name());
        let reason = "module \"denied\" is in this node's [modules] deny list (denied)";
        assert_eq!(local, (Some(false), reason.to_owned()), "{}", agent.name());
        assert_eq!((rules.0, can_run.0), (Some(true), Some(true)), "the other gates are shown all the same");
    }
    let waited = cluster.cli_with(&["apply", "-f", "-", "--wait"], document.as_bytes()).exits(5).calm();
    assert!(waited.stderr.contains("/a1 is unplaced"), "{waited}");
    cluster.delete(&["/a1"]);
}

fn a2(cluster: &Cluster) {
    // Once all have answered there is nothing to wait for. On a busy machine one try may be late, not each of them.
    let mut fastest = Duration::MAX;
    for attempt in 0..6 {
        let (name, path) = (format!("refusing-{attempt}"), format!("/a2/{attempt}"));
        let module = module(&name, "can_run_on_this_node: [{file: /no/such/program}]");
        cluster.apply(&[module, bucket(&path, &name, &trace(cluster, "a2"), "")].concat());
        let begun = Instant::now();
        cluster.wait_state(&path, "unplaced");
        fastest = fastest.min(begun.elapsed());
        if fastest < Duration::from_millis(800) {
            break;
        }
    }
    assert!(fastest < Duration::from_millis(800), "the offer window of 1 s was waited for: {fastest:?}");
    let explanation = explain(cluster, "/a2/0");
    assert_eq!(explanation["decision"], serde_json::Value::Null);
    for agent in cluster.agents() {
        let [local, rules, can_run] = gates(&explanation, &agent.name());
        assert_eq!((local.0, rules.0), (Some(true), Some(true)));
        assert_eq!(can_run, (Some(false), "/no/such/program does not exist".to_owned()), "{}", agent.name());
    }
}

fn a3(cluster: &Cluster) {
    let trace = trace(cluster, "a3");
    cluster.apply_and_wait(&bucket("/a3", "steady", &trace, ""));
    let status = cluster.status("/a3");
    assert_eq!(
        (&status["state"], &status["desired"], &status["running"]),
        (&"running".into(), &1.into(), &1.into())
    );
    let node = only_node(&status);
    let pid = pids(&status)[&node];
    assert!(processes::is_alive(u32::try_from(pid).expect("a process id")), "{status:#}");
    let starts = wait_for("the program has left its trace", Duration::from_secs(5), || {
        let starts = trace.starts();
        if starts.is_empty() { Err("no trace".to_owned()) } else { Ok(starts) }
    });
    assert_eq!(starts.len(), 1, "one start on one node: {starts:?}");
    assert_eq!((&starts[0].node, starts[0].epoch), (&node, epoch(&status)));
    assert_eq!(starts[0].revision, status["revision"].as_u64().expect("a revision"));
    let explanation = explain(cluster, "/a3");
    assert_eq!(explanation["decision"]["chosen"], node.as_str());
    assert_eq!(explanation["decision"]["epoch"], epoch(&status));
    assert!(explanation["decision"]["why"].as_str().is_some_and(|why| !why.is_empty()), "{explanation:#}");
    let runners = explanation["decision"]["runners_up"].as_array().map_or(0, Vec::len);
    assert_eq!(runners, cluster.agents().len() - 1, "{explanation:#}");
    let rows = cluster.json(&["node", "affinity", &node, "-o", "json"]);
    let row = rows.as_array().into_iter().flatten().find(|row| row["bucket"] == "/a3");
    let row = row.unwrap_or_else(|| panic!("/a3 in {rows:#}"));
    assert_eq!((&row["epoch"], &row["phase"]), (&epoch(&status).into(), &"running".into()));
    cluster.delete(&["/a3"]);
}

fn a4(cluster: &Cluster) {
    cluster.apply_and_wait(&bucket("/a4", "picky", &trace(cluster, "a4"), ""));
    let node = only_node(&cluster.status("/a4"));
    assert!(names(1..=3).contains(&node), "{node} has the label");
    let explanation = explain(cluster, "/a4");
    for name in names(4..=6) {
        let [.., can_run] = gates(&explanation, &name);
        assert_eq!(can_run.0, Some(false), "{name}: {}", can_run.1);
        assert!(can_run.1.contains("label"), "{}", can_run.1);
    }
    cluster.delete(&["/a4"]);
}

fn a5(cluster: &Cluster) {
    let slow = r#"can_run_on_this_node: [{command: [/bin/sh, -c, 'case ${node.name} in n1|n2|n3) ;; *) sleep 60 ;; esac'], timeout: 8s}]"#;
    let document = [module("slow", slow), bucket("/a5", "slow", &trace(cluster, "a5"), "")].concat();
    cluster.apply(&document);
    let status = cluster.wait_state("/a5", "running");
    assert!(affinity(&status).is_subset(&names(1..=3)), "{status:#}");
    let explanation = explain(cluster, "/a5");
    for name in names(4..=6) {
        let [.., can_run] = gates(&explanation, &name);
        assert_eq!(can_run.0, None, "{name} was not waited for: {}", can_run.1);
    }
    cluster.delete(&["/a5"]);
}
