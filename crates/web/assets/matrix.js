// Nodes across, buckets down: what each is to the other, and why.

import { get, page } from "./api.js";
import { apart, card, el, link, show, table, whichNode } from "./dom.js";
import { eventColumns } from "./events.js";
import { TROUBLED, asFilter, filterLine, keepFilter } from "./list.js";
import { look, state, words } from "./words.js";

export const title = () => "Affinity";

// What a cell may be: every phase, and what stands where there is no instance.
const LEGEND = ["running", "pending", "starting", "backoff", "failed", "stopping", "stopped", "available", "refused", "unknown"];
const HISTORY = 30;

/** Whether a bucket's state stands before its name: not where it is in order. */
const isTold = (word) => look(word)[1] !== "good";

export function open(place, params, { again }) {
  let text = params.get("filter") ?? "";
  let [after, nodesAfter] = ["", ""];
  const [before, nodesBefore] = [[], []];
  let found = null;
  let wrong = null;
  // The cell whose history is shown, by the bucket's name and the node's number, and the one that the Tab key leads to.
  let chosen = null;
  let opened = false;
  let reached = null;
  const hint = el("div", { class: "hint", role: "tooltip", id: "hint", hidden: true });
  document.body.append(hint);

  const filter = filterLine({ value: text, label: "Filter buckets", hint: "a part of a path, or state=partial, module=flume",
    presets: [["all", ""], ["not as they should be", TROUBLED]],
    apply: (typed) => { text = typed; keepFilter("affinity", text); after = ""; before.length = 0; again(); } });

  function tell(button, bucket, node, cell) {
    const epoch = cell.epoch === null ? "" : `, epoch ${cell.epoch}`;
    show(hint, el("b", null, `${bucket.name} on ${node.name}: ${words(cell.mark)}${epoch}`), el("div", null, cell.why));
    hint.hidden = false;
    const at = button.getBoundingClientRect();
    const size = hint.getBoundingClientRect();
    const below = at.bottom + size.height + 12 < window.innerHeight;
    hint.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - size.width - 12))}px`;
    hint.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - size.height - 6)}px`;
  }
  const hide = () => { hint.hidden = true; };

  function cell(bucket, node, it, row, column, known) {
    const [glyph, tone] = look(it.mark);
    const open = chosen?.name === bucket.name && chosen.node.id === node.id;
    const tell_ = (event) => tell(event.currentTarget, bucket, node, it);
    return el("td", { "data-key": `${bucket.name} ${known}` }, el("button", {
      type: "button", class: `cell ${tone}`, "data-at": `${row} ${column}`, "data-mark": it.mark,
      tabindex: (reached ?? "0 0") === `${row} ${column}` ? "0" : "-1", "aria-expanded": open ? "true" : "false",
      "aria-label": `${bucket.name} on ${node.name}: ${words(it.mark)}. ${it.why}`,
      onmouseenter: tell_, onmouseleave: hide, onblur: hide,
      onfocus: (event) => { reached = `${row} ${column}`; tell_(event); },
      onclick: () => { chosen = open ? null : { name: bucket.name, node }; opened = !open; hide(); again(); },
    }, el("span", { "aria-hidden": "true" }, glyph)));
  }

  // Arrows move from cell to cell, as in any grid.
  function moved(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const at = event.target.dataset?.at?.split(" ").map(Number);
    if (event.key === "Escape") hide();
    if (!step || !at) return;
    const next = event.currentTarget.querySelector(`[data-at="${at[0] + step[0]} ${at[1] + step[1]}"]`);
    if (!next) return;
    event.preventDefault();
    event.currentTarget.querySelectorAll('.cell[tabindex="0"]').forEach((one) => one.setAttribute("tabindex", "-1"));
    next.setAttribute("tabindex", "0");
    next.focus();
  }

  function grid() {
    const { nodes, buckets } = found;
    const known = apart(nodes.map((node) => node.name));
    const heads = nodes.map((node, column) => {
      const [glyph] = look(node.status);
      const status = node.status === "ready" ? null : `${glyph} `;
      return el("th", { scope: "col", "data-key": known[column], title: `${node.name}: ${words(node.status)}${node.leader ? ", leads" : ""}` },
        link("node", { name: whichNode(node) }, status, node.name, node.leader ? " ★" : null));
    });
    const rows = buckets.map((bucket, row) => el("tr", { "data-key": bucket.name },
      el("th", { scope: "row", title: bucket.name }, !isTold(bucket.state) ? null : [el("span", { class: look(bucket.state)[1], title: words(bucket.state) }, look(bucket.state)[0]), " "],
        link("bucket", { name: bucket.name }, bucket.name), el("span", { class: "quiet small" }, bucket.multi_node ? " every" : " one")),
      bucket.cells.map((it, column) => cell(bucket, nodes[column], it, row, column, known[column])), el("td", { class: "fill" })));
    return el("div", { class: "scroll", onscroll: hide }, el("table", { class: "matrix", role: "grid", "aria-label": "Affinity of buckets to nodes", onkeydown: moved },
      el("thead", null, el("tr", null, el("th", { scope: "col" }, "Bucket"), heads, el("th", { class: "fill" }))), el("tbody", null, rows)));
  }

  // Signs of buckets and nodes only as far as they are there: one means another thing in a cell.
  function legend() {
    const sign = (of) => (word) => el("span", null, el("span", { class: look(word)[1], "aria-hidden": "true" }, look(word)[0]), ` ${of}${words(word)}`);
    const there = (all) => [...new Set(all)].sort();
    return el("div", { class: "legend" }, LEGEND.map(sign("")), there(found.buckets.map((one) => one.state).filter(isTold)).map(sign("bucket ")),
      there(found.nodes.map((one) => one.status).filter((status) => status !== "ready")).map(sign("node ")), el("span", null, "★ leads"),
      el("span", null, "every, one: on how many nodes it is to run"));
  }

  function turns() {
    if (!before.length && !found.next && !nodesBefore.length && !found.nodes_next) return null;
    const turn = (text, able, go) => el("button", { type: "button", disabled: !able, onclick: () => { go(); again(); } }, text);
    return el("div", { class: "pages" }, el("span", { class: "quiet small" }, "There is more than fits here."),
      turn("← nodes", nodesBefore.length > 0, () => { nodesAfter = nodesBefore.pop(); }),
      turn("nodes →", found.nodes_next, () => { nodesBefore.push(nodesAfter); nodesAfter = found.nodes_next; }),
      turn("↑ buckets", before.length > 0, () => { after = before.pop(); }),
      turn("buckets ↓", found.next, () => { before.push(after); after = found.next; }));
  }

  async function story() {
    if (chosen === null) return null;
    const { name, node } = chosen;
    let [events, explained] = [null, null];
    try {
      [events, explained] = await Promise.all([
        page("event/list", { subject: name, node: node.name, limit: HISTORY }), get("bucket/explain", { name })]);
    } catch (error) {
      if (error.code !== "not_found") throw error;
      chosen = null;
      return null;
    }
    // A node of a former release says no numbers.
    const meant = (one) => (one.node_id ? one.node_id === node.id : one.node === node.name);
    const { gates, obstacle } = explained.nodes.find(meant) ?? { gates: [], obstacle: "" };
    const shared = explained.nodes.filter((one) => one.node === node.name).length > 1;
    const all = link("events", { filter: `subject=${name} node=${node.name}` }, "all of its history");
    const close = el("span", { class: "acts" }, events.next ? all : null, el("button", { type: "button", onclick: () => { chosen = null; again(); } }, "Close"));
    return el("div", { "data-key": "story" }, card(`${name} on ${node.name}${shared ? ` (node ${node.id})` : ""}`, close,
      el("h3", null, "Gates"), gates.length === 0 ? el("p", { class: "empty" }, "The node has not answered yet.") : table("Gates", [
        { title: "Gate", cell: (gate) => gate.gate },
        { title: "Outcome", cell: (gate) => state(gate.pass === null ? "unknown" : gate.pass ? "pass" : "refuse") },
        { title: "Reason", text: true, cell: (gate) => gate.reason },
      ], gates, (gate) => gate.gate), obstacle ? el("p", null, `Whatever the gates say: ${obstacle}`) : null,
      el("h3", null, "History of this cell"), shared ? el("p", { class: "quiet small" }, "Of every node of this name: events are remembered by it.") : null, events.rows.length === 0 ? el("p", { class: "empty" }, "Nothing happened between the two yet.")
        : table("History of this cell", eventColumns().filter(({ title: name_ }) => !["Subject", "Node"].includes(name_)), events.rows,
          (row) => `${row.revision} ${row.kind} ${row.after}`)));
  }

  return {
    async refresh() {
      try {
        found = await get("node/matrix", { after, nodes_after: nodesAfter, filter: asFilter(text) });
        wrong = null;
      } catch (error) {
        if (error.code !== "invalid") throw error;
        wrong = error.message;
      }
      const told = await story();
      const body = wrong !== null ? el("p", { class: "inner error", role: "alert" }, wrong) : found.buckets.length === 0
        ? el("p", { class: "empty" }, text ? "No bucket is like that." : "There is no bucket yet: sheaf apply -f FILE registers some.")
        : [grid(), turns(), legend()];
      show(place, el("h1", null, "Affinity"),
        el("p", { class: "quiet" }, "Which node has which bucket. Point at a cell for why, or go there with the arrow keys; press it for its history."),
        card("Nodes × buckets", null, el("div", { class: "inner" }, filter), body), told);
      if (opened && told) place.querySelector(`[data-key="story"]`)?.scrollIntoView({ block: "nearest" });
      opened = false;
    },
    close: () => hint.remove(),
  };
}
