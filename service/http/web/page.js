// The page: choose, send, follow, look. What can be seen is one of start, progress, problem, result.

import { Problem, follow, get, getJson, remove, submit, useKey } from "./api.js";
import { Comparison } from "./compare.js";
import { element, part, percent } from "./elements.js";
import { Gallery } from "./gallery.js";
import { Growing } from "./growing.js";
import { releaseImages } from "./images.js";
import { Models } from "./models.js";
import { Pictures } from "./pictures.js";
import { Progress } from "./progress.js";
import { copyLink, showResult } from "./result.js";
import { View } from "./view.js";

const numbered = (count, name) => Array.from({ length: count }, (_, index) => name(`0${index}`));
const ROOMS = numbered(4, number => `rooms/${number}.png`);  // like those that the demo model was trained on
const STILL_LIFE = numbered(8, number => `still-life/${number}.jpg`);  // needs refinement to come out right
let choosing = false;  // whether the sample pictures are on their way
let current = null, view = null, comparison = null, leaving = null;
let exports = [], ownWarnings = [];  // what /capabilities says of files, and of the model that runs now

function only(...shown) {
  for (const id of ["start", "progress", "problem", "comparison", "result"]) part(id).hidden = !shown.includes(id);
}

// Choosing

const urls = () => part("urls").value.split("\n").map(line => line.trim()).filter(Boolean);

const pictures = new Pictures(count);
const progress = new Progress();
const models = new Models(name => describe(name).catch(fail));
const gallery = new Gallery({ onOpen: id => open(id), onCompare: ids => compare(ids) });

function count() {
  const more = urls().length, number = pictures.files.length + more;
  const objection = pictures.objection(more);
  part("objection").textContent = objection;
  part("samples").disabled = choosing;
  part("go").disabled = choosing || number === 0 || Boolean(objection);
  part("go").textContent = number > 1 ? `Reconstruct ${number} pictures` : "Reconstruct";
}

async function chooseSamples() {
  const samples = part("refining").querySelector("select").value === "off" ? ROOMS : STILL_LIFE;
  part("urls").value = "";
  choosing = true;
  count();
  try {
    const files = await Promise.all(samples.map(async name => {
      const blob = await (await get(`samples/${name}`)).blob();
      return new File([blob], name.split("/").pop(), { type: blob.type });
    }));
    pictures.clear();
    pictures.add(files);
  } finally {
    choosing = false;
    count();
  }
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
  progress.begin(options().refine);
  current = null;
  leaving = new AbortController();
  part("cancel").disabled = false;
  try {
    await ready(leaving.signal);
    const total = pictures.files.reduce((sum, file) => sum + file.size, 0) / 2 ** 20;
    const then = urls().length ? "fetching and checking the pictures" : "checking the pictures";
    const sent = share => progress.step("upload", share, share < 1 ? `sending, ${percent(share)} of ${total.toFixed(1)} MB` : then);
    const accepted = await submit(pictures.files, urls(), options(), sent, leaving.signal);
    await open(accepted.id);
  } catch (error) {
    if (leaving.signal.aborted) stay(); else fail(error);
  }
}

// Back to the chosen pictures, as they are.
function stay() {
  progress.end();
  only("start");
}

// A service that has just been started loads its model first.
async function ready(signal) {
  for (;;) {
    const answer = await fetch("readyz", { signal });
    if (answer.ok) return;
    const { detail, type } = await answer.json();
    if (type !== "/problems/not-ready") throw new Problem({ title: "Not now", detail }, answer.status);
    progress.step("upload", 0, "the service is still loading its model");
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
    if (["queued", "running", "cancelling"].includes(status.state)) {
      if (!progress.ticking) progress.begin();
      progress.waiting(status);
      const timer = setInterval(async () => { try { progress.waiting(await getJson(`reconstructions/${id}`)); } catch { /* the events tell */ } }, 1000);
      const growing = new Growing();
      try {
        await follow(id, event => {
          if (event.stage) progress.step(event.stage, event.progress);
          if (event.chunk !== undefined) growing.add(event);
        });
      } finally {
        clearInterval(timer);
      }
    }
    const end = await getJson(`reconstructions/${id}`);
    if (end.state === "succeeded") await show(end);
    else if (end.state === "cancelled") stay();
    else fail(new Problem(end.problem || {}, 500));
  } catch (error) {
    fail(error);
  }
}

