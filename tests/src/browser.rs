//! Somebody in front of a page: a real Chromium without a window, driven as the WebDriver standard says.
//!
//! ```text
//!  test ── click, type, press, hover ──► chromedriver ──► Chromium ──HTTP──► a node's dashboard
//!       ◄── text, console, requests, pictures ───────────────┘
//! ```
//!
//! What is clicked and typed goes through the browser's own input, not through scripts: what is hidden or covered cannot
//! be clicked. Waits look again and again, as pages draw themselves anew.

mod keys;
mod wire;

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

pub use keys::{DOWN, ENTER, ESCAPE, LEFT, RIGHT, SHIFT_TAB, TAB, UP};

use crate::{Machine, cli, ports, processes, wait_for};

/// How long something may take to come onto a page: pages look every five seconds, and agents may be starting.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);
/// How long the driver may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
/// How long the browser may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);
/// What a reference to an element is called in messages.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window; it ends with this.
#[derive(Debug)]
pub struct Browser {
    machine: Arc<Machine>,
    driver: Child,
    wire: wire::Wire,
    pictures: Cell<u32>,
}

/// A line of the browser's console, or a failed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// `javascript`, `network`, `security`, …
    pub source: String,
    /// For people.
    pub message: String,
}

/// What a page keeps in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Elements and texts, also those that are not shown.
    pub nodes: u64,
    /// Functions that wait for something to happen.
    pub listeners: u64,
    /// All that scripts keep.
    pub bytes: u64,
}

