// Who has to say who they are: a token, as `sheaf cluster token create` prints it.

import { login } from "./api.js";
import { el, show } from "./dom.js";

/** Asks for a token, and calls `done` once the cluster has taken it. */
export function ask(main, done) {
  const token = el("input", { type: "password", name: "token", autocomplete: "off", required: true, size: 60, autofocus: true });
  const failed = el("p", { class: "error", role: "alert" });
  const enter = el("button", { type: "submit", class: "primary" }, "Log in");
  const run = async () => {
    enter.disabled = true;
    try {
      await login(token.value.trim());
      token.value = "";
      done();
    } catch (error) {
      show(failed, error.message);
      enter.disabled = false;
      token.focus();
    }
  };
  show(main, el("h1", null, "Log in"),
    el("p", null, "This cluster asks for a token. An admin makes one: sheaf cluster token create --name NAME --role viewer"),
    el("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
      el("p", null, el("label", null, "Token ", token)), failed, el("p", null, enter)));
  token.focus();
}
