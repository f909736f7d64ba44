// Elements. Whatever comes from outside becomes a text node or an attribute's value, never markup.

const SVG = "http://www.w3.org/2000/svg";

function make(element, attributes, children) {
  const handlers = {};
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) handlers[name.slice(2)] = value;
    else if (name === "value" && ["INPUT", "TEXTAREA", "SELECT", "OPTION"].includes(element.nodeName)) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.handlers = handlers;
  for (const type of Object.keys(handlers)) listen(element, type);
  const kept = children.flat(4).filter((child) => child !== null && child !== undefined && child !== false);
  element.append(...kept.map(mark));
  return element;
}

// The handler is looked up when it is needed, so that an element can be given another one.
function listen(element, type) {
  element.listening ??= new Set();
  if (element.listening.has(type)) return;
  element.listening.add(type);
  element.addEventListener(type, (event) => element.handlers[type]?.(event));
}

/** An element; attributes named `onTYPE` are handlers. */
export function el(tag, attributes, ...children) {
  return make(document.createElement(tag), attributes, children);
}

/** An element of a drawing. */
export function svg(tag, attributes, ...children) {
  return make(document.createElementNS(SVG, tag), attributes, children);
}

/** Makes what is shown what it should be, and leaves alone what already is: focus, selection and scroll stay. */
export function show(parent, ...children) {
  alignChildren(parent, el("div", null, ...children));
}

// An element that is shown already stays as it is, where it is: what is made anew has a mark in its place.
function mark(child) {
  if (!(child instanceof Node) || !child.isConnected) return child;
  const place = document.createElement("span");
  place.keeps = child;
  return place;
}

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function alignChildren(old, fresh) {
  const wanted = [...fresh.childNodes];
  const keys = new Set(wanted.map(key).filter(Boolean));
  const keyed = new Map();
  for (const child of [...old.childNodes]) {
    const known = key(child);
    if (!known) continue;
    if (keys.has(known) || wanted.some((one) => one.keeps === child)) keyed.set(known, child);
    else child.remove();
  }
  let at = old.firstChild;
  for (const one of wanted) {
    const known = one.keeps ? (one.keeps.parentNode === old ? one.keeps : null) : key(one) ? keyed.get(key(one)) : null;
    if (known && known !== at) {
      old.insertBefore(known, at);
      at = known;
    }
    if (one.keeps) {
      if (known) at = at.nextSibling;
      else old.insertBefore(one.keeps, at);
    } else if (at && key(at) === key(one) && at.nodeType === one.nodeType && at.nodeName === one.nodeName) {
      align(at, one);
      at = at.nextSibling;
    } else {
      old.insertBefore(one, at);
    }
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function align(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  old.handlers = fresh.handlers ?? {};
  for (const type of Object.keys(old.handlers)) listen(old, type);
  if (old.nodeName === "INPUT" || old.nodeName === "TEXTAREA" || old.nodeName === "SELECT") return;
  alignChildren(old, fresh);
}

/** A link to a page of ours. */
export function link(page, params, ...children) {
  return el("a", { href: href(page, params) }, ...children);
}

/**
 * What leads to a node: its name, or its number of one that is away, since another may have its name by now, and of one whose name
 * could be another's number. No name begins with a `+`.
 */
export function whichNode({ id, name, status }) {
  return status === "lost" || status === "left" || /^\d+$/.test(name) ? `+${id}` : name;
}

/**
 * Links to the nodes of these rows, each `{ node, node_id, status? }`: by their names, and where two share one by their numbers,
 * too. A node of a former release says no numbers.
 */
export function nodeLinks(rows) {
  const [numbers, states] = [new Map(), new Map()];
  for (const { node, node_id: id, status } of rows) {
    numbers.set(node, (numbers.get(node) ?? new Set()).add(id));
    if (status) states.set(id, status);
  }
  const called = ({ node, node_id: id }) => (id && numbers.get(node)?.size > 1 ? `${node} (node ${id})` : node);
  // One that no row tells the status of has left.
  const which = ({ node, node_id: id }) => (id ? whichNode({ id, name: node, status: states.get(id) ?? "left" }) : node);
  return { called, to: (row) => link("node", { name: which(row) }, called(row)) };
}

/** The address of a page of ours. */
export function href(page, params) {
  const kept = Object.entries(params ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const query = new URLSearchParams(kept).toString();
  return `#/${page}${query ? `?${query}` : ""}`;
}

/** A card with a head. */
export function card(title, extra, ...children) {
  return el("section", { class: "card", "aria-label": title, "data-key": `card ${title}` },
    el("header", null, el("h2", null, title), extra), children);
}

/** Names and values; those without a value are left out. */
export function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, kept.map(([name, value]) => [el("dt", null, name), el("dd", null, value)]));
}

/** A table of columns `{ title, number?, cell(row) }`. */
export function table(label, columns, rows, keyOf) {
  const heads = columns.map((column) => el("th", { scope: "col", class: column.number ? "number" : null }, column.title));
  const keys = keyOf ? apart(rows.map((row) => String(keyOf(row)))) : null;
  const cells = (row) => columns.map((column, index) => {
    const kind = column.number ? "number" : column.text ? "text" : index === 0 ? "name" : null;
    return el("td", { class: kind }, column.cell(row));
  });
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    el("table", null, el("thead", null, el("tr", null, heads)),
      el("tbody", null, rows.map((row, index) => el("tr", { "data-key": keys?.[index] ?? null }, cells(row))))));
}

/** Keys of which each is of one thing alone: those that are the same are counted. A lost node and the next may share a name. */
export function apart(keys) {
  const seen = new Map();
  return keys.map((one) => {
    const before = seen.get(one) ?? 0;
    seen.set(one, before + 1);
    return before > 0 ? `${one} #${before}` : one;
  });
}
