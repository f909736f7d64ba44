// One subtask: every attempt at it, and what each printed.

import { change, get, may, page } from "./api.js";
import { button, confirm } from "./act.js";
import { card, el, link, show, table } from "./dom.js";
import { logs } from "./logs.js";
import { ago, count, many, span, state, words } from "./words.js";

export const title = (params) => `${params.get("job")} ${params.get("subtask")}`;

const TAIL = 500;

export function open(place, params, { again }) {
  const [name, subtask] = [params.get("job") ?? "", params.get("subtask") ?? ""];
  let chosen = null;
  const output = logs({ title: "Output", path: "job/logs", params: { name, subtask, follow: true, tail: TAIL } });
  const see = (attempt) => { chosen = attempt; output.again({ attempt }); again(); };
  return {
    async refresh() {
      const [explained, attempts] = await Promise.all([get("job/explain", { name, subtask }), page("job/attempts", { name, subtask })]);
      const now = explained.subtask;
      show(place,
        el("div", { class: "title" }, el("div", null, el("div", { class: "crumb" }, link("jobs", null, "Jobs"), " / ", link("job", { name }, name)),
          el("h1", null, `Subtask ${subtask}`)), now ? state(now.state) : null, el("div", { class: "acts" }, acts(name, subtask, now, again))),
        explained.why.length > 0 ? card(now && ["waiting", "ready", "running"].includes(now.state) ? "In the way" : "How it went", null, el("div", { class: "inner" }, explained.why.map((one) => el("p", null, one)))) : null,
        card("Attempts", el("span", { class: "small quiet" }, attempts.rows[0]?.attempt > 1 ? `the last ${count(attempts.rows.length)}` : many(attempts.rows.length, "attempt")), attempts.rows.length === 0
          ? el("p", { class: "empty" }, "There was none yet.")
          : table("Attempts", columns(chosen, see), attempts.rows, (row) => String(row.attempt))),
        output.view());
    },
    close: () => output.close(),
  };
}

function columns(chosen, see) {
  return [
    { title: "Attempt", number: true, cell: (row) => row.attempt },
    { title: "State", cell: (row) => state(row.state) },
    { title: "Kind", cell: (row) => [row.class ? words(row.class) : "", row.retried ? el("span", { class: "quiet" }, " tried again") : null] },
    { title: "Node", cell: (row) => (row.node ? link("node", { name: row.node }, row.node) : "") },
    { title: "Backend", cell: (row) => row.backend ?? "" },
    { title: "Started", cell: (row) => ago(row.started_at) },
    { title: "Took", number: true, cell: (row) => (row.started_at && row.ended_at ? span((Date.parse(row.ended_at) - Date.parse(row.started_at)) / 1000) : "") },
    { title: "Exit", number: true, cell: (row) => row.exit_code ?? "" },
    { title: "Message", text: true, cell: (row) => row.message ?? "" },
    { title: "", cell: (row) => (chosen === row.attempt ? el("span", { class: "quiet" }, "shown below") : button("Output", () => see(row.attempt))) },
  ];
}

function acts(name, subtask, now, done) {
  if (!now || !may("operator")) return null;
  const body = { name, subtasks: subtask };
  const touch = (text, verb, path, told, danger) => confirm({
    title: text, verb, danger, done, act: () => change(path, body),
    consequence: async () => {
      const { subtasks } = await change(path, { ...body, dry_run: true });
      return el("p", null, subtasks > 0 ? told : "Nothing would change: it has gone on meanwhile.");
    },
  });
  if (["failed", "canceled"].includes(now.state)) {
    return button("Retry …", () => touch(`Try subtask ${subtask} again?`, "Retry", "job/retry", "It is tried again, with all its attempts."));
  }
  if (["waiting", "ready", "running"].includes(now.state)) {
    return button("Cancel …", () => touch(`Cancel subtask ${subtask}?`, "Cancel it", "job/cancel", "It does not run any more; what runs of it is stopped.", true), true);
  }
  return null;
}
