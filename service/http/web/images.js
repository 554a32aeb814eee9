// Images that the service gives out: fetched with the key, once each, let go with their result.

import { getBlobUrl } from "./api.js";
import { element } from "./elements.js";

const urls = new Map();

export function imageUrl(link) {
  if (!urls.has(link)) urls.set(link, getBlobUrl(link));
  return urls.get(link);
}

export function image(link, alt, properties = {}) {
  const made = element("img", { alt, ...properties });
  imageUrl(link).then(url => { made.src = url; }).catch(() => fail(made));
  return made;
}

// As `image`, but not before it comes near the screen.
export function lazyImage(link, alt, properties = {}) {
  const made = element("img", { alt, ...properties });
  waiting.set(made, link);
  watcher.observe(made);
  return made;
}

function fail(made) {
  made.alt += ": not available";
  made.classList.add("failed");
}

const waiting = new WeakMap();
const watcher = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    imageUrl(waiting.get(target)).then(url => { target.src = url; }).catch(() => fail(target));
  }
}, { rootMargin: "300px" });

export function releaseImages() {
  for (const url of urls.values()) url.then(URL.revokeObjectURL).catch(() => {});
  urls.clear();
}
