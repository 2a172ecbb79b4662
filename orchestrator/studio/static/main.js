// Starts the page: which view is shown, and what is drawn when something changes.

import { setUpBar, showBar } from "./bar.js";
import { setUpCanvas, showCanvas } from "./canvas.js";
import { h, refill } from "./dom.js";
import { showGraph } from "./graph.js";
import { showHistory } from "./history.js";
import { showHome } from "./home.js";
import { setUpKeys } from "./keys.js";
import { showLayers } from "./layers.js";
import { setUpPlan, showPlan } from "./plan.js";
import { open, setUi, store, subscribe } from "./store.js";
import { setUpGuideBar, showGuideBar } from "./guidebar.js";

const PANELS = [["plan", "Plan"], ["layers", "Layers"], ["graph", "Relations"], ["history", "History"]];

function showTabs() {
  document.getElementById("studio").dataset.tab = store.ui.tab;
  refill(document.getElementById("tabs"), PANELS.map(([name, words]) =>
    h("button", { type: "button", role: "tab", "data-key": `tab-${name}`, "aria-selected": String(store.ui.tab === name),
      "aria-controls": name, onclick: () => setUi({ tab: name }) }, words)));
}

function show() {
  const { run, state } = store;
  document.getElementById("home").hidden = Boolean(run);
  document.getElementById("studio").hidden = !run;
  document.title = state ? `${state.prompt} · smartscene` : "smartscene studio";
  showBar();
  if (!run || !state) return;
  showTabs();
  showCanvas();
  showGuideBar();
  showPlan();
  showLayers();
  showGraph();
  showHistory();
}

function route() {
  const match = location.hash.match(/^#\/run\/(.+)$/);
  const name = match ? decodeURIComponent(match[1]) : null;
  if (name !== store.run || !name) open(name);
  if (!name) showHome();
}

setUpBar();
setUpCanvas();
setUpGuideBar();
setUpPlan();
setUpKeys();
subscribe(show);
addEventListener("hashchange", route);
route();
