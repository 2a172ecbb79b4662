// The bar under a drawing: what goes there, how tightly, behind what.

import { button, h, iconButton, notice } from "./dom.js";
import { clearGuide, guide, guideEvent, hasGuide, undoStroke } from "./guide.js";
import { changed, decide, setUi, store } from "./store.js";

let bar, words, tightness, behind, brush, hint;

export function setUpGuideBar() {
  words = h("input", { type: "text", class: "words", maxlength: 200, "aria-label": "What goes there", placeholder: "What goes there?" });
  tightness = h("input", { type: "range", min: 0, max: 100, value: 100, "aria-label": "Tightness" });
  brush = h("input", { type: "range", min: 4, max: 60, value: guide.brush, "aria-label": "Brush size", oninput: () => { guide.brush = Number(brush.value); changed(); } });
  behind = h("select", { class: "behind", "aria-label": "Depth" });
  hint = h("span", { class: "faint hint" });
  const submit = (event) => { event.preventDefault(); use(); };
  bar = h("form", { class: "floating guide-bar", onsubmit: submit, "aria-label": "Guide" },
    hint, words, h("label", { class: "tight" }, "Loose", tightness, "tight"), h("label", { class: "tight brush" }, "Brush", brush), behind,
    iconButton("undo", "Undo the last stroke", takeBack, { key: "Z" }),
    iconButton("trash", "Clear the drawing", cancelGuide, { key: "Esc" }),
    button("Use it", null, { type: "submit", class: "primary", icon: "accept", key: "Enter" }));
  bar.querySelector("[type=submit]").type = "submit";
  document.getElementById("stage").append(bar);
}

const HINTS = { box: "Drag a box where the object should be, or use the arrow keys.", blob: "Drag from the middle outwards: a soft spot.", scribble: "Draw roughly where the object should be." };

/** Shows the bar while something is drawn, a hint while a drawing tool is chosen. */
export function showGuideBar() {
  const { state, ui } = store;
  const drawn = hasGuide();
  bar.hidden = ui.tool === "move" && !drawn;
  if (bar.hidden) return;
  hint.textContent = drawn ? "" : HINTS[ui.tool];
  hint.hidden = drawn;
  for (const part of bar.children) if (part !== hint) part.hidden = !drawn;
  bar.querySelector(".brush").hidden = !drawn || guide.kind !== "scribble";
  const proposal = state.proposal && !state.proposal.stop ? state.proposal : null;
  if (document.activeElement !== words && !words.dataset.own) words.value = proposal?.description ?? "";
  const listed = [...state.layers].reverse();
  const key = listed.map((layer) => layer.id).join();
  if (behind.dataset.listed !== key) {
    behind.dataset.listed = key;
    behind.replaceChildren(h("option", { value: "" }, "in front of all"), ...listed.map((layer) => h("option", { value: layer.id }, `behind ${layer.description}`)));
  }
  bar.querySelector("[type=submit]").disabled = Boolean(state.job);
}

/** Takes the last stroke back. */
export function takeBack() {
  undoStroke();
  changed();
}

/** Drops the drawing and goes back to moving. */
export function cancelGuide() {
  clearGuide();
  setUi({ tool: "move" });
}

/** Gives the drawing to the proposal that waits, or makes an object of one's own of it. */
export async function use() {
  const { state } = store;
  if (!hasGuide() || state.job) return;
  const wanted = words.value.trim();
  const proposal = state.proposal && !state.proposal.stop ? state.proposal : null;
  if (!wanted && !proposal) {
    notice("Say what goes there first.", "info");
    words.focus();
    return;
  }
  const layers = behind.value ? [Number(behind.value)] : [];
  let event;
  try {
    event = await guideEvent(state.size, Number(tightness.value) / 100);
  } catch (error) {
    notice(error.message);
    return;
  }
  const same = proposal && (!wanted || wanted === proposal.description);
  const plain = same && layers.join() === proposal.behind.join();
  const done = plain ? await decide({ do: "guide", ...event })
    : await decide({ do: "add", words: wanted || proposal.description, behind: layers, ...event });
  if (done) {
    clearGuide();
    behind.value = "";
    setUi({ tool: "move" });
  }
}
