// Files of a result: what each is for, and saving them.

import { get } from "./api.js";
import { button, element } from "./elements.js";

const first = one => one.link === "archive";

// A list of what can be saved of a whole result. `query` is asked at each click: what the view shows, for files that
// take such options. `onError` is told what went wrong.
export function downloadList(result, exports, query, onError) {
  const offered = exports.filter(one => one.of === "result" && one.label && result.links[one.link]).sort((a, b) => first(b) - first(a));
  return offered.map(one => element("li", {},
    button(one.label, () => save(withQuery(result.links[one.link], query(one.options))).catch(onError),
      { className: first(one) ? "download main" : "download" }),
    element("span", { textContent: one.use })));
}

export function withQuery(link, values) {
  const query = new URLSearchParams(values).toString();
  return query ? `${link}?${query}` : link;
}

// Fetched, not opened: a link can't send a key.
export async function save(link) {
  const answer = await get(link);
  const name = answer.headers.get("content-disposition")?.match(/filename="([^"]+)"/)?.[1] || link.split("?")[0].split("/").pop();
  saveBlob(await answer.blob(), name);
}

export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
