// Where the picture lies on the canvas: zoom and pan, between screen pixels and canvas pixels of the scene.

const MIN_ZOOM = 0.1;
const MAX_ZOOM = 16;
const MARGIN = 56;

export class View {
  constructor() {
    Object.assign(this, { zoom: 1, x: 0, y: 0, width: 1, height: 1, scene: [1, 1], fitted: true });
  }

  /** The element's size changed, or the scene's. */
  resize(width, height, scene) {
    Object.assign(this, { width, height, scene });
    if (this.fitted) this.fit();
  }

  /** Shows the whole picture. */
  fit() {
    const [w, h] = this.scene;
    const room = Math.min(MARGIN, this.width / 8, this.height / 8);
    this.zoom = Math.max(MIN_ZOOM, Math.min((this.width - 2 * room) / w, (this.height - 2 * room) / h));
    this.x = (this.width - w * this.zoom) / 2;
    this.y = (this.height - h * this.zoom) / 2;
    this.fitted = true;
  }

  /** Zooms by a factor about a point of the screen. */
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, this.zoom * factor));
    this.x = x - (x - this.x) * (zoom / this.zoom);
    this.y = y - (y - this.y) * (zoom / this.zoom);
    Object.assign(this, { zoom, fitted: false });
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }

  /** Screen to scene. */
  toScene(x, y) {
    return [(x - this.x) / this.zoom, (y - this.y) / this.zoom];
  }
}
