// Asking the node: JSON, changes, and what it tells by itself.

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
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed("the node does not answer; trying again", "unreachable");
  }
}

/** What a call answers. */
export async function get(path, params, signal) {
  return answered(await reach(address(path, params), { signal }));
}

/** A page of a list, and where it goes on. */
export async function page(path, params, signal) {
  const response = await reach(address(path, params), { signal });
  return { rows: await answered(response), next: response.headers.get("sheaf-next") ?? "" };
}

let session = null;

/** Who this is to the node, and the token for changes. */
export async function who() {
  session ??= await get("session");
  return session;
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

/** Follows a stream; `handlers` by the event's name get its data. Returns what ends it. */
export function follow(path, params, handlers) {
  const source = new EventSource(address(path, params));
  for (const [name, handler] of Object.entries(handlers)) {
    if (name !== "lost") source.addEventListener(name, (event) => handler(JSON.parse(event.data)));
  }
  source.addEventListener("end", () => source.close());
  source.onerror = () => handlers.lost?.(source.readyState === EventSource.CLOSED);
  return () => source.close();
}
