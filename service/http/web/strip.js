// The pictures of a scene in a row below the view: each can be chosen, looked from, and its points shown or not.

import { button, element, part } from "./elements.js";
import { lazyImage } from "./images.js";

const SIDE = 160;

export class Strip {
  constructor(pictures, { onSelect, onLook, onShown }) {
    this.onShown = onShown;
    this.items = pictures.map(picture => {
      const look = element("button", { type: "button", ariaLabel: `Look from the camera of ${picture.filename}` },
        lazyImage(`${picture.links.preview}?max_side=${SIDE}`, ""));
      look.addEventListener("click", () => { onSelect(picture.index); onLook(picture.index); });
      const box = element("input", { type: "checkbox", checked: true, ariaLabel: `Points of ${picture.filename}` });
      box.addEventListener("change", () => onShown());
      return { box, look, item: element("li", {}, look, element("label", {}, box, element("span", { textContent: picture.filename, title: picture.filename }))) };
    });
    part("strip").replaceChildren(...this.items.map(one => one.item));
    part("strip-choice").replaceChildren(
      button("Show all", () => this.all(true), { className: "small" }), button("Show none", () => this.all(false), { className: "small" }));
    part("strip-choice").hidden = pictures.length < 2;
  }

  // Numbers of the pictures whose points are not shown.
  get hidden() { return this.items.flatMap(({ box }, index) => (box.checked ? [] : [index])); }

  all(shown) {
    for (const { box } of this.items) box.checked = shown;
    this.onShown();
  }

  select(index) {
    this.items.forEach(({ item }, number) => item.classList.toggle("selected", number === index));
    const { item } = this.items[index];
    item.parentElement.scrollTo({ left: item.offsetLeft - item.parentElement.clientWidth / 2 + item.clientWidth / 2, behavior: "smooth" });
  }
}
