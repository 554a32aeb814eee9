// A finished reconstruction in words and pictures: what was found, how far it can be trusted, each picture with its maps.

import { downloadList, save } from "./downloads.js";
import { button, counted, element, part, percent } from "./elements.js";
import { lazyImage } from "./images.js";
import { openLarger } from "./larger.js";

const THUMBNAIL = 320;

// `look` is called with the number of a picture to look from; `query` says what points the view shows.
export function showResult(result, exports, { look, query }) {
  part("facts").textContent = facts(result);
  part("refined").textContent = refined(result);
  part("refined").hidden = !result.refinement;
  part("said").textContent = "";
  part("downloads").replaceChildren(...downloadList(result, exports, query, say));
  part("pictures").replaceChildren(...result.pictures.map(picture => card(picture, result, exports, look)));
}

function say(error) {
  part("said").textContent = error.message;
}

export async function copyLink() {
  const field = part("link-text");
  try {
    await navigator.clipboard.writeText(location.href);
    part("said").textContent = "The link is copied.";
  } catch {  // not allowed, or not over HTTPS: then to be copied by hand
    field.hidden = false;
    field.value = location.href;
    field.select();
  }
}

function facts(result) {
  const seconds = Object.values(result.timings).reduce((sum, value) => sum + value, 0);
  const found = [counted(result.pictures.length, "picture"), `made in ${seconds.toFixed(1)} s`, result.model.name];
  found.push(result.scale.unit === "metre" ? "in metres" : "scale unknown: measure something and say how long it is");
  if (result.reused) found.push("an earlier result of the same pictures");
  return found.join(" · ");
}

// What was refined, in one sentence; why not more is among the warnings.
function refined({ refinement, pictures }) {
  if (!refinement) return "";
  const { kept, support, network_support: before, points } = refinement;
  if (!kept) {
    const fit = support === null ? "" : `; ${percent(support)} of the matches between the pictures agree with them`;
    return `Not refined: cameras are the network's${fit}.`;
  }
  const all = kept === pictures.length ? `All ${kept}` : `${kept} of ${pictures.length}`;
  const gain = before === null ? "" : ` (of the network's: ${percent(before)})`;
  const found = `${all} cameras refined: ${percent(support)} of the matches agree with them${gain}, ${points.toLocaleString()} points triangulated`;
  const dense = pictures.map(picture => picture.dense).filter(Boolean);
  if (!dense.length) return `${found}.`;
  const pixels = dense.reduce((sum, one) => sum + one.size.width * one.size.height, 0);
  return `${found}; depth of ${percent(dense.reduce((sum, one) => sum + one.verified, 0) / pixels)} of the pixels verified by several pictures.`;
}

// Whose camera a picture has, and how far that can be trusted.
function tag(picture, result) {
  if (!result.refinement) return "";
  const share = picture.share === null ? "" : `, ${percent(picture.share)} of its matches agree`;
  if (picture.source === "refined") return element("span", { className: "tag good", textContent: `refined camera${share}` });
  const doubtful = result.refinement.kept > 0 || (picture.share ?? 0) < 0.7;
  return element("span", { className: doubtful ? "tag bad" : "tag", textContent: `network's camera${share}${doubtful ? ": not reliable" : ""}` });
}

// The picture first, its depth beside it, then what else there is.
const place = one => (one.link === "preview" ? ["picture", "depth"].indexOf(one.of) : 2);

function card(picture, result, exports, look) {
  const links = { picture: picture.links, depth: picture.depth.links };
  const offered = exports.filter(one => one.label && links[one.of]?.[one.link]);
  const shown = offered.filter(one => one.shown).sort((a, b) => place(a) - place(b));
  const { width, height } = picture.original_size;
  const views = shown.map(one => ({ link: links[one.of][one.link], label: one.label, sized: one.options.includes("max_side") }));
  const images = views.map((view, index) => {
    const thumbnail = lazyImage(sizedTo(view, THUMBNAIL), `${view.label} of ${picture.filename}`, { width, height });
    const larger = element("button", { type: "button", title: "Larger" }, thumbnail);
    larger.addEventListener("click", () => openLarger(result, picture.index, cards, index));
    return element("figure", {}, larger, element("figcaption", { textContent: view.label }));
  });
  cards[picture.index] = { picture, views };
  const { min, max } = picture.depth;
  const { dense } = picture;
  const verified = dense ? ` · ${percent(dense.verified / (dense.size.width * dense.size.height))} verified` : "";
  const caption = element("p", {}, element("strong", { textContent: picture.filename }),
    ` · ${width} × ${height} · depth ${min.toFixed(2)} to ${max.toFixed(2)}${verified} `, tag(picture, result));
  const files = element("p", { className: "files" }, button("Look from here", () => look(picture.index), { className: "small" }));
  for (const one of offered.filter(one => !one.shown)) {
    const link = links[one.of][one.link];
    const anchor = element("a", { href: link.slice(1), textContent: one.of === "depth" ? `depth as ${one.label}` : one.label });
    anchor.addEventListener("click", event => { event.preventDefault(); save(link).catch(say); });
    files.append(anchor);
  }
  const made = element("div", { className: "picture" }, element("div", { className: "images" }, ...images), caption, files);
  made.style.setProperty("--aspect", `${width} / ${height}`);
  return made;
}

const cards = [];  // pictures and their maps, by number

export const sizedTo = (view, side) => (view.sized ? `${view.link}?max_side=${side}` : view.link);
