//! How pages are used and read: by keys alone, on a phone, light and dark; and what they ask for.

use std::collections::BTreeSet;

use sheaf_tests::Cases;
use sheaf_tests::browser::{Browser, DOWN, ENTER, ESCAPE, RIGHT, SHIFT_TAB, TAB};

use crate::scene::{Scene, of};
use crate::{case, quiet};

/// Text that is too faint to be read against what is behind it: WCAG's contrast, 4.5, or 3 for large letters.
const FAINT: &str = r"
    const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
    const light = ({ r, g, b }) => {
      const [x, y, z] = [r, g, b].map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const colour = rgb(getComputedStyle(at).backgroundColor);
        if (colour.a === 1) return colour;
      }
      return { r: 255, g: 255, b: 255 };
    };
    const found = [];
    for (const element of document.body.querySelectorAll('*')) {
      const said = [...element.childNodes].some((one) => one.nodeType === Node.TEXT_NODE && one.data.trim());
      if (!said || !element.checkVisibility() || element.closest(':disabled, noscript')) continue;
      const style = getComputedStyle(element);
      const [front, back] = [light(rgb(style.color)), light(behind(element))];
      const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
      if (contrast < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5)) {
        found.push(`${element.nodeName} ${element.className} ${element.textContent.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
      }
    }
    return found.slice(0, 10).join('\n');
";

/// How wide, how high, and which scheme is liked; the last is that of all other cases.
pub(crate) const SHAPES: [(u32, u32, &str); 4] =
    [(360, 740, "light"), (360, 740, "dark"), (1280, 900, "dark"), (1280, 900, "light")];

/// What is shown can be read: nothing is beyond the edge, nor too faint.
pub(crate) fn is_read(browser: &Browser, what: &str, (width, height, scheme): (u32, u32, &str)) {
    let wide = browser.evaluate("return document.documentElement.scrollWidth");
    browser.picture(&format!("{width} {scheme} {what}"));
    assert!(wide.as_u64() <= Some(u64::from(width)), "{what} is {wide} wide at {width}");
    let asked = "const box = document.querySelector('dialog')?.getBoundingClientRect(); \
                 return !box || (box.left >= 0 && box.top >= 0 && box.right <= innerWidth && box.bottom <= innerHeight)";
    assert_eq!(browser.evaluate(asked), true, "{what}: a question is beyond {width} by {height}");
    let faint = browser.evaluate(FAINT);
    assert_eq!(faint, "", "{what}, {scheme}: too faint");
}

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    let browser = &scene.browser;
    case(
        cases,
        browser,
        "by keys alone: from the address to an act, and the focus can be seen",
        quiet,
        || {
            keys(scene);
        },
    );
    case(cases, browser, "the matrix by keys: arrows, why, and the history of a cell", quiet, || grid(scene));
    case(
        cases,
        browser,
        "a phone's width, light and dark: nothing is cut off, everything can be read",
        quiet,
        || {
            shapes(scene);
        },
    );
    case(cases, browser, "pages ask their own node, and nobody else", quiet, || requests(scene));
}

/// Every page, with something on it.
fn pages() -> Vec<(String, &'static str)> {
    let page = |address: &str, shows| (address.to_owned(), shows);
    vec![
        page("", "Needs attention"),
        page("affinity", "★ leads"),
        page("nodes", "n3"),
        (of("node", "n1"), "What it runs"),
        page("buckets", "/web/speaker"),
        (of("bucket", "/web/all"), "Every node, every gate"),
        (of("bucket", "/web/nowhere"), "refuse"),
        page("jobs", "unlucky"),
        (of("job", "unlucky"), "Failures that are alike"),
        page("subtask?job=unlucky&subtask=3", "Attempts"),
        page("events", "newest first"),
        page("sinks", "There is no sink yet"),
        page("search", "What can be asked"),
        page("no-such-page", "There is no such page"),
    ]
}

/// The focus is where it can be seen.
fn is_seen(scene: &Scene) {
    let seen = "const at = document.activeElement, box = at.getBoundingClientRect(), style = getComputedStyle(at); \
                return at.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 \
                  && box.width > 0 && box.top >= 0 && box.bottom <= innerHeight";
    let seen = scene.browser.evaluate(seen);
    assert_eq!(seen, true, "the focus cannot be seen: {}", scene.browser.focused());
}

/// Presses Tab until something has the focus, which can be seen all the way.
fn tab_to(scene: &Scene, wanted: &str) {
    let mut passed = Vec::new();
    for _ in 0..60 {
        scene.browser.press(TAB);
        let focused = scene.browser.focused();
        if focused == wanted {
            is_seen(scene);
            return;
        }
        passed.push(focused);
    }
    panic!("Tab does not lead to {wanted:?} but over {passed:#?}");
}

fn keys(scene: &Scene) {
    let browser = scene.open("");
    browser.reload();
    browser.shows(&["Needs attention"]);
    let mut order = Vec::new();
    for _ in 0..6 {
        browser.press(TAB);
        is_seen(scene);
        order.push(browser.focused());
    }
    assert_eq!(
        order,
        ["A Skip to the content", "A Sheaf", "A Overview", "A Affinity", "A Nodes", "A Buckets"]
    );
    browser.press(ENTER);
    browser.shows(&["/web/speaker", "Filter"]);
    assert_eq!(browser.focused().split(' ').next(), Some("MAIN"), "one goes on in the page");
    tab_to(scene, "INPUT Filter buckets");
    browser.press("web/one");
    browser.press(ENTER);
    browser.wait_for("only that", |text| text.contains("/web/one") && !text.contains("/web/all"));
    assert_eq!(browser.focused(), "INPUT Filter buckets", "drawn anew it still has the focus");
    tab_to(scene, "A /web/one");
    browser.press(ENTER);
    browser.shows(&["Why there"]);
    tab_to(scene, "BUTTON Suspend …");
    browser.press(ENTER);
    browser.shows(&["Suspend /web/one?"]);
    assert_eq!(browser.focused(), "BUTTON Cancel", "what does nothing is chosen first");
    browser.press(SHIFT_TAB);
    assert_ne!(browser.focused().split(' ').next(), Some("A"), "the page behind cannot be reached");
    browser.press(ESCAPE);
    browser.wait_for("no question any more", |text| !text.contains("Suspend /web/one?"));
    assert_eq!(browser.focused(), "BUTTON Suspend …", "one is where one was");
    // Over everything that was passed.
    browser.reload();
    browser.shows(&["Why there"]);
    browser.press(TAB);
    browser.press(ENTER);
    assert_eq!(browser.focused().split(' ').next(), Some("MAIN"));
    assert!(browser.url().contains("#/bucket?name="), "the page is still the same: {}", browser.url());
}

fn grid(scene: &Scene) {
    let browser = scene.open("affinity");
    browser.shows(&["★ leads", "/web/speaker"]);
    // One stop for the whole grid, then arrows.
    browser.evaluate("document.querySelector('.cell[tabindex=\"0\"]').focus()");
    let first = browser.focused();
    assert!(first.starts_with("BUTTON /web/all on n1: running"), "{first}");
    browser.press(DOWN);
    is_seen(scene);
    let below = browser.focused();
    assert!(below.starts_with("BUTTON /web/nowhere on n1: refused. can_run_on_this_node"), "{below}");
    browser.shows(&["/web/nowhere on n1: refused", "/no/such/program does not exist"]);
    browser.press(RIGHT);
    let beside = browser.focused();
    assert!(beside.starts_with("BUTTON /web/nowhere on n2"), "{beside}");
    browser.press(ENTER);
    browser.shows(&["Gates", "local_config"]);
    assert_eq!(browser.focused(), beside, "drawn anew it still has the focus");
    browser.press(ENTER);
    browser.wait_for("no history any more", |text| !text.contains("Gates"));
}

fn shapes(scene: &Scene) {
    let browser = &scene.browser;
    for shape in SHAPES {
        let (width, height, scheme) = shape;
        browser.sized(width, height);
        browser.prefers(scheme);
        let mut grounds = BTreeSet::new();
        for (page, shows) in pages() {
            scene.open(&page);
            browser.shows(&[shows]);
            is_read(browser, &page, shape);
            let ground = browser.evaluate("return getComputedStyle(document.body).backgroundColor");
            grounds.insert(ground.as_str().unwrap_or_default().to_owned());
        }
        let is_dark = grounds.iter().all(|ground| ground.starts_with("rgb(1"));
        assert_eq!((grounds.len(), is_dark), (1, scheme == "dark"), "{scheme}: {grounds:?}");
        scene.open(&of("node", "n2"));
        browser.push("Drain …");
        browser.shows(&["Drain n2?", "It takes no new work", "/web/all"]);
        is_read(browser, "what is asked before an act", shape);
        browser.push("Cancel");
    }
}

fn requests(scene: &Scene) {
    let browser = &scene.browser;
    let _ = browser.requests();
    browser.goto(&scene.address(""));
    browser.reload();
    for (page, shows) in pages() {
        scene.open(&page);
        browser.shows(&[shows]);
    }
    let asked = browser.requests();
    let own = format!("http://{}/", scene.cluster.agent(1).plan().http);
    let others: Vec<&String> =
        asked.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(others.is_empty() && asked.len() > 30, "{} requests, to others: {others:?}", asked.len());
}
