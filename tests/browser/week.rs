//! A page that is left open for a week is not heavier then than it was, nor is one from which somebody has gone to all others.

use sheaf_tests::Cases;
use sheaf_tests::browser::Weight;
use sheaf_tests::jobs::{job, over, submit};

use crate::scene::{Scene, of};
use crate::{case, quiet};

/// The shell of the dashboard, which knows all pages.
const SHELL: &str = include_str!("../../crates/web/assets/app.js");
/// How often each page is opened until it is weighed, and from then until it is weighed again: more often than there may be
/// listeners more, so that one that stays each time is found.
const ROUNDS: [u64; 2] = [4, 24];

/// From here to [`END`] what the page asks is answered as the first time, so that nothing is waited for.
const BEGIN: &str = r#"
    return (async () => {
      const [ask, patience] = [window.fetch, AbortSignal.timeout];
      const answers = new Map();
      const { port1, port2 } = new MessageChannel();
      const turn = () => new Promise((resolve) => { port1.onmessage = resolve; port2.postMessage(null); });
      let asked = 0;
      AbortSignal.timeout = () => undefined;
      window.fetch = async (url, options) => {
        asked += 1;
        const keep = async (answer) => [await answer.text(), { status: answer.status, headers: [...answer.headers] }];
        if (!answers.has(url)) answers.set(url, ask(url, options).then(keep));
        return new Response(...await answers.get(url));
      };
"#;
/// How often it has asked.
const END: &str = r#"
      port1.close();
      [window.fetch, AbortSignal.timeout] = [ask, patience];
      return asked;
    })();
"#;
/// Has the page look again at every half hour of some days, without waiting for them. It is to be loaded anew after that: it takes
/// the time for later.
const LOOK: &str = r#"
      const now = Date.now;
      let later = window.later ?? 0;
      Date.now = () => now() + later;
      for (let round = 0; round < DAYS * 48; round += 1) {
        const before = asked;
        later += 30 * 60 * 1000;
        document.dispatchEvent(new Event("visibilitychange"));
        while (asked === before) await turn();
        await turn();
      }
      window.later = later;
"#;
/// Opens each page when the one before it is drawn, some times.
const WALK: &str = r#"
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const page of PAGES) {
          const former = document.querySelector("main > .page");
          location.replace(`#/${page}`);
          const drawn = () => {
            const now = document.querySelector("main > .page");
            return now !== former && !now.querySelector(":scope > .quiet:only-child");
          };
          while (!drawn()) await turn();
        }
      }
"#;

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    let browser = &scene.browser;
    case(cases, browser, "a page that is left open for a week does not grow", quiet, || {
        for (page, shows) in [
            (String::new(), "Needs attention"),
            ("affinity".to_owned(), "★ leads"),
            (of("bucket", "/web/all"), "Every node, every gate"),
        ] {
            week(scene, &page, shows);
        }
    });
    case(cases, browser, "who goes from page to page leaves nothing behind", quiet, || walk(scene));
}

fn compare(what: &str, first: Weight, last: Weight) {
    let grown = [
        ("nodes", first.nodes, last.nodes, 50),
        ("listeners", first.listeners, last.listeners, 20),
        ("bytes", first.bytes, last.bytes, 2 << 20),
    ];
    for (kind, first, last, more) in grown {
        assert!(last <= first + more, "{what:?}: from {first} to {last} {kind}");
    }
}

fn week(scene: &Scene, page: &str, shows: &str) {
    let browser = scene.open(page);
    browser.reload();
    browser.shows(&[shows, "live"]);
    let look = |days: u64| {
        let look = LOOK.replace("DAYS", &days.to_string());
        let asked = browser.evaluate(&format!("{BEGIN}{look}{END}"));
        assert!(asked.as_u64() >= Some(days * 48), "{page}: it asked {asked} times only");
        browser.weight()
    };
    // What is compiled and kept once is there after the first day.
    let first = look(1);
    let last = look(7);
    browser.shows(&[shows]);
    compare(page, first, last);
    browser.reload();
    browser.shows(&[shows, "live"]);
}

/// The pages of the shell, by the names that addresses have.
fn pages() -> Vec<String> {
    let line = SHELL.lines().find_map(|line| line.strip_prefix("const PAGES = {")?.strip_suffix("};"));
    let pages = line.expect("the shell has its pages in a line").split(',');
    pages.map(|page| page.split(':').next().unwrap_or_default().trim().trim_matches('"').to_owned()).collect()
}

/// At the end of each round is the overview, which is what is weighed.
fn walk(scene: &Scene) {
    let (name, cluster) = ("walk", &scene.cluster);
    submit(cluster, &job(name, "slow", "subtasks: {array: 0-1}"));
    over(cluster, name);
    let sink = format!(
        "kind: Sink\nname: {name}\nwebhook: {{url: 'http://127.0.0.1:1/'}}\nfilter: {{subjects: ['/no/such']}}\n"
    );
    cluster.cli_with(&["sink", "apply", "-f", "-"], sink.as_bytes()).ok();
    let address = |page: String| match page.as_str() {
        "node" => of(&page, "n1"),
        "bucket" => of(&page, "/web/one"),
        "job" | "sink" => of(&page, name),
        "subtask" => format!("subtask?job={name}&subtask=0"),
        _ => page,
    };
    let mut pages: Vec<String> = pages().into_iter().map(address).collect();
    assert!(pages.len() >= 13 && pages[0].is_empty(), "{pages:?}");
    pages.rotate_left(1);
    let browser = scene.open("");
    browser.reload();
    browser.shows(&["Needs attention", "live"]);
    let [first, last] = ROUNDS.map(|rounds| {
        let walk = WALK.replace("ROUNDS", &rounds.to_string()).replace("PAGES", &format!("{pages:?}"));
        let asked = browser.evaluate(&format!("{BEGIN}{walk}{END}"));
        // Nothing is asked for where somebody searches.
        assert!(asked.as_u64() >= Some(rounds * (pages.len() as u64 - 1)), "it asked {asked} times only");
        browser.shows(&["Needs attention"]);
        browser.weight()
    });
    compare("the overview", first, last);
    browser.reload();
    browser.shows(&["Needs attention", "live"]);
    cluster.cli(&["sink", "delete", name, "--yes"]).ok();
    cluster.cli(&["job", "delete", name, "--yes"]).ok();
}
