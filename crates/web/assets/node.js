// One node: what it is, what it runs, what happened to it, and what can be done with it.

import { change, get, may, page } from "./api.js";
import { button, confirm, simple } from "./act.js";
import { card, el, facts, link, show, table, whichNode } from "./dom.js";
import { eventColumns } from "./events.js";
import { list } from "./list.js";
import { share } from "./plot.js";
import { ago, bytes, count, many, state, tags } from "./words.js";

export const title = (params) => params.get("name") ?? "Node";

export function open(place, params, { again }) {
  // Or a number; what happened is remembered by the name, which others may have had, too.
  const name = params.get("name") ?? "";
  let called = name;
  let shared = null;
  const events = list({
    title: "History", again, size: 20, keyOf: (row) => `${row.revision} ${row.kind} ${row.subject}`,
    columns: eventColumns().filter((column) => column.title !== "Node"),
    ask: () => ["event/list", { node: called }], empty: "Nothing happened here that is remembered.",
    extra: () => (shared ? el("span", { class: "small quiet" }, "of every node of this name: events are remembered by it") : null),
  });
  let held = 0;
  const runs = list({
    title: "What it runs", again, keyOf: (row) => row.bucket, ask: () => ["node/affinity", { node: name }], empty: "Nothing runs here.",
    extra: () => el("span", { class: "small quiet" }, many(held, "bucket")),
    columns: [
      { title: "Bucket", cell: (row) => link("bucket", { name: row.bucket }, row.bucket) },
      { title: "Phase", cell: (row) => state(row.phase) },
      { title: "Epoch", number: true, cell: (row) => row.epoch ?? "–" },
      { title: "Since", cell: (row) => ago(row.since) },
      { title: "Why here", text: true, cell: (row) => row.why },
    ],
  });
  return {
    async refresh() {
      const [node] = await Promise.all([get("node/status", { name, brief: true }), runs.refresh()]);
      [held, called] = [node.buckets, node.name];
      const alike = async () => { shared ??= (await page("node/list", { filter: `name=${called}`, limit: 2 })).rows.length > 1; };
      await Promise.all([alike(), events.refresh()]);
      show(place, head(node, again), el("div", { class: "pair" }, says(node), uses(node)), runs.view(), events.view());
    },
  };
}

function head(node, again) {
  return el("div", { class: "title" },
    el("div", null, el("div", { class: "crumb" }, link("nodes", null, "Nodes")), el("h1", null, node.name)), state(node.status),
    node.leader ? el("span", { class: "quiet" }, "leader") : node.voter ? el("span", { class: "quiet" }, "voter") : null,
    el("div", { class: "acts" }, acts(node, again)));
}

function acts(node, done) {
  const { name, status } = node;
  const which = whichNode(node);
  const found = [];
  const operates = may("operator");
  if (status === "draining" && operates) {
    found.push(button("End the drain", () => simple({ title: `Let ${name} take work again?`, verb: "End the drain", done,
      text: async () => "It may be given new work at once; what went elsewhere stays there.", path: "node/undrain", body: { node: which } })));
  } else if (!["draining", "lost", "left"].includes(status) && operates) {
    found.push(button("Drain …", () => drain(name, which, done)));
  }
  if (node.voter && !node.leader && may("admin")) {
    found.push(button("Make it lead …", () => simple({ title: `Hand leadership to ${name}?`, verb: "Hand over", done,
      text: async () => "For a moment nothing is decided; what runs goes on. The present leader stays a voter.", path: "cluster/transfer", body: { to: which } })));
  }
  if (operates) found.push(button("Labels …", () => labels(node, done)));
  if (status === "lost" && may("admin")) {
    found.push(button("Forget …", () => simple({ title: `Forget ${name}?`, verb: "Forget it", danger: true, done,
      text: async () => "You vouch that nothing it ran is alive. Its single-node work goes elsewhere at once, and another node takes its vote. Should it come back after all, it needs an empty data directory.",
      path: "node/forget", body: { node: which } }), true));
  }
  return found;
}

