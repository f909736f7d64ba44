// Every sink: where what happens is delivered to, and whether it arrives.

import { el, link, show } from "./dom.js";
import { asFilter, filterLine, keepFilter, list } from "./list.js";
import { tryIt } from "./sink.js";
import { ago, count, span, state, words } from "./words.js";

export const title = () => "Sinks";

/** What has not arrived yet. */
export function lag(row) {
  if (row.lag_events === null) return el("span", { class: "quiet" }, "–");
  if (row.lag_events === 0) return "0";
  const since = row.lag_seconds === null ? "" : `, ${span(row.lag_seconds)}`;
  return el("span", { class: row.state === "failing" ? "bad" : null }, `${count(row.lag_events)}${row.lag_events >= 10000 ? "+" : ""}${since}`);
}

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  const all = list({
    title: "Sinks", again, keyOf: (row) => row.name,
    columns: [
      { title: "Sink", cell: (row) => link("sink", { name: row.name }, row.name) },
      { title: "State", cell: (row) => state(row.state) },
      { title: "Delivered", number: true, cell: (row) => count(row.delivered) },
      { title: "Waiting", number: true, cell: lag },
      { title: "Failed in a row", number: true, cell: (row) => (row.failures > 0 ? el("span", { class: "bad" }, `✕ ${count(row.failures)}`) : "0") },
      { title: "Last error", text: true, cell: (row) => row.last_error },
      { title: "Next try", cell: (row) => (row.next_try ? ago(row.next_try) : "") },
      { title: "To", text: true, cell: (row) => [el("span", { class: "quiet" }, `${words(row.target)} `), row.place] },
      { title: "Owner", cell: (row) => row.owner ?? "" },
      { title: "", cell: (row) => tryIt(row.name, again) },
    ],
    ask: () => ["sink/list", { filter: asFilter(text) }],
    empty: () => (text ? "No sink is like that." : "There is no sink yet: sheaf sink apply -f FILE has what happens sent to a webhook, by mail or to a program."),
    above: el("div", { class: "inner" }, filterLine({ value: text, label: "Filter sinks", hint: "a part of a name, or state=failing, target=mail",
      apply: (typed) => { text = typed; keepFilter("sinks", text); all.reset(); } })),
  });
  return {
    async refresh() {
      await all.refresh();
      show(place, el("h1", null, "Sinks"), el("p", { class: "quiet" }, "Where what happens is delivered to: each event at least once, in order."), all.view());
    },
  };
}
