// What happened, and what happens.

import { el, link, show } from "./dom.js";
import { asEvents, filterLine, keepFilter, list } from "./list.js";
import { ago } from "./words.js";

export const title = () => "Events";

/** The page of what an event is about, as far as its kind tells. */
export function about({ kind, subject }) {
  const noun = kind.split(".")[0];
  if (["bucket", "instance"].includes(noun)) return link("bucket", { name: subject }, subject);
  if (noun === "node") return link("node", { name: subject }, subject);
  if (noun === "job") return link("job", { name: subject }, subject);
  if (noun === "sink") return link("sink", { name: subject }, subject);
  return subject;
}

/** How events are shown anywhere. */
export function eventColumns() {
  return [
    { title: "When", cell: (row) => ago(row.at) },
    { title: "What", cell: (row) => el("span", { class: "mono small" }, row.kind) },
    { title: "Subject", cell: about },
    { title: "Node", cell: (row) => (row.node ? link("node", { name: row.node }, row.node) : "") },
    { title: "Message", text: true, cell: (row) => row.message || [row.before, row.after].filter(Boolean).join(" → ") },
    { title: "By", cell: (row) => el("span", { class: "small quiet" }, row.actor) },
    { title: "Revision", number: true, cell: (row) => row.revision },
  ];
}

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  const all = list({
    title: "Events", columns: eventColumns(), again,
    keyOf: (row) => `${row.revision} ${row.kind} ${row.subject} ${row.node} ${row.after}`,
    ask: () => ["event/list", asEvents(text)],
    empty: "Nothing of that kind happened.",
    extra: el("span", { class: "small quiet" }, "newest first, as they happen"),
    above: el("div", { class: "inner" }, filterLine({ value: text, label: "Filter events", hint: "/logs/web, or subject=…, kind=bucket, node=…",
      apply: (typed) => { text = typed; keepFilter("events", text); all.reset(); } })),
  });
  return {
    async refresh() {
      await all.refresh();
      show(place, el("h1", null, "Events"), all.view());
    },
  };
}