/** Shows what would move where before it does. */
function drain(name, which, done) {
  const body = (values) => ({ node: which, keep_multi_node: values.keep, deadline: values.deadline || null });
  confirm({
    title: `Drain ${name}?`, verb: "Drain it", done,
    fields: [
      { name: "keep", type: "checkbox", label: "Let multi-node buckets go on running there" },
      { name: "deadline", label: "Stop after this time what could not go elsewhere", hint: "never; or 5m" },
    ],
    consequence: async (values) => {
      const { going, subtasks } = await change("node/drain", { ...body(values), dry_run: true });
      const work = subtasks === 0 ? null : el("p", null,
        `${many(subtasks, "subtask")} of jobs there: what has not begun goes elsewhere, what has ends there, or by then.`);
      if (going.length === 0) {
        return [el("p", null, `It takes no new work from then on.${work ? "" : " Nothing runs there now."}`), work];
      }
      return [work,
        el("p", null, `It takes no new work from then on, and ${many(going.length, "bucket")} would go, one after the other:`),
        table("What would move", [
          { title: "Bucket", cell: (row) => row.bucket },
          { title: "Goes to", cell: (row) => row.to || el("span", { class: "warn" }, "stops") },
          { title: "Why", text: true, cell: (row) => row.why },
        ], going, (row) => row.bucket)];
    },
    act: (values) => change("node/drain", body(values)),
  });
}

function labels(node, done) {
  const given = node.facts.given_labels;
  const parse = (text) => text.split(/[\s,]+/).filter(Boolean);
  const plan = (values) => {
    const wanted = parse(values.labels);
    return { node: whichNode(node), add: wanted.filter((one) => !given.includes(one)), remove: given.filter((one) => !wanted.includes(one)) };
  };
  confirm({
    title: `Labels given to ${node.name}`, verb: "Set them", done,
    fields: [{ name: "labels", label: "Labels, besides those of its config file", value: given.join(" ") }],
    consequence: async (values) => {
      const { add, remove } = plan(values);
      if (add.length + remove.length === 0) return el("p", null, "Nothing changes.");
      return [add.length > 0 ? el("p", null, "Gives ", tags(add)) : null, remove.length > 0 ? el("p", null, "Takes away ", tags(remove)) : null,
        el("p", { class: "quiet" }, "Every bucket whose rules name one of them may start or stop here.")];
    },
    act: (values) => change("node/label", plan(values)),
  });
}

function says(node) {
  const allows = node.allowed_modules.length === 0 || node.allowed_modules[0] === "*" ? "all modules" : tags(node.allowed_modules);
  return card("What it says", null, el("div", { class: "inner" }, facts([
    ["Hostname", node.hostname],
    ["Address", el("span", { class: "mono" }, node.address)],
    ["Id", node.id],
    ["Version", node.version],
    ["Since", ago(node.since)],
    ["Labels", tags(node.labels)],
    ["Allows", allows],
    ["Denies", node.facts.deny.length > 0 ? tags(node.facts.deny) : null],
    ["Because", node.facts.reason],
    ["Notes", node.facts.notes.length > 0 ? node.facts.notes.map((note) => el("div", null, note)) : null],
  ])));
}

function uses(node) {
  const queues = Object.entries(node.facts.full_queues);
  return card("How busy it is", null, el("div", { class: "inner" }, facts([
    ["Load", [share(node.load, node.cpu, "load of the processors"), `${node.load.toFixed(2)} on ${many(node.cpu, "core")}`]],
    ["Memory", [share(node.memory_used, node.memory_total, "memory used"), `${bytes(node.memory_used)} of ${bytes(node.memory_total)}`]],
    ["Disk", `${bytes(node.facts.disk_available)} free where its data is`],
    ["Late timers", node.facts.late_timers > 0 ? el("span", { class: "warn" }, `! ${count(node.facts.late_timers)}: the machine is starved`) : "none"],
    ["Full queues", queues.length > 0 ? queues.map(([queue, times]) => el("div", { class: "warn" }, `! ${queue}: ${many(times, "time")}`)) : "none"],
  ])));
}
