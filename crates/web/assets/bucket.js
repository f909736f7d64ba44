// One bucket: where it runs and why, every node and every gate, output, revisions, and what can be done with it.

import { change, get } from "./api.js";
import { button, confirm, simple } from "./act.js";
import { difference } from "./changes.js";
import { card, el, facts, link, show, table } from "./dom.js";
import { eventColumns } from "./events.js";
import { list } from "./list.js";
import { logs } from "./logs.js";
import { ago, bytes, count, look, many, state, tags } from "./words.js";

export const title = (params) => params.get("name") ?? "Bucket";

const TAIL = 100;

export function open(main, params, { again }) {
  const name = params.get("name") ?? "";
  const output = logs({ title: "Output", path: "bucket/logs", params: { name, follow: true, tail: TAIL } });
  const events = list({
    title: "History", again, size: 20, keyOf: (row) => `${row.revision} ${row.kind} ${row.node} ${row.after}`,
    columns: eventColumns().filter((column) => column.title !== "Subject"),
    ask: () => ["event/list", { subject: name }], empty: "Nothing happened to it that is remembered.",
  });
  // Which revision's difference is shown.
  let opened = null;
  const releases = list({
    title: "Revisions", again, size: 10, keyOf: (row) => String(row.revision), empty: "It has no revisions that are remembered.",
    ask: () => ["bucket/history", { name }],
    columns: [
      { title: "Revision", number: true, cell: (row) => count(row.revision) },
      { title: "When", cell: (row) => ago(row.at) },
      { title: "By", cell: (row) => row.actor },
      { title: "Changed", text: true, cell: (row) => changed(row) },
      { title: "", cell: (row) => (row === releases.rows()[0] ? el("span", { class: "quiet small" }, "present")
        : button("Back to this …", () => rollback(name, row, releases.rows()[0], again))) },
    ],
  });
  function changed(row) {
    const rows = releases.rows();
    const before = rows[rows.indexOf(row) + 1];
    if (row.changed.length === 0) return el("span", { class: "quiet" }, before ? "nothing" : "the oldest here");
    const open = opened === row.revision;
    return [el("button", { type: "button", class: "plain", "aria-expanded": open ? "true" : "false",
      onclick: () => { opened = open ? null : row.revision; again(); } }, `${open ? "▾" : "▸"} ${row.changed.join(", ")}`),
    open && before ? difference(before.bucket, row.bucket) : null];
  }
  return {
    async refresh() {
      const [status, explained] = await Promise.all([get("bucket/status", { name }), get("bucket/explain", { name }), events.refresh(), releases.refresh()]);
      show(main, head(status, explained, again), el("div", { class: "pair" }, about(status), decision(explained, status)), instances(status),
        gates(explained), output.view(), releases.view(), events.view());
    },
    close: () => output.close(),
  };
}

function head(status, explained, again) {
  return el("div", { class: "title" },
    el("div", null, el("div", { class: "crumb" }, link("buckets", null, "Buckets")), el("h1", null, status.name)), state(status.state),
    el("span", { class: "quiet wrap" }, status.message), el("div", { class: "acts" }, acts(status, explained, again)));
}

function where(status) {
  const on = status.instances.map((one) => one.node);
  return on.length === 0 ? "It runs nowhere now." : `It runs on ${on.length > 6 ? many(on.length, "node") : on.join(", ")} now.`;
}

function acts(status, explained, done) {
  const { name, revision } = status;
  const body = { name, revision };
  const found = [];
  if (status.suspended || status.state === "quarantined") {
    found.push(button("Resume …", () => simple({ title: `Resume ${name}?`, verb: "Resume it", done, path: "bucket/resume", body,
      text: async () => status.multi_node ? "It starts on every available node." : "It is placed, and starts on one node." })));
  }
  if (!status.suspended) {
    found.push(button("Suspend …", () => simple({ title: `Suspend ${name}?`, verb: "Suspend it", danger: true, done, path: "bucket/suspend", body,
      text: async () => `${where(status)} It is stopped everywhere, and stays off until somebody resumes it.` })));
    found.push(button("Restart …", () => simple({ title: `Restart ${name}?`, verb: "Restart it", done, path: "bucket/restart", body,
      text: async () => `${where(status)} Each instance is stopped and started anew, all at once.` })));
    if (!status.multi_node) found.push(button("Move …", () => move(status, explained, done)));
  }
  found.push(button("Purge …", () => simple({ title: `Purge ${name}?`, verb: "Purge it", danger: true, done, path: "bucket/purge", body,
    text: async () => `${where(status)} Its module is told to throw away what it has collected. That cannot be undone.` }), true));
  found.push(button("Delete …", () => simple({ title: `Delete ${name}?`, verb: "Delete it", danger: true, done, path: "bucket/delete", body,
    text: async () => `${where(status)} It is stopped everywhere, its directories are removed, and ${many(status.objects, "object")} that its module keeps. Its history stays.` }), true));
  return found;
}

