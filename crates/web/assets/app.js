// The shell: which page is shown, when it looks again, and whether the node can be reached.
//
//   address (#/PAGE?NAME=VALUE) ──► page.open(place, params) ──► { refresh, close }
//   changes told by the node, a clock ──► refresh: a hint, the page looks at everything anew
//
// Each page draws into a place of its own: one that is still asking when another is opened draws where nobody looks.

import { follow, logout, who } from "./api.js";
import { el, href, show } from "./dom.js";
import { state } from "./words.js";
import * as login from "./login.js";
import * as overview from "./overview.js";
import * as matrix from "./matrix.js";
import * as nodes from "./nodes.js";
import * as node from "./node.js";
import * as buckets from "./buckets.js";
import * as bucket from "./bucket.js";
import * as jobs from "./jobs.js";
import * as job from "./job.js";
import * as subtask from "./subtask.js";
import * as events from "./events.js";
import * as sinks from "./sinks.js";
import * as sink from "./sink.js";
import * as search from "./search.js";

const PAGES = { "": overview, affinity: matrix, nodes, node, buckets, bucket, jobs, job, subtask, events, sinks, sink, search };
const NAVIGATION = [["", "Overview"], ["affinity", "Affinity"], ["nodes", "Nodes"], ["buckets", "Buckets"], ["jobs", "Jobs"],
  ["events", "Events"], ["sinks", "Sinks"], ["search", "Search"]];
const BELONGS = { node: "nodes", bucket: "buckets", job: "jobs", subtask: "jobs", sink: "sinks" };
// Not more often, however much happens; and at least so often, as load and verdicts make no events.
const SOONEST = 1000;
const LATEST = 5000;
const SPREAD = 250;

const main = document.getElementById("main");
const where = document.getElementById("where");
const notice = document.getElementById("notice");
const navigation = document.getElementById("pages");

let shown = null;
let current = null;
let session = null;
// Of the node when it gave out this page.
let version = null;
let unfollow = null;
let live = "starting";
let seen = Date.now();
let due = null;
let looked = 0;
let asking = false;

function place() {
  const hash = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
  const at = hash.indexOf("?");
  const name = at < 0 ? hash : hash.slice(0, at);
  return { name, params: new URLSearchParams(at < 0 ? "" : hash.slice(at + 1)) };
}

function head() {
  const known = session?.asker;
  const rights = known ? `${known.name} (${known.role}${known.prefix ? ` on ${known.prefix}` : ""}) ` : "";
  const open = session && !session.secured;
  show(where, open ? el("span", { class: "state warn", title: "Whoever reaches this port may do everything" },
      el("i", { "aria-hidden": "true" }, "!"), "NOT secured") : null,
    session ? el("span", null, `${rights}on ${session.node}`) : null,
    session?.logged_in ? el("button", { type: "button", onclick: leave }, "Log out") : null,
    live === "ready" ? el("span", { class: "state good" }, el("i", { "aria-hidden": "true" }, "●"), "live") : state(live));
  const here = current === null ? null : BELONGS[current] ?? current;
  show(navigation, NAVIGATION.map(([name, title]) =>
    el("a", { href: href(name), "aria-current": name === here ? "page" : null }, title)));
}

function say(text) {
  notice.hidden = !text;
  show(notice, text);
}

/** Ends the page that is shown, with what it asks, and gives a place for another. */
function clear() {
  shown?.close?.();
  shown = null;
  document.querySelectorAll("dialog").forEach((dialog) => dialog.close());
  const fresh = el("div", { class: "page" });
  main.replaceChildren(fresh);
  return fresh;
}

function go() {
  if (asking || !session) return;
  const { name, params } = place();
  const page = PAGES[name];
  current = page ? name : null;
  const fresh = clear();
  window.scrollTo(0, 0);
  head();
  if (!page) {
    document.title = "Sheaf";
    show(fresh, el("h1", null, "There is no such page"), el("p", null, el("a", { href: "#/" }, "To the overview")));
    return;
  }
  document.title = `${page.title(params)} – Sheaf`;
  show(fresh, el("p", { class: "quiet" }, "Loading …"));
  shown = page.open(fresh, params, { again: soon });
  look();
}

