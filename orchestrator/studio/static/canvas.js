// The canvas: the picture, the mask that is proposed, guides, the selected layer; zoom, pan, and tools.

import { edit } from "./actions.js";
import { h, iconButton, refill, say } from "./dom.js";
import { begin, clearGuide, drawTo, guide, hasGuide, nudgeBox, paintBlob, paintBox, paintGuide } from "./guide.js";
import { masked, picture } from "./pictures.js";
import { changed, setUi, store } from "./store.js";
import { View } from "./view.js";

export const TOOLS = [["move", "Select, move and pan", "V"], ["box", "Draw a box", "B"], ["blob", "Draw a blob", "O"],
  ["scribble", "Draw a scribble", "S"]];

const view = new View();
let stage, ground, over;
let drag = null;
const touches = new Map();
let bitmaps = { list: [] };
let wish = "";
let frame = 0;

export function setUpCanvas() {
  stage = document.getElementById("stage");
  ground = h("canvas", { "aria-hidden": "true" });
  over = h("canvas", { tabindex: 0, role: "img", id: "canvas" });
  stage.append(ground, over, h("div", { class: "floating tools", role: "toolbar", "aria-label": "Tools" }),
    h("div", { class: "floating zoom", role: "toolbar", "aria-label": "Zoom" }), h("div", { class: "floating hud" }), h("div", { class: "banner", role: "status" }));
  over.addEventListener("pointerdown", down);
  over.addEventListener("pointermove", moved);
  over.addEventListener("pointerup", up);
  over.addEventListener("pointercancel", up);
  over.addEventListener("keydown", arrows);
  over.addEventListener("wheel", wheel, { passive: false });
  over.addEventListener("dblclick", () => view.fit() || repaint());
  new ResizeObserver(resized).observe(stage);
  setInterval(() => store.state?.job && showHud(), 250);
}

function resized() {
  const { clientWidth: width, clientHeight: height } = stage;
  const ratio = devicePixelRatio || 1;
  for (const canvas of [ground, over]) Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
  view.resize(width, height, store.state?.size ?? [640, 512]);
  repaint();
}

/** Zooms for buttons and keys; 0 = the whole picture. */
export function zoom(factor) {
  if (factor) view.zoomBy(factor);
  else view.fit();
  repaint();
}

/** Where the picture lies on the screen. */
export function pictureBox() {
  const box = over.getBoundingClientRect();
  return { x: box.left + view.x, y: box.top + view.y, width: view.scene[0] * view.zoom, height: view.scene[1] * view.zoom };
}

/** Draws everything anew, at the next frame. */
export function repaint() {
  if (!frame) frame = requestAnimationFrame(paint);
}

/** Brings the canvas and what floats on it up to date. */
export function showCanvas() {
  const { state, ui } = store;
  if (view.scene.join() !== state.size.join()) view.resize(stage.clientWidth, stage.clientHeight, state.size);
  stage.dataset.tool = ui.tool;
  stage.toggleAttribute("data-guiding", ui.tool !== "move" || hasGuide());
  refill(stage.querySelector(".tools"), TOOLS.map(([name, label, key]) =>
    iconButton(name, label, () => setUi({ tool: name }), { key, "aria-pressed": String(ui.tool === name), "data-key": `tool-${name}` })));
  over.setAttribute("aria-label", described(state));
  showHud();
  showBanner();
  load();
}

function described(state) {
  const layers = state.layers.map((layer) => layer.description).join(", ") || "an empty canvas";
  const next = state.proposal && !state.proposal.stop ? `; proposed: ${state.proposal.description}` : "";
  return `Picture of ${layers}${next}`;
}

async function load() {
  const { state, ui } = store;
  const hiding = state.hidden.filter((id) => state.layers.some((layer) => layer.id === id));
  const shown = state.layers.filter((layer) => !hiding.includes(layer.id));
  const addresses = (hiding.length ? [state.ground, ...shown.map((layer) => layer.pixels ?? layer.mask)] : [state.picture]).filter(Boolean);
  const proposal = state.proposal;
  const number = ui.preview ?? proposal?.chosen;
  const mask = proposal?.candidates.find((candidate) => candidate.number === number)?.mask ?? null;
  const chosen = state.layers.find((layer) => layer.id === ui.selected)?.mask ?? null;
  const key = [...addresses, mask, chosen, document.documentElement.dataset.theme].join();
  if (wish === key) return repaint();
  wish = key;
  const list = await Promise.all(addresses.map(picture));
  const [proposed, selected] = await Promise.all([mask && masked(mask), chosen && masked(chosen)]);
  if (wish !== key) return; // a newer call is under way
  bitmaps = { list: list.filter(Boolean), proposed, selected };
  stage.dataset.shown = key;
  repaint();
}

