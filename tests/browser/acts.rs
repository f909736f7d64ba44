//! Acts: each shows first what comes of it, and nothing happens before somebody is sure.

use sheaf_tests::Cases;
use sheaf_tests::documents::{self, Trace};

use crate::scene::{Scene, of};
use crate::{case, quiet};

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    let browser = &scene.browser;
    case(cases, browser, "a drain shows what moves where before it does", quiet, || drain(scene));
    case(cases, browser, "a bucket is suspended, resumed, moved and deleted", quiet, || bucket(scene));
    case(cases, browser, "where a purge failed stands on the bucket's page", quiet, || purge(scene));
    case(cases, browser, "labels are given, leadership is handed over", quiet, || node(scene));
}

/// Where `/web/one` runs.
fn home(scene: &Scene) -> String {
    let status = scene.cluster.wait_state("/web/one", "running");
    status["instances"][0]["node"].as_str().expect("it runs").to_owned()
}

fn drain(scene: &Scene) {
    let home = home(scene);
    let browser = scene.open(&of("node", &home));
    browser.push("Drain …");
    browser.shows(&[&format!("Drain {home}?"), "It takes no new work", "Goes to", "/web/one", "/web/all"]);
    browser.push("Cancel");
    assert_eq!(scene.cluster.node(&home)["status"], "ready", "it was only looked at");
    // Without what runs everywhere there is less to move.
    browser.push("Drain …");
    browser.shows(&["/web/all"]);
    browser.click("dialog input[type=checkbox]");
    let listed =
        "return [...document.querySelectorAll('dialog tbody tr')].map((row) => row.dataset.key).join(' ')";
    browser.waits(
        "only what is on one node",
        &format!(
            "{listed}.includes('/web/one') && !document.querySelector(\"dialog tr[data-key='/web/all']\")"
        ),
    );
    browser.push("Drain it");
    browser.shows(&["draining", "End the drain"]);
    let status = scene.cluster.wait_status("/web/one", "it has gone elsewhere", |status| {
        status["state"] == "running" && status["instances"][0]["node"] != home.as_str()
    });
    assert_eq!(status["running"], 1, "{status:#}");
    browser.push("End the drain");
    browser.shows(&[&format!("Let {home} take work again?")]);
    browser.click("//dialog//button[normalize-space()='End the drain' and not(@disabled)]");
    browser.shows(&["ready", "Drain …"]);
    scene.cluster.wait_ready();
}

fn bucket(scene: &Scene) {
    scene.cluster.apply_and_wait(&scene.steady("/acts/one", ""));
    let browser = scene.open(&of("bucket", "/acts/one"));
    browser.push("Suspend …");
    browser.shows(&["Suspend /acts/one?", "It runs on n", "stays off until somebody resumes it."]);
    browser.push("Suspend it");
    browser.shows(&["suspended", "It runs nowhere."]);
    browser.wait_for("no purge where nothing runs", |text| {
        text.contains("Resume …") && !text.contains("Purge …")
    });
    browser.push("Resume …");
    browser.shows(&["It is placed, and starts on one node."]);
    browser.push("Resume it");
    browser.wait_for("that it runs", |text| text.contains("● runs") && text.contains("Suspend …"));
    let status = scene.cluster.wait_state("/acts/one", "running");
    let before = status["instances"][0]["node"].as_str().expect("it runs").to_owned();
    let other = if before == "n1" { "n2" } else { "n1" };
    browser.push("Move …");
    browser.shows(&["Move /acts/one?", &format!("It runs on {before} now.")]);
    browser.click(&format!("//dialog//option[@value='{other}']"));
    browser.shows(&[&format!("then started on {other} under a higher epoch")]);
    browser.push("Move it");
    scene.cluster.wait_status("/acts/one", "it runs there", |status| {
        status["state"] == "running" && status["instances"][0]["node"] == other
    });
    browser.wait_for("no purge where its module has no way to", |text| {
        text.contains("Restart …") && !text.contains("Purge …")
    });
    browser.push("Delete …");
    browser.shows(&["Delete /acts/one?", "its directories are removed", "Its history stays."]);
    browser.push("Delete it");
    browser.shows(&["Not found"]);
    let said = browser.complaints();
    assert!(said.iter().all(|one| one.source == "network" && one.message.contains("404")), "{said:?}");
}

fn purge(scene: &Scene) {
    let (name, cluster) = ("/acts/kept", &scene.cluster);
    let fails = "life_cycle: {on_purge: {command: [/bin/sh, -c, 'echo in use; exit 5']}}";
    let trace = Trace::new(cluster.machine().path("trace"));
    let here = documents::bucket(name, "keeping", &trace, "node_list_rules: [n2]");
    cluster.apply_and_wait(&[documents::module("keeping", fails), here].concat());
    let browser = scene.open(&of("bucket", name));
    browser.push("Purge …");
    browser.shows(&[
        "Purge /acts/kept?",
        "It runs on n2 now.",
        "by /bin/sh -c echo in use; exit 5. That cannot be undone.",
    ]);
    browser.push("Purge it");
    browser.shows(&["failed on n2: on_purge: exit code 5: in use"]);
    scene.open("");
    browser.shows(&["Needs attention"]);
    cluster.delete(&[name]);
}

fn node(scene: &Scene) {
    let leader = scene.cluster.leader().name();
    let heir = if leader == "n1" { "n2" } else { "n1" };
    let browser = scene.open(&of("node", heir));
    browser.push("Labels …");
    browser.fill("dialog input", "disk=ssd");
    browser.shows(&["Gives", "disk=ssd"]);
    browser.push("Set them");
    browser.wait_for("the label", |text| text.contains("disk=ssd") && !text.contains("Labels given to"));
    browser.push("Labels …");
    browser.shows(&["Nothing changes."]);
    browser.fill("dialog input", "other");
    browser.shows(&["Takes away"]);
    browser.push("Cancel");
    scene.cluster.cli(&["node", "label", heir, "disk=ssd-"]).ok();
    browser.push("Make it lead …");
    browser.shows(&["For a moment nothing is decided; what runs goes on."]);
    browser.push("Hand over");
    browser.wait_for("that it leads", |text| text.contains("leader") && !text.contains("Make it lead"));
    assert_eq!(scene.cluster.leader().name(), heir);
}
