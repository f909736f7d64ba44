// How states, times and sizes look: a glyph and a word each, so that colour is not needed.

import { el } from "./dom.js";

// word: [glyph, tone]
const STATES = {
  running: ["●", "good"], ready: ["●", "good"], finished: ["✓", "good"], pass: ["✓", "good"], closed: ["●", "good"],
  starting: ["◔", "busy"], placing: ["◌", "busy"], pending: ["◌", "busy"], joining: ["◔", "busy"], trying: ["◔", "busy"],
  stopping: ["◒", "busy"], restarting: ["↻", "busy"],
  partial: ["◐", "warn"], quarantined: ["⊘", "warn"], backoff: ["↻", "warn"], suspect: ["?", "warn"], draining: ["↓", "warn"],
  waiting_for_node: ["◷", "warn"], paused: ["‖", "warn"], "no spare voter": ["!", "warn"], incomplete: ["!", "warn"],
  failed: ["✕", "bad"], unplaced: ["∅", "bad"], lost: ["✕", "bad"], refuse: ["✕", "bad"], open: ["✕", "bad"],
  "no leader": ["✕", "bad"], "not answered": ["✕", "bad"],
  suspended: ["‖", "idle"], stopped: ["○", "idle"], left: ["○", "idle"], canceled: ["⊘", "idle"], waiting: ["◌", "idle"],
  idle: ["✓", "good"], delivered: ["✓", "good"], delivering: ["◔", "busy"], failing: ["✕", "bad"], "logged out": ["○", "idle"],
  handed_back: ["↩", "idle"], available: ["○", "idle"], refused: ["·", "none"], unknown: ["?", "none"],
};

/** Glyph and tone of a state, which may say first how many are in it. */
export function look(word) {
  return STATES[word] ?? STATES[String(word).replace(/^\d+ /, "")] ?? ["◆", "idle"];
}

/** A state as a badge. */
export function state(word) {
  const [glyph, tone] = look(word);
  const shown = tone === "none" ? "idle" : tone;
  return el("span", { class: `state ${shown}` }, el("i", { "aria-hidden": "true" }, glyph), words(word));
}

/** A word of the API for people. */
export function words(word) {
  return String(word).replaceAll("_", " ");
}

const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

/** A time span in seconds, short. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  for (const [unit, size] of UNITS) if (whole >= 2 * size || unit === "s") return `${Math.floor(whole / size)}${unit}`;
  return "0s";
}

/** How long ago; the time itself on hover. */
export function ago(text) {
  if (!text) return el("span", { class: "quiet" }, "–");
  const at = Date.parse(text);
  if (Number.isNaN(at)) return String(text);
  const seconds = (Date.now() - at) / 1000;
  const shown = seconds < -1 ? `in ${span(-seconds)}` : `${span(seconds)} ago`;
  return el("time", { datetime: text, title: new Date(at).toLocaleString() }, shown);
}

/** Bytes. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = number, unit = 0;
  while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
  return `${unit === 0 || size >= 100 ? Math.round(size) : size.toFixed(1)} ${units[unit]}`;
}

/** A number with its thousands apart. */
export function count(number) {
  return Number(number).toLocaleString("en").replaceAll(",", "\u202f");
}

/** "1 node", "2 nodes". */
export function many(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** Labels, lists. */
export function tags(texts) {
  return texts.length === 0 ? el("span", { class: "quiet" }, "none") : texts.map((text) => el("span", { class: "tag" }, text));
}
