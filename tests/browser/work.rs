//! Pages of jobs: how far they are, what failed and how alike, down to what an attempt printed.

use sheaf_tests::browser::Complaint;
use sheaf_tests::{Cases, jobs, wait_for};

use crate::scene::{Scene, of};
use crate::{case, quiet};

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    let browser = &scene.browser;
    case(cases, browser, "a job's progress moves by itself, and is drawn over time", quiet, || {
        progress(scene);
    });
    case(cases, browser, "failures that are alike, down to what an attempt printed", quiet, || {
        failures(scene);
    });
    // A subtask that has not run has no output, and the page shows why.
    let no_output = |said: &Complaint| {
        let logs = said.message.contains("/api/v1/job/logs?") && said.message.contains("409 (Conflict)");
        said.source == "network" && logs
    };
    case(cases, browser, "a job is paused, resumed, canceled, retried and deleted", no_output, || {
        acts(scene);
    });
}

fn submit(scene: &Scene, name: &str, module: &str, more: &str) {
    jobs::submit(&scene.cluster, &jobs::job(name, module, more));
}

/// How far the bar of the page is.
fn percent(scene: &Scene) -> f64 {
    scene.browser.evaluate("return document.querySelector('progress')?.value ?? -1").as_f64().unwrap_or(-1.0)
}

fn progress(scene: &Scene) {
    let browser = scene.open("jobs");
    submit(scene, "tiles", "slow", "subtasks: {array: 0-59}\nowner: maps");
    browser.shows(&["tiles", "maps", "running"]);
    browser.follow("tiles");
    browser.shows(&["How far it is", "Progress over time", "Subtasks", "of 60 subtasks finished"]);
    let first = percent(scene);
    wait_for("the bar moves", sheaf_tests::cluster::SOON, || match percent(scene) {
        now if now > first => Ok(()),
        now => Err(now.to_string()),
    });
    browser.shows(&["100 %", "60 of 60 subtasks finished", "✓ finished 60"]);
    browser.waits(
        "the plot is drawn to its end",
        "return document.querySelector('svg.plot')?.getAttribute('aria-label').includes('60 of 60 finished, 0 failed, from ')",
    );
    browser.shows(&["solid 60 finished of 60 (dotted)"]);
}

fn failures(scene: &Scene) {
    let retry = "retry: {max_attempts: 2, backoff: 10ms..20ms}";
    submit(scene, "unlucky", "failing", &format!("subtasks: {{array: 0-6}}\n{retry}"));
    let browser = scene.open(&of("job", "unlucky"));
    browser.shows(&["Failures that are alike", "7 failed", "no licence", "14 exit"]);
    browser.push("Show them");
    browser.waits(
        "the subtasks of that group",
        "return document.querySelector('input[aria-label^=SQL]').value.startsWith(\"fingerprint = '\")",
    );
    browser.shows(&["Subtasks", "no licence"]);
    browser.follow("3");
    browser.shows(&["Subtask 3", "Attempts", "2 attempts", "tried again", "no licence", "Exit"]);
    browser.shows(&["| about to fail at 3", "that is all"]);
    browser.click("//tr[@data-key='1']//button[normalize-space()='Output']");
    browser.shows(&["shown below", "| about to fail at 3"]);
    // A page of so many; the rest is further on.
    submit(scene, "many", "slow", "subtasks: {array: 0-119}\nnode_list_rules: [nobody]");
    scene.open(&of("job", "many"));
    browser.shows(&["Page 1", "Further", "In the way"]);
    let rows = "return document.querySelectorAll('[aria-label=Subtasks] tbody tr').length";
    assert_eq!(browser.evaluate(rows), 50);
    browser.click("//section[@aria-label='Subtasks']//button[normalize-space()='Further']");
    browser.shows(&["Page 2"]);
    browser.click("//section[@aria-label='Subtasks']//button[normalize-space()='Further']");
    browser.shows(&["Page 3"]);
    browser.waits(
        "what is left",
        "return document.querySelectorAll('[aria-label=Subtasks] tbody tr').length === 20",
    );
    let jobs = scene.cluster.cli(&["job", "list", "-o", "name"]).ok().stdout.lines().count();
    scene.open("");
    let tile = "[...document.querySelectorAll('.tile')].find((tile) => tile.querySelector('a')?.innerText === 'Jobs')";
    browser.waits(
        "jobs are counted, not what is ready of them",
        &format!("return {tile}?.querySelector('b').innerText === '{jobs}'"),
    );
}

fn acts(scene: &Scene) {
    let browser = scene.open(&of("job", "many"));
    browser.push("Pause …");
    browser.shows(&["Pause many?", "Nothing more of it is started"]);
    browser.push("Pause it");
    browser.shows(&["paused"]);
    browser.push("Resume …");
    browser.shows(&["120 subtasks may be started again."]);
    browser.push("Resume it");
    browser.push("Priority …");
    browser.fill("dialog input", "90");
    browser.shows(&["subtasks would go before or after those of other jobs by it."]);
    browser.push("Set it");
    jobs::soon("its priority", || (jobs::status(&scene.cluster, "many")["priority"] == 90).then_some(()));
    one(scene);
    scene.open(&of("job", "many"));
    browser.push("Cancel …");
    browser.shows(&["120 subtasks would be canceled, 0 of them running now."]);
    browser.push("Cancel it");
    browser.shows(&["canceled", "⊘ canceled 120"]);
    browser.push("Retry canceled …");
    browser.shows(&["120 canceled subtasks would be tried again"]);
    browser.push("Cancel");
    browser.push("Delete …");
    browser.shows(&["What is remembered of its 120 subtasks goes with it"]);
    browser.push("Delete it");
    browser.wait_for("the list without it", |text| text.contains("tiles") && !text.contains("many"));
}

/// One subtask is canceled, and tried again after all.
fn one(scene: &Scene) {
    let browser = scene.open("subtask?job=many&subtask=7");
    browser.push("Cancel …");
    browser.shows(&["Cancel subtask 7?", "It does not run any more; what runs of it is stopped."]);
    browser.push("Cancel it");
    browser.push("Retry …");
    browser.shows(&["Try subtask 7 again?", "It is tried again, with all its attempts."]);
    browser.push("Retry");
    browser.wait_for("that it can be canceled again", |text| {
        text.contains("Cancel …") && !text.contains("Retry …")
    });
}
