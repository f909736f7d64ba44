// A list, a page at a time: the node never sends more than is shown.

import { page } from "./api.js";
import { card, el, table } from "./dom.js";

const ROWS = 50;

/**
 * A card with a list. `ask(size, after)` gives `[path, params]`; `again` has the page shown anew.
 * Returns { refresh, view, reset }.
 */
export function list({ title, columns, ask, keyOf, empty, extra, above, again, size = ROWS }) {
  let before = [];
  let after = "";
  let next = "";
  let rows = null;
  return {
    async refresh() {
      const [path, params] = ask();
      const asked = after;
      const answer = await page(path, { ...params, limit: size, after: asked });
      if (asked === after) ({ rows, next } = answer);
    },
    /** Begins from the start, as what is asked for is another now. */
    reset() {
      [before, after, rows] = [[], "", null];
      again();
    },
    rows: () => rows,
    view() {
      const turn = (to) => { after = to; rows = null; again(); };
      const number = before.length + 1;
      const pages = before.length > 0 || next
        ? el("div", { class: "pages" }, el("span", { class: "quiet small" }, `Page ${number}`),
          el("button", { type: "button", disabled: before.length === 0, onclick: () => turn(before.pop() ?? "") }, "Back"),
          el("button", { type: "button", disabled: !next, onclick: () => { before.push(after); turn(next); } }, "Further"))
        : null;
      const body = rows === null ? el("p", { class: "empty" }, "Loading …")
        : rows.length === 0 ? el("p", { class: "empty" }, empty)
          : table(title, columns, rows, keyOf);
      return card(title, extra, above, body, pages);
    },
  };
}

/** A line to filter with; `apply(text)` when it is sent. */
export function filterLine({ value, hint, label, apply }) {
  const input = el("input", { type: "search", value, placeholder: hint, "aria-label": label, spellcheck: "false", autocomplete: "off" });
  return el("form", { class: "line", "data-key": `filter ${label}`,
    onsubmit: (event) => { event.preventDefault(); apply(input.value.trim()); } },
  input, el("button", { type: "submit" }, "Filter"));
}

/** What was typed as a filter of the API: words without `=` are looked for in names. */
export function asFilter(text) {
  return text.split(/[\s,]+/).filter(Boolean).map((word) => (word.includes("=") ? word : `name=*${word}*`)).join(",");
}

/** What was typed as the parameters of events: a word without `=` is a subject. */
export function asEvents(text) {
  const terms = text.split(/[\s,]+/).filter(Boolean).map((word) => (word.includes("=") ? word : `subject=${word}`));
  return Object.fromEntries(terms.map((term) => [term.slice(0, term.indexOf("=")), term.slice(term.indexOf("=") + 1)]));
}
