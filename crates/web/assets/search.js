// Finding things: by a part of their name, or with SQL.

import { get, page } from "./api.js";
import { card, el, href, link, show, table, whichNode } from "./dom.js";
import { asFilter } from "./list.js";
import { count, state } from "./words.js";

export const title = () => "Search";

const FOUND = 10;
const EXAMPLES = [
  ["Which node ran how many attempts", "SELECT node, count(*) AS attempts FROM attempts GROUP BY node ORDER BY 2 DESC"],
  ["What fails alike, in all jobs", "SELECT fingerprint, count(*) AS subtasks, min(message) AS message FROM failures GROUP BY 1 ORDER BY 2 DESC LIMIT 50"],
  ["Buckets that moved most", "SELECT subject AS bucket, count(*) AS times FROM events WHERE kind = 'bucket.bound' GROUP BY 1 ORDER BY 2 DESC LIMIT 20"],
  ["Instances that started more than once", "SELECT bucket, node, restarts, message FROM instances WHERE restarts > 0 ORDER BY restarts DESC"],
];

export function open(place, params) {
  let text = params.get("find") ?? "";
  let sql = params.get("sql") ?? "";
  let asked = null;
  let answer = null;
  let found = null;
  let views = null;
  const keep = () => history.replaceState(null, "", href("search", { find: text, sql }));
  const find = el("input", { type: "search", value: text, placeholder: "a part of a name; or state=…, owner=…", "aria-label": "Find nodes, buckets and jobs", spellcheck: "false" });
  const line = el("form", { class: "line", onsubmit: (event) => { event.preventDefault(); text = find.value.trim(); keep(); look(); } }, find, el("button", { type: "submit" }, "Find"));
  const area = el("textarea", { rows: 4, "aria-label": "SQL", spellcheck: "false", placeholder: "SELECT …",
    onkeydown: (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); } } });
  area.value = sql || EXAMPLES[0][1];
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); run(); } }, area,
    el("div", { class: "acts" }, el("button", { type: "submit", class: "primary" }, "Run"), el("span", { class: "small quiet" }, "or Ctrl-Enter; reads only, 1,000 rows, 5 s")));

  async function look() {
    found = null;
    if (text) {
      const filter = asFilter(text);
      const of = async (noun, path) => {
        try {
          return [noun, await page(path, { filter, limit: FOUND })];
        } catch (error) {
          return [noun, { rows: [], next: "", error: error.message }];
        }
      };
      found = await Promise.all([of("node", "node/list"), of("bucket", "bucket/list"), of("job", "job/list")]);
    }
    draw();
  }

  async function run() {
    sql = area.value.trim();
    keep();
    asked = Date.now();
    answer = "busy";
    draw();
    try {
      answer = await get("query", { sql });
      answer.took = Date.now() - asked;
    } catch (error) {
      answer = { error: error.message };
    }
    draw();
  }

  function results() {
    if (found === null) return null;
    return el("div", { class: "stack" }, found.map(([noun, { rows, next, error }]) => el("div", { "data-key": noun },
      el("b", null, `${noun}s: `), error ? el("span", { class: "quiet" }, error) : rows.length === 0 ? el("span", { class: "quiet" }, "none") : null,
      rows.map((row) => [link(noun, { name: noun === "node" ? whichNode(row) : row.name }, row.name), " ", state(row.state ?? row.status), "  "]),
      next ? link(`${noun}s`, { filter: text }, "all of them") : null)));
  }

  function told() {
    if (answer === null) return null;
    if (answer === "busy") return el("p", { class: "empty" }, "Looking …");
    if (answer.error) return el("p", { class: "inner error" }, answer.error);
    const columns = answer.columns.map((name, index) => ({
      title: name, number: answer.rows.length > 0 && answer.rows.every((row) => row[index] === null || typeof row[index] === "number"),
      cell: (row) => (row[index] === null ? el("span", { class: "quiet" }, "–") : String(row[index])),
    }));
    return [el("p", { class: "inner small quiet" }, `${count(answer.rows.length)} rows in ${answer.took} ms, at revision ${count(answer.revision)}`, answer.cut ? `; cut off: ${answer.cut}` : null),
      answer.rows.length > 0 ? table("Answer", columns, answer.rows) : null];
  }

  function draw() {
    show(place, el("h1", null, "Search"), card("By name", null, el("div", { class: "inner" }, line, results())),
      card("With SQL", null, el("div", { class: "inner" }, form), told()),
      el("div", { class: "pair" },
        card("Examples", null, el("div", { class: "inner" }, EXAMPLES.map(([about, example]) =>
          el("p", null, el("button", { type: "button", class: "plain", onclick: () => { area.value = example; run(); } }, about), el("div", { class: "mono small quiet wrap" }, example))))),
        card("What can be asked", null, views === null ? null : table("Views", [
          { title: "View", cell: (view) => el("span", { class: "mono" }, view.table) },
          { title: "Columns", text: true, cell: (view) => [el("div", null, `${view.about}: `), view.columns.map((one) =>
            el("span", { class: "tag", title: [one.type, one.about].filter(Boolean).join(": ") }, one.column))] },
        ], views, (view) => view.table))));
  }

  let begun = false;
  return {
    async refresh() {
      // A login may have ended, and what could not be had before may be there now.
      if (begun) {
        if (views) await get("cluster/status");
        else { views = await get("query/tables"); draw(); }
        return;
      }
      begun = true;
      views = await get("query/tables").catch(() => null);
      draw();
      if (text) look();
      if (params.get("sql")) run();
    },
  };
}
