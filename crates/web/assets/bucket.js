// One bucket: where it runs and why, every node and every gate, output, revisions, and what can be done with it.

import { change, get, may, page } from "./api.js";
import { button, confirm, simple } from "./act.js";
import { difference } from "./changes.js";
import { card, el, facts, link, nodeLinks, show, whichNode } from "./dom.js";
import { eventColumns } from "./events.js";
import { list, parts } from "./list.js";
import { logs } from "./logs.js";
import { ago, bytes, count, look, many, state, tags } from "./words.js";

export const title = (params) => params.get("name") ?? "Bucket";

const TAIL = 200;
const GATES = ["local_config", "node_list_rules", "can_run_on_this_node"];

export function open(place, params, { again }) {
  const name = params.get("name") ?? "";
  const output = logs({ title: "Output", path: "bucket/logs", params: { name, follow: true, tail: TAIL } });
  const events = list({
    title: "History", again, size: 20, keyOf: (row) => `${row.revision} ${row.kind} ${row.node} ${row.after}`,
    columns: eventColumns().filter((column) => column.title !== "Subject"),
    ask: () => ["event/list", { subject: name }], empty: "Nothing happened to it that is remembered.",
  });
  const revised = revisions(name, again);
  let nodes = nodeLinks([]);
  const to = (row) => nodes.to(row);
  const running = instances(again, to);
  const gated = gates(again, to);
  const declared = declaration();
  return {
    async refresh() {
      const [status, explained] = await Promise.all([get("bucket/status", { name }), get("bucket/explain", { name }), events.refresh(), revised.refresh()]);
      const module = may("bucket", name) ? await declared(status.module) : null;
      nodes = nodeLinks([...explained.nodes, ...status.instances]);
      show(place, head(status, module, again), el("div", { class: "pair" }, about(status), decision(explained, status, to)), running.view(status.instances),
        gated.view(explained.nodes), output.view(status.instances.map((one) => one.node)), revised.view(), events.view());
    },
    close: () => output.close(),
  };
}

/** Its revisions: what each changed, how any two differ, and the way back to one. */
function revisions(name, again) {
  // Which revision's own change is shown, which two are compared, and what came before the last one of a page.
  let opened = null;
  let [from, to] = [null, null];
  let whole = null;
  const earlier = new Map();
  const all = list({
    title: "Revisions", again, size: 10, keyOf: (row) => String(row.revision), empty: "It has no revisions that are remembered.",
    ask: () => ["bucket/history", { name }], above: compare,
    columns: [
      { title: "Revision", number: true, cell: (row) => count(row.revision) },
      { title: "When", cell: (row) => ago(row.at) },
      { title: "By", cell: (row) => row.actor },
      { title: "Changed", text: true, cell: changed },
      { title: "Document", cell: written },
      { title: "", cell: (row) => {
        if (all.isFirst() && row === all.rows()[0]) return el("span", { class: "quiet small" }, "present");
        return may("bucket", name) ? button("Back to this …", () => rollback(name, row, again)) : null;
      } },
    ],
  });
  function before(row) {
    const rows = all.rows();
    return rows[rows.indexOf(row) + 1] ?? earlier.get(row.revision);
  }
  async function unfold(row) {
    opened = opened === row.revision ? null : row.revision;
    if (opened !== null && !before(row) && all.next()) {
      const { rows } = await page("bucket/history", { name, limit: 1, after: all.next() });
      if (rows.length > 0) earlier.set(row.revision, rows[0]);
    }
    again();
  }
  function changed(row) {
    if (row.changed.length === 0) return el("span", { class: "quiet" }, before(row) || all.next() ? "nothing" : "the oldest here");
    const open = opened === row.revision;
    const last = open ? before(row) : null;
    return [el("button", { type: "button", class: "plain", "aria-expanded": open ? "true" : "false", onclick: () => unfold(row) }, `${open ? "▾" : "▸"} ${row.changed.join(", ")}`),
      last ? difference(last.bucket, row.bucket) : null];
  }
  function written(row) {
    const open = whole === row.revision;
    return [el("button", { type: "button", class: "plain nowrap", "aria-expanded": open ? "true" : "false", onclick: () => { whole = open ? null : row.revision; again(); } }, `${open ? "▾" : "▸"} all of it`),
      open ? el("pre", { class: "small" }, JSON.stringify(row.bucket, null, 2)) : null];
  }
  function compare() {
    const rows = all.rows() ?? [];
    if (rows.length < 2) return null;
    const of = (revision, otherwise) => rows.find((row) => row.revision === revision) ?? otherwise;
    const [one, other] = [of(from, rows[1]), of(to, rows[0])];
    const choose = (label, chosen, set) => el("label", null, `${label} `, el("select", { "data-key": rows.map((row) => row.revision).join(" "),
      onchange: (event) => { set(Number(event.target.value)); again(); } },
    rows.map((row) => el("option", { value: row.revision, selected: row === chosen }, `${row.revision}`))));
    return el("div", { class: "inner" }, el("div", { class: "line" }, choose("From revision", one, (revision) => { from = revision; }),
      choose("to", other, (revision) => { to = revision; })),
    from === null && to === null ? null : difference(one.bucket, other.bucket));
  }
  return all;
}

