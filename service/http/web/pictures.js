// The visitor's own pictures before they are sent: add, remove, put in order. The first one's camera is the world.

import { button, counted, element, part } from "./elements.js";

const PICTURES = /\.(jpe?g|png|webp|heic|heif|avif)$/i, ARCHIVES = /\.zip$/i, VIDEOS = /\.(mp4|m4v|mov|mkv|webm|avi)$/i;
const THUMBNAIL = 240;

const megabytes = bytes => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 1 : 0)} MB`;

// Dropped pictures come in any order; 2.jpg belongs before 10.jpg.
const inOrder = list => [...list].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));

export class Pictures {
  // `onChange` is called when there are others, or in another order.
  constructor(onChange) {
    this.onChange = onChange;
    this.limits = null;  // of /capabilities
    this.chosen = [];
    part("files").addEventListener("change", event => { this.add(event.target.files); event.target.value = ""; });
  }

  get files() { return this.chosen.map(one => one.file); }

  // What stands against sending them, in a sentence; "" if nothing does. `more` are pictures that come by URL.
  objection(more = 0) {
    if (!this.limits) return "";
    const { max_images: most, max_total_bytes: bytes } = this.limits;
    const count = this.chosen.filter(one => PICTURES.test(one.file.name)).length + more;
    if (count > most) return `There are ${count} pictures; this service takes ${most} at once. Remove ${count - most}.`;
    const total = this.files.reduce((sum, file) => sum + file.size, 0);
    if (total > bytes) return `The files have ${megabytes(total)}; this service takes ${megabytes(bytes)} at once. Remove some.`;
    return "";
  }

  clear() {
    this.chosen = [];
    part("refused").replaceChildren();
    this.changed();
  }

  add(list) {
    const refused = [];
    for (const file of inOrder(list)) {
      const why = this.refusal(file);
      if (why) { refused.push(why); continue; }
      const item = { file, shape: null };
      item.node = this.node(item);
      this.chosen.push(item);
    }
    part("refused").replaceChildren(...refused.map(why => element("p", { textContent: why })));
    this.changed();
  }

  refusal(file) {
    if (![PICTURES, ARCHIVES, VIDEOS].some(kind => kind.test(file.name)) && !/^(image\/(jpeg|png|webp|heic|heif|avif)|video\/)/.test(file.type)) {
      return `${file.name} is refused: it is not a JPEG, PNG, WebP, HEIC or AVIF picture, a video or a zip.`;
    }
    if (this.files.some(one => one.name === file.name && one.size === file.size && one.lastModified === file.lastModified)) {
      return `${file.name} is there already.`;
    }
    const most = this.limits?.max_image_bytes;
    if (most && PICTURES.test(file.name) && file.size > most) {
      return `${file.name} is refused: it has ${megabytes(file.size)}; a picture may have ${megabytes(most)}.`;
    }
    return "";
  }

  node(item) {
    const { file } = item;
    const face = element("button", { type: "button", className: "face", ariaLabel: file.name }, element("span", { className: "kind", textContent: kindOf(file) }));
    face.addEventListener("keydown", event => this.pressed(event, item));
    const node = element("li", { draggable: true }, face, element("span", { className: "name", textContent: file.name, title: file.name }),
      element("span", { className: "acts" },
        button("←", () => this.move(item, -1), { className: "quiet small", ariaLabel: `Move ${file.name} forward`, title: "Forward" }),
        button("→", () => this.move(item, 1), { className: "quiet small", ariaLabel: `Move ${file.name} back`, title: "Back" }),
        button("1st", () => this.place(item, 0), { className: "quiet small", ariaLabel: `Make ${file.name} the 1st`, title: "Make it the first: the world is its camera's" }),
        button("×", () => this.remove(item), { className: "quiet small", ariaLabel: `Remove ${file.name}`, title: "Remove" })));
    node.addEventListener("dragstart", event => { this.dragged = item; event.dataTransfer.effectAllowed = "move"; event.dataTransfer.setData("text/plain", file.name); });
    node.addEventListener("dragend", () => { this.dragged = null; });
    node.addEventListener("dragover", event => { if (this.dragged) event.preventDefault(); });
    node.addEventListener("drop", event => {
      if (!this.dragged) return;
      event.preventDefault();
      event.stopPropagation();
      this.place(this.dragged, this.chosen.indexOf(item));
    });
    if (kindOf(file) === "picture") thumbnail(file).then(canvas => face.replaceChildren(canvas)).catch(() => {});  // HEIC: its name will do
    return node;
  }

  pressed(event, item) {
    const acts = { ArrowLeft: () => this.move(item, -1), ArrowRight: () => this.move(item, 1), Home: () => this.place(item, 0), Delete: () => this.remove(item) };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    if (this.chosen.includes(item)) item.node.querySelector(".face").focus();
  }

  move(item, by) { this.place(item, this.chosen.indexOf(item) + by); }

  place(item, index) {
    const rest = this.chosen.filter(one => one !== item);
    const at = Math.min(Math.max(index, 0), rest.length);
    this.chosen = [...rest.slice(0, at), item, ...rest.slice(at)];
    const held = document.activeElement;
    this.changed();
    if (item.node.contains(held)) held.focus();
    part("order-said").textContent = `${item.file.name} is ${at + 1} of ${this.chosen.length}`;
  }

  remove(item) {
    const at = this.chosen.indexOf(item);
    this.chosen = this.chosen.filter(one => one !== item);
    this.changed();
    const next = this.chosen[Math.min(at, this.chosen.length - 1)];
    (next?.node.querySelector(".face") ?? part("files")).focus();
    part("order-said").textContent = `${item.file.name} is removed; ${counted(this.chosen.length, "file")} left`;
  }

  changed() {
    this.chosen.forEach(({ node }, index) => node.classList.toggle("first", index === 0 && this.chosen.length > 1));
    part("chosen").replaceChildren(...this.chosen.map(one => one.node));
    part("ordering").hidden = this.chosen.length < 2;
    this.onChange();
  }
}

// How a file is sent and shown: by its name, too, for a browser does not know every video's type.
export function kindOf(file) {
  if (ARCHIVES.test(file.name)) return "zip";
  return VIDEOS.test(file.name) || file.type.startsWith("video/") ? "video" : "picture";
}

// A small canvas with the whole picture, upright; decoded at once at its small size where the browser can.
async function thumbnail(file) {
  const bitmap = await createImageBitmap(file, { resizeHeight: THUMBNAIL, resizeQuality: "medium" });
  const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas;
}