impl Browser {
    /// Starts a browser of its own, which knows nothing and nobody.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(machine: &Arc<Machine>) -> Self {
        let port = ports::free(1)[0];
        let log = fs::File::create(machine.path(&format!("chromedriver.{port}.log")));
        let log = log.expect("a log can be made in the test's own directory");
        let copy = log.try_clone().expect("an open file can be shared");
        let mut command = cli::plain("chromedriver", machine.place());
        command.arg(format!("--port={port}")).stdin(Stdio::null()).stdout(copy).stderr(log);
        let driver = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        let mut browser =
            Self { machine: Arc::clone(machine), driver, wire: wire::Wire::to(port), pictures: Cell::new(0) };
        wait_for("chromedriver is ready", STARTS_WITHIN, || {
            match browser.wire.ask("GET", "/status", None)? {
                status if status["ready"] == true => Ok(()),
                status => Err(status.to_string()),
            }
        });
        let profile = machine.path(&format!("chromium.{port}"));
        let opened = browser.wire.ask("POST", "/session", Some(&capabilities(&profile)));
        let opened = opened.unwrap_or_else(|error| panic!("opening a window of Chromium: {error}"));
        browser.wire.enter(opened["sessionId"].as_str().expect("a session has an id"));
        browser.sized(1280, 900);
        browser
    }

    fn tell(&self, path: &str, body: &Value) -> Value {
        self.try_tell(path, body).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn try_tell(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.wire.within("POST", path, Some(body))
    }

    /// Asks Chromium itself, past WebDriver.
    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.tell("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// What the page keeps, once everything is thrown away that nobody can reach any more.
    pub fn weight(&self) -> Weight {
        self.devtools("Performance.enable", &json!({}));
        // What is only reachable from what goes the first time goes the second.
        for _ in 0..2 {
            self.devtools("HeapProfiler.collectGarbage", &json!({}));
        }
        let metrics = self.devtools("Performance.getMetrics", &json!({}));
        let of = |name: &str| {
            let mut rows = metrics["metrics"].as_array().into_iter().flatten();
            let found = rows.find(|row| row["name"] == name).and_then(|row| row["value"].as_f64());
            found.unwrap_or_else(|| panic!("{name} in {metrics:#}")) as u64
        };
        Weight { nodes: of("Nodes"), listeners: of("JSEventListeners"), bytes: of("JSHeapUsedSize") }
    }

    /// Makes the page so wide and so high; one up to 500 wide is a phone's.
    pub fn sized(&self, width: u32, height: u32) {
        let size =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width <= 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Has the person like dark pages, or light ones.
    pub fn prefers(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    /// Cuts the browser off from every node, or lets it reach them again.
    pub fn cut_off(&self, is_off: bool) {
        self.devtools("Network.enable", &json!({}));
        let conditions =
            json!({ "offline": is_off, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 });
        self.devtools("Network.emulateNetworkConditions", &conditions);
    }

    /// Opens an address, as if it were typed.
    pub fn goto(&self, url: &str) {
        self.tell("/url", &json!({ "url": url }));
    }

    /// The address that is shown.
    pub fn url(&self) -> String {
        let url = self.wire.within("GET", "/url", None).unwrap_or_else(|error| panic!("{error}"));
        url.as_str().unwrap_or_default().to_owned()
    }

    /// Loads the page anew.
    pub fn reload(&self) {
        self.tell("/refresh", &json!({}));
    }

    /// What a script of the page's own returns. For looking, not for acting.
    pub fn evaluate(&self, script: &str) -> Value {
        self.tell("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// All text that can be seen.
    pub fn text(&self) -> String {
        let text = self.evaluate("return document.body.innerText");
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page is so, and gives its text.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("the page shows {what}"), SHOWN_WITHIN, || {
            let text = self.text();
            if is_so(&text) { Ok(text) } else { Err(format!("{}\n{text}\n", self.url())) }
        })
    }

    /// Waits until all of these can be read on the page.
    ///
    /// # Panics
    /// As [`Self::wait_for`].
    pub fn shows(&self, parts: &[&str]) -> String {
        self.wait_for(&format!("{parts:?}"), |text| parts.iter().all(|part| text.contains(part)))
    }

    /// Waits until a script gives something else than `null`, `false` and an empty text, and gives that.
    ///
    /// # Panics
    /// If it does not.
    pub fn waits(&self, what: &str, script: &str) -> Value {
        wait_for(what, SHOWN_WITHIN, || match self.evaluate(script) {
            Value::Null | Value::Bool(false) => Err(self.text()),
            Value::String(text) if text.is_empty() => Err(self.text()),
            value => Ok(value),
        })
    }

    fn element(&self, selector: &str) -> Result<String, String> {
        let using = if selector.starts_with("//") { "xpath" } else { "css selector" };
        let found = self.try_tell("/element", &json!({ "using": using, "value": selector }))?;
        found[ELEMENT].as_str().map(str::to_owned).ok_or_else(|| found.to_string())
    }

    /// Does something to an element as soon as it can be done.
    fn on(&self, selector: &str, act: impl Fn(&str) -> Result<(), String>) {
        wait_for(&format!("{selector} can be used"), SHOWN_WITHIN, || {
            self.element(selector)
                .and_then(|element| act(&element))
                .map_err(|error| format!("{}\n{}", error.lines().next().unwrap_or_default(), self.text()))
        });
    }

    /// Clicks on what a CSS selector or an XPath names.
    ///
    /// # Panics
    /// If nothing there can be clicked.
    pub fn click(&self, selector: &str) {
        // A part of it may be in sight, below the page's head: people scroll on.
        let scroll = "arguments[0].scrollIntoView({ block: 'center' })";
        self.on(selector, |element| {
            self.try_tell("/execute/sync", &json!({ "script": scroll, "args": [{ ELEMENT: element }] }))?;
            self.try_tell(&format!("/element/{element}/click"), &json!({})).map(drop)
        });
    }

    /// Clicks on a button by the words on it.
    ///
    /// # Panics
    /// If there is none that can be clicked.
    pub fn push(&self, words: &str) {
        self.click(&format!("//button[normalize-space()={words:?} and not(@disabled)]"));
    }

    /// Clicks on a link by the words on it.
    ///
    /// # Panics
    /// If there is none that can be clicked.
    pub fn follow(&self, words: &str) {
        self.click(&format!("//a[normalize-space()={words:?}]"));
    }

    /// Makes a field hold this text, by keys.
    ///
    /// # Panics
    /// If nothing can be typed there.
    pub fn fill(&self, selector: &str, text: &str) {
        self.on(selector, |element| {
            self.try_tell(&format!("/element/{element}/clear"), &json!({}))?;
            self.try_tell(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
        });
    }

    /// Points at something.
    ///
    /// # Panics
    /// If it is not there.
    pub fn hover(&self, selector: &str) {
        self.on(selector, |element| {
            let origin = json!({ ELEMENT: element });
            let there = json!({ "type": "pointerMove", "duration": 0, "origin": origin, "x": 0, "y": 0 });
            let mouse = json!({ "type": "pointer", "id": "mouse", "actions": [there] });
            self.try_tell("/actions", &json!({ "actions": [mouse] })).map(drop)
        });
    }

    /// Presses keys, wherever the focus is. See [`TAB`] and its siblings.
    pub fn press(&self, keys: &str) {
        self.tell("/actions", &keys::pressed(keys));
    }

    /// What has the focus, by its words or its label, and its kind: `A Nodes`.
    pub fn focused(&self) -> String {
        let script = "const at = document.activeElement; \
                      const words = at.getAttribute('aria-label') || at.innerText || at.placeholder || ''; \
                      return `${at.nodeName} ${words.trim().slice(0, 80)}`";
        self.evaluate(script).as_str().unwrap_or_default().to_owned()
    }

    /// What the console says since this was last asked: errors, refused and failed requests, broken policies.
    pub fn complaints(&self) -> Vec<Complaint> {
        let rows = self.tell("/se/log", &json!({ "type": "browser" }));
        let rows = rows.as_array().into_iter().flatten();
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let worth = rows.filter(|row| row["level"] == "SEVERE" || row["level"] == "WARNING");
        worth.map(|row| Complaint { source: text(row, "source"), message: text(row, "message") }).collect()
    }

    /// Addresses that were asked for since this was last asked, in their order.
    pub fn requests(&self) -> Vec<String> {
        let rows = self.tell("/se/log", &json!({ "type": "performance" }));
        let asked = rows.as_array().into_iter().flatten().filter_map(|row| {
            let entry: Value = serde_json::from_str(row["message"].as_str()?).ok()?;
            let message = &entry["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            let url = message["params"]["request"]["url"].as_str()?;
            is_request.then(|| url.to_owned())
        });
        asked.collect()
    }

    /// Takes a picture of the page; where it is.
    pub fn picture(&self, name: &str) -> PathBuf {
        let taken = self.wire.within("GET", "/screenshot", None);
        let taken = taken.unwrap_or_else(|error| panic!("taking a picture: {error}"));
        let bytes = base64::engine::general_purpose::STANDARD.decode(taken.as_str().unwrap_or_default());
        self.pictures.set(self.pictures.get() + 1);
        let plain = name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let name = format!("pictures/{:02}-{plain:.60}.png", self.pictures.get());
        self.machine.write(&name, bytes.expect("a picture is in base64"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends all of Chromium; what does not end is found below.
        let _ = self.wire.within("DELETE", "", None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let left = || {
            let all = processes::of(self.machine.place());
            all.into_iter().filter(|one| one.command.contains("chrom")).collect::<Vec<_>>()
        };
        let begun = std::time::Instant::now();
        while !left().is_empty() && begun.elapsed() < ENDS_WITHIN {
            crate::wait::pause();
        }
        left().iter().for_each(|one| processes::signal(one.pid, rustix::process::Signal::KILL));
    }
}

/// A window that nobody sees, which asks nobody for anything but what pages ask for, and tells of that.
fn capabilities(profile: &std::path::Path) -> Value {
    let profile = format!("--user-data-dir={}", profile.display());
    let arguments = [
        "--headless=new",
        // Tests run as root in places where namespaces may not be made.
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        // Pages are left sooner than by people.
        "--disable-ipc-flooding-protection",
        "--disable-extensions",
        "--no-first-run",
        "--no-default-browser-check",
        &profile,
    ];
    json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        // Nobody has given it the authority of a test's cluster.
        "acceptInsecureCerts": true,
        "goog:chromeOptions": {
            "binary": crate::need::program("chromium"),
            "args": arguments,
            "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false },
        },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    } } })
}
