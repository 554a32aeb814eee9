// Talking to the service: one place that knows about keys, problems, uploads and event streams.

import { kindOf } from "./pictures.js";

let key = sessionStorage.getItem("key") || "";

export function useKey(value) {
  key = value.trim();
  sessionStorage.setItem("key", key);
}

export class Problem extends Error {
  constructor(document, status) {
    super(document.detail || document.title || `The service answered ${status}.`);
    this.title = document.title || "That did not work";
    this.status = status;
  }
}

// Without API keys this random text says whose results are whose. It stays in this browser.
function owner() {
  let token = localStorage.getItem("owner");
  if (!token) {
    token = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
    localStorage.setItem("owner", token);
  }
  return token;
}

function headers(more = {}) {
  return key ? { Authorization: `Bearer ${key}`, ...more } : { "Owner-Token": owner(), ...more };
}

async function asProblem(answer) {
  const document = await answer.json().catch(() => ({}));
  return new Problem(document, answer.status);
}

export async function get(path, options = {}) {
  const answer = await fetch(relative(path), { ...options, headers: headers(options.headers) });
  if (!answer.ok) throw await asProblem(answer);
  return answer;
}

export const getJson = async path => (await get(path)).json();

export async function getBlobUrl(path) {
  return URL.createObjectURL(await (await get(path)).blob());
}

export async function changeName(id, name) {
  const answer = await fetch(`reconstructions/${id}`, {
    method: "PATCH", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify({ name }),
  });
  if (!answer.ok) throw await asProblem(answer);
}

export const remove = path => fetch(relative(path), { method: "DELETE", headers: headers() });

// Links in the service's documents start with a slash; the page may be served below a prefix.
const relative = path => path.replace(/^\//, "");

// Sends files, and URLs for the service to fetch; `onUpload` hears the share that has been sent, `signal` stops it. Resolves
// to the accepted or finished reconstruction.
export function submit(files, urls, options, onUpload, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(options)) body.append(name, value);
  for (const file of files) body.append(FIELDS[kindOf(file)], file);
  for (const url of urls) body.append("urls", url);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "reconstruct");
    for (const [name, value] of Object.entries(headers({ Prefer: "respond-async" }))) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", event => event.lengthComputable && onUpload(event.loaded / event.total));
    request.addEventListener("load", () => {
      let document = {};
      try { document = JSON.parse(request.responseText); } catch { /* not JSON: the status says it */ }
      if (request.status < 300) resolve(document); else reject(new Problem(document, request.status));
    });
    request.addEventListener("error", () => reject(new Problem({ title: "No answer", detail: "The service can't be reached." }, 0)));
    request.addEventListener("abort", () => reject(new Problem({ title: "Cancelled", detail: "Nothing was sent." }, 0)));
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

const FIELDS = { zip: "archive", video: "video", picture: "images" };

// Follows a reconstruction's events to its end, through broken connections. EventSource can't send a key.
export async function follow(id, onEvent) {
  let last = "0";
  for (let failures = 0; failures < 20; failures++) {
    try {
      const answer = await get(`reconstructions/${id}/events`, { headers: { "Last-Event-ID": last } });
      if (answer.status === 204) return;
      let rest = "";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (rest + part.value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) {
          const lines = Object.fromEntries(block.split("\n").filter(line => !line.startsWith(":")).map(line => line.split(/: (.*)/s)));
          if (!lines.data) continue;
          last = lines.id;
          failures = 0;
          onEvent(JSON.parse(lines.data));
          if (lines.event === "end") return;
        }
      }
    } catch (error) {
      if (error instanceof Problem && error.status < 500) throw error;
    }
    await new Promise(resolve => setTimeout(resolve, 500));
  }
  throw new Problem({ title: "No answer", detail: "The connection to the service was lost." }, 0);
}
