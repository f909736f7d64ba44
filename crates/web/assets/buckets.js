// Every bucket.

import { el, link, show } from "./dom.js";
import { TROUBLED, asFilter, filterLine, keepFilter, list } from "./list.js";
import { ago, state, tags } from "./words.js";

export const title = () => "Buckets";

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  const all = list({
    title: "Buckets", again, keyOf: (row) => row.name,
    columns: [
      { title: "Bucket", cell: (row) => link("bucket", { name: row.name }, row.name) },
      { title: "State", cell: (row) => state(row.state) },
      { title: "Runs", number: true, cell: (row) => `${row.running} / ${row.desired}` },
      { title: "Where", text: true, cell: (row) => (row.node_affinity.length > 0 ? tags(row.node_affinity) : "") },
      { title: "Nodes", cell: (row) => (row.multi_node ? "every available" : "one") },
      { title: "Module", cell: (row) => row.module },
      { title: "Type", cell: (row) => row.type },
      { title: "Since", cell: (row) => ago(row.affinity_since) },
      { title: "Owner", cell: (row) => row.owner ?? "" },
      { title: "Revision", number: true, cell: (row) => row.revision },
    ],
    ask: () => ["bucket/list", { filter: asFilter(text) }],
    empty: () => (text ? "No bucket is like that." : "There is no bucket yet: sheaf apply -f FILE registers some."),
    above: el("div", { class: "inner" }, filterLine({ value: text, label: "Filter buckets", hint: "a part of a path, or state=unplaced, module=flume, node=import-01",
      presets: [["all", ""], ["not as they should be", TROUBLED]],
      apply: (typed) => { text = typed; keepFilter("buckets", text); all.reset(); } })),
  });
  return {
    async refresh() {
      await all.refresh();
      show(place, el("h1", null, "Buckets"), all.view());
    },
  };
}
