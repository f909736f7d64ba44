// Small drawings.

import { el, svg } from "./dom.js";
import { count } from "./words.js";

const WIDTH = 600;
const HEIGHT = 140;
const LEFT = 8;
const BOTTOM = 20;
const TOP = 16;

function path(points, x, y, pick) {
  return points.map((point, index) => `${index === 0 ? "M" : "L"}${x(point[0]).toFixed(1)} ${y(pick(point)).toFixed(1)}`).join("");
}

/** Subtasks that had ended, and failed, over time: `points` of [seconds, finished, failed], of `total`. */
export function progress(points, total) {
  if (points.length < 2) return el("p", { class: "empty" }, "Nothing has ended yet that could be drawn.");
  const [first, last] = [points[0][0], points.at(-1)[0]];
  const x = (at) => LEFT + ((at - first) / Math.max(1, last - first)) * (WIDTH - 2 * LEFT);
  const y = (number) => HEIGHT - BOTTOM - (number / Math.max(1, total)) * (HEIGHT - BOTTOM - TOP);
  const [, finished, failed] = points.at(-1);
  const clock = (at) => new Date(at * 1000).toLocaleTimeString();
  const label = `${count(finished)} of ${count(total)} finished, ${count(failed)} failed, from ${clock(first)} to ${clock(last)}`;
  return svg("svg", { class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" },
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - LEFT, y1: y(0), y2: y(0) }),
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - LEFT, y1: y(total), y2: y(total), "stroke-dasharray": "2 4" }),
    svg("path", { class: "ended", d: path(points, x, y, (point) => point[1]) }),
    failed > 0 ? svg("path", { class: "failed", d: path(points, x, y, (point) => point[2]) }) : null,
    svg("title", null, label));
}

/** What lies below it. */
export function progressWords(points, total) {
  if (points.length < 2) return null;
  const clock = (at) => new Date(at * 1000).toLocaleTimeString();
  const [, finished, failed] = points.at(-1);
  return el("p", { class: "small quiet" }, `${clock(points[0][0])} to ${clock(points.at(-1)[0])}: solid `,
    el("span", { class: "good" }, `${count(finished)} finished`), failed > 0 ? ", dashed " : null,
    failed > 0 ? el("span", { class: "bad" }, `${count(failed)} failed`) : null, ` of ${count(total)} (dotted)`);
}

/** How much of something is used. */
export function share(used, total, label) {
  return el("progress", { max: "1", value: String(total > 0 ? Math.min(1, used / total) : 0), "aria-label": label });
}
