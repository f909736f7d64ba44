// Output as it is printed.

import { follow } from "./api.js";
import { card, el } from "./dom.js";

// Lines kept in the page.
const KEPT = 2000;

/** A card that follows output. `params` are those of the call. It keeps itself up to date; call `close` at the end. */
export function logs({ title, path, params }) {
  const box = el("div", { class: "log", tabindex: "0", role: "log", "aria-label": title });
  const status = el("span", { class: "small quiet" });
  const say = (text) => { status.textContent = text; };
  let lines = 0;
  let stop = null;
  const add = (line) => {
    // Stay at the end only for who is there.
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    box.append(el("div", { class: line.stream }, el("span", { class: "node" }, `${line.node} | `), line.text));
    lines += 1;
    if (lines > KEPT) { box.firstChild.remove(); lines -= 1; }
    if (end) box.scrollTop = box.scrollHeight;
  };
  const begin = () => {
    say("connecting …");
    stop = follow(path, params, {
      ready: () => {
        // What comes now comes from the start again.
        box.replaceChildren();
        lines = 0;
        say(params.follow ? "live" : "");
      },
      line: add,
      trouble: ({ error }) => say(`broken off: ${error.message}; trying again`),
      end: () => say(lines === 0 ? "nothing was printed" : "that is all"),
      lost: (closed) => say(closed ? "not answered" : "the node does not answer; trying again"),
    });
  };
  begin();
  return {
    view: () => card(title, status, box),
    close: () => stop?.(),
    again: (other) => { stop?.(); Object.assign(params, other); begin(); },
  };
}