/** What a module declares, which stays as it is for each of its versions; null: it was not told. */
function declaration() {
  let [of, told] = [null, null];
  return async (module) => {
    if (of === module) return told;
    try {
      [told, of] = [await get("module/status", { name: module }), module];
    } catch {
      // Others of the page's questions fail as well, or this one is asked again.
      told = null;
    }
    return told;
  };
}

function head(status, module, again) {
  return el("div", { class: "title" },
    el("div", null, el("div", { class: "crumb" }, link("buckets", null, "Buckets")), el("h1", null, status.name)), state(status.state),
    el("span", { class: "quiet wrap" }, status.message), el("div", { class: "acts" }, acts(status, module, again)));
}

/** Where it runs, as it is now: what is shown may be from before. */
async function where(name) {
  const { instances } = await get("bucket/status", { name });
  const on = instances.map(nodeLinks(instances).called);
  return on.length === 0 ? "It runs nowhere now." : `It runs on ${on.length > 6 ? many(on.length, "node") : on.join(", ")} now.`;
}

/** What its module says of a purge: null, it takes none; a plugin is always told, and knows itself what that means. */
function purged(module) {
  if (module?.runtime === "plugin") return "Its module is told to throw away what it has collected, as far as it can. That cannot be undone.";
  const call = module?.module.life_cycle?.on_purge;
  if (!call) return null;
  return `Its module throws away what it has collected, by ${call.command?.join(" ") ?? "its on_purge"}. That cannot be undone.`;
}

function acts(status, module, done) {
  const { name, revision } = status;
  if (!may("bucket", name)) return null;
  const body = { name, revision };
  const act = (verb, path, told, danger) => button(`${verb} …`, () => simple({
    title: `${verb} ${name}?`, verb: `${verb} it`, danger, done, path, body, text: told,
  }), danger && verb !== "Suspend");
  const found = [];
  if (status.suspended || status.state === "quarantined") {
    found.push(act("Resume", "bucket/resume", async () => (status.multi_node ? "It starts on every available node." : "It is placed, and starts on one node.")));
  }
  if (!status.suspended) {
    found.push(act("Suspend", "bucket/suspend", async () => `${await where(name)} It is stopped everywhere, and stays off until somebody resumes it.`, true));
    found.push(act("Restart", "bucket/restart", async () => `${await where(name)} Each instance is stopped and started anew, all at once.`));
    if (!status.multi_node) found.push(button("Move …", () => move(status, done)));
  }
  // Of what is off nothing runs that could be told.
  const told = purged(module);
  if (told !== null && !status.suspended && status.state !== "quarantined") {
    found.push(act("Purge", "bucket/purge", async () => `${await where(name)} ${told}`, true));
  }
  found.push(act("Delete", "bucket/delete", async () =>
    `${await where(name)} It is stopped everywhere, its directories are removed, and ${many(status.objects, "object")} that its module keeps. Its history stays.`, true));
  return found;
}

/** What names a node that a bucket is to go to. */
function goal({ node, node_id: id, status }) {
  return id ? whichNode({ id, name: node, status }) : node;
}

