//! Pages of the cluster, its nodes and its buckets: what stands there, and that it changes by itself.

use sheaf_tests::Cases;
use sheaf_tests::receiver::{Answer, Receiver};
use sheaf_tests::wait_for;

use crate::scene::{Scene, of};
use crate::{case, quiet};

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    let browser = &scene.browser;
    let mut run = |name: &str, body: &dyn Fn(&Scene)| case(cases, browser, name, quiet, || body(scene));
    run("overview: how the cluster stands, and what needs attention first", &overview);
    run("affinity: cells change by themselves, say why, and have a history", &affinity);
    run("lists are filtered, and what is wrong with a filter is said where it stands", &filters);
    run("node: what it is, what it runs and why", &node);
    run("bucket: where it runs, why not elsewhere, and its output as it is printed", &bucket);
    run("bucket: what its revisions changed, how any two differ, and the way back", &revisions);
    run("search: by a part of a name, and with SQL", &search);
    run("events come by themselves", &events);
    run("sinks: what arrives, what does not, and a test", &sinks);
}

fn overview(scene: &Scene) {
    let browser = scene.open("");
    browser.shows(&[
        "1 thing to act on",
        "Needs attention",
        "/web/nowhere",
        "unplaced",
        "3 ready",
        "3 running",
    ]);
    browser.shows(&["1 more voter may fail", "Members", "leader", "Lately", "NOT secured", "on n1", "live"]);
    browser.follow("/web/nowhere");
    browser.shows(&["It runs nowhere.", "/no/such/program does not exist"]);
}

/// Signs in the matrix that its legend does not explain.
const UNTOLD: &str = "
    const sign = (element) => element.innerText.trim();
    const told = new Set([...document.querySelectorAll('.legend > span')].map((one) => sign(one)[0]));
    const signs = [...document.querySelectorAll('.matrix tbody button, .matrix tbody th > span:first-child')].map(sign);
    return signs.filter((one) => !told.has(one)).join(' ');
";

/// What a cell of the matrix shows.
fn mark(scene: &Scene, bucket: &str, node: &str) -> String {
    let script = format!(
        "return document.querySelector('[data-key=\"{bucket} {node}\"] button')?.dataset.mark ?? 'no cell'"
    );
    scene.browser.evaluate(&script).as_str().unwrap_or_default().to_owned()
}

fn wait_mark(scene: &Scene, bucket: &str, node: &str, wanted: &str) {
    wait_for(
        &format!("the cell of {bucket} on {node} is {wanted}"),
        sheaf_tests::cluster::SOON,
        || match mark(scene, bucket, node) {
            found if found == wanted => Ok(()),
            found => Err(found),
        },
    );
}

fn affinity(scene: &Scene) {
    let browser = scene.open("affinity");
    browser.shows(&["Nodes × buckets", "/web/all", "/web/one", "every", "★ leads"]);
    for node in ["n1", "n2", "n3"] {
        wait_mark(scene, "/web/all", node, "running");
        wait_mark(scene, "/web/nowhere", node, "refused");
    }
    browser.shows(&["∅ bucket unplaced"]);
    assert_eq!(browser.evaluate(UNTOLD), "", "signs without a word");
    // A page that is loaded anew would forget it.
    browser.evaluate("window.stays = true");
    scene.cluster.apply(&scene.steady("/live/new", "multi_node: true\nnode_list_rules: [n2]"));
    wait_mark(scene, "/live/new", "n2", "running");
    wait_mark(scene, "/live/new", "n1", "refused");
    scene.cluster.cli(&["bucket", "suspend", "/live/new", "--wait"]).ok();
    wait_mark(scene, "/live/new", "n2", "available");
    assert_eq!(browser.evaluate("return window.stays"), true);
    let cell = "[data-key='/web/nowhere n2'] button";
    let reason = "can_run_on_this_node: /no/such/program does not exist";
    browser.hover(cell);
    browser.wait_for("why, for who points there", |text| text.contains(reason));
    browser.hover("h1");
    browser.wait_for("no reason any more", |text| !text.contains(reason));
    browser.evaluate(&format!("document.querySelector(\"{cell}\").focus()"));
    browser.shows(&["/web/nowhere on n2: refused", reason]);
    browser.click("[data-key='/live/new n2'] button");
    browser.shows(&["/live/new on n2", "Gates", "instance.running", "instance.stopped"]);
    browser.push("Close");
    browser.wait_for("no history any more", |text| !text.contains("/live/new on n2"));
    scene.cluster.delete(&["/live/new"]);
    browser.wait_for("that it is gone", |text| !text.contains("/live/new"));
    assert_eq!(browser.evaluate("return window.stays"), true);
}