function cancel() {
  part("cancel").disabled = true;
  if (current) remove(`reconstructions/${current}`); else leaving?.abort();
}

function fail(error) {
  progress.end();
  if (error instanceof Problem && error.status === 401) part("key-form").hidden = false;
  part("problem-title").textContent = error.title || "That did not work";
  part("problem-detail").textContent = error.message;
  only("problem");
}

// Looking

async function show(result) {
  part("cancel").disabled = true;
  progress.step("export", 1, "fetching the points");
  if (!exports.length) await describe();
  view ??= new View();
  await view.load(result);
  releaseImages();
  progress.end();
  only("result");  // the view needs its size before it can fit the scene
  warn(result.warnings);
  view.show();
  showResult(result, exports, {
    look: index => { view.viewer.lookFrom(index); part("view").scrollIntoView({ block: "center" }); },
    query: options => view.query(options),
  });
}

// Beginning

const linked = () => location.hash.match(/^#([0-9a-f]{32})$/)?.[1];

// What the address links to, if it links to a result.
function openLinked() {
  if (linked()) open(linked()); else begin();
}

async function begin() {
  current = null;
  warn(ownWarnings);
  history.replaceState(null, "", location.pathname);
  part("urls").value = "";
  pictures.clear();
  only("start");
  await Promise.all([gallery.show(), models.show().catch(() => {})]);
}

async function compare(ids) {
  try {
    comparison ??= new Comparison();
    await comparison.load(ids);
    if (part("start").hidden) return;  // something else was opened meanwhile
    only("comparison");
    comparison.show();
  } catch (error) {
    fail(error);
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

// What the name of a checkpoint leaves open: which network it is.
function network(model) {
  const kind = model.size ?? model.family;
  return kind && !model.name.toLowerCase().includes(kind) ? `${kind} · ` : "";
}

async function describe(model) {
  const { model: served, warnings, limits, refinement, urls: hosts, authentication, gallery: whose, exports: offered } = await getJson(model ? `capabilities?model=${encodeURIComponent(model)}` : "capabilities");
  exports = offered;
  ownWarnings = warnings;
  if (part("result").hidden) warn(ownWarnings);
  part("model").textContent = `${served.name} · ${network(served)}${served.precision.toUpperCase()} · ${served.kernels.split(" (")[0]} kernels · ${licence(served)}`;
  part("model").title = served.licence_source ? `Licence: ${served.licence_source}` : "";
  part("model").hidden = false;
  pictures.limits = limits;
  gallery.whose = whose;
  part("most").textContent = limits.max_images;
  part("most-bytes").textContent = `${Math.round(limits.max_image_bytes / 2 ** 20)} MB`;
  part("refining").hidden = !refinement.installed;
  if (!model) part("refining").querySelector("select").value = refinement.default;
  part("hosts").textContent = hosts;
  part("addresses").hidden = hosts === "off";
  part("key-form").hidden = authentication === "none" || Boolean(sessionStorage.getItem("key"));
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  view?.viewer.draw();
}

for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, event => {
    event.preventDefault();
    part("drop").classList.toggle("over", kind === "dragover" && !pictures.dragged);
    if (kind === "drop" && !part("start").hidden) pictures.add(event.dataTransfer.files);
  });
}
part("urls").addEventListener("input", count);
part("form").addEventListener("submit", event => { event.preventDefault(); send(); });
part("samples").addEventListener("click", () => chooseSamples().catch(fail));
part("cancel").addEventListener("click", cancel);
part("compare-leave").addEventListener("click", () => only("start"));
part("link").addEventListener("click", copyLink);
part("new").addEventListener("click", begin);
part("again").addEventListener("click", () => only("start"));
part("key-form").addEventListener("submit", event => {
  event.preventDefault();
  useKey(part("key").value);
  part("key-form").hidden = true;
  openLinked();
});
addEventListener("hashchange", () => { if (linked() && linked() !== current) location.reload(); });
part("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  setTheme(dark ? "light" : "dark");
});

if (localStorage.getItem("theme")) setTheme(localStorage.getItem("theme"));
describe().catch(() => {});
openLinked();
