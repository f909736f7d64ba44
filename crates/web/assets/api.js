// Asking the node: JSON, changes, and what it tells by itself.

// No answer to a question takes longer; a connection that is dead says nothing by itself.
const PATIENCE = 30000;
// After a stream was refused.
const AGAIN = 5000;

/** Why something was not answered as asked. */
export class Failed extends Error {
  constructor(message, code, defects) {
    super(message);
    this.code = code;
    this.defects = defects ?? [];
  }
}

function address(path, params) {
  const kept = Object.entries(params ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(kept).toString();
  return `/api/v1/${path}${query ? `?${query}` : ""}`;
}

async function answered(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Failed(`the node answered ${response.status} and no JSON`, "internal");
  }
  if (!response.ok) {
    const error = body?.error ?? {};
    throw new Failed(error.message ?? `the node answered ${response.status}`, error.code, error.defects);
  }
  return body;
}

async function reach(url, options) {
  try {
    return await fetch(url, { credentials: "same-origin", ...options });
  } catch {
    throw new Failed("The node does not answer; trying again", "unreachable");
  }
}

/** What a call answers. */
export async function get(path, params) {
  return answered(await reach(address(path, params), { signal: AbortSignal.timeout(PATIENCE) }));
}

/** A page of a list, and where it goes on. */
export async function page(path, params) {
  const response = await reach(address(path, params), { signal: AbortSignal.timeout(PATIENCE) });
  return { rows: await answered(response), next: response.headers.get("sheaf-next") ?? "" };
}

let session = null;

/** Who this is to the node, and the token for changes. */
export async function who(anew = false) {
  if (anew || session === null) session = await get("session");
  return session;
}

const ROLES = ["viewer", "operator", "admin"];

/**
 * Whether who looks may do what needs this: "bucket" (with its name), "operator" or "admin". What is not known is tried: the
 * cluster decides in any case.
 */
export function may(need, name) {
  const asker = session?.secured ? session.asker : null;
  if (!asker) return true;
  const role = ROLES.indexOf(asker.role);
  if (need === "bucket") return role >= 1 && name.startsWith(asker.prefix);
  return role > ROLES.indexOf(need) || (role === ROLES.indexOf(need) && !asker.prefix);
}

/** Logs in with a token; the session keeps it. */
export async function login(token) {
  await change("login", { token });
  session = null;
}

/** Forgets the token. */
export async function logout() {
  await change("logout", {});
  session = null;
}

/** Asks for a change. A session that is over, e.g. by the node's restart, is begun anew, once. */
export async function change(path, body) {
  for (let again = true; ; again = false) {
    const { csrf } = await who();
    const response = await reach(address(path), {
      method: "POST",
      headers: { "content-type": "application/json", "sheaf-csrf": csrf },
      body: JSON.stringify(body),
    });
    if (response.status !== 403 || !again) return answered(response);
    session = null;
  }
}

/**
 * Follows a stream for as long as the page can be seen: a browser opens few connections to a node, and those of pages that
 * nobody looks at would keep the others from asking. `handlers` by the event's name get its data; `lost` is told whether
 * it was refused. What is lost or refused is tried again. Returns what ends it.
 */
export function follow(path, params, handlers) {
  let source = null;
  let over = false;
  let timer = null;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    if (over || source || document.hidden) return;
    const opened = new EventSource(address(path, params));
    source = opened;
    for (const [name, handler] of Object.entries(handlers)) {
      if (name !== "lost") opened.addEventListener(name, (event) => handler(JSON.parse(event.data)));
    }
    opened.addEventListener("end", () => { over = true; close(); });
    opened.onerror = () => {
      const closed = opened.readyState === EventSource.CLOSED;
      if (closed) {
        close();
        timer = setTimeout(open, AGAIN);
      }
      handlers.lost?.(closed);
    };
  };
  const look = () => { if (document.hidden) close(); else open(); };
  document.addEventListener("visibilitychange", look);
  open();
  return () => {
    over = true;
    document.removeEventListener("visibilitychange", look);
    close();
  };
}
