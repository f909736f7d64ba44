// Every node.

import { el, link, show, whichNode } from "./dom.js";
import { asFilter, filterLine, keepFilter, list } from "./list.js";
import { ago, bytes, state, tags } from "./words.js";

export const title = () => "Nodes";

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  const all = list({
    title: "Nodes", again, keyOf: (row) => row.id,
    columns: [
      { title: "Node", cell: (row) => link("node", { name: whichNode(row) }, row.name) },
      { title: "Status", cell: (row) => state(row.status) },
      { title: "Role", cell: (row) => (row.leader ? "leader" : row.voter ? "voter" : "") },
      { title: "Buckets", number: true, cell: (row) => row.buckets },
      { title: "Load", number: true, cell: (row) => `${row.load.toFixed(2)} / ${row.cpu}` },
      { title: "Memory", number: true, cell: (row) => `${bytes(row.memory_used)} / ${bytes(row.memory_total)}` },
      { title: "Labels", cell: (row) => tags(row.labels) },
      { title: "Version", cell: (row) => row.version },
      { title: "Hostname", cell: (row) => row.hostname },
      { title: "Address", cell: (row) => el("span", { class: "mono small" }, row.address) },
      { title: "Since", cell: (row) => ago(row.since) },
    ],
    ask: () => ["node/list", { filter: asFilter(text) }],
    empty: "No node is like that.",
    above: el("div", { class: "inner" }, filterLine({ value: text, label: "Filter nodes", hint: "a part of a name, or status=lost, label=gpu, voter=true",
      apply: (typed) => { text = typed; keepFilter("nodes", text); all.reset(); } })),
  });
  return {
    async refresh() {
      await all.refresh();
      show(place, el("h1", null, "Nodes"), all.view());
    },
  };
}
