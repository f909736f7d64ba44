// A list, a page at a time: the node never sends more than is shown.

import { page } from "./api.js";
import { card, el, table } from "./dom.js";
import { count } from "./words.js";

const ROWS = 50;

function turns(told, back, further) {
  return el("div", { class: "pages" }, el("span", { class: "quiet small" }, told),
    el("button", { type: "button", disabled: !back, onclick: back }, "Back"),
    el("button", { type: "button", disabled: !further, onclick: further }, "Further"));
}

/**
 * A card with a list. `ask(size, after)` gives `[path, params]`; `again` has the page shown anew. What is asked for and makes
 * no sense is said in the card, so that it can be put right there.
 * Returns { refresh, view, reset, rows, isFirst, next }.
 */
export function list({ title, columns, ask, keyOf, empty, extra, above, again, size = ROWS }) {
  let before = [];
  let after = "";
  let next = "";
  let rows = null;
  let wrong = null;
  return {
    async refresh() {
      const [path, params] = ask();
      const asked = after;
      try {
        const answer = await page(path, { ...params, limit: size, after: asked });
        if (asked === after) ({ rows, next } = answer);
        wrong = null;
      } catch (error) {
        if (error.code !== "invalid") throw error;
        [rows, next, wrong] = [[], "", error.message];
      }
    },
    /** Begins from the start, as what is asked for is another now. */
    reset() {
      [before, after, rows, wrong] = [[], "", null, null];
      again();
    },
    rows: () => rows,
    /** Whether what is shown is the beginning. */
    isFirst: () => before.length === 0,
    /** Where the list goes on behind what is shown; empty: nowhere. */
    next: () => next,
    view() {
      const turn = (to) => { after = to; rows = null; again(); };
      const pages = before.length > 0 || next
        ? turns(`Page ${before.length + 1}`, before.length > 0 ? () => turn(before.pop()) : null, next ? () => { before.push(after); turn(next); } : null)
        : null;
      const body = wrong !== null ? el("p", { class: "inner error", role: "alert" }, wrong)
        : rows === null ? el("p", { class: "empty" }, "Loading …")
          : rows.length === 0 ? el("p", { class: "empty" }, typeof empty === "function" ? empty() : empty)
            : table(title, columns, rows, keyOf);
      return card(title, typeof extra === "function" ? extra() : extra, typeof above === "function" ? above() : above, body, pages);
    },
  };
}

/** The same of rows that are all there already: a page of them at a time. Returns { view }. */
export function parts({ title, columns, keyOf, empty, again, size = ROWS }) {
  let begin = 0;
  return {
    view(rows, extra) {
      if (begin >= rows.length) begin = 0;
      const end = Math.min(begin + size, rows.length);
      const turn = (to) => { begin = to; again(); };
      const pages = rows.length > size
        ? turns(`${count(begin + 1)} to ${count(end)} of ${count(rows.length)}`, begin > 0 ? () => turn(begin - size) : null, end < rows.length ? () => turn(end) : null)
        : null;
      const body = rows.length === 0 ? el("p", { class: "empty" }, empty) : table(title, columns, rows.slice(begin, end), keyOf);
      return card(title, extra, body, pages);
    },
  };
}

/** A line to filter with; `apply(text)` when it is sent. `presets`: filters that are asked for often, `[word, text]`. */
export function filterLine({ value, hint, label, apply, presets = [] }) {
  const input = el("input", { type: "search", value, placeholder: hint, "aria-label": label, spellcheck: "false", autocomplete: "off" });
  const chips = presets.map(([word, text]) => el("button", { type: "button", onclick: () => { input.value = text; run(); } }, word));
  const mark = () => presets.forEach(([, text], index) => chips[index].setAttribute("aria-pressed", input.value.trim() === text ? "true" : "false"));
  const run = () => { mark(); apply(input.value.trim()); };
  mark();
  return el("form", { class: "line", "data-key": `filter ${label}`, onsubmit: (event) => { event.preventDefault(); run(); } },
    input, el("button", { type: "submit" }, "Filter"), chips.length > 0 ? el("span", { class: "presets" }, chips) : null);
}

/** The filter of buckets that are not as they should be. */
export const TROUBLED = "state!=running state!=suspended";

/** What was typed as a filter of the API: words without `=` are looked for in names. */
export function asFilter(text) {
  return text.split(/[\s,]+/).filter(Boolean).map((word) => (word.includes("=") ? word : `name=*${word}*`)).join(",");
}

/** What was typed as the parameters of events: a word without `=` is a subject. */
export function asEvents(text) {
  const terms = text.split(/[\s,]+/).filter(Boolean).map((word) => (word.includes("=") ? word : `subject=${word}`));
  return Object.fromEntries(terms.map((term) => [term.slice(0, term.indexOf("=")), term.slice(term.indexOf("=") + 1)]));
}

/** The address shows the filter, so that it can be sent to somebody. */
export function keepFilter(name, text) {
  history.replaceState(null, "", `#/${name}${text ? `?filter=${encodeURIComponent(text)}` : ""}`);
}
