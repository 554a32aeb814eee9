// Two results side by side, seen from the same side: what turns one turns the other.

import { get, getJson } from "./api.js";
import { Cloud } from "./cloud.js";
import { withQuery } from "./downloads.js";
import { counted, part } from "./elements.js";
import { Viewer } from "./viewer.js";

const MOST_POINTS = 300000;

export class Comparison {
  constructor() {
    this.viewers = ["left", "right"].map(side => new Viewer(part(`view-${side}`)));
    this.viewers.forEach((viewer, index) => viewer.controls.addEventListener("change", () => this.link(viewer, this.viewers[1 - index])));
    part("compare-reset").addEventListener("click", () => this.reset());
  }

  // Fetches two results by their ids; `show` then shows them.
  async load(ids) {
    this.found = await Promise.all(ids.map(async id => {
      const result = await getJson(`reconstructions/${id}`);
      const answer = await get(withQuery(result.links.view, { max_points: MOST_POINTS }));
      return { result, cloud: new Cloud(await answer.arrayBuffer()) };
    }));
  }

  show() {
    this.linked = false;
    this.found.forEach(({ result, cloud }, index) => {
      const percent = result.options.confidence ?? (cloud.hasVerified ? 0 : 25);
      const viewer = this.viewers[index];
      viewer.show(cloud, result.pictures);
      viewer.choose(cloud.chosen({ filled: result.options.points === "all" }, cloud.leastOf(percent, [])));
      viewer.size = cloud.hasVerified ? 4 : 2.5;
      const how = result.refinement?.kept ? `${result.refinement.kept} cameras refined` : "as the network says";
      part(`about-${["left", "right"][index]}`).textContent =
        `${counted(result.pictures.length, "picture")} · ${how} · ${new Date(result.created).toLocaleString()}`;
    });
    this.reset();
  }

  reset() {
    this.linked = false;
    for (const viewer of this.viewers) viewer.reset();
    this.linked = true;
    this.link(this.viewers[0], this.viewers[1]);
  }

  link(from, to) {
    if (!this.linked) return;
    this.linked = false;  // or the second would move the first in turn
    to.pose = from.pose;
    this.linked = true;
  }
}
