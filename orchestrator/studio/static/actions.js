// What buttons and keys both do.

import { api } from "./api.js";
import { say } from "./dom.js";
import { attempt, changed, decide, setUi, store } from "./store.js";

/** The proposal that waits, unless the run is being worked on. */
export function waiting() {
  const { state } = store;
  return state && !state.job ? state.proposal : null;
}

/** A step is being made that must not be disturbed; a proposal that is being made gives way. */
export function working(state) {
  return Boolean(state.job) && (state.job.kind !== "propose" || state.auto);
}

export function accept() {
  if (!waiting()) return;
  say("Accepted");
  decide({ do: "accept" });
}

export function reject() {
  if (waiting()) decide({ do: "reject" });
}

export function skip() {
  if (waiting()) decide({ do: "skip" });
}

export function more() {
  if (waiting() && !waiting().stop) decide({ do: "more", count: 4 });
}

export function propose() {
  if (store.state && !store.state.job) decide({ do: "propose" });
}

/** Takes a candidate: shown at once, told to the server and to other pages. */
export function pick(number) {
  const proposal = waiting();
  if (!proposal || number < 1 || number > proposal.candidates.length) return;
  proposal.chosen = number;
  say(`Candidate ${number}`);
  changed();
  decide({ do: "pick", candidate: number });
}

export function finishHere() {
  if (store.state && !store.state.job) decide({ do: "stop" });
}

export function drive(what) {
  if (!store.state) return;
  store.state.auto = what === "run";
  changed();
  attempt(() => api.drive(store.run, what));
}

export function move(what) {
  if (store.state) attempt(() => api.head(store.run, what));
}

export const undo = () => move({ do: "undo" });
export const redo = () => move({ do: "redo" });

/** Hides or locks a layer; shown at once. */
export function flag(kind, layer) {
  const { state } = store;
  const set = new Set(state[kind]);
  if (!set.delete(layer)) set.add(layer);
  state[kind] = [...set];
  changed();
  attempt(() => api.flags(store.run, state.hidden, state.locked));
}

export function order(layer, to) {
  attempt(() => api.order(store.run, layer, to));
}

export function edit(layer, change) {
  attempt(() => api.edit(store.run, layer, change));
}

export function select(layer) {
  setUi({ selected: store.ui.selected === layer ? null : layer });
}

/** A step further to the front (+1) or the back (-1). */
export function nudge(layer, by) {
  const at = store.state.layers.findIndex((other) => other.id === layer);
  const to = at + 1 + by;
  if (at >= 0 && to >= 1 && to <= store.state.layers.length) order(layer, to);
}

const THEME = "smartscene-theme";

export function setUpTheme() {
  const wished = localStorage.getItem(THEME);
  const dark = wished ? wished === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

export function toggleTheme() {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem(THEME, theme);
  changed();
}
