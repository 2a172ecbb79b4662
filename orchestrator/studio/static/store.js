// What the page knows: the state of one run, kept in step with the server by its events.

import { api } from "./api.js";
import { notice } from "./dom.js";

const listeners = new Set();
let events = null;
let fetching = false;
let again = false;

export const store = {
  /** Name of the open run, or null. */
  run: null,
  /** Its state as the API gives it, or null. */
  state: null,
  /** When the state came, ms; `job.elapsed_s` counts from here. */
  at: 0,
  /** The server can be reached. */
  connected: true,
  /** On the page alone. */
  ui: { selected: null, tool: "move", preview: null, editing: false, tab: "plan" },
};

/** Calls `listener(store)` after each change. */
export function subscribe(listener) {
  listeners.add(listener);
}

/** Tells everyone that something changed. */
export function changed() {
  for (const listener of listeners) listener(store);
}

/** Changes what is on the page alone. */
export function setUi(values) {
  Object.assign(store.ui, values);
  changed();
}

/** Opens a run, or none. */
export async function open(name) {
  close();
  Object.assign(store, { run: name, state: null });
  Object.assign(store.ui, { selected: null, preview: null, editing: false });
  changed();
  if (name) {
    listen();
    await refresh();
  }
}

/** Fetches the state anew; calls that come meanwhile become one more. */
export async function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const name = store.run;
  try {
    do {
      again = false;
      const state = await api.state(name);
      if (store.run !== name) return;
      Object.assign(store, { state, at: performance.now() });
      changed();
    } while (again);
  } catch (error) {
    if (store.run === name) {
      notice(error.message);
      if (error.kind === "not_found") location.hash = "#/";
    }
  } finally {
    fetching = false;
  }
}

function listen() {
  if (!store.run || document.hidden || events) return;
  events = new EventSource(`/api/events?run=${encodeURIComponent(store.run)}`);
  events.onmessage = (message) => {
    const told = JSON.parse(message.data);
    if (told.type === "progress" && store.state) {
      store.state.job = told.job;
      store.at = performance.now();
      again = true; // a state that is on its way is older than this
      changed();
    } else refresh();
  };
  events.onopen = () => connected(true);
  events.onerror = () => connected(false);
}

function connected(yes) {
  if (store.connected === yes) return;
  store.connected = yes;
  changed();
}

function close() {
  events?.close();
  events = null;
}

// A browser allows six streams to one server: pages in the background give theirs back.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : listen()));

/** Does `ask()`; says what went wrong, and gives null then. */
export async function attempt(ask) {
  try {
    return await ask();
  } catch (error) {
    notice(error.message);
    return null;
  }
}

/** A decision on the proposal that waits. */
export const decide = (event) => attempt(() => api.decide(store.run, event));
