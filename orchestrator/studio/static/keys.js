// Keyboard shortcuts; they rest while one types.

import { accept, drive, more, pick, propose, redo, reject, skip, toggleTheme, undo, waiting } from "./actions.js";
import { canRedo, canUndo } from "./bar.js";
import { zoom } from "./canvas.js";
import { showExports, showHelp } from "./dialogs.js";
import { hasGuide } from "./guide.js";
import { cancelGuide, takeBack, use } from "./guidebar.js";
import { setUi, store } from "./store.js";

export const KEYS = [["Enter", "Accept and draw; use the guide"], ["E", "Edit the words"], ["R", "Reject"], ["K", "Skip"], ["1 … 9", "Pick a candidate"], ["M", "More candidates"],
  ["P", "Suggest the next object"], ["N", "Add an object"], ["G", "Run to the end, pause"], ["Esc", "Drop the drawing; stop"], ["V", "Select and move"], ["B", "Draw a box"], ["← ↑ → ↓", "On the canvas: move the box, Shift: resize it; pan"], ["O", "Draw a blob"], ["S", "Draw a scribble"],
  ["Z", "Undo a stroke"], ["Ctrl Z", "Undo a step"], ["Ctrl Y", "Redo"], ["+ - 0", "Zoom; whole picture"], ["Alt ↑ ↓", "Reorder the focused layer"], ["X", "Export"], ["T", "Light or dark"], ["?", "This sheet"]];

const PLAIN = {
  e: () => waiting() && !waiting().stop && setUi({ editing: true }),
  r: reject, k: skip, m: more, p: propose,
  n: () => document.getElementById("add").focus(),
  g: () => drive(store.state?.auto ? "pause" : "run"),
  v: () => setUi({ tool: "move" }), b: () => { setUi({ tool: "box" }); document.getElementById("canvas").focus(); }, o: () => setUi({ tool: "blob" }), s: () => setUi({ tool: "scribble" }),
  z: takeBack, x: showExports, t: toggleTheme, "?": showHelp,
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(1 / 1.25), 0: () => zoom(0),
};

export function setUpKeys() {
  addEventListener("keydown", pressed);
}

function pressed(event) {
  const typing = event.target.closest("input, textarea, select, dialog[open]");
  const control = event.ctrlKey || event.metaKey;
  if (control && !typing && store.state) {
    const back = event.key.toLowerCase() === "z" && !event.shiftKey;
    const forth = event.key.toLowerCase() === "y" || (event.key.toLowerCase() === "z" && event.shiftKey);
    if (!back && !forth) return;
    event.preventDefault();
    if (back && hasGuide()) takeBack();
    else if (back && canUndo(store.state)) undo();
    else if (forth && canRedo(store.state)) redo();
    return;
  }
  if (control || event.altKey || typing) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "t" || key === "?") {
    event.preventDefault();
    PLAIN[key]();
    return;
  }
  if (!store.state) return;
  act(key, event);
}

function act(key, event) {
  if (key === "Enter") {
    if (event.target.closest("button, a, summary") && !event.target.closest("[data-key=accept]")) return;
    event.preventDefault();
    if (hasGuide()) use();
    else accept();
  } else if (key === "Escape") {
    if (hasGuide() || store.ui.tool !== "move") cancelGuide();
    else if (store.state.job) drive("cancel");
    else setUi({ selected: null });
  } else if (/^[1-9]$/.test(key)) pick(Number(key));
  else if (PLAIN[key]) {
    event.preventDefault();
    PLAIN[key]();
  }
}
