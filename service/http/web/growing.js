// A long scene while it is worked on: points and cameras of the chunks that are done. They still move a little at the end.

import { get } from "./api.js";
import { part } from "./elements.js";
import { Viewer } from "./viewer.js";

const MOST_CAMERAS = 200;  // that are drawn; of more, every second one and so on
const RECORD = 15;  // bytes of a point: float x y z, uchar red green blue

let viewer = null, held = false;  // one for all jobs, for a canvas has one; who has turned the view keeps it when it grows

export class Growing {
  constructor() {
    held = false;
    this.chunks = new Map();  // by number: what is worked on anew, after a restart, is told anew
    this.work = Promise.resolve();
    part("growing").hidden = true;
  }

  // An event "chunk" of the job that is followed. What can't be fetched any more is in the result.
  add(event) {
    this.work = this.work.then(() => this.fetch(event)).catch(() => {});
  }

  async fetch({ links, pictures, chunk, chunks }) {
    const points = readPoints(await (await get(links.points)).arrayBuffer());
    this.chunks.set(chunk, { ...points, pictures });
    part("growing").hidden = false;
    part("growing-count").textContent = `${this.pictures.length} pictures so far, in ${this.chunks.size} of ${chunks} parts`;
    this.show();
  }

  get pictures() {
    return [...this.chunks.values()].flatMap((one) => one.pictures);
  }

  show() {
    const chunks = [...this.chunks.values()], pictures = this.pictures;
    const count = chunks.reduce((sum, one) => sum + one.count, 0);
    const position = new Float32Array(3 * count), color = new Uint8Array(3 * count);
    let at = 0;
    for (const one of chunks) {
      position.set(one.position, at);
      color.set(one.color, at);
      at += 3 * one.count;
    }
    viewer ??= watched(new Viewer(part("growing-view")));
    const { camera, controls } = viewer;
    const place = camera.position.clone(), target = controls.target.clone();
    const every = Math.ceil(pictures.length / MOST_CAMERAS);
    viewer.show({ count, position, color }, pictures.filter((_, index) => index % every === 0));
    viewer.choose(Uint32Array.from({ length: count }, (_, index) => index));
    if (held) {
      camera.position.copy(place);
      viewer.aim(target);
    }
  }
}

function watched(viewer) {
  viewer.controls.addEventListener("start", () => { held = true; });
  return viewer;
}

function readPoints(buffer) {
  const text = new TextDecoder().decode(new Uint8Array(buffer, 0, Math.min(1024, buffer.byteLength)));
  const end = text.indexOf("end_header\n") + "end_header\n".length;
  const count = Number(text.match(/element vertex (\d+)/)[1]);
  const view = new DataView(buffer, end);
  const position = new Float32Array(3 * count), color = new Uint8Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let axis = 0; axis < 3; axis++) {
      position[3 * i + axis] = view.getFloat32(RECORD * i + 4 * axis, true);
      color[3 * i + axis] = view.getUint8(RECORD * i + 12 + axis);
    }
  }
  return { count, position, color };
}
