// Every job, the newest first.

import { el, link, show } from "./dom.js";
import { asFilter, filterLine, keepFilter, list } from "./list.js";
import { share } from "./plot.js";
import { ago, count, state } from "./words.js";

export const title = () => "Jobs";

/** How many subtasks a job has. */
export function total(counts) {
  return Object.values(counts).reduce((sum, number) => sum + number, 0);
}

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  const all = list({
    title: "Jobs", again, keyOf: (row) => row.name,
    columns: [
      { title: "Job", cell: (row) => link("job", { name: row.name }, row.name) },
      { title: "State", cell: (row) => state(row.state) },
      { title: "Over", number: true, cell: (row) => [share(row.progress, 100, `${row.progress} percent over`), `${row.progress} %`] },
      { title: "Running", number: true, cell: (row) => count(row.counts.running) },
      { title: "Finished", number: true, cell: (row) => count(row.counts.finished) },
      { title: "Failed", number: true, cell: (row) => (row.counts.failed > 0 ? el("span", { class: "bad" }, `✕ ${count(row.counts.failed)}`) : "0") },
      { title: "Subtasks", number: true, cell: (row) => count(total(row.counts)) },
      { title: "Priority", number: true, cell: (row) => row.priority },
      { title: "Module", cell: (row) => row.module },
      { title: "Created", cell: (row) => ago(row.created_at) },
      { title: "Owner", cell: (row) => row.owner ?? "" },
    ],
    ask: () => ["job/list", { filter: asFilter(text) }],
    empty: () => (text ? "No job is like that." : "There is no job yet: sheaf job submit -f FILE begins one."),
    above: el("div", { class: "inner" }, filterLine({ value: text, label: "Filter jobs", hint: "a part of a name, or state=running, owner=…",
      apply: (typed) => { text = typed; keepFilter("jobs", text); all.reset(); } })),
  });
  return {
    async refresh() {
      await all.refresh();
      show(place, el("h1", null, "Jobs"), all.view());
    },
  };
}
