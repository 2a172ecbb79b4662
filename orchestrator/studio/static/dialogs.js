// What opens over the page: shortcuts, and exports.

import { api } from "./api.js";
import { h, iconButton } from "./dom.js";
import { KEYS } from "./keys.js";
import { store } from "./store.js";

const EXPORTS = [["psd", "Photoshop", "layers, PSD"], ["ora", "OpenRaster", "layers for Krita and GIMP"], ["coco", "COCO", "amodal and visible masks"],
  ["webp", "Film", "all steps, animated WebP"], ["graph", "Scene graph", "PNG with relations"], ["graphml", "GraphML", "scene graph"], ["dot", "Graphviz", "scene graph, DOT"],
  ["json", "JSON", "scene graph, node-link"]];

/** Opens a dialog. */
export function show(title, ...body) {
  const dialog = document.getElementById("dialog");
  dialog.setAttribute("aria-label", title);
  dialog.replaceChildren(h("header", {}, h("h2", {}, title), iconButton("close", "Close", () => dialog.close())), h("div", {}, ...body));
  dialog.showModal();
}

/** The sheet of shortcuts. */
export function showHelp() {
  show("Keyboard shortcuts", h("div", { class: "keys" }, KEYS.map(([keys, words]) =>
    h("div", {}, h("span", {}, words), h("span", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "]))))));
}

/** The export menu. */
export function showExports() {
  const { state, run } = store;
  if (!state?.layers.length) return;
  const final = state.picture && h("a", { href: state.picture, download: `${run}.png` }, h("strong", {}, "Picture"), h("small", {}, "flat PNG"));
  const full = state.full && h("a", { href: state.full, download: `${run}-full.png` }, h("strong", {}, "Photo"), h("small", {}, "PNG at the photo's own size"));
  show("Export", h("div", { class: "exports" }, full, final, EXPORTS.map(([kind, words, more]) =>
    h("a", { href: api.exportUrl(run, kind), download: "", "data-kind": kind }, h("strong", {}, words), h("small", {}, more)))));
}
