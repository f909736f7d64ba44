//! A page that is left open while nodes are away: it says so, keeps what it shows, and goes on by itself.

use std::path::PathBuf;

use sheaf_tests::Cases;
use sheaf_tests::browser::Complaint;

use crate::scene::{Scene, address, of};
use crate::{case, quiet};

pub(crate) fn cases(cases: &mut Cases, scene: &Scene) {
    // What was asked of a node that was away.
    let away = |said: &Complaint| said.source == "network";
    let browser = &scene.browser;
    case(cases, browser, "the leader is killed: the page sees the next one", away, || leader(scene));
    case(
        cases,
        browser,
        "the node's agent is stopped and started: the page says so, and goes on",
        away,
        || {
            restart(scene);
        },
    );
    case(cases, browser, "the line to the node is cut, and comes back", away, || cut_off(scene));
    case(
        cases,
        browser,
        "the node's agent comes back as another version: the page is that one's",
        away,
        || {
            upgraded(scene);
        },
    );
}

/// A page that is loaded anew would forget it.
fn stays(scene: &Scene) {
    assert_eq!(scene.browser.evaluate("return window.stays"), true, "the page was loaded anew");
}

fn leader(scene: &Scene) {
    let former = scene.cluster.leader().name();
    let other = scene.cluster.agents().iter().find(|agent| agent.name() != former).expect("there are three");
    let browser = &scene.browser;
    browser.goto(&address(other, ""));
    browser.shows(&["Leader", &former, "live"]);
    browser.evaluate("window.stays = true");
    scene.cluster.named(&former).kill();
    let next = scene.cluster.leader().name();
    assert_ne!(next, former);
    browser.waits(
        "the next leader is shown",
        &format!("return document.querySelector('.tile b')?.innerText === '{next}'"),
    );
    scene.cluster.named(&former).start();
    scene.cluster.wait_back(scene.cluster.named(&former));
    browser.wait_for("that all is well again", |text| {
        text.contains("3 ready") && text.contains("live") && !text.contains("What is shown is from")
    });
    stays(scene);
}

fn restart(scene: &Scene) {
    let agent = scene.cluster.agent(1);
    let browser = scene.open("");
    browser.reload();
    scene.open(&of("bucket", "/web/one"));
    browser.shows(&["Why there", "live"]);
    browser.evaluate("window.stays = true");
    agent.stop();
    browser.shows(&["The node does not answer; trying again. What is shown is from ", "trying"]);
    browser.shows(&["Why there", "/web/one"]);
    agent.start();
    scene.cluster.wait_back(agent);
    browser.wait_for("that it goes on", |text| {
        text.contains("live") && !text.contains("What is shown is from") && !text.contains("trying")
    });
    // The node has forgotten the session; an act begins another.
    browser.push("Restart …");
    browser.shows(&["Each instance is stopped and started anew"]);
    browser.push("Restart it");
    browser.wait_for("no question any more", |text| !text.contains("Each instance is stopped"));
    scene.cluster.wait_state("/web/one", "running");
    stays(scene);
}

fn cut_off(scene: &Scene) {
    let browser = scene.open("nodes");
    browser.shows(&["n3", "live"]);
    browser.evaluate("window.stays = true");
    browser.cut_off(true);
    browser.shows(&["The node does not answer; trying again. What is shown is from "]);
    browser.cut_off(false);
    browser
        .wait_for("that it goes on", |text| text.contains("live") && !text.contains("What is shown is from"));
    stays(scene);
}

/// Has the page believe that nobody sees it, or that somebody does again.
fn hide(scene: &Scene, is_hidden: bool) {
    scene.browser.evaluate(&format!(
        "Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}); \
         document.dispatchEvent(new Event('visibilitychange'))"
    ));
}

/// Counts how often a page has learned who the node is.
const COUNT: &str = "
    const ask = window.fetch;
    [window.stays, window.met] = [true, 0];
    window.fetch = async (url, options) => {
      const answer = await ask(url, options);
      if (answer.ok && url === '/api/v1/session') window.met += 1;
      return answer;
    };
