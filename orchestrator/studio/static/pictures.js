// Pictures from the server, decoded once, and masks made visible.

const LIMIT = 96;
const cache = new Map();

/** A decoded picture; null where it cannot be had. */
export function picture(address) {
  return kept(address, async () => {
    const answer = await fetch(address);
    return answer.ok ? createImageBitmap(await answer.blob()) : null;
  });
}

/** A black and white mask as a bitmap in the colour of masks, clear elsewhere. */
export function masked(address) {
  const colour = getComputedStyle(document.documentElement).getPropertyValue("--mask").trim();
  return kept(`${address} ${colour}`, async () => {
    const mask = await picture(address);
    if (!mask) return null;
    const canvas = new OffscreenCanvas(mask.width, mask.height);
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(mask, 0, 0);
    const pixels = pen.getImageData(0, 0, mask.width, mask.height);
    const inside = pixels.data;
    for (let at = 0; at < inside.length; at += 4) inside[at + 3] = inside[at] > 127 ? 255 : 0;
    pen.putImageData(pixels, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = colour;
    pen.fillRect(0, 0, mask.width, mask.height);
    return canvas.transferToImageBitmap();
  });
}

/** The run's picture, small. */
export function thumbnailOf(state, width) {
  return state.picture ? picture(`${state.picture}&width=${width}`) : Promise.resolve(null);
}

async function kept(key, make) {
  if (cache.has(key)) {
    const known = cache.get(key);
    cache.delete(key);
    cache.set(key, known);
    return known;
  }
  const made = make().catch(() => null);
  cache.set(key, made);
  if (cache.size > LIMIT) cache.delete(cache.keys().next().value);
  return made;
}
