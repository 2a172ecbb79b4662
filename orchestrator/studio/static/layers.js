// The layers, nearest first: eye, thumbnail, words, lock; drag or Alt+arrows to reorder; one open for changes.

import { edit, flag, nudge, order, select } from "./actions.js";
import { h, icon, iconButton, refill } from "./dom.js";
import { store } from "./store.js";

const COLOURS = ["red", "orange", "gold", "green", "teal", "royalblue", "purple", "hotpink", "saddlebrown", "white", "gray", "black"];
let shown = "";
let dragged = null;

/** Draws the list where it changed. */
export function showLayers() {
  const { state, ui } = store;
  const key = JSON.stringify([state.layers, state.hidden, state.locked, ui.selected, Boolean(state.job), state.run]);
  if (key === shown || dragged) return;
  shown = key;
  const count = state.layers.length;
  refill(document.getElementById("layers"),
    h("header", {}, h("h2", {}, "Layers"), h("span", { class: "faint" }, count ? `${count}, nearest first` : "")),
    h("div", { class: "scroll", "data-scroll": "layers", role: "list" },
      count ? [...state.layers].reverse().map((layer) => row(layer, state, ui)) : h("p", { class: "empty" }, "Objects appear here as they are placed.")));
}

function row(layer, state, ui) {
  const hidden = state.hidden.includes(layer.id);
  const locked = state.locked.includes(layer.id);
  const selected = ui.selected === layer.id;
  const element = h("div", { class: "layer", role: "listitem", "data-layer": layer.id, "data-selected": selected, "data-hidden": hidden },
    h("div", { class: "row" },
      h("span", { class: "grip", title: "Drag to reorder", "aria-hidden": "true", onpointerdown: (event) => grab(event, layer, element, locked) }, icon("grip")),
      iconButton(hidden ? "hidden" : "eye", `${hidden ? "Show" : "Hide"} ${layer.description}`, () => flag("hidden", layer.id), { class: "small", "aria-pressed": null, "data-key": `eye-${layer.id}` }),
      h("button", { type: "button", class: "name", "data-key": `layer-${layer.id}`, "aria-expanded": String(selected), "aria-label": `${layer.description}, layer ${layer.id}`,
        title: `${layer.description}${layer.visible < 0.995 ? `, ${Math.round(layer.visible * 100)} % seen` : ""}`,
        onclick: () => select(layer.id), onkeydown: (event) => keyed(event, layer.id) },
        h("img", { src: layer.pixels ? `${layer.pixels}&width=80&cut=true` : `${layer.mask}&width=80`, alt: "", loading: "lazy" }), h("span", {}, layer.description)),
      iconButton(locked ? "lock" : "unlock", `${locked ? "Unlock" : "Lock"} ${layer.description}`, () => flag("locked", layer.id), { class: `small ${locked ? "set" : ""}`, "data-key": `lock-${layer.id}` })),
    selected && inspector(layer, state, locked));
  return element;
}

function keyed(event, layer) {
  if (!event.altKey || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
  event.preventDefault();
  nudge(layer, event.key === "ArrowUp" ? 1 : -1);
}

function inspector(layer, state, locked) {
  if (locked) return h("p", { class: "inspector soft" }, "Locked: unlock it to change it.");
  if (state.parts.includes(layer.id)) return h("p", { class: "inspector soft" }, "A part of the photo: what it hides was never seen. It can go before or behind new objects.");
  const off = Boolean(state.job);
  const input = h("input", { type: "text", value: layer.description, maxlength: 200, "aria-label": "Other words", "data-key": "layer-words", disabled: off });
  const rename = (event) => {
    event.preventDefault();
    if (input.value.trim() && input.value !== layer.description) edit(layer.id, { words: input.value });
  };
  const seed = () => edit(layer.id, { seed: Math.floor(Math.random() * 2 ** 31) });
  return h("div", { class: "inspector" },
    h("form", { onsubmit: rename }, input, iconButton("accept", "Draw these words instead", rename, { type: "submit", class: "small", disabled: off })),
    h("div", { class: "line", role: "group", "aria-label": "Colour" }, COLOURS.map((colour) =>
      h("button", { type: "button", class: "swatch", disabled: off, title: colour, "aria-label": `Colour ${colour}`, style: { "background-color": colour }, onclick: () => edit(layer.id, { colour }) }))),
    h("div", { class: "line" },
      iconButton("up", "Further to the front", () => nudge(layer.id, 1), { class: "small", key: "Alt ↑", disabled: off }),
      iconButton("down", "Further to the back", () => nudge(layer.id, -1), { class: "small", key: "Alt ↓", disabled: off }),
      iconButton("zoomIn", "Larger", () => edit(layer.id, { scale: 1.2 }), { class: "small", disabled: off }),
      iconButton("zoomOut", "Smaller", () => edit(layer.id, { scale: 0.83 }), { class: "small", disabled: off }),
      iconButton("wand", "Draw it anew in its mask", seed, { class: "small", disabled: off }),
      iconButton("trash", `Delete ${layer.description}`, () => edit(layer.id, { delete: true }), { class: "small danger", disabled: off })),
    h("p", { class: "faint" }, "Drag it on the canvas to move it."));
}

/** Drags a layer in the list; works with a finger too. */
function grab(event, layer, element, locked) {
  if (event.button !== 0 || locked || store.state.job) return;
  event.preventDefault();
  dragged = { layer, element, to: null };
  element.setAttribute("data-dragging", "");
  const list = element.parentElement;
  const move = (to) => {
    for (const other of list.children) delete other.dataset.drop;
    const rows = [...list.querySelectorAll(".layer")];
    const under = rows.find((other) => to.clientY < other.getBoundingClientRect().bottom) ?? rows.at(-1);
    const box = under.getBoundingClientRect();
    const before = to.clientY < box.top + box.height / 2;
    under.dataset.drop = before ? "before" : "after";
    dragged.to = rows.indexOf(under) + (before ? 0 : 1);
  };
  const drop = () => {
    removeEventListener("pointermove", move);
    removeEventListener("pointerup", drop);
    removeEventListener("pointercancel", drop);
    const rows = [...list.querySelectorAll(".layer")];
    const from = rows.indexOf(element);
    const { to } = dragged;
    dragged = null;
    shown = "";
    if (to !== null && to !== from && to !== from + 1) order(layer.id, rows.length - (to > from ? to - 1 : to));
    showLayers();
  };
  addEventListener("pointermove", move);
  addEventListener("pointerup", drop);
  addEventListener("pointercancel", drop);
}
