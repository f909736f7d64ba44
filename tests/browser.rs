//! The dashboard as somebody has it open: real agents, a real Chromium, clicks and keys.
//!
//! | test | agents | what it proves |
//! | --- | --- | --- |
//! | `dashboard` | 3 | every page shows what it should, live; acts say first what comes of them; keys, phones, light and dark; nothing that others wrote runs; a page left open does not grow, nor one that is left; and what is seen while nodes are away |
//! | `people` | 1, secured | who must log in, what each role is offered and what the node refuses all the same, and logins that end |
//!
//! Pages are read as people read them, by their words. After each case the console must have nothing to say that the case
//! did not expect. Pictures lie in the test's own directory, which stays when a case has failed.

#[path = "browser/acts.rs"]
mod acts;
#[path = "browser/away.rs"]
mod away;
#[path = "browser/hostile.rs"]
mod hostile;
#[path = "browser/pages.rs"]
mod pages;
#[path = "browser/people.rs"]
mod people;
#[path = "browser/scene.rs"]
mod scene;
#[path = "browser/shape.rs"]
mod shape;
#[path = "browser/week.rs"]
mod week;
#[path = "browser/work.rs"]
mod work;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use sheaf_tests::browser::{Browser, Complaint};
use sheaf_tests::{Cases, Cluster, Machine, need};

use scene::Scene;

#[test]
#[ignore = "needs Chromium; .ci/run runs it"]
fn dashboard() {
    if !need::programs(&["chromium", "chromedriver"]) {
        return;
    }
    let cluster = Cluster::start(3);
    let mut scene = Scene::set(cluster);
    let mut cases = Cases::of("dashboard");
    pages::cases(&mut cases, &scene);
    work::cases(&mut cases, &scene);
    acts::cases(&mut cases, &scene);
    shape::cases(&mut cases, &scene);
    hostile::cases(&mut cases, &scene);
    week::cases(&mut cases, &scene);
    away::cases(&mut cases, &scene);
    away::heir(&mut cases, &mut scene);
    cases.end();
}

#[test]
#[ignore = "needs Chromium; .ci/run runs it"]
fn people() {
    if !need::programs(&["chromium", "chromedriver"]) {
        return;
    }
    let machine = Arc::new(Machine::take());
    let mut cases = Cases::of("people");
    people::run(&mut cases, &machine);
    cases.end();
}

/// Runs a case after which the console may say only what is expected.
fn case(
    cases: &mut Cases,
    browser: &Browser,
    name: &str,
    expected: impl Fn(&Complaint) -> bool,
    case: impl FnOnce(),
) {
    cases.run(name, || {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            case();
            let said: Vec<Complaint> =
                browser.complaints().into_iter().filter(|said| !expected(said)).collect();
            assert!(said.is_empty(), "the console says: {said:#?}");
        }));
        if let Err(panic) = ended {
            let seen = catch_unwind(AssertUnwindSafe(|| (browser.picture(name), browser.complaints())));
            if let Ok((picture, complaints)) = seen {
                eprintln!("the page as it was: {}", picture.display());
                eprintln!("its console: {complaints:#?}");
            }
            resume_unwind(panic);
        }
    });
}

/// Nothing is expected.
fn quiet(_: &Complaint) -> bool {
    false
}
