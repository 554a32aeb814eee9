// Earlier results: their pictures, names and dates; opened, removed, or two of them compared.

import { changeName, getJson, remove } from "./api.js";
import { button, counted, element, part } from "./elements.js";
import { image } from "./images.js";

const PAGE = 12;
const WHOSE = {
  key: "Results of your API key.",
  owner: "Results of this browser. Nobody else has them in a list; whoever has the link of one may look at it.",
  shared: "Results of everybody who uses this service.",
};

export class Gallery {
  // `onOpen` gets the id of a result, `onCompare` two of them.
  constructor({ onOpen, onCompare }) {
    this.onOpen = onOpen;
    this.marked = [];
    part("compare-two").addEventListener("click", () => onCompare(this.marked));
    part("more").addEventListener("click", () => this.load(this.next));
  }

  set whose(gallery) { part("whose").textContent = WHOSE[gallery] ?? ""; }

  async show() {
    this.marked = [];
    part("earlier-list").replaceChildren();
    await this.load(`reconstructions?limit=${PAGE}&state=succeeded`);
  }

  async load(path) {
    const wanted = (this.asked = (this.asked ?? 0) + 1);
    part("more").disabled = true;
    let found;
    try {
      found = await getJson(path);
    } catch {
      found = { reconstructions: [], next: null };
    }
    if (wanted !== this.asked) return;  // the list was begun anew meanwhile
    part("earlier-list").append(...found.reconstructions.map(one => this.card(one)));
    this.next = found.next;
    part("more").hidden = !this.next;
    part("more").disabled = false;
    this.changed();
  }

  changed() {
    const count = part("earlier-list").children.length;
    part("earlier").hidden = count === 0;
    part("compare-two").hidden = count < 2;
    part("compare-two").disabled = this.marked.length !== 2;
  }

  card(one) {
    const when = new Date(1000 * one.created).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    const called = () => name.value || `${counted(one.frames, "picture")}, ${when}`;
    const open = element("button", { type: "button", className: "face" }, image(one.thumbnail, ""));
    open.addEventListener("click", () => this.onOpen(one.id));
    const name = element("input", { type: "text", value: one.name ?? "", placeholder: "Give it a name", maxLength: 120, ariaLabel: `Name of the result of ${when}` });
    const said = element("span", { className: "said" });
    name.addEventListener("change", async () => {
      try {
        await changeName(one.id, name.value.trim() || null);
        said.textContent = "";
        open.ariaLabel = `Open ${called()}`;
      } catch (error) {
        said.textContent = error.message;
      }
    });
    open.ariaLabel = `Open ${called()}`;
    const mark = element("input", { type: "checkbox" });
    mark.addEventListener("change", () => {
      this.marked = mark.checked ? [...this.marked, one.id] : this.marked.filter(id => id !== one.id);
      this.changed();
    });
    const gone = button("Delete", async () => {
      if (gone.textContent === "Delete") { gone.textContent = "Really delete?"; return; }
      const answer = await remove(`reconstructions/${one.id}`);
      if (!answer.ok && answer.status !== 404) { said.textContent = "It could not be deleted."; return; }
      const next = node.nextElementSibling ?? node.previousElementSibling;
      node.remove();
      this.marked = this.marked.filter(id => id !== one.id);
      this.changed();
      (next?.querySelector("button") ?? part("files")).focus();
    }, { className: "small" });
    gone.addEventListener("blur", () => { gone.textContent = "Delete"; });
    const node = element("li", {}, open, name, element("span", { className: "faint", textContent: `${counted(one.frames, "picture")} · ${when}` }),
      element("span", { className: "row spread" }, element("label", {}, mark, " compare"), gone), said);
    return node;
  }
}
