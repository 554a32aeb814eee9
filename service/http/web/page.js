// The page: choose, send, follow, look. What can be seen is one of start, progress, problem, result.

import { Problem, follow, get, getJson, remove, submit, useKey } from "./api.js";
import { element, part } from "./elements.js";
import { Growing } from "./growing.js";
import { releaseImages } from "./images.js";
import { copyLink, showResult } from "./result.js";
import { View } from "./view.js";

const numbered = (count, name) => Array.from({ length: count }, (_, index) => name(`0${index}`));
const ROOMS = numbered(4, number => `rooms/${number}.png`);  // like those that the demo model was trained on
const STILL_LIFE = numbered(8, number => `still-life/${number}.jpg`);  // needs refinement to come out right
const REFINING = { features: "Features", matching: "Matching", cameras: "Cameras", dense: "Dense depth" };
const STAGES = {
  upload: "Sending", queue: "Waiting", transfer: "Network", aggregator: "Network", heads: "Network", post: "Geometry",
  ...REFINING, store: "Storing", export: "Files",
};
const STEPS = [...new Set(Object.values(STAGES))];
const EXPLAINED = {
  features: "looking for features in the pictures", matching: "matching features between the pictures",
  cameras: "finding the cameras that fit the matches", dense: "measuring depth pixel by pixel",
};

let files = [], current = null, view = null;
let refining = new Set();  // the stages of the refinement that the present work has
let exports = [], ownWarnings = [];  // what /capabilities says of files, and of the model that runs now

function only(...shown) {
  for (const id of ["start", "progress", "problem", "result"]) part(id).hidden = !shown.includes(id);
}

// Choosing

function choose(list) {
  files = [...list];
  for (const image of part("chosen").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  part("chosen").replaceChildren(...files.map(file => {
    if (/^image\/(jpeg|png|webp)/.test(file.type)) {
      return element("li", {}, element("img", { src: URL.createObjectURL(file), alt: file.name, title: file.name }));
    }
    return element("li", {}, element("span", { textContent: file.name }));
  }));
  count();
}

const urls = () => part("urls").value.split("\n").map(line => line.trim()).filter(Boolean);

function count() {
  const pictures = files.length + urls().length;
  part("go").disabled = pictures === 0;
  part("go").textContent = pictures > 1 ? `Reconstruct ${pictures} pictures` : "Reconstruct";
}

// Dropped pictures come in any order; 2.jpg belongs before 10.jpg.
const inOrder = list => [...list].sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));

async function chooseSamples() {
  const samples = part("refining").querySelector("select").value === "off" ? ROOMS : STILL_LIFE;
  const pictures = samples.map(async name => {
    const blob = await (await get(`samples/${name}`)).blob();
    return new File([blob], name.split("/").pop(), { type: blob.type });
  });
  part("urls").value = "";
  choose(await Promise.all(pictures));
  await send();
}

function options() {
  const chosen = {};
  for (const field of part("form").elements) {
    if (!field.name) continue;
    if (field.type === "checkbox") { if (field.checked) chosen[field.name] = field.value === "on" ? "true" : field.value; }
    else if (field.value) chosen[field.name] = field.value;
  }
  return chosen;
}

// Working

async function send() {
  only("progress");
  expectRefinement(options().refine);
  part("cancel").disabled = true;
  try {
    await ready();
    step("upload", 0, "sending");
    const then = urls().length ? "fetching and checking the pictures" : "checking the pictures";
    const accepted = await submit(files, urls(), options(), share => step("upload", share, share < 1 ? `sending, ${Math.round(100 * share)} %` : then));
    await open(accepted.id);
  } catch (error) {
    fail(error);
  }
}

function expectRefinement(wanted) {
  refining = new Set({ cameras: ["features", "matching", "cameras"], dense: Object.keys(REFINING) }[wanted] || []);
}

