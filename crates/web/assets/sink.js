// One sink: how deliveries go, what it wants, and a test.

import { change, get, may } from "./api.js";
import { button, confirm } from "./act.js";
import { card, el, facts, link, show } from "./dom.js";
import { eventColumns } from "./events.js";
import { list } from "./list.js";
import { lag } from "./sinks.js";
import { ago, count, many, state, tags, words } from "./words.js";

export const title = (params) => params.get("name") ?? "Sink";

/** The button that has something delivered now, and says what came of it. */
export function tryIt(name, done) {
  if (!may("admin")) return null;
  return button("Test …", () => {
    const said = el("div", { class: "consequence", role: "status" });
    confirm({
      title: `Test ${name}?`, verb: "Deliver a test", done, stays: true,
      consequence: async () => [el("p", null, "An event that says it is a test is delivered now, once, whatever the sink's filter. Nothing else changes."), said],
      act: async () => {
        show(said, el("p", { class: "quiet" }, "Delivering …"));
        try {
          const { outcome, message, node, took_ms: took } = await change("sink/test", { name });
          show(said, el("p", null, state(outcome), ` by ${node} in ${count(took)} ms`), message ? el("p", { class: "wrap" }, message) : null);
        } catch (error) {
          show(said);
          throw error;
        }
      },
    });
  });
}

export function open(place, params, { again }) {
  const name = params.get("name") ?? "";
  const events = list({
    title: "History", again, size: 20, keyOf: (row) => `${row.revision} ${row.kind} ${row.after}`,
    columns: eventColumns().filter((column) => column.title !== "Subject"),
    ask: () => ["event/list", { subject: name, kind: "sink" }], empty: "Nothing happened to it that is remembered.",
  });
  return {
    async refresh() {
      const [sink] = await Promise.all([get("sink/status", { name }), events.refresh()]);
      show(place, head(sink, again), el("div", { class: "pair" }, deliveries(sink), about(sink)), events.view());
    },
  };
}

function head(sink, again) {
  return el("div", { class: "title" },
    el("div", null, el("div", { class: "crumb" }, link("sinks", null, "Sinks")), el("h1", null, sink.name)), state(sink.state),
    el("div", { class: "acts" }, tryIt(sink.name, again)));
}

function deliveries(sink) {
  return card("How deliveries go", null, el("div", { class: "inner" }, facts([
    ["Delivered", many(sink.delivered, "event")],
    ["Up to", `revision ${count(sink.cursor)}`],
    ["Waiting", lag(sink)],
    ["Last arrived", ago(sink.last_success)],
    ["Failing since", sink.failing_since ? ago(sink.failing_since) : null],
    ["Failed in a row", sink.failures > 0 ? el("span", { class: "bad" }, `✕ ${count(sink.failures)}`) : null],
    ["Last error", sink.last_error ? el("span", { class: sink.failing_since ? "bad" : null }, sink.last_error) : null],
    ["Next try", sink.next_try ? ago(sink.next_try) : null],
    ["Missed", sink.missed > 0 ? el("span", { class: "warn" }, `! ${many(sink.missed, "time")} history was dropped before it was delivered, last ${sink.missed_last ?? ""}`) : null],
  ])));
}

function about(sink) {
  const { filter = {} } = sink.spec;
  const labels = Object.entries(sink.labels).map(([key, value]) => `${key}=${value}`);
  const wanted = Object.entries(filter).filter(([, globs]) => globs.length > 0);
  const body = sink.spec[sink.target] ?? {};
  const plain = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
  return card("What it is", null, el("div", { class: "inner" }, facts([
    ["Kind", words(sink.target)],
    ["To", sink.place],
    ["Wants", wanted.length > 0 ? wanted.map(([what, globs]) => el("div", null, `${what} `, tags(globs))) : "everything"],
    ["Owner", sink.owner],
    ["Labels", labels.length > 0 ? tags(labels) : null],
    ["Revision", count(sink.revision)],
    ...Object.entries(body).map(([key, value]) => [key, el("span", { class: "mono small" }, plain(value))]),
  ])));
}
