// Who has to say who they are: a token, as `sheaf cluster token create` prints it.

import { login } from "./api.js";
import { el, show } from "./dom.js";

/** Asks for a token, and calls `done` once the cluster has taken it. `why`: what ended the login before, if anything did. */
export function ask(place, why, done) {
  const token = el("input", { type: "password", name: "token", autocomplete: "off", required: true, size: 60 });
  const failed = el("p", { class: "error", role: "alert" });
  const enter = el("button", { type: "submit", class: "primary" }, "Log in");
  const run = async () => {
    enter.disabled = true;
    show(failed);
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
  show(place, el("h1", null, "Log in"), why ? el("p", { role: "status" }, why) : null,
    el("p", null, "This cluster asks for a token. An admin makes one: ", el("code", null, "sheaf cluster token create --name NAME --role viewer")),
    el("form", { onsubmit: (event) => { event.preventDefault(); run(); } },
      el("p", null, el("label", null, "Token ", token)), failed, el("p", null, enter)));
  token.focus();
}
