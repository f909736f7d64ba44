// Small drawings.

import { el, svg } from "./dom.js";
import { count } from "./words.js";

const WIDTH = 600;
const HEIGHT = 140;
const EDGE = 4;

function path(points, x, y, pick) {
  return points.map((point, index) => `${index === 0 ? "M" : "L"}${x(point[0]).toFixed(1)} ${y(pick(point)).toFixed(1)}`).join("");
}

const clock = (at) => new Date(at * 1000).toLocaleTimeString();

/**
 * Subtasks that had ended, and failed, over time: `points` of [seconds, finished, failed], of `total`, since `begun`, in
 * seconds; and below it the same in words. `over`: nothing more will end.
 */
export function progress(points, total, begun, over) {
  if (points.length === 0) {
    return el("p", { class: "empty" }, over ? "There is nothing to draw: no subtask ran to its end, or what it went through is not kept any more."
      : "Nothing has ended yet that could be drawn.");
  }
  const first = Math.min(begun || points[0][0], points[0][0] - 1);
  const [last, finished, failed] = points.at(-1);
  const all = [[first, 0, 0], ...points];
  const x = (at) => EDGE + ((at - first) / (last - first)) * (WIDTH - 2 * EDGE);
  const y = (number) => HEIGHT - EDGE - (number / Math.max(1, total)) * (HEIGHT - 2 * EDGE);
  const label = `${count(finished)} of ${count(total)} finished, ${count(failed)} failed, from ${clock(first)} to ${clock(last)}`;
  return [el("div", { class: "plotted" },
    el("div", { class: "scale small quiet", "aria-hidden": "true" }, el("span", null, count(total)), el("span", null, "0")),
    svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
      svg("line", { class: "axis", x1: EDGE, x2: WIDTH - EDGE, y1: y(0), y2: y(0) }),
      svg("line", { class: "axis", x1: EDGE, x2: WIDTH - EDGE, y1: y(total), y2: y(total), "stroke-dasharray": "2 4" }),
      svg("path", { class: "ended", d: path(all, x, y, (point) => point[1]) }),
      failed > 0 ? svg("path", { class: "failed", d: path(all, x, y, (point) => point[2]) }) : null,
      svg("title", null, label))),
  el("p", { class: "small quiet" }, `${clock(first)} to ${clock(last)}: solid `, el("span", { class: "good" }, `${count(finished)} finished`),
    failed > 0 ? [", dashed ", el("span", { class: "bad" }, `${count(failed)} failed`)] : null, ` of ${count(total)} (dotted)`)];
}

/** How much of something is used. */
export function share(used, total, label) {
  return el("progress", { max: "1", value: String(total > 0 ? Math.min(1, used / total) : 0), "aria-label": label });
}
