// All scenes, and a new one.

import { api } from "./api.js";
import { button, h, refill } from "./dom.js";
import { showPhoto } from "./photo.js";
import { attempt, store } from "./store.js";

const IDEAS = {
  park: ["a boy kicking a soccer ball next to an apple tree on a sunny day", "two girls and a dog near a campfire under a cloud", "a cat next to a pine tree and a girl playing with a beach ball"],
  home: ["a living room with a sofa, a floor lamp and a cat", "a garden with a bench and a tree", "a bedroom with a bed and a wardrobe"],
};
let presets = null;
let wished = { preset: null };

/** Draws the page of all scenes. */
export async function showHome() {
  const home = document.getElementById("home");
  if (!home.children.length) refill(home, h("div", { class: "inner" }, h("div", { class: "skeleton" })));
  const [found, runs] = await Promise.all([presets ?? attempt(api.presets), attempt(api.runs)]);
  if (store.run || !found) return;
  presets = found;
  refill(home, h("div", { class: "inner" }, start(), runs?.length ? [h("h2", {}, "Scenes"), h("div", { class: "cards" }, runs.map(card))] : null));
  home.querySelector("textarea").focus();
}

function start() {
  const usable = presets.filter(({ problem }) => !problem);
  const first = wished.preset ?? (usable.find((one) => one.default) ?? usable[0])?.name;
  const preset = h("select", { "aria-label": "Preset" }, presets.map(({ name, problem }) => h("option", { value: name, selected: name === first, disabled: Boolean(problem), title: problem || null }, problem ? `${name} (not on this machine)` : name)));
  const prompt = h("textarea", { maxlength: 2000, "aria-label": "Prompt", id: "prompt" });
  const seed = h("input", { type: "number", min: 0, max: 2 ** 31, value: 7 });
  const most = h("input", { type: "number", min: 1, max: 64, value: 8 });
  const size = h("select", {}, ["640x512", "512x512", "512x640", "768x512", "256x256"].map((name) => h("option", { value: name }, name.replace("x", " × "))));
  const mode = h("select", {}, h("option", { value: "per-object" }, "one by one"), h("option", { value: "layout-first" }, "layout first"));
  const ideas = h("div", { class: "ideas", "aria-label": "Ideas" });
  const note = h("p", { class: "note" });
  const chosen = () => {
    wished.preset = preset.value;
    const about = presets.find((one) => one.name === preset.value);
    note.textContent = `${about.labels.length} kinds of object: ${sample(about.labels)}. ${about.notice}`;
    prompt.placeholder = (IDEAS[preset.value] ?? IDEAS.home)[0];
    refill(ideas, (IDEAS[preset.value] ?? []).map((idea) => h("button", { type: "button", class: "chip", onclick: () => { prompt.value = idea; prompt.focus(); } }, idea)));
  };
  preset.addEventListener("change", chosen);
  chosen();
  const go = async (auto) => {
    const text = prompt.value.trim() || prompt.placeholder;
    const begun = await attempt(() => api.begin({ prompt: text, preset: preset.value, seed: Number(seed.value), size: size.value, max_objects: Number(most.value), mode: mode.value, auto }));
    if (begun) location.hash = `#/run/${begun.run}`;
  };
  const field = (words, input) => h("label", { class: "field" }, h("span", {}, words), input);
  prompt.addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) go(false); });
  return h("form", { class: "start", onsubmit: (event) => { event.preventDefault(); go(false); } },
    h("div", { class: "lead" }, "What should the scene show?"), prompt, ideas,
    h("div", { class: "row" }, field("Preset", preset), field("Seed", seed), field("Canvas", size), field("Objects, at most", most), field("Mode", mode),
      h("div", { class: "go" }, button("Open a photo…", () => showPhoto(presets), { class: "quiet", icon: "photo" }), button("Let it run", () => go(true), { icon: "run" }), begin())), note);
}

function begin() {
  const element = button("Compose", null, { class: "primary", icon: "wand", key: "Ctrl Enter" });
  element.type = "submit";
  return element;
}

function sample(labels) {
  const step = Math.max(1, Math.floor(labels.length / 10));
  return labels.filter((_, at) => at % step === 0).slice(0, 10).join(", ");
}

function card(run) {
  const when = new Date(run.changed * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  return h("a", { class: "run-card", href: `#/run/${encodeURIComponent(run.name)}`, title: run.name },
    run.picture ? h("img", { src: `${run.picture}&width=420`, alt: "", loading: "lazy" }) : h("div", { class: "blank" }),
    h("div", { class: "text" }, h("strong", {}, run.prompt), h("small", {}, `${run.layers} layers${run.finished ? "" : ", unfinished"} · ${when}`)));
}
