// What the view of a result shows, and the controls that say so. Files to save hold the same points.

import { get, getJson } from "./api.js";
import { Cloud } from "./cloud.js";
import { withQuery } from "./downloads.js";
import { part, percent } from "./elements.js";
import { imageUrl } from "./images.js";
import { Measuring } from "./measuring.js";
import { canRecord, savePicture, saveVideo } from "./recording.js";
import { Strip } from "./strip.js";
import { paint } from "./tint.js";
import { Viewer } from "./viewer.js";

const MOST_POINTS = matchMedia("(max-width: 40rem)").matches ? 300000 : 1000000;
const THUMBNAILS = 64;  // of cameras; more would take long to come
const EDGE = 0.05;  // a jump of depth by more than this share is an edge
const PAUSE_MS = 250;  // of the sliders, before the service is asked what a percentile stands for

export class View {
  constructor() {
    this.viewer = new Viewer(part("view"));
    this.measuring = new Measuring(this.viewer, metres => { this.metres = metres; this.sayUnit(); });
    this.viewer.addEventListener("drawn", event => this.sayDrawn(event.detail));
    this.viewer.addEventListener("select", event => this.select(event.detail));
    this.viewer.addEventListener("hover", event => this.name(event.detail));
    this.viewer.addEventListener("look", event => this.looked(event.detail));
    this.viewer.addEventListener("resize", () => this.placeOverlay());
    this.bind();
  }

  // Fetches what `show` shows.
  async load(result) {
    const answer = await get(withQuery(result.links.view, { max_points: MOST_POINTS }));
    this.cloud = new Cloud(await answer.arrayBuffer());
    this.result = result;
    this.metres = null;
  }

  show() {
    const { result } = this, { options } = result;
    const dense = this.cloud.hasVerified;
    // what several pictures agree on needs no leave of the network
    part("confidence").value = Math.min(options.confidence ?? (dense ? 0 : 25), 95);
    part("size").value = dense ? 4 : 2.5;
    part("sky").checked = Boolean(options.mask_sky);
    part("edges").checked = Boolean(options.depth_edge);
    part("edges").value = options.depth_edge ?? EDGE;
    part("black").checked = Boolean(options.mask_black);
    part("white").checked = Boolean(options.mask_white);
    part("filled").checked = options.points === "all";
    part("filled-choice").hidden = !dense;
    part("tint").value = "picture";
    part("tint").querySelector("[value=verified]").hidden = !dense;
    part("cameras").setAttribute("aria-pressed", true);
    part("turn").setAttribute("aria-pressed", false);
    this.viewer.turning = false;
    this.strip = new Strip(result.pictures, {
      onSelect: index => this.select(index), onLook: index => this.viewer.lookFrom(index), onShown: () => this.choose(),
    });
    this.viewer.show(this.cloud, result.pictures);
    this.choose();
    this.resize();
    this.paint();
    this.measuring.begin(result.scale.unit === "metre" ? "m" : "units");
    this.looked(null);
    result.pictures.slice(0, THUMBNAILS).forEach(async picture => {
      try {
        await this.viewer.frustums.setImage(picture.index, await imageUrl(`${picture.links.preview}?max_side=160`));
        this.viewer.draw();
      } catch { /* a camera without its picture is a camera still */ }
    });
  }

  get choice() {
    return {
      percent: Number(part("confidence").value), hidden: this.strip.hidden, sky: part("sky").checked, black: part("black").checked,
      white: part("white").checked, edge: part("edges").checked ? Number(part("edges").value) : null, filled: part("filled").checked,
    };
  }

  // The choice as the service's options, for files that hold points: everything is said, so that nothing else counts.
  get pointOptions() {
    const { percent: confidence, hidden, sky, black, white, edge, filled } = this.choice;
    const options = { confidence, mask_sky: sky, mask_black: black, mask_white: white };
    if (edge !== null) options.depth_edge = edge;
    if (hidden.length) options.frames = this.result.pictures.map(one => one.index).filter(index => !hidden.includes(index)).join(",");
    if (filled) options.points = "all";
    return options;
  }

  // Options of a file to save, of those that it takes.
  query(taken) {
    const all = { ...this.pointOptions, ...(this.metres ? { metres_per_unit: this.metres } : {}) };
    return Object.fromEntries(Object.entries(all).filter(([name]) => taken.includes(name)));
  }

  // Shows what is chosen: at once by the points that are here, and a moment later by the service's own bound and count.
  choose() {
    const { choice } = this;
    part("confidence-value").textContent = choice.percent ? `the least certain ${percent(choice.percent / 100)} left out` : "all";
    this.viewer.choose(this.cloud.chosen(choice, this.cloud.leastOf(choice.percent, choice.hidden)));
    this.count = null;
    this.sayCount();
    clearTimeout(this.asking);
    const wanted = (this.asked = (this.asked ?? 0) + 1);
    this.asking = setTimeout(() => this.ask(choice, wanted), PAUSE_MS);
  }

