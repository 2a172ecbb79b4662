// The bar on top: where one is, and what concerns the whole run.

import { drive, redo, setUpTheme, toggleTheme, undo, working } from "./actions.js";
import { showExports, showHelp } from "./dialogs.js";
import { button, h, iconButton, refill } from "./dom.js";
import { store } from "./store.js";

export function setUpBar() {
  setUpTheme();
}

/** Draws the bar. */
export function showBar() {
  const { state, run } = store;
  refill(document.getElementById("bar"),
    h("a", { class: "brand", href: "#/", "aria-label": "All scenes", "data-key": "brand" },
      h("img", { src: "/static/icon.svg", alt: "" }), h("span", {}, "smartscene")),
    h("div", { class: "title" }, run && state ? title(state) : h("h1", {}, run ? "Opening…" : "Studio")),
    run && state && [
      h("div", { class: "group" },
        iconButton("undo", "Undo", undo, { key: "Ctrl Z", "data-key": "undo", disabled: !canUndo(state) }),
        iconButton("redo", "Redo", redo, { key: "Ctrl Y", "data-key": "redo", disabled: !canRedo(state) })),
      h("div", { class: "group" }, driving(state)),
      h("span", { class: "divider" }),
      button("Export", showExports, { icon: "export", class: "hide-small", "data-key": "export", key: "X",
        disabled: !state.layers.length }),
    ],
    h("div", { class: "group" },
      iconButton("theme", "Light or dark", toggleTheme, { key: "T", "data-key": "theme" }),
      iconButton("help", "Keyboard shortcuts", showHelp, { key: "?", "data-key": "help" })));
}

function title(state) {
  return [
    h("h1", { title: state.prompt }, state.prompt),
    h("span", { class: "chip", title: "Same seed, same scene" }, `seed ${state.seed}`),
    h("span", { class: "chip", title: state.notice || null }, state.preset),
    state.mode === "layout-first" && h("span", { class: "chip" }, "layout first"),
    state.unknown.length > 0 && h("span", { class: "chip bad", title: "Words this preset does not know" },
      `unknown: ${state.unknown.join(", ")}`),
    state.finished && h("span", { class: "chip good" }, "finished"),
  ];
}

function driving(state) {
  const stop = state.job && iconButton("stop", "Stop this step", () => drive("cancel"), { key: "Esc", "data-key": "stop" });
  if (state.auto) return [button("Pause", () => drive("pause"), { icon: "pause", key: "G", "data-key": "drive" }), stop];
  return [button("Run to the end", () => drive("run"), { icon: "run", key: "G", "data-key": "drive", disabled: state.finished }), stop];
}

export function canUndo(state) {
  return !working(state) && state.tree.head !== 0;
}

export function canRedo(state) {
  return !working(state) && state.tree.redo.length > 0;
}
