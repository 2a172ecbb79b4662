// The history: a tree of steps, time to the right, branches below each other. A click goes there.

import { move, working } from "./actions.js";
import { h, iconButton, refill, svg } from "./dom.js";
import { store } from "./store.js";

const CELL = { width: 104, height: 94, thumb: 84, tall: 62 };
let shown = "";
let folded = false;

/** Draws the tree where it changed. */
export function showHistory() {
  const { state } = store;
  const key = JSON.stringify([state.tree, working(state), folded, state.name]);
  if (key === shown) return;
  shown = key;
  const { tree } = state;
  const panel = document.getElementById("history");
  panel.toggleAttribute("data-folded", folded);
  refill(panel,
    h("header", {}, h("h2", {}, "History"),
      h("span", { class: "faint" }, `branch ${tree.branch}, ${tree.steps.length} ${tree.steps.length === 1 ? "step" : "steps"}`),
      iconButton(folded ? "up" : "down", folded ? "Show the history" : "Fold the history", () => { folded = !folded; showHistory(); }, { class: "small", "data-key": "fold", "aria-expanded": String(!folded) })),
    h("div", { class: "tree", "data-scroll": "tree" }, area(state)));
  panel.querySelector(".head")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

/** [id, depth, lane] of each step: the oldest child stays in its parent's lane, others open new ones. */
export function lanes(steps) {
  const children = new Map();
  for (const step of steps) children.set(step.parent, [...(children.get(step.parent) ?? []), step.id]);
  const places = new Map();
  let next = 0;
  const stack = [[0, 0, -1]];
  while (stack.length) {
    const [id, depth, lane] = stack.pop();
    const mine = lane < 0 ? next++ : lane;
    places.set(id, [depth, mine]);
    const follow = children.get(id) ?? [];
    for (let at = follow.length - 1; at >= 0; at -= 1) stack.push([follow[at], depth + 1, at === 0 ? mine : -1]);
  }
  return places;
}

function area(state) {
  const { tree } = state;
  const places = lanes(tree.steps);
  const [depth, lane] = [0, 1].map((axis) => 1 + Math.max(...[...places.values()].map((place) => place[axis])));
  const corner = (id) => { const [x, y] = places.get(id); return [x * CELL.width, y * CELL.height]; };
  const way = new Set([0, ...tree.steps.filter((step) => step.on_path).map((step) => step.id)]);
  const size = { width: depth * CELL.width, height: lane * CELL.height };
  const lines = tree.steps.map((step) => {
    const [[x0, y0], [x1, y1]] = [corner(step.parent), corner(step.id)];
    const [from, to, elbow] = [y0 + CELL.tall / 2, y1 + CELL.tall / 2, x1 - 10];
    return svg("path", { class: way.has(step.id) ? "way" : "", d: `M${x0 + CELL.thumb} ${from}H${elbow}V${to}H${x1}` });
  });
  const root = { id: 0, outcome: "", words: state.ground ? "the photo" : "empty canvas", picture: state.ground, on_path: true, branches: Object.keys(tree.branches).filter((name) => tree.branches[name] === 0) };
  return h("div", { class: "area", style: { width: `${size.width}px`, height: `${size.height}px` } },
    svg("svg", { width: size.width, height: size.height, "aria-hidden": "true" }, lines),
    [root, ...tree.steps].map((step) => node(step, corner(step.id), tree.head, way, working(state))));
}

function node(step, [x, y], head, way, busy) {
  const off = ["rejected", "skipped"].includes(step.outcome);
  const words = off ? step.outcome : step.words || step.outcome;
  const is = step.id === head ? "head way" : way.has(step.id) ? "way" : "";
  return h("div", { class: `step ${is} ${off ? "off" : ""}`, style: { left: `${x}px`, top: `${y}px` }, "data-step": step.id },
    h("button", { type: "button", class: "go", disabled: busy, "data-key": `step-${step.id}`, "aria-current": step.id === head ? "step" : null,
      "aria-label": `Go to step ${step.id}: ${words}${step.outcome && !off ? `, ${step.outcome}` : ""}`, title: step.reason || words,
      onclick: () => move({ do: "visit", step: step.id }) },
      step.picture ? h("img", { src: `${step.picture}&width=168`, alt: "", loading: "lazy" }) : h("span", { class: "blank" })),
    step.branches.length > 0 && h("span", { class: "name" }, step.branches.join(", ")),
    iconButton("branch", `New branch at step ${step.id}`, () => move({ do: "branch", step: step.id }), { class: "small fork", disabled: busy, "data-key": `fork-${step.id}` }),
    h("span", { class: "label" }, step.id ? `${step.id}  ${words}` : words));
}