function paint() {
  frame = 0;
  const ratio = devicePixelRatio || 1;
  const [width, height] = view.scene;
  const pens = [ground, over].map((canvas) => {
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(ratio * view.zoom, 0, 0, ratio * view.zoom, ratio * view.x, ratio * view.y);
    pen.imageSmoothingEnabled = view.zoom < 3;
    pen.imageSmoothingQuality = "high";
    return pen;
  });
  const [below, above] = pens;
  below.shadowColor = "rgb(0 0 0 / 28%)";
  below.shadowBlur = 18;
  below.fillStyle = "#fff";
  below.fillRect(0, 0, width, height);
  below.shadowColor = "transparent";
  for (const bitmap of bitmaps.list) below.drawImage(bitmap, 0, 0, width, height);
  paintOver(above, 1 / view.zoom);
  const percent = stage.querySelector(".zoom");
  refill(percent, iconButton("zoomOut", "Zoom out", () => zoom(1 / 1.25), { key: "-", "data-key": "out" }),
    h("output", {}, `${Math.round(view.zoom * 100)} %`), iconButton("zoomIn", "Zoom in", () => zoom(1.25), { key: "+", "data-key": "in" }),
    iconButton("fit", "Whole picture", () => zoom(0), { key: "0", "data-key": "fit" }));
}

function paintOver(pen, line) {
  const [width, height] = view.scene;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const proposal = store.state?.proposal;
  if (bitmaps.selected) {
    const shift = drag?.layer ? drag.shift : [0, 0];
    pen.globalAlpha = drag?.layer ? 0.6 : 0.38;
    pen.drawImage(bitmaps.selected, ...shift, width, height);
    pen.globalAlpha = 1;
  }
  if (bitmaps.proposed) {
    pen.save();
    pen.shadowColor = colour("--mask");
    pen.shadowBlur = 6;
    pen.globalAlpha = 0.55;
    pen.drawImage(bitmaps.proposed, 0, 0, width, height);
    pen.restore();
  }
  const given = proposal?.guidance;
  if (given && !hasGuide()) {
    pen.save();
    pen.strokeStyle = pen.fillStyle = colour("--guide");
    pen.lineWidth = 1.5 * line;
    pen.setLineDash([7 * line, 5 * line]);
    if (given.blob) paintBlob(pen, given.blob);
    else if (given.box) paintBox(pen, given.box);
    pen.restore();
  }
  paintGuide(pen, colour("--guide"), line);
}

function point(event) {
  const box = over.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function down(event) {
  if (!store.state) return;
  over.setPointerCapture(event.pointerId);
  over.focus({ preventScroll: true });
  touches.set(event.pointerId, point(event));
  if (touches.size === 2) {
    if (drag?.tool === "scribble") guide.strokes.pop();
    drag = { pinch: spread() };
    return;
  }
  const at = point(event);
  const from = view.toScene(...at);
  const { tool } = store.ui;
  if (event.button === 1 || event.shiftKey || tool === "move") {
    const layer = tool === "move" && event.button === 0 && !event.shiftKey ? movable(from) : null;
    drag = { last: at, start: at, from, layer, shift: [0, 0] };
    stage.toggleAttribute("data-panning", !layer);
    return;
  }
  begin(tool, from);
  drag = { tool, from };
  changed();
}

/** The selected layer, if it lies under a point and may be moved. */
function movable([x, y]) {
  const { state, ui } = store;
  const layer = state.layers.find((other) => other.id === ui.selected);
  const inside = layer?.box && x >= layer.box[0] && x < layer.box[2] && y >= layer.box[1] && y < layer.box[3];
  return inside && !state.job && !state.locked.includes(layer.id) ? layer : null;
}

function moved(event) {
  const at = point(event);
  if (touches.has(event.pointerId)) touches.set(event.pointerId, at);
  if (!drag) {
    const on = store.state && store.ui.tool === "move" && movable(view.toScene(...at));
    stage.dataset.over = on ? "layer" : "";
    return;
  }
  if (drag.pinch) {
    const next = spread();
    view.pan(next.x - drag.pinch.x, next.y - drag.pinch.y);
    view.zoomBy(next.reach / drag.pinch.reach, next.x, next.y);
    drag.pinch = next;
  } else if (drag.tool) {
    for (const part of event.getCoalescedEvents?.() ?? [event]) drawTo(drag.tool, drag.from, view.toScene(...point(part)), view.scene);
    if (drag.tool !== "scribble") drawTo(drag.tool, drag.from, view.toScene(...at), view.scene);
  } else if (drag.layer) {
    const to = view.toScene(...at);
    drag.shift = [Math.round(to[0] - drag.from[0]), Math.round(to[1] - drag.from[1])];
  } else {
    view.pan(at[0] - drag.last[0], at[1] - drag.last[1]);
    drag.last = at;
  }
  repaint();
}

function spread() {
  const [a, b] = [...touches.values()];
  return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, reach: Math.max(1, Math.hypot(a[0] - b[0], a[1] - b[1])) };
}

