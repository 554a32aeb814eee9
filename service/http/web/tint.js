// Colours of points: as pictured, by confidence, by picture, or by where their depth comes from.

import { VERIFIED } from "./cloud.js";
import { colorOf } from "./frustums.js";

const UNSURE = [68, 28, 110], SURE = [250, 225, 70];  // as the ends of the legend in style.css
const OF_SEVERAL = [46, 150, 90], OF_NETWORK = [222, 140, 40];

export function paint(cloud, by, pictures) {
  if (by === "picture") return cloud.color;
  const colors = new Uint8Array(3 * cloud.count);
  const ofPicture = Array.from({ length: pictures }, (_, index) => {
    const { r, g, b } = colorOf(index, pictures);
    return [r, g, b].map(value => 255 * value ** (1 / 2.2));
  });
  const { ranks } = cloud;
  const colorAt = {
    confidence: i => SURE.map((sure, channel) => UNSURE[channel] + ranks[i] * (sure - UNSURE[channel])),
    camera: i => ofPicture[cloud.picture[i]],
    verified: i => (cloud.flags[i] & VERIFIED ? OF_SEVERAL : OF_NETWORK),
  }[by];
  for (let i = 0; i < cloud.count; i++) colors.set(colorAt(i), 3 * i);
  return colors;
}
