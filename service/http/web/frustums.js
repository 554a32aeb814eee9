// Cameras in the view: a wire frame each, with its picture on it.

import {
  BufferAttribute, BufferGeometry, Color, DoubleSide, Group, LineBasicMaterial, LineSegments, Mesh, MeshBasicMaterial, SRGBColorSpace,
  Texture,
} from "./three.min.js";

const SELECTED = new Color(0xff8a00);

export function colorOf(index, count) {
  return new Color().setHSL(0.02 + (0.55 * index) / Math.max(count - 1, 1), 0.95, 0.42);
}

export class Frustums extends Group {
  constructor(cameras, length) {
    super();
    this.each = cameras.map((camera, index) => {
      const corners = cornersOf(camera, length);
      const color = colorOf(index, cameras.length);
      const wires = new LineSegments(wireGeometry(camera.centre, corners), new LineBasicMaterial({ color }));
      const sheet = new Mesh(sheetGeometry(corners), new MeshBasicMaterial({ color, side: DoubleSide, transparent: true, opacity: 0.25 }));
      sheet.userData.index = wires.userData.index = index;
      wires.frustumCulled = sheet.frustumCulled = false;
      this.add(wires, sheet);
      return { wires, sheet, color };
    });
  }

  get sheets() { return this.each.map(one => one.sheet); }

  // `url` is an image of the picture.
  async setImage(index, url) {
    const image = new Image();
    image.src = url;
    await image.decode();
    const texture = new Texture(image);
    texture.colorSpace = SRGBColorSpace;
    texture.needsUpdate = true;
    const { material } = this.each[index].sheet;
    material.map = texture;
    material.color.set(0xffffff);
    material.opacity = 0.92;
    material.needsUpdate = true;
  }

  select(index) {
    this.each.forEach(({ wires, color }, number) => {
      wires.material.color.copy(number === index ? SELECTED : color);
    });
  }

  dispose() {
    for (const { wires, sheet } of this.each) {
      for (const one of [wires, sheet]) { one.geometry.dispose(); one.material.dispose(); }
      sheet.material.map?.dispose();
    }
  }
}

function cornersOf(camera, length) {
  const [[fx, , cx], [, fy, cy]] = camera.intrinsic;
  const { width, height } = camera.size;
  return [[0, 0], [width, 0], [width, height], [0, height]].map(([u, v]) => camera.centre.clone()
    .addScaledVector(camera.right, (length * (u - cx)) / fx)
    .addScaledVector(camera.down, (length * (v - cy)) / fy)
    .addScaledVector(camera.forward, length));
}

function wireGeometry(centre, corners) {
  const ends = corners.flatMap((corner, i) => [centre, corner, corner, corners[(i + 1) % 4]]);
  return new BufferGeometry().setFromPoints(ends);
}

function sheetGeometry(corners) {
  const geometry = new BufferGeometry().setFromPoints(corners);
  geometry.setAttribute("uv", new BufferAttribute(new Float32Array([0, 1, 1, 1, 1, 0, 0, 0]), 2));
  geometry.setIndex([0, 1, 2, 0, 2, 3]);
  return geometry;
}
