// Distances between points of the scene, as lines in the view.

import { BufferGeometry, Color, Group, LineBasicMaterial, LineSegments, Vector3 } from "./three.min.js";

const BEGUN = new Color(0xff3b6b);

export class Ruler extends Group {
  constructor(arm) {
    super();
    this.arm = arm;
    this.distances = [];
    this.begun = null;  // the first end of the next one
    this.made = 0;
  }

  // Takes a point: the first end of a distance, or its second. Returns the finished distance or null.
  mark(point) {
    let distance = null;
    if (this.begun) {
      const color = new Color().setHSL((0.95 + 0.381966 * this.made++) % 1, 0.9, 0.5);
      distance = { ends: [this.begun, point], length: this.begun.distanceTo(point), color };
      this.distances.push(distance);
    }
    this.begun = distance ? null : point;
    this.redraw();
    return distance;
  }

  forget(distance) {
    this.distances = this.distances.filter(one => one !== distance);
    this.redraw();
  }

  forgetBegun() {
    this.begun = null;
    this.redraw();
  }

  redraw() {
    this.dispose();
    for (const { ends, color } of this.distances) this.lines([...ends, ...ends.flatMap(end => this.cross(end))], color);
    if (this.begun) this.lines(this.cross(this.begun), BEGUN);
  }

  lines(points, color) {
    const lines = new LineSegments(new BufferGeometry().setFromPoints(points), new LineBasicMaterial({ color, depthTest: false }));
    lines.renderOrder = 1;
    lines.frustumCulled = false;
    this.add(lines);
  }

  cross(end) {
    return [new Vector3(this.arm, 0, 0), new Vector3(0, this.arm, 0), new Vector3(0, 0, this.arm)]
      .flatMap(axis => [end.clone().add(axis), end.clone().sub(axis)]);
  }

  dispose() {
    for (const old of [...this.children]) {
      old.geometry.dispose();
      old.material.dispose();
      this.remove(old);
    }
  }
}
