//! Markup in everything that others may write and a page shows: it is read, and never runs.

use sheaf_tests::Cases;
use sheaf_tests::receiver::{Answer, Receiver};

use crate::case;
use crate::scene::{Scene, of};

/// Would set a variable of the page, and load something.
const EVIL: &str = "<img src=x onerror=\"window.owned=1\"><script>window.owned=2</script>";

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    // What does not exist is answered so.
    let expected = |said: &sheaf_tests::browser::Complaint| {
        said.source == "network" && (said.message.contains("404") || said.message.contains("400"))
    };
    case(cases, &scene.browser, "script in every name and message that is shown is text", expected, || {
        written(scene);
        shown(scene);
    });
}

/// Puts it wherever somebody may write something.
fn written(scene: &Scene) {
    let text = EVIL.replace('\'', "''");
    let shell = "echo \"$EVIL\"; echo \"$EVIL\" >&2; exit 3";
    let module = format!(
        "kind: Module\nname: evil\nversion: '1'\nruntime: exec\n\
         exec: {{command: /bin/sh, args: [-c, {shell:?}], env: {{EVIL: '{text}'}}}}\n---\n\
         kind: Module\nname: evil-gate\nversion: '1'\nruntime: exec\ncan_run_on_this_node: [{{file: '/{text}'}}]\n\
         exec: {{command: /bin/true}}\n---\n"
    );
    scene.cluster.apply(&module);
    let fields = format!("owner: '{text}'\nlabels: {{note: '{text}'}}");
    scene
        .cluster
        .apply(&format!("kind: Bucket\nname: /evil\nmodule: evil-gate\n{fields}\nconfig: {{a: 1}}\n"));
    scene
        .cluster
        .apply(&format!("kind: Bucket\nname: /evil\nmodule: evil-gate\n{fields}\nconfig: {{a: '{text}'}}\n"));
    scene.cluster.wait_state("/evil", "unplaced");
    let job = format!(
        "kind: Job\nname: evil\nmodule: evil\nsubtasks: {{array: 0-1}}\nretry: {{max_attempts: 1}}\n{fields}\n"
    );
    scene.cluster.cli_with(&["job", "submit", "-f", "-"], job.as_bytes()).ok();
    scene.say(EVIL);
    let receiver = Receiver::start();
    receiver.answers(Answer::Head(format!("500 {EVIL}")));
    let sink =
        format!("kind: Sink\nname: evil\nwebhook: {{url: '{}', timeout: 2s}}\n{fields}\n", receiver.url());
    scene.cluster.cli_with(&["sink", "apply", "-f", "-"], sink.as_bytes()).ok();
    scene.cluster.cli(&["bucket", "restart", "/web/one", "--wait"]).ok();
}

fn shown(scene: &Scene) {
    let browser = &scene.browser;
    let pages = [
        ("buckets?filter=evil".to_owned(), "/evil"),
        (of("bucket", "/evil"), "Revisions"),
        (of("bucket", "/web/speaker"), "| <img"),
        ("affinity?filter=evil".to_owned(), "★ leads"),
        ("jobs".to_owned(), "evil"),
        (of("job", "evil"), "Failures that are alike"),
        ("subtask?job=evil&subtask=1".to_owned(), "| <img"),
        ("sinks".to_owned(), "evil"),
        (of("sink", "evil"), "How deliveries go"),
        (format!("search?find={}", encoded(EVIL)), "By name"),
        (format!("search?sql={}", encoded(&format!("SELECT '{EVIL}' AS it"))), "1 rows in"),
        (format!("bucket?name={}", encoded(EVIL)), "Refused"),
        (format!("events?filter={}", encoded(EVIL)), "Filter"),
        (format!("{}?name=1", encoded(EVIL)), "There is no such page"),
    ];
    for (page, shows) in pages {
        scene.open(&page);
        browser.shows(&[shows]);
        unharmed(scene, &page);
    }
    // Texts that are shown on request: why of a cell, what a revision changed.
    scene.open("affinity?filter=evil");
    browser.hover("[data-key='/evil n1'] button");
    browser.shows(&["can_run_on_this_node: /<img src=x"]);
    browser.click("[data-key='/evil n1'] button");
    browser.shows(&["History of this cell"]);
    unharmed(scene, "the history of a cell");
    scene.open(&of("bucket", "/evil"));
    browser.click("//button[contains(., 'config.a')]");
    browser.shows(&["config.a: <img src=x"]);
    unharmed(scene, "what a revision changed");
    browser.push("Delete …");
    browser.shows(&["Delete /evil?"]);
    unharmed(scene, "what comes of an act");
    browser.push("Cancel");
    scene.cluster.cli(&["sink", "delete", "evil", "--yes"]).ok();
    scene.cluster.delete(&["/evil"]);
}

/// Nothing of it ran, and none of it became part of the page.
fn unharmed(scene: &Scene, page: &str) {
    let script = "return [window.owned ?? 'nothing', document.querySelectorAll('img[src=x], body script').length].join(' ran, ')";
    assert_eq!(scene.browser.evaluate(script), "nothing ran, 0", "on {page}");
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
