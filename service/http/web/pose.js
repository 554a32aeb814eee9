// Where to look from: which way is up, and how far away everything is in view. World axes are OpenCV's.

import { Matrix3, Quaternion, Vector3 } from "./three.min.js";

const TRUST = 0.01;  // how much the mean of all cameras' up axes counts beside their right axes

export function readCamera(picture) {
  const [x, y, z] = picture.extrinsic;
  const row = axis => new Vector3(axis[0], axis[1], axis[2]);  // rows of the rotation are camera axes in the world
  const centre = new Vector3().addScaledVector(row(x), -x[3]).addScaledVector(row(y), -y[3]).addScaledVector(row(z), -z[3]);
  return {
    centre, right: row(x), down: row(y), forward: row(z), intrinsic: picture.intrinsic, size: picture.original_size,
    name: picture.filename, index: picture.index,
  };
}

// The direction that is up in the world, a unit vector. People hold cameras level, so up is at right angles to the cameras'
// right axes; where all of these point much the same way, the mean of the up axes decides, which is off by how far the
// cameras look down. Solves (mean of r rᵀ + TRUST I) u = m.
export function upOf(cameras) {
  const mean = cameras.reduce((sum, camera) => sum.sub(camera.down), new Vector3());
  if (mean.length() < 1e-3 * cameras.length) mean.copy(cameras[0].down).negate();
  mean.normalize();
  const rows = [[TRUST, 0, 0], [0, TRUST, 0], [0, 0, TRUST]];
  for (const { right } of cameras) {
    const r = right.toArray();
    rows.forEach((row, i) => row.forEach((_, j) => { row[j] += (r[i] * r[j]) / cameras.length; }));
  }
  return mean.applyMatrix3(new Matrix3(...rows.flat()).invert()).normalize();
}

// Turns the world so that `up` is the view's y axis.
export const upright = up => new Quaternion().setFromUnitVectors(up, new Vector3(0, 1, 0));

// The middle and the size of most of the points: a few stray ones must not shrink the rest to a dot. `points` are numbers.
export function boxOf(position, points) {
  const step = Math.max(1, Math.floor(points.length / 20000));
  const axes = [[], [], []];
  for (let at = 0; at < points.length; at += step) {
    for (let axis = 0; axis < 3; axis++) axes[axis].push(position[3 * points[at] + axis]);
  }
  const spans = axes.map(values => {
    values.sort((a, b) => a - b);
    return values.length ? [values[Math.floor(0.01 * values.length)], values[Math.floor(0.99 * values.length)]] : [-1, 1];
  });
  const inside = [];
  for (let n = 0; n < axes[0].length; n++) {
    const point = new Vector3().fromArray(position, 3 * points[n * step]);
    if (point.toArray().every((value, axis) => value >= spans[axis][0] && value <= spans[axis][1])) inside.push(point);
  }
  const middle = new Vector3(...spans.map(([low, high]) => (low + high) / 2));
  return { middle, extent: Math.max(Math.hypot(...spans.map(([low, high]) => high - low)), 1e-6), inside };
}

// Where to look, and from how far along the unit vector `towards`, to see nearly all `points` and all that is `needed` in the
// middle of the window: `wide` and `high` are tangents of half its angles of view. Up is y.
export function fit(points, needed, middle, towards, wide, high) {
  const right = new Vector3(0, 1, 0).cross(towards).normalize();
  const above = towards.clone().cross(right);
  const target = middle.clone();
  let distance = 1;
  for (let round = 0; round < 4; round++) {
    const [most, all] = [points, needed].map(places => places.map(place => {
      const off = place.clone().sub(target);
      return { near: off.dot(towards), x: off.dot(right), y: off.dot(above) };
    }));
    const wanted = ({ near, x, y }) => near + Math.max(Math.abs(x) / wide, Math.abs(y) / high);
    distance = Math.max(quantile(most.map(wanted), 0.99), ...all.map(wanted), 1e-6);
    for (const [axis, way] of [["x", right], ["y", above]]) {
      const slope = one => one[axis] / Math.max(distance - one.near, 0.05 * distance);
      const slopes = most.map(slope), others = all.map(slope);
      const low = Math.min(quantile(slopes, 0.01), ...others), top = Math.max(quantile(slopes, 0.99), ...others);
      target.addScaledVector(way, (distance * (low + top)) / 4);
    }
  }
  return { target, distance };
}

function quantile(values, share) {
  values.sort((a, b) => a - b);
  return values.length ? values[Math.floor(share * (values.length - 1))] : 1;
}
