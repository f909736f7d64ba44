// Output as it is printed.

import { follow } from "./api.js";
import { card, el, show } from "./dom.js";

// Lines kept in the page.
const KEPT = 2000;

/**
 * A card that follows output. `params` are those of the call. It keeps itself up to date; `view(nodes)` lets one of these
 * nodes be chosen; call `close` at the end.
 */
export function logs({ title, path, params }) {
  const box = el("div", { class: "log", tabindex: "0", role: "log", "aria-label": title });
  const status = el("span", { class: "small quiet", role: "status" });
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
      lost: (closed) => say(closed ? "not answered; trying again" : "the node does not answer; trying again"),
    });
  };
  const again = (other) => { stop?.(); Object.assign(params, other); begin(); };
  const choice = el("span");
  begin();
  return {
    view(nodes = []) {
      const named = [...new Set([...nodes, ...(params.node ? [params.node] : [])])].sort();
      // A list that somebody has open is not made anew for nothing.
      const key = named.join(" ");
      if (choice.dataset.nodes !== key) {
        choice.dataset.nodes = key;
        const options = named.map((node) => el("option", { value: node, selected: node === params.node }, node));
        show(choice, named.length < 2 ? null : el("label", { class: "small", "data-key": key }, "of ",
          el("select", { onchange: (event) => again({ node: event.target.value }) }, el("option", { value: "" }, "every node"), options)));
      }
      return card(title, [choice, status], box);
    },
    close: () => stop?.(),
    again,
  };
}
