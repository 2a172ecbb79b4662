// The scene graph: objects where they stand, relations as arrows; what the prompt asks for is green or red.

import { select } from "./actions.js";
import { h, refill, svg } from "./dom.js";
import { store } from "./store.js";

const WIDTH = 300;
const HEIGHT = 210;
const NODE = 9;
const MOST_PLAIN = 8;
let shown = "";

/** Draws it where it changed. */
export function showGraph() {
  const { state, ui } = store;
  const key = JSON.stringify([state.layers, state.edges, state.relations, ui.selected]);
  if (key === shown) return;
  shown = key;
  const broken = state.relations.filter((relation) => relation.holds === false).length;
  refill(document.getElementById("graph"),
    h("header", {}, h("h2", {}, "Relations"), broken > 0 && h("span", { class: "chip bad" }, `${broken} violated`)),
    h("div", { class: "scroll", "data-scroll": "graph" }, state.relations.length ? asked(state.relations) : null,
      state.layers.length ? drawn(state, ui.selected) : h("p", { class: "empty" }, "How objects stand to each other appears here.")));
}

function asked(relations) {
  const look = { true: ["holds", "✓", "holds"], false: ["broken", "✕", "violated"], null: ["", "·", "not both there yet"] };
  return h("ul", { class: "relations", "aria-label": "Asked for in the prompt" }, relations.map((relation) => {
    const [kind, mark, words] = look[relation.holds];
    return h("li", { class: kind, title: words }, h("b", { "aria-label": words }, mark), h("span", {}, `${relation.first} ${relation.relation} ${relation.second}`));
  }));
}

function drawn(state, selected) {
  const places = placed(state.layers, state.size);
  const marker = (name) => svg("marker", { id: `tip-${name}`, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", class: `edge ${name}` },
    svg("path", { d: "M0 1l7 3-7 3" }));
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": spoken(state) },
    svg("defs", {}, ["plain", "holds", "broken"].map(marker)),
    worthDrawing(state, selected).map((edge) => arrow(edge, places)), state.layers.map((layer) => node(layer, places.get(layer.id), selected)));
}

function spoken(state) {
  const name = new Map(state.layers.map((layer) => [layer.id, layer.description]));
  return state.edges.map(({ first, relation, second, holds }) => `${name.get(first)} ${relation} ${name.get(second)}${holds === false ? " (violated)" : ""}`).join("; ") || "no relations";
}

/** All that the prompt asks for and all of the selected layer; of the others a few, and none with what covers the canvas. */
function worthDrawing(state, selected) {
  const [width, height] = state.size;
  const wide = new Set(state.layers.filter(({ box }) => box && (box[2] - box[0]) * (box[3] - box[1]) > 0.4 * width * height).map((layer) => layer.id));
  const wanted = ({ first, second, holds }) => holds !== null || first === selected || second === selected;
  const plain = state.edges.filter((edge) => !wanted(edge) && !wide.has(edge.first) && !wide.has(edge.second));
  return [...plain.slice(0, MOST_PLAIN), ...state.edges.filter(wanted)];
}

/** Middles of boxes, pushed off each other. */
function placed(layers, [width, height]) {
  const [sx, sy] = [WIDTH / width, HEIGHT / height];
  const tall = HEIGHT;
  const places = new Map();
  for (const { id, box } of layers) {
    let [x, y] = box ? [((box[0] + box[2]) / 2) * sx, ((box[1] + box[3]) / 2) * sy] : [WIDTH / 2, tall / 2];
    const [cx, cy] = [x, y];
    for (let step = 1; step < 60 && [...places.values()].some(([px, py]) => Math.hypot(px - x, py - y) < 3.4 * NODE); step += 1) {
      const reach = 3.4 * NODE * (0.6 + step / 9);
      [x, y] = [cx + reach * Math.cos(step * 2.4), cy + reach * Math.sin(step * 2.4)];
      [x, y] = [Math.min(Math.max(x, 24), WIDTH - 24), Math.min(Math.max(y, 14), tall - 24)];
    }
    places.set(id, [Math.min(Math.max(x, 24), WIDTH - 24), Math.min(Math.max(y, 14), tall - 24)]);
  }
  return places;
}

function arrow({ first, second, relation, holds }, places) {
  const [a, b] = [places.get(first), places.get(second)];
  if (!a || !b) return null;
  const length = Math.hypot(b[0] - a[0], b[1] - a[1]) || 1;
  const [ux, uy] = [(b[0] - a[0]) / length, (b[1] - a[1]) / length];
  const from = [a[0] + ux * (NODE + 1), a[1] + uy * (NODE + 1)];
  const to = [b[0] - ux * (NODE + 2), b[1] - uy * (NODE + 2)];
  const kind = holds === true ? "holds" : holds === false ? "broken" : "plain";
  return svg("g", { class: `edge ${kind}` }, svg("path", { d: `M${from}L${to}`, "marker-end": `url(#tip-${kind})` }), label(relation, (from[0] + to[0]) / 2, (from[1] + to[1]) / 2));
}

function label(words, x, y, more = {}) {
  const element = svg("text", { x, y, ...more });
  element.textContent = words;
  return element;
}

function node(layer, [x, y], selected) {
  return svg("g", { class: "node", "data-selected": layer.id === selected, onclick: () => select(layer.id) },
    svg("circle", { cx: x, cy: y, r: NODE }), label(String(layer.id), x, y, { class: "number" }), label(layer.label, x, y + NODE + 11));
}
