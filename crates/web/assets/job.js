// One job: how far it is, what failed and how alike, its subtasks, and what can be done with it.

import { change, get, may } from "./api.js";
import { button, confirm, simple } from "./act.js";
import { card, el, facts, href, link, show, table } from "./dom.js";
import { eventColumns } from "./events.js";
import { list } from "./list.js";
import { progress } from "./plot.js";
import { ago, count, look, many, span, state, tags } from "./words.js";

export const title = (params) => params.get("name") ?? "Job";

const STATES = ["waiting", "ready", "running", "finished", "failed", "canceled"];
// The plot looks through the history: not each time.
const PLOT_EVERY = 5000;

export function open(place, params, { again }) {
  const name = params.get("name") ?? "";
  let chosen = params.get("state") ?? "";
  let condition = params.get("where") ?? "";
  let plotted = null;
  let plottedAt = 0;
  const keep = () => history.replaceState(null, "", href("job", { name, state: chosen, where: condition }));
  const choose = (word) => { chosen = chosen === word ? "" : word; keep(); subtasks.reset(); };
  const chips = el("div", { class: "chips" });
  const line = el("input", { type: "search", value: condition, "aria-label": "SQL condition over subtasks", placeholder: "a condition, like exit_code = 9 or node = 'work-01'", spellcheck: "false" });
  const above = el("div", null, chips, el("div", { class: "inner" }, el("form", { class: "line",
    onsubmit: (event) => { event.preventDefault(); condition = line.value.trim(); keep(); subtasks.reset(); } },
  line, el("button", { type: "submit" }, "Filter"))));
  const subtasks = list({
    title: "Subtasks", again, size: 50, keyOf: (row) => String(row.subtask), above,
    columns: [
      { title: "Subtask", number: true, cell: (row) => link("subtask", { job: name, subtask: row.subtask }, String(row.subtask)) },
      { title: "State", cell: (row) => state(row.state) },
      { title: "Attempt", number: true, cell: (row) => row.attempt },
      { title: "Node", cell: (row) => (row.node ? link("node", { name: row.node }, row.node) : "") },
      { title: "Backend", cell: (row) => row.backend ?? "" },
      { title: "Started", cell: (row) => ago(row.started_at) },
      { title: "Took", number: true, cell: (row) => (row.started_at && row.ended_at ? span((Date.parse(row.ended_at) - Date.parse(row.started_at)) / 1000) : "") },
      { title: "Exit", number: true, cell: (row) => row.exit_code ?? "" },
      { title: "Message", text: true, cell: (row) => row.message },
    ],
    ask: () => ["job/subtasks", { name, state: chosen, where: condition }],
    empty: "No subtask is like that.",
  });
  const events = list({
    title: "History", again, size: 10, keyOf: (row) => `${row.revision} ${row.kind} ${row.after}`,
    columns: eventColumns().filter((column) => !["Subject", "Node"].includes(column.title)),
    ask: () => ["event/list", { subject: name }], empty: "Nothing happened to it that is remembered.",
  });
  async function plot(status) {
    const over = status.ended_at !== null;
    if (plotted && (Date.now() - plottedAt < PLOT_EVERY || (over && plotted.over))) return;
    plottedAt = Date.now();
    try {
      plotted = { ...(await get("job/progress", { name })), over };
    } catch (error) {
      plotted = { points: [], trouble: error.message, over: false };
    }
  }
  function filters(status) {
    show(chips, STATES.map((word) => el("button", { type: "button", "aria-pressed": chosen === word ? "true" : "false", onclick: () => choose(word) },
      `${look(word)[0]} ${word} ${count(status.counts[word])}`)));
  }
  return {
    async refresh() {
      const [status, explained] = await Promise.all([get("job/status", { name }), get("job/explain", { name }), subtasks.refresh(), events.refresh()]);
      filters(status);
      const draw = () => show(place, head(status, again), el("div", { class: "pair" }, stands(status, explained), drawn(status, plotted)),
        failures(status, (group) => { chosen = "failed"; condition = `fingerprint = '${group.fingerprint}'`; line.value = condition; keep(); subtasks.reset(); above.scrollIntoView(); }),
        subtasks.view(), events.view());
      draw();
      // After the rest, as it may take longer.
      await plot(status);
      draw();
    },
  };
}

function head(status, again) {
  return el("div", { class: "title" },
    el("div", null, el("div", { class: "crumb" }, link("jobs", null, "Jobs")), el("h1", null, status.name)), state(status.state),
    el("span", { class: "quiet wrap" }, status.message), el("div", { class: "acts" }, acts(status, again)));
}

function touching({ title: text, verb, danger, path, extra = {}, told, done, fields }) {
  confirm({
    title: text, verb, danger, done, fields,
    consequence: async (values) => {
      const { subtasks } = await change(path, { ...extra, ...numbers(values), dry_run: true });
      return el("p", null, told(subtasks));
    },
    act: (values) => change(path, { ...extra, ...numbers(values) }),
  });
}

function numbers(values) {
  if (!("priority" in values)) return {};
  if (values.priority === "") throw new Error("Which priority? From 0 to 100.");
  return { priority: Number(values.priority) };
}

/** Counts of subtasks; what is shown may be from before. */
async function now(name) {
  return (await get("job/status", { name })).counts;
}

