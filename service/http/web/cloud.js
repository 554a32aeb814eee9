// The points of a result, with what choosing them depends on. Reads view.bin (service/exports/view.py has its columns).

export const VERIFIED = 1, SKY = 2, BLACK = 4, WHITE = 8;

const FLAGS = { sky: SKY, black: BLACK, white: WHITE };

export class Cloud {
  constructor(buffer) {
    const length = new DataView(buffer).getUint32(0, true);
    const { points, of } = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    let at = 4 + length;
    const column = (type, width) => {
      const values = new type(buffer, at, width * points);
      at += values.byteLength;
      return values;
    };
    this.count = points;
    this.of = of;
    this.position = column(Float32Array, 3);
    this.confidence = column(Float32Array, 1);
    this.edge = column(Float32Array, 1);
    this.picture = column(Uint16Array, 1);
    this.color = column(Uint8Array, 3);
    this.flags = column(Uint8Array, 1);
    this.order = shuffled(points);
    this.hasVerified = this.flags.some(flags => flags & VERIFIED);
  }

  // Numbers of the points that a choice leaves, in an order whose every beginning is an even sample of them.
  chosen(choice, least) {
    const { order, confidence, edge, picture, flags } = this;
    const without = Object.keys(FLAGS).reduce((sum, name) => sum | (choice[name] ? FLAGS[name] : 0), 0);
    const onlyVerified = this.hasVerified && !choice.filled;
    const jump = choice.edge ?? Infinity;
    const hidden = new Set(choice.hidden);
    const found = new Uint32Array(order.length);
    let count = 0;
    for (let at = 0; at < order.length; at++) {
      const i = order[at];
      const verified = flags[i] & VERIFIED;
      if (flags[i] & without || edge[i] > jump || hidden.has(picture[i])) continue;
      if (!verified && (onlyVerified || confidence[i] < least)) continue;
      found[count++] = i;
    }
    return found.subarray(0, count);
  }

  // The confidence below which `percent` of the points of shown pictures lie: the service's own bound may differ a little
  // where only a sample of the points is here, or where they are not the network's pixels.
  leastOf(percent, hidden) {
    if (percent <= 0) return -Infinity;
    const away = new Set(hidden);
    const values = this.confidence.filter((_, i) => !away.has(this.picture[i])).sort();
    return values.length ? values[Math.min(Math.ceil((percent / 100) * (values.length - 1)), values.length - 1)] : -Infinity;
  }

  // Each point's share of points that are no more confident than it, 0 to 1.
  get ranks() {
    this.ranked ??= ranks(this.confidence);
    return this.ranked;
  }
}

function ranks(values) {
  const sorted = values.slice().sort();
  return Float32Array.from(values, value => {
    let low = 0, high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= value) low = middle + 1; else high = middle;
    }
    return low / values.length;
  });
}

function shuffled(count) {
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
