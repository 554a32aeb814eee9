// Reads the service's own binary PLY: per vertex float x y z, uchar red green blue, float confidence.

const RECORD = 19;

export function readPly(buffer) {
  const text = new TextDecoder().decode(new Uint8Array(buffer, 0, Math.min(1024, buffer.byteLength)));
  const end = text.indexOf("end_header\n") + "end_header\n".length;
  const count = Number(text.match(/element vertex (\d+)/)[1]);
  const view = new DataView(buffer, end);
  const position = new Float32Array(3 * count), color = new Uint8Array(3 * count), confidence = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = RECORD * i;
    for (let axis = 0; axis < 3; axis++) {
      position[3 * i + axis] = view.getFloat32(at + 4 * axis, true);
      color[3 * i + axis] = view.getUint8(at + 12 + axis);
    }
    confidence[i] = view.getFloat32(at + 15, true);
  }
  return { count, position, color, rank: ranks(confidence) };
}

// Each point's share of points that are no more confident than it, 0 to 1: what a percentile is compared with.
function ranks(values) {
  const sorted = values.slice().sort();
  const rank = new Float32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= values[i]) low = middle + 1; else high = middle;
    }
    rank[i] = low / values.length;
  }
  return rank;
}
