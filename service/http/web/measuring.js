// Measured distances in words: a list, what a click missed, and the unit once one of them is known.

import { button, element, part } from "./elements.js";

export class Measuring {
  // `onScale` is told of a new unit: metres that one unit of the result is long.
  constructor(viewer, onScale) {
    this.viewer = viewer;
    this.onScale = onScale;
    this.said = "";
    viewer.addEventListener("mark", event => this.marked(event.detail));
    viewer.addEventListener("miss", () => this.say("There is no point. Click on a point of the scene."));
  }

  begin(unit) {
    this.metres = null;  // that a unit of the result is long, once somebody has said so
    this.unit = unit;
    this.on = false;
    this.list();
  }

  set on(on) {
    this.viewer.measuring = on;
    this.viewer.canvas.classList.toggle("measuring", on);
    part("measure").setAttribute("aria-pressed", on);
    part("crosshair").hidden = true;
    if (!on) this.viewer.ruler?.forgetBegun();
    this.say(on ? "Click the first point (or turn the view and press Enter: the middle counts)" : "");
    this.viewer.draw();
  }

  get on() { return Boolean(this.viewer.measuring); }

  say(text) {
    part("hint").hidden = !text;
    part("hint").textContent = text;
  }

  marked(distance) {
    this.say(distance ? `${this.text(distance.length)}. Click the first point of the next distance` : "Click the second point");
    if (distance) this.list();
  }

  text(length) {
    const value = length * (this.metres ?? 1);
    return `${value < 1000 ? Number(value.toPrecision(3)) : Math.round(value)} ${this.metres ? "m" : this.unit}`;
  }

  list() {
    const distances = this.viewer.ruler?.distances ?? [];
    part("distances").hidden = distances.length === 0;
    part("distance-list").replaceChildren(...distances.map((distance, index) => {
      const swatch = element("span", { className: "swatch" });
      swatch.style.background = `#${distance.color.getHexString()}`;
      const length = element("input", { type: "number", min: "0", step: "any", placeholder: "metres", ariaLabel: `True length of distance ${index + 1} in metres` });
      const form = element("form", { className: "row" }, swatch, element("strong", { textContent: this.text(distance.length) }),
        element("span", { className: "faint", textContent: "is really" }), length, element("span", { className: "faint", textContent: "m" }),
        element("button", { className: "small", textContent: "Set the scale" }),
        button("Remove", () => { this.viewer.ruler.forget(distance); this.viewer.draw(); this.list(); }, { className: "small", ariaLabel: `Remove distance ${index + 1}` }));
      form.addEventListener("submit", event => {
        event.preventDefault();
        if (!(Number(length.value) > 0)) { length.focus(); return; }
        this.metres = Number(length.value) / distance.length;
        this.list();
        this.onScale(this.metres);
      });
      return element("li", {}, form);
    }));
    part("scale-said").textContent = this.metres ? `Lengths are in metres now, also in the files that you save: a unit of the result is ${Number(this.metres.toPrecision(4))} m.` : "";
  }
}
