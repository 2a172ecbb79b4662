// The plan: what the prompt names, the proposal that waits with its candidates, and what was decided.

import { accept, finishHere, more, pick, propose, reject, skip, working } from "./actions.js";
import { button, h, icon, iconButton, refill } from "./dom.js";
import { masked, thumbnailOf } from "./pictures.js";
import { decide, setUi, store } from "./store.js";

let shown = "";

export function setUpPlan() {
  const panel = document.getElementById("plan");
  panel.append(h("header"), h("div", { class: "wanted" }), h("div", { class: "scroll", "data-scroll": "plan" }), addForm());
}

/** Draws the plan where it changed. */
export function showPlan() {
  const { state, ui } = store;
  const busy = Boolean(state.job);
  const key = JSON.stringify([state.proposal, busy, state.job?.kind, state.finished, state.wanted, state.tree, ui.editing,
    state.auto, state.starting, state.picture, working(state), state.layers.map((layer) => layer.id), state.run]);
  if (key === shown) return;
  shown = key;
  const panel = document.getElementById("plan");
  const [header, wanted, scroll] = panel.children;
  refill(header, h("h2", {}, "Plan"), h("span", { class: "faint" }, planned(state)));
  wanted.hidden = state.wanted.length === 0;
  refill(wanted, state.wanted.map(want));
  refill(scroll, state.proposal ? card(state.proposal, busy) : waits(state, busy), past(state));
  panel.querySelector(".add-form").toggleAttribute("inert", working(state) || state.starting);
}

function planned(state) {
  const count = state.layers.length;
  return `${count} ${count === 1 ? "layer" : "layers"}${state.step_seconds ? `, ${state.step_seconds} s each` : ""}`;
}

function want({ label, count, placed }) {
  const there = placed >= count;
  return h("span", { class: `chip ${there ? "good" : ""}`, title: there ? "in the scene" : "named in the prompt, still to come" },
    there && icon("accept"), count > 1 ? `${label} ${placed}/${count}` : label);
}

function card(proposal, busy) {
  return h("article", { class: "card", "aria-label": "Proposal" },
    h("div", { class: "eyebrow" },
      h("span", {}, proposal.by === "person" ? "Your object" : proposal.stop ? "The planner would stop" : `Next, step ${proposal.step}`),
      proposal.label && h("span", { class: "chip" }, proposal.label)),
    store.ui.editing ? words(proposal) : h("h3", {}, proposal.stop ? "Finished?" : proposal.description),
    proposal.reason && h("p", {}, sentence(proposal.reason)),
    proposal.confidence !== null && proposal.confidence !== undefined && confidence(proposal.confidence),
    proposal.violated.length > 0 && h("p", { class: "warn" }, `Asked for, but not so: ${proposal.violated.join(", ")}`),
    proposal.candidates.length > 0 && candidates(proposal, busy),
    !proposal.stop && place(proposal, busy),
    h("div", { class: "decide" },
      button(proposal.stop ? "Finish here" : "Accept and draw", accept, { class: "primary", icon: "accept", key: "Enter", disabled: busy, "data-key": "accept" }),
      !proposal.stop && button("Edit", () => setUi({ editing: true }), { icon: "edit", key: "E", disabled: busy, "data-key": "edit" }),
      !proposal.stop && button("Reject", reject, { icon: "reject", key: "R", disabled: busy, "data-key": "reject" }),
      !proposal.stop && button("Skip", skip, { icon: "skip", key: "K", disabled: busy, "data-key": "skip" })));
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function confidence(share) {
  const percent = Math.round(share * 100);
  return h("div", { class: "confidence", role: "img", "aria-label": `Confidence ${percent} percent` },
    h("span", {}, "Confidence"), h("span", { class: "track" }, h("i", { style: { width: `${percent}%` } })), h("b", {}, `${percent} %`));
}

function words(proposal) {
  const input = h("input", { type: "text", maxlength: 200, value: proposal.description, "aria-label": "Words for this object", "data-key": "words" });
  const done = (event) => {
    event.preventDefault();
    setUi({ editing: false });
    if (input.value.trim() && input.value !== proposal.description) decide({ do: "words", words: input.value });
  };
  const form = h("form", { class: "place", onsubmit: done }, input, iconButton("accept", "Use these words", done, { type: "submit" }));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    setUi({ editing: false });
  });
  requestAnimationFrame(() => {
    input.focus();
    input.select();
  });
  return form;
}

function candidates(proposal, busy) {
  const full = proposal.candidates.length >= 16;
  return [h("div", { class: "strip-head" }, h("span", {}, `Shape ${proposal.chosen} of ${proposal.candidates.length}`),
    !full && button("4 more", more, { class: "quiet small", icon: "add", key: "M", disabled: busy, "data-key": "more" })), strip(proposal)];
}