function up(event) {
  touches.delete(event.pointerId);
  stage.removeAttribute("data-panning");
  const done = drag;
  drag = null;
  if (!done || done.pinch) return repaint();
  const at = point(event);
  if (done.layer && (done.shift[0] || done.shift[1])) edit(done.layer.id, { move: done.shift });
  else if (done.start && Math.hypot(at[0] - done.start[0], at[1] - done.start[1]) < 4 && event.type === "pointerup") selectAt(view.toScene(...at));
  if (done.tool && guide.kind !== "scribble" && !guide[guide.kind]) clearGuide();
  changed();
}

/** Selects the nearest layer whose box holds a point, smaller ones first. */
function selectAt([x, y]) {
  const holds = store.state.layers.filter(({ box }) => box && x >= box[0] && x < box[2] && y >= box[1] && y < box[3]);
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  const best = holds.sort((a, b) => area(a) - area(b))[0];
  setUi({ selected: best && best.id !== store.ui.selected ? best.id : null });
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ARROW_FRAC = 0.02;

/** A box by keyboard: arrows move it, with Shift they change its size; with another tool arrows pan. */
function arrows(event) {
  const way = ARROWS[event.key];
  if (!way || event.altKey || event.ctrlKey) return;
  event.preventDefault();
  if (store.ui.tool !== "box") {
    view.pan(-40 * way[0], -40 * way[1]);
    return repaint();
  }
  nudgeBox(ARROW_FRAC * way[0], ARROW_FRAC * way[1], event.shiftKey, view.scene);
  if (guide.box) say(`Box ${guide.box.join(", ")}`);
  changed();
}

function wheel(event) {
  event.preventDefault();
  const at = point(event);
  if (event.ctrlKey || !event.shiftKey) view.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), ...at);
  else view.pan(-event.deltaY, 0);
  repaint();
}

const PHASES = [["planner", "Planning"], ["mask", "Finding the shape"], ["render", "Drawing"]];
const OTHER = { load: "Loading the models", queued: "Waiting", sent: "Getting ready", restarting: "Starting the worker again", stopping: "Stopping" };

function showHud() {
  const hud = stage.querySelector(".hud");
  const { state } = store;
  const job = state?.job;
  hud.hidden = !job;
  if (!job) return;
  const elapsed = job.elapsed_s + (performance.now() - store.at) / 1000;
  const name = PHASES.find(([phase]) => phase === job.phase)?.[1] ?? OTHER[job.phase] ?? "Working";
  const what = job.phase === "render" && state.proposal && job.kind === "do" ? `${name} ${state.proposal.description}` : name;
  const left = job.ahead > 0 ? `${job.ahead} ${job.ahead === 1 ? "step" : "steps"} of other runs first` : timeLeft(job, elapsed);
  const part = job.expected_s ? Math.min(0.97, elapsed / job.expected_s) : 0;
  const track = h("div", { class: `track ${job.expected_s && elapsed < job.expected_s ? "" : "unknown"}`, role: "progressbar", "aria-label": what,
    "aria-valuenow": job.expected_s ? Math.round(part * 100) : null, "aria-valuemin": 0, "aria-valuemax": 100 }, h("i", { style: { width: `${part * 100}%` } }));
  refill(hud, h("div", { class: "line" }, h("strong", {}, what), h("span", {}, left)), track,
    h("div", { class: "phases", "aria-hidden": "true" }, PHASES.map(([phase, words]) => h("span", { "data-now": phase === job.phase }, words))));
}

function timeLeft(job, elapsed) {
  if (!job.expected_s) return `${Math.floor(elapsed)} s`;
  const left = Math.ceil(job.expected_s - elapsed);
  return left > 0 ? `about ${left} s left` : "any moment now";
}

function showBanner() {
  const { state, connected } = store;
  const banner = stage.querySelector(".banner");
  const words = !connected ? "The studio does not answer. Waiting for it…"
    : state.worker.status === "restarting" || state.job?.phase === "restarting" ? "The worker ended unexpectedly. It is started again, and goes on where it was."
    : state.error ? state.error.message
    : state.problem ? state.problem
    : state.holder ? `In use by ${state.holder}. You can look; changes wait for it.` : "";
  banner.hidden = !words;
  if (banner.textContent !== words) banner.textContent = words;
}