  async ask(choice, wanted) {
    const nothing = choice.hidden.length === this.result.pictures.length;
    try {
      const counted = nothing ? { points: 0, least_confidence: null } : await getJson(withQuery(this.result.links.points_count, this.pointOptions));
      if (wanted !== this.asked) return;  // something else was chosen meanwhile
      this.viewer.choose(this.cloud.chosen(choice, counted.least_confidence ?? -Infinity));
      this.count = counted.points;
      this.sayCount();
    } catch (error) {
      if (wanted === this.asked) part("count").textContent = error.message;
    }
  }

  sayCount() {
    const all = this.cloud.of.toLocaleString();
    part("count").textContent = this.count === null ? `… of ${all} points chosen` : `${this.count.toLocaleString()} of ${all} points chosen: files to save hold these`;
  }

  sayDrawn({ drawn, wanted }) {
    const thin = this.cloud.count < this.cloud.of ? ` (an even sample of ${percent(this.cloud.count / this.cloud.of)})` : "";
    const moving = drawn < wanted ? ` while the view moves, then ${wanted.toLocaleString()}` : "";
    part("drawn").textContent = `${drawn.toLocaleString()} drawn${moving}${thin}`;
  }

  sayUnit() {
    const { length } = part("distance-list").children;
    this.measuring.say(length ? `In metres now: one unit is ${Number(this.metres.toPrecision(4))} m` : "");
  }

  select(index) {
    this.viewer.select(index);
    this.strip.select(index);
  }

  name(at) {
    const label = part("hover");
    label.hidden = at === null;
    if (at === null) return;
    label.textContent = this.result.pictures[at.index].filename;
    label.style.left = `${at.x}px`;
    label.style.top = `${at.y}px`;
  }

  // The picture lies over the view that its camera has, and fades as one wants.
  looked(index) {
    part("looking").hidden = part("overlay").hidden = index === null;
    if (index === null) return;
    const picture = this.result.pictures[index];
    part("looking-name").textContent = picture.filename;
    part("overlay").removeAttribute("src");
    imageUrl(picture.links.preview).then(url => { if (this.viewer.looking === index) part("overlay").src = url; }).catch(() => {});
    this.select(index);
    this.placeOverlay();
    part("scene").scrollIntoView({ block: "nearest" });
  }

  placeOverlay() {
    if (this.viewer.looking === null || !this.viewer.cameras) return;
    const { frame } = this.viewer, { style } = part("overlay");
    for (const side of ["left", "top", "width", "height"]) style[side] = `${frame[side]}px`;
    style.opacity = part("fade").value / 100;
  }

  resize() { this.viewer.size = Number(part("size").value); }

  paint() {
    this.viewer.paint(paint(this.cloud, part("tint").value, this.result.pictures.length));
    for (const legend of part("legends").children) legend.hidden = legend.dataset.of !== part("tint").value;
  }

  nudge(id, by) {
    part(id).value = Number(part(id).value) + by;
    part(id).dispatchEvent(new Event("input"));
  }

  next(by) {
    const count = this.result.pictures.length;
    this.viewer.lookFrom(((this.viewer.looking ?? -by) + by + count) % count);
  }

  toggle(id) {
    const on = part(id).getAttribute("aria-pressed") !== "true";
    part(id).setAttribute("aria-pressed", on);
    return on;
  }

  bind() {
    const { viewer } = this;
    const acts = {
      reset: () => viewer.reset(),
      cameras: () => { viewer.camerasShown = this.toggle("cameras"); },
      turn: () => { viewer.turning = this.toggle("turn"); },
      measure: () => { this.measuring.on = !this.measuring.on; },
      "save-picture": () => savePicture(viewer),
      "save-video": () => this.record(),
      "look-next": () => this.next(1),
      "look-previous": () => this.next(-1),
      "look-leave": () => viewer.leave(),
    };
    for (const [id, act] of Object.entries(acts)) part(id).addEventListener("click", act);
    part("save-video").hidden = !canRecord();
    part("size").addEventListener("input", () => this.resize());
    part("fade").addEventListener("input", () => this.placeOverlay());
    part("tint").addEventListener("change", () => this.paint());
    for (const id of ["confidence", "sky", "edges", "black", "white", "filled"]) part(id).addEventListener("input", () => this.choose());
    viewer.controls.addEventListener("start", () => { if (part("turn").getAttribute("aria-pressed") === "true") acts.turn(); });
    const keys = {
      r: acts.reset, c: acts.cameras, m: acts.measure, t: acts.turn, n: acts["look-next"], p: acts["look-previous"], Escape: acts["look-leave"],
      "+": () => this.nudge("size", 1), "=": () => this.nudge("size", 1), "-": () => this.nudge("size", -1),
      "]": () => this.nudge("confidence", 5), "[": () => this.nudge("confidence", -5),
    };
    document.addEventListener("keydown", event => {
      const busy = event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (part("result").hidden || part("larger").open || busy) return;
      if (event.key === "Enter" && this.measuring.on && event.target === viewer.canvas) viewer.mark();
      else keys[event.key]?.();
    });
    viewer.canvas.addEventListener("keydown", event => {
      if (this.measuring.on && event.key.startsWith("Arrow")) part("crosshair").hidden = false;
    });
  }

  async record() {
    const button = part("save-video"), text = button.textContent;
    button.disabled = true;
    try {
      await saveVideo(this.viewer, left => { button.textContent = `Recording: ${left} s`; });
    } finally {
      button.disabled = false;
      button.textContent = text;
    }
  }
}