function strip(proposal) {
  return h("div", { class: "strip", role: "radiogroup", "aria-label": "Candidate masks" },
    proposal.candidates.map((candidate) => {
      const picture = h("canvas", { width: 160, height: 128, "aria-hidden": "true" });
      drawCandidate(picture, candidate.mask);
      const preview = (number) => () => setUi({ preview: number });
      return h("button", { type: "button", class: "candidate", role: "radio", "data-key": `candidate-${candidate.number}`,
        "aria-checked": String(candidate.number === proposal.chosen),
        "aria-label": `Candidate ${candidate.number}, score ${candidate.score.toFixed(2)}`,
        title: Object.entries(candidate.details).map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toFixed(2)}`).join("\n"),
        onclick: () => pick(candidate.number), onmouseenter: preview(candidate.number), onmouseleave: preview(null) },
        picture, h("b", {}, String(candidate.number)), h("small", {}, candidate.score.toFixed(2)));
    }));
}

async function drawCandidate(canvas, address) {
  const [scene, mask] = await Promise.all([thumbnailOf(store.state, 320), masked(address)]);
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, height);
  if (scene) {
    pen.globalAlpha = 0.62;
    pen.drawImage(scene, 0, 0, width, height);
    pen.globalAlpha = 1;
  }
  if (mask) pen.drawImage(mask, 0, 0, width, height);
}

function place(proposal, busy) {
  const { guidance, by } = proposal;
  const whose = guidance?.by === "planner" ? "the planner's" : by === "person" || guidance ? "your" : "";
  const where = guidance ? `Guided by ${whose} ${guidance.kind}${guidance.tightness < 1 ? `, ${Math.round(guidance.tightness * 100)} % tight` : ""}` : "Placed freely";
  const choose = (event) => decide({ do: "behind", layers: event.target.value ? [Number(event.target.value)] : [] });
  return [
    h("div", { class: "place" }, h("span", {}, where),
      guidance && button("Free", () => decide({ do: "guide" }), { class: "small", disabled: busy, "data-key": "free", title: "Without a guide" })),
    store.state.layers.length > 0 && h("label", { class: "place" }, "Depth",
      h("select", { onchange: choose, disabled: busy, "data-key": "behind" },
        h("option", { value: "", selected: !proposal.behind.length }, "in front of all"),
        [...store.state.layers].reverse().map((layer) => h("option", { value: layer.id, selected: proposal.behind.includes(layer.id) }, `behind ${layer.description}`)))),
  ];
}

function waits(state, busy) {
  if (busy || state.starting) {
    return h("div", { class: "card", "aria-busy": "true" },
      h("div", { class: "eyebrow" }, h("span", {}, state.job?.kind === "edit" ? "Changing a layer" : "Working on it")),
      ...["70%", "90%", "55%"].map((width) => h("div", { class: "skeleton", style: { width } })));
  }
  if (state.finished) {
    return h("div", { class: "waiting" }, h("h3", {}, "This scene is finished"),
      h("p", {}, "Export it, add an object below, or go back in the history and take another way."));
  }
  return h("div", { class: "waiting" }, h("p", {}, state.parts.length || state.ground ? "Say below what to put into the photo, or draw where." : "Nothing is proposed here yet."),
    button("Suggest the next object", propose, { class: "primary", icon: "wand", key: "P", "data-key": "propose" }),
    state.layers.length > 0 && button("Finish here", finishHere, { class: "quiet small", "data-key": "finish" }));
}

function past(state) {
  const steps = state.tree.steps.filter((step) => step.on_path && step.outcome !== "drawn").reverse();
  if (!steps.length) return null;
  const marks = { placed: "✓", rejected: "✕", skipped: "›", stopped: "■", edited: "✎", reordered: "⇅" };
  return h("section", { class: "past", "aria-label": "Decided" }, h("h2", {}, "Decided"), steps.map((step) =>
    h("div", { class: ["rejected", "skipped"].includes(step.outcome) ? "off" : "", title: step.reason },
      h("span", { class: "mark", "aria-label": step.outcome }, marks[step.outcome] ?? "·"),
      h("span", {}, ["rejected", "skipped"].includes(step.outcome) ? `${step.label || "nothing"}: ${step.reason}` : step.words || step.outcome),
      step.score !== null && h("small", { title: "score of its mask" }, step.score.toFixed(2)))));
}

function addForm() {
  const input = h("input", { type: "text", maxlength: 200, placeholder: "Add an object of your own…", "aria-label": "Add an object", id: "add" });
  const submit = async (event) => {
    event.preventDefault();
    if (!input.value.trim()) return;
    if (!(await decide({ do: "add", words: input.value }))) return;
    input.value = "";
    input.blur(); // the next Enter accepts it
  };
  return h("form", { class: "add-form", onsubmit: submit }, input, iconButton("add", "Propose it", submit, { type: "submit", class: "boxed" }));
}