fn filters(scene: &Scene) {
    let browser = scene.open("buckets");
    browser.shows(&["/web/all", "3 / 3", "/web/nowhere", "data-eng"]);
    browser.push("not as they should be");
    browser.wait_for("only that", |text| text.contains("/web/nowhere") && !text.contains("/web/all"));
    assert!(browser.url().contains("filter=state"), "it can be sent to somebody: {}", browser.url());
    browser.reload();
    browser.wait_for("the same", |text| text.contains("/web/nowhere") && !text.contains("/web/all"));
    let line = "input[aria-label='Filter buckets']";
    // The bad answer of a request is also a line on the console, which must be this one alone.
    assert_eq!(browser.complaints(), []);
    browser.fill(line, "stat=running");
    browser.push("Filter");
    browser.shows(&["stat", "did you mean state?", "Buckets"]);
    let said = browser.complaints();
    assert!(said.iter().all(|one| one.source == "network" && one.message.contains("400")), "{said:?}");
    browser.fill(line, "nosuchbucket");
    browser.push("Filter");
    browser.shows(&["No bucket is like that."]);
    browser.push("all");
    browser.shows(&["/web/all", "/web/one"]);
    let _ = browser.complaints(); // a look may have been under way
}

fn node(scene: &Scene) {
    let browser = scene.open("nodes");
    browser.shows(&["n1", "n2", "n3", "ready", "leader", "voter"]);
    // Who upgrades them sees how far that is.
    let version = scene.cluster.node("n2")["version"].as_str().expect("each has one").to_owned();
    browser.waits(
        "the version of a node",
        &format!("return document.querySelector('table').innerText.includes('{version}')"),
    );
    browser.follow("n2");
    browser.shows(&[
        "What it says",
        "How busy it is",
        "Hostname",
        "What it runs",
        "/web/all",
        "Why here",
        "History",
    ]);
    scene.cluster.cli(&["node", "label", "n2", "rack=7"]).ok();
    browser.shows(&["rack=7"]);
    scene.cluster.cli(&["node", "label", "n2", "rack=7-"]).ok();
    browser.wait_for("the label gone", |text| {
        !text.split("History").next().unwrap_or_default().contains("rack=7")
    });
}

fn bucket(scene: &Scene) {
    let browser = scene.open("buckets");
    browser.follow("/web/one");
    browser.shows(&[
        "Why there",
        "Epoch",
        "Before others",
        "Every node, every gate",
        "● runs",
        "✓ yes",
        "Instances",
    ]);
    scene.open(&of("bucket", "/web/nowhere"));
    browser.shows(&["∅", "unplaced", "✕ refuse", "/no/such/program does not exist", "· no"]);
    scene.open(&of("bucket", "/web/speaker"));
    browser.shows(&["| first words", "live"]);
    scene.say("second words");
    browser.shows(&["| second words"]);
    scene.open(&of("bucket", "/web/all"));
    browser.shows(&["every node", "every available node"]);
    scene.open(&of("bucket", "/no/such"));
    browser.shows(&["Not found", "/no/such"]);
    browser.push("Look again");
    browser.shows(&["Not found"]);
    let said = browser.complaints();
    assert!(said.iter().all(|one| one.source == "network" && one.message.contains("404")), "{said:?}");
}