function move(status, explained, done) {
  const able = explained.nodes.filter((one) => one.eligible && !one.running).map((one) => one.node);
  const body = (values) => ({ name: status.name, revision: status.revision, to: values.to || null });
  confirm({
    title: `Move ${status.name}?`, verb: "Move it", done,
    fields: [{ name: "to", label: "To", value: "", options: [["", "any other node"], ...able.map((one) => [one, one])] }],
    consequence: async (values) => {
      if (able.length === 0) throw new Error("No other node is available for it: it would stop here and start nowhere.");
      return el("p", null, `${where(status)} It is stopped there first, then started on ${values.to || "another node"} under a higher epoch.`);
    },
    act: (values) => change("bucket/move", body(values)),
  });
}

function rollback(name, release, present, done) {
  confirm({
    title: `Make ${name} what it was at revision ${release.revision}?`, verb: "Roll back", done,
    consequence: async () => [el("p", null, "These fields change, and its instances with them:"), difference(present.bucket, release.bucket)],
    act: () => change("bucket/rollback", { name, to: release.revision }),
  });
}

function about(status) {
  const labels = Object.entries(status.labels).map(([key, value]) => `${key}=${value}`);
  const rollout = status.rollout;
  return card("What it is", null, el("div", { class: "inner" }, facts([
    ["Module", link("search", { sql: `SELECT * FROM modules WHERE name = '${status.module.split("@")[0]}'` }, status.module)],
    ["Type", status.type],
    ["Runs on", status.multi_node ? "every available node" : "one node at a time"],
    ["Rules", status.node_list_rules.length > 0 ? tags(status.node_list_rules) : "every node"],
    ["Running", `${count(status.running)} of ${count(status.desired)}`],
    ["Owner", status.owner],
    ["Labels", labels.length > 0 ? tags(labels) : null],
    ["Revision", count(status.revision)],
    ["Quarantined", status.quarantined_until ? ["until ", ago(status.quarantined_until)] : null],
    ["Its module says", status.emergency],
    ["Keeps", status.objects > 0 ? `${many(status.objects, "object")}, ${bytes(status.object_bytes)}` : null],
    ["Rollout", rollout ? `${count(rollout.released.length)} of ${many(rollout.nodes, "node")} at revision ${rollout.revision}${rollout.stopped ? `; stopped: ${rollout.stopped}` : ""}` : null],
  ])));
}

function decision(explained, status) {
  const { decision: made } = explained;
  if (!made) {
    const text = status.multi_node ? "A multi-node bucket is not placed: it runs on every node whose gates let it." : explained.message || "It is bound to no node now.";
    return card("Why there", null, el("p", { class: "empty" }, text));
  }
  return card("Why there", null, el("div", { class: "inner" }, facts([
    ["Bound to", link("node", { name: made.chosen }, made.chosen)],
    ["Epoch", count(made.epoch)],
    ["Since", ago(made.at)],
    ["Because", made.why],
    ["Before others", made.runners_up.length > 0 ? made.runners_up.map((one) => el("div", null, one)) : null],
    ["In the way", explained.message],
  ])));
}

function instances(status) {
  const body = status.instances.length === 0 ? el("p", { class: "empty" }, "It runs nowhere.")
    : table("Instances", [
      { title: "Node", cell: (row) => link("node", { name: row.node }, row.node) },
      { title: "Phase", cell: (row) => state(row.phase) },
      { title: "Epoch", number: true, cell: (row) => row.epoch ?? "–" },
      { title: "Process", number: true, cell: (row) => row.pid ?? "–" },
      { title: "Started", cell: (row) => ago(row.started_at) },
      { title: "Restarts", number: true, cell: (row) => count(row.restarts) },
      { title: "Message", text: true, cell: (row) => row.message },
    ], status.instances, (row) => row.node);
  return card("Instances", null, body);
}

const GATES = ["local_config", "node_list_rules", "can_run_on_this_node"];

function gates(explained) {
  const outcome = (row, gate) => {
    const found = row.gates.find((one) => one.gate === gate);
    if (!found) return "";
    const word = found.pass === null ? "unknown" : found.pass ? "pass" : "refuse";
    const [glyph, tone] = look(word);
    return [el("span", { class: tone === "none" ? "idle" : tone }, `${glyph} ${word} `), el("span", { class: "small quiet" }, found.reason)];
  };
  return card("Every node, every gate", null, table("Every node, every gate", [
    { title: "Node", cell: (row) => link("node", { name: row.node }, row.node) },
    { title: "Status", cell: (row) => state(row.status) },
    { title: "Available", cell: (row) => (row.eligible ? el("span", { class: "good" }, "✓ yes") : el("span", { class: "idle" }, "· no")) },
    { title: "Runs", cell: (row) => (row.running ? "● runs" : "") },
    ...GATES.map((gate) => ({ title: gate, text: true, cell: (row) => outcome(row, gate) })),
  ], explained.nodes, (row) => row.node));
}