";

/// Once while nobody looks, and once while somebody is asked something, which is not taken away.
fn upgraded(scene: &Scene) {
    let (agent, browser) = (scene.cluster.agent(1), &scene.browser);
    let becomes = |binary: Option<PathBuf>| {
        agent.stop();
        agent.change(|plan| plan.binary = binary);
        agent.start();
        scene.cluster.wait_back(agent);
    };
    let is_anew = || browser.waits("the page is loaded anew", "return window.stays === undefined");
    scene.open("nodes");
    browser.shows(&["n3", "live"]);
    browser.evaluate("window.stays = true");
    hide(scene, true);
    becomes(Some(scene.cluster.machine().next_version().0));
    hide(scene, false);
    is_anew();
    scene.open(&of("bucket", "/web/one"));
    browser.shows(&["Why there", "live"]);
    browser.evaluate(COUNT);
    browser.push("Restart …");
    browser.shows(&["Each instance is stopped and started anew"]);
    becomes(None);
    browser.waits("it has learned that it is another", "return window.met > 0");
    browser.push("Cancel");
    is_anew();
    browser.shows(&["Why there", "live"]);
}

/// Another node comes under the name of one that is lost: both can be opened, and what is done is done to the one that is shown.
pub(crate) fn heir(cases: &mut Cases, scene: &mut Scene) {
    let (browser, cluster) = (&scene.browser, &mut scene.cluster);
    case(cases, browser, "a node that is lost can be opened when another has its name", quiet, || {
        let name = cluster.add(|_| {}).name();
        cluster.start_all();
        cluster.wait_node(&name, "ready");
        let former = cluster.node_id(&name);
        cluster.named(&name).kill_machine();
        cluster.wait_node(&name, "lost");
        cluster.add(|plan| plan.name.clone_from(&name)).start();
        cluster.wait_node(&name, "ready");
        assert_ne!(cluster.node_id(&name), former, "another node");
        browser.goto(&address(cluster.agent(1), "nodes"));
        let links = format!("[...document.querySelectorAll('a')].filter((a) => a.innerText === '{name}')");
        browser.waits("both are listed", &format!("return {links}.length === 2"));
        let places = browser.evaluate(&format!("return {links}.map((a) => a.hash)"));
        let lost = format!("#/node?name=%2B{former}");
        assert!(places.as_array().is_some_and(|all| all.contains(&lost.clone().into())), "{places}");
        browser.goto(&address(cluster.agent(1), &of("bucket", "/web/all")));
        let gates = format!(
            "[...document.querySelectorAll('a')].filter((a) => a.innerText === '{name} (node {former})')"
        );
        browser.waits(
            "the gates of the lost one lead to it",
            &format!("return {gates}.some((a) => a.hash === '{lost}')"),
        );
        browser.goto(&address(cluster.agent(1), "affinity"));
        let mut titles = Vec::new();
        for known in [name.clone(), format!("{name} #1")] {
            browser.click(&format!("[data-key='/web/all {known}'] button"));
            let title = "return document.querySelector('[data-key=story] h2')?.innerText ?? ''";
            let title = browser.waits("the cell's own history", title);
            titles.push(title.as_str().unwrap_or_default().to_owned());
            browser.push("Close");
            browser.wait_for("no history any more", |text| !text.contains("Gates"));
        }
        let mut expected =
            [former, cluster.node_id(&name)].map(|id| format!("/web/all on {name} (node {id})"));
        titles.sort();
        expected.sort();
        assert_eq!(titles, expected);
        browser.goto(&address(cluster.agent(1), "nodes"));
        browser.click(&format!("a[href='{lost}']"));
        browser.shows(&[&name, "lost", "Forget …", "of every node of this name"]);
        browser.push("Forget …");
        browser.shows(&["You vouch that nothing it ran is alive."]);
        browser.push("Forget it");
        cluster.wait_node(&former.to_string(), "left");
        cluster.wait_node(&name, "ready");
    });
}
