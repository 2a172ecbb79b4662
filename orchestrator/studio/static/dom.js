// Building elements, icons, and telling people things.

/** An element: `h("button", {class: "x", onclick: f}, child, ...)`. Attributes that are null or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

function set(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
  else if (name === "value") element.value = value;
  else element.setAttribute(name, value === true ? "" : value);
}

const PATHS = {
  accept: "M4 12.5l5 5L20 6.5",
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  blob: "M12 5c5 0 8 3 8 7s-3 7-8 7-8-3-8-7 3-7 8-7z",
  box: "M5 6h14v12H5z",
  branch: "M7 4v16M7 9c0 5 10 2 10 8M17 20a2 2 0 100-4 2 2 0 000 4z",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19z",
  export: "M12 4v11M7 10l5 5 5-5M5 20h14",
  eye: "M2 12s4-6.5 10-6.5S22 12 22 12s-4 6.5-10 6.5S2 12 2 12zM12 15a3 3 0 100-6 3 3 0 000 6z",
  hidden: "M4 4l16 16M9 6c1-.3 2-.5 3-.5 6 0 10 6.500 10 6.500a18 18 0 01-3 3.600M6 8C3.500 9.700 2 12 2 12s4 6.500 10 6.500c1.500 0 2.800-.4 4-.9",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  help: "M9 9a3 3 0 115 2.200c-1.200.9-2 1.500-2 2.800M12 18h.01",
  lock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 017 0v3",
  unlock: "M6 11h12v9H6zM8.500 11V8a3.500 3.500 0 016.800-1.200",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  move: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
  photo: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.500 9.500h.01",
  pause: "M8 5v14M16 5v14",
  redo: "M19 8h-9a5 5 0 000 10h4M15 4l4 4-4 4",
  reject: "M6 6l12 12M18 6L6 18",
  run: "M7 5l12 7-12 7z",
  scribble: "M3 16c3-8 6-8 6-3s3 5 5 0 4-5 7-2",
  skip: "M5 5l9 7-9 7zM18 5v14",
  stop: "M6 6h12v12H6z",
  theme: "M20 14.500A8.500 8.500 0 019.500 4 8.500 8.500 0 1020 14.500z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  undo: "M5 8h9a5 5 0 010 10h-4M9 4L5 8l4 4",
  up: "M12 19V5M6 11l6-6 6 6",
  wand: "M4 20L15 9M18 3v4M16 5h4M20 11v3M18.500 12.500h3M10 3v3M8.500 4.500h3",
  zoomIn: "M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5M11 8v6M8 11h6",
  zoomOut: "M11 4a7 7 0 100 14 7 7 0 000-14zM16 16l5 5M8 11h6",
};

/** A line icon. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: `icon icon-${name}`, "aria-hidden": "true" },
    svg("path", { d: PATHS[name] }));
}

/** A button of an icon alone; `key` is the shortcut to show. */
export function iconButton(name, label, onclick, more = {}) {
  const { key, class: extra = "", ...rest } = more;
  return h("button", { type: "button", class: `icon-button ${extra}`, "aria-label": label,
    title: key ? `${label}  (${key})` : label, onclick, ...rest }, icon(name));
}

/** A button with words. */
export function button(words, onclick, more = {}) {
  const { icon: name, key, class: extra = "", ...rest } = more;
  return h("button", { type: "button", class: `button ${extra}`, title: key ? `${words}  (${key})` : null,
    onclick, ...rest }, name && icon(name), h("span", {}, words));
}

/** Replaces what an element holds, keeping the focus on the part with the same `data-key`, and the scroll position. */
export function refill(element, ...children) {
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  const key = active?.dataset.key;
  const scrolled = [...element.querySelectorAll("[data-scroll]")].map((part) => [part.dataset.scroll, part.scrollTop, part.scrollLeft]);
  element.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const [name, top, left] of scrolled) {
    const part = element.querySelector(`[data-scroll="${name}"]`);
    if (part) [part.scrollTop, part.scrollLeft] = [top, left];
  }
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

/** Says something to screen readers. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** Shows a line that goes away; `kind` is "error" or "info". */
export function notice(text, kind = "error", seconds = 8) {
  const holder = document.getElementById("notices");
  for (const old of holder.children) if (old.dataset.text === text) old.remove();
  const line = h("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status", "data-text": text },
    h("span", {}, text), iconButton("close", "Dismiss", () => line.remove(), { class: "small" }));
  holder.append(line);
  setTimeout(() => line.remove(), seconds * 1000);
}
