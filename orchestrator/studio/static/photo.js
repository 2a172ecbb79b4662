// A photograph as the starting scene: the file, and what is known of its parts.

import { api } from "./api.js";
import { button, h, notice } from "./dom.js";
import { show } from "./dialogs.js";

const PICTURES = "image/png,image/jpeg,image/webp";

/** Asks for a photo and what goes with it; `presets` as the API gives them. */
export function showPhoto(presets) {
  const file = (label, accept, more = {}) => h("input", { type: "file", accept, "aria-label": label, ...more });
  const photo = file("Photo", PICTURES, { onchange: shown });
  const map = file("Panoptic map, PNG", "image/png");
  const segments = file("Panoptic map, JSON", "application/json,.json");
  const caption = h("input", { type: "text", maxlength: 2000, placeholder: "a street in the rain" });
  const usable = presets.filter((preset) => !preset.problem);
  const preset = h("select", {}, usable.map((one) => h("option", { value: one.name, selected: one.default }, one.name)));
  const preview = h("img", { class: "preview", alt: "", hidden: true });
  const go = button("Open", null, { class: "primary", icon: "accept", disabled: true });
  go.type = "submit";

  function shown() {
    go.disabled = !photo.files.length;
    preview.hidden = !photo.files.length;
    if (photo.files.length) preview.src = URL.createObjectURL(photo.files[0]);
  }

  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    try {
      if (Boolean(map.files.length) !== Boolean(segments.files.length)) throw new Error("a panoptic map is two files: the PNG and its JSON");
      const asked = { photo: (await api.upload(photo.files[0])).upload, caption: caption.value, preset: preset.value };
      if (map.files.length) {
        asked.panoptic = (await api.upload(map.files[0])).upload;
        asked.segments = JSON.parse(await segments.files[0].text());
      }
      const { run } = await api.beginPhoto(asked);
      document.getElementById("dialog").close();
      location.hash = `#/run/${run}`;
    } catch (error) {
      notice(error.message);
      go.disabled = false;
    }
  }

  const field = (words, input, more) => h("label", { class: "field" }, h("span", {}, words), input, more && h("small", { class: "faint" }, more));
  show("Open a photo", h("form", { onsubmit: submit }, field("Photo", photo, "PNG, JPEG or WebP, up to 16 MiB"), preview, field("Caption", caption, "What it shows; may be left out with a panoptic map"),
    h("details", {}, h("summary", {}, "Panoptic map, if there is one"), field("Map", map, "COCO panoptic PNG"), field("Segments", segments, "its JSON")),
    field("Preset", preset), h("div", { class: "actions" }, go)));
}
