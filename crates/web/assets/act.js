// Acts: each is confirmed, and what it would do is shown before.

import { change } from "./api.js";
import { el, show } from "./dom.js";

// After the last key what was typed is looked at.
const TYPED = 300;

/**
 * Asks before something is done. `consequence(values)` gives what would come of it (elements; may ask the node),
 * `fields` are inputs `{ name, label, value, type }`, `act(values)` does it. `stays`: what came of it is shown there.
 */
export function confirm({ title, verb, danger, fields = [], consequence, act, done, stays }) {
  const inputs = fields.map((field) => [field, input(field)]);
  const values = () => Object.fromEntries(inputs.map(([field, element]) =>
    [field.name, field.type === "checkbox" ? element.checked : element.value.trim()]));
  const shown = el("div", { class: "consequence", "aria-live": "polite" }, el("p", { class: "quiet" }, "Looking at what that does …"));
  const failed = el("p", { class: "error", role: "alert" });
  const sure = el("button", { type: "submit", class: danger ? "danger primary" : "primary", disabled: true }, verb);
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  let asked = 0;
  let seen = "";
  const look = async () => {
    const turn = ++asked;
    seen = JSON.stringify(values());
    sure.disabled = true;
    try {
      const found = await consequence(values());
      if (turn !== asked) return;
      show(shown, found);
      show(failed);
      sure.disabled = false;
    } catch (error) {
      if (turn !== asked) return;
      show(shown);
      show(failed, error.message);
    }
  };
  const lines = inputs.map(([field, element]) => el("p", null, el("label", null, field.label, " ", element)));
  const form = el("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
    lines, shown, failed, el("div", { class: "acts" }, close, sure));
  const dialog = el("dialog", { "aria-label": title }, el("h2", null, title), form);
  async function run() {
    // By Enter, before it could be seen what comes of it.
    if (sure.disabled) return;
    sure.disabled = true;
    show(failed);
    try {
      await act(values());
      if (stays) {
        show(close, "Close");
        sure.disabled = false;
      } else {
        dialog.close();
      }
      done?.();
    } catch (error) {
      show(failed, error.message);
      sure.disabled = false;
    }
  }
  // What was typed and not looked at yet is not done.
  let typed = null;
  form.addEventListener("input", () => { sure.disabled = true; clearTimeout(typed); typed = setTimeout(look, TYPED); });
  form.addEventListener("change", () => {
    clearTimeout(typed);
    // Also told when a field is left for the button: what was looked at already must not take the click away from it.
    if (JSON.stringify(values()) !== seen) look();
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  (inputs[0]?.[1] ?? close).focus();
  look();
}

function input(field) {
  if (field.options) {
    return el("select", null, field.options.map(([value, text]) => el("option", { value, selected: value === field.value }, text)));
  }
  return el("input", { type: field.type ?? "text", value: field.value ?? "", placeholder: field.hint, min: field.min, max: field.max, required: field.type === "number",
    checked: field.type === "checkbox" && field.value });
}

/** A button that begins an act. */
export function button(text, begin, danger) {
  return el("button", { type: "button", class: danger ? "danger" : null, onclick: begin }, text);
}

/** The usual act on one thing: a call with a body. */
export function simple({ title, verb, danger, text, path, body, done }) {
  confirm({ title, verb, danger, done, consequence: async () => el("p", null, await text()), act: () => change(path, body) });
}
