// What a person draws to say where an object should be: a box, a blob, or the strokes of a scribble.

import { api } from "./api.js";

const MIN_PX = 4;

/** The drawing under way; `kind` is null, "box", "blob" or "scribble". Strokes are lists of [x, y]. */
export const guide = { kind: null, box: null, blob: null, strokes: [], brush: 14, undone: [] };

/** Nothing is drawn. */
export function clearGuide() {
  Object.assign(guide, { kind: null, box: null, blob: null, strokes: [], undone: [] });
}

/** Something is drawn that can be used. */
export function hasGuide() {
  return (guide.kind === "scribble" && guide.strokes.length > 0) || (guide.kind !== "scribble" && guide.kind !== null && Boolean(guide[guide.kind]));
}

/** A drag with a tool, from one point of the scene to another; of a scribble, a further point of the last stroke. */
export function drawTo(tool, from, to, [width, height]) {
  if (tool === "scribble") {
    const stroke = guide.strokes.at(-1);
    const last = stroke.at(-1);
    if (Math.hypot(to[0] - last[0], to[1] - last[1]) >= 1) stroke.push(to);
    return;
  }
  if (tool === "box") {
    const clip = (value, limit) => Math.round(Math.min(Math.max(value, 0), limit));
    const [x0, x1] = [clip(from[0], width), clip(to[0], width)].sort((a, b) => a - b);
    const [y0, y1] = [clip(from[1], height), clip(to[1], height)].sort((a, b) => a - b);
    guide.box = x1 - x0 >= MIN_PX && y1 - y0 >= MIN_PX ? [x0, y0, x1, y1] : null;
    return;
  }
  const [rx, ry] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])].map((reach) => reach / 2);
  const inside = from[0] >= 0 && from[1] >= 0 && from[0] <= width && from[1] <= height;
  guide.blob = inside && rx >= 2 && ry >= 2 ? [...from, Math.min(rx, width), Math.min(ry, height)].map((value) => Math.round(value * 10) / 10) : null;
}

/** Begins to draw with a tool. */
export function begin(tool, point) {
  if (guide.kind !== tool) clearGuide();
  guide.kind = tool;
  guide.undone = [];
  if (tool === "scribble") guide.strokes.push([point]);
}

/** Moves a box by shares of the canvas, or makes it larger or smaller; the first time it appears in the middle. */
export function nudgeBox(dx, dy, resize, [width, height]) {
  if (guide.kind !== "box" || !guide.box) {
    clearGuide();
    Object.assign(guide, { kind: "box", box: [0.35 * width, 0.35 * height, 0.65 * width, 0.65 * height].map(Math.round) });
    return;
  }
  const [x, y] = [Math.round(dx * width), Math.round(dy * height)];
  let [x0, y0, x1, y1] = guide.box;
  if (resize) [x1, y1] = [x1 + x, y1 + y];
  else [x0, y0, x1, y1] = [x0 + x, y0 + y, x1 + x, y1 + y];
  const fits = x0 >= 0 && y0 >= 0 && x1 <= width && y1 <= height && x1 - x0 >= MIN_PX && y1 - y0 >= MIN_PX;
  if (fits) guide.box = [x0, y0, x1, y1];
}

/** Takes the last stroke (or the box, or the blob) back. */
export function undoStroke() {
  if (guide.kind === "scribble" && guide.strokes.length > 1) {
    guide.undone.push(guide.strokes.pop());
    return;
  }
  clearGuide();
}

/** Draws it on a canvas whose units are scene pixels. `line` is the width of a thin line in them. */
export function paintGuide(pen, colour, line) {
  pen.save();
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 2 * line;
  if (guide.box) paintBox(pen, guide.box);
  if (guide.blob) paintBlob(pen, guide.blob);
  pen.globalAlpha = 0.75;
  for (const stroke of guide.strokes) paintStroke(pen, stroke);
  pen.restore();
}

/** A box, filled faintly. */
export function paintBox(pen, [x0, y0, x1, y1]) {
  pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  pen.globalAlpha = 0.14;
  pen.fillRect(x0, y0, x1 - x0, y1 - y0);
  pen.globalAlpha = 1;
}

/** A blob: one and two sigmas. */
export function paintBlob(pen, [cx, cy, rx, ry]) {
  for (const [sigmas, alpha] of [[2, 0.1], [1, 0.22]]) {
    pen.beginPath();
    pen.ellipse(cx, cy, sigmas * rx, sigmas * ry, 0, 0, 2 * Math.PI);
    pen.globalAlpha = alpha;
    pen.fill();
    pen.globalAlpha = 1;
    pen.stroke();
  }
}

function paintStroke(pen, stroke) {
  pen.lineWidth = guide.brush;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...stroke[0]);
  for (const point of stroke.slice(1)) pen.lineTo(...point);
  if (stroke.length === 1) pen.lineTo(stroke[0][0] + 0.01, stroke[0][1]);
  pen.stroke();
}

/** The drawing as the API takes it; a scribble is sent as a picture first. */
export async function guideEvent([width, height], tightness) {
  if (guide.kind === "scribble") {
    const canvas = new OffscreenCanvas(width, height);
    const pen = canvas.getContext("2d");
    pen.strokeStyle = "#000";
    for (const stroke of guide.strokes) paintStroke(pen, stroke);
    const { upload } = await api.upload(await canvas.convertToBlob({ type: "image/png" }));
    return { scribble: upload, tightness };
  }
  return { [guide.kind]: guide[guide.kind], tightness };
}
