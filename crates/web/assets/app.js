// The shell: which page is shown, when it looks again, and whether the node can be reached.
//
//   address (#/PAGE?NAME=VALUE) ──► page.open(main, params) ──► { refresh, close }
//   events of the node, a clock ──► refresh: a hint, the page looks at everything anew

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
import * as search from "./search.js";

const PAGES = { "": overview, affinity: matrix, nodes, node, buckets, bucket, jobs, job, subtask, events, search };
const NAVIGATION = [["", "Overview"], ["affinity", "Affinity"], ["nodes", "Nodes"], ["buckets", "Buckets"], ["jobs", "Jobs"],
  ["events", "Events"], ["search", "Search"]];
const BELONGS = { node: "nodes", bucket: "buckets", job: "jobs", subtask: "jobs" };
// Not more often, however much happens; and at least so often, as load and verdicts make no events.
const SOONEST = 1000;
const LATEST = 5000;

const main = document.getElementById("main");
const where = document.getElementById("where");
const notice = document.getElementById("notice");
const navigation = document.getElementById("pages");

let shown = null;
let current = null;
let session = null;
let live = "starting";
let seen = Date.now();
let due = null;
let looked = 0;
let busy = false;
let waiting = false;
let asking = false;

function place() {
  const hash = location.hash.startsWith("#/") ? location.hash.slice(2) : "";
  const at = hash.indexOf("?");
  const name = at < 0 ? hash : hash.slice(0, at);
  return { name, params: new URLSearchParams(at < 0 ? "" : hash.slice(at + 1)) };
}

function head() {
  show(where, session ? el("span", null, `on ${session.node}`) : null,
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

async function go() {
  const { name, params } = place();
  // The skip link, not a page.
  if (location.hash && !location.hash.startsWith("#/")) return;
  shown?.close?.();
  shown = null;
  const page = PAGES[name];
  current = page ? name : null;
  main.replaceChildren();
  window.scrollTo(0, 0);
  head();
  if (!page) {
    document.title = "Sheaf";
    show(main, el("h1", null, "There is no such page"), el("p", null, el("a", { href: "#/" }, "To the overview")));
    return;
  }
  document.title = `${page.title(params)} – Sheaf`;
  show(main, el("p", { class: "quiet" }, "Loading …"));
  shown = page.open(main, params, { again: soon });
  await look();
}

/** Has the page look again, soon. */
function soon() {
  if (due !== null) return;
  due = setTimeout(look, Math.max(0, looked + SOONEST - Date.now()));
}

async function look() {
  clearTimeout(due);
  due = null;
  if (busy) {
    waiting = true;
    return;
  }
  busy = true;
  const page = shown;
  looked = Date.now();
  try {
    await page?.refresh();
    if (page === shown) {
      seen = Date.now();
      say("");
    }
  } catch (error) {
    if (page === shown && error.name !== "AbortError") trouble(error);
  }
  busy = false;
  if (waiting || page !== shown) {
    waiting = false;
    soon();
  }
}

/** Whoever looks has to log in first; then everything begins anew. */
function enter() {
  if (asking) return;
  asking = true;
  shown?.close?.();
  shown = null;
  say("");
  login.ask(main, () => { asking = false; know(); go(); });
}

function leave() {
  logout().then(() => { know(); enter(); }, (error) => say(error.message));
}

function know() {
  know();
}

function trouble(error) {
  if (error.code === "unauthenticated") {
    enter();
    return;
  }
  const fixed = ["invalid", "not_found", "forbidden"].includes(error.code);
  if (fixed) {
    say("");
    show(main, el("h1", null, error.code === "not_found" ? "Not found" : "Refused"), el("p", { class: "error" }, error.message));
    return;
  }
  const since = new Date(seen).toLocaleTimeString();
  say(`${error.message}. What is shown is from ${since}.`);
}

function listen() {
  follow("events", null, {
    ready: () => { live = "ready"; head(); soon(); },
    event: soon,
    trouble: ({ error }) => { live = "trying"; head(); say(`${error.message}; trying again.`); },
    lost: (closed) => {
      live = closed ? "not answered" : "trying";
      head();
      soon();
      // Refused, e.g. because too many look: the browser gives up, we do not.
      if (closed) setTimeout(listen, LATEST);
    },
  });
}

window.addEventListener("hashchange", go);
setInterval(() => { if (!document.hidden && Date.now() - looked >= LATEST) look(); }, SOONEST);
document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
go();
listen();
who().then((known) => { session = known; head(); }, () => {});
