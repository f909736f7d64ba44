//! A page that is left open for a week is not heavier then than it was.

use sheaf_tests::Cases;

use crate::scene::{Scene, of};
use crate::{case, quiet};

/// Has the page look again at every half hour of some days, without waiting for them; what it asks is answered as the first time.
/// The page is to be loaded anew after that: it takes the time for later.
const LOOK: &str = r#"
    return (async () => {
      const [now, ask, patience] = [Date.now, window.fetch, AbortSignal.timeout];
      const answers = new Map();
      const { port1, port2 } = new MessageChannel();
      const turn = () => new Promise((resolve) => { port1.onmessage = resolve; port2.postMessage(null); });
      let later = window.later ?? 0;
      let asked = 0;
      Date.now = () => now() + later;
      AbortSignal.timeout = () => undefined;
      window.fetch = async (url, options) => {
        asked += 1;
        const keep = async (answer) => [await answer.text(), { status: answer.status, headers: [...answer.headers] }];
        if (!answers.has(url)) answers.set(url, ask(url, options).then(keep));
        return new Response(...await answers.get(url));
      };
      for (let round = 0; round < DAYS * 48; round += 1) {
        const before = asked;
        later += 30 * 60 * 1000;
        document.dispatchEvent(new Event("visibilitychange"));
        while (asked === before) await turn();
        await turn();
      }
      port1.close();
      window.later = later;
      [Date.now, window.fetch, AbortSignal.timeout] = [() => now() + later, ask, patience];
      return asked;
    })();
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
}

fn week(scene: &Scene, page: &str, shows: &str) {
    let browser = scene.open(page);
    browser.reload();
    browser.shows(&[shows, "live"]);
    let look = |days: u64| {
        let asked = browser.evaluate(&LOOK.replace("DAYS", &days.to_string()));
        assert!(asked.as_u64() >= Some(days * 48), "{page}: it asked {asked} times only");
        browser.weight()
    };
    // What is compiled and kept once is there after the first day.
    let first = look(1);
    let last = look(7);
    browser.shows(&[shows]);
    let grown = [
        ("nodes", first.nodes, last.nodes, 50),
        ("listeners", first.listeners, last.listeners, 20),
        ("bytes", first.bytes, last.bytes, 2 << 20),
    ];
    for (what, first, last, more) in grown {
        assert!(last <= first + more, "{page:?}: from {first} to {last} {what}");
    }
    browser.reload();
    browser.shows(&[shows, "live"]);
}