/** Has the page look again, soon. */
function soon() {
  if (due !== null) return;
  due = setTimeout(look, Math.max(0, looked + SOONEST - Date.now()));
}

async function look() {
  clearTimeout(due);
  due = null;
  const page = shown;
  if (!page || left()) return;
  if (page.busy) {
    page.waiting = true;
    return;
  }
  page.busy = true;
  looked = Date.now();
  try {
    await page.refresh();
    if (page === shown) {
      seen = Date.now();
      say("");
    }
  } catch (error) {
    if (page === shown) trouble(error);
  }
  page.busy = false;
  if (page.waiting && page === shown) {
    page.waiting = false;
    soon();
  }
}

/** Whoever looks has to log in first; then everything begins anew. */
function enter(why) {
  if (asking) return;
  asking = true;
  unfollow?.();
  unfollow = null;
  live = "logged out";
  const fresh = clear();
  document.title = "Log in – Sheaf";
  current = null;
  session = { ...session, logged_in: false, asker: null };
  say("");
  head();
  login.ask(fresh, why, () => { asking = false; begin(); });
}

function leave() {
  logout().then(begin, (error) => say(error.message));
}

function trouble(error) {
  if (error.code === "unauthenticated") {
    who(true).then((known) => { session = known; }, () => {}).then(() => enter(`You are logged out: ${error.message}.`));
    return;
  }
  const fixed = ["invalid", "not_found", "forbidden"].includes(error.code);
  if (fixed) {
    say("");
    show(clear(), el("h1", null, error.code === "not_found" ? "Not found" : "Refused"), el("p", { class: "error" }, error.message),
      el("p", null, el("button", { type: "button", onclick: go }, "Look again")));
    return;
  }
  const since = new Date(seen).toLocaleTimeString();
  say(`${error.message ?? error}. What is shown is from ${since}.`);
}

function listen() {
  unfollow?.();
  // One that begins unseen is followed later, and by then the node may be another version.
  let first = !document.hidden;
  unfollow = follow("changes", null, {
    ready: () => {
      live = "ready";
      head();
      soon();
      // Also where nothing was lost: while nobody looks nothing is followed.
      if (!first) renew();
      first = false;
    },
    // Not every page that is open asks in the same moment.
    change: () => setTimeout(soon, Math.random() * SPREAD),
    trouble: ({ error }) => {
      first = false;
      live = "trying";
      head();
      say(`${error.message}; trying again.`);
    },
    lost: (closed) => {
      first = false;
      live = closed ? "not answered" : "trying";
      head();
      soon();
    },
  });
}

/** Leaves this page for that of another version, if the node has become one; not while somebody is asked something. */
function left() {
  if (session.version === version || document.querySelector("dialog")) return false;
  location.reload();
  return true;
}

/** After the node was away: it may know nobody any more, and it may be another version, with other pages. */
async function renew() {
  try {
    session = await who(true);
    // Who is just logging in keeps what is typed: all begins anew after that.
    if (asking || left()) return;
    head();
    if (session.secured && !session.logged_in) enter("The node was started again, and has forgotten who you are.");
  } catch {
    // It is away again; the page says so.
  }
}

async function begin() {
  try {
    session = await who(true);
  } catch (error) {
    say(`${error.message}.`);
    setTimeout(begin, LATEST);
    return;
  }
  version ??= session.version;
  if (left()) return;
  say("");
  if (session.secured && !session.logged_in) {
    enter("");
    return;
  }
  live = "starting";
  go();
  listen();
}

window.addEventListener("hashchange", () => {
  go();
  // Who goes on by keys goes on in the page, not behind it.
  main.focus({ preventScroll: true });
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
setInterval(() => { if (!document.hidden && Date.now() - looked >= LATEST) look(); }, SOONEST);
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
head();
begin();