async function move(status, done) {
  const { name, revision } = status;
  let able = [];
  let failed = null;
  try {
    const { nodes } = await get("bucket/explain", { name });
    able = nodes.filter((one) => one.eligible && !one.obstacle && !one.running);
  } catch (error) {
    failed = error;
  }
  confirm({
    title: `Move ${name}?`, verb: "Move it", done,
    fields: [{ name: "to", label: "To", value: "", options: [["", "any other node"], ...able.map((one) => [goal(one), one.node])] }],
    consequence: async (values) => {
      if (failed) throw failed;
      if (able.length === 0) throw new Error("No other node is available for it: it would stop here and start nowhere.");
      return el("p", null, `${await where(name)} It is stopped there first, then started on ${able.find((one) => goal(one) === values.to)?.node ?? "another node"} under a higher epoch.`);
    },
    act: (values) => change("bucket/move", { name, revision, to: values.to || null }),
  });
}

function rollback(name, release, done) {
  let shown;
  confirm({
    title: `Make ${name} what it was at revision ${release.revision}?`, verb: "Roll back", done,
    consequence: async () => {
      shown = (await get("bucket/status", { name })).revision;
      const { rows: [present] } = await page("bucket/history", { name, limit: 1 });
      return [el("p", null, "These fields change, and its instances with them:"), difference(present.bucket, release.bucket)];
    },
    // What was changed since is not what was looked at.
    act: () => change("bucket/rollback", { name, to: release.revision, revision: shown }),
  });
}

/** How far a purge is; of one that is done everywhere nothing. */
function purge(asked) {
  if (!asked) return null;
  const waits = asked.waiting.length > 0 ? [el("div", null, `waits for ${asked.waiting.join(", ")}`)] : [];
  const failed = asked.failed.map(({ node, message }) => el("div", { class: "error" }, `failed on ${node}: ${message}`));
  return waits.length + failed.length > 0 ? [waits, failed] : null;
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
    ["Purge", purge(status.purge)],
    ["Rollout", rollout ? `${count(rollout.released.length)} of ${many(rollout.nodes, "node")} at revision ${rollout.revision}${rollout.stopped ? `; stopped: ${rollout.stopped}` : ""}` : null],
  ])));
}

function decision(explained, status, to) {
  const { decision: made } = explained;
  if (!made) {
    const text = status.multi_node ? "A multi-node bucket is not placed: it runs on every node whose gates let it." : explained.message || "It is bound to no node now.";
    return card("Why there", null, el("p", { class: "empty" }, text));
  }
  return card("Why there", null, el("div", { class: "inner" }, facts([
    ["Bound to", to({ node: made.chosen, node_id: made.chosen_id })],
    ["Epoch", count(made.epoch)],
    ["Since", ago(made.at)],
    ["Because", made.why],
    ["Before others", made.runners_up.length > 0 ? made.runners_up.map((one) => el("div", null, one)) : null],
    ["In the way", explained.message],
  ])));
}

function instances(again, to) {
  return parts({
    title: "Instances", again, keyOf: (row) => row.node_id || row.node, empty: "It runs nowhere.",
    columns: [
      { title: "Node", cell: to },
      { title: "Phase", cell: (row) => state(row.phase) },
      { title: "Epoch", number: true, cell: (row) => row.epoch ?? "–" },
      { title: "Process", number: true, cell: (row) => row.pid ?? "–" },
      { title: "Started", cell: (row) => ago(row.started_at) },
      { title: "Restarts", number: true, cell: (row) => count(row.restarts) },
      { title: "Message", text: true, cell: (row) => row.message },
    ],
  });
}

function outcome(row, gate) {
  const found = row.gates.find((one) => one.gate === gate);
  if (!found) return "";
  const word = found.pass === null ? "unknown" : found.pass ? "pass" : "refuse";
  const [glyph, tone] = look(word);
  return [el("span", { class: tone === "none" ? "idle" : tone }, `${glyph} ${word} `), el("span", { class: "small quiet" }, found.reason)];
}

function gates(again, to) {
  return parts({
    title: "Every node, every gate", again, keyOf: (row) => row.node_id || row.node, empty: "There is no node.",
    columns: [
      { title: "Node", cell: to },
      { title: "Status", cell: (row) => state(row.status) },
      { title: "Available", text: true, cell: (row) => (row.eligible && !row.obstacle ? el("span", { class: "good" }, "✓ yes")
        : [el("span", { class: "idle" }, "· no "), el("span", { class: "small quiet" }, row.obstacle)]) },
      { title: "Runs", cell: (row) => (row.running ? el("span", { class: "good nowrap" }, "● runs") : "") },
      ...GATES.map((gate) => ({ title: gate, text: true, cell: (row) => outcome(row, gate) })),
    ],
  });
}
