// The choice of a model, where the service has several.

import { getJson } from "./api.js";
import { element, part } from "./elements.js";

const GIGA = 2 ** 30, MEGA = 2 ** 20;

const size = bytes => bytes < GIGA ? `${Math.max(1, Math.round(bytes / MEGA))} MB` : `${(bytes / GIGA).toFixed(1)} GB`;

function facts(served) {
  const scene = served.single_pictures ? "one picture" : served.unit === "metre" ? "in metres" : null;
  const trained = served.model.domain?.photographs === false ? "not for photographs" : null;
  const loading = served.loaded ? null : "has to be loaded first";
  return [served.model.family?.replaceAll("_", " "), scene, trained, size(served.memory_bytes), loading].filter(Boolean).join(" · ");
}

export class Models {
  constructor(onChoice) {
    this.served = [];
    this.select = part("model-name");
    this.select.addEventListener("change", () => { this.say(); onChoice(this.select.value); });
  }

  async show() {
    this.served = (await getJson("models")).models;
    part("modelling").hidden = this.served.length < 2;
    if (this.served.length < 2) return;
    const chosen = this.select.value;
    this.select.replaceChildren(...this.served.map(one => element("option", { value: one.name, textContent: one.name })));
    if (this.served.some(one => one.name === chosen)) this.select.value = chosen;
    this.say();
  }

  say() {
    part("model-facts").textContent = facts(this.served.find(one => one.name === this.select.value));
  }
}