// A service that has just been started loads its model first.
async function ready() {
  for (;;) {
    const answer = await fetch("readyz");
    if (answer.ok) return;
    const { detail, type } = await answer.json();
    if (type !== "/problems/not-ready") throw new Problem({ title: "Not now", detail }, answer.status);
    step("upload", 0, "the service is still loading its model");
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
}

async function open(id) {
  current = id;
  history.replaceState(null, "", `#${id}`);
  only("progress");
  part("cancel").disabled = false;
  try {
    const status = await getJson(`reconstructions/${id}`);
    if (status.state !== "succeeded") {
      if (["queued", "running", "cancelling"].includes(status.state)) {
        waiting(status);
        const timer = setInterval(async () => { try { waiting(await getJson(`reconstructions/${id}`)); } catch { /* the events tell */ } }, 1000);
        const growing = new Growing();
        try {
          await follow(id, event => {
            if (event.stage) step(event.stage, event.progress, EXPLAINED[event.stage]);
            if (event.chunk !== undefined) growing.add(event);
          });
        } finally {
          clearInterval(timer);
        }
      }
    }
    const end = await getJson(`reconstructions/${id}`);
    if (end.state === "succeeded") await show(end);
    else if (end.state === "cancelled") begin();
    else fail(new Problem(end.problem || {}, 500));
  } catch (error) {
    fail(error);
  }
}

function waiting(status) {
  if (status.state === "queued") {
    const before = status.queue_position;
    step("queue", 0, before ? `${before} before yours` : "next in line");
  }
  if (status.eta_seconds >= 1) part("status").textContent = `about ${Math.ceil(status.eta_seconds)} s left`;
}

function step(stage, share, text) {
  if (stage in REFINING) refining.add(stage);
  const shown = STEPS.filter(name => {
    const own = Object.keys(REFINING).find(each => REFINING[each] === name);
    return !own || refining.has(own);
  });
  const now = shown.indexOf(STAGES[stage] || "Network");
  part("stages").replaceChildren(...shown.map((name, index) =>
    element("li", { textContent: name, className: index < now ? "done" : index === now ? "now" : "" })));
  part("bar").value = share;
  if (text) part("status").textContent = text;
}

function fail(error) {
  if (error instanceof Problem && error.status === 401) part("key-form").hidden = false;
  part("problem-title").textContent = error.title || "That did not work";
  part("problem-detail").textContent = error.message;
  only("problem");
}

// Looking

async function show(result) {
  part("cancel").disabled = true;
  step("export", 1, "fetching the points");
  if (!exports.length) await describe();
  view ??= new View();
  await view.load(result);
  releaseImages();
  only("result");  // the view needs its size before it can fit the scene
  warn(result.warnings);
  view.show();
  showResult(result, exports, {
    look: index => { view.viewer.lookFrom(index); part("view").scrollIntoView({ block: "center" }); },
    query: options => view.query(options),
  });
}

// Beginning

async function begin() {
  current = null;
  warn(ownWarnings);
  history.replaceState(null, "", location.pathname);
  part("urls").value = part("files").value = "";
  choose([]);
  only("start");
  try {
    const { reconstructions } = await getJson("reconstructions?limit=6&state=succeeded");
    part("earlier").hidden = reconstructions.length === 0;
    part("earlier-list").replaceChildren(...reconstructions.map(one => {
      const when = new Date(1000 * one.created).toLocaleString();
      const button = element("button", { type: "button", textContent: `${one.frames} pictures, ${when}` });
      button.addEventListener("click", () => open(one.id));
      return element("li", {}, button);
    }));
  } catch {
    part("earlier").hidden = true;
  }
}

function warn(warnings) {
  part("warnings").replaceChildren(...warnings.map(one => element("p", { textContent: one.message })));
  part("warnings").hidden = warnings.length === 0;
}

function licence(model) {
  const commercial = { true: "commercial use allowed", false: "not for commercial use" }[model.commercial_use];
  return `${model.weights_licence ?? "licence not known"}${commercial ? `, ${commercial}` : ""}`;
}

async function describe() {
  const { model, warnings, limits, refinement, urls: hosts, authentication, exports: offered } = await getJson("capabilities");
  exports = offered;
  ownWarnings = warnings;
  if (part("result").hidden) warn(ownWarnings);
  part("model").textContent = `${model.name} · ${model.precision.toUpperCase()} · ${model.kernels.split(" (")[0]} kernels · ${licence(model)}`;
  part("model").hidden = false;
  part("most").textContent = limits.max_images;
  part("refining").hidden = !refinement.installed;
  part("refining").querySelector("select").value = refinement.default;
  part("hosts").textContent = hosts;
  part("addresses").hidden = hosts === "off";
  part("key-form").hidden = authentication === "none" || Boolean(sessionStorage.getItem("key"));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  view?.viewer.draw();
}

part("files").addEventListener("change", event => choose(inOrder(event.target.files)));
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    part("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && !part("start").hidden && event.dataTransfer.files.length) choose(inOrder(event.dataTransfer.files));
  });
}
part("urls").addEventListener("input", count);
part("form").addEventListener("submit", event => { event.preventDefault(); send(); });
part("samples").addEventListener("click", () => chooseSamples().catch(fail));
part("cancel").addEventListener("click", () => { part("cancel").disabled = true; remove(`reconstructions/${current}`); });
part("link").addEventListener("click", copyLink);
part("new").addEventListener("click", begin);
part("again").addEventListener("click", () => only("start"));
part("key-form").addEventListener("submit", event => {
  event.preventDefault();
  useKey(part("key").value);
  part("key-form").hidden = true;
  begin();
});
part("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
});

if (localStorage.getItem("theme")) setTheme(localStorage.getItem("theme"));
describe().catch(() => {});
if (/^#[0-9a-f]{32}$/.test(location.hash)) open(location.hash.slice(1)); else begin();
