// The revisions of a bucket, and in which fields two differ.

import { el } from "./dom.js";

function join(path, name) {
  return path ? `${path}.${name}` : name;
}

/** The fields in which `next` differs from `last`: [path, before, after], undefined where there is none. */
export function differences(last, next, path = "") {
  if (JSON.stringify(last) === JSON.stringify(next)) return [];
  const plain = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!plain(last) || !plain(next)) return [[path, last, next]];
  const names = new Set([...Object.keys(last), ...Object.keys(next)]);
  return [...names].flatMap((name) => differences(last[name], next[name], join(path, name)));
}

const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** The difference as lines that were and lines that are. */
export function difference(last, next) {
  const found = differences(last, next);
  if (found.length === 0) return el("p", { class: "quiet" }, "No field differs.");
  return el("div", { class: "difference" }, found.map(([path, before, after]) => [
    before === undefined ? null : el("del", null, `${path}: ${written(before)}`),
    after === undefined ? null : el("ins", null, `${path}: ${written(after)}`),
  ]));
}