fn revisions(scene: &Scene) {
    for value in 1..=3 {
        scene.cluster.apply(&scene.steady(
            "/web/revised",
            &format!("suspended: true\nconfig: {{trace: /dev/null, value: {value}}}\nowner: owner-{value}"),
        ));
    }
    let browser = scene.open(&of("bucket", "/web/revised"));
    browser.shows(&["Revisions", "▸ config.value, owner", "the oldest here", "present"]);
    browser.click("//tr[.//*[contains(., 'present')]]//button[contains(., 'config.value')]");
    browser.shows(&["config.value: 2", "config.value: 3", "owner: owner-2", "owner: owner-3"]);
    let signs = "return [...document.querySelectorAll('.difference > *')].map((one) => \
                 getComputedStyle(one, '::before').content + one.textContent).join('\\n')";
    let lines = browser.evaluate(signs);
    let lines = lines.as_str().unwrap_or_default();
    assert!(lines.contains("\"- \"config.value: 2") && lines.contains("\"+ \"config.value: 3"), "{lines}");
    // The first one and the last: what came between does not matter.
    let oldest = "return [...document.querySelectorAll('select')].find((one) => \
                  one.parentElement.textContent.startsWith('From')).lastElementChild.value";
    let oldest = browser.evaluate(oldest);
    browser.click(&format!(
        "//label[starts-with(., 'From')]/select/option[@value='{}']",
        oldest.as_str().unwrap_or_default()
    ));
    browser.shows(&["config.value: 1", "owner: owner-1"]);
    browser.click("//tr[.//*[contains(., 'the oldest here')]]//button[contains(., 'Back to this')]");
    browser.shows(&["Make /web/revised what it was at revision", "config.value: 1"]);
    browser.push("Roll back");
    browser.wait_for("a fourth revision", |text| text.matches("Back to this …").count() == 3);
    let owner = scene.cluster.json(&["bucket", "list", "--where", "name=/web/revised", "-o", "json"]);
    assert_eq!(owner[0]["owner"], "owner-1", "{owner:#}");
    scene.cluster.delete(&["/web/revised"]);
    // Its page says so, and asks no more.
    browser.shows(&["Not found"]);
    let said = browser.complaints();
    assert!(said.iter().all(|one| one.source == "network" && one.message.contains("404")), "{said:?}");
}

fn search(scene: &Scene) {
    let browser = scene.open("search");
    browser.fill("input[type=search]", "one");
    browser.push("Find");
    browser.shows(&["nodes: none", "/web/one", "jobs: none"]);
    browser.fill("textarea", "SELECT name, running FROM buckets WHERE name LIKE '/web/%' ORDER BY name");
    browser.push("Run");
    browser.shows(&["4 rows in", "/web/nowhere"]);
    browser.fill("textarea", "SELECT name FROM nowhere");
    browser.push("Run");
    browser.shows(&["no such table: nowhere"]);
    let said = browser.complaints();
    assert!(said.iter().all(|one| one.source == "network" && one.message.contains("400")), "{said:?}");
    browser.push("Which node ran how many attempts");
    browser.shows(&["rows in"]);
}

fn events(scene: &Scene) {
    let browser = scene.open("events?filter=%2Fweb%2Fone");
    browser.shows(&["newest first, as they happen", "bucket.bound", "instance.running"]);
    scene.cluster.cli(&["bucket", "suspend", "/web/one", "--wait"]).ok();
    browser.shows(&["bucket.suspended", "cli:"]);
    scene.cluster.cli(&["bucket", "resume", "/web/one", "--wait"]).ok();
    browser.shows(&["bucket.resumed"]);
    browser.fill("input[aria-label='Filter events']", "kind=bucket.suspended subject=/web/one");
    browser.push("Filter");
    browser.wait_for("nothing else", |text| {
        text.contains("bucket.suspended") && !text.contains("bucket.resumed")
    });
}

fn sinks(scene: &Scene) {
    let browser = scene.open("sinks");
    browser.shows(&["There is no sink yet"]);
    let mut receiver = Receiver::start();
    let document = format!(
        "kind: Sink\nname: hook\nwebhook: {{url: '{}', timeout: 2s}}\nfilter: {{subjects: ['/web/one']}}\nowner: ops\n",
        receiver.url()
    );
    scene.cluster.cli_with(&["sink", "apply", "-f", "-"], document.as_bytes()).ok();
    browser.shows(&["hook", "webhook", "ops"]);
    scene.cluster.cli(&["bucket", "restart", "/web/one", "--wait"]).ok();
    browser.waits(
        "something was delivered",
        "const row = document.querySelector('tr[data-key=hook]'); \
         return row && Number(row.cells[2].innerText) > 0 && row.innerText.includes('idle')",
    );
    browser.push("Test …");
    browser.shows(&["Test hook?", "Nothing else changes."]);
    browser.push("Deliver a test");
    browser.shows(&["delivered", " ms"]);
    browser.push("Close");
    assert!(receiver.heard().iter().any(|request| request.body.contains("sink.test")), "it was heard there");
    receiver.answers(Answer::Head("500 Oh no".to_owned()));
    scene.cluster.cli(&["bucket", "restart", "/web/one", "--wait"]).ok();
    browser.shows(&["failing", "500"]);
    browser.follow("hook");
    browser.shows(&[
        "How deliveries go",
        "Failed in a row",
        "Last error",
        "500",
        "Next try",
        "subjects",
        "History",
    ]);
    scene.open("");
    browser.shows(&["nothing is delivered since"]);
    receiver.go_down();
    scene.cluster.cli(&["sink", "delete", "hook", "--yes"]).ok();
}
