// One picture beside one of its maps, as large as the window: arrow keys go through the pictures.

import { element, part } from "./elements.js";
import { image } from "./images.js";

const SIDE = 1024;
let shown = null;

export function openLarger(result, index, cards, view) {
  shown = { result, index, cards, view: Math.max(view, 1) };
  draw();
  part("larger").showModal();
}

function draw() {
  const { result, index, cards, view } = shown;
  const { picture, views } = cards[index];
  part("larger-title").textContent = `${picture.filename}, ${index + 1} of ${result.pictures.length}`;
  const both = [views[0], views[view]].filter(Boolean);
  part("larger-images").replaceChildren(...both.map(one => element("figure", {},
    image(one.sized ? `${one.link}?max_side=${SIDE}` : one.link, `${one.label} of ${picture.filename}`), element("figcaption", { textContent: one.label }))));
  part("larger-maps").replaceChildren(...views.slice(1).map((one, number) => {
    const choice = element("button", { type: "button", textContent: one.label, ariaPressed: String(number + 1 === view) });
    choice.addEventListener("click", () => { shown.view = number + 1; draw(); part("larger-maps").children[number].focus(); });
    return choice;
  }));
}

function go(by) {
  const count = shown.result.pictures.length;
  shown.index = (shown.index + by + count) % count;
  draw();
}

part("larger").addEventListener("keydown", event => {
  if (event.key === "ArrowRight") go(1);
  else if (event.key === "ArrowLeft") go(-1);
  else return;
  event.preventDefault();
});
part("larger-next").addEventListener("click", () => go(1));
part("larger-previous").addEventListener("click", () => go(-1));
part("larger-close").addEventListener("click", () => part("larger").close());
