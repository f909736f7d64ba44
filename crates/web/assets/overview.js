// How the cluster stands, and what needs attention first.

import { get } from "./api.js";
import { card, el, link, show, table, whichNode } from "./dom.js";
import { eventColumns } from "./events.js";
import { count, many, state, words } from "./words.js";

export const title = () => "Overview";

// States of buckets that are on their way or held up.
const UNDER_WAY = [["waiting_for_node", "warn"], ["quarantined", "warn"], ["placing", "busy"], ["starting", "busy"], ["stopping", "busy"]];

export function open(place) {
  return {
    async refresh() {
      const { cluster, attention, counts, more, events } = await get("overview");
      show(place, verdict(cluster, counts), tiles(cluster), concerns(attention, counts, more),
        el("div", { class: "pair" }, members(cluster), recent(events)));
    },
  };
}

function verdict(cluster, { act, watch, cut }) {
  const least = cut ? "at least " : "";
  const [tone, glyph, text] = act > 0 ? ["bad", "✕", `${least}${many(act, "thing")} to act on`]
    : watch > 0 ? ["warn", "!", `Works; ${least}${many(watch, "thing")} to watch`]
      : ["good", "✓", "All is well"];
  const spare = cluster.leader === null ? "Nothing can be decided now." : cluster.fault_tolerance === 0
    ? "No voter may fail without stopping the control plane."
    : `${many(cluster.fault_tolerance, "more voter")} may fail with the control plane still working.`;
  return el("div", { class: `verdict ${tone}` }, el("span", { class: `big ${tone}`, "aria-hidden": "true" }, glyph),
    el("div", null, el("h1", null, text), el("p", { class: "quiet" }, spare)));
}

function tile(page, title, number, parts) {
  return el("div", { class: "tile" }, link(page, null, title), el("b", null, number),
    el("div", { class: "words" }, parts.filter(Boolean)));
}

function part(number, word, tone) {
  return number > 0 ? el("span", { class: tone }, `${count(number)} ${words(word)}`) : null;
}

function tiles({ nodes, buckets, jobs, leader, term, revision, fault_tolerance: spare }) {
  const sum = (counts) => Object.values(counts).reduce((all, number) => all + number, 0);
  // What subtasks of theirs are ready is counted beside them.
  const { subtasks_ready: _, ...ofJobs } = jobs;
  // Those under way are counted by their states and together; a node of a former release says them together alone.
  const underWay = UNDER_WAY.map(([word]) => buckets[word]).reduce((all, number) => all + number, 0);
  return el("div", { class: "tiles" },
    tile("nodes", "Leader", leader ?? "none", [el("span", null, `term ${count(term)}`), el("span", null, `revision ${count(revision)}`)]),
    tile("nodes", "Fault tolerance", count(spare), [el("span", null, "voters may fail")]),
    tile("nodes", "Nodes", count(nodes.ready + nodes.lost + nodes.draining),
      [part(nodes.ready, "ready", "good"), part(nodes.draining, "draining", "warn"), part(nodes.lost, "lost", "bad")]),
    tile("buckets", "Buckets", count(sum(buckets) - underWay), [part(buckets.running, "running", "good"), part(buckets.partial, "partial", "warn"),
      part(buckets.unplaced, "unplaced", "bad"), part(buckets.failed, "failed", "bad"), part(buckets.suspended, "suspended", "idle"),
      UNDER_WAY.map(([word, tone]) => part(buckets[word], word, tone)), part(buckets.other - underWay, "other", "busy")]),
    tile("jobs", "Jobs", count(sum(ofJobs)),
      [part(jobs.running, "running", "busy"), part(jobs.paused, "paused", "warn"), part(jobs.finished, "finished", "good"),
        part(jobs.failed, "failed", "bad"), part(jobs.canceled, "canceled", "idle")]));
}

function subject({ kind, subject: name, number, state: status }) {
  if (kind === "jobs") return link("jobs", null, "that ended");
  if (kind === "cluster" || !name) return "the cluster";
  return link(kind, { name: kind === "node" ? whichNode({ id: number, name, status }) : name }, name);
}

function concerns(attention, counts, more) {
  const body = attention.length === 0
    ? el("p", { class: "empty" }, "Nothing. Every node is ready, every bucket is as it should be.")
    : table("Needs attention", [
      { title: "What", cell: (one) => [el("span", { class: "quiet" }, `${one.kind} `), subject(one)] },
      { title: "State", cell: (one) => state(one.state) },
      { title: "Why", text: true, cell: (one) => one.why },
    ], attention, (one) => `${one.kind} ${one.subject} ${one.number} ${one.state}`);
  const rest = more > 0 ? el("span", { class: "small quiet" }, `and ${counts.cut ? "at least " : ""}${count(more)} more`) : null;
  return card("Needs attention", rest, body);
}

function members({ members: all }) {
  const about = el("span", { class: "small quiet" }, "who keeps the replicated log");
  if (all.length === 0) return card("Members", about, el("p", { class: "empty" }, "The cluster is not formed yet: its first nodes have not found each other."));
  return card("Members", about, table("Members", [
    { title: "Node", cell: (one) => link("node", { name: one.name }, one.name) },
    { title: "Role", cell: (one) => `${words(one.role)}${one.voter && !/voter|leader/.test(one.role) ? ", voter" : ""}` },
    { title: "Lag", number: true, cell: (one) => (one.match_lag === null ? "–" : count(one.match_lag)) },
    { title: "Address", cell: (one) => el("span", { class: "mono small" }, one.address) },
  ], all, (one) => one.name));
}

function recent(rows) {
  const all = link("events", null, "all");
  return card("Lately", el("span", { class: "small" }, all), rows.length === 0
    ? el("p", { class: "empty" }, "Nothing has happened yet.")
    : table("Lately", eventColumns().filter(({ title: name }) => ["When", "What", "Subject", "Message"].includes(name)), rows,
      (row) => `${row.revision} ${row.kind} ${row.subject} ${row.node}`));
}