function acts(status, done) {
  if (!may("operator")) return null;
  const { name, counts } = status;
  const found = [];
  const left = counts.waiting + counts.ready + counts.running;
  if (status.state === "running") {
    found.push(button("Pause …", () => simple({ title: `Pause ${name}?`, verb: "Pause it", done, path: "job/pause", body: { name },
      text: async () => `Nothing more of it is started; ${many((await now(name)).running, "subtask")} that run now go on.` })));
  }
  if (status.state === "paused") {
    found.push(button("Resume …", () => simple({ title: `Resume ${name}?`, verb: "Resume it", done, path: "job/resume", body: { name },
      text: async () => {
        const { waiting, ready } = await now(name);
        return `${many(waiting + ready, "subtask")} may be started again.`;
      } })));
  }
  for (const word of ["failed", "canceled"].filter((one) => counts[one] > 0)) {
    found.push(button(`Retry ${word} …`, () => touching({ title: `Try what ${word === "failed" ? "failed" : "was canceled"} in ${name} again?`, verb: "Retry", path: "job/retry",
      extra: { name, subtasks: word }, done, told: (subtasks) => `${many(subtasks, `${word} subtask`)} would be tried again, with all their attempts.` })));
  }
  if (left > 0) {
    found.push(button("Priority …", () => touching({ title: `Priority of ${name}`, verb: "Set it", path: "job/reprioritize", extra: { name }, done,
      fields: [{ name: "priority", type: "number", label: "0 to 100, higher first", value: status.priority, min: 0, max: 100 }],
      told: (subtasks) => `${many(subtasks, "subtask")} would go before or after those of other jobs by it.` })));
    found.push(button("Cancel …", () => touching({ title: `Cancel ${name}?`, verb: "Cancel it", danger: true, path: "job/cancel", extra: { name }, done,
      told: (subtasks) => `${many(subtasks, "subtask")} would be canceled, ${count(counts.running)} of them running now. Jobs that come after this one do not run.` }), true));
  } else {
    found.push(button("Delete …", () => simple({ title: `Delete ${name}?`, verb: "Delete it", danger: true, done: () => { location.hash = "#/jobs"; }, path: "job/delete", body: { name },
      text: async () => `What is remembered of its ${many(status.count, "subtask")} goes with it; its events stay.` }), true));
  }
  return found;
}

function stands(status, explained) {
  const { counts } = status;
  const tries = Object.entries(status.failed_attempts).filter(([, number]) => number > 0);
  const labels = Object.entries(status.labels).map(([key, value]) => `${key}=${value}`);
  return card("How far it is", null, el("div", { class: "inner" },
    el("progress", { max: "100", value: String(status.progress), class: status.state === "finished" ? "good" : null, "aria-label": `${status.progress} percent over` }),
    el("p", null, el("b", null, `${status.progress} %`), ` over: ${count(counts.finished)} of ${many(status.count, "subtask")} finished`,
      counts.failed > 0 ? el("span", { class: "bad" }, `, ${count(counts.failed)} failed`) : null),
    facts([
      ["Pace", status.rate_per_s > 0 ? `${status.rate_per_s.toFixed(1)} a second` : null],
      ["Over in about", status.eta && status.ended_at === null ? span((Date.parse(status.eta) - Date.now()) / 1000) : null],
      ["Module", status.module],
      ["Priority", status.priority],
      ["At a time", status.max_running === null ? null : `at most ${count(status.max_running)}`],
      ["Failed tries", tries.length > 0 ? tries.map(([kind, number]) => `${kind} ${count(number)}`).join(", ") : null],
      ["Created", ago(status.created_at)],
      ["Ended", status.ended_at ? ago(status.ended_at) : null],
      ["Owner", status.owner],
      ["Labels", labels.length > 0 ? tags(labels) : null],
      [status.ended_at ? "How it went" : "In the way", explained.why.length > 0 ? explained.why.map((one) => el("div", null, one)) : null],
    ])));
}

function drawn(status, plotted) {
  if (plotted?.trouble) return card("Progress over time", null, el("p", { class: "empty" }, `Not to be had just now: ${plotted.trouble}`));
  const points = plotted?.points ?? [];
  const cut = plotted?.cut ? el("p", { class: "small quiet" }, `The beginning only: ${plotted.cut}`) : null;
  return card("Progress over time", null, plotted === null ? el("p", { class: "empty" }, "Loading …")
    : el("div", { class: "inner" }, progress(points, status.count, Date.parse(status.started_at ?? status.created_at) / 1000, plotted.over), cut));
}

function failures(status, drill) {
  if (status.failures.length === 0) return null;
  return card("Failures that are alike", el("span", { class: "small quiet" }, "numbers, paths and ids do not count"), table("Failures that are alike", [
    { title: "Subtasks", number: true, cell: (group) => count(group.subtasks) },
    { title: "Message of one", text: true, cell: (group) => group.message },
    { title: "Fingerprint", cell: (group) => el("span", { class: "mono small" }, group.fingerprint) },
    { title: "", cell: (group) => button("Show them", () => drill(group)) },
  ], status.failures, (group) => group.fingerprint), others(status));
}

/** How many groups are not among those that are shown, and where all are. */
function others(status) {
  const groups = status.failure_groups - status.failures.length;
  if (!(groups > 0)) return null;
  // The counts may be a moment older.
  const subtasks = Math.max(groups, status.failures.reduce((left, group) => left - group.subtasks, status.counts.failed));
  const sql = `SELECT fingerprint, count(*) AS subtasks, min(message) AS message FROM failures WHERE job = '${status.name}' GROUP BY 1 ORDER BY 2 DESC`;
  return el("p", { class: "inner small", "data-key": "others" }, `${many(groups, "more group")}, none larger, ${many(subtasks, "subtask")} in all: `,
    link("search", { sql }, "all groups"));
}
